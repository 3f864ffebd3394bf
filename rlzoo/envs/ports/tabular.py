"""Gymnasium's toy-text environments, all of which are tables of outcomes."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.spaces import BARE, MASK


class TabularState(NamedTuple):
    """Where the agent is."""

    obs: tf.Tensor  # [N] int32


class Tabular:
    """An environment that is the table `P` and a distribution over first states.

    `P[state][action]` lists outcomes as (probability, next state, reward, terminated). Here
    they are arrays [S * A, K], where K is the longest list; a filler has probability 0. Fits
    FrozenLake (any map), CliffWalking and Taxi (Dietterich 2000, doi:10.1613/jair.639).
    """

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        if getattr(source, "fickle_passenger", False):
            raise ValueError(
                "Taxi's fickle_passenger=True remembers more than its table of outcomes holds: "
                "use --loop host."
            )
        self._num_actions = int(source.action_space.n)
        outcomes = [
            source.P[state][action]
            for state in range(int(source.observation_space.n))
            for action in range(self._num_actions)
        ]
        self._width = max(map(len, outcomes))
        filler = (0.0, 0, 0.0, False)
        rows = [
            row for found in outcomes for row in (*found, *[filler] * self._width)[: self._width]
        ]
        probability, successor, reward, terminated = zip(*rows, strict=True)
        with np.errstate(divide="ignore"):
            self._log_probs = np.log(np.reshape(probability, (-1, self._width)), dtype=np.float32)
        self._successor = np.array(successor, np.int32)
        self._reward = np.array(reward, np.float32)
        self._terminated = np.array(terminated, bool)
        self._masks = None  # or [S, A] bool: what Taxi says of its states in `info`
        if hasattr(source, "action_mask"):
            states = range(int(source.observation_space.n))
            self._masks = np.array([source.action_mask(state) for state in states], bool)
        self._first = np.flatnonzero(source.initial_state_distrib).astype(np.int32)
        self._cumulative = np.cumsum(source.initial_state_distrib[self._first]).astype(np.float32)

    def reset(self, seed, num_envs: int) -> TabularState:
        """Returns states [N] drawn from the environment's distribution over first states."""
        threshold = rng.uniform(seed, [num_envs]) * rng.ONE_BELOW * self._cumulative[-1]
        return TabularState(
            tf.gather(self._first, tf.searchsorted(self._cumulative, threshold, side="right"))
        )

    def observe(self, state: TabularState) -> Any:
        """Returns the states [N] int64, with the mask of their valid actions if there is one."""
        obs = tf.cast(state.obs, tf.int64)
        return obs if self._masks is None else {BARE: obs, MASK: tf.gather(self._masks, obs)}

    def step(self, state: TabularState, action, seed):
        """Draws an outcome of each action."""
        pair = state.obs * self._num_actions + action
        outcome = pair * self._width
        if self._width > 1:
            outcome += rng.categorical(seed, tf.gather(self._log_probs, pair))  # [N]
        return (
            TabularState(tf.gather(self._successor, outcome)),
            tf.gather(self._reward, outcome),
            tf.gather(self._terminated, outcome),
        )
