"""Adding: sum two marked numbers that lie far apart in a long sequence."""

import dataclasses

import keras
import numpy as np

from rlzoo import networks
from rlzoo.spaces import Box
from rlzoo.tasks.base import COUNT, Problem, check_ranges, split


@dataclasses.dataclass(frozen=True)
class Adding:
    """Sum the two marked numbers of a long sequence (Hochreiter & Schmidhuber 1997).

    Each step is a number, uniform in [0, 1), and a marker, 1 at two places and 0 elsewhere: one
    place is uniform in the first half, the other in the second, as in Arjovsky et al. 2016
    (arXiv:1511.06464). The paper draws numbers from [-1, 1], marks one of the first ten and one
    of the first half, and has an error of its own instead of the plain sum. Answering 1 always
    has a mean squared error of 1/6.
    """

    # A memory that lasts as long as the sequences, from the start: without `chrono` it takes the
    # LSTM too long to find out that there is something to remember.
    torso: dict = dataclasses.field(default_factory=lambda: {"name": "lstm", "chrono": 200})
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-2
    patience: int = 10
    length: int = 200  # steps, >= 2
    examples: int = 12_800  # sequences to learn from; a quarter as many validate, and test

    def __post_init__(self):
        check_ranges(self, length=(2, 10**5), examples=COUNT)

    def problem(self, seed: int) -> Problem:
        """Returns sequences [length, 2] float32 and sums [1] float32."""
        other = max(1, self.examples // 4)
        n = self.examples + 2 * other
        rng = np.random.default_rng(seed)
        half = self.length // 2
        places = np.stack([rng.integers(half, size=n), rng.integers(half, self.length, size=n)])
        obs = np.zeros((n, self.length, 2), np.float32)
        obs[:, :, 0] = rng.random((n, self.length), np.float32)
        obs[np.arange(n), places, 1] = 1.0
        sums = obs[np.arange(n), places, 0].sum(0)[:, None]  # [n, 1]
        train, validation, test = split({"obs": obs}, sums, self.examples, other, other)
        return Problem(
            obs=Box(obs.shape[1:]),
            train=train,
            validation=validation,
            test=test,
            head=lambda seed: networks.linear(1, 1.0, seed),
            loss=keras.losses.MeanSquaredError(),
            sequence=True,
        )
