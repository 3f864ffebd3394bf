"""The learned model of an environment: its moments, its loss by hand, what it simulates."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.networks.transition_model import TransitionModel
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.types import Transitions
from tests.helpers import BOX, random_chunk, random_obs, tensors, xla

SEED = rng.from_int(0)


# Moments


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_it_observes_the_valid_steps_of_chunks(dtype):
    """Differences of bytes are taken after the cast: 3 - 5 is -2, not 254."""
    spec = BOX._replace(obs=Box((3,), dtype))
    model, obs, change = TransitionModel(spec, (4,), 0), [], []
    for number in range(3):
        chunk = random_chunk(spec, 4, 2, seed=number)
        valid = np.random.default_rng(number).random((4, 2)) < 0.6
        model.observe(tensors(chunk._replace(valid=valid)))
        now, then = (x[valid].astype(np.float32) for x in (chunk.obs, chunk.next_obs))
        obs += list(now)
        change += list(then - now)
    for moments, rows in ((model.obs_moments, obs), (model.change_moments, change)):
        np.testing.assert_allclose(moments.mean, np.mean(rows, axis=0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(moments.variance, np.var(rows, axis=0), rtol=1e-4, atol=1e-4)


# Loss


def test_loss_by_hand():
    """A network that says 0.5 to everything, in two dimensions and two actions."""
    model = TransitionModel(EnvSpec(Box((2,)), Discrete(2), None), (4,), 0)
    kernel, bias = model.network.layers[-1].weights
    kernel.assign(tf.zeros_like(kernel))
    bias.assign([0.5] * 4)
    model.change_moments.mean.assign([1.0, 0.0])
    model.change_moments.variance.assign([4.0, 1.0])
    batch = Transitions(
        obs=tf.constant([[1.0, 2.0], [0.0, 0.0]]),
        action=tf.constant([0, 1]),
        reward=tf.constant([3.5, 0.5]),
        discount=tf.constant([1.0, 0.0]),
        next_obs=tf.constant([[4.0, 2.5], [1.0, 3.5]]),
    )
    # Changes 3, 0.5 and 1, 3.5; normalised 1, 0.5 and 0, 3.5; less 0.5: 0.5, 0 and -0.5, 3.
    change = [(0.125 + 0.0) / 2, (0.125 + 2.5) / 2]
    reward = [2.5, 0.0]  # Huber of 3 and of 0
    surprise = [np.log1p(np.exp(0.5)), np.log1p(np.exp(-0.5))]  # goes on; terminates
    loss, termination = model.loss(batch)
    assert float(loss) == pytest.approx(np.mean([change, reward, surprise], 1).sum(), rel=1e-5)
    assert float(termination) == pytest.approx(np.mean(surprise), rel=1e-5)


# What it learns and simulates


def world(obs, action):
    """Returns a successor, reward and termination that a model can learn."""
    next_obs = obs + 0.5 * np.eye(3, dtype=np.float32)[action] - 0.1 * obs[..., ::-1]
    return next_obs, obs[..., 0] * (action == 1), obs[..., 1] > 0.5


def test_it_learns_what_the_world_does():
    random, model = np.random.default_rng(0), TransitionModel(BOX, (32,), 0)
    trainer = networks.Trainable(model.network, 3e-3, 10.0)

    @xla
    def step(batch):
        with tf.GradientTape() as tape:
            loss, _ = model.loss(batch)
        trainer.descend(tape, loss)

    for number in range(1_200):
        obs = random.normal(1.0, 1.0, (64, 3)).astype(np.float32)
        action = random.integers(3, size=64).astype(np.int32)
        next_obs, reward, terminated = world(obs, action)
        steps = obs, action, reward.astype(np.float32), 1.0 - terminated.astype(np.float32)
        if number < 50:
            chunk = random_chunk(BOX, 1, 64, seed=0)
            model.observe(tensors(chunk._replace(obs=obs[None], next_obs=next_obs[None])))
        step(tensors(Transitions(*steps, next_obs)))

    obs = random.normal(1.0, 1.0, (2_000, 3)).astype(np.float32)
    found = model.simulate(tf.constant(obs), SEED)
    next_obs, reward, terminated = world(obs, found.action.numpy())
    assert np.bincount(found.action).min() > 500, "every action is tried"
    np.testing.assert_array_equal(found.obs, obs)
    assert np.sqrt(np.mean((found.next_obs - next_obs) ** 2)) < 0.1
    assert np.sqrt(np.mean((found.reward - reward) ** 2)) < 0.2
    assert np.mean((found.discount.numpy() < 0.5) == terminated) > 0.95
    assert ((found.discount.numpy() >= 0) & (found.discount.numpy() <= 1)).all()


def still_model(dtype, change):
    """Returns a model that predicts one and the same change of everything."""
    model = TransitionModel(BOX._replace(obs=Box((3,), dtype)), (4,), 0)
    kernel = model.network.layers[-1].kernel
    kernel.assign(tf.zeros_like(kernel))
    model.change_moments.mean.assign(change)
    return model


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "float64"])
def test_simulated_observations_are_of_the_environments_dtype(dtype):
    """To the nearest value it holds: a model that predicts no change must not round down."""
    model = still_model(dtype, [-0.2, 0.0, 0.2])
    obs = random_obs(model.spec, (50,), np.random.default_rng(0))
    found = model.simulate(tf.constant(obs), SEED).next_obs
    assert found.dtype == dtype
    if dtype.startswith("float"):
        np.testing.assert_allclose(found, obs + np.array([-0.2, 0.0, 0.2]), atol=1e-5)
    else:
        np.testing.assert_array_equal(found, obs)


def test_simulated_bytes_stay_within_their_range():
    model = still_model("uint8", [-300.0, 0.0, 300.0])
    found = model.simulate(tf.fill((4, 3), tf.constant(100, tf.uint8)), SEED).next_obs
    np.testing.assert_array_equal(found, [[0, 100, 255]] * 4)


def test_its_variables_have_names():
    model = TransitionModel(BOX, (4,), 0)
    variables = model.variables()
    assert len({id(variable) for variable in variables.values()}) == len(variables)
    assert {name.partition("/")[0] for name in variables} == {
        "network",
        "obs_moments",
        "change_moments",
    }
