"""Random numbers: the same in eager, graph and XLA code, and distributed as they say."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import rng
from tests.helpers import chi_square_fits, graph, xla

LOGITS = np.random.default_rng(0).normal(0, 2, (64, 5)).astype(np.float32)
LOGITS[::3, 0] = LOGITS[1::3, 4] = LOGITS[::5, 2] = -np.inf


def everything(seed):
    """One draw of each kind."""
    one, other = rng.split(seed)
    return (
        rng.fold_in(seed, 7),
        one,
        other,
        rng.uniform(one, [50]),
        rng.integers(other, [50], 1000),
        rng.categorical(rng.fold_in(seed, 1), tf.nn.log_softmax(LOGITS)),
    )


def test_eager_graph_and_xla_agree_exactly():
    plain, compiled = graph(everything), xla(everything)
    for number in [*range(40), 2**31 - 1, 2**31, 2**61 + 12345, 2**62 - 1]:
        seed = rng.from_int(number)
        draws = [tf.nest.map_structure(np.array, f(seed)) for f in (everything, plain, compiled)]
        for one, two, three in zip(*draws, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, three)


def test_from_int_splits_a_number_into_31_bit_halves():
    assert rng.from_int(0).numpy().tolist() == [0, 0]
    assert rng.from_int(2**31 + 5).numpy().tolist() == [5, 1]
    assert rng.from_int(2**62 - 1).numpy().tolist() == [2**31 - 1, 2**31 - 1]
    assert rng.from_int(3).dtype == tf.int32


@pytest.mark.parametrize("seed", [-1, 2**62])
def test_from_int_refuses_what_does_not_fit(seed):
    with pytest.raises(ValueError, match=str(seed)):
        rng.from_int(seed)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**62 - 1), st.integers(0, 2**31 - 1))
def test_derived_seeds_are_non_negative_and_differ(number, data):
    seed = rng.from_int(number)
    derived = [rng.fold_in(seed, data), rng.fold_in(seed, (data + 1) % 2**31), *rng.split(seed, 5)]
    values = {tuple(x.numpy().tolist()) for x in [seed, *derived]}
    assert all(x.shape == (2,) and x.dtype == tf.int32 for x in derived)
    assert all(min(value) >= 0 for value in values)
    assert len(values) == 8


def test_fold_in_takes_a_counter_of_any_integer_type():
    seed = rng.from_int(3)
    want = rng.fold_in(seed, 9).numpy()
    for data in (tf.constant(9), tf.constant(9, tf.int64), np.int32(9)):
        np.testing.assert_array_equal(rng.fold_in(seed, data), want)


def test_uniform_is_in_its_range_on_its_grid_and_uniform():
    draws = rng.uniform(rng.from_int(1), [200_000]).numpy()
    assert draws.dtype == np.float32
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert np.array_equal(draws * 2**24, np.round(draws * 2**24))
    counts = np.bincount((draws * 100).astype(int), minlength=100)
    assert chi_square_fits(counts, np.full(100, 0.01))
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01


def test_integers_cover_their_range_evenly():
    draws = rng.integers(rng.from_int(2), [70_000], tf.constant(7, tf.int64)).numpy()
    assert draws.dtype == np.int32
    assert chi_square_fits(np.bincount(draws), np.full(7, 1 / 7))


@pytest.mark.parametrize(
    "probabilities",
    [
        [1.0],
        [0.5, 0.5],
        [0.7, 0.2, 0.1],
        [0.0, 1.0, 0.0],
        [0.0, 0.3, 0.0, 0.7, 0.0],
        [0.001, 0.999],
        [0.9, 0.0001, 0.0999],
    ],
)
def test_categorical_draws_each_action_with_its_probability(probabilities):
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array(probabilities, np.float32))
    log_probs = tf.constant(np.tile(log_probs, (100_000, 1)))
    draws = rng.categorical(rng.from_int(4), log_probs).numpy()
    assert draws.dtype == np.int32
    assert chi_square_fits(np.bincount(draws, minlength=len(probabilities)), probabilities)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
@pytest.mark.parametrize("num_actions", [2, 17, 33, 1000])
def test_categorical_never_draws_an_impossible_action(num_actions, compiled):
    """Also with many actions, where XLA adds up in blocks."""
    random = np.random.default_rng(num_actions)
    draw = xla(rng.categorical) if compiled else rng.categorical
    for trial in range(20):
        logits = random.normal(0, 3, (500, num_actions)).astype(np.float32)
        logits[random.random(logits.shape) < 0.7] = -np.inf
        logits[np.arange(500), random.integers(num_actions, size=500)] = 0.0  # one is possible
        if trial % 2:
            logits[:, num_actions // 2 :] = -np.inf  # also where the sum is complete before the end
            logits[:, 0] = 0.0
        action = draw(rng.from_int(trial), tf.nn.log_softmax(logits)).numpy()
        assert np.isfinite(logits[np.arange(500), action]).all()


@pytest.mark.parametrize("num_actions", [300, 1_000, 10_000])
def test_categorical_draws_nothing_impossible_where_sums_in_blocks_are_not_monotone(
    num_actions, monkeypatch
):
    """XLA's sums grow at some places where nothing is added: the draws that land just there."""
    random = np.random.default_rng(num_actions)
    probs = random.random((200, num_actions)).astype(np.float32)
    probs[random.random(probs.shape) < 0.5] = 0.0
    probs[:, 0] = 1.0
    log_probs = tf.nn.log_softmax(tf.math.log(probs))
    sums = xla(lambda x: tf.cumsum(tf.exp(x), axis=-1))(log_probs).numpy()
    grows = (np.diff(sums, axis=-1) > 0) & (probs[:, 1:] == 0)
    rows = np.flatnonzero(grows.any(axis=-1))
    assert rows.size > 5, "else this test shows nothing"
    before = sums[rows, grows[rows].argmax(axis=-1)]
    for off in range(-3, 4):
        draws = (np.rint(before * 2**24) + off).clip(0, 2**24 - 1) * 2.0**-24
        fixed = tf.constant(draws[:, None], tf.float32)
        monkeypatch.setattr(rng, "uniform", lambda seed, shape, fixed=fixed: fixed)
        action = xla(rng.categorical)(rng.from_int(0), tf.gather(log_probs, rows)).numpy()
        assert (probs[rows, action] > 0).all()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
def test_categorical_among_ten_thousand_actions_follows_the_probabilities(compiled):
    """Half of them impossible, the others of a thousand different probabilities."""
    weights = np.tile([0.0, 1.0], 5_000) * np.repeat(np.arange(1, 1_001), 10)
    log_probs = tf.nn.log_softmax(tf.math.log(tf.constant(weights[None], tf.float32)))
    draw = xla(rng.categorical) if compiled else rng.categorical
    rows = tf.repeat(log_probs, 1_000, axis=0)
    draws = np.concatenate([draw(rng.from_int(seed), rows).numpy() for seed in range(20)])
    counts = np.bincount(draws, minlength=10_000)
    assert counts[::2].sum() == 0
    tens = counts.reshape(1_000, 10).sum(axis=1)  # of equal probability
    assert chi_square_fits(tens, np.arange(1, 1_001) / np.arange(1, 1_001).sum())


@pytest.mark.parametrize(("number", "extreme"), [(3316, 0.0), (543, 1 - 2**-24)])
def test_categorical_at_the_ends_of_the_unit_interval(number, extreme):
    """Of 4096 draws with these seeds, found by search, one is as small or large as can be.

    The probabilities add up to a little less than 1, as float32 rounds.
    """
    seed = rng.from_int(number)
    draws = rng.uniform(seed, [4096, 1]).numpy()
    assert extreme in (draws.min(), draws.max())
    log_probs = tf.nn.log_softmax(np.float32([[-np.inf, *(0.1 * np.arange(24) % 0.7)]]))
    assert float(tf.reduce_sum(tf.exp(log_probs))) < 1 - 2e-7
    action = rng.categorical(seed, tf.repeat(log_probs, 4096, axis=0))
    assert np.min(action) > 0, "the first action is impossible"


def test_categorical_rows_are_independent():
    log_probs = tf.math.log(tf.fill([40_000, 2], 0.5))
    draws = rng.categorical(rng.from_int(5), log_probs).numpy()
    pairs = np.bincount(2 * draws[::2] + draws[1::2], minlength=4)
    assert chi_square_fits(pairs, np.full(4, 0.25))
