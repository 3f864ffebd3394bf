"""The task that cannot be done without memory."""

from typing import Any, NamedTuple

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng


class MemoryState(NamedTuple):
    """What to remember, and the steps since it was shown, each [N] int32."""

    cue: tf.Tensor
    time: tf.Tensor


class Memory:
    """rlzoo's Memory."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._num_cues = source.num_cues
        self._go = source.delay + 1  # the time of the go signal

    def reset(self, seed, num_envs: int) -> MemoryState:
        """Returns states [N] with cues drawn evenly."""
        cue = rng.integers(seed, [num_envs], self._num_cues)
        return MemoryState(cue, tf.zeros_like(cue))

    def observe(self, state: MemoryState) -> tf.Tensor:
        """Returns [N, num_cues + 1]: the cue one-hot, nothing, or the go signal."""
        lit = tf.where(state.time == self._go, self._num_cues, -1)  # -1 lights none
        return tf.one_hot(tf.where(state.time == 0, state.cue, lit), self._num_cues + 1)

    def step(self, state: MemoryState, action, seed):
        """Waits or, on the go signal, answers."""
        answered = state.time == self._go
        reward = tf.where(answered, tf.where(action == state.cue, 1.0, -1.0), 0.0)
        return state._replace(time=state.time + 1), reward, answered
