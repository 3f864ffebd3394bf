"""MNIST: which digit an image shows."""

import dataclasses

import keras
import numpy as np

from rlzoo import networks
from rlzoo.data.images import Images, download_digits, embedded_digits, load_digits
from rlzoo.spaces import Box
from rlzoo.tasks.base import Examples, Problem, check_ranges

_CLASSES = tuple("0123456789")
_VALIDATION = 10  # every tenth image of a class validates


@dataclasses.dataclass(frozen=True)
class MNIST:
    """Tell which digit an image shows (LeCun et al. 1998): a conv or dense torso, or row by row.

    The data are 5,000 of MNIST's images, 1,000 of them for the test, unless `data` names the whole
    set: a file `mnist.npz` as Keras stores it, or a folder with the four idx files.
    """

    torso: dict = dataclasses.field(
        default_factory=lambda: {
            "name": "conv",
            "variant": "small",
            "filters": (32, 64),
            "max_pool": True,
        }
    )
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-3
    patience: int = 40
    data: str = ""  # a file or folder with the whole set
    download: bool = False  # fetch the whole set through Keras
    augment: bool = True  # shift, turn and zoom training images a little, anew each time

    def __post_init__(self):
        check_ranges(self)
        if self.data and self.download:
            raise ValueError("data and download: expected one of them, received both.")

    def problem(self, seed: int) -> Problem:
        """Returns images [28, 28] uint8 and their classes."""
        if self.data:
            given, test = load_digits(self.data)
        else:
            given, test = download_digits() if self.download else embedded_digits()
        validates = _some_of_each(given.labels, seed)
        if validates.all():
            raise ValueError(
                f"{self.data}: a tenth of each digit's images validates, and of "
                f"{len(given.labels)} none are left to learn from. Give more."
            )
        return Problem(
            obs=Box((28, 28), "uint8", 0, 255),
            train=_examples(given, ~validates),
            validation=_examples(given, validates),
            test=Examples({"obs": test.images}, test.labels),
            head=lambda seed: networks.linear(len(_CLASSES), 1.0, seed),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=("accuracy",),
            sequence=True,
            classes=_CLASSES,
            augment=_augment if self.augment else None,
        )


def _examples(images: Images, chosen: np.ndarray) -> Examples:
    return Examples({"obs": images.images[chosen]}, images.labels[chosen])


def _some_of_each(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns [n] bool: a random tenth of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.zeros(len(labels), bool)
    for label in range(len(_CLASSES)):
        chosen[order[labels[order] == label][::_VALIDATION]] = True
    return chosen


def _augment() -> keras.Layer:
    fill = {"fill_mode": "constant", "fill_value": 0.0}
    return keras.Sequential(
        [
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.RandomTranslation(0.08, 0.08, **fill),
            keras.layers.RandomRotation(0.03, **fill),
            keras.layers.RandomZoom(0.1, **fill),
            keras.layers.Reshape((28, 28)),
        ],
        name="augment",
    )
