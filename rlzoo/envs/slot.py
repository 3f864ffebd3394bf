"""One environment as the learner sees it, checked at every step; and what goes wrong in it."""

import functools
import operator
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from rlzoo.envs.making import close_env, gave_up

MakeEnv = Callable[[], gymnasium.Env]

_MAX_REWARD = float(np.finfo(np.float32).max)

_in_use: weakref.WeakSet[gymnasium.Env] = weakref.WeakSet()  # to notice one that is used twice


class Fault(NamedTuple):
    """What went wrong in one environment."""

    error: Exception
    trace: str = ""  # the user's frames, if it happened in another process
    died: bool = False  # that process is gone: it ended, or it hung and was killed


def fault(error: BaseException) -> Fault:
    """Returns the fault that something raised by an environment is."""
    if isinstance(error, Exception):
        return Fault(error)
    told = RuntimeError(f"the environment raised {type(error).__name__}")
    told = gave_up(error) if isinstance(error, SystemExit) else told
    told.__cause__ = error
    return Fault(told)


class Probe(NamedTuple):
    """What one environment tells of all that are made like it."""

    name: str  # the environment's id, for messages
    obs_space: spaces.Space  # unmapped
    action_space: spaces.Space  # unmapped
    max_episode_steps: int | None  # its time limit
    changes: bool  # over its life, so that it is told how many steps of it have passed


def probe(env: gymnasium.Env) -> Probe:
    """Returns what an environment tells of all that are made like it."""
    return Probe(
        env.spec.id if env.spec else type(env.unwrapped).__name__,
        env.observation_space,
        env.action_space,
        time_limit(env),
        hasattr(env.unwrapped, "lifetime_steps"),
    )


class Slot:
    """One environment as the learner sees it: actions and observations counted from 0.

    Actions of a Box are given as nested lists of numbers.
    """

    def __init__(self, make: MakeEnv, obs_space: spaces.Space, action_space: spaces.Space):
        self._make = make
        self._spaces = (obs_space, action_space)
        self._env_action = env_action(action_space)
        self._first_obs = int(getattr(obs_space, "start", 0))
        self._num_states = int(getattr(obs_space, "n", 0))
        self._shape = obs_space.shape
        self._seen = self._seen_box if isinstance(obs_space, spaces.Box) else self._seen_discrete
        self.env: gymnasium.Env | None = None
        self._step: Callable[[int], tuple[Any, ...]]

    def reset(self, seed: int, remake: bool = False, lifetime_steps: int = 0) -> Any:
        """Starts the episode with this seed, if asked in an environment made anew.

        An environment that changes over its life is told how many steps of it have passed.
        """
        if remake:
            self.close()
        self.open()
        inner: Any = self.env.unwrapped  # type: ignore[union-attr]
        if hasattr(inner, "lifetime_steps"):
            inner.lifetime_steps = lifetime_steps
        obs, info = self.env.reset(seed=seed)  # type: ignore[union-attr]
        if not isinstance(info, dict):
            raise ValueError(f"info of reset is {info!r}, expected a dict")
        return self._seen(obs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Returns observation, reward, terminated, truncated."""
        obs, reward, terminated, truncated, info = self._step(self._env_action(action))
        # Types first: that is quick, and nearly always enough.
        if type(reward) is not float or not -_MAX_REWARD <= reward <= _MAX_REWARD:
            reward = _checked_reward(reward)
        if type(terminated) is not bool or type(truncated) is not bool or type(info) is not dict:
            _check_flags(terminated, truncated, info)
        return self._seen(obs), reward, terminated, truncated

    def close(self) -> None:
        """Closes the environment, if there is one."""
        if self.env is not None:
            _in_use.discard(self.env.unwrapped)
            close_env(self.env)
            self.env = None

    def open(self) -> None:
        """Makes the environment, unless there is one."""
        if self.env is not None:
            return
        env = self._make()
        if env.unwrapped in _in_use:
            raise ValueError(
                f"the callable returned {env} twice: it must make a new environment every time"
            )
        _in_use.add(env.unwrapped)
        self.env, self._step = env, env.step
        found = (self.env.observation_space, self.env.action_space)
        if found != self._spaces:
            raise ValueError(f"spaces changed between environments: {self._spaces}, then {found}")

    def _seen_box(self, obs: Any) -> Any:
        if np.shape(obs) != self._shape:
            raise ValueError(f"obs has shape {np.shape(obs)}, its space says {self._shape}")
        return obs

    def _seen_discrete(self, obs: Any) -> int:
        state = operator.index(obs) - self._first_obs  # int() would take 2.7 and "2"
        if not 0 <= state < self._num_states:
            raise ValueError(f"obs {obs!r} is not in its space {self._spaces[0]}")
        return state


def _checked_reward(reward: Any) -> float:
    if not isinstance(reward, (int, float, np.integer, np.floating)):
        raise ValueError(f"reward is {reward!r}, expected a number")
    if not -_MAX_REWARD <= reward <= _MAX_REWARD:
        raise ValueError(f"reward is {reward!r}, expected a finite number")
    return float(reward)


def _check_flags(terminated: Any, truncated: Any, info: Any) -> None:
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            raise ValueError(f"{name} is {flag!r}, expected a bool")
    if not isinstance(info, dict):
        raise ValueError(f"info of step is {info!r}, expected a dict")


def env_action(space: spaces.Space) -> Callable[[Any], Any]:
    """Returns the function from actions as the learner counts them to what the space holds."""
    if isinstance(space, spaces.Box):
        return functools.partial(np.array, dtype=space.dtype)
    return functools.partial(operator.add, int(getattr(space, "start", 0)))


def time_limit(env: gymnasium.Env) -> int | None:
    """Returns the steps that no episode exceeds, if the environment or a wrapper says so."""
    limits = [getattr(env.spec, "max_episode_steps", None)]
    for name in ("_max_episode_steps", "max_episode_steps"):  # of TimeLimit, of the env itself
        if env.has_wrapper_attr(name):
            limits.append(env.get_wrapper_attr(name))
    for name in ("max_steps", "max_episode_length"):  # of MiniGrid's environments, of POPGym's
        limits.append(getattr(env.unwrapped, name, None))
    return min((int(n) for n in limits if isinstance(n, (int, np.integer)) and n > 0), default=None)
