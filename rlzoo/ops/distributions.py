"""What a policy says of the next action, as records of float32 tensors.

Each has `sample(seed)`, `log_prob(action)`, `mode()` and, where there is a closed form,
`entropy()` in nats; one number, or one action, for each row [...]. Samples of continuous ones let
the gradient through to the parameters (Kingma & Welling 2014, arXiv:1312.6114).
"""

import math
from typing import NamedTuple

import tensorflow as tf

from rlzoo.ops import losses, rng

_BELOW_ONE = 1.0 - 2.0**-24  # the last float32 there


class Categorical(NamedTuple):
    """One of A actions, in proportion to exp(logits)."""

    logits: tf.Tensor  # [..., A], -inf where an action is invalid; one in each row is valid

    def log_probs(self) -> tf.Tensor:
        """Returns the log-probability [..., A] of every action."""
        return tf.nn.log_softmax(self.logits)

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws actions [...] int32, never an invalid one."""
        rows = tf.reshape(self.log_probs(), (-1, self.logits.shape[-1]))
        return tf.reshape(rng.categorical(seed, rows), tf.shape(self.logits)[:-1])

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """Returns the log-probability [...] of actions [...] int32."""
        return losses.select(self.log_probs(), action)

    def entropy(self) -> tf.Tensor:
        """Returns the entropy [...], to which an invalid action adds nothing."""
        return losses.entropy(self.log_probs())

    def mode(self) -> tf.Tensor:
        """Returns the likeliest action [...] int32, the first among equals."""
        return tf.argmax(self.logits, axis=-1, output_type=tf.int32)


class MultiCategorical(NamedTuple):
    """Several whole numbers, independent of each other: one `Categorical` for each."""

    logits: tf.Tensor  # [..., sum of nvec], those of each number behind those of the one before
    nvec: tuple[int, ...]  # how many values each number has, as in `spaces.MultiDiscrete`

    def parts(self) -> list[Categorical]:
        """Returns the distribution of each number."""
        return [Categorical(logits) for logits in tf.split(self.logits, self.nvec, axis=-1)]

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws actions [..., K] int32."""
        pairs = zip(self.parts(), rng.split(seed, len(self.nvec)), strict=True)
        return tf.stack([part.sample(seed) for part, seed in pairs], axis=-1)

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """Returns the log-probability [...] of actions [..., K] int32."""
        pairs = zip(self.parts(), tf.unstack(action, axis=-1), strict=True)
        return tf.add_n([part.log_prob(number) for part, number in pairs])

    def entropy(self) -> tf.Tensor:
        """Returns the entropy [...], the sum of the numbers'."""
        return tf.add_n([part.entropy() for part in self.parts()])

    def mode(self) -> tf.Tensor:
        """Returns the likeliest action [..., K] int32."""
        return tf.stack([part.mode() for part in self.parts()], axis=-1)


class Normal(NamedTuple):
    """Continuous actions whose D axes are independent of each other."""

    mean: tf.Tensor  # [..., D]
    deviation: tf.Tensor  # [..., D], or [D] where it does not depend on the row; > 0

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws actions [..., D]."""
        return self.mean + self.deviation * rng.normal(seed, tf.shape(self.mean))

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """Returns the log-density [...] of actions [..., D]."""
        distance = (action - self.mean) / self.deviation
        log_prob = -0.5 * tf.square(distance) - tf.math.log(self.deviation)
        return tf.reduce_sum(log_prob - 0.5 * math.log(2.0 * math.pi), axis=-1)

    def entropy(self) -> tf.Tensor:
        """Returns the differential entropy [...], which may be negative."""
        log_deviation = tf.math.log(self.deviation) + tf.zeros_like(self.mean)  # [..., D]
        return tf.reduce_sum(log_deviation + 0.5 * math.log(2.0 * math.pi * math.e), axis=-1)

    def mode(self) -> tf.Tensor:
        """Returns the mean [..., D]."""
        return self.mean


class TanhNormal(NamedTuple):
    """A `Normal` whose samples tanh brings between bounds (Haarnoja et al. 2018, appendix C).

    See arXiv:1801.01290. It has no `entropy`: there is no closed form. Minus the log-density of a
    sample is an estimate without bias, and `sample_and_log_prob` gives both.
    """

    mean: tf.Tensor  # [..., D], before tanh
    deviation: tf.Tensor  # [..., D] or [D], before tanh; > 0
    low: tf.Tensor  # [D] or [], finite
    high: tf.Tensor  # [D] or [], finite, > low

    def sample(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws actions [..., D]."""
        return self._bounded(self._normal().sample(seed))

    def sample_and_log_prob(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws actions [..., D]; with their log-density [...], exact also next to the bounds."""
        before = self._normal().sample(seed)
        return self._bounded(before), self._log_prob(before)

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """Returns the log-density [...] of actions [..., D].

        float32 knows no action nearer to a bound than 2**-24 of half the range: those on the bound
        count as that far from it.
        """
        middle, half = self._range()
        inside = tf.clip_by_value((action - middle) / half, -_BELOW_ONE, _BELOW_ONE)
        return self._log_prob(tf.atanh(inside))

    def mode(self) -> tf.Tensor:
        """Returns the median [..., D]: what the mean of the `Normal` becomes."""
        return self._bounded(self.mean)

    def _normal(self) -> Normal:
        return Normal(self.mean, self.deviation)

    def _range(self) -> tuple[tf.Tensor, tf.Tensor]:
        return 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)

    def _bounded(self, before: tf.Tensor) -> tf.Tensor:
        middle, half = self._range()  # rounding could lead out of the range by its last digit
        return tf.clip_by_value(middle + half * tf.tanh(before), self.low, self.high)

    def _log_prob(self, before: tf.Tensor) -> tf.Tensor:
        """Returns the log-density [...] of what `before` [..., D] becomes."""
        _, half = self._range()
        # log(1 - tanh(x)**2), which would round to log(0) from 9 on, without the difference.
        log_slope = 2.0 * (math.log(2.0) - before - tf.math.softplus(-2.0 * before))
        change = tf.reduce_sum(log_slope + tf.math.log(half), axis=-1)
        return self._normal().log_prob(before) - change
