"""Copies of torsos and networks: the same configuration and weights, variables of their own."""

import inspect
from typing import Any

import keras

from rlzoo.networks.normalize import Normalize
from rlzoo.networks.parts import input_shapes
from rlzoo.spaces import Space

_INPUT = keras.layers.InputLayer


def copy_network(network: keras.Model) -> keras.Model:
    """Returns a second network with variables of its own, equal at first.

    What normalises observations is shared.
    """

    def copied(layer: Any) -> Any:
        if isinstance(layer, Normalize):
            return layer
        copy = _remade(layer)
        if hasattr(layer, "role"):
            copy.role = layer.role
        return copy

    copy: Any = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    return copy


def build_torso(torso: keras.Layer, space: Space) -> None:
    """Makes the weights of a torso that has none yet, for observations of a kind."""
    if not torso.built:
        shapes = input_shapes(space)
        if isinstance(shapes, dict):
            torso.build({path: (None, *shape) for path, shape in shapes.items()})
        else:
            torso.build((None, *shapes))


def copy_torso(torso: keras.Layer, space: Space) -> keras.Layer:
    """Returns a torso with the same configuration, and with the weights if there are any yet.

    Raises:
        ValueError: some layer cannot be made anew from its configuration; the message names it.
    """
    copy = _remade(torso)
    if torso.weights:  # also where only some of its layers have them
        build_torso(copy, space)
        # One that is built has an input layer more than one that is not.
        pairs = ([x for x in layers_of(y) if not isinstance(x, _INPUT)] for y in (torso, copy))
        for old, new in zip(*pairs, strict=True):
            new.trainable = old.trainable
            _copy_weights(old, new)
    return copy


def layers_of(layer: keras.Layer) -> list[Any]:
    """Returns a layer and all that it is made of, parents before children."""
    return layer._flatten_layers()


def _copy_weights(old: Any, new: Any) -> None:
    """Copies what a layer itself holds, not what its parts do, if it has been built."""
    theirs, ours = (x._trainable_variables + x._non_trainable_variables for x in (old, new))
    for one, other in zip(theirs, ours, strict=bool(theirs)):
        other.assign(one)
        other.trainable = one.trainable
        if hasattr(one, "lr_scale"):
            other.lr_scale = one.lr_scale


def _remade(layer: keras.Layer) -> Any:
    with keras.saving.custom_object_scope(_own_objects(layer)):
        try:
            return type(layer).from_config(layer.get_config())
        except (NotImplementedError, TypeError, ValueError) as error:
            part, reason = _culprit(layer) or (layer, error)
            raise ValueError(
                f"The torso cannot be copied, which every agent does: its layer {part.name!r} "
                f"({type(part).__name__}) is not made anew by from_config(get_config()): "
                f"{_first_sentence(reason)}. Give a layer of yours a get_config() that returns its "
                "constructor's arguments, and register with "
                "keras.saving.register_keras_serializable() what they are made of."
            ) from reason


def _own_objects(layer: keras.Layer) -> dict[str, Any]:
    """Returns the classes and functions in a layer that are not Keras's, by their names in configs.

    They are at hand, so nobody needs to have registered them.
    """
    found = {}
    for part in layers_of(layer):
        for value in (part, *vars(part).values()):
            made_by = value if inspect.isfunction(value) else type(value)
            own = made_by.__module__.partition(".")[0] not in ("keras", "builtins")
            if own and (inspect.isfunction(value) or hasattr(value, "get_config")):
                found[keras.saving.get_registered_name(made_by)] = made_by
    return found


def _culprit(layer: keras.Layer) -> tuple[Any, Exception] | None:
    """Returns the innermost layer that cannot be copied, and why."""
    for part in reversed(layers_of(layer)):
        try:
            type(part).from_config(part.get_config())
        except (NotImplementedError, TypeError, ValueError) as error:
            return part, error
    return None


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return text if len(text) <= 200 else text[:197] + "..."
