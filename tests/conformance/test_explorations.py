"""What every strategy in `EXPLORATIONS` promises. Being in the table puts it under these tests."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf

from rlzoo import exploration
from rlzoo.exploration import EXPLORATIONS, Exploration
from rlzoo.ops import rng
from tests.helpers import BOX, chi_square_fits, random_chunk, tensors, xla

N, A = 40, 5


@pytest.fixture(params=EXPLORATIONS.values(), ids=EXPLORATIONS)
def strategy(request):
    return request.param()


def scores_with_gaps(seed=0):
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, (N, A)).astype(np.float32)
    scores[random.random((N, A)) < 0.3] = -np.inf
    scores[np.arange(N), random.integers(A, size=N)] = 1.0
    scores[0] = [2.0, -np.inf, 2.0, 1.0, 2.0]  # a tie
    return scores


def step(number):
    return tf.constant(number, tf.int64)


def test_it_is_a_frozen_dataclass_with_defaults_and_a_docstring(strategy):
    cls = type(strategy)
    assert issubclass(cls, Exploration)
    assert cls.__dataclass_params__.frozen
    assert strategy == cls()
    assert inspect.getdoc(cls) != inspect.getdoc(Exploration)


@pytest.mark.parametrize("number", [0, 1_000, 10**9])
def test_it_gives_a_distribution_over_what_is_possible(strategy, number):
    scores = scores_with_gaps()
    log_probs = strategy.log_probs(tf.constant(scores), strategy.init(N, A), step(number)).numpy()
    assert log_probs.dtype == np.float32
    assert not np.isnan(log_probs).any()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, atol=1e-5)
    assert (log_probs[np.isinf(scores)] == -np.inf).all()
    tie = np.exp(log_probs[0, [0, 2, 4]])
    np.testing.assert_allclose(tie, tie[0], rtol=1e-5)


def test_compiled_it_is_the_same(strategy):
    scores, state = tf.constant(scores_with_gaps()), strategy.init(N, A)
    plain = strategy.log_probs(scores, state, step(7))
    compiled = xla(strategy.log_probs)(scores, state, step(7))
    np.testing.assert_allclose(np.exp(compiled), np.exp(plain), atol=1e-6)


def test_in_numpy_it_is_the_same(strategy):
    """Those that say their distribution in NumPy are acted without TensorFlow."""
    if not hasattr(strategy, "probabilities"):
        return
    assert strategy.init(N, A) == (), "nothing but rates reaches the one in NumPy"
    scores = np.random.default_rng(0).normal(0, 3, (N, A)).astype(np.float32)
    scores[0] = [2.0, -1.0, 2.0, 1.0, 2.0]
    for number in (0, 1_000, 10**9):
        rates = {name: float(rate) for name, rate in strategy.rates(step(number)).items()}
        found = strategy.probabilities(scores, **rates)
        assert found.dtype == np.float32
        want = np.exp(strategy.log_probs(tf.constant(scores), (), step(number)))
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_what_is_chosen_is_possible_and_fits_the_distribution(strategy):
    state = strategy.init(N, A)
    choose = xla(lambda scores, seed: exploration.choose(strategy, scores, state, step(0), seed))
    for number in range(30):
        scores = scores_with_gaps(number)
        action, extras = choose(tf.constant(scores), rng.from_int(number))
        assert np.isfinite(scores[np.arange(N), action]).all()
        assert np.isfinite(extras["log_prob"]).all()
    row = tf.constant(scores_with_gaps()[1:2])
    want = np.exp(strategy.log_probs(row, strategy.init(1, A), step(0))[0])
    many = tf.repeat(row, 20_000, axis=0)
    state = strategy.init(20_000, A)
    action, _ = exploration.choose(strategy, many, state, step(0), rng.from_int(0))
    assert chi_square_fits(np.bincount(action, minlength=A), want)


def test_a_single_action_is_certain(strategy):
    log_probs = strategy.log_probs(tf.constant([[3.0]]), strategy.init(1, 1), step(0))
    np.testing.assert_allclose(log_probs, [[0.0]], atol=1e-6)


def test_its_state_keeps_its_structure(strategy):
    state = strategy.init(2, BOX.num_actions)
    later = strategy.update(state, tensors(random_chunk(BOX, 4, 2, seed=0)))
    tf.nest.assert_same_structure(state, later)
    for one, other in zip(tf.nest.flatten(state), tf.nest.flatten(later), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_its_rates_are_finite_scalars_named_after_its_fields(strategy):
    rates = strategy.rates(step(100))
    assert set(rates) == {field.name for field in dataclasses.fields(strategy)}
    for rate in rates.values():
        assert rate.shape == ()
        assert rate.dtype == tf.float32
        assert np.isfinite(rate)


def test_scores_may_have_a_time_axis(strategy):
    scores, state = scores_with_gaps().reshape(4, N // 4, A), strategy.init(N // 4, A)
    found = np.exp(strategy.log_probs(tf.constant(scores), state, step(3)))
    for t in range(4):
        row = np.exp(strategy.log_probs(tf.constant(scores[t]), state, step(3)))
        np.testing.assert_allclose(found[t], row, atol=1e-6)
