"""DQN on CartPole as one JAX program, the peer of the graph loop.

It does the work of PureJaxRL's DQN (https://github.com/luchris429/purejaxrl): gymnax environments
side by side, a replay buffer on the device, a gradient step after each vector step, all in one
`jax.lax.scan`. The code is our own and takes whatever proved faster: parameters in one vector (one
fused Adam step instead of six), the cheapest random bits, Q-values chosen by `where` instead of a
gather. As a script it prints how a run learns.
"""

import argparse
import functools
import time
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax
from gymnax.wrappers.purerl import LogWrapper
from jax.flatten_util import ravel_pytree
from worker import Task

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax")
LEARNING_RATE, DISCOUNT, BATCH_SIZE = 2.5e-4, 0.99, 128
TARGET_PERIOD = 500  # environment steps
jax.config.update("jax_default_prng_impl", "unsafe_rbg")


class QNetwork(nn.Module):
    """Dense layers of 120 and 84 ReLU units."""

    @nn.compact
    def __call__(self, obs):
        x = nn.relu(nn.Dense(120)(obs))
        x = nn.relu(nn.Dense(84)(x))
        return nn.Dense(2)(x)


class Replay(NamedTuple):
    """A ring of transitions; after the end of an episode `next_obs` is of no consequence."""

    obs: Any  # [C, 4] float32
    next_obs: Any  # [C, 4] float32
    action: Any  # [C] int32
    reward: Any  # [C] float32
    done: Any  # [C] bool


class State(NamedTuple):
    """All that changes during a run."""

    params: Any  # [P] float32
    target: Any  # [P] float32
    optimizer: Any
    envs: Any  # of gymnax's LogWrapper, [N]
    obs: Any  # [N, 4] float32
    replay: Replay
    time: Any  # [] int32, vector steps
    key: Any
    returns: Any  # [] float32, sum over the episodes that ended since the run was called
    episodes: Any  # [] float32, their number


def make_program(task: Task):
    """Returns the compiled functions `init(key)` and `run(state, vector_steps)`."""
    env, env_params = gymnax.make("CartPole-v1")
    env = LogWrapper(env)
    network = QNetwork()
    optimizer = optax.adam(LEARNING_RATE)
    _, unravel = ravel_pytree(network.init(jax.random.key(0), jnp.zeros(4)))

    def q_values(params, obs):
        return network.apply(unravel(params), obs)

    def step_envs(key, envs, action):
        keys = jax.random.split(key, task.num_envs)
        return jax.vmap(env.step, in_axes=(0, 0, 0, None))(keys, envs, action, env_params)

    @jax.jit
    def init(key):
        net_key, env_key, key = jax.random.split(key, 3)
        params, _ = ravel_pytree(network.init(net_key, jnp.zeros(4)))
        keys = jax.random.split(env_key, task.num_envs)
        obs, envs = jax.vmap(env.reset, in_axes=(0, None))(keys, env_params)
        # The wrapper starts with integers where its steps return floats: a scan wants one type.
        action = jnp.zeros(task.num_envs, jnp.int32)
        stepped = jax.eval_shape(step_envs, env_key, envs, action)[1]
        return State(
            params=params,
            target=params,
            optimizer=optimizer.init(params),
            envs=jax.tree.map(lambda value, like: value.astype(like.dtype), envs, stepped),
            obs=obs,
            replay=Replay(
                obs=jnp.zeros((task.replay, 4)),
                next_obs=jnp.zeros((task.replay, 4)),
                action=jnp.zeros(task.replay, jnp.int32),
                reward=jnp.zeros(task.replay),
                done=jnp.zeros(task.replay, bool),
            ),
            time=jnp.int32(0),
            key=key,
            returns=jnp.float32(0),
            episodes=jnp.float32(0),
        )

    def vector_step(state: State, _):
        key, act_key, env_key, sample_key = jax.random.split(state.key, 4)
        decay = (1 - task.last_epsilon) / task.epsilon_steps
        epsilon = jnp.maximum(task.last_epsilon, 1 - decay * state.time * task.num_envs)
        draws = jax.random.uniform(act_key, (2, task.num_envs))
        greedy = jnp.argmax(q_values(state.params, state.obs), axis=-1)
        action = jnp.where(draws[0] < epsilon, draws[1] < 0.5, greedy).astype(jnp.int32)
        obs, envs, reward, done, info = step_envs(env_key, state.envs, action)

        new = Replay(state.obs, obs, action, reward.astype(jnp.float32), done)
        place = state.time * task.num_envs % task.replay
        replay = jax.tree.map(
            lambda ring, rows: jax.lax.dynamic_update_slice_in_dim(ring, rows, place, 0),
            state.replay,
            new,
        )
        now = state.time + 1
        filled = jnp.minimum(now * task.num_envs, task.replay)

        def learn(params, optimizer_state):
            rows = jax.random.randint(sample_key, (BATCH_SIZE,), 0, filled)
            batch = jax.tree.map(lambda ring: ring.at[rows].get(mode="promise_in_bounds"), replay)
            next_q = jnp.max(q_values(state.target, batch.next_obs), axis=-1)
            target = batch.reward + DISCOUNT * (1 - batch.done) * next_q

            def loss(params):
                q = q_values(params, batch.obs)
                q = jnp.where(batch.action == 0, q[:, 0], q[:, 1])
                return jnp.mean(jnp.square(q - target))

            update, optimizer_state = optimizer.update(jax.grad(loss)(params), optimizer_state)
            return optax.apply_updates(params, update), optimizer_state

        params, optimizer_state = jax.lax.cond(
            now * task.num_envs > task.learning_starts,
            learn,
            lambda *same: same,
            state.params,
            state.optimizer,
        )
        target = jax.lax.cond(
            now % (TARGET_PERIOD // task.num_envs) == 0,
            lambda params, _: params,
            lambda _, target: target,
            params,
            state.target,
        )
        return State(
            params=params,
            target=target,
            optimizer=optimizer_state,
            envs=envs,
            obs=obs,
            replay=replay,
            time=now,
            key=key,
            returns=state.returns + jnp.sum(info["returned_episode_returns"] * done),
            episodes=state.episodes + jnp.sum(done),
        ), None

    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def run(state: State, vector_steps: int):
        state = state._replace(returns=jnp.float32(0), episodes=jnp.float32(0))
        return jax.lax.scan(vector_step, state, None, vector_steps)[0]

    return init, run


def measure(task: Task) -> list[tuple[float, int]]:
    """Trains; returns the notes [time in s, 0] after compiling and `start` steps, and at the end.

    Both stretches are calls of programs that are compiled before.
    """
    init, run = make_program(task)
    state = init(jax.random.key(task.seed))
    compiled = [
        run.lower(state, steps // task.num_envs).compile() for steps in (task.start, task.period)
    ]
    notes = []
    for program in (compiled[0], *[compiled[1]] * task.periods):
        state = jax.block_until_ready(program(state))
        notes.append((time.perf_counter(), 0))
    return notes


def show_learning(steps: int, seed: int) -> None:
    """Prints the mean return of the episodes of each 50,000 steps, and the speed."""
    task = Task(
        "jax", 10, 1, 1, seed=seed, learning_starts=10_000, epsilon_steps=25_000, period=50_000
    )
    init, run = make_program(task)
    state = init(jax.random.key(task.seed))
    program = run.lower(state, task.period // task.num_envs).compile()
    for done in range(task.period, steps + 1, task.period):
        start = time.perf_counter()
        state = jax.block_until_ready(program(state))
        speed = task.period / (time.perf_counter() - start)
        mean = float(state.returns / state.episodes)
        print(f"{done:,} steps: mean return {mean:.1f}, {speed:,.0f} steps/s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    show_learning(given.steps, given.seed)
