"""Dyna-Q over a table: learning, model learning and planning on Discrete observations.

Sutton 1990, "Integrated architectures for learning, planning, and reacting based on approximating
dynamic programming", https://doi.org/10.1016/B978-1-55860-141-3.50030-4; the algorithm is the box
"Tabular Dyna-Q" in Sutton & Barto, 2nd ed., section 8.2. The model is the remembered transition
of each observation and action.

Deviations from the book:
1. A time limit is no terminal state: the value of its last observation is bootstrapped.
2. Several environments share the table; their steps are learned from one after the other.
3. Planning draws evenly among all pairs (s, a) seen so far; the book draws a state seen before,
   then an action taken in it, and so plans more often where few actions have been tried.
4. Any strategy explores; by default epsilon falls from 1 in the first fifth of a run, the book's
   is constant.
"""

import dataclasses
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from rlzoo import exploration, networks
from rlzoo.agents.actor import ScoreActor
from rlzoo.agents.base import COUNT, FRACTION, Traits, check_ranges
from rlzoo.ops import rng
from rlzoo.ops.tabular import learn_masks, q_backup, write
from rlzoo.spaces import EnvSpec, mask_of, num_inputs, unmasked
from rlzoo.types import Chunk


@dataclasses.dataclass(frozen=True)
class TabularDynaQConfig:
    """Hyperparameters of tabular Dyna-Q."""

    exploration: str = "epsilon_greedy"  # default strategy
    learning_rate: float = 0.1  # alpha, 0..1
    discount: float = 0.95  # gamma, 0..1
    planning_steps: int = 50  # simulated backups after each real step; 0 is Q-learning

    def __post_init__(self):
        check_ranges(self, learning_rate=FRACTION, discount=FRACTION, planning_steps=(0, COUNT[1]))


class Model(NamedTuple):
    """The last transition seen of each pair (observation, action), and which were seen."""

    reward: Any  # [S * A] float32
    discount: Any  # [S * A] float32, 0 where the step terminated
    next_obs: Any  # [S * A] int32
    known: Any  # [S * A] bool
    pairs: Any  # [S * A] int32, the first `num_pairs` are the pairs seen
    num_pairs: Any  # [] int32
    valid: Any  # [S, A] bool, by the masks seen; all where there are none


def remember(model: Model, pair, reward, discount, next_obs, valid) -> Model:
    """Returns the model in which this transition, if valid, is the answer for its pair."""
    is_new = valid & ~tf.gather(model.known, pair)
    place = tf.where(is_new, model.num_pairs, 0)  # an old pair leaves the list as it is
    listed = tf.where(is_new, pair, model.pairs[0])

    def put(values, value):
        value = tf.where(valid, value, tf.gather(values, pair))
        return tf.tensor_scatter_nd_update(values, [[pair]], [value])

    return Model(
        reward=put(model.reward, reward),
        discount=put(model.discount, discount),
        next_obs=put(model.next_obs, next_obs),
        known=put(model.known, True),
        pairs=tf.tensor_scatter_nd_update(model.pairs, [[place]], [listed]),
        num_pairs=model.num_pairs + tf.cast(is_new, tf.int32),
        valid=model.valid,
    )


class TabularDynaQ:
    """The agent: a table of Q-values and a table of remembered transitions."""

    Config = TabularDynaQConfig
    traits = Traits(observations=("Discrete",), recurrent=False, adapts_input=False)
    chunk_length = 1

    def __init__(
        self,
        spec: EnvSpec,
        config: TabularDynaQConfig,
        strategy: exploration.Exploration,
        torso: None,
        seed: int,
    ):
        if torso is not None:
            raise ValueError(
                "dyna_q keeps a table for Discrete observations and takes no torso: leave "
                "--torso out."
            )
        networks.check_precision()
        self.spec = spec
        self.config = config
        obs, num_states = networks.inputs(spec.obs), num_inputs(unmasked(spec.obs))
        table = keras.layers.Embedding(
            num_states, spec.num_actions, embeddings_initializer="zeros", name="q_table"
        )
        q = networks.masked_scores(table(unmasked(obs)), obs)
        self.actor = ScoreActor(spec, keras.Model(obs, q, name="network"), strategy)
        self.table = table.embeddings  # [S, A]
        count = num_states * spec.num_actions

        def zeros(shape, dtype):
            return tf.Variable(tf.zeros(shape, dtype), trainable=False)

        self.model = Model(
            reward=zeros(count, tf.float32),
            discount=zeros(count, tf.float32),
            next_obs=zeros(count, tf.int32),
            known=zeros(count, tf.bool),
            pairs=zeros(count, tf.int32),
            num_pairs=zeros((), tf.int32),
            valid=tf.Variable(tf.ones((num_states, spec.num_actions), tf.bool), trainable=False),
        )

    def init(self, num_envs: int) -> tuple[()]:
        """Returns the state before the first update: nothing, all is in the tables."""
        return ()

    def update(self, state: tuple[()], chunk: Chunk, step, seed):
        """Learns from each step of the chunk, then plans `planning_steps` times."""
        config = self.config
        steps = tf.nest.map_structure(lambda x: tf.reshape(x, (-1, *x.shape[2:])), chunk)  # [T * N]
        obs, next_obs = (tf.cast(unmasked(x), tf.int32) for x in (steps.obs, steps.next_obs))
        pair = obs * self.spec.num_actions + steps.action
        rows = pair, steps.reward, config.discount * steps.discount, next_obs, steps.valid
        count = steps.reward.shape[0]
        draws = rng.uniform(seed, [count, config.planning_steps])

        # Indices that depend on data go through tf.gather: XLA wants those of x[i] as constants,
        # and would compile anew for every value.
        def real_step(i, q, model, total):
            pair, reward, discount, next_obs, valid = (tf.gather(x, i) for x in rows)
            learning_rate = tf.where(valid, config.learning_rate, 0.0)
            value, error = q_backup(q, model.valid, pair, reward, discount, next_obs, learning_rate)
            model = remember(model, pair, reward, discount, next_obs, valid)
            chosen = tf.gather(draws, i) * tf.cast(model.num_pairs, tf.float32)
            chosen = tf.gather(model.pairs, tf.cast(chosen, tf.int32))  # [planning_steps]

            # Each backup is written when the next begins: a step that reads the table after
            # writing it is done in place, one that reads it before makes XLA copy the table.
            def plan(j, q, pair, value):
                q = write(q, pair, value)
                pair = tf.gather(chosen, j)
                known = (model.reward, model.discount, model.next_obs)
                reward, discount, next_obs = (tf.gather(x, pair) for x in known)
                value, _ = q_backup(
                    q, model.valid, pair, reward, discount, next_obs, config.learning_rate
                )
                return j + 1, q, pair, value

            loop = (0, q, pair, value)
            _, q, pair, value = tf.while_loop(lambda j, *_: j < config.planning_steps, plan, loop)
            return i + 1, write(q, pair, value), model, total + tf.where(valid, tf.abs(error), 0.0)

        model = Model._make(map(tf.convert_to_tensor, self.model))
        for states, mask in ((obs, mask_of(steps.obs)), (next_obs, mask_of(steps.next_obs))):
            if mask is not None:
                masks = learn_masks(model.valid, states, mask, steps.valid)
                model = model._replace(valid=masks)
        loop = (0, tf.reshape(self.table, [-1]), model, 0.0)
        _, q, model, total = tf.while_loop(lambda i, *_: i < count, real_step, loop)
        self.table.assign(tf.reshape(q, self.table.shape))
        for variable, value in zip(self.model, model, strict=True):
            variable.assign(value)
        num_valid = tf.cast(tf.math.count_nonzero(chunk.valid), tf.float32)
        return state, {
            "loss/td": tf.math.divide_no_nan(total, num_valid),
            "value/q": tf.reduce_mean(tf.reduce_max(chunk.extras["scores"], axis=-1)),
            "model/pairs": tf.cast(model.num_pairs, tf.float32),
            "updates": tf.constant(count * (1.0 + config.planning_steps)),
        }

    def variables(self) -> dict[str, Any]:
        """Returns the model's variables, by name; the table is the actor's."""
        return networks.under("model", self.model._asdict())
