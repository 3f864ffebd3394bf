"""A learned model of an environment: what follows an observation and an action."""

from typing import Any

import keras
import tensorflow as tf

from rlzoo.networks.heads import linear
from rlzoo.networks.naming import all_named, under
from rlzoo.networks.torsos import dense
from rlzoo.ops import losses, rng
from rlzoo.ops.moments import Moments, merged, moments_of, no_moments
from rlzoo.spaces import (
    Discrete,
    EnvSpec,
    Leaf,
    MultiDiscrete,
    filled,
    leaves,
    map_leaves,
    mask_of,
    num_inputs,
)
from rlzoo.types import Chunk, Transitions


class TransitionModel:
    """Predicts the change of the observation, the reward and the termination.

    Observations are flattened, whole numbers one-hot; inputs and changes are normalised by running
    moments.

    Args:
        spec: of the environment.
        sizes: hidden units.
        seed: of the initial weights.
    """

    def __init__(self, spec: EnvSpec, sizes: tuple[int, ...], seed: int):
        self.spec = spec
        size = sum(map(num_inputs, leaves(spec.obs)))  # D
        pair = keras.Input((size + spec.num_actions,), name="obs_and_action")
        hidden = dense(sizes, "silu", seed=seed + 1)(pair)
        self.network = keras.Model(pair, linear(size + 2, 0.01, seed)(hidden), name="model")
        self.obs_moments, self.change_moments = _moments(size), _moments(size)

    def observe(self, chunk: Chunk) -> None:
        """Takes the valid steps of a chunk into the moments."""
        obs, next_obs = (
            self._flatten(map_leaves(lambda x: tf.reshape(x, (-1, *x.shape[2:])), seen))
            for seen in (chunk.obs, chunk.next_obs)
        )
        valid = tf.reshape(chunk.valid, [-1])
        _follow(self.obs_moments, obs, valid)
        _follow(self.change_moments, next_obs - obs, valid)

    def predict(self, flat: tf.Tensor, action: tf.Tensor):
        """Returns normalised change [B, D], reward [B] and termination logit [B]."""
        normal = (flat - self.obs_moments.mean) / _scale(self.obs_moments)
        pair = tf.concat([normal, tf.one_hot(action, self.spec.num_actions)], axis=-1)
        output = self.network(pair)  # [B, D + 2]
        return output[:, :-2], output[:, -2], output[:, -1]

    def loss(self, batch: Transitions) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean loss of real transitions, and the part that is about termination."""
        flat, moments = self._flatten(batch.obs), self.change_moments
        target = (self._flatten(batch.next_obs) - flat - moments.mean) / _scale(moments)  # [B, D]
        change, reward, logit = self.predict(flat, batch.action)
        error = tf.reduce_mean(losses.huber(target - change), axis=-1)  # [B]
        terminated = 1.0 - batch.discount
        surprise = tf.nn.sigmoid_cross_entropy_with_logits(terminated, logit)  # [B]
        loss = error + losses.huber(batch.reward - reward) + surprise
        return tf.reduce_mean(loss), tf.reduce_mean(surprise)

    def simulate(self, obs: Any, seed: tf.Tensor) -> Transitions:
        """Returns what the model expects of a random valid action in each observation [B, ...]."""
        flat, moments = self._flatten(obs), self.change_moments
        mask = mask_of(obs)
        if mask is None:
            action = rng.integers(seed, [flat.shape[0]], self.spec.num_actions)  # [B]
        else:
            valid = mask | ~tf.reduce_any(mask, axis=-1, keepdims=True)
            action = rng.categorical(seed, tf.where(valid, 0.0, -float("inf")))  # [B]
        change, reward, logit = self.predict(flat, action)
        next_obs = self._unflatten(flat + moments.mean + change * _scale(moments))
        return Transitions(obs, action, reward, 1.0 - tf.sigmoid(logit), next_obs)

    def _flatten(self, obs: Any) -> tf.Tensor:
        """Returns observations [B, ...] as float32 [B, D]."""
        pairs = zip(leaves(self.spec.obs), leaves(obs), strict=True)
        return tf.concat([_as_floats(leaf, x) for leaf, x in pairs], axis=-1)

    def _unflatten(self, flat: tf.Tensor) -> Any:
        """Returns the observations [B, ...] that are nearest to float32 [B, D]."""
        sizes = [num_inputs(leaf) for leaf in leaves(self.spec.obs)]
        parts = tf.split(flat, sizes, axis=-1)
        found = [_nearest(leaf, x) for leaf, x in zip(leaves(self.spec.obs), parts, strict=True)]
        return filled(self.spec.obs, found)

    def variables(self) -> dict[str, Any]:
        """Returns the state to be saved, by name."""
        return {
            **all_named({"network": self.network}),
            **under("obs_moments", self.obs_moments._asdict()),
            **under("change_moments", self.change_moments._asdict()),
        }


def _moments(size: int) -> Moments:
    return Moments(*(tf.Variable(x, trainable=False) for x in no_moments((size,))))


def _follow(moments: Moments, rows: tf.Tensor, valid: tf.Tensor) -> None:
    """Takes the valid rows [B, D] into account."""
    for variable, value in zip(moments, merged(moments, moments_of(rows, valid)), strict=True):
        variable.assign(value)


def _scale(moments: Moments) -> tf.Tensor:
    """Returns the deviation [D], never 0, but near it where nothing changes: there nothing will."""
    return tf.sqrt(moments.variance) + 1e-6


def _as_floats(leaf: Leaf, x: tf.Tensor) -> tf.Tensor:
    """Returns a part [B, ...] of observations as float32 [B, its share of D]."""
    if isinstance(leaf, MultiDiscrete):
        return tf.concat([tf.one_hot(x[:, i], n) for i, n in enumerate(leaf.nvec)], axis=-1)
    x = tf.one_hot(x, leaf.n) if isinstance(leaf, Discrete) else x
    return tf.cast(tf.reshape(x, (x.shape[0], -1)), tf.float32)


def _nearest(leaf: Leaf, values: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, its share of D] as the nearest values that a part of the space has."""
    dtype = tf.as_dtype(leaf.dtype)
    if isinstance(leaf, MultiDiscrete):
        parts = tf.split(values, list(leaf.nvec), axis=-1)
        return tf.stack([tf.argmax(part, axis=-1, output_type=dtype) for part in parts], axis=-1)
    if isinstance(leaf, Discrete):
        rows = tf.reshape(values, (-1, *leaf.shape, leaf.n))
        return tf.argmax(rows, axis=-1, output_type=dtype)
    values = tf.reshape(values, (-1, *leaf.shape))
    if dtype == tf.bool:
        return values > 0.5
    return tf.saturate_cast(tf.round(values) if dtype.is_integer else values, dtype)
