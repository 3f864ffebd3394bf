"""Reconstruct: an autoencoder of an environment's observations."""

import dataclasses

import keras
import numpy as np

from rlzoo import networks
from rlzoo.spaces import Discrete, leaf_of
from rlzoo.tasks.base import Problem, check_ranges, split
from rlzoo.tasks.transitions import gather, standardized


@dataclasses.dataclass(frozen=True)
class Reconstruct:
    """Give an environment's observation back, through the torso's features.

    The loss is the mean squared error of standardised observations: 1 is what the mean would get.
    For Discrete observations it is the cross-entropy of the right one.
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
        """Returns observations, and the same as targets."""
        spec, transitions = gather(self.env, self.steps, seed)
        tenth = self.steps // 10
        sizes = (self.steps - 2 * tenth, tenth, tenth)
        obs = np.asarray(transitions.obs)
        like = obs[: sizes[0]]
        space = leaf_of(spec.obs)
        discrete = isinstance(space, Discrete)
        targets = obs if discrete else standardized(obs, like)
        train, validation, test = split({"obs": obs}, targets, *sizes)
        units = space.n if isinstance(space, Discrete) else targets.shape[1]
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return Problem(
            obs=space,
            train=train,
            validation=validation,
            test=test,
            head=lambda seed: networks.linear(units, 1.0, seed),
            loss=cross_entropy if discrete else keras.losses.MeanSquaredError(),
            metrics=("accuracy",) if discrete else (),
        )
