"""Which spaces rlzoo works with, and what the learner sees of them."""

import warnings

import numpy as np
from gymnasium import spaces

from rlzoo.types import ActionBox, EnvSpec

_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_FLOAT32_EXACT = 2**24  # float32 holds every integer up to here


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
    if isinstance(obs_space, spaces.Box):
        if obs_space.dtype.kind not in "fiub":
            fix = "give the Box a float, integer or bool dtype"
            problems.append(problem("observation space", "a Box of real numbers", obs_space, fix))
    elif not isinstance(obs_space, spaces.Discrete):
        fix = "wrap the environment in a gymnasium.ObservationWrapper that makes one array of it"
        if isinstance(obs_space, spaces.Space) and obs_space.is_np_flattenable:
            fix = "make one array of it: --wrapper FlattenObservation, of gymnasium.wrappers"
        if isinstance(obs_space, spaces.Dict) and "action_mask" in obs_space.spaces:
            fix += ", without action_mask, which rlzoo does not use yet"
        problems.append(problem("observation space", "Box or Discrete", obs_space, fix))
    return problems


def learner_spec(obs_space: object, action_space: object, max_episode_steps: int | None) -> EnvSpec:
    """Returns what the learner sees of two spaces, counted from 0.

    Raises:
        ValueError: a space that rlzoo does not work with.
    """
    if problems := space_problems(obs_space, action_space):
        raise ValueError(" ".join(problems))
    num_actions = int(getattr(action_space, "n", 0))
    box = None
    if isinstance(action_space, spaces.Box):
        low, high = (as_tuple(bound) for bound in (action_space.low, action_space.high))
        box = ActionBox(tuple(action_space.shape), low, high)
    if isinstance(obs_space, spaces.Box):
        dtype = np.dtype(obs_space.dtype).name
        pixels = dtype == "uint8" and bool((obs_space.high == 255).all())
        shape = tuple(obs_space.shape)
        return EnvSpec(shape, dtype, None, num_actions, max_episode_steps, box, pixels)
    num_states = int(getattr(obs_space, "n", 0))
    return EnvSpec((), "int64", num_states, num_actions, max_episode_steps, box)


def as_tuple(values: np.ndarray) -> tuple:
    """Returns an array as nested tuples of float32 values, which can be compared and hashed."""

    def nested(value):
        return tuple(map(nested, value)) if isinstance(value, list) else value

    return nested(values.astype(np.float32).tolist())


def in_float32(obs: np.ndarray) -> np.ndarray:
    """Tells for each number of an array of floats whether float32, as networks see it, has it."""
    if obs.dtype.itemsize <= 4:
        return np.isfinite(obs)
    return np.abs(obs) <= _MAX_FLOAT32  # not where it is NaN


def warn_if_inexact(obs_space: object) -> None:
    """Warns where a network, which computes in float32, cannot hold the integers observed."""
    if not isinstance(obs_space, spaces.Box) or obs_space.dtype.kind not in "iu":
        return
    reach = max(abs(int(obs_space.low.min())), abs(int(obs_space.high.max())))
    if reach > _FLOAT32_EXACT:
        warnings.warn(
            f"observations may reach {reach}, but float32, in which networks compute, holds "
            f"integers exactly only up to {_FLOAT32_EXACT}: scale them, or narrow {obs_space}",
            stacklevel=3,
        )
