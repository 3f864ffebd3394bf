"""Torsos for observations of several parts: one for each part, side by side."""

import itertools
import math
from typing import Any

import keras

from rlzoo.networks.layers import Recurrent, image_sides, is_recurrent
from rlzoo.networks.torsos import SMALLEST, conv
from rlzoo.spaces import Box, Discrete, Leaf, MultiDiscrete, Space, items, unmasked


@keras.saving.register_keras_serializable("rlzoo")
class Parts(keras.Layer):
    """A torso for each part of an observation; their features, joined, go through another.

    Args:
        torsos: by the path of a part ("camera/front"); a part without one is flattened.
        then: from the joined features on; nothing if None.
    """

    def __init__(
        self, torsos: dict[str, keras.Layer], then: keras.Layer | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.torsos = dict(sorted(torsos.items()))
        self.then = then

    def build(self, input_shape):
        """Builds each torso on its part, then the last on what they give."""
        if unknown := sorted(self.torsos.keys() - input_shape.keys()):
            raise ValueError(
                f"torso: there is no part {unknown[0]!r} in these observations. Expected some of "
                f"{sorted(input_shape)}."
            )
        for path, torso in self.torsos.items():
            if not torso.built:
                torso.build(tuple(input_shape[path]))
        if self.then is not None and not self.then.built:
            self.then.build((None, sum(self._sizes(input_shape))))

    def call(self, inputs):
        """Returns features [B, F] of a dict of parts."""
        features = [
            _flat(self.torsos[path](inputs[path]) if path in self.torsos else inputs[path])
            for path in sorted(inputs)
        ]
        joined = keras.ops.concatenate(features, axis=-1)
        return joined if self.then is None else self.then(joined)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the features."""
        joined = (None, sum(self._sizes(input_shape)))
        return joined if self.then is None else self.then.compute_output_shape(joined)

    def _sizes(self, input_shape) -> list[int]:
        """Returns the number of features of each part."""
        shapes = {
            path: self.torsos[path].compute_output_shape(tuple(shape))
            if path in self.torsos
            else shape
            for path, shape in input_shape.items()
        }
        return [math.prod(shape[1:]) for shape in shapes.values()]

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        torsos = {k: keras.saving.serialize_keras_object(x) for k, x in self.torsos.items()}
        then = None if self.then is None else keras.saving.serialize_keras_object(self.then)
        return {**super().get_config(), "torsos": torsos, "then": then}

    @classmethod
    def from_config(cls, config):
        """Builds the layer that `get_config` described."""
        made = keras.saving.deserialize_keras_object
        torsos = {key: made(value) for key, value in config["torsos"].items()}
        then = None if config["then"] is None else made(config["then"])
        return cls(**{**config, "torsos": torsos, "then": then})


def joined(torso: keras.Layer, space: Space, seed: int | None = None) -> keras.Layer:
    """Returns a torso that takes all parts of an observation.

    Images among them go through convolutions, all else is flattened; joined, they are what `torso`
    sees, or the encoder of a recurrent one. Where there is but one part, or `torso` takes parts, it
    is `torso` itself.

    Args:
        torso: stays as it is, but may become part of what is returned.
        space: of the observations.
        seed: of the convolutions.
    """
    space = unmasked(space)
    if not isinstance(space, dict):
        return torso
    inner = torso.encoder if isinstance(torso, Recurrent) else torso
    if isinstance(inner, Parts):
        return torso
    seeds = itertools.count(seed or 0, 1_000)
    images = {
        path: image
        for path, leaf in items(space)
        if (image := _convolutions(leaf, None if seed is None else next(seeds)))
    }
    return over_parts(images, torso)


def over_parts(torsos: dict[str, keras.Layer], then: keras.Layer | None) -> keras.Layer:
    """Returns `Parts` with a torso after them, which may be recurrent."""
    if then is None or not is_recurrent(then):
        return Parts(torsos, then, name="parts")
    if isinstance(then, Recurrent):
        return Recurrent(then.cell, Parts(torsos, then.encoder, name="parts"), name=then.name)
    return Recurrent(then, Parts(torsos, name="parts"), name="recurrent_parts")


def input_shapes(space: Space) -> Any:
    """Returns the shape of what a torso sees of an observation; of each part, by its path."""
    space = unmasked(space)
    if isinstance(space, dict):
        return {path: _input_shape(leaf) for path, leaf in items(space)}
    return _input_shape(space)


def _input_shape(leaf: Leaf) -> tuple[int, ...]:
    if isinstance(leaf, Discrete):
        return (*leaf.shape, leaf.n)
    return (sum(leaf.nvec),) if isinstance(leaf, MultiDiscrete) else leaf.shape


def _convolutions(leaf: Leaf, seed: int | None) -> keras.Layer | None:
    """Returns convolutions for an image that is large enough for them."""
    if not isinstance(leaf, Box) or not leaf.pixels or len(leaf.shape) not in (2, 3, 4):
        return None
    side = min(image_sides(leaf.shape))
    fitting = [variant for variant, smallest in SMALLEST.items() if side >= smallest]
    return conv(fitting[0], seed=seed) if fitting else None


def _flat(features: Any) -> Any:
    return keras.ops.reshape(features, (-1, math.prod(features.shape[1:])))
