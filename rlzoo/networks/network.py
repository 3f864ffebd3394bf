"""A network: preprocessing, torso and head as one Keras model from observation to scores.

A recurrent network takes its state as further inputs and returns the next state as further
outputs; nothing is remembered inside a layer.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.torsos import Recurrent, is_recurrent
from rlzoo.types import EnvSpec, ObsSpec

_NO_COPY = (
    "The torso cannot be copied, which this agent needs. Give your layer a get_config() that "
    "returns its constructor's arguments."
)


def build_network(spec: EnvSpec, torso: keras.Layer, head: keras.Layer) -> keras.Model:
    """Returns the Keras model obs [B, ...] -> scores [B, A].

    For a recurrent torso the model maps [obs, *states] to [scores, *next states].

    Args:
        spec: of the environment; observations come in its dtype.
        torso: any Keras layer, model or RNN cell.
        head: the layer from features to scores.
    """
    obs = keras.Input(spec.obs_shape, dtype=spec.obs_dtype, name="obs")
    features = Preprocess(spec.num_states, name="preprocess")(obs)
    states = []
    if is_recurrent(torso):
        nested = _state_inputs(_state_sizes(torso))
        features, next_states = torso(features, nested)
        states = keras.tree.flatten(nested)
    else:
        features, next_states = torso(features), []
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="features")(features)
    scores = head(features)
    if not states:
        return keras.Model(obs, scores)
    return keras.Model([obs, *states], [scores, *keras.tree.flatten(next_states)])


def _state_sizes(cell: Any) -> list | tuple:
    """Returns the sizes of a cell's states, (nested) as `StackedRNNCells` has them."""
    sizes = cell.state_size
    return sizes if isinstance(sizes, (list, tuple)) else [sizes]


def _state_inputs(sizes):
    """Returns an input for each size in (nested) lists."""
    if isinstance(sizes, (list, tuple)):
        return [_state_inputs(size) for size in sizes]
    return keras.Input((sizes,))


@keras.saving.register_keras_serializable("rlzoo")
class Preprocess(keras.Layer):
    """Casts observations to float32, once: one-hot if Discrete, divided by 255 if uint8.

    Args:
        num_states: number of Discrete observations, None for Box.
    """

    def __init__(self, num_states: int | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.num_states = num_states

    def call(self, obs):
        """Returns [B, ...] float32."""
        if self.num_states is not None:
            return keras.ops.one_hot(obs, self.num_states)
        scale = 1 / 255 if keras.backend.standardize_dtype(obs.dtype) == "uint8" else 1.0
        return keras.ops.cast(obs, "float32") * scale

    def compute_output_spec(self, obs):
        """Tells Keras the shape and dtype of the output."""
        shape = obs.shape if self.num_states is None else (*obs.shape, self.num_states)
        return keras.KerasTensor(shape, "float32")

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {**super().get_config(), "num_states": self.num_states}


def copy_network(network: keras.Model) -> keras.Model:
    """Returns a second network with variables of its own, equal at first."""
    try:
        copy = keras.models.clone_model(network)
    except (NotImplementedError, TypeError) as error:
        raise ValueError(_NO_COPY) from error
    copy.set_weights(network.get_weights())
    return copy


def build_torso(torso: keras.Layer, spec: EnvSpec | ObsSpec) -> None:
    """Makes the weights of a torso that has none yet, for observations of a kind."""
    if not torso.built:
        states = () if spec.num_states is None else (spec.num_states,)
        torso.build((None, *spec.obs_shape, *states))


def copy_torso(torso: keras.Layer, spec: EnvSpec) -> keras.Layer:
    """Returns a torso with the same configuration, and with the weights if there are any yet."""
    try:
        copy = type(torso).from_config(torso.get_config())
    except (NotImplementedError, TypeError) as error:
        raise ValueError(_NO_COPY) from error
    if torso.built and torso.weights:
        build_torso(copy, spec)
        copy.set_weights(torso.get_weights())
        for old, new in zip(torso.weights, copy.weights, strict=True):
            new.trainable = old.trainable
            if hasattr(old, "lr_scale"):
                new.lr_scale = old.lr_scale
    return copy


def changing_rate(network: keras.Model) -> tf.Variable | None:
    """Returns the variable that `scale_learning_rate` was given for a part of a network, if any."""
    scales = (getattr(variable, "lr_scale", None) for variable in network.trainable_variables)
    return next((scale for scale in scales if isinstance(scale, tf.Variable)), None)


def scale_learning_rate(layer: keras.Layer, scale: float | tf.Variable) -> None:
    """Multiplies every step that `descend` takes for a layer's weights; 0 freezes them for good.

    Args:
        layer: built; not yet part of a network that an optimiser was made for.
        scale: a number, or a variable that may change while an agent learns.
    """
    for variable in layer.trainable_variables:
        if isinstance(scale, tf.Variable):
            variable.lr_scale = scale
        elif scale == 0.0:
            variable.trainable = False
        elif scale != 1.0:
            variable.lr_scale = tf.constant(scale)


def initial_state(network: keras.Model, num_envs: int) -> tuple[tf.Tensor, ...]:
    """Returns the recurrent state of N environments at an episode's start; () if none."""
    sizes = [state.shape[-1] for state in network.inputs[1:]]
    return tuple(tf.zeros((num_envs, size)) for size in sizes)


def apply(network: keras.Model, obs, state: tuple, first) -> tuple[tf.Tensor, tuple]:
    """Returns the scores [N, A] and the next recurrent state.

    Args:
        network: from `build_network`.
        obs: [N, ...].
        state: from `initial_state` or the last call.
        first: [N] bool, where the state is reset before use.
    """
    if not state:
        return network(obs), ()
    scores, *next_state = network([obs, *_reset(state, first)])
    return scores, tuple(next_state)


def unroll(network: keras.Model, obs, state: tuple, first) -> tuple[tf.Tensor, tuple]:
    """Returns the scores [T, N, A] along a chunk, and the recurrent states [T, N, ...] after each.

    Args:
        network: from `build_network`.
        obs: [T, N, ...].
        state: recurrent state before the first row.
        first: [T, N] bool, where the state is reset.
    """
    length, num_envs = first.shape
    rows = tf.reshape(obs, (length * num_envs, *obs.shape[2:]))
    if not state:
        scores = network(rows)
        return tf.reshape(scores, (length, num_envs, scores.shape[-1])), ()

    # All steps go through the encoder at once: only the cell needs them one by one.
    inner = (layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer))
    preprocess, cell, *head = inner
    inputs = preprocess(rows)
    if isinstance(cell, Recurrent):
        inputs, cell = cell.encoder(inputs), cell.cell
    inputs = tf.reshape(inputs, (length, num_envs, *inputs.shape[1:]))

    def step(carry, row):
        fresh = keras.tree.pack_sequence_as(_state_sizes(cell), _reset(carry[1], row[1]))
        scores, next_state = cell(row[0], fresh)
        for layer in head:
            scores = layer(scores)
        return scores, tuple(keras.tree.flatten(next_state))

    like = tf.zeros((num_envs, network.outputs[0].shape[-1]))
    return tf.scan(step, (inputs, first), initializer=(like, state))


def _reset(state: tuple, first) -> list[tf.Tensor]:
    """Returns the recurrent state, 0 where an episode starts."""
    return [tf.where(first[:, None], tf.zeros_like(x), x) for x in state]


def update_target(target: keras.Model, source: keras.Model, rate: float, due: tf.Tensor) -> None:
    """Moves `target` towards `source` by `rate` (1 copies it) where `due`, a bool scalar."""

    def move():
        for old, new in zip(target.weights, source.weights, strict=True):
            old.assign(new if rate == 1.0 else old + rate * (new - old))
        return tf.constant(True)

    tf.cond(due, move, lambda: tf.constant(False))


def adam(network: keras.Model, learning_rate: float) -> keras.optimizers.Optimizer:
    """Returns Adam (Kingma & Ba 2015, arXiv:1412.6980), built for a network's variables."""
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(network.trainable_variables)
    return optimizer


def descend(optimizer, tape: tf.GradientTape, loss, network: keras.Model, max_norm) -> tf.Tensor:
    """Takes one gradient step, clipped to `max_norm`; returns the norm before clipping."""
    gradients = tape.gradient(loss, network.trainable_variables)
    norm = tf.linalg.global_norm(gradients)
    if math.isfinite(max_norm):
        gradients, _ = tf.clip_by_global_norm(gradients, max_norm, norm)
    scaled = [v for v in network.trainable_variables if hasattr(v, "lr_scale")]
    before = [tf.identity(variable) for variable in scaled]
    optimizer.apply(gradients)
    for variable, old in zip(scaled, before, strict=True):
        # Not its gradient: Adam's steps do not depend on the gradient's size.
        variable.assign(old + variable.lr_scale * (variable - old))
    return norm


def named_variables(prefix: str, owner: keras.Model | keras.optimizers.Optimizer) -> dict:
    """Returns the variables of a model or optimiser by a name that is stable across processes.

    Layer names count up within a process ("dense_3"), so the position names a variable.
    """
    return {f"{prefix}/{i}": variable for i, variable in enumerate(owner.variables)}
