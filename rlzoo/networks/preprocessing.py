"""What stands before and behind a network: observations made floats, scores masked."""

import math
from typing import Any

import keras

from rlzoo.networks.parts import input_shapes
from rlzoo.spaces import (
    Box,
    Discrete,
    Leaf,
    MultiDiscrete,
    Space,
    items,
    leaves,
    mask_of,
    plain,
    read_space,
)


def inputs(space: Space, name: str = "obs") -> Any:
    """Returns a Keras input for each leaf of a space, nested as it is."""
    if isinstance(space, dict):
        return {key: inputs(part, key) for key, part in space.items()}
    return keras.Input(space.shape, dtype=space.dtype, name=name)


def masked_scores(scores: Any, obs: Any) -> Any:
    """Returns scores [B, A], -inf where the mask in the observations says so, if there is one."""
    mask = mask_of(obs)
    return scores if mask is None else MaskScores(name="mask_scores")([scores, mask])


@keras.saving.register_keras_serializable("rlzoo")
class Preprocess(keras.Layer):
    """Casts observations to float32, once: whole numbers one-hot, pixels divided by 255.

    The parts of a nested observation come out flat, by their paths ("camera/front").

    Args:
        space: of the observations, without a mask.
    """

    def __init__(self, space: Space, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.space = space

    def call(self, obs):
        """Returns [B, ...] float32, or a dict of them."""
        if isinstance(self.space, dict):
            pairs = zip(items(self.space), leaves(obs), strict=True)
            return {path: _as_floats(x, leaf) for (path, leaf), x in pairs}
        return _as_floats(obs, self.space)

    def compute_output_spec(self, obs):
        """Tells Keras the shapes and dtypes of the outputs."""
        shapes = input_shapes(self.space)
        if not isinstance(shapes, dict):
            return keras.KerasTensor((leaves(obs)[0].shape[0], *shapes), "float32")
        batch = leaves(obs)[0].shape[0]
        return {path: keras.KerasTensor((batch, *x), "float32") for path, x in shapes.items()}

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {**super().get_config(), "space": plain(self.space)}

    @classmethod
    def from_config(cls, config):
        """Builds the layer that `get_config` described."""
        return cls(**{**config, "space": read_space(config["space"])})


def _as_floats(x: Any, leaf: Leaf) -> Any:
    if isinstance(leaf, Discrete):
        return keras.ops.one_hot(x, leaf.n)
    if isinstance(leaf, MultiDiscrete):
        return keras.ops.concatenate(
            [keras.ops.one_hot(x[..., i], n) for i, n in enumerate(leaf.nvec)], axis=-1
        )
    scale = 1 / 255 if isinstance(leaf, Box) and leaf.pixels else 1.0
    return keras.ops.cast(x, "float32") * scale


@keras.saving.register_keras_serializable("rlzoo")
class MaskScores(keras.Layer):
    """Scores, -inf where an action is not valid; where none is said to be, all are."""

    def call(self, inputs):
        """Returns [B, A] of scores and a mask, both [B, A]."""
        scores, mask = inputs
        mask = keras.ops.logical_or(mask, ~keras.ops.any(mask, axis=-1, keepdims=True))
        return keras.ops.where(mask, scores, -math.inf)
