"""Torsos: the body of a network, from observation to features. Plain Keras layers.

Any Keras layer or model is a torso; any Keras RNN cell (a layer with a `state_size`) is a
recurrent one. Each function here builds one by its parameters; `rlzoo.tables.TORSOS` names them.
"""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # has no public name; since TensorFlow 1

from rlzoo.text import nearest

CHANNELS = ("auto", "first", "last")
_NATURE = (32, 8, 4), (64, 4, 2), (64, 3, 1)  # filters, kernel, stride; Mnih et al. 2015


def initializer(name: str, gain: float = math.sqrt(2.0), seed: int | None = None):
    """Returns a kernel initialiser.

    `orthogonal` is scaled by `gain` (Saxe et al. 2014, arXiv:1312.6120); `he` is He et al. 2015
    (arXiv:1502.01852), `glorot` is Glorot & Bengio 2010.
    """
    if name == "orthogonal":
        return keras.initializers.Orthogonal(gain, seed=seed)
    if name == "he":
        return keras.initializers.HeUniform(seed=seed)
    if name == "glorot":
        return keras.initializers.GlorotUniform(seed=seed)
    raise ValueError(f"Unknown initializer {name!r}. Known: orthogonal, he, glorot.")


def dense(
    sizes: tuple[int, ...] = (64, 64),
    activation: str = "relu",
    layer_norm: bool = False,
    init: str = "orthogonal",
    seed: int | None = None,
) -> keras.Layer:
    """Returns fully connected layers; images are flattened first.

    Args:
        sizes: units of each layer.
        activation: any Keras activation (relu, tanh, sigmoid, silu, ...).
        layer_norm: normalise before each activation (Ba et al. 2016, arXiv:1607.06450).
        init: kernel initialiser: orthogonal, he or glorot.
        seed: of the initialisers.
    """
    layers: list[keras.Layer] = [keras.layers.Flatten(name="flatten")]
    for i, units in enumerate(_sizes("sizes", sizes)):
        kernel = initializer(init, seed=_offset(seed, i))
        layers.append(keras.layers.Dense(units, kernel_initializer=kernel, name=f"dense_{i}"))
        if layer_norm:
            layers.append(keras.layers.LayerNormalization(name=f"norm_{i}"))
        layers.append(keras.layers.Activation(activation, name=f"activation_{i}"))
    return keras.Sequential(layers, name="dense_torso")


def conv(
    variant: str = "nature",
    size: int | None = None,
    activation: str = "relu",
    filters: tuple[int, ...] = (16, 32),
    stride: int = 1,
    max_pool: bool = False,
    layer_norm: bool = False,
    channels: Literal["auto", "first", "last"] = "auto",
    init: str = "he",
    seed: int | None = None,
) -> keras.Layer:
    """Returns convolutions over images [height, width, channels], then one dense layer.

    Frames in a stack [frames, height, width] are taken for channels, as are those of a stack of
    colour images [frames, height, width, 3].

    Args:
        variant: `nature` (Mnih et al. 2015, for about 84x84) or `small` (for 10x10 to 28x28).
        size: units of the dense layer; by default 512 for nature, 128 for small.
        activation: any Keras activation.
        filters: of each 3x3 convolution of the small variant.
        stride: of the same; 2 halves the image at each, and costs an agent less than pooling.
        max_pool: halve the image after each convolution of the small variant.
        layer_norm: normalise the features before the last activation, so that a new head starts
            from values of a known size, however long the torso was trained.
        channels: which axis they are; `auto` takes the first for it where it is shorter than both
            others and these are equal, or where it has 1, 3 or 4.
        init: kernel initialiser: he, orthogonal or glorot.
        seed: of the initialisers.
    """
    if variant not in ("nature", "small"):
        raise ValueError(f"conv expects variant 'nature' or 'small', received {variant!r}.")
    if channels not in CHANNELS:
        raise ValueError(f"conv expects channels auto, first or last, received {channels!r}.")
    if stride < 1:
        raise ValueError(f"conv expects a stride of at least 1, received {stride}.")
    small = tuple((count, 3, stride) for count in _sizes("filters", filters))
    stages = _NATURE if variant == "nature" else small
    smallest = _smallest(stages, max_pool)
    layers: list[keras.Layer] = [ImageChannels(smallest, channels, name="channels")]
    for i, (count, kernel, step) in enumerate(stages):
        layers.append(
            PatchConv2D(
                count,
                kernel,
                step,
                activation=activation,
                kernel_initializer=initializer(init, seed=_offset(seed, i)),
                name=f"conv_{i}",
            )
        )
        if max_pool:
            layers.append(HalvingMaxPool(name=f"pool_{i}"))
    kernel = initializer(init, seed=_offset(seed, len(layers)))
    units = size or (512 if variant == "nature" else 128)
    layers += [
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(units, kernel_initializer=kernel, name="dense"),
        *([keras.layers.LayerNormalization(name="norm")] if layer_norm else []),
        keras.layers.Activation(activation, name="activation"),
    ]
    return keras.Sequential(layers, name="conv_torso")


def lstm(
    units: int = 64,
    encoder: tuple[int, ...] | dict = (),
    activation: str = "relu",
    chrono: int | None = None,
    seed: int | None = None,
) -> keras.Layer:
    """Returns an LSTM (Hochreiter & Schmidhuber 1997) behind an optional encoder.

    Args:
        units: size of the memory.
        encoder: what comes before it: the units of dense layers, or another torso with its
            parameters, such as `{"name": "conv", "variant": "small"}`.
        activation: of the dense layers, where `encoder` has their units.
        chrono: start with a memory that lasts, by `ChronoBias`: the longest wait in steps, at
            least 3; by default the forget gate has a bias of 1 (Jozefowicz et al. 2015), and
            about half of what it holds is gone after 2 steps.
        seed: of the initialisers.
    """
    bias = {}
    if chrono is not None:
        start = ChronoBias(chrono, seed=_offset(seed, 2))
        bias = {"bias_initializer": start, "unit_forget_bias": False}
    cell = keras.layers.LSTMCell(units, name="lstm", **_recurrent_init(seed), **bias)
    return Recurrent(cell, _encoder(encoder, activation, seed), name="lstm_torso")


def gru(
    units: int = 64,
    encoder: tuple[int, ...] | dict = (),
    activation: str = "relu",
    seed: int | None = None,
) -> keras.Layer:
    """Returns a GRU (Cho et al. 2014, arXiv:1406.1078) behind an optional encoder.

    Args:
        units: size of the memory.
        encoder: what comes before it, as for `lstm`.
        activation: of the dense layers, where `encoder` has their units.
        seed: of the initialisers.
    """
    cell = keras.layers.GRUCell(units, name="gru", **_recurrent_init(seed))
    return Recurrent(cell, _encoder(encoder, activation, seed), name="gru_torso")


def rnn(
    units: int = 64,
    encoder: tuple[int, ...] | dict = (),
    activation: str = "relu",
    seed: int | None = None,
) -> keras.Layer:
    """Returns a plain recurrent layer (Elman 1990), tanh, behind an optional encoder.

    Its gradients vanish over long delays (doi:10.1109/72.279181).

    Args:
        units: size of the memory.
        encoder: what comes before it, as for `lstm`.
        activation: of the dense layers, where `encoder` has their units.
        seed: of the initialisers.
    """
    cell = keras.layers.SimpleRNNCell(units, name="rnn", **_recurrent_init(seed))
    return Recurrent(cell, _encoder(encoder, activation, seed), name="rnn_torso")


ENCODERS = {"dense": dense, "conv": conv}  # what may stand before a recurrent layer


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


def _smallest(stages: tuple, max_pool: bool) -> int:
    """Returns the side of the smallest image that convolutions (filters, kernel, stride) take."""
    smallest = 1
    for _, kernel, step in reversed(stages):
        smallest = (2 * smallest - 1 if max_pool else smallest) - 1
        smallest = smallest * step + kernel
    return smallest


SMALLEST = {"nature": _smallest(_NATURE, False), "small": _smallest(((16, 3, 1),) * 2, False)}


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


def _encoder(
    encoder: tuple[int, ...] | Mapping[str, Any], activation: str, seed: int | None
) -> keras.Layer | None:
    seed = _offset(seed, 100)
    if not isinstance(encoder, Mapping):
        return dense(encoder, activation, seed=seed) if encoder else None
    params = dict(encoder)
    name = params.pop("name", None)
    if not isinstance(name, str) or name not in ENCODERS:
        raise ValueError(f"Unknown encoder {name!r}. {nearest(str(name), ENCODERS)}")
    known = inspect.signature(ENCODERS[name]).parameters
    for key in params:
        if key not in known:
            raise ValueError(f"Unknown setting encoder.{key}. {nearest(str(key), known)}")
    return ENCODERS[name](**{"seed": seed, **params})


def _recurrent_init(seed: int | None) -> dict:
    return {
        "kernel_initializer": initializer("glorot", seed=_offset(seed, 0)),
        "recurrent_initializer": initializer("orthogonal", 1.0, seed=_offset(seed, 1)),
    }


def _sizes(name: str, sizes) -> tuple[int, ...]:
    sizes = tuple(sizes) if isinstance(sizes, (list, tuple)) else (sizes,)
    if not sizes or not all(isinstance(units, int) and units > 0 for units in sizes):
        raise ValueError(f"Expected {name} as positive whole numbers like [64, 64], got {sizes}.")
    return sizes


def _offset(seed: int | None, by: int) -> int | None:
    return None if seed is None else seed + by
