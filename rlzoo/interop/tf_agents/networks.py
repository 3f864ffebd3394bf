"""Networks of TF-Agents (Keras 2) whose body is a torso of ours (Keras 3)."""

from typing import Any, Literal

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.distributions.utils import SquashToSpecNormal
from tf_agents.networks import network

from rlzoo import networks
from rlzoo.interop.tf_agents.specs import action_spec, observation_spec
from rlzoo.spaces import Discrete, EnvSpec, leaf_of

Head = Literal["q", "logits", "value", "squashed_normal", "action", "critic"]

_CRITIC_UNITS = 256  # of the layer that joins the features and the action


class Features(tf.keras.layers.Layer):
    """A Keras 3 torso as a Keras 2 layer: [..., observation] to [..., features].

    Observations are preprocessed as for our own agents. The torso's variables are this layer's
    own, so a Keras 2 optimiser trains them and a checkpoint of the layer holds them.
    """

    def __init__(self, spec: EnvSpec, torso: keras.Layer):
        super().__init__(name="features", autocast=False)
        self._obs_shape = observation_spec(spec).shape
        spec = spec._replace(obs=leaf_of(spec.obs))
        model = networks.build_network(spec, torso, keras.layers.Identity())
        self.model = model
        self.num_features = model.outputs[0].shape[-1]
        # Keras 2 finds variables in its attributes, but not those inside of Keras 3.
        self._learned = [variable.value for variable in model.trainable_variables]
        self._kept = [variable.value for variable in model.non_trainable_variables]

    def call(self, obs, training=False):
        """Returns the features [..., F] of observations with any leading dimensions."""
        rank = len(obs.shape) - len(self._obs_shape)
        rows = tf.reshape(obs, (-1, *self._obs_shape))
        features = self.model(rows, training=training)
        shape = tf.concat([tf.shape(obs)[:rank], [self.num_features]], axis=0)
        return tf.ensure_shape(tf.reshape(features, shape), [*obs.shape[:rank], self.num_features])


class TorsoNetwork(network.Network):
    """A network of TF-Agents on a Keras 3 torso; a copy gets a torso of its own.

    Args:
        spec: of the environment.
        torso: any feed-forward Keras 3 layer or model from observations to features.
        head: what comes after the features. `q` and `logits` give one number per action,
            `value` one in all, `squashed_normal` a distribution within the bounds of the
            actions, `action` an action within them, `critic` takes (observation, action).
        seed: of the head's initial weights.
        name: of the network.

    Raises:
        ValueError: a recurrent torso.
    """

    def __init__(
        self,
        spec: EnvSpec,
        torso: keras.Layer,
        head: Head,
        seed: int = 0,
        name: str = "TorsoNetwork",
    ):
        if networks.is_recurrent(torso):
            raise ValueError(
                "A network of TF-Agents cannot have a recurrent torso here. Use --torso dense or "
                "conv, or rlzoo's own dqn or reinforce, which learn with lstm and gru."
            )
        inputs: Any = observation_spec(spec)
        if head == "critic":
            inputs = (inputs, action_spec(spec))
        super().__init__(input_tensor_spec=inputs, state_spec=(), name=name)
        self.features = Features(spec, torso)
        self._head = head
        self._torso, self._spec = torso, spec
        self._action_spec = action_spec(spec)
        self._size = size = self._action_spec.shape.num_elements()
        units = {"value": 1, "critic": 1, "action": size, "squashed_normal": 2 * size}
        if isinstance(spec.action, Discrete):
            units |= {"q": spec.action.n, "logits": spec.action.n}
        gain = 1.0 if head in ("q", "value", "critic") else 0.01
        self._join = _dense(_CRITIC_UNITS, 2.0**0.5, seed + 1, "relu") if head == "critic" else None
        self._last = _dense(units[head], gain, seed)

    def create_variables(self, input_tensor_spec=None, **kwargs):
        """Creates the variables. TF-Agents samples an input for it, which fails for uint8."""
        wanted = self._input_tensor_spec
        self._input_tensor_spec = tf.nest.map_structure(_sampled, wanted)
        try:
            return super().create_variables(**kwargs)
        finally:
            self._input_tensor_spec = wanted

    def copy(self, **kwargs: Any) -> "TorsoNetwork":
        """Returns a network of the same configuration with variables of its own."""
        return super().copy(
            **{"torso": networks.copy_torso(self._torso, leaf_of(self._spec.obs)), **kwargs}
        )

    def by_path(self) -> dict[str, Any]:
        """Returns the variables by their paths, as `torso/dense/kernel` and `head/kernel`."""
        body = networks.named_variables(self.features.model)
        named = {path: variable.value for path, variable in body.items()}
        for part, layer in (("join", self._join), ("head", self._last)):
            for variable in () if layer is None else layer.variables:
                kind = variable.name.removesuffix(":0").rpartition("/")[2]
                named[f"{part}/{kind}"] = variable
        return named

    def call(self, inputs, step_type=None, network_state=(), training=False):
        """Returns the head's output and the (empty) network state."""
        obs, action = inputs if self._head == "critic" else (inputs, None)
        features = self.features(obs, training=training)
        if self._join is not None:
            flat = tf.reshape(action, tf.concat([tf.shape(features)[:-1], [self._size]], axis=0))
            features = self._join(tf.concat([features, flat], axis=-1))
        return self._output(self._last(features)), network_state

    def _output(self, raw):
        if self._head == "q":
            return raw
        if self._head == "logits":
            return tfp.distributions.Categorical(logits=raw, dtype=tf.int32)
        if self._head in ("value", "critic"):
            return tf.squeeze(raw, axis=-1)
        spec = self._action_spec
        parts = tf.split(raw, 2, axis=-1) if self._head == "squashed_normal" else [raw]
        shape = tf.concat([tf.shape(raw)[:-1], spec.shape], axis=0)
        parts = [tf.reshape(part, shape) for part in parts]
        if self._head == "action":
            middle, reach = (spec.maximum + spec.minimum) / 2, (spec.maximum - spec.minimum) / 2
            return middle + reach * tf.tanh(parts[0])
        deviation = tf.exp(tf.clip_by_value(parts[1], -20.0, 2.0))  # as in the SAC paper's code
        normal = tfp.distributions.MultivariateNormalDiag(parts[0], deviation)
        return SquashToSpecNormal(normal, spec)


def _sampled(spec: Any) -> Any:
    return tf.TensorSpec(spec.shape, tf.float32) if spec.dtype == tf.uint8 else spec


def _dense(units: int, gain: float, seed: int, activation: str | None = None) -> Any:
    kernel = tf.keras.initializers.Orthogonal(gain, seed=seed)
    return tf.keras.layers.Dense(units, activation, kernel_initializer=kernel)
