"""What is given to environments, checked: actions, masks and states."""

from typing import Any

import numpy as np

from rlzoo.spaces import Box, Discrete


def checked_actions(action: Any, space: Box | Discrete, num_envs: int) -> list[Any]:
    """Returns actions as lists of numbers; refuses those of another shape, type or range."""
    if isinstance(space, Box):
        return _checked_box_actions(action, space, num_envs)
    actions = np.asarray(action)
    if actions.shape != (num_envs,) or actions.dtype.kind not in "iu":
        raise ValueError(
            f"actions must be {num_envs} integers, shape ({num_envs},), "
            f"got shape {actions.shape} of {actions.dtype}"
        )
    listed = actions.tolist()
    n = space.n
    for value in listed:
        if not 0 <= value < n:
            raise ValueError(f"actions must be 0 to {n - 1}, got {value} in {listed}")
    return listed


def _checked_box_actions(action: Any, box: Box, num_envs: int) -> list[Any]:
    actions, shape = np.asarray(action), (num_envs, *box.shape)
    if actions.shape != shape or actions.dtype.kind not in "iuf":
        raise ValueError(
            f"actions must be numbers of shape {shape}, got shape {actions.shape} of "
            f"{actions.dtype}"
        )
    low, high = np.asarray(box.low, np.float32), np.asarray(box.high, np.float32)
    actions = actions.astype(np.float32)
    if not ((low <= actions) & (actions <= high)).all():
        raise ValueError(f"actions must be within {box.low} and {box.high}, got {actions.tolist()}")
    return actions.tolist()


def checked_mask(mask: Any, name: str, num_envs: int) -> np.ndarray:
    """Returns a mask [N] of environments; refuses anything else."""
    found = np.asarray(mask)
    if found.shape != (num_envs,) or found.dtype != bool:
        raise ValueError(
            f"{name} must be {num_envs} bools, got shape {found.shape} of {found.dtype}"
        )
    return found


def checked_state(
    state: dict[str, Any], space: Box | Discrete, num_envs: int
) -> tuple[list[int], list[int], list[list[Any]], list[bool]]:
    """Returns episode, lifetime, actions and whether it was dropped, of each environment."""
    try:
        episode = [int(index) for index in state["episode"]]
        lifetime = [int(steps) for steps in state.get("lifetime", [0] * len(episode))]
        actions = [[_checked_action(action, space) for action in row] for row in state["actions"]]
        retired = [bool(value) for value in state.get("retired", [False] * len(episode))]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a state of environments: {error!r}") from error
    lengths = {len(part) for part in (episode, lifetime, actions, retired)}
    if lengths != {num_envs}:
        raise ValueError(f"the state is of {len(episode)} environments, but there are {num_envs}")
    if min(episode) < -1 or min(lifetime) < 0:
        raise ValueError("not a state of these environments: episode or lifetime out of range")
    if all(retired):
        raise ValueError("in this state every environment has failed and was dropped")
    return episode, lifetime, actions, retired


def _checked_action(action: Any, box: Box | Discrete) -> Any:
    """Returns one action of a state, as `_log` holds it."""
    if not isinstance(box, Box):
        found = int(action)
        if not 0 <= found < box.n:
            raise ValueError(f"action {found} out of range")
        return found
    values = np.array(action, np.float32)
    if values.shape != box.shape or not np.isfinite(values).all():
        raise ValueError(f"action {action} out of range")
    return values.tolist()
