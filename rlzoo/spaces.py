"""The spaces that observations and actions are from, as a learner sees them: code matches on types.

An observation is from a leaf (`Discrete`, `Box`, `MultiDiscrete`, `Mask`) or from a dict of spaces,
nested at will; arrays and tensors of observations are nested in the same way. All counts from 0.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

MASK = "action_mask"  # where a `Mask` stands among the parts of an observation
BARE = "obs"  # where an observation without parts stands beside its mask


class Discrete(NamedTuple):
    """Whole numbers from 0 to n - 1: one, or an array of them."""

    n: int
    shape: tuple[int, ...] = ()

    @property
    def dtype(self) -> str:
        """The NumPy name of the dtype."""
        return "int64"


class Box(NamedTuple):
    """Arrays of real numbers.

    The bounds of actions are nested as an action is; of observations, those of bytes are told, one
    number where it is the same everywhere. None says nothing.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | tuple | None = None
    high: float | tuple | None = None

    @property
    def pixels(self) -> bool:
        """Whether its bytes stand for 0..255, which networks see as 0..1."""
        return self.dtype == "uint8" and self.high == 255


class MultiDiscrete(NamedTuple):
    """Several whole numbers, the i-th from 0 to nvec[i] - 1."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array of them."""
        return (len(self.nvec),)

    @property
    def dtype(self) -> str:
        """The NumPy name of the dtype."""
        return "int64"


class Mask(NamedTuple):
    """Which of n Discrete actions are valid now; where none is, all count as valid."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array of them."""
        return (self.n,)

    @property
    def dtype(self) -> str:
        """The NumPy name of the dtype."""
        return "bool"


Leaf: TypeAlias = Discrete | Box | MultiDiscrete | Mask
Space: TypeAlias = Discrete | Box | MultiDiscrete | Mask | dict[str, "Space"]
_LEAVES = {kind.__name__: kind for kind in (Discrete, Box, MultiDiscrete, Mask)}


@dataclasses.dataclass(frozen=True)
class Normalization:
    """What an agent normalises, by all that it has seen so far: `normalize` in a configuration."""

    obs: bool = False  # numbers in observations to mean 0 and deviation 1; no one-hot, no pixels
    reward: bool = False  # what is learned from: rewards by the deviation of discounted sums


class EnvSpec(NamedTuple):
    """What an agent needs to know of an environment, after mapping at the boundary."""

    obs: Space
    action: Discrete | Box
    max_episode_steps: int | None  # the time limit, None if there is none
    normalize: Normalization = Normalization()  # what the agent makes of it
    frames: int = 1  # observations that networks see at once, the last of an episode

    @property
    def seen(self) -> Space:
        """The space of what networks see: of stacks where `frames` is more than 1."""
        if self.frames == 1:
            return self.obs
        return map_leaves(lambda leaf: _stacked(leaf, self.frames), self.obs)

    @property
    def num_actions(self) -> int:
        """The number of Discrete actions.

        Raises:
            ValueError: actions are of another kind.
        """
        if isinstance(self.action, Discrete):
            return self.action.n
        raise ValueError(f"num_actions: expected Discrete actions, received {self.action}.")

    def plain(self) -> dict[str, Any]:
        """Returns what the environment has decided of it, as JSON has it."""
        spaces = {"obs": plain(self.obs), "action": plain(self.action)}
        return {**spaces, "max_episode_steps": self.max_episode_steps}

    @property
    def action_dtype(self) -> str:
        """The dtype of actions as the learner sees them."""
        return "int32" if isinstance(self.action, Discrete) else "float32"


def _stacked(leaf: Leaf, count: int) -> Leaf:
    """Returns the space of so many arrays, the oldest first; whole numbers lie in a row."""
    if isinstance(leaf, Mask):
        return leaf
    if isinstance(leaf, Box):
        return leaf._replace(shape=(count, *leaf.shape))
    one = leaf.nvec if isinstance(leaf, MultiDiscrete) else (leaf.n,) * math.prod(leaf.shape)
    return MultiDiscrete(one * count)


def leaves(tree: Any) -> list[Any]:
    """Returns the leaves of nested dicts, in the order of their sorted keys."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    return [tree]


def items(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the path ("camera/front") and the value of each leaf; "" is the path of a bare one."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key in sorted(tree):
        yield from items(tree[key], f"{path}/{key}" if path else key)


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Returns what a function makes of each leaf, and those of the others at its place."""
    if isinstance(tree, dict):
        return {
            key: map_leaves(function, tree[key], *(other[key] for other in others))
            for key in sorted(tree)
        }
    return function(tree, *others)


def filled(tree: Any, values: Iterable[Any]) -> Any:
    """Returns nested dicts like `tree`, with these leaves in their place."""
    rest = iter(values)
    return map_leaves(lambda _: next(rest), tree)


def write_row(rows: Any, index: int, values: Any) -> None:
    """Writes one observation into arrays of many, leaf by leaf."""
    if isinstance(rows, dict):
        for key, part in rows.items():
            write_row(part, index, values[key])
    else:
        rows[index] = values


def copy_row(rows: Any, others: Any, index: int) -> None:
    """Copies one observation from arrays of many to others, leaf by leaf."""
    for ours, theirs in zip(leaves(rows), leaves(others), strict=True):
        ours[index] = theirs[index]


class Layout:
    """Where nested arrays lie in one array of bytes, each from a multiple of 8 on.

    Args:
        fields: the shape and dtype of each array, as a pair.
    """

    def __init__(self, fields: Any):
        self.num_bytes = 0
        self.parts = map_leaves(self._place, fields)  # of (start, end, shape, dtype)

    def _place(self, field: tuple[tuple[int, ...], Any]) -> tuple[int, int, tuple, np.dtype]:
        shape, dtype = field[0], np.dtype(field[1])
        start = self.num_bytes
        end = start + math.prod(shape) * dtype.itemsize
        self.num_bytes = -(-end // 8) * 8
        return start, end, shape, dtype

    def views(self, data: np.ndarray) -> Any:
        """Returns the arrays as views of `num_bytes` uint8."""
        return map_leaves(lambda x: data[x[0] : x[1]].view(x[3]).reshape(x[2]), self.parts)


def unmasked(tree: Any) -> Any:
    """Returns what is observed beside the mask; the only part of a dict for the dict."""
    if not isinstance(tree, dict):
        return tree
    parts = {key: part for key, part in tree.items() if key != MASK}
    return unmasked(next(iter(parts.values()))) if len(parts) == 1 else parts


def leaf_of(space: Space) -> Leaf:
    """Returns the one part that a space has beside a mask.

    Raises:
        ValueError: it has several.
    """
    found = unmasked(space)
    if isinstance(found, dict):
        raise ValueError(
            f"Expected observations that are one array, received the parts {sorted(found)}. Make "
            "one array of them: --wrapper FlattenObservation, of gymnasium.wrappers."
        )
    return found


def numbers(space: Space) -> dict[str, Box]:
    """Returns the parts that are numbers, by their paths: no one-hot, no pixels, no flags."""
    return {
        path: leaf
        for path, leaf in items(unmasked(space))
        if isinstance(leaf, Box) and not leaf.pixels and leaf.dtype != "bool"
    }


def mask_of(tree: Any) -> Any:
    """Returns the mask in an observation, None if it has none."""
    return tree.get(MASK) if isinstance(tree, dict) else None


def describe(space: Space) -> str:
    """Returns in words what a torso sees of a space; equal for what it cannot tell apart."""
    space = unmasked(space)
    if isinstance(space, dict):
        return f"{{{', '.join(f'{path}: {describe(leaf)}' for path, leaf in items(space))}}}"
    if isinstance(space, Discrete):
        return f"Discrete({space.n}){list(space.shape) or ''}"
    if isinstance(space, MultiDiscrete):
        return f"MultiDiscrete({list(space.nvec)})"
    kind = "pixels" if isinstance(space, Box) and space.pixels else "numbers"
    return f"{kind} {list(space.shape)}"


def plain(space: Space) -> dict[str, Any]:
    """Returns a space as JSON has it; `read_space` reads it."""
    if isinstance(space, dict):
        return {"Dict": {key: plain(part) for key, part in space.items()}}
    return {type(space).__name__: {k: _lists(v) for k, v in space._asdict().items()}}


def read_space(values: Any, most: int = 2**26) -> Space:
    """Returns the space that `plain` wrote.

    Args:
        values: from a file: all is checked.
        most: numbers in an observation.

    Raises:
        ValueError: it is none.
    """
    space = _read_space(values, 0)
    numbers = [num_inputs(leaf) for leaf in leaves(space)]
    if not all(numbers) or sum(numbers) > most:
        raise ValueError(f"expected a space of 1 to {most} numbers, received one of {sum(numbers)}")
    return space


def num_inputs(leaf: Leaf) -> int:
    """Returns how many numbers a network sees of a leaf, where whole numbers are one-hot."""
    if isinstance(leaf, Discrete):
        return math.prod(leaf.shape) * leaf.n
    return sum(leaf.nvec) if isinstance(leaf, MultiDiscrete) else math.prod(leaf.shape)


def _read_space(values: Any, depth: int) -> Space:
    if not isinstance(values, dict) or len(values) != 1 or depth > 8:
        raise ValueError("expected a mapping of one kind of space to what it is made of")
    [(kind, parts)] = values.items()
    if not isinstance(parts, dict):
        raise ValueError(f"{kind}: expected a mapping")
    if kind == "Dict" and parts:
        return {key: _read_space(part, depth + 1) for key, part in parts.items()}
    if kind not in _LEAVES or parts.keys() != set(_LEAVES[kind]._fields):
        raise ValueError(f"{kind}: expected one of Dict, {', '.join(_LEAVES)}, with all its parts")
    lists = [parts[key] for key in ("nvec", "shape") if key in parts]
    if not all(isinstance(x, list) and len(x) <= 1024 for x in lists):
        raise ValueError(f"{kind}: expected lists, received {str(parts)[:200]}")
    counts = [n for x in lists for n in x] + [parts.get("n", 1)]
    if not all(type(n) is int and n > 0 for n in counts):
        raise ValueError(
            f"{kind}: expected whole numbers of at least 1, received {str(parts)[:200]}"
        )
    leaf = _LEAVES[kind](**{key: _tuples(value) for key, value in parts.items()})
    if isinstance(leaf, Box):
        bounds = (*_numbers(leaf.low), *_numbers(leaf.high))
        known = isinstance(leaf.dtype, str) and leaf.dtype in _DTYPES
        if not known or not all(map(_is_bound, bounds)):
            raise ValueError(f"{kind}: expected a dtype and bounds, received {str(parts)[:200]}")
    return leaf


_DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def _is_bound(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


def _numbers(value: Any) -> list[Any]:
    return [x for part in value for x in _numbers(part)] if isinstance(value, tuple) else [value]


def _lists(value: Any) -> Any:
    return [_lists(x) for x in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(x) for x in value) if isinstance(value, list) else value
