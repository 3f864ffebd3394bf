"""Torsos: the body of a network, from observation to features. Plain Keras layers.

Any Keras layer or model is a torso; any Keras RNN cell (a layer with a `state_size`) is a
recurrent one. Each function here builds one by its parameters; `rlzoo.tables.TORSOS` names them.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

import keras

from rlzoo.networks.layers import (
    CHANNELS,
    ChronoBias,
    HalvingMaxPool,
    ImageChannels,
    PatchConv2D,
    Recurrent,
)
from rlzoo.text import nearest

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


def _smallest(stages: tuple, max_pool: bool) -> int:
    """Returns the side of the smallest image that convolutions (filters, kernel, stride) take."""
    smallest = 1
    for _, kernel, step in reversed(stages):
        smallest = (2 * smallest - 1 if max_pool else smallest) - 1
        smallest = smallest * step + kernel
    return smallest


SMALLEST = {"nature": _smallest(_NATURE, False), "small": _smallest(((16, 3, 1),) * 2, False)}


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
