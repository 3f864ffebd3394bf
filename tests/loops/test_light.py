"""Acting in NumPy is acting in TensorFlow: the same actions, the same probabilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents import DQN, REINFORCE
from rlzoo.exploration import EpsilonGreedy, EpsilonSoftmax, Exploration, Greedy, Softmax
from rlzoo.loops.base import initial_acting
from rlzoo.loops.compiled import compile_act
from rlzoo.loops.light import NumpyActor
from rlzoo.ops import rng
from rlzoo.ops.schedules import Linear
from rlzoo.spaces import Box, Discrete, EnvSpec

SPEC = EnvSpec(Box((4,)), Discrete(3), 20)
STRATEGIES = [
    Greedy(),
    EpsilonGreedy(Linear(0.9, 0.3, 100)),
    Softmax(0.5),
    EpsilonSoftmax(0.2, Linear(2.0, 1.0, 100)),
]


def agent_with(strategy: Exploration, torso=None, spec: EnvSpec = SPEC, **config) -> DQN:
    torso = torso or networks.dense((16, 8), "tanh", seed=1)
    config = DQN.Config(train_every=20, replay_capacity=100, learning_starts=10, **config)
    return DQN(spec, config, strategy, torso, 3)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def test_numpy_acts_as_the_compiled_agent(strategy):
    num_envs, seed = 5, 11
    agent = agent_with(strategy)
    agent.actor.network.layers[-1].kernel.assign(np.random.default_rng(0).normal(size=(8, 3)) * 3)
    actor = NumpyActor(agent, num_envs)
    acting, step = initial_acting(agent, num_envs), tf.zeros([], tf.int64)
    stream = rng.fold_in(rng.from_int(seed), 0)
    actor.unpack(actor.pack(step, acting.acts, stream).numpy())
    act = compile_act(agent, num_envs, seed, "explore", record=True)
    tensors = tf.nest.flatten(acting)
    first = tf.zeros([num_envs], tf.bool)
    seen = set()
    for t in range(agent.chunk_length):
        obs = np.random.default_rng(t).normal(size=(num_envs, 4)).astype(np.float32)
        action, log_prob, scores, *tensors = act(*tensors, step, tf.constant(obs), first)
        light_action, told = actor(obs, t)
        np.testing.assert_allclose(told["scores"], scores.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(light_action, action.numpy())
        np.testing.assert_allclose(told["log_prob"], log_prob.numpy(), atol=1e-5)
        seen.update(light_action.tolist())
    assert len(seen) == 3
    assert light_action.dtype == np.int32


@pytest.mark.parametrize("torso", ["relu", "tanh", "linear"])
def test_the_forward_pass_is_the_networks(torso):
    agent = agent_with(Softmax(), networks.dense((32, 16), torso, seed=2))
    actor = NumpyActor(agent, 7)
    actor.unpack(actor.pack(tf.constant(0), tf.constant(0, tf.int64), rng.from_int(1)).numpy())
    obs = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    log_probs = tf.nn.log_softmax(agent.actor.network(obs)).numpy()
    action, told = actor(obs, 0)
    np.testing.assert_allclose(told["log_prob"], log_probs[np.arange(7), action], atol=1e-5)


def test_equal_scores_share():
    np.testing.assert_allclose(Greedy.probabilities(np.zeros((1, 4), np.float32)), [[0.25] * 4])


class Own(Softmax):
    """A strategy of somebody's own on top of one of ours."""

    def log_probs(self, scores, state, step):
        return tf.nn.log_softmax(-scores)


@keras.saving.register_keras_serializable("tests")
class Doubling(keras.layers.Dense):
    """A layer of somebody's own on top of Keras's."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


@keras.saving.register_keras_serializable("tests")
def relu(inputs):
    """An activation that is not the one of this name."""
    return keras.ops.leaky_relu(inputs)


def test_only_what_has_a_mirror_is_acted_in_numpy():
    assert NumpyActor.fits(agent_with(Softmax()))
    assert not NumpyActor.fits(agent_with(Own()))
    assert not NumpyActor.fits(agent_with(Softmax(), dueling=True))
    assert not NumpyActor.fits(agent_with(Softmax(), networks.dense((8,), layer_norm=True)))
    assert not NumpyActor.fits(agent_with(Softmax(), networks.dense((8,), "silu")))
    assert not NumpyActor.fits(agent_with(Softmax(), networks.dense((400, 400))))
    assert not NumpyActor.fits(agent_with(Softmax(), Doubling(8)))
    assert not NumpyActor.fits(agent_with(Softmax(), keras.layers.Dense(8, activation=relu)))
    rows = SPEC._replace(obs=Box((2, 4)))  # Keras applies a Dense to each row
    assert not NumpyActor.fits(agent_with(Softmax(), keras.layers.Dense(8), rows))
    assert NumpyActor.fits(agent_with(Softmax(), networks.dense((8,)), rows))
    discrete = EnvSpec(Discrete(5), Discrete(3), 20)
    assert not NumpyActor.fits(agent_with(Softmax(), spec=discrete))
    cell = keras.layers.LSTMCell(4)
    recurrent = REINFORCE(SPEC, REINFORCE.Config(), Softmax(), cell, 0)
    assert not NumpyActor.fits(recurrent)
