"""Recall: say which symbol was seen k steps before, at the far end of a long wait."""

import dataclasses

import keras
import numpy as np

from rlzoo import networks
from rlzoo.spaces import Box
from rlzoo.tasks.base import COUNT, Problem, check_ranges, split


@dataclasses.dataclass(frozen=True)
class Recall:
    """Name the symbol seen k steps before (after Hochreiter & Schmidhuber 1997).

    A sequence looks like an episode of `rlzoo/Memory-v0`: the symbol, one-hot; `delay` blank
    steps; the signal to answer, in an entry of its own. Everything is blurred by a little noise, so
    that no two sequences are the same. Guessing is right once in `num_symbols`.
    """

    torso: dict = dataclasses.field(default_factory=lambda: {"name": "lstm"})
    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 3e-3
    patience: int = 10
    delay: int = 50  # blank steps, >= 0
    num_symbols: int = 8  # >= 2
    noise: float = 0.05  # standard deviation, >= 0
    examples: int = 6_400  # sequences to learn from; a quarter as many validate, and test

    def __post_init__(self):
        check_ranges(
            self, delay=(0, 10**5), num_symbols=(2, 10**4), noise=(0.0, 10.0), examples=COUNT
        )

    def problem(self, seed: int) -> Problem:
        """Returns sequences [delay + 2, num_symbols + 1] float32 and symbols."""
        other = max(1, self.examples // 4)
        n = self.examples + 2 * other
        rng = np.random.default_rng(seed)
        symbols = rng.integers(self.num_symbols, size=n)
        shape = (n, self.delay + 2, self.num_symbols + 1)
        obs = self.noise * rng.standard_normal(shape, np.float32)
        obs[np.arange(n), 0, symbols] += 1.0
        obs[:, -1, -1] += 1.0
        train, validation, test = split({"obs": obs}, symbols, self.examples, other, other)
        return Problem(
            obs=Box(obs.shape[1:]),
            train=train,
            validation=validation,
            test=test,
            head=lambda seed: networks.linear(self.num_symbols, 1.0, seed),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=("accuracy",),
            sequence=True,
            classes=tuple(map(str, range(self.num_symbols))),
        )
