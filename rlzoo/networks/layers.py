"""Keras layers that torsos are made of."""

import math
import warnings

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # has no public name; since TensorFlow 1

CHANNELS = ("auto", "first", "last")


@keras.saving.register_keras_serializable("rlzoo")
class Recurrent(keras.Layer):
    """A recurrent cell behind an encoder, itself a Keras RNN cell.

    Args:
        cell: any Keras RNN cell (LSTMCell, GRUCell, StackedRNNCells, ...).
        encoder: any layer from observation to features; images are flattened without one.
    """

    def __init__(self, cell: keras.Layer, encoder: keras.Layer | None = None, **kwargs):
        super().__init__(**kwargs)
        self.cell = cell
        self.encoder = encoder or keras.layers.Flatten(name="flatten")

    @property
    def state_size(self):
        """Sizes of the cell's states, as Keras defines them."""
        return self.cell.state_size

    @property
    def output_size(self):
        """Size of the features."""
        return self.cell.output_size

    def build(self, input_shape):
        """Builds the encoder, then the cell on its output."""
        if not self.encoder.built:
            self.encoder.build(input_shape)
        if not self.cell.built:
            self.cell.build(self.encoder.compute_output_shape(input_shape))

    def call(self, inputs, states):
        """Returns the features [B, units] and the next states."""
        return self.cell(self.encoder(inputs), states)

    def get_initial_state(self, batch_size=None):
        """Returns the states that an episode starts with."""
        return self.cell.get_initial_state(batch_size)

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        layers = {"cell": self.cell, "encoder": self.encoder}
        serialized = {key: keras.saving.serialize_keras_object(x) for key, x in layers.items()}
        return {**super().get_config(), **serialized}

    @classmethod
    def from_config(cls, config):
        """Builds the layer that `get_config` described."""
        for key in ("cell", "encoder"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)


@keras.saving.register_keras_serializable("rlzoo")
class ChronoBias(keras.initializers.Initializer):
    """Biases of an LSTM whose units forget at paces from 2 steps to a longest one.

    forget = log(u), u uniform in [1, longest - 1]; input = -forget; others 0: a unit holds on for
    about 1 + u steps (Tallec & Ollivier 2018, arXiv:1804.11188).

    Args:
        longest: steps, at least 3.
        seed: of the draw.
    """

    def __init__(self, longest: int, seed: int | None = None):
        if longest < 3:
            raise ValueError(f"chrono: expected at least 3 steps or null, received {longest}.")
        self.longest = longest
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Returns [4 * units]: of the gates input, forget, cell and output, as Keras has them."""
        pace = keras.initializers.RandomUniform(1.0, self.longest - 1.0, seed=self.seed)
        forget = keras.ops.log(pace((shape[0] // 4,), dtype))
        rest = keras.ops.zeros_like(forget)
        return keras.ops.concatenate([-forget, forget, rest, rest])

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {"longest": self.longest, "seed": self.seed}


@keras.saving.register_keras_serializable("rlzoo")
class ImageChannels(keras.Layer):
    """Gives images the shape [height, width, channels] that convolutions expect.

    Args:
        smallest: height and width in pixels that the convolutions need at least.
        channels: which axis they are, of "auto", "first" and "last"; see `conv`.
    """

    def __init__(self, smallest: int = 1, channels: str = "auto", **kwargs):
        super().__init__(**kwargs)
        self.smallest = smallest
        self.channels = channels

    def build(self, input_shape):
        """Refuses what the convolutions cannot work on."""
        shape, smallest = tuple(input_shape[1:]), self.smallest
        if len(shape) not in (2, 3, 4):
            raise ValueError(
                "The conv torso expects images [height, width] or [height, width, channels], or a "
                f"stack of them, received observations of shape {shape}. Use --torso dense."
            )
        first, sides = _first(shape, self.channels), image_sides(shape, self.channels)
        if any(side is not None and side < smallest for side in sides):
            raise ValueError(
                f"This conv torso expects images of at least {smallest}x{smallest} pixels, "
                f"received {sides[0]}x{sides[1]}. Use --set torso.variant=small, which takes "
                "images from 5x5 pixels, or --torso dense."
            )
        if first and self.channels == "auto" and len(shape) == 3:
            warnings.warn(
                f"Observations {list(shape)} are taken for {shape[0]} channels of {shape[1]}x"
                f"{shape[2]} pixels. If the channels are the last axis: --set torso.channels=last.",
                stacklevel=2,
            )

    def call(self, inputs):
        """Returns [B, height, width, channels]."""
        shape = tuple(inputs.shape[1:])
        if len(shape) == 2:
            return keras.ops.expand_dims(inputs, -1)
        if not _first(shape, self.channels):
            return inputs
        if len(shape) == 3:
            return keras.ops.transpose(inputs, (0, 2, 3, 1))
        frames, height, width, channels = shape
        moved = keras.ops.transpose(inputs, (0, 2, 3, 1, 4))
        return keras.ops.reshape(moved, (-1, height, width, frames * channels))

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        config = {"smallest": self.smallest, "channels": self.channels}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("rlzoo")
class PatchConv2D(keras.layers.Conv2D):
    """Keras's convolution; under XLA one product of the image's patches with the kernel.

    XLA's own takes 25 to 60 times as long on CPUs for its gradient inside a loop.
    """

    def convolution_op(self, inputs, kernel):
        """Returns [B, height, width, filters]."""
        height, width = inputs.shape[1:3]
        if self.padding != "valid" or None in (height, width) or not _slow_xla():
            return super().convolution_op(inputs, kernel)
        rows, columns, channels, filters = kernel.shape
        down, right = self.strides
        patches = [
            inputs[:, i : height - rows + i + 1 : down, j : width - columns + j + 1 : right]
            for i in range(rows)
            for j in range(columns)
        ]
        stacked = keras.ops.concatenate(patches, axis=-1)  # [B, h, w, rows * columns * channels]
        shape = (-1, *stacked.shape[1:3], filters)
        stacked = keras.ops.reshape(stacked, (-1, rows * columns * channels))
        kernel = keras.ops.reshape(kernel, (-1, filters))
        return keras.ops.reshape(keras.ops.matmul(stacked, kernel), shape)


@keras.saving.register_keras_serializable("rlzoo")
class HalvingMaxPool(keras.layers.MaxPooling2D):
    """The largest of each 2x2 pixels; under XLA by other means than Keras.

    XLA's own gradient of it is slow on CPUs. Where pixels are equally large, it goes to the first
    of them; here, in equal parts to all.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "pool_size": 2, "strides": 2, "padding": "same"})

    def call(self, inputs):
        """Returns [B, ceil(height / 2), ceil(width / 2), channels]."""
        height, width, channels = inputs.shape[1:]
        if None in (height, width) or not _slow_xla():
            return super().call(inputs)
        padding = (0, 0), (0, height % 2), (0, width % 2), (0, 0)
        if height % 2 or width % 2:
            inputs = keras.ops.pad(inputs, padding, constant_values=-math.inf)
        shape = (-1, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
        return keras.ops.max(keras.ops.reshape(inputs, shape), axis=(2, 4))


def image_sides(shape: tuple, channels: str = "auto") -> tuple:
    """Returns height and width of images as a conv torso sees them."""
    return shape[1:3] if _first(shape, channels) else shape[:2]


def _first(shape: tuple, channels: str) -> bool:
    """Tells whether the first axis holds channels, or frames that become channels."""
    if len(shape) != 3:
        return len(shape) == 4
    first, height, width = shape
    shorter = first < height and first < width and (height == width or first in (1, 3, 4))
    return shorter if channels == "auto" else channels == "first"


def is_recurrent(torso: keras.Layer) -> bool:
    """Tells whether a torso is a Keras RNN cell, which carries a state.

    A Keras RNN layer, such as `keras.layers.LSTM`, is none: it walks along an axis of its input and
    forgets.
    """
    return hasattr(torso, "state_size") and not isinstance(torso, keras.layers.RNN)


def _slow_xla() -> bool:
    """Tells whether what is being traced will be compiled by XLA for a CPU."""
    in_xla = control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return in_xla and not tf.config.list_physical_devices("GPU")
