"""Numbers that change with the environment step: exploration rates and the like."""

import dataclasses
import itertools
import numbers
from collections.abc import Callable

import tensorflow as tf

from rlzoo.tables import SCHEDULES as SCHEDULES


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float  # at every step

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the value as a float32 scalar."""
        return tf.constant(self.value, tf.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line over `steps`, then constant."""

    start: float  # value at step 0
    end: float  # value from step `steps` on
    steps: int  # environment steps, > 0

    def __post_init__(self):
        _check_positive("Linear", "steps", self.steps)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the value at `step` as a float32 scalar."""
        fraction = tf.minimum(tf.cast(step, tf.float32) / float(self.steps), 1.0)
        return _between(self.start, self.end, fraction)


@dataclasses.dataclass(frozen=True)
class Exponential:
    """From `start` towards `end`, the distance halved every `half_life` steps."""

    start: float  # value at step 0
    end: float  # value that it comes near
    half_life: float  # environment steps, > 0

    def __post_init__(self):
        _check_positive("Exponential", "half_life", self.half_life)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the value at `step` as a float32 scalar."""
        halvings = tf.cast(step, tf.float32) / float(self.half_life)
        return _between(self.end, self.start, tf.pow(2.0, -halvings))


@dataclasses.dataclass(frozen=True)
class Piecewise:
    """Straight lines between `values` at `boundaries`, constant outside them."""

    boundaries: tuple[int, ...]  # environment steps, increasing
    values: tuple[float, ...]  # at these steps, as many

    def __post_init__(self):
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        object.__setattr__(self, "values", tuple(self.values))
        increasing = all(low < high for low, high in itertools.pairwise(self.boundaries))
        if not self.boundaries or len(self.boundaries) != len(self.values) or not increasing:
            raise ValueError(
                "Piecewise expects as many values as boundaries, the boundaries increasing, "
                f"received boundaries={self.boundaries}, values={self.values}."
            )

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the value at `step` as a float32 scalar."""
        step = tf.cast(step, tf.float32)
        value = tf.constant(self.values[0], tf.float32)
        knots = list(zip(self.boundaries, self.values, strict=True))
        for (left, low), (right, high) in itertools.pairwise(knots):
            fraction = tf.clip_by_value((step - left) / (right - left), 0.0, 1.0)
            value = tf.where(step > left, _between(low, high, fraction), value)
        return value


Schedule = Constant | Linear | Exponential | Piecewise


def as_schedule(value) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns `value` itself if it is callable, else the constant schedule of a number."""
    return value if callable(value) else Constant(float(value))


def is_rate(value) -> bool:
    """Tells whether a value is a number or a schedule of one; a truth value is none."""
    return callable(value) or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def levels(value) -> tuple[float, ...]:
    """Returns the values that bound a number or one of our schedules; () for other callables."""
    if isinstance(value, (Linear, Exponential)):
        return (value.start, value.end)
    if isinstance(value, Piecewise):
        return value.values
    if isinstance(value, Constant):
        return (value.value,)
    return () if callable(value) else (value,)


def _between(one: float, other: float, fraction: tf.Tensor) -> tf.Tensor:
    """Returns the number that far from one to the other; no rounding leads out of their range."""
    return one * (1.0 - fraction) + other * fraction


def _check_positive(owner: str, field: str, value) -> None:
    if not value > 0:
        raise ValueError(f"{owner} expects {field} > 0, received {value}.")
