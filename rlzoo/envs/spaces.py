"""Which spaces of Gymnasium rlzoo works with, and what the learner sees of them."""

import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rlzoo.spaces import BARE, MASK, Box, Discrete, EnvSpec, Mask, MultiDiscrete, Space

_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_FLOAT32_EXACT = 2**24  # float32 holds every integer up to here
_KINDS = "Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of them"


def problem(where: str, expected: str, found: object, fix: str) -> str:
    """Returns one problem as a sentence: what was expected, what was found, how to fix it."""
    return f"{where}: expected {expected}; found {found}; fix: {fix}."


def space_problems(obs_space: object, action_space: object) -> list[str]:
    """Returns what rlzoo cannot work with in two spaces, each with a way out."""
    problems = []
    if isinstance(action_space, spaces.Box):
        if action_space.dtype.kind != "f" or not action_space.is_bounded():
            fix = "give the Box a float dtype and finite bounds"
            problems.append(problem("action space", "a bounded Box of floats", action_space, fix))
    elif not isinstance(action_space, spaces.Discrete):
        fix = "wrap the environment in a gymnasium.ActionWrapper that offers one Discrete choice"
        problems.append(problem("action space", "Discrete or Box", action_space, fix))
    problems += _obs_problems(obs_space, "observation space")
    if isinstance(obs_space, spaces.Dict) and isinstance(action_space, spaces.Discrete):
        mask = obs_space.spaces.get(MASK)
        if mask is not None and mask.shape != (int(action_space.n),):
            wanted = f"one 0 or 1 for each of {action_space.n} actions"
            fix = f"make it MultiBinary({action_space.n}), or call it otherwise"
            problems.append(problem(f"observation space[{MASK!r}]", wanted, mask, fix))
    return problems


def _obs_problems(space: object, where: str) -> list[str]:
    if parts := parts_of(space):
        return [text for key, part in parts for text in _obs_problems(part, f"{where}[{key!r}]")]
    if isinstance(space, spaces.Box):
        if space.dtype.kind in "fiub":
            return []
        fix = "give the Box a float, integer or bool dtype"
        return [problem(where, "a Box of real numbers", space, fix)]
    if isinstance(space, spaces.Discrete | spaces.MultiBinary):
        return []
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return []
    fix = "wrap the environment in a gymnasium.ObservationWrapper that makes one array of it"
    if isinstance(space, spaces.Space) and space.is_np_flattenable:
        fix = "make one array of it: --wrapper FlattenObservation, of gymnasium.wrappers"
    return [problem(where, _KINDS, space, fix)]


def parts_of(space: object) -> list[tuple[Any, Any]]:
    """Returns the keys and parts of a Dict or Tuple; nothing of another space."""
    if isinstance(space, spaces.Dict):
        return sorted(space.spaces.items())
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else []


def name_of(key: Any) -> str:
    """Returns what the learner calls a part; Keras wants no slash in a name."""
    return str(key).replace("/", "_")


def learner_spec(
    obs_space: object, action_space: object, max_episode_steps: int | None, masked: bool = False
) -> EnvSpec:
    """Returns what the learner sees of two spaces, counted from 0.

    Args:
        obs_space: of Gymnasium.
        action_space: likewise.
        max_episode_steps: the time limit, if there is one.
        masked: whether the environment tells beside the observation which actions are valid.

    Raises:
        ValueError: a space that rlzoo does not work with.
    """
    if problems := space_problems(obs_space, action_space):
        raise ValueError(" ".join(problems))
    obs = learner_space(obs_space)
    if isinstance(action_space, spaces.Box):
        low, high = (as_tuple(bound) for bound in (action_space.low, action_space.high))
        return EnvSpec(obs, Box(tuple(action_space.shape), "float32", low, high), max_episode_steps)
    n = int(getattr(action_space, "n", 0))
    if isinstance(obs, dict) and MASK in obs:
        obs[MASK] = Mask(n)
    elif masked:
        obs = {**(obs if isinstance(obs, dict) else {BARE: obs}), MASK: Mask(n)}
    return EnvSpec(obs, Discrete(n), max_episode_steps)


def learner_space(space: Any) -> Space:
    """Returns what the learner sees of one observation space."""
    if parts := parts_of(space):
        return {name_of(key): learner_space(part) for key, part in parts}
    if isinstance(space, spaces.Box):
        dtype = np.dtype(space.dtype).name
        if dtype != "uint8":
            return Box(tuple(space.shape), dtype)
        return Box(tuple(space.shape), dtype, _one_bound(space.low), _one_bound(space.high))
    if isinstance(space, spaces.MultiBinary):
        return Box(tuple(space.shape), np.dtype(space.dtype).name)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscrete(tuple(map(int, space.nvec)))
    return Discrete(int(space.n))


def _one_bound(bound: np.ndarray) -> float | None:
    """Returns a bound that is the same everywhere as one number; else None."""
    return bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else None


def as_tuple(values: np.ndarray) -> tuple:
    """Returns an array as nested tuples of float32 values, which can be compared and hashed."""

    def nested(value):
        return tuple(map(nested, value)) if isinstance(value, list) else value

    return nested(values.astype(np.float32).tolist())


def reader(space: Any, leaf: Space, name: str = "obs") -> Callable[[Any], Any]:
    """Returns the function from what an environment shows to what the learner sees of it.

    It raises a `ValueError` for what the space does not hold: a shape, a key, a whole number out
    of range. Other values are not looked at.

    Args:
        space: of Gymnasium.
        leaf: the same as the learner sees it.
        name: of what is read, for messages.
    """
    if isinstance(leaf, dict):
        parts = [
            (key, reader(x, leaf[name_of(key)], f"{name}[{key!r}]")) for key, x in parts_of(space)
        ]
        named = isinstance(space, spaces.Dict)
        keys = {key for key, _ in parts}

        def read_parts(obs):
            right = obs.keys() == keys if named and isinstance(obs, dict) else not named
            if not right or (not named and (not isinstance(obs, tuple) or len(obs) != len(keys))):
                found = f"the parts {sorted(obs)}" if isinstance(obs, dict) else repr(obs)
                raise ValueError(f"{name} has {found}, its space says {sorted(keys)}")
            return {name_of(key): read(obs[key]) for key, read in parts}

        return read_parts
    if isinstance(leaf, Discrete):
        first, n = int(space.start), int(space.n)

        def read_discrete(obs):
            state = operator.index(obs) - first  # int() would take 2.7 and "2"
            if not 0 <= state < n:
                raise ValueError(f"{name} {obs!r} is not in its space {space}")
            return state

        return read_discrete
    shape = space.shape
    if isinstance(leaf, MultiDiscrete):

        def read_multi_discrete(obs):
            state = np.asarray(obs) - space.start
            if state.shape != shape or state.dtype.kind not in "iu":
                raise ValueError(f"{name} {obs!r} is not in its space {space}")
            if (state < 0).any() or (state >= space.nvec).any():
                raise ValueError(f"{name} {obs!r} is not in its space {space}")
            return state

        return read_multi_discrete

    def read_box(obs):
        if np.shape(obs) != shape:
            raise ValueError(f"{name} has shape {np.shape(obs)}, its space says {shape}")
        return obs

    return read_box


def in_float32(obs: np.ndarray) -> np.ndarray:
    """Tells for each number of an array of floats whether float32, as networks see it, has it."""
    if obs.dtype.itemsize <= 4:
        return np.isfinite(obs)
    return np.abs(obs) <= _MAX_FLOAT32  # not where it is NaN


def warn_if_inexact(obs_space: object) -> None:
    """Warns where a network, which computes in float32, cannot hold the integers observed."""
    for _, part in parts_of(obs_space):
        warn_if_inexact(part)
    if not isinstance(obs_space, spaces.Box) or obs_space.dtype.kind not in "iu":
        return
    reach = max(abs(int(obs_space.low.min())), abs(int(obs_space.high.max())))
    if reach > _FLOAT32_EXACT:
        warnings.warn(
            f"observations may reach {reach}, but float32, in which networks compute, holds "
            f"integers exactly only up to {_FLOAT32_EXACT}: scale them, or narrow {obs_space}",
            stacklevel=3,
        )
