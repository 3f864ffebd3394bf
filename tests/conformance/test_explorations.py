"""What every strategy in `EXPLORATIONS` promises. Being in the table puts it under these tests."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf

from rlzoo.exploration import EXPLORATIONS, Exploration
from rlzoo.exploration.base import has_distribution
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import BOX, chi_square_fits, random_chunk, tensors, xla

N, A = 40, 5


SPEC = EnvSpec(Discrete(7), Discrete(A), None)
MADE = {name: cls() for name, cls in EXPLORATIONS.items()}
DISCRETE = {name: made for name, made in MADE.items() if "Discrete" in made.actions}
DISTRIBUTIONS = {name: made for name, made in DISCRETE.items() if has_distribution(made)}
IN_NUMPY = {name: made for name, made in MADE.items() if hasattr(made, "probabilities")}


def each(strategies):
    return pytest.mark.parametrize("strategy", strategies.values(), ids=strategies)


def test_who_is_what():
    assert set(MADE) - set(DISCRETE) == {"ornstein_uhlenbeck"}
    assert set(DISCRETE) - set(DISTRIBUTIONS) == {"epsilon_z", "ucb"}
    assert set(IN_NUMPY) == set(DISTRIBUTIONS)


def behaved(strategy, scores, state, number=0, seed=0, first=False):
    """Lets it decide for rows of scores, at observations of any kind."""
    count = scores.shape[0]
    obs = tf.range(count, dtype=tf.int64) % 7
    firsts = tf.fill([count], first)
    return strategy.behave(scores, obs, state, firsts, step(number), rng.from_int(seed))


def scores_with_gaps(seed=0):
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (N, A)).astype(np.float32)
    scores[random.random((N, A)) < 0.3] = -np.inf
    scores[np.arange(N), random.integers(A, size=N)] = 1.0
    scores[0] = [2.0, -np.inf, 2.0, 1.0, 2.0]  # a tie
    return scores


def step(number):
    return tf.constant(number, tf.int64)


@each(MADE)
def test_it_is_a_frozen_dataclass_with_defaults_and_a_docstring(strategy):
    cls = type(strategy)
    assert issubclass(cls, Exploration)
    assert cls.__dataclass_params__.frozen
    assert strategy == cls()
    assert inspect.getdoc(cls) != inspect.getdoc(Exploration)


@each(DISTRIBUTIONS)
@pytest.mark.parametrize("number", [0, 1_000, 10**9])
def test_it_gives_a_distribution_over_what_is_possible(strategy, number):
    scores = scores_with_gaps()
    log_probs = strategy.log_probs(
        tf.constant(scores), strategy.init(N, SPEC), step(number)
    ).numpy()
    assert log_probs.dtype == np.float32
    assert not np.isnan(log_probs).any()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, atol=1e-5)
    assert (log_probs[np.isinf(scores)] == -np.inf).all()
    tie = np.exp(log_probs[0, [0, 2, 4]])
    np.testing.assert_allclose(tie, tie[0], rtol=1e-5)


@each(DISTRIBUTIONS)
def test_compiled_it_is_the_same(strategy):
    scores, state = tf.constant(scores_with_gaps()), strategy.init(N, SPEC)
    plain = strategy.log_probs(scores, state, step(7))
    compiled = xla(strategy.log_probs)(scores, state, step(7))
    np.testing.assert_allclose(np.exp(compiled), np.exp(plain), atol=1e-6)


@each(IN_NUMPY)
def test_in_numpy_it_is_the_same(strategy):
    """Those that say their distribution in NumPy are acted without TensorFlow."""
    assert strategy.init(N, SPEC) == (), "nothing but rates reaches the one in NumPy"
    scores = np.random.default_rng(0).normal(0, 3, (N, A)).astype(np.float32)
    scores[0] = [2.0, -1.0, 2.0, 1.0, 2.0]
    for number in (0, 1_000, 10**9):
        rates = {name: float(rate) for name, rate in strategy.rates(step(number)).items()}
        found = strategy.probabilities(scores, **rates)
        assert found.dtype == np.float32
        want = np.exp(strategy.log_probs(tf.constant(scores), (), step(number)))
        np.testing.assert_allclose(found, want, atol=1e-6)


@each(DISCRETE)
def test_what_is_done_is_possible_and_its_probability_told(strategy):
    """Compiled, over 30 steps in which its state goes on; episodes end now and then."""
    state = strategy.init(N, SPEC)
    act = xla(lambda scores, state, first, seed: strategy.behave(
        scores, tf.range(N, dtype=tf.int64) % 7, state, first, step(0), seed
    ))  # fmt: skip
    for number in range(30):
        scores = scores_with_gaps(number)
        first = tf.constant(np.random.default_rng(number).random(N) < 0.2)
        action, log_prob, state = act(tf.constant(scores), state, first, rng.from_int(number))
        assert action.dtype == tf.int32 and action.shape == (N,)
        assert np.isfinite(scores[np.arange(N), action]).all()
        assert np.isfinite(log_prob).all() and (log_prob.numpy() <= 1e-6).all()


@each(DISTRIBUTIONS)
def test_what_is_chosen_fits_the_distribution(strategy):
    row = tf.constant(scores_with_gaps()[1:2])
    want = np.exp(strategy.log_probs(row, strategy.init(1, SPEC), step(0))[0])
    many = tf.repeat(row, 20_000, axis=0)
    action, *_ = behaved(strategy, many, strategy.init(20_000, SPEC))
    assert chi_square_fits(np.bincount(action, minlength=A), want)


@each(DISTRIBUTIONS)
def test_a_single_action_is_certain(strategy):
    log_probs = strategy.log_probs(tf.constant([[3.0]]), strategy.init(1, SPEC), step(0))
    np.testing.assert_allclose(log_probs, [[0.0]], atol=1e-6)


@each(MADE)
def test_its_state_keeps_its_structure(strategy):
    spec, scores = SPEC, tf.constant(scores_with_gaps()[:2])
    if "Discrete" not in strategy.actions:
        spec, scores = EnvSpec(BOX.obs, Box((3,)), None), tf.zeros((2, 3))
    state = strategy.init(2, spec)
    later = strategy.observe(state, tensors(random_chunk(BOX, 4, 2, seed=0)))
    *_, after = behaved(strategy, scores, state)
    for other in (later, after):
        tf.nest.assert_same_structure(state, other)
        for one, two in zip(tf.nest.flatten(state), tf.nest.flatten(other), strict=True):
            assert (one.shape, one.dtype) == (two.shape, two.dtype)


@each(MADE)
def test_its_rates_are_finite_scalars_named_after_its_fields(strategy):
    rates = strategy.rates(step(100))
    assert set(rates) == {field.name for field in dataclasses.fields(strategy)}
    for rate in rates.values():
        assert rate.shape == ()
        assert rate.dtype == tf.float32
        assert np.isfinite(rate)


@each(DISTRIBUTIONS)
def test_scores_may_have_a_time_axis(strategy):
    scores, state = scores_with_gaps().reshape(4, N // 4, A), strategy.init(N // 4, SPEC)
    found = np.exp(strategy.log_probs(tf.constant(scores), state, step(3)))
    for t in range(4):
        row = np.exp(strategy.log_probs(tf.constant(scores[t]), state, step(3)))
        np.testing.assert_allclose(found[t], row, atol=1e-6)
