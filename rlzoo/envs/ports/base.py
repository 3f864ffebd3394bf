"""What a port is, and N copies of one with time limit and automatic reset."""

import math
from functools import partial
from typing import Any, NamedTuple, Protocol

import gymnasium
import tensorflow as tf

from rlzoo.ops import rng
from rlzoo.spaces import EnvSpec
from rlzoo.types import TimeStep


class Port(Protocol):
    """The rules of one environment in TensorFlow ops, for N independent copies at once.

    Everything compiles under XLA. A state is a NamedTuple of tensors [N, ...]; Discrete actions and
    observations count from 0, Box actions are [N, A] float32. A port knows neither time limits nor
    resets: see `PortedEnvs`.

    A port whose state outlives an episode also has `keep(fresh, old)`, which returns the fresh
    state with what is kept of the old one; one of an environment that changes over its life has
    `lifetime_steps(state)`, which returns as numbers how many steps of it have passed in each.
    """

    def __init__(self, env: gymnasium.Env):
        """Takes the settings from the original, unwrapped; refuses those it does not know."""
        ...

    def reset(self, seed: tf.Tensor, num_envs: int) -> Any:
        """Returns states at the start of an episode, drawn as the original does."""
        ...

    def observe(self, state: Any) -> Any:
        """Returns the observations [N, ...], nested and of the dtypes of `EnvSpec.obs`."""
        ...

    def step(
        self, state: Any, action: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Returns the next states, rewards [N] float32 and whether they are terminal [N] bool."""
        ...


class EnvState(NamedTuple):
    """What N ported environments carry from step to step."""

    inner: Any  # the port's state
    time: tf.Tensor  # [N] int32, steps since the episode began


class PortedEnvs:
    """N copies of a port: each starts a new episode by itself when one ends.

    Args:
        port: the rules.
        spec: of the environment.
        num_envs: N.
        truncates: whether the time limit in `spec` does; else episodes end by then anyway.
    """

    def __init__(self, port: Port, spec: EnvSpec, num_envs: int, truncates: bool = True):
        self.port = port
        self.spec = spec
        self.num_envs = num_envs
        self._limit = spec.max_episode_steps if truncates else None

    def reset(self, seed: tf.Tensor, old: EnvState | None = None) -> tuple[EnvState, Any]:
        """Starts N episodes, after those of `old`; returns state and observations [N, ...]."""
        inner = self._fresh(seed, None if old is None else old.inner)
        return EnvState(inner, tf.zeros([self.num_envs], tf.int32)), self.port.observe(inner)

    def step(
        self, state: EnvState, action: tf.Tensor, seed: tf.Tensor
    ) -> tuple[EnvState, TimeStep]:
        """Takes one step in each.

        Args:
            state: from `reset` or the last step.
            action: [N] int32, counted from 0; [N, A] float32 if continuous.
            seed: [2] int32.
        """
        step_seed, reset_seed = rng.split(seed)
        inner, reward, terminated = self.port.step(state.inner, action, step_seed)
        time = state.time + 1
        truncated = tf.zeros_like(terminated)
        if self._limit is not None:
            truncated = time >= self._limit
        last = terminated | truncated

        fresh = self._fresh(reset_seed, inner)
        inner_next = tf.nest.map_structure(partial(where, last), fresh, inner)
        final_obs = self.port.observe(inner)
        obs = tf.nest.map_structure(partial(where, last), self.port.observe(fresh), final_obs)
        state = EnvState(inner_next, tf.where(last, 0, time))
        return state, TimeStep(obs, reward, terminated, truncated, final_obs)

    def lifetime_steps(self, state: EnvState) -> list[int]:
        """Returns the age of each, where they change over their life; else []."""
        known = getattr(self.port, "lifetime_steps", None)
        return known(state.inner) if known else []

    def _fresh(self, seed: tf.Tensor, old: Any) -> Any:
        """Returns the port's states at the start of the episodes that follow those of `old`."""
        fresh = self.port.reset(seed, self.num_envs)
        keep = getattr(self.port, "keep", None)
        return keep(fresh, old) if keep and old is not None else fresh


def where(mask: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """Returns rows of `yes` where the mask [N] holds, of `no` elsewhere."""
    return tf.where(tf.reshape(mask, (-1, *[1] * (len(yes.shape) - 1))), yes, no)


def wrap_angle(x: tf.Tensor) -> tf.Tensor:
    """Returns angles (rad) brought into +-pi by whole turns; those within stay as they are."""
    return x - 2 * math.pi * tf.round(x / (2 * math.pi))
