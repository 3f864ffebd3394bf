"""A learned model of an environment: what follows an observation and an action."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlzoo.networks.heads import linear
from rlzoo.networks.network import named_variables
from rlzoo.networks.torsos import dense
from rlzoo.ops import losses, rng
from rlzoo.types import Chunk, EnvSpec, Transitions


class Moments(NamedTuple):
    """Running mean and variance per dimension."""

    mean: tf.Variable  # [D] float32
    variance: tf.Variable  # [D] float32
    count: tf.Variable  # [] float32

    def add(self, rows: tf.Tensor, valid: tf.Tensor) -> None:
        """Takes the rows [B, D] where `valid` [B] into account (Chan et al. 1983)."""
        count = tf.cast(tf.math.count_nonzero(valid), tf.float32)
        total = tf.maximum(self.count + count, 1.0)
        mean = _mean_row(rows, valid)
        variance = _mean_row(tf.math.squared_difference(rows, mean), valid)
        shift = mean - self.mean
        spread = self.variance * self.count + variance * count
        self.variance.assign((spread + tf.square(shift) * self.count * count / total) / total)
        self.mean.assign_add(shift * count / total)
        self.count.assign_add(count)

    def scale(self) -> tf.Tensor:
        """Returns the deviation [D], never 0."""
        return tf.sqrt(self.variance) + 1e-6


class TransitionModel:
    """Predicts the change of the observation, the reward and the termination.

    Observations are flattened; inputs and changes are normalised by running moments.

    Args:
        spec: of the environment, with Box observations.
        sizes: hidden units.
        seed: of the initial weights.
    """

    def __init__(self, spec: EnvSpec, sizes: tuple[int, ...], seed: int):
        self.spec = spec
        size = int(tf.math.reduce_prod(spec.obs_shape))  # D
        pair = keras.Input((size + spec.num_actions,), name="obs_and_action")
        hidden = dense(sizes, "silu", seed=seed + 1)(pair)
        self.network = keras.Model(pair, linear(size + 2, 0.01, seed)(hidden))
        self.obs_moments, self.change_moments = _moments(size), _moments(size)

    def observe(self, chunk: Chunk) -> None:
        """Takes the valid steps of a chunk into the moments."""
        obs = _flatten(tf.reshape(chunk.obs, (-1, *self.spec.obs_shape)))
        next_obs = _flatten(tf.reshape(chunk.next_obs, (-1, *self.spec.obs_shape)))
        valid = tf.reshape(chunk.valid, [-1])
        self.obs_moments.add(obs, valid)
        self.change_moments.add(next_obs - obs, valid)

    def predict(self, flat: tf.Tensor, action: tf.Tensor):
        """Returns normalised change [B, D], reward [B] and termination logit [B]."""
        normal = (flat - self.obs_moments.mean) / self.obs_moments.scale()
        pair = tf.concat([normal, tf.one_hot(action, self.spec.num_actions)], axis=-1)
        output = self.network(pair)  # [B, D + 2]
        return output[:, :-2], output[:, -2], output[:, -1]

    def loss(self, batch: Transitions) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean loss of real transitions, and the part that is about termination."""
        flat, moments = _flatten(batch.obs), self.change_moments
        target = (_flatten(batch.next_obs) - flat - moments.mean) / moments.scale()  # [B, D]
        change, reward, logit = self.predict(flat, batch.action)
        error = tf.reduce_mean(losses.huber(target - change), axis=-1)  # [B]
        terminated = 1.0 - batch.discount
        surprise = tf.nn.sigmoid_cross_entropy_with_logits(terminated, logit)  # [B]
        loss = error + losses.huber(batch.reward - reward) + surprise
        return tf.reduce_mean(loss), tf.reduce_mean(surprise)

    def simulate(self, obs: tf.Tensor, seed: tf.Tensor) -> Transitions:
        """Returns what the model expects of a random action in each observation [B, ...]."""
        action = rng.integers(seed, [obs.shape[0]], self.spec.num_actions)  # [B]
        flat, moments = _flatten(obs), self.change_moments
        change, reward, logit = self.predict(flat, action)
        next_obs = tf.reshape(flat + moments.mean + change * moments.scale(), obs.shape)
        next_obs = _nearest(next_obs, obs.dtype)
        return Transitions(obs, action, reward, 1.0 - tf.sigmoid(logit), next_obs)

    def variables(self) -> dict[str, Any]:
        """Returns the state to be saved, by name."""
        return {
            **named_variables("network", self.network),
            **{f"obs_moments/{k}": v for k, v in self.obs_moments._asdict().items()},
            **{f"change_moments/{k}": v for k, v in self.change_moments._asdict().items()},
        }


def _moments(size: int) -> Moments:
    zeros = [tf.Variable(tf.zeros(shape), trainable=False) for shape in ((size,), (size,), ())]
    return Moments(*zeros)


def _flatten(obs: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(obs, (obs.shape[0], -1)), tf.float32)  # [B, D]


def _mean_row(rows: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Returns the mean [D] of the valid rows [B, D]; 0 if there is none."""
    total = tf.reduce_sum(tf.where(valid[:, None], rows, 0.0), axis=0)
    return tf.math.divide_no_nan(total, tf.cast(tf.math.count_nonzero(valid), tf.float32))


def _nearest(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns float32 values as the nearest ones that the environment's dtype holds."""
    if dtype == tf.bool:
        return values > 0.5
    return tf.saturate_cast(tf.round(values) if dtype.is_integer else values, dtype)
