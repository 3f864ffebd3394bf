"""One environment as the learner sees it, checked at every step; and what goes wrong in it."""

import functools
import operator
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from rlzoo.envs.making import RAISED, close_env, gave_up
from rlzoo.envs.spaces import learner_spec, reader
from rlzoo.spaces import BARE, MASK, EnvSpec, Space, mask_of

MakeEnv = Callable[[], gymnasium.Env]

_METHOD = "action_masks"  # of an environment, as SB3-Contrib has it
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
    masked: bool  # it tells beside its observations which actions are valid

    @property
    def spec(self) -> EnvSpec:
        """What the learner sees of it."""
        spaces = self.obs_space, self.action_space
        return learner_spec(*spaces, self.max_episode_steps, self.masked)

    @property
    def bare_obs(self) -> Space:
        """What is observed without a mask that is told beside it."""
        return learner_spec(self.obs_space, self.action_space, None).obs


def probe(env: gymnasium.Env) -> Probe:
    """Returns what an environment, which is reset for that, tells of all that are made like it."""
    return Probe(
        env.spec.id if env.spec else type(env.unwrapped).__name__,
        env.observation_space,
        env.action_space,
        time_limit(env),
        hasattr(env.unwrapped, "lifetime_steps"),
        _is_masked(env),
    )


def _is_masked(env: gymnasium.Env) -> bool:
    """Tells whether an environment says which actions are valid, in `info` or by a method.

    A mask that is a part of its observations is none of these.
    """
    if not isinstance(env.action_space, spaces.Discrete):
        return False
    if MASK in getattr(env.observation_space, "spaces", ()):
        return False
    if env.has_wrapper_attr(_METHOD):
        return True
    try:
        _, info = env.reset(seed=0)
    except RAISED:  # a fault that `on_env_error` will decide about
        return False
    return isinstance(info, dict) and MASK in info


class Slot:
    """One environment as the learner sees it: actions and observations counted from 0.

    Actions of a Box are given as nested lists of numbers. A mask of valid actions, wherever the
    environment tells of it, is a part of the observation.
    """

    def __init__(self, make: MakeEnv, probe: Probe):
        self._make = make
        self._spaces = (probe.obs_space, probe.action_space)
        self._env_action = env_action(probe.action_space)
        self._masked = mask_of(probe.spec.obs) is not None
        self._beside = probe.masked
        self._read = reader(probe.obs_space, probe.bare_obs)
        self._nested = isinstance(probe.bare_obs, dict)
        self._num_actions = getattr(probe.spec.action, "n", 0)
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
        return self._with_mask(obs, info) if self._masked else self._read(obs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Returns observation, reward, terminated, truncated."""
        obs, reward, terminated, truncated, info = self._step(self._env_action(action))
        # Types first: that is quick, and nearly always enough.
        if type(reward) is not float or not -_MAX_REWARD <= reward <= _MAX_REWARD:
            reward = _checked_reward(reward)
        if type(terminated) is not bool or type(truncated) is not bool or type(info) is not dict:
            _check_flags(terminated, truncated, info)
        if self._masked:
            seen = self._with_mask(obs, info, bool(terminated or truncated))
            return seen, reward, terminated, truncated
        return self._read(obs), reward, terminated, truncated

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

    def _with_mask(self, obs: Any, info: dict, over: bool = False) -> Any:
        """Returns what is observed, with the mask; at an episode's end there need be none."""
        seen = self._read(obs)
        if not self._beside:
            mask = np.asarray(seen[MASK])
        elif self.env.has_wrapper_attr(_METHOD):  # type: ignore[union-attr]
            mask = np.asarray(self.env.get_wrapper_attr(_METHOD)())  # type: ignore[union-attr]
        elif MASK in info or not over:
            mask = np.asarray(info.get(MASK))
        else:
            mask = np.ones(self._num_actions, bool)
        if mask.shape != (self._num_actions,) or mask.dtype.kind not in "biu":
            raise ValueError(
                f"{MASK} is {mask.tolist()!r}, expected one 0 or 1 for each of "
                f"{self._num_actions} actions"
            )
        if not over and not mask.any():
            raise ValueError(f"{MASK} allows none of the {self._num_actions} actions")
        return {**(seen if self._nested else {BARE: seen}), MASK: mask}


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
