"""Small agents and made-up experience, shared by the tests of agents and networks."""

import dataclasses
from functools import partial

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.wrappers import TimeLimit

from rlzoo import networks
from rlzoo.agents import agent_class
from rlzoo.data import embedded_digits
from rlzoo.envs import make_envs
from rlzoo.envs.ports import PortedEnvs
from rlzoo.envs.ports.base import where
from rlzoo.exploration import Softmax
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.ops.streams import ENV_RESET, ENV_STEP
from rlzoo.spaces import MASK, Box, Discrete, EnvSpec, Mask, MultiDiscrete, map_leaves, mask_of
from rlzoo.types import Chunk, TimeStep
from tests.env_doubles import ChainEnv

BOX = EnvSpec(Box((3,)), Discrete(3), 6)
DISCRETE = EnvSpec(Discrete(5), Discrete(3), 6)
PARTS = EnvSpec(
    {
        "camera": {"left": Box((6, 6), "uint8", 0, 255)},
        "cards": MultiDiscrete((3, 2)),
        "place": Discrete(4),
        "speed": Box((2,)),
        MASK: Mask(3),
    },
    Discrete(3),
    6,
)
IMAGE = EnvSpec(Box((10, 10, 2), "uint8", 0, 255), Discrete(3), 6)

# Values that keep an agent small; each agent takes those that its Config knows.
SMALL = {
    "batch_size": 8,
    "replay_capacity": 128,
    "learning_starts": 4,
    "planning_starts": 4,
    "planning_steps": 2,
    "model_sizes": (8,),
    "model_updates": 2,
    "value_updates": 2,
    "train_every": 4,
    "target_update_period": 3,
}


def xla(function):
    """Compiles with XLA, as the loops do."""
    return tf.function(function, jit_compile=True, autograph=False)


STEP = np.int64(0)  # environment steps learned from


def graph(function):
    """Compiles to a plain TensorFlow graph."""
    return tf.function(function, jit_compile=False, autograph=False)


def small_torso(spec: EnvSpec, seed: int = 0):
    if isinstance(spec.obs, Box) and len(spec.obs.shape) >= 2:
        pooled = min(spec.obs.shape[:2]) >= 7
        return networks.conv("small", size=8, max_pool=pooled, seed=seed)
    return networks.dense((8,), activation="tanh", seed=seed)


def make_agent(name, spec, strategy=None, torso="small", seed=0, **config):
    """Returns a tiny agent; `config` overrides its hyperparameters."""
    cls = agent_class(name, spec)
    known = {field.name for field in dataclasses.fields(cls.Config)}
    config = {key: value for key, value in SMALL.items() if key in known} | config
    if torso == "small":
        torso = small_torso(spec, seed) if "torso" in known else None
    return cls(spec, cls.Config(**config), strategy or Softmax(), torso, seed)


def random_obs(spec: EnvSpec, shape, rng: np.random.Generator):
    """Returns observations of a shape, nested as their space is."""

    def draw(leaf):
        if isinstance(leaf, MultiDiscrete):
            return rng.integers(leaf.nvec, size=(*shape, *leaf.shape))
        size = (*shape, *leaf.shape)
        if isinstance(leaf, Mask):
            mask = rng.random(size) < 0.6
            mask[..., 0] |= ~mask.any(axis=-1)
            return mask
        if isinstance(leaf, Discrete):
            return rng.integers(leaf.n, size=size).astype(leaf.dtype)
        if np.dtype(leaf.dtype).kind == "f":
            return rng.normal(size=size).astype(leaf.dtype)
        return rng.integers(0, 2 if leaf.dtype == "bool" else 100, size).astype(leaf.dtype)

    return map_leaves(draw, spec.obs)


def random_actions(spec: EnvSpec, obs, shape, rng: np.random.Generator) -> np.ndarray:
    """Returns valid actions."""
    if (mask := mask_of(obs)) is None:
        return rng.integers(spec.num_actions, size=shape).astype(np.int32)
    return (rng.random(mask.shape) * mask).argmax(axis=-1).astype(np.int32)


def random_chunk(spec: EnvSpec, length: int, num_envs: int, seed: int, whole=False) -> Chunk:
    """Returns made-up experience [T, N] of a uniformly random behaviour.

    Args:
        spec: of the environment.
        length: T.
        num_envs: N.
        seed: of everything random.
        whole: one episode in each environment, padded to T; else an endless stream.
    """
    rng = np.random.default_rng(seed)
    shape = (length, num_envs)
    obs = random_obs(spec, (length + 1, num_envs), rng)
    next_obs = map_leaves(lambda x: x[1:].copy(), obs)
    if whole:
        end = rng.integers(length, size=num_envs)
        last = np.arange(length)[:, None] == end
        valid = np.arange(length)[:, None] <= end
    else:
        last = rng.random(shape) < 0.3
        valid = np.ones(shape, bool)
        map_leaves(
            lambda x, new: x.__setitem__(last, new),
            next_obs,
            random_obs(spec, (int(last.sum()),), rng),
        )
    first = np.concatenate([np.full((1, num_envs), True), last[:-1]])
    terminated = last & (rng.random(shape) < 0.5)
    return Chunk(
        obs=map_leaves(lambda x: x[:-1], obs),
        action=random_actions(spec, map_leaves(lambda x: x[:-1], obs), shape, rng),
        reward=rng.normal(size=shape).astype(np.float32),
        discount=1.0 - terminated.astype(np.float32),
        last=last,
        first=first,
        next_obs=next_obs,
        valid=valid,
        extras={
            "log_prob": np.full(shape, -np.log(spec.num_actions), np.float32),
            "scores": rng.normal(size=(*shape, spec.num_actions)).astype(np.float32),
        },
    )


def agent_chunk(agent, num_envs: int, seed: int) -> Chunk:
    """Returns a made-up chunk as this agent wants it, in tensors."""
    whole = agent.traits.whole_episodes
    chunk = tensors(random_chunk(agent.spec, agent.chunk_length, num_envs, seed, whole))
    start = agent.actor.init(num_envs).memory
    return chunk._replace(start=start, version=tf.zeros([num_envs], tf.int64))


def tensors(structure):
    """Returns a structure of arrays as one of tensors."""
    return tf.nest.map_structure(tf.constant, structure)


def arrays(variables: dict) -> dict[str, np.ndarray]:
    """Returns a copy of the values of an agent's variables."""
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def held_steps(arrays: dict[str, np.ndarray]) -> dict[int, tuple]:
    """Returns the steps that a checkpoint's replay holds, by number.

    Each is observation, action, reward, discount, next observation.
    """
    rows = {name.removeprefix("replay/"): x for name, x in arrays.items() if "replay/" in name}
    found = {}
    for number in range(rows["dropped"], rows["added"]):
        (row,) = rows["window"][number % len(rows["window"])]
        assert rows["number"][row] == number
        told = [rows[name][row] for name in ("obs", "action", "reward", "discount")]
        found[number] = (*told, rows["obs"][rows["successor"][row]])
    return found


def assign(variables: dict, values: dict[str, np.ndarray]) -> None:
    for name, variable in variables.items():
        variable.assign(values[name])


def chi_square_fits(counts, probabilities) -> bool:
    """Tells whether counts fit probabilities: Pearson's statistic within 5 deviations."""
    counts, probabilities = np.asarray(counts, float), np.asarray(probabilities, float)
    possible = probabilities > 0
    if counts[~possible].any():
        return False
    expected = counts.sum() * probabilities[possible]
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = possible.sum() - 1
    return statistic <= freedom + 5.0 * np.sqrt(2.0 * freedom)


class OneHot(gymnasium.ObservationWrapper):
    """A Discrete observation as a Box."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 1, (env.observation_space.n,), np.float32)

    def observation(self, observation):
        return np.eye(self.observation_space.shape[0], dtype=np.float32)[observation]


def chain_envs(end: str, num_envs: int = 4, one_hot: bool = False):
    """Returns `ChainEnv`s of 10 states and steps, with a time limit that ends with them.

    In the last step of the one that terminates both flags are true.
    """

    def make():
        env = TimeLimit(ChainEnv(10, end, num_states=10), 10)
        return OneHot(env) if one_hot else env

    return make_envs(make, num_envs, 0, check=False)


def chain_values(end: str, discount: float = 0.9) -> np.ndarray:
    """Returns the exact value [10] of every state of `chain_envs`."""
    left = np.arange(10, 0, -1) if end == "terminate" else np.inf
    return (1 - discount**left) / (1 - discount) * np.ones(10)


def collect(loop: HostLoop) -> Chunk:
    """Returns the chunk that a loop would learn from next; it does not learn from it."""
    collector, learner = loop.collector, loop.learner
    if not loop._compiled:
        loop.compile()
    collector.prepare(learner.step, anew=True)  # the agent may have learned outside the loop
    start = collector.acting.actor.memory
    version = np.full(loop.envs.num_envs, learner.version)
    collector.collect(learner.step, learner.version)
    rows = tf.nest.map_structure(np.copy, collector.chunk)
    return rows._replace(start=start, version=version)


class PortEnvs:
    """Ported environments, as the host loop takes them, with the graph loop's random streams.

    Args:
        ported: the environments.
        seed: of the run.
    """

    def __init__(self, ported: PortedEnvs, seed: int):
        self.spec, self.num_envs = ported.spec, ported.num_envs
        self.lost = self.retired = np.zeros(ported.num_envs, bool)
        self._seed = rng.from_int(seed)
        self._resets = self._steps = 0
        self._state = None
        self._reset, self._step = xla(ported.reset), xla(ported.step)

    def _stream(self, number: int, counter: int):
        return rng.fold_in(rng.fold_in(self._seed, number), counter)

    def reset(self) -> np.ndarray:
        seed = self._stream(ENV_RESET, self._resets)
        self._state, obs = self._reset(seed, self._state)
        self._resets += 1
        return obs.numpy()

    def step(self, action, active=None) -> TimeStep:
        seed = self._stream(ENV_STEP, self._steps)
        state, step = self._step(self._state, tf.constant(action, tf.int32), seed)
        self._steps += 1
        step = TimeStep(*(field.numpy() for field in step))
        if active is not None:  # those that have ended wait
            state = tf.nest.map_structure(partial(where, active), state, self._state)
            flags = (active & flag for flag in (step.terminated, step.truncated))
            step = TimeStep(step.obs, step.reward * active, *flags, step.final_obs)
        self._state = state
        return step


def save_digits(path, train: int = 12, test: int = 4):
    """Writes so many embedded digits of each class to an npz file, and returns its path."""
    parts = {}
    for name, images, count in zip(
        ("train", "test"), embedded_digits(), (train, test), strict=True
    ):
        parts[f"x_{name}"] = images.images[: 10 * count]  # they come class after class, in turns
        parts[f"y_{name}"] = images.labels[: 10 * count]
    np.savez(path, **parts)
    return path
