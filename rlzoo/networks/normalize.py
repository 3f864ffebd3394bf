"""Observations normalised by what was seen so far, at the input of a network."""

from typing import Any

import keras
import tensorflow as tf

from rlzoo.ops.moments import Moments, merged, moments_of, normalized
from rlzoo.spaces import Space, items, numbers, plain, read_space, unmasked
from rlzoo.types import Chunk

_CLIP = 10.0  # deviations from the mean, beyond which observations are cut


@keras.saving.register_keras_serializable("rlzoo")
class Normalize(keras.Layer):
    """Shifts and scales numbers to mean 0 and deviation 1; what is no number stays as it is.

    Networks of one agent share it, and only `observe` changes it: neither acting nor a gradient.

    Args:
        space: of the observations, without a mask.
    """

    def __init__(self, space: Space, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.space = space
        self._moments: dict[str, Moments] = {}
        for path, leaf in numbers(space).items():
            part = path.replace("/", "_") + "_" * bool(path)
            count = self._weight(f"{part}count", (), "int64")
            rest = (self._weight(f"{part}{name}", leaf.shape) for name in ("mean", "variance"))
            self._moments[path] = Moments(count, *rest)
        self.built = True

    def _weight(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> keras.Variable:
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
        )

    def call(self, features):
        """Returns features [B, ...] float32, or a dict of them, normalised."""
        if not isinstance(features, dict):
            return self._normalized("", features)
        return {path: self._normalized(path, x) for path, x in features.items()}

    def _normalized(self, path: str, x: tf.Tensor) -> tf.Tensor:
        if path not in self._moments:
            return x
        return normalized(x, Moments(*map(tf.convert_to_tensor, self._moments[path])), _CLIP)

    def compute_output_spec(self, features):
        """Tells Keras that shapes and dtypes stay."""
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), features)

    def observe(self, obs: Any, valid: tf.Tensor) -> None:
        """Takes observations [T, N, ...] into account, where `valid` [T, N]."""
        for path, x in items(unmasked(obs)):
            if path in self._moments:
                known = self._moments[path]
                new = moments_of(tf.cast(x, tf.float32), valid)
                now = merged(Moments(*map(tf.convert_to_tensor, known)), new)
                for variable, value in zip(known, now, strict=True):
                    variable.assign(value)

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {**super().get_config(), "space": plain(self.space)}

    @classmethod
    def from_config(cls, config):
        """Builds the layer that `get_config` described."""
        return cls(**{**config, "space": read_space(config["space"])})


def normalizer(network: keras.Model) -> Normalize | None:
    """Returns the layer that normalises a network's observations, None if it has none."""
    return next((layer for layer in network.layers if isinstance(layer, Normalize)), None)


def observe(network: keras.Model, chunk: Chunk) -> None:
    """Lets a network's `Normalize`, if it has one, see a chunk."""
    if (layer := normalizer(network)) is not None:
        layer.observe(chunk.obs, chunk.valid)
