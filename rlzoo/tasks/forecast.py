"""Forecast: say how a time series goes on, from a CSV file or the embedded chaotic one."""

import dataclasses
import math

import keras
import numpy as np

from rlzoo import data, networks
from rlzoo.spaces import Box
from rlzoo.tasks.base import COUNT, Examples, Problem, check_ranges, chronological, windows

_FARTHEST = 1e15  # its square is no trouble to float32


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Predict a time series some steps ahead, from a window of its last values.

    The series is a column of a CSV file or, by default, that of Mackey & Glass (1977), which is
    chaotic. The first 80 % train, the next 10 % validate, the last 10 % test, and no window
    reaches from one part into another. Values are standardised by the mean and the deviation of
    the training part, and so is the loss; `test_rmse` is in the series' own units. `test_skill`
    is 1 - error / error of persistence (the last value seen, again), both squared: 1 is perfect,
    0 is no better.
    """

    torso: dict = dataclasses.field(default_factory=lambda: {"name": "gru"})
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 3e-3
    patience: int = 10
    data: str = ""  # a CSV file whose first line names the columns
    column: str | int = 0  # of the file, a name or a number from 0
    values: int = 5_000  # of the embedded series, one for each unit of time
    length: int = 32  # values seen, >= 1
    horizon: int = 1  # steps from the last value seen to the one predicted, >= 1
    examples: int = 20_000  # windows of each part at most, evenly spread

    def __post_init__(self):
        check_ranges(
            self, values=(10, 10**7), length=(1, 10**5), horizon=(1, 10**5), examples=COUNT
        )

    def problem(self, seed: int) -> Problem:
        """Returns windows [length, 1] float32 and values [1] float32, both standardised."""
        if self.data:
            series = data.load_column(self.data, str(self.column))
        else:
            series = data.mackey_glass(self.values, seed)
        first, *_ = chronological(series)
        with np.errstate(all="ignore"):
            mean, deviation = first.mean(), first.std() if np.ptp(first) else 0.0
            scaled = (series - mean) / deviation
        if not (deviation < math.inf and np.abs(scaled).max() < _FARTHEST):
            raise ValueError(
                f"{self.data}, column {self.column!r}: expected values that differ from each other "
                f"and lie within {_FARTHEST:g} standard deviations; the first 80 % have a mean of "
                f"{mean:g} and a standard deviation of {deviation:g}."
            )
        parts = []
        for part in chronological(scaled.astype(np.float32)):
            cut = windows(part, self.length + self.horizon, 1, self.examples)
            parts.append(Examples({"obs": cut[:, : self.length, None]}, cut[:, -1:]))
        return Problem(
            obs=Box((self.length, 1)),
            train=parts[0],
            validation=parts[1],
            test=parts[2],
            head=lambda seed: networks.linear(1, 1.0, seed),
            loss=keras.losses.MeanSquaredError(),
            sequence=True,
            figures=lambda outputs, test: _figures(outputs, test, float(deviation)),
        )


def _figures(outputs: np.ndarray, test: Examples, deviation: float) -> dict[str, float]:
    """Returns the errors in the series' own units, and the skill."""
    error = float(np.mean(np.square(outputs - test.targets, dtype=np.float64)))
    last = test.inputs["obs"][:, -1]  # [n, 1]
    persistence = float(np.mean(np.square(last - test.targets, dtype=np.float64)))
    return {
        "rmse": deviation * math.sqrt(error),
        "rmse_persistence": deviation * math.sqrt(persistence),
        "skill": 1.0 - error / persistence if persistence else math.nan,
    }
