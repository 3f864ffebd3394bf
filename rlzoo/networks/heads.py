"""Heads: the last layers of a network, from features to scores. Plain Keras layers."""

import keras

from rlzoo.networks.torsos import initializer


def q_values(num_actions: int, seed: int | None = None) -> keras.Layer:
    """Returns one linear unit per action."""
    return linear(num_actions, 1.0, seed, "q_values")


def policy_logits(num_actions: int, seed: int | None = None) -> keras.Layer:
    """Returns one linear unit per action, started near the uniform policy."""
    return linear(num_actions, 0.01, seed, "policy_logits")


def value(seed: int | None = None) -> keras.Layer:
    """Returns one linear unit: the value of the observation."""
    return linear(1, 1.0, seed, "value")


def dueling(num_actions: int, seed: int | None = None) -> keras.Layer:
    """Returns a value and an advantage stream: q = v + a - mean(a)."""
    return Dueling(num_actions, seed, name="dueling")


@keras.saving.register_keras_serializable("rlzoo")
class Dueling(keras.Layer):
    """Value and advantage added up (Wang et al. 2016, arXiv:1511.06581, equation 9).

    Args:
        num_actions: A.
        seed: of the initialisers.
    """

    def __init__(self, num_actions: int, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_actions = num_actions
        self.seed = seed
        self.value = linear(1, 1.0, seed, "value")
        self.advantage = linear(num_actions, 1.0, None if seed is None else seed + 1, "advantage")

    def build(self, input_shape):
        """Builds both streams on the features."""
        self.value.build(input_shape)
        self.advantage.build(input_shape)

    def call(self, features):
        """Returns [B, num_actions]."""
        advantage = self.advantage(features)
        return self.value(features) + advantage - keras.ops.mean(advantage, -1, keepdims=True)

    def get_config(self):
        """Returns the constructor's arguments, for Keras."""
        return {**super().get_config(), "num_actions": self.num_actions, "seed": self.seed}


def linear(units: int, gain: float, seed: int | None, name: str = "linear") -> keras.Layer:
    """Returns a dense layer without activation, orthogonal with `gain`."""
    kernel = initializer("orthogonal", gain, seed)
    return keras.layers.Dense(units, kernel_initializer=kernel, name=name)
