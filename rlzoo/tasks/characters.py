"""Characters: say which character of a text comes next, at every one of it."""

import dataclasses
import math

import keras
import numpy as np

from rlzoo import data, networks
from rlzoo.spaces import Discrete
from rlzoo.tasks.base import COUNT, Examples, Problem, check_ranges, chronological, windows

_MOST = 256  # characters with a number of their own
UNKNOWN = "unknown"  # the name of all others together, the last number


@dataclasses.dataclass(frozen=True)
class Characters:
    """Predict the next character of a text, at every step.

    The first 80 % of the text train, the next 10 % validate, the last 10 % test. The training
    part's characters, the 256 most frequent at most, are numbered in their order in Unicode; any
    other one is unknown. `test_bits_per_character` is the cross-entropy to base 2. Each window
    starts with an empty memory, so its first characters are the hardest to tell.
    """

    torso: dict = dataclasses.field(default_factory=lambda: {"name": "lstm", "units": 128})
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-3
    patience: int = 3
    data: str = ""  # a UTF-8 text file; by default the language reference of Python
    length: int = 64  # characters in a window, >= 1
    examples: int = 10_000  # windows to learn from at most, evenly spread; of others a quarter

    def __post_init__(self):
        check_ranges(self, length=(1, 10**5), examples=COUNT)

    def problem(self, seed: int) -> Problem:
        """Returns characters [length] int64 and the ones after them [length] int64.

        The seed decides where the windows of the training part begin.
        """
        text = data.load_text(self.data) if self.data else data.embedded_text()
        characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        first, *others = chronological(characters)
        found, counts = np.unique(first, return_counts=True)
        known = np.sort(found[np.argsort(-counts, kind="stable")[:_MOST]])
        start = np.random.default_rng(seed).integers(self.length)
        start = min(start, max(0, len(first) - self.length - 1))
        size, fewer = self.length + 1, max(1, self.examples // 4)
        cuts = [windows(first[start:], size, self.length, self.examples)]
        cuts += [windows(part, size, self.length, fewer) for part in others]
        numbers = [_numbers(cut, known) for cut in cuts]
        train, validation, test = (Examples({"obs": n[:, :-1]}, n[:, 1:]) for n in numbers)
        classes = (*map(chr, known), UNKNOWN)
        return Problem(
            obs=Discrete(len(classes), (self.length,)),
            train=train,
            validation=validation,
            test=test,
            head=lambda seed: networks.linear(len(classes), 1.0, seed),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=("accuracy",),
            sequence=True,
            per_step=True,
            classes=classes,
            figures=_figures,
        )


def _numbers(characters: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the place of each character in `known`, sorted, or its length; same shape, int64."""
    place = np.searchsorted(known, characters)
    found = known[np.minimum(place, len(known) - 1)] == characters
    return np.where(found, place, len(known)).astype(np.int64)


def _figures(outputs: np.ndarray, test: Examples) -> dict[str, float]:
    """Returns the cross-entropy in bits."""
    logits = outputs - outputs.max(-1, keepdims=True)  # [n, length, classes]
    chosen = np.take_along_axis(logits, test.targets[..., None], -1)[..., 0]
    nats = np.log(np.exp(logits).sum(-1)) - chosen
    return {"bits_per_character": float(nats.mean(dtype=np.float64)) / math.log(2.0)}
