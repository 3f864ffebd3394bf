"""Upper confidence bounds by counts (Auer et al. 2002, https://doi.org/10.1023/A:1013689704352)."""

import dataclasses
from typing import Any

import tensorflow as tf

from rlzoo.exploration.base import Exploration, check_range
from rlzoo.exploration.strategies import Greedy
from rlzoo.ops import losses, rng
from rlzoo.ops.schedules import Schedule, as_schedule
from rlzoo.spaces import Discrete, EnvSpec, unmasked


@dataclasses.dataclass(frozen=True)
class UCB(Exploration):
    """The action of the highest score + c * sqrt(log n(s) / n(s, a)); first those never tried.

    n counts how often each action was chosen at each of Discrete observations, by all environments
    together: for tables as for networks.
    """

    c: float | Schedule = 1.0  # width of the bounds, in units of the scores, >= 0

    def __post_init__(self):
        check_range("UCB", "c", self.c, 0.0, float("inf"))

    def init(self, num_envs: int, spec: EnvSpec) -> tf.Tensor:
        """Returns the counts [S, A] float32, all 0."""
        seen = unmasked(spec.obs)
        if not isinstance(seen, Discrete):
            raise ValueError(
                f"exploration: ucb counts Discrete observations, received {seen}. Take another "
                "strategy, such as epsilon_greedy."
            )
        return tf.zeros([seen.n, spec.num_actions])

    def behave(self, scores, obs, state: tf.Tensor, first, step, seed) -> Any:
        """Takes the highest bound; counts what it takes."""
        where = tf.cast(unmasked(obs), tf.int32)  # [N]
        counts = tf.gather(state, where)  # [N, A]
        total = tf.reduce_sum(counts, axis=-1, keepdims=True)
        width = tf.sqrt(tf.math.log(tf.maximum(total, 1.0)) / tf.maximum(counts, 1.0))
        untried = (counts == 0.0) & tf.math.is_finite(scores)
        bounds = scores + as_schedule(self.c)(step) * width
        bounds = tf.where(untried, tf.float32.max, bounds)
        log_probs = Greedy().log_probs(bounds, (), step)  # equals share
        action = rng.categorical(seed, log_probs)
        pairs = tf.stack([where, action], axis=-1)
        state = tf.tensor_scatter_nd_add(state, pairs, tf.ones_like(action, tf.float32))
        return action, losses.select(log_probs, action), state
