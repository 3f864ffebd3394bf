"""What a checkpoint says beside its arrays. It is data from a file: all is checked before use."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from rlzoo.config.values import fill
from rlzoo.spaces import Space, read_space
from rlzoo.storage import manifest
from rlzoo.text import short

_MOST = 10**15  # steps, epochs, rows: more than any run will have

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a training run stood: `loop` in the meta of its checkpoint."""

    step: int  # environment steps
    seconds: float  # of training
    best: float | None  # mean return of the best evaluation
    evaluated: int | None = None  # step of the last evaluation
    solved_at: int | None = None  # the step whose evaluation reached `until_return`
    lifetime_steps: tuple[int, ...] = ()  # the age of environments that change over their life
    means: dict = dataclasses.field(default_factory=dict)  # tag -> (sum, weight), not yet logged
    envs: dict = dataclasses.field(default_factory=dict)  # of the host loop
    pending: tuple[float, ...] = ()  # of the graph loop

    def __post_init__(self):
        """Checks ranges."""
        _check_range("loop.step", self.step)
        _check_range("loop.seconds", self.seconds)
        if self.evaluated is not None:
            _check_range("loop.evaluated", self.evaluated, self.step)
        if self.solved_at is not None:
            _check_range("loop.solved_at", self.solved_at, self.step)
        for age in self.lifetime_steps:
            _check_range("loop.lifetime_steps", age)
        for tag, pair in self.means.items():
            fill(_Mean, _pair(f"loop.means.{tag}", pair), f"loop.means.{tag}.")
        if "lengths" in self.envs:
            lengths = fill(_Lengths, {"lengths": self.envs["lengths"]}, "loop.envs.")["lengths"]
            for length in lengths:
                _check_range("loop.envs.lengths", length)
            object.__setattr__(self, "envs", {**self.envs, "lengths": list(lengths)})


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Where a pretraining run stood."""

    epoch: int
    best: tuple[float, int]  # validation error and epoch
    seconds: float

    def __post_init__(self):
        """Checks ranges."""
        _check_range("epoch", self.epoch)
        _check_range("seconds", self.seconds)
        _check_range("best", self.best[1], self.epoch)


@dataclasses.dataclass(frozen=True)
class LogState:
    """How long a run's files were, and the sums of episodes that no row told of yet."""

    files: dict
    window: tuple[int, float, float] = (0, 0.0, 0.0)

    def __post_init__(self):
        """Checks ranges."""
        for name, size in self.files.items():
            _check_range(f"log.files.{name}", size)
        _check_range("log.window", self.window[0])


class _Mean(NamedTuple):
    sum: float
    weight: float


class _Torso(NamedTuple):
    torso: dict


class _Classes(NamedTuple):
    classes: tuple[str, ...]


class _Lengths(NamedTuple):
    lengths: tuple[int, ...]


def read(record: type[Record], values: Any, where: str = "") -> Record:
    """Returns the record that a mapping of a checkpoint's meta describes.

    Raises:
        ValueError: a name, a type or a range is not what rlzoo writes.
    """
    try:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where or 'meta'}: expected a mapping, received {short(values)}.")
        return record(**fill(record, values, f"{where}." if where else ""))
    except ValueError as error:
        raise ValueError(f"This checkpoint is not as rlzoo writes it: {error}") from None


def read_epochs(meta: Mapping[str, Any]) -> Epochs:
    """Returns where a pretraining run stood."""
    values = {name: meta[name] for name in ("epoch", "best", "seconds") if name in meta}
    return read(Epochs, values)


def obs_space(values: Any, where: str) -> Space:
    """Returns the space of a torso's inputs, from a checkpoint's meta."""
    try:
        return read_space(values)
    except ValueError as error:
        raise ValueError(f"This checkpoint is not as rlzoo writes it: {where}: {error}") from None


def frame_stack(config: Any) -> int:
    """Returns how many observations a run's networks see at once, from a checkpoint's meta."""
    found = config.get("frame_stack", 1) if isinstance(config, dict) else 1
    if type(found) is not int or not 1 <= found <= 64:
        raise ValueError(
            "This checkpoint is not as rlzoo writes it: config.frame_stack: expected 1 to 64, "
            f"received {short(found)}."
        )
    return found


def checked_torso(choice: Any) -> dict[str, Any]:
    """Returns the `{"name": ..., **parameters}` mapping of a torso, from a checkpoint's meta."""
    return fill(_Torso, {"torso": choice})["torso"]


def checked_classes(names: Any) -> list[str]:
    """Returns the names of the classes that a network tells apart, from a checkpoint's meta."""
    return list(fill(_Classes, {"classes": names})["classes"])


def warn_of_other_versions(written: Mapping[str, str]) -> None:
    """Says in one line which packages are not those that a checkpoint was written with."""
    here = manifest.versions()
    differing = [
        f"{name} {written.get(name, 'unknown')} then, {here.get(name, 'none')} now"
        for name in sorted({*here, *written})
        if written.get(name) != here.get(name)
    ]
    if differing:
        warnings.warn(
            f"This run was saved with other versions: {'; '.join(differing)}. What follows may "
            "differ from what it would have been.",
            stacklevel=2,
        )


def _pair(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name}: expected a sum and a weight, received {short(value)}.")
    return dict(zip(_Mean._fields, value, strict=True))


def _check_range(name: str, value: Any, most: int = _MOST) -> None:
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError(f"{name}: expected 0 to {most}, received {short(value)}.")
