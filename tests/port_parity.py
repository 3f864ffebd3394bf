"""Ports against the originals: what Gymnasium does, and whether a port does the same."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlzoo.envs.ports import EnvState, PortedEnvs, make_port
from rlzoo.envs.slot import probe
from rlzoo.ops import rng
from rlzoo.spaces import EnvSpec, unmasked
from tests.helpers import xla

TOLERANCE = 1e-5


class Transitions(NamedTuple):
    """What an original did, B steps in order."""

    state: list  # of arrays [B, ...]: the flat fields of the port's state, before
    time: Any  # [B] steps since the episode began
    obs: Any  # [B, ...]; None if not seen
    action: Any  # [B] or [B, A], counted from 0
    next_obs: Any  # [B, ...] the true successor
    reward: Any  # [B]
    terminated: Any  # [B]
    truncated: Any  # [B]


def start_of(space) -> int:
    return int(space.start) if isinstance(space, spaces.Discrete) else 0


def spec_of(env: gymnasium.Env) -> EnvSpec:
    """Returns what a learner sees of an environment, whose limit is the wrapper's."""
    return probe(env).spec._replace(max_episode_steps=env.spec.max_episode_steps)


def play(
    env: gymnasium.Env,
    state_of: Callable[[Any], tuple],
    policy: Callable[[Any], Any] | None,
    steps: int,
    seed: int = 0,
) -> Transitions:
    """Plays the original.

    Args:
        env: the original.
        state_of: from the unwrapped original to the flat fields of the port's state.
        policy: from the unwrapped original to an action; None acts at random.
        steps: B.
        seed: of everything random.
    """
    source = env.unwrapped
    obs_start, action_start = start_of(env.observation_space), start_of(env.action_space)
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    rows, time = [], 0
    for _ in range(steps):
        state = tuple(np.array(field) for field in state_of(source))
        action = policy(source) if policy else env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs - obs_start, action - action_start, next_obs - obs_start))
        rows[-1] = (*state, time, *rows[-1], reward, terminated, truncated)
        obs, time = next_obs, time + 1
        if terminated or truncated:
            (obs, _), time = env.reset(), 0
    *state, time, obs, action, next_obs, reward, terminated, truncated = map(
        np.stack, zip(*rows, strict=True)
    )
    return Transitions(state, time, obs, action, next_obs, reward, terminated, truncated)


def play_from(env: gymnasium.Env, states, actions) -> Transitions:
    """Takes one step from each of the states, which are put into the original's `state`."""
    rows = []
    for state, action in zip(states, actions, strict=True):
        env.reset(seed=0)
        env.unwrapped.state = np.array(state)
        rows.append(env.step(action)[:4])
    next_obs, reward, terminated, truncated = map(np.stack, zip(*rows, strict=True))
    time = np.zeros(len(states), int)
    fields = list(np.transpose(states))
    return Transitions(fields, time, None, actions, next_obs, reward, terminated, truncated)


class Ported:
    """The port of an original, compiled with XLA."""

    def __init__(self, env: gymnasium.Env):
        self.port = make_port(env)
        self.spec = spec_of(env)
        self.envs = PortedEnvs(self.port, self.spec, num_envs=1)
        self.seed = rng.from_int(7)
        self.step = xla(self.envs.step)
        self.observe = xla(self.port.observe)

    def state(self, played: Transitions, rows) -> EnvState:
        """Returns the states before some of the steps, as the port keeps them."""
        like = self.port.reset(self.seed, 1)
        pairs = zip(played.state, tf.nest.flatten(like), strict=True)
        fields = [tf.constant(field[rows], old.dtype) for field, old in pairs]
        return EnvState(
            tf.nest.pack_sequence_as(like, fields), tf.constant(played.time[rows], tf.int32)
        )

    def action(self, played: Transitions, rows) -> tf.Tensor:
        action = played.action[rows]
        return tf.constant(action, tf.float32 if action.dtype.kind == "f" else tf.int32)

    def replay(self, played: Transitions) -> float:
        """Asserts that each step does what the original did; returns the largest error seen."""
        self.envs.num_envs = len(played.time)
        rows = slice(None)
        state, action = self.state(played, rows), self.action(played, rows)
        obs = unmasked(self.observe(state.inner))
        next_state, step = self.step(state, action, self.seed)
        step = step._replace(obs=unmasked(step.obs), final_obs=unmasked(step.final_obs))
        last = played.terminated | played.truncated
        assert obs.dtype == step.final_obs.dtype == unmasked(self.spec.obs).dtype
        assert step.reward.dtype == tf.float32
        np.testing.assert_array_equal(step.terminated, played.terminated)
        np.testing.assert_array_equal(step.truncated, played.truncated)
        np.testing.assert_array_equal(next_state.time, np.where(last, 0, played.time + 1))
        np.testing.assert_allclose(step.reward, played.reward, rtol=0, atol=TOLERANCE)
        if played.obs is not None:  # the steps follow on each other
            np.testing.assert_allclose(obs, played.obs, rtol=0, atol=TOLERANCE)
            on = np.flatnonzero(~last[:-1])
            for ours, theirs in zip(tf.nest.flatten(next_state.inner), played.state, strict=True):
                np.testing.assert_allclose(ours.numpy()[on], theirs[on + 1], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(step.final_obs, played.next_obs, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(step.obs[~last], step.final_obs[~last])
        return float(np.abs(step.final_obs - played.next_obs).max())

    def run_free(self, played: Transitions, steps: int, copies: int) -> float:
        """Plays on from some states by itself; returns the largest error at the end."""
        last = played.terminated | played.truncated
        ends = np.concatenate([[0], np.cumsum(last)])
        whole = np.flatnonzero(ends[steps:] == ends[: len(ends) - steps])  # none ends meanwhile
        rows = whole[np.linspace(0, len(whole) - 1, copies).astype(int)]
        self.envs.num_envs = copies
        state = self.state(played, rows)
        for t in range(steps):
            state, step = self.step(state, self.action(played, rows + t), self.seed)
        return float(np.abs(step.final_obs - played.next_obs[rows + steps - 1]).max())


def same_distribution(a: np.ndarray, b: np.ndarray) -> bool:
    """Tells whether two samples [N, ...] agree, by Kolmogorov-Smirnov in every component.

    At 1 in 10^6 by chance; ties make it milder.
    """
    a, b = (np.reshape(x, (len(x), -1)).astype(float) for x in (a, b))
    limit = np.sqrt(-0.5 * np.log(0.5e-6) * (1 / len(a) + 1 / len(b)))
    for x, y in zip(a.T, b.T, strict=True):
        at = np.concatenate([x, y])
        shares = [np.searchsorted(np.sort(z), at, side="right") / len(z) for z in (x, y)]
        if np.abs(shares[0] - shares[1]).max() > limit:
            return False
    return True
