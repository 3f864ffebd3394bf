"""Does an environment keep to Gymnasium's rules, as far as rlzoo relies on them?"""

import copy
import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlzoo.envs.making import RAISED, EnvSource, Wrapped, close_env, env_factory
from rlzoo.envs.spaces import in_float32, parts_of, problem, space_problems
from rlzoo.spaces import MASK

_SEED = 0
_MAX_SECONDS = 0.4  # for the episode; repeating it takes as long again
_LARGE = 100  # pixels a side
_SHRINK = "--wrapper '{name: ResizeObservation, shape: [84, 84]}', before any other"
_SHRINK_ATARI = (
    "--set env.frameskip=1 --wrapper AtariPreprocessing "
    "--wrapper '{name: FrameStackObservation, stack_size: 4}'"
)
_MAX_REWARD = float(np.finfo(np.float32).max)


def check_env(
    env: gymnasium.Env | EnvSource,
    *,
    env_kwargs: dict[str, Any] | None = None,
    max_episode_steps: int = 0,
    max_steps: int = 200,
    faults: bool = True,
) -> list[str]:
    """Runs one short episode, twice, and returns what breaks the rules.

    Warns if the episode differs the second time, given the same seed and actions: such an
    environment works, but its runs cannot be repeated. Warns of what rlzoo does not keep: the
    running statistics of wrappers. Warns of large images, with the wrappers that shrink them.

    Args:
        env: an environment (it is reset, not closed), or an id or a callable to make one.
        env_kwargs: as for `make_env`, where the environment is made here.
        max_episode_steps: likewise.
        max_steps: when to stop if the episode has not ended.
        faults: also report errors it raises and values that are not finite. False leaves
            them to the `on_env_error` of `make_envs`.

    Returns:
        A sentence for each problem: what was expected, what was found, how to fix it. Empty
        if there is none.
    """
    if isinstance(env, gymnasium.Env) or not (isinstance(env, (str, Wrapped)) or callable(env)):
        return _problems(env, max_steps, faults)
    make = env_factory(env, env_kwargs, max_episode_steps)
    try:
        made = make()
    except RAISED as error:
        given = f"env_kwargs {env_kwargs}" if env_kwargs else "no arguments"
        fix = f"mend what the error names; it is made with {given}"
        return [problem("making the environment", "an environment", _raised(error), fix)]
    try:
        return _problems(made, max_steps, faults)
    finally:
        close_env(made)


def _problems(env: Any, max_steps: int, faults: bool) -> list[str]:
    if not isinstance(env, gymnasium.Env):
        fix = "inherit from gymnasium.Env (the older gym.Env has other rules)"
        return [problem("the environment", "a gymnasium.Env", repr(env), fix)]
    problems = []
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, spaces.Space):
            fix = f"set self.{name} to a gymnasium space in __init__"
            problems.append(problem(name, "a gymnasium.Space", _shown(space), fix))
    problems = problems or space_problems(env.observation_space, env.action_space)
    if problems:
        return problems
    rng = np.random.default_rng(_SEED)
    space: Any = env.action_space
    if isinstance(space, spaces.Box):
        drawn = rng.uniform(space.low, space.high, (max_steps, *space.shape))
        actions = list(drawn.astype(space.dtype))
    else:
        actions = (rng.integers(space.n, size=max_steps) + space.start).tolist()
    seen = []
    try:
        for *step, _, problems in _episode(env, actions, _MAX_SECONDS):
            if problems:
                return problems
            seen.append(copy.deepcopy(step))  # it may write to its array later
        again = _episode(env, actions[: len(seen) - 1], math.inf)
        repeats = all(_same(old, new) for old, (*new, _, _) in zip(seen, again, strict=True))
    except _FaultError as fault:
        return [str(fault)] if faults else []
    except ValueError:  # the second episode is shorter or longer
        repeats = False
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    keepers = _keepers(env)
    if not repeats and not keepers:
        warnings.warn(
            f"{name} is not deterministic given its reset seed: runs on it cannot be repeated "
            "or resumed exactly. Draw all randomness from self.np_random",
            stacklevel=4,
        )
    if keepers:
        warnings.warn(
            f"{name} is wrapped in {' and '.join(keepers)}, whose running statistics begin anew in "
            "every environment: in each evaluation, and when a run is resumed, which so goes on "
            "otherwise than it would have. Leave it out, and say --set normalize.obs=true or "
            "normalize.reward=true, or scale by constants",
            stacklevel=4,
        )
    for shape in _shapes(env.observation_space):
        if len(shape) < 2 or sorted(shape)[-2] <= _LARGE:
            continue
        how = _SHRINK_ATARI if type(env.unwrapped).__module__.startswith("ale_py") else _SHRINK
        warnings.warn(
            f"{name} shows images {list(shape)}: learning from them takes long, and replay much "
            f"memory. Make them smaller: {how} (docs/environments.md)",
            stacklevel=4,
        )
    return []


def _keepers(env: gymnasium.Env) -> list[str]:
    """Returns the names of the wrappers that scale by statistics of what has passed."""
    found = []
    while isinstance(env, gymnasium.Wrapper):
        if {"obs_rms", "return_rms"} & vars(env).keys():  # as Gymnasium's are called
            found.append(type(env).__name__)
        env = env.env
    return found


class _FaultError(Exception):
    """A sentence on something `on_env_error` decides about."""


def _episode(
    env: gymnasium.Env, actions: list[Any], max_seconds: float
) -> Iterator[tuple[Any, Any, bool, Any, list[str]]]:
    """Yields observation, reward, whether it is over, info and the problems, from the reset on."""
    started = time.monotonic()
    obs, info, problems = _reset(env)
    yield obs, 0.0, False, info, problems
    for action in actions:
        action = _valid(env, obs, info, action)
        obs, reward, over, info, problems = _step(env, action)
        yield obs, reward, over, info, problems
        if over or time.monotonic() - started > max_seconds:
            return


def _valid(env: gymnasium.Env, obs: Any, info: Any, action: Any) -> Any:
    """Returns a drawn action, or a valid one in its place where a mask forbids it."""
    mask = info.get(MASK)
    if mask is None and env.has_wrapper_attr("action_masks"):
        mask = env.get_wrapper_attr("action_masks")()
    if mask is None and isinstance(obs, dict):
        mask = obs.get(MASK)
    space = env.action_space
    if mask is None or not isinstance(space, spaces.Discrete) or np.shape(mask) != (space.n,):
        return action
    found = np.flatnonzero(mask)
    return int(space.start + found[int(action) % len(found)]) if len(found) else action


def _same(old: Any, new: Any) -> bool:
    """Tells whether two steps brought the same, part by part."""
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(_same, old, new))
    return np.array_equal(old, new)


def _shapes(space: Any) -> list[tuple[int, ...]]:
    parts = [part for _, part in parts_of(space)]
    return [shape for part in parts for shape in _shapes(part)] if parts else [space.shape or ()]


def _reset(env: gymnasium.Env) -> tuple[Any, Any, list[str]]:
    rule = "(obs, info)"
    try:
        result: Any = env.reset(seed=_SEED)
    except TypeError as error:
        if "keyword argument" not in str(error):
            return None, None, [_failed("reset", rule, error)]
        fix = "define reset(self, *, seed=None, options=None), and call super().reset(seed=seed)"
        return None, None, [problem("reset", "to take seed and options", _raised(error), fix)]
    except RAISED as error:
        return None, None, [_failed("reset", rule, error)]
    if not isinstance(result, tuple) or len(result) != 2:
        found = problem("reset", f"it to return {rule}", _shown(result), f"return {rule}")
        return None, None, [found]
    obs, info = result
    problems = _obs_problems(env.observation_space, obs, "reset") + _info_problems(info, "reset")
    return obs, info, problems


def _step(env: gymnasium.Env, action: Any) -> tuple[Any, Any, bool, Any, list[str]]:
    rule = "(obs, reward, terminated, truncated, info)"
    try:
        result: Any = env.step(action)
    except RAISED as error:
        return None, None, True, None, [_failed("step", rule, error)]
    if not isinstance(result, tuple) or len(result) != 5:
        fix = f"return {rule}; `done` of the older gym is `terminated or truncated`"
        return (
            None,
            None,
            True,
            None,
            [problem("step", f"it to return {rule}", _shown(result), fix)],
        )
    obs, reward, terminated, truncated, info = result
    problems = _obs_problems(env.observation_space, obs, "step")
    problems += _reward_problems(reward)
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            fix = f"return bool({name})"
            problems.append(problem(f"{name} of step", "a bool", _shown(flag), fix))
    problems += _info_problems(info, "step")
    return obs, reward, problems != [] or bool(terminated or truncated), info, problems


def _failed(method: str, rule: str, error: BaseException) -> str:
    # Wrappers unpack what they get, and so fail before we can see it.
    if "values to unpack" in str(error) or "cannot unpack" in str(error):
        return problem(method, f"it to return {rule}", _raised(error), f"return {rule}")
    fix = f"make {method} work for every seed and every action of the action space"
    raise _FaultError(problem(method, "no error", _raised(error), fix)) from error


def _obs_problems(space: spaces.Space, obs: Any, method: str) -> list[str]:
    where = f"observation of {method}"
    if parts := parts_of(space):
        named = isinstance(space, spaces.Dict)
        keys = [key for key, _ in parts]
        right = isinstance(obs, dict) if named else isinstance(obs, tuple)
        if not right or sorted(obs if named else range(len(obs))) != keys:
            fix = "return all parts of the observation space, or change observation_space"
            kind = "dict" if named else "tuple"
            return [problem(where, f"a {kind} of the parts {keys}", _shown(obs), fix)]
        return [
            text
            for key, part in parts
            for text in _obs_problems(part, obs[key], f"{method}, {key!r}")
        ]
    if not isinstance(space, spaces.Box):
        if isinstance(obs, (int, np.integer, np.ndarray)) and space.contains(obs):
            return []
        fix = "return an integer of the observation space, or change observation_space"
        if isinstance(space, spaces.MultiBinary | spaces.MultiDiscrete):
            fix = f"return np.array(..., np.{space.dtype}), or change observation_space"
        return [problem(where, f"a member of {space}", _shown(obs), fix)]
    if isinstance(obs, np.generic):
        obs = np.asarray(obs)  # what indexing an array gives where the shape is ()
    if not isinstance(obs, np.ndarray):
        fix = f"return np.asarray(obs, dtype=np.{space.dtype})"
        return [problem(where, f"a NumPy array of {space.dtype}", _shown(obs), fix)]
    if obs.shape != space.shape:
        fix = "reshape it, or change observation_space"
        return [problem(where, f"shape {space.shape}", f"shape {obs.shape}", fix)]
    if not np.can_cast(obs.dtype, space.dtype):
        fix = f"return obs.astype(np.{space.dtype}), or change observation_space"
        return [problem(where, f"dtype {space.dtype}", f"dtype {obs.dtype}", fix)]
    if obs.dtype.kind == "f" and np.isfinite(obs).all() and not in_float32(obs).all():
        fix = "scale the observations"
        raise _FaultError(problem(where, "what float32 holds, up to 3.4e38", _shown(obs), fix))
    if not np.isfinite(obs).all():
        fix = "find the division by zero or overflow in the environment"
        raise _FaultError(problem(where, "finite numbers", _shown(obs), fix))
    slack = 1e-5 * np.maximum(1.0, np.abs(obs, dtype=np.float64))  # rounding is no offence
    outside = (obs < space.low - slack) | (obs > space.high + slack)
    if outside.any():
        at = tuple(np.argwhere(outside)[0].tolist())
        bounds = f"values from {space.low[at]} to {space.high[at]} at {list(at)}"
        fix = "clip it, or widen the bounds of observation_space"
        return [problem(where, bounds, str(obs[at]), fix)]
    return []


def _reward_problems(reward: Any) -> list[str]:
    if not isinstance(reward, (int, float, np.integer, np.floating)):
        return [problem("reward of step", "a number", _shown(reward), "return float(reward)")]
    if not -_MAX_REWARD <= reward <= _MAX_REWARD:
        fix = "find the division by zero or overflow in the environment"
        raise _FaultError(problem("reward of step", "a finite float32", _shown(reward), fix))
    return []


def _info_problems(info: Any, method: str) -> list[str]:
    if isinstance(info, dict):
        return []
    return [problem(f"info of {method}", "a dict", _shown(info), "return {} if there is none")]


def _raised(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _shown(value: Any) -> str:
    """Returns a short text for a value and its type."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
