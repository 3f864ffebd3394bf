"""Layers that act otherwise while they train: in every agent's update, and nowhere else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents import variables
from rlzoo.ops import rng
from tests.helpers import BOX, STEP, agent_chunk, arrays, assign, graph, make_agent, random_obs, xla

AGENTS = ("dqn", "reinforce", "dyna_q")
RATE = {"learning_rate": 1e-6, "max_grad_norm": 1e-6}


@keras.saving.register_keras_serializable("rlzoo tests")
class Noted(keras.layers.Layer):
    """Counts the calls in which it trains and those in which it does not."""

    def build(self, input_shape):
        self.counts = self.add_weight(shape=(2,), initializer="zeros", trainable=False)

    def call(self, inputs, training=True):
        self.counts.assign_add([1.0, 0.0] if training else [0.0, 1.0])
        return inputs


@keras.saving.register_keras_serializable("rlzoo tests")
class Wrapper(keras.layers.Layer):
    """A layer that does not ask whether it trains, around one that does."""

    def __init__(self, inner="noted", **kwargs):
        super().__init__(**kwargs)
        self.inner = Noted()

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs)


def learned(agent, updates=1, update=None):
    """Returns the agent's variables after some updates on one chunk."""
    update, state = update or agent.update, agent.init(2)
    for number in range(updates):
        state, metrics = update(state, agent_chunk(agent, 2, 0), STEP, rng.from_int(number))
        assert all(np.isfinite(value) for value in metrics.values())
    return arrays(variables(agent))


def find(network, kind):
    return next(x for x in network._flatten_layers() if type(x) is kind)


def torso_with(layer):
    return keras.Sequential([keras.layers.Dense(6, "tanh"), layer])


CASES = [(agent, False) for agent in AGENTS] + [("dqn", True), ("reinforce", True)]
IDS = [f"{agent}-{'recurrent' if recurrent else 'dense'}" for agent, recurrent in CASES]
COMPILED = [pytest.param(c, marks=pytest.mark.slow) if c[1] else c for c in CASES]


@pytest.fixture(scope="module", params=COMPILED, ids=IDS)
def trained(request):
    """An agent with all such layers, compiled by XLA as the loops do.

    Also its variables at the start, after 2 updates, and after 2 from the start again.
    """
    name, recurrent = request.param
    norm = keras.layers.BatchNormalization(momentum=0.5)
    layers = [keras.layers.Dense(6, "tanh"), Wrapper(), norm, keras.layers.Dropout(0.5)]
    body = keras.Sequential(layers)
    torso = networks.Recurrent(keras.layers.GRUCell(4), body) if recurrent else body
    config = {"target_update_period": 1} if name != "reinforce" else {}
    agent = make_agent(name, BOX, torso=torso, **config)
    obs = tf.constant(random_obs(BOX, (2,), np.random.default_rng(0)))
    for mode in ("explore", "policy", "greedy"):
        first, seed = tf.fill([2], True), rng.from_int(0)
        agent.actor.act(agent.actor.init(2), obs, first, STEP, seed, mode)
    acted = find(agent.actor.network, Noted).counts.numpy().tolist()
    update = xla(agent.update)
    start, end = arrays(variables(agent)), learned(agent, 2, update)
    assign(variables(agent), start)
    return agent, acted, start, end, learned(agent, 2, update)


def test_layers_train_in_updates_and_not_in_acting(trained):
    agent, acted, *_ = trained
    assert acted == [0.0, 3.0]
    assert find(agent.actor.network, Noted).counts.numpy()[0] > 0


def test_batch_statistics_are_learned_and_reach_the_target(trained):
    agent = trained[0]
    mean = find(agent.actor.network, keras.layers.BatchNormalization).moving_mean
    assert np.abs(mean).max() > 0
    if target := getattr(getattr(agent, "dqn", agent), "target", None):
        other = find(target.network, keras.layers.BatchNormalization).moving_mean
        np.testing.assert_array_equal(other, mean)


def test_dropout_draws_anew_in_each_update_and_goes_on_from_a_checkpoint(trained):
    _, _, start, end, again = trained
    seeds = [name for name in end if end[name].dtype == np.int64 and end[name].shape == (2,)]
    assert any(not np.array_equal(start[name], end[name]) for name in seeds)
    for key, value in end.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def test_padding_is_no_part_of_batch_statistics():
    """REINFORCE pads its episodes: the statistics are those of the steps that were played."""
    layer = keras.layers.BatchNormalization(momentum=0.0)  # the last batch's
    agent = make_agent("reinforce", BOX, torso=layer, baseline=False, **RATE)
    chunk = agent_chunk(agent, 3, 0)
    valid, obs = chunk.valid.numpy(), chunk.obs.numpy()
    lengths = valid.sum(axis=0)
    assert (~valid).sum() > 0
    obs[~valid] = 1e6
    agent.update(agent.init(3), chunk._replace(obs=tf.constant(obs)), STEP, rng.from_int(0))
    found = find(agent.actor.network, keras.layers.BatchNormalization).moving_mean
    real = obs[valid]
    # As many rows again as there is padding are repeated, from the first on.
    rows = np.concatenate([real, np.resize(real, ((~valid).sum(), 3))])
    np.testing.assert_allclose(found, rows.mean(axis=0), rtol=1e-4)
    assert lengths.max() <= agent.chunk_length


def test_acting_has_no_dropout():
    agent = make_agent("dqn", BOX, torso=torso_with(keras.layers.Dropout(0.9)))
    obs = tf.constant(random_obs(BOX, (2,), np.random.default_rng(0)))
    scores = [networks.apply(agent.actor.network, obs, (), tf.fill([2], True))[0] for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    dense = agent.actor.network.layers[2].layers[0]
    np.testing.assert_allclose(scores[0], agent.actor.network.layers[-1](dense(obs)), atol=1e-6)


@pytest.mark.parametrize(("name", "recurrent"), CASES, ids=IDS)
@pytest.mark.parametrize("what", ["kernel_regularizer", "activity_regularizer"])
def test_regularisers_count(name, recurrent, what):
    def torso(**more):
        kernel = keras.initializers.GlorotUniform(seed=1)
        dense = keras.layers.Dense(6, "tanh", kernel_initializer=kernel, **more)
        cell = keras.layers.GRUCell(4, kernel_initializer=kernel)
        return networks.Recurrent(cell, dense) if recurrent else dense

    plain = make_agent(name, BOX, torso=torso())
    more = make_agent(name, BOX, torso=torso(**{what: keras.regularizers.L2(10.0)}))
    assign(more.variables(), arrays(plain.variables()))
    learned(plain), learned(more)
    one, other = (
        next(w.numpy() for w in agent.actor.network.weights if w.shape == (3, 6))
        for agent in (plain, more)
    )
    assert not np.array_equal(one, other)
    if what == "kernel_regularizer":
        assert np.abs(other).mean() < np.abs(one).mean()


def test_constraints_hold_also_where_the_learning_rate_is_scaled():
    for scale in (1.0, 0.5):
        norm = keras.constraints.UnitNorm(axis=0)
        torso = keras.layers.Dense(6, kernel_constraint=norm)
        networks.build_torso(torso, BOX.obs)
        networks.scale_learning_rate(torso, scale)
        agent = make_agent("dqn", BOX, torso=torso, learning_rate=0.1)
        learned(agent)
        lengths = np.linalg.norm(agent.actor.network.get_weights()[0], axis=0)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def test_what_a_cell_adds_to_the_loss_is_refused_by_name():
    cell = keras.layers.GRUCell(4, activity_regularizer=keras.regularizers.L2(1.0))
    agent = make_agent("dqn", BOX, torso=cell)
    with pytest.raises(ValueError, match=r"add_loss.*inside a recurrent cell"):
        learned(agent, 1, graph(agent.update))


def test_a_frozen_torso_keeps_its_batch_statistics():
    torso = torso_with(keras.layers.BatchNormalization())
    networks.build_torso(torso, BOX.obs)
    networks.scale_learning_rate(torso, 0.0)
    agent = make_agent("dqn", BOX, torso=torso)
    before = torso.get_weights()
    learned(agent)
    for one, other in zip(before, agent.actor.network.layers[2].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_soft_update_copies_what_is_no_float():
    torso = keras.layers.Normalization(mean=None, variance=None)
    torso.adapt(np.random.default_rng(0).normal(size=(10, 3)))
    agent = make_agent("dqn", BOX, torso=torso, target_update_rate=0.1, target_update_period=1)
    learned(agent)


def test_the_torso_that_is_given_stays_as_it_is():
    torso = torso_with(keras.layers.BatchNormalization())
    networks.build_torso(torso, BOX.obs)
    before = torso.get_weights()
    first, second = (make_agent("dqn", BOX, torso=torso) for _ in range(2))
    for one, other in zip(first.network.layers[2].get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    learned(first)
    for now, was in zip(torso.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)
    for now, was in zip(second.network.layers[2].get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)
