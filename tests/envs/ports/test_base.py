from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformReward

from rlzoo.envs import make_env
from rlzoo.envs.ports import PORTS, PortedEnvs, make_port
from rlzoo.envs.ports.base import wrap_angle
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec, unmasked
from tests.env_doubles import ChainEnv
from tests.helpers import graph, xla
from tests.port_parity import spec_of

GOAL, LIMIT = 6, 4
N, T = 32, 60


class WalkState(NamedTuple):
    place: tf.Tensor  # [N] int32
    total: tf.Tensor  # [N] int32, steps over all episodes: outlives them


class Walk:
    """Starts at 0..2, moves by action - 1, and by 1 more at every other draw, to `GOAL`."""

    def __init__(self, env=None):
        self.traces = 0

    def reset(self, seed, num_envs):
        return WalkState(rng.integers(seed, [num_envs], 3), tf.zeros([num_envs], tf.int32))

    def keep(self, fresh, old):
        return fresh._replace(total=old.total)

    def observe(self, state):
        return tf.stack(state, axis=-1)

    def step(self, state, action, seed):
        self.traces += 1
        gust = rng.integers(seed, tf.shape(action), 2)
        place = state.place + action - 1 + gust
        terminated = place >= GOAL
        return WalkState(place, state.total + 1), tf.cast(place, tf.float32), terminated


def walks(num_envs=N, limit: int | None = LIMIT):
    return PortedEnvs(Walk(), EnvSpec(Box((2,), "int32"), Discrete(3), limit), num_envs)


def actions_for(num_envs, seed=0):
    return np.random.default_rng(seed).integers(3, size=[T, num_envs]).astype(np.int32)


def rollout(envs, compiled, actions, seed=5):
    """Returns the first observations and, stacked over T, times before and all time steps."""
    reset, step = compiled(envs.reset), compiled(envs.step)
    seed = rng.from_int(seed)
    state, first = reset(rng.fold_in(seed, 0))
    times, steps = [], []
    for t, action in enumerate(actions):
        times.append(state.time)
        state, out = step(state, tf.constant(action), rng.fold_in(seed, t + 1))
        steps.append(out)
    stacked = tf.nest.map_structure(lambda *x: np.stack(x), *steps)
    return unmasked(first).numpy(), np.stack(times), stacked


@pytest.fixture(scope="module")
def walked():
    actions = actions_for(N)
    return actions, *rollout(walks(), xla, actions)


def test_time_counts_the_steps_of_the_episode(walked):
    _, _, times, steps = walked
    expected = np.zeros(N, int)
    for time, terminated, truncated in zip(times, steps.terminated, steps.truncated, strict=True):
        np.testing.assert_array_equal(time, expected)
        expected = np.where(terminated | truncated, 0, expected + 1)


def test_the_time_limit_truncates_also_where_the_step_terminates(walked):
    _, _, times, steps = walked
    terminated = steps.final_obs[..., 0] >= GOAL
    at_limit = times == LIMIT - 1
    assert (terminated & at_limit).any()
    np.testing.assert_array_equal(steps.terminated, terminated)
    np.testing.assert_array_equal(steps.truncated, at_limit)


def test_without_a_time_limit_nothing_is_truncated():
    steps = rollout(walks(limit=None), xla, actions_for(N))[2]
    assert not steps.truncated.any()
    assert steps.terminated.any()


def test_an_episode_that_ends_is_followed_by_a_fresh_one(walked):
    actions, first, _, steps = walked
    places = np.concatenate([first[None], steps.obs])[..., 0]
    gust = steps.final_obs[..., 0] - places[:-1] - (actions - 1)
    assert set(gust.flat) == {0, 1}  # the successor is of the step taken, also at an end
    assert (gust.std(axis=0) > 0).all()  # drawn anew each step
    last = steps.terminated | steps.truncated
    for copy in range(N):
        assert set(steps.obs[last[:, copy], copy, 0]) == {0, 1, 2}
    np.testing.assert_array_equal(steps.obs[~last], steps.final_obs[~last])
    np.testing.assert_array_equal(steps.reward, steps.final_obs[..., 0])


def test_keep_carries_a_part_of_the_state_over(walked):
    steps = walked[3]
    np.testing.assert_array_equal(steps.obs[..., 1], np.tile(np.arange(1, T + 1)[:, None], N))


def test_copies_are_independent(walked):
    actions, first, _, steps = walked
    assert len(np.unique(first[:, 0])) == 3
    others = actions.copy()
    others[:, 0] = 2 - others[:, 0]
    changed = rollout(walks(), xla, others)[2]
    assert (changed.final_obs[:, 0] != steps.final_obs[:, 0]).any()
    for one, same in zip(steps, changed, strict=True):
        np.testing.assert_array_equal(one[:, 1:], same[:, 1:])
    assert len(np.unique(steps.final_obs[..., 0], axis=1).T) > N // 2  # they differ


def test_graph_and_xla_agree(walked):
    actions, first, times, steps = walked
    plain = rollout(walks(), graph, actions)
    tf.nest.map_structure(np.testing.assert_array_equal, (first, times, steps), plain)


def test_seeds_matter(walked):
    actions, first, *_ = walked
    assert (rollout(walks(), xla, actions[:1], seed=6)[0] != first).any()


@pytest.mark.parametrize("env_id", sorted(set(PORTS) & set(gymnasium.registry)))
def test_a_port_behaves_the_same_in_graph_and_xla(env_id):
    """To rounding: XLA computes floats in its own order."""
    env = make_env(env_id)
    env.action_space.seed(0)
    actions = np.stack([[env.action_space.sample() for _ in range(4)] for _ in range(20)])
    actions = actions.astype(np.float32 if actions.ndim > 2 else np.int32)
    runs = [
        rollout(PortedEnvs(make_port(env), spec_of(env), 4), compiled, actions)
        for compiled in (graph, xla)
    ]
    tf.nest.map_structure(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), *runs)


def test_steps_are_traced_once():
    envs = walks()
    rollout(envs, xla, actions_for(N))
    assert envs.port.traces == 1


def test_continuous_actions():
    env = make_env("Pendulum-v1", {"max_episode_steps": 3})
    envs = PortedEnvs(make_port(env), spec_of(env), 5)
    steps = rollout(envs, xla, np.ones([7, 5, 1], np.float32))[2]
    assert steps.obs.shape == (7, 5, 3)
    np.testing.assert_array_equal(steps.truncated[:, 0], [0, 0, 1, 0, 0, 1, 0])
    assert not steps.terminated.any()


def test_wrap_angle():
    within = tf.constant([-3.14, -1e-8, 0.0, 3.14])
    np.testing.assert_array_equal(wrap_angle(within), within)
    turns = 2 * np.pi * np.array([3, -1, 2, -4])
    np.testing.assert_allclose(wrap_angle(within + turns.astype(np.float32)), within, atol=1e-5)


def test_make_port_takes_what_gymnasium_makes_and_time_limits():
    for make in (make_env, gymnasium.make):
        assert type(make_port(TimeLimit(make("CartPole-v1"), 9))) is PORTS["CartPole-v1"]


@pytest.mark.parametrize("env", [ChainEnv(4, "terminate"), CartPoleEnv()])
def test_an_env_without_a_port_or_a_registered_name_is_told_of_the_host_loop(env):
    with pytest.raises(ValueError, match=r"Env has no port.*--loop host.*Ports: Acrobot-v1"):
        make_port(env)


@pytest.mark.parametrize(
    "wrap", [RecordEpisodeStatistics, lambda env: TransformReward(env, lambda reward: -reward)]
)
def test_a_wrapped_env_is_refused(wrap):
    with pytest.raises(ValueError, match=r"wrapped in (Record|Transform).*--loop host"):
        make_port(wrap(make_env("CartPole-v1")))
