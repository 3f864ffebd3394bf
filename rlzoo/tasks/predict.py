"""Predict: an environment's next observation, from the observation and the action."""

import dataclasses
import math

import keras
import numpy as np

from rlzoo import networks
from rlzoo.spaces import Discrete, leaf_of
from rlzoo.tasks.base import Examples, Problem, check_ranges, split
from rlzoo.tasks.transitions import gather, standardized


@dataclasses.dataclass(frozen=True)
class Predict:
    """Foresee an environment's next observation from this one and the action.

    What is foreseen is the change; the loss is its mean squared error, standardised: 1 is what the
    mean change would get. For Discrete observations it is the cross-entropy of the next one.
    """

    torso: dict = dataclasses.field(default_factory=lambda: {"name": "dense"})
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    patience: int = 5
    env: str = ""  # a Gymnasium id
    steps: int = 20_000  # random steps to gather; a tenth validates, a tenth tests

    def __post_init__(self):
        check_ranges(self, steps=(20, 10**8))

    def problem(self, seed: int) -> Problem:
        """Returns observations with actions, and how the observations change."""
        spec, transitions = gather(self.env, self.steps, seed)
        tenth = self.steps // 10
        sizes = (self.steps - 2 * tenth, tenth, tenth)
        obs, next_obs = np.asarray(transitions.obs), np.asarray(transitions.next_obs)
        space = leaf_of(spec.obs)
        discrete = isinstance(space, Discrete)
        if discrete:
            targets = next_obs
        else:
            change = next_obs.astype(np.float64) - obs.astype(np.float64)
            targets = standardized(change, change[: sizes[0]])
        inputs = {"obs": obs, "action": np.asarray(transitions.action)}
        train, validation, test = split(inputs, targets, *sizes)
        units = space.n if isinstance(space, Discrete) else targets.shape[1]
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return Problem(
            obs=space,
            train=train,
            validation=validation,
            test=test,
            head=lambda seed: (
                ActionHead(spec.num_actions, units, seed=seed)
                if isinstance(spec.action, Discrete)
                else BoxActionHead(units, seed=seed)
            ),
            loss=cross_entropy if discrete else keras.losses.MeanSquaredError(),
            metrics=("accuracy",) if discrete else (),
            figures=None if discrete else _explained_variance,
        )


class ActionHead(keras.Layer):
    """One linear layer for each action: what follows from the features under it.

    Args:
        num_actions: A.
        units: size of an answer, D.
        seed: of the initialiser.
    """

    def __init__(self, num_actions: int, units: int, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.shape = (num_actions, units)
        self.linear = networks.linear(num_actions * units, 1.0, seed)

    def build(self, input_shape):
        """Builds the layer on the features."""
        self.linear.build(input_shape[0])

    def call(self, inputs):
        """Returns [B, D] from features [B, F] and actions [B]."""
        features, action = inputs
        answers = keras.ops.reshape(self.linear(features), (-1, *self.shape))  # [B, A, D]
        chosen = keras.ops.one_hot(action, self.shape[0])  # [B, A]
        return keras.ops.sum(answers * chosen[:, :, None], axis=1)

    def compute_output_shape(self, input_shape):
        """Returns the shape [B, D]."""
        return (input_shape[0][0], self.shape[1])


class BoxActionHead(keras.Layer):
    """A small network on features and continuous actions side by side.

    Args:
        units: size of an answer, D.
        seed: of the initialisers.
        hidden: units of its one hidden layer.
    """

    def __init__(self, units: int, seed: int | None = None, hidden: int = 64, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = networks.dense((hidden,), seed=seed)
        self.linear = networks.linear(units, 1.0, seed)

    def build(self, input_shape):
        """Builds the layers on features and actions."""
        features, action = input_shape
        joined = (None, features[-1] + math.prod(action[1:]))
        self.hidden.build(joined)
        self.linear.build(self.hidden.compute_output_shape(joined))

    def call(self, inputs):
        """Returns [B, D] from features [B, F] and actions [B, ...]."""
        features, action = inputs
        action = keras.ops.reshape(action, (-1, math.prod(action.shape[1:])))
        return self.linear(self.hidden(keras.ops.concatenate([features, action], axis=-1)))

    def compute_output_shape(self, input_shape):
        """Returns the shape [B, D]."""
        return (input_shape[0][0], self.units)


def _explained_variance(outputs: np.ndarray, test: Examples) -> dict[str, float]:
    """Returns the share of the change's variance that is foreseen: 1 at best, 0 for its mean."""
    error = float(np.mean((outputs - test.targets) ** 2))
    variance = float(np.var(test.targets, axis=0).mean())
    return {"explained_variance": 1.0 - error / variance} if variance else {}
