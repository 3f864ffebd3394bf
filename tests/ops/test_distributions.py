"""Distributions against numbers worked out by hand, sums over all actions, and NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlzoo.ops import rng
from rlzoo.ops.distributions import Categorical, MultiCategorical, Normal, TanhNormal
from tests.helpers import chi_square_fits, graph, xla

INF = float("inf")
DRAWS = 40_000


def floats(low, high):
    return st.floats(low, high, width=32, allow_subnormal=False)


def gradients(function, *inputs):
    """Compiled by XLA, as agents have them."""

    def both(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs)

    return [x.numpy() for x in xla(both)(*map(tf.constant, inputs))]


def test_a_categorical_by_hand():
    """Odds of 1 : 2 : 1 are probabilities 1/4, 1/2, 1/4, with log(4)/2 + log(2)/2 of entropy."""
    policy = Categorical(tf.math.log([[1.0, 2.0, 1.0], [3.0, 3.0, 6.0]]))
    np.testing.assert_allclose(
        policy.log_prob(tf.constant([1, 0])), [-math.log(2), -math.log(4)], rtol=1e-6
    )
    np.testing.assert_allclose(policy.entropy(), [1.5 * math.log(2)] * 2, rtol=1e-6)
    assert policy.mode().numpy().tolist() == [1, 2]
    assert policy.mode().dtype == policy.sample(rng.from_int(0)).dtype == tf.int32


def test_the_first_of_equal_actions_is_the_mode():
    assert Categorical(tf.constant([[-INF, 2.0, 2.0]])).mode().numpy().tolist() == [1]


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, (2, 3, 4), elements=floats(-20, 20)), hnp.arrays(np.bool_, (2, 3, 4)))
def test_a_masked_categorical_is_the_one_of_its_valid_actions(logits, invalid):
    invalid[..., 2] = False
    policy = Categorical(tf.constant(np.where(invalid, -INF, logits).astype(np.float32)))
    entropy, mode = policy.entropy().numpy(), policy.mode().numpy()
    for row in np.ndindex(2, 3):
        valid = np.flatnonzero(~invalid[row])
        odds = np.exp(logits[row][valid].astype(float))
        probs = odds / odds.sum()
        for action, prob in zip(valid, probs, strict=True):
            log_prob = policy.log_prob(tf.fill((2, 3), int(action)))[row]
            assert float(log_prob) == pytest.approx(math.log(prob), abs=1e-4)
        assert entropy[row] == pytest.approx(-(probs * np.log(probs)).sum(), abs=1e-4)
        assert mode[row] == valid[logits[row][valid].argmax()]


def test_gradients_of_a_masked_categorical_are_those_of_its_valid_actions():
    """-inf, not a large number: nothing is NaN, and what is masked gets no gradient."""
    valid = np.float32([[0.5, -1.0, 2.0], [30.0, -30.0, 0.0]])
    masked = np.insert(valid, [1, 3], -INF, axis=1)  # [2, 5]: places 1 and 4
    actions = np.array([0, 2], np.int32)  # of the three; 0 and 3 of the five

    def entropy(logits):
        return tf.reduce_sum(Categorical(logits).entropy())

    def log_prob(logits, actions):
        return tf.reduce_sum(Categorical(logits).log_prob(actions))

    for want, found in (
        (gradients(entropy, valid), gradients(entropy, masked)),
        (
            gradients(lambda x: log_prob(x, actions), valid),
            gradients(lambda x: log_prob(x, actions + (actions > 0)), masked),
        ),
    ):
        np.testing.assert_allclose(found[0], want[0], rtol=1e-6)
        np.testing.assert_allclose(found[1][:, [0, 2, 3]], want[1], atol=1e-6)
        assert (found[1][:, [1, 4]] == 0.0).all()


def test_one_valid_action_has_no_entropy_and_no_gradient():
    value, slope = gradients(
        lambda x: tf.reduce_sum(Categorical(x).entropy()), np.float32([[-INF, 3.0, -INF]])
    )
    assert value == 0.0 and (slope == 0.0).all()


def test_draws_of_a_categorical_fit_and_never_are_invalid():
    logits = np.float32([[0.0, -INF, 1.0, -2.0], [-INF, 0.0, 0.0, -INF]])
    rows = tf.constant(np.broadcast_to(logits, (DRAWS, 2, 4)))
    draws = [f(lambda x, s: Categorical(x).sample(s))(rows, rng.from_int(3)) for f in (graph, xla)]
    np.testing.assert_array_equal(*draws)
    for i in range(2):
        counts = np.bincount(draws[0][:, i], minlength=4)
        odds = np.exp(logits[i])
        assert chi_square_fits(counts, odds / odds.sum())


@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 2, 4)])
def test_a_categorical_has_one_of_everything_for_each_row(shape):
    policy = Categorical(tf.zeros(shape))
    action = policy.sample(rng.from_int(0))
    for each in (action, policy.log_prob(action), policy.entropy(), policy.mode()):
        assert each.shape == shape[:-1]


def test_a_multi_categorical_by_hand():
    """Odds 1 : 3 and 1 : 1 : 2. P(1, 2) = 3/4 * 1/2."""
    policy = MultiCategorical(tf.math.log([[1.0, 3.0, 1.0, 1.0, 2.0]]), (2, 3))
    log_prob = policy.log_prob(tf.constant([[1, 2]]))
    np.testing.assert_allclose(log_prob, [math.log(3 / 8)], rtol=1e-6)
    entropy = 2 * math.log(2) - 0.75 * math.log(3) + 1.5 * math.log(2)  # 1/4, 3/4; 1/4, 1/4, 1/2
    np.testing.assert_allclose(policy.entropy(), [entropy], rtol=1e-6)
    assert policy.mode().numpy().tolist() == [[1, 2]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_a_multi_categorical_is_the_categorical_of_all_combinations(nvec, seed):
    """Also where some values are masked: their combinations have probability 0."""
    random = np.random.default_rng(seed)
    logits = [np.where(random.random(n) < 0.3, -INF, random.normal(size=n)) for n in nvec]
    for part in logits:
        part[random.integers(len(part))] = 0.5
    actions = np.array(list(np.ndindex(*nvec)), np.int32)  # [product, K]
    policy = MultiCategorical(
        tf.repeat(tf.constant(np.float32(np.concatenate(logits)))[None], len(actions), axis=0),
        tuple(nvec),
    )
    probs = np.exp(policy.log_prob(tf.constant(actions)))
    assert probs.sum() == pytest.approx(1.0, abs=1e-5)
    possible = probs[probs > 0]
    entropy = -(possible * np.log(possible)).sum()
    np.testing.assert_allclose(policy.entropy(), np.full(len(actions), entropy), atol=1e-5)
    mode = policy.mode().numpy()[0]
    assert probs[np.ravel_multi_index(mode, nvec)] == pytest.approx(probs.max(), rel=1e-5)


def test_draws_of_a_multi_categorical_are_independent_and_fit():
    logits = np.float32([1.0, 0.0, 0.5, -INF, -0.5])
    policy = MultiCategorical(tf.constant(np.broadcast_to(logits, (DRAWS, 5))), (2, 3))
    draws = xla(policy.sample)(rng.from_int(5)).numpy()
    assert draws.shape == (DRAWS, 2) and draws.dtype == np.int32
    one, other = np.exp(logits[:2]), np.exp(logits[2:])
    joint = np.outer(one / one.sum(), other / other.sum()).reshape(-1)
    assert chi_square_fits(np.bincount(3 * draws[:, 0] + draws[:, 1], minlength=6), joint)


def test_a_normal_by_hand():
    """One deviation from the mean: -1/2 - log 2 - log(2 pi) / 2; and at the mean of the other."""
    policy = Normal(tf.constant([[1.0, 0.0]]), tf.constant([2.0, 0.5]))
    half = 0.5 * math.log(2 * math.pi)
    want = (-0.5 - math.log(2) - half) + (math.log(2) - half)
    np.testing.assert_allclose(policy.log_prob(tf.constant([[3.0, 0.0]])), [want], rtol=1e-6)
    # 1/2 log(2 pi e s^2) each, and log 2 + log 0.5 = 0.
    np.testing.assert_allclose(policy.entropy(), [math.log(2 * math.pi * math.e)], rtol=1e-6)
    np.testing.assert_array_equal(policy.mode(), policy.mean)


def test_the_slope_of_a_normal_by_hand():
    """By the mean it is (x - mean) / s^2 = 2 / 4, by s (z^2 - 1) / s = (1 - 1) / 2."""

    def log_prob(mean, deviation):
        return tf.reduce_sum(Normal(mean, deviation).log_prob(tf.constant([[3.0]])))

    _, mean, deviation = gradients(log_prob, np.float32([[1.0]]), np.float32([2.0]))
    assert mean == pytest.approx(0.5) and deviation == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, (2, 3, 2), elements=floats(-50, 50)),
    hnp.arrays(np.float32, (2, 3, 2), elements=floats(0.125, 8)),
    hnp.arrays(np.float32, (2, 3, 2), elements=floats(-50, 50)),
)
def test_a_normal_is_what_numpy_says(mean, deviation, action):
    policy = Normal(tf.constant(mean), tf.constant(deviation))
    m, s, x = (a.astype(float) for a in (mean, deviation, action))
    density = -((x - m) ** 2) / (2 * s**2) - 0.5 * np.log(2 * np.pi * s**2)
    np.testing.assert_allclose(policy.log_prob(action), density.sum(-1), rtol=1e-5, atol=1e-4)
    entropy = 0.5 * np.log(2 * np.pi * np.e * s**2)
    np.testing.assert_allclose(policy.entropy(), entropy.sum(-1), rtol=1e-5, atol=1e-5)


def test_draws_of_a_normal_have_its_mean_and_deviation_and_its_slope():
    """Of n draws the mean is within 5 s / sqrt(n), the deviation within 5 s / sqrt(2 n)."""
    mean, deviation = np.float32([1.0, -3.0]), np.float32([2.0, 0.1])

    def draw(mean, deviation):
        policy = Normal(tf.broadcast_to(mean, (DRAWS, 2)), deviation)
        return policy.sample(rng.from_int(7))

    draws = xla(draw)(mean, deviation).numpy().astype(float)
    assert (np.abs(draws.mean(0) - mean) < 5 * deviation / math.sqrt(DRAWS)).all()
    assert (np.abs(draws.std(0) - deviation) < 5 * deviation / math.sqrt(2 * DRAWS)).all()
    assert abs(np.corrcoef(draws.T)[0, 1]) < 5 / math.sqrt(DRAWS)
    _, slope, _ = gradients(lambda *x: tf.reduce_mean(draw(*x)[:, 0]), mean, deviation)
    np.testing.assert_allclose(slope, [1.0, 0.0], rtol=1e-5)


LOW, HIGH = np.float32([-2.0, 0.0]), np.float32([2.0, 10.0])


def squashed(mean, deviation=(1.0, 1.0)):
    return TanhNormal(
        tf.constant(mean), tf.constant(deviation), tf.constant(LOW), tf.constant(HIGH)
    )


def exact_log_prob(before, mean, deviation):
    """In float64, from the value before tanh: log N(before) - log|half * (1 - tanh^2)|."""
    before, mean, deviation = (np.asarray(x, float) for x in (before, mean, deviation))
    normal = -0.5 * ((before - mean) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))
    slope = np.log((HIGH - LOW) / 2.0) - 2.0 * np.log(np.cosh(before))
    return (normal - slope).sum(-1)


def test_a_tanh_normal_by_hand():
    """At 0 before tanh: the middle of each range, density phi(0) / (half of it)."""
    policy = squashed([[0.0, 0.0]])
    np.testing.assert_allclose(policy.mode(), [[0.0, 5.0]], atol=1e-6)
    want = -math.log(2 * math.pi) - math.log(2.0) - math.log(5.0)
    np.testing.assert_allclose(policy.log_prob(tf.constant([[0.0, 5.0]])), [want], rtol=1e-6)


def test_the_density_of_a_tanh_normal_adds_up_to_one():
    edges = np.linspace(-1.0, 3.0, 40_001)
    middle = np.float32((edges[1:] + edges[:-1]) / 2)[:, None]
    policy = TanhNormal(
        tf.constant([[0.3]]), tf.constant([0.6]), tf.constant(-1.0), tf.constant(3.0)
    )
    density = np.exp(policy.log_prob(tf.constant(middle)).numpy().astype(float))
    assert density.sum() * 4.0 / 40_000 == pytest.approx(1.0, abs=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 2), elements=floats(-4, 4)),
    hnp.arrays(np.float32, (3, 2), elements=floats(-2, 2)),
    hnp.arrays(np.float32, (2,), elements=floats(0.25, 4)),
)
def test_a_tanh_normal_is_what_numpy_says(before, mean, deviation):
    """float32 keeps tanh(4) to 2**-24, which is 4.5e-5 of what there is left to 1."""
    action = LOW + (HIGH - LOW) * (np.tanh(before.astype(float)) + 1.0) / 2.0
    found = squashed(mean, deviation).log_prob(tf.constant(action.astype(np.float32)))
    want = exact_log_prob(before, mean, deviation)
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize("mean", [-40.0, -9.0, 3.0, 9.0, 40.0])
def test_what_is_drawn_next_to_a_bound_has_its_exact_density(mean):
    """There tanh rounds to 1 and 1 - tanh^2 to 0; the action tells no more, the draw does."""
    rows = np.broadcast_to(np.float32(mean), (64, 2))
    deviation = np.float32([0.5, 0.25])
    seed = rng.from_int(11)
    before = Normal(tf.constant(rows), tf.constant(deviation)).sample(seed)
    action, log_prob = xla(lambda: squashed(rows, deviation).sample_and_log_prob(seed))()
    assert np.all((action >= LOW) & (action <= HIGH))
    np.testing.assert_allclose(
        log_prob, exact_log_prob(before, rows, deviation), rtol=1e-5, atol=1e-4
    )
    value, *slopes = gradients(
        lambda m, s: tf.reduce_sum(
            TanhNormal(m, s, tf.constant(LOW), tf.constant(HIGH)).sample_and_log_prob(seed)[1]
        ),
        rows,
        deviation,
    )
    assert np.isfinite(value) and all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("action", [LOW, HIGH])
def test_the_bounds_themselves_have_a_finite_density_and_slope(action):
    found = gradients(
        lambda m, s: tf.reduce_sum(
            TanhNormal(m, s, tf.constant(LOW), tf.constant(HIGH)).log_prob(
                tf.constant(action[None])
            )
        ),
        np.zeros((1, 2), np.float32),
        np.ones(2, np.float32),
    )
    assert all(np.isfinite(x).all() for x in found)


def test_a_draw_and_its_action_have_one_density():
    policy = squashed(np.zeros((1000, 2), np.float32))
    action, log_prob = policy.sample_and_log_prob(rng.from_int(2))
    np.testing.assert_array_equal(policy.sample(rng.from_int(2)), action)
    np.testing.assert_allclose(policy.log_prob(action), log_prob, rtol=1e-3, atol=1e-3)


@settings(max_examples=200, deadline=None)
@given(floats(-1000, 1000), floats(0.125, 1000), floats(-100, 100))
def test_no_rounding_leads_out_of_the_bounds(low, size, before):
    low, high = np.float32(low), np.float32(low) + np.float32(size)
    policy = TanhNormal(
        tf.constant([before]), tf.constant([1.0]), tf.constant(low), tf.constant(high)
    )
    assert low <= float(policy.mode()[0]) <= high


def test_the_slope_of_a_squashed_draw_by_hand():
    """The derivative of half * tanh(mean + s * n) by the mean: half * (1 - tanh^2)."""
    seed, mean, deviation = rng.from_int(9), np.float32([[0.2, -0.4]]), np.float32([0.5, 0.5])
    before = (mean + deviation * rng.normal(seed, (1, 2))).numpy()

    def draw(mean, deviation):
        policy = TanhNormal(mean, deviation, tf.constant(LOW), tf.constant(HIGH))
        return tf.reduce_sum(policy.sample(seed))

    _, slope, _ = gradients(draw, mean, deviation)
    want = (HIGH - LOW) / 2 * (1 - np.tanh(before) ** 2)
    np.testing.assert_allclose(slope, want, rtol=1e-5)
