"""What a supervised task is: settings that make a problem, which a torso learns with labels."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from rlzoo.spaces import Leaf

COUNT = (1, math.inf)  # ranges of settings
POSITIVE = (1e-12, math.inf)


class Examples(NamedTuple):
    """Inputs and what a network should answer to them, n of each."""

    inputs: dict[str, np.ndarray]  # "obs" [n, ...], and whatever else the head takes
    targets: np.ndarray  # [n, ...]


class Problem(NamedTuple):
    """A task's data, and what turns a torso's features into its answer."""

    obs: Leaf  # of one whole input, a sequence if it is one
    train: Examples
    validation: Examples  # chooses the best epoch
    test: Examples  # takes part in nothing; a second one, no part of the first
    head: Callable[[int], keras.Layer]  # from a seed; of features, or of [features, *other inputs]
    loss: Any  # a Keras loss
    metrics: tuple[str, ...] = ()  # as Keras names them, shown beside the loss
    sequence: bool = False  # the first axis of an input is time: a recurrent torso may walk it
    per_step: bool = False  # a target for every step: only a recurrent torso will do
    classes: tuple[str, ...] = ()  # names of the classes that outputs are logits of
    augment: Callable[[], keras.Layer] | None = None  # of training inputs; makes the layer
    figures: Callable[[np.ndarray, Examples], dict[str, float]] | None = None  # from outputs


class Task(Protocol):
    """The contract of a task: a frozen dataclass of its settings. Nothing is inherited.

    Its first line of documentation is what `rlzoo list tasks` shows.
    """

    torso: dict  # a name in TORSOS, and its settings
    epochs: int  # at most, >= 1
    batch_size: int  # examples per gradient step, >= 1
    learning_rate: float  # of Adam at first, > 0; it falls to 0 along a cosine
    patience: int  # epochs, all worse than the best, after which training ends; >= 1

    def problem(self, seed: int) -> Problem:
        """Returns the data, checked and split, and the rest of the problem.

        Raises:
            ValueError: the data cannot be used, and why.
        """
        ...


def split(inputs: dict[str, np.ndarray], targets: np.ndarray, *sizes: int) -> list[Examples]:
    """Returns consecutive parts of `sizes` examples each."""
    ends = np.cumsum(sizes)
    starts = ends - np.array(sizes)
    return [
        Examples({name: x[a:b] for name, x in inputs.items()}, targets[a:b])
        for a, b in zip(starts, ends, strict=True)
    ]


def chronological(series: np.ndarray) -> list[np.ndarray]:
    """Returns the first 80 % of a series to learn from, the next 10 % to validate, the rest."""
    return np.split(series, [len(series) * 8 // 10, len(series) * 9 // 10])


def windows(series: np.ndarray, size: int, step: int, most: int) -> np.ndarray:
    """Returns windows [n, size] of a series [length].

    Args:
        series: [length], at least `size`.
        size: of a window.
        step: between the starts of two windows.
        most: windows that are wanted at most; of more, every second is taken, or every third ...

    Raises:
        ValueError: the series has no room for a window.
    """
    if len(series) < size:
        raise ValueError(
            f"The data are too short: a tenth of them, {len(series):,} in a row, validates and a "
            f"tenth tests; expected at least {size:,} in each. Give more, or use shorter windows."
        )
    found = np.lib.stride_tricks.sliding_window_view(series, size)[::step]
    return found[:: math.ceil(len(found) / most)]


def check_ranges(task: Any, **ranges: tuple[float, float]) -> None:
    """Raises a `ValueError` for the first setting of a task that is out of its range."""
    shared = {"epochs": COUNT, "batch_size": COUNT, "learning_rate": POSITIVE, "patience": COUNT}
    for name, (low, high) in {**shared, **ranges}.items():
        value = getattr(task, name)
        if not low <= value <= high:
            limits = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
            raise ValueError(f"{name}: expected {limits}, received {value}.")
