"""What every torso in `TORSOS` promises. Being in the table puts it under these tests."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks import TORSOS
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import BOX, STEP, agent_chunk, make_agent, random_obs, xla

HEAD, BATCH = 3, 6
VECTORS = {
    "float32": BOX,
    "float64": BOX._replace(obs=Box((3,), "float64")),
    "bytes": BOX._replace(obs=Box((3,), "uint8")),
    "discrete": EnvSpec(Discrete(5), Discrete(HEAD), 6),
}
IMAGES = {
    "bytes": EnvSpec(Box((36, 36, 2), "uint8", 0, 255), Discrete(HEAD), 6),
    "floats": EnvSpec(Box((40, 36, 1)), Discrete(HEAD), 6),
    "flat": EnvSpec(Box((36, 36), "uint8", 0, 255), Discrete(HEAD), 6),
}


def build(name, spec, seed=0):
    return networks.build_network(spec, TORSOS[name](seed=seed), networks.q_values(HEAD, seed=seed))


def specs_of(name):
    """Returns the kinds of observations a torso takes: images only, or anything."""
    try:
        build(name, BOX)
    except ValueError:
        return IMAGES
    return VECTORS | {"image": IMAGES["bytes"]}


CASES = [
    pytest.param(name, spec, id=f"{name}-{kind}")
    for name in TORSOS
    for kind, spec in specs_of(name).items()
]


def inputs_of(network, spec, batch=BATCH, seed=0):
    obs = tf.constant(random_obs(spec, (batch,), np.random.default_rng(seed)))
    states = networks.initial_state(network, batch)
    return obs, states, tf.fill([batch], False)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_it_maps_observations_to_finite_scores_alike_in_eager_and_compiled_code(name, spec):
    network = build(name, spec)
    args = inputs_of(network, spec)
    scores, states = networks.apply(network, *args)
    assert scores.shape == (BATCH, HEAD)
    assert scores.dtype == tf.float32
    assert np.isfinite(scores).all()
    assert np.std(scores, axis=0).min() > 0, "other observations have other scores"
    compiled, compiled_states = xla(lambda *args: networks.apply(network, *args))(*args)
    np.testing.assert_allclose(compiled, scores, atol=1e-5)
    for one, other in zip(states, compiled_states, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_rows_of_a_batch_do_not_touch_each_other(name, spec):
    network = build(name, spec)
    obs, states, first = inputs_of(network, spec)
    together, _ = networks.apply(network, obs, states, first)
    for n in range(BATCH):
        row = slice(n, n + 1)
        one, _ = networks.apply(network, obs[row], tuple(x[row] for x in states), first[row])
        np.testing.assert_allclose(one, together[row], atol=1e-5)


@pytest.mark.parametrize("name", TORSOS)
def test_a_gradient_reaches_every_weight(name):
    spec = next(iter(specs_of(name).values()))
    network = build(name, spec)
    obs = tf.stack([inputs_of(network, spec, seed=seed)[0] for seed in range(3)])
    states = networks.initial_state(network, BATCH)
    with tf.GradientTape() as tape:
        scores, _ = networks.unroll(network, obs, states, tf.fill((3, BATCH), False))
        loss = tf.reduce_sum(tf.square(scores - 1.0))
    gradients = tape.gradient(loss, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("name", TORSOS)
def test_the_seed_decides_the_weights(name):
    spec = next(iter(specs_of(name).values()))
    one, same, other = (build(name, spec, seed).get_weights() for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, same))
    assert not all(map(np.array_equal, one, other))


@pytest.mark.parametrize("name", TORSOS)
def test_it_survives_a_round_trip_through_its_config(name):
    """Which is how target networks and baselines are made."""
    spec = next(iter(specs_of(name).values()))
    torso = TORSOS[name](seed=0)
    networks.build_network(spec, torso, networks.q_values(HEAD))
    copies = [
        networks.copy_torso(torso, spec.obs),
        keras.layers.deserialize(keras.layers.serialize(torso)),
    ]
    for copy in copies:
        networks.build_network(spec, copy, networks.q_values(HEAD))
        assert [w.shape for w in copy.weights] == [w.shape for w in torso.weights]
        assert not {id(w) for w in copy.weights} & {id(w) for w in torso.weights}
        assert networks.is_recurrent(copy) == networks.is_recurrent(torso)


@pytest.mark.parametrize("name", TORSOS)
def test_it_learns_something(name):
    """Which of two observations it sees: the loss halves within some steps of Adam."""
    spec = next(iter(specs_of(name).values()))
    network = build(name, spec)
    trainer = networks.Trainable(network, 1e-3, 10.0)
    args = inputs_of(network, spec)
    target = tf.one_hot(tf.range(BATCH) % HEAD, HEAD)

    @xla
    def step():
        with tf.GradientTape() as tape:
            scores, _ = networks.apply(network, *args)
            loss = tf.reduce_mean(tf.square(scores - target))
        trainer.descend(tape, loss)
        return loss

    losses = [float(step()) for _ in range(100)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", TORSOS)
def test_every_parameter_has_a_default_and_a_place_in_the_docs(name):
    parameters = inspect.signature(TORSOS[name]).parameters
    assert "seed" in parameters
    for parameter in parameters.values():
        assert parameter.default is not parameter.empty
        assert parameter.annotation is not parameter.empty
    if name not in ("gru", "rnn"):  # they have those of lstm, and say so
        for parameter in parameters:
            assert f"{parameter}:" in TORSOS[name].__doc__


@pytest.mark.parametrize("name", TORSOS)
def test_unrolling_along_a_chunk_is_acting_step_by_step(name):
    spec = next(iter(specs_of(name).values()))
    network = build(name, spec)
    random = np.random.default_rng(0)
    obs, first = random_obs(spec, (4, 2), random), random.random((4, 2)) < 0.4
    states = networks.initial_state(network, 2)
    scores, _ = networks.unroll(network, tf.constant(obs), states, tf.constant(first))
    for t in range(4):
        step, states = networks.apply(network, tf.constant(obs[t]), states, tf.constant(first[t]))
        np.testing.assert_allclose(scores[t], step, atol=1e-5)


@pytest.mark.parametrize("name", TORSOS)
def test_reinforce_learns_with_it(name):
    """The one agent that takes every torso."""
    spec = next(iter(specs_of(name).values()))
    agent = make_agent("reinforce", spec, torso=TORSOS[name](seed=0))
    before = agent.actor.network.get_weights()
    _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, rng.from_int(0))
    assert np.isfinite(list(map(float, metrics.values()))).all()
    assert not all(map(np.array_equal, before, agent.actor.network.get_weights()))
