"""Transitions of Gymnasium environments, to hold ports against."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf

from rlzoo.envs import make_env, make_envs
from rlzoo.envs.ports import EnvState, make_ported_envs
from rlzoo.ops import rng
from rlzoo.spaces import unmasked
from rlzoo.types import TimeStep
from tests.helpers import xla

Policy = Callable[[gymnasium.Env, Any, np.random.Generator], int]  # unwrapped env, obs, random


class Recorded(NamedTuple):
    """B transitions in the order they were made."""

    state: np.ndarray  # [B, ...] int32, the environment's own state before the step
    time: np.ndarray  # [B] int32, steps since the episode began
    obs: np.ndarray  # [B, ...]
    action: np.ndarray  # [B] int32
    reward: np.ndarray  # [B] float32
    terminated: np.ndarray  # [B] bool
    truncated: np.ndarray  # [B] bool
    next_obs: np.ndarray  # [B, ...]


def random_policy(env, obs, random) -> int:
    return int(random.integers(env.action_space.n))


def record(env_id, env_kwargs, state_of, policy: Policy, num=10_000) -> Recorded:
    """Plays `num` steps; `state_of(env)` reads the state of the unwrapped environment."""
    env = make_env(env_id, env_kwargs)
    inner = env.unwrapped
    random = np.random.default_rng(0)
    rows = []
    obs, _ = env.reset(seed=0)
    time = 0
    for _ in range(num):
        state = tuple(state_of(inner))
        action = policy(inner, obs, random)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rows.append((state, time, obs, action, reward, terminated, truncated, next_obs))
        obs, time = next_obs, time + 1
        if terminated or truncated:
            (obs, _), time = env.reset(), 0
    env.close()
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    dtypes = [np.int32, np.int32, None, np.int32, np.float32, bool, bool, None]
    return Recorded(*(c.astype(d or c.dtype) for c, d in zip(columns, dtypes, strict=True)))


def repeat(env_id, env_kwargs, recorded: Recorded) -> tuple[np.ndarray, TimeStep]:
    """Takes all the recorded steps in the port at once, compiled.

    Returns:
        What the port sees before the step [B, ...], and the step.
    """
    ported = make_ported_envs(env_id, len(recorded.action), env_kwargs)

    @xla
    def step(columns, time, action):
        kind = type(ported.port.reset(rng.from_int(0), 1))
        state = EnvState(kind(*tf.unstack(columns, axis=-1)), time)
        obs = ported.port.observe(state.inner)
        return obs, ported.step(state, action, rng.from_int(1))[1]

    obs, taken = step(*map(tf.constant, (recorded.state, recorded.time, recorded.action)))
    taken = tf.nest.map_structure(lambda part: part.numpy(), taken)
    bare = taken._replace(obs=unmasked(taken.obs), final_obs=unmasked(taken.final_obs))
    return unmasked(obs).numpy(), bare


def assert_same(env_id, env_kwargs, state_of, policy: Policy, num=10_000) -> Recorded:
    """Asserts that a port without chance takes the same steps as its original."""
    recorded = record(env_id, env_kwargs, state_of, policy, num)
    obs, step = repeat(env_id, env_kwargs, recorded)
    for found, expected in (
        (obs, recorded.obs),
        (step.final_obs, recorded.next_obs),
        (step.reward, recorded.reward),
        (step.terminated, recorded.terminated),
        (step.truncated, recorded.truncated),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    going = ~(step.terminated | step.truncated)
    np.testing.assert_array_equal(step.obs[going], step.final_obs[going])
    return recorded


def assert_same_run(env_id, env_kwargs, num_steps: int, num_envs=8, policy=None) -> None:
    """Asserts that a port goes through whole runs, resets included, as its original does.

    For environments that leave nothing to chance. `policy(obs [N]) -> action [N]`.
    """
    ported = make_ported_envs(env_id, num_envs, env_kwargs)
    envs = make_envs(env_id, num_envs, 0, env_kwargs=env_kwargs, check=False)
    step = xla(ported.step)
    random = np.random.default_rng(0)
    expected_obs = envs.reset()
    state, obs = ported.reset(rng.from_int(0))
    np.testing.assert_array_equal(obs.numpy(), expected_obs)
    for t in range(num_steps):
        action = random.integers(envs.spec.num_actions, size=num_envs)
        if policy is not None:
            greedy = random.random(num_envs) < 0.9
            action = np.where(greedy, policy(expected_obs), action)
        expected = envs.step(action)
        state, found = step(state, tf.constant(action, tf.int32), rng.from_int(t))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
        expected_obs = expected.obs
    assert min(envs.episodes) > 0
    envs.close()


def p_value(statistic: float, freedom: int) -> float:
    """Returns the chance of a chi-square above `statistic`, after Wilson & Hilferty (1931)."""
    if freedom < 1:
        raise ValueError(f"freedom must be at least 1, got {freedom}")
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2


def fit(counts, probabilities) -> float:
    """Returns the p-value of Pearson's test that rows of counts [B, K] fit probabilities."""
    counts, probabilities = np.atleast_2d(counts), np.atleast_2d(probabilities)
    possible = probabilities > 0
    assert not counts[~possible].any(), "an outcome of probability 0"
    expected = (counts.sum(axis=1, keepdims=True) * probabilities)[possible]
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    return p_value(statistic, int(possible.sum()) - len(counts))


def homogeneity(condition, ours, theirs, at_least=100) -> float:
    """Returns the p-value of the test that two samples [B] have one distribution.

    Given the condition [B] of each row, in those that occur at least so often.
    """
    conditions, times = np.unique(condition, return_counts=True)
    kept = np.isin(condition, conditions[times >= at_least])
    condition, ours, theirs = condition[kept], ours[kept], theirs[kept]
    both = np.stack([np.tile(condition, 2), np.concatenate([ours, theirs])])
    cells, index = np.unique(both, axis=1, return_inverse=True)
    a, b = np.split(index.ravel(), 2)
    a, b = (np.bincount(part, minlength=cells.shape[1]) for part in (a, b))
    statistic = ((a - b) ** 2 / (a + b)).sum()
    return p_value(statistic, cells.shape[1] - len(np.unique(cells[0])))
