"""Torsos of Keras's own layers as text, which a configuration keeps; read again with distrust.

The text is what Keras makes of a layer, as JSON. Before Keras reads it again, every class that it
names must be in the lists below: layers that compute and do nothing else. No function, no class of
anybody else's, nothing that reads a file or is imported by name.
"""

import json
import warnings
from typing import Any

import keras

from rlzoo.networks import torsos
from rlzoo.networks.copying import layers_of

_LAYERS = (
    "Activation AlphaDropout Attention Average AveragePooling1D AveragePooling2D Add "
    "BatchNormalization Bidirectional Concatenate Conv1D Conv2D Conv3D Conv1DTranspose "
    "Conv2DTranspose Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot "
    "Dropout ELU EinsumDense Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D "
    "GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell "
    "LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D Maximum Minimum "
    "MultiHeadAttention Multiply Normalization PReLU Permute RNN ReLU RMSNormalization "
    "RepeatVector Rescaling Reshape SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell "
    "Softmax SpatialDropout1D SpatialDropout2D SpectralNormalization StackedRNNCells "
    "Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D "
    "ZeroPadding2D"
)
_INITIALIZERS = (
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer "
    "LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal "
    "RandomUniform TruncatedNormal VarianceScaling Zeros"
)
_REGULARIZERS = "L1 L2 L1L2 OrthogonalRegularizer"
_CONSTRAINTS = "MaxNorm MinMaxNorm NonNeg UnitNorm"
_OURS = (
    torsos.ChronoBias,
    torsos.HalvingMaxPool,
    torsos.ImageChannels,
    torsos.PatchConv2D,
    torsos.Recurrent,
)
_KNOWN: set[tuple[str, str, str | None]] = {  # module, class and registered name
    ("keras", "Sequential", None),
    ("keras", "DTypePolicy", None),
    ("keras.src.models.functional", "Functional", "Functional"),
    *(("keras.layers", name, None) for name in _LAYERS.split()),
    *(("keras.initializers", name, None) for name in _INITIALIZERS.split()),
    *(("keras.regularizers", name, None) for name in ("L1", "L2", "L1L2", "OrthogonalRegularizer")),
    *(
        ("keras.constraints", name, None)
        for name in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")
    ),
    *((cls.__module__, cls.__name__, f"rlzoo>{cls.__name__}") for cls in _OURS),
}
_KEYS = {"module", "class_name", "config", "registered_name", "name", "inbound_nodes"}
_DROPPED = ("build_config", "build_input_shape", "compile_config")  # of the model it was
_MOST_TEXT = 40_000  # characters
_MOST_DEPTH = 40
_MOST_NUMBER = 16_384  # units of a layer, pixels, ...; a seed may be larger


def described(layers: str, trained: bool = False, seed: int | None = None) -> keras.Layer:
    """Returns the torso of Keras's own layers that a text describes; `describe_torso` wrote it.

    Args:
        layers: JSON.
        trained: whether it had weights when it was given; the text has none.
        seed: not used: the layers have seeds of their own, or Keras's.

    Raises:
        ValueError: anything but layers of Keras and rlzoo that compute.
    """
    if len(layers) > _MOST_TEXT:
        raise ValueError(f"torso.layers: expected at most {_MOST_TEXT:,} characters.")
    try:
        tree = json.loads(layers)
        _check(tree)
        torso = keras.saving.deserialize_keras_object(tree, safe_mode=True)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"torso.layers does not describe layers of Keras's own: {reason}"
        ) from error
    if not isinstance(torso, keras.Layer):
        raise ValueError(f"torso.layers: expected a layer, received {type(torso).__name__}.")
    return torso


def describe_torso(torso: keras.Layer) -> dict[str, Any] | None:
    """Returns a torso as a configuration keeps it, None if it is not of Keras's own layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a lambda, which is refused here
        try:
            tree = _without(keras.saving.serialize_keras_object(torso))
            layers = json.dumps(tree, allow_nan=False)
            described(layers)
        except (ValueError, TypeError, NotImplementedError):
            return None
    return {"name": "keras", "layers": layers, "trained": bool(torso.weights)}


def first_unknown(torso: keras.Layer) -> Any:
    """Returns the first layer in a torso that no text describes, the torso if none stands out."""
    known = {name for _, name, _ in _KNOWN}
    for layer in layers_of(torso):
        kind = type(layer)
        if kind not in _OURS and not (
            kind.__module__.startswith("keras.") and kind.__name__ in known
        ):
            return layer
    return torso


def _without(value: Any) -> Any:
    """Returns a description without the shapes it was built for, but for those of its inputs."""
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in _DROPPED}
    return [_without(item) for item in value] if isinstance(value, (list, tuple)) else value


def _check(value: Any, depth: int = 0, key: str = "") -> None:
    """Refuses what is not on the lists."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"expected at most {_MOST_DEPTH} levels")
    if isinstance(value, dict):
        if "class_name" in value:
            _check_class(value)
        elif forbidden := {*_DROPPED, "registered_name", "shared_object_id"} & value.keys():
            raise ValueError(f"{min(forbidden)} is not expected")
        for name, item in value.items():
            _check(item, depth + 1, name)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1, key)
    elif isinstance(value, (int, float)) and key != "seed" and not abs(value) <= _MOST_NUMBER:
        raise ValueError(f"{key}: expected at most {_MOST_NUMBER:,}, received {value}")


def _check_class(value: dict[str, Any]) -> None:
    if value["class_name"] == "__keras_tensor__":
        if value.keys() != {"class_name", "config"}:
            raise ValueError("a tensor of another form than Keras's")
        return
    found = tuple(value.get(key) for key in ("module", "class_name", "registered_name"))
    if not all(isinstance(x, (str, type(None))) for x in found) or found not in _KNOWN:
        raise ValueError(f"{str(found[0])[:60]}.{str(found[1])[:60]} is not allowed in it")
    if extra := value.keys() - _KEYS:
        raise ValueError(f"{min(map(str, extra))} is not expected in {found[1]}")
