"""Schedules against numbers worked out by hand, and against plain Python."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rlzoo.ops import schedules
from rlzoo.ops.schedules import Constant, Exponential, Linear, Piecewise
from tests.helpers import xla


def at(schedule, step):
    value = schedule(tf.constant(step, tf.int64))
    assert value.shape == ()
    assert value.dtype == tf.float32
    return float(value)


@pytest.mark.parametrize(
    ("schedule", "step", "value"),
    [
        (Constant(0.3), 0, 0.3),
        (Constant(0.3), 10**9, 0.3),
        (Linear(1.0, 0.1, 100), 0, 1.0),
        (Linear(1.0, 0.1, 100), 50, 0.55),
        (Linear(1.0, 0.1, 100), 100, 0.1),
        (Linear(1.0, 0.1, 100), 10**9, 0.1),
        (Linear(0, 2, 4), 1, 0.5),
        (Exponential(1.0, 0.0, 10), 0, 1.0),
        (Exponential(1.0, 0.0, 10), 10, 0.5),
        (Exponential(1.0, 0.0, 10), 30, 0.125),
        (Exponential(1.0, 0.2, 10), 10, 0.6),
        (Exponential(1.0, 0.2, 10), 10**6, 0.2),
        (Piecewise((5,), (0.7,)), 0, 0.7),
        (Piecewise((5,), (0.7,)), 9, 0.7),
        (Piecewise((10, 20, 40), (1.0, 0.5, 0.9)), 0, 1.0),
        (Piecewise((10, 20, 40), (1.0, 0.5, 0.9)), 15, 0.75),
        (Piecewise((10, 20, 40), (1.0, 0.5, 0.9)), 20, 0.5),
        (Piecewise((10, 20, 40), (1.0, 0.5, 0.9)), 30, 0.7),
        (Piecewise((10, 20, 40), (1.0, 0.5, 0.9)), 99, 0.9),
    ],
)
def test_values_by_hand(schedule, step, value):
    assert at(schedule, step) == pytest.approx(value, abs=1e-6)


numbers = st.floats(-10, 10, width=32, allow_subnormal=False)
steps = st.integers(0, 10**6)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers, st.integers(1, 10**6), steps)
def test_linear_is_numpy_interp(start, end, length, step):
    want = np.interp(step, [0, length], [start, end])
    assert at(Linear(start, end, length), step) == pytest.approx(want, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers, st.floats(1, 1e6), steps)
def test_exponential_is_its_formula(start, end, half_life, step):
    want = end + (start - end) * 0.5 ** (step / half_life)
    assert at(Exponential(start, end, half_life), step) == pytest.approx(want, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.integers(0, 10**5), min_size=1, max_size=6).flatmap(
        lambda knots: st.tuples(
            st.just(sorted(knots)), st.lists(numbers, min_size=len(knots), max_size=len(knots))
        )
    ),
    st.integers(0, 2 * 10**5),
)
def test_piecewise_is_numpy_interp(knots, step):
    boundaries, values = knots
    want = np.interp(step, boundaries, values)
    assert at(Piecewise(boundaries, values), step) == pytest.approx(want, abs=1e-4)


# Smaller numbers than a rate or a temperature ever is would be flushed to 0 on the way.
levels = st.sampled_from([0.0, 1e-6, 1.0, 100.0]) | st.floats(2**-100, 1, width=32)


def inside(value, one, other):
    low, high = np.float32(min(one, other)), np.float32(max(one, other))
    return low * (1 - 1e-6) <= value <= high * (1 + 1e-6)


@settings(max_examples=100, deadline=None)
@given(levels, levels, st.integers(0, 200))
def test_rounding_never_leads_out_of_the_bounds(start, end, step):
    """An exploration rate of -1e-8, or a temperature of 0, would make NaN of every probability."""
    assert inside(at(Linear(start, end, 100), step), start, end)
    assert inside(at(Exponential(start, end, 3.0), step), start, end)
    assert inside(at(Piecewise((0, 30, 60), (1.0, start, end)), step + 30), start, end)
    assert at(Linear(start, end, 100), 100) == np.float32(end)
    assert at(Exponential(start, end, 3.0), 10**6) == np.float32(end)
    assert at(Piecewise((0, 30, 60), (1.0, start, end)), 60) == np.float32(end)


def test_compiled_they_follow_the_step_without_a_new_trace():
    traces = []

    @xla
    def rates(step):
        traces.append(1)
        return [
            Linear(1.0, 0.0, 10)(step),
            Exponential(1.0, 0.0, 10)(step),
            Piecewise((0, 10), (1.0, 0.0))(step),
        ]

    shown = [[float(x) for x in rates(tf.constant(step, tf.int64))] for step in (0, 5, 10)]
    np.testing.assert_allclose(shown[0], [1, 1, 1])
    np.testing.assert_allclose(shown[1], [0.5, 0.5**0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(shown[2], [0, 0.5, 0], atol=1e-7)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(1.0, 0.0, 0),
        lambda: Linear(1.0, 0.0, -5),
        lambda: Exponential(1.0, 0.0, 0.0),
        lambda: Piecewise((), ()),
        lambda: Piecewise((1, 2), (1.0,)),
        lambda: Piecewise((2, 1), (1.0, 0.0)),
        lambda: Piecewise((2, 2), (1.0, 0.0)),
    ],
)
def test_impossible_ones_are_refused_with_what_was_received(make):
    with pytest.raises(ValueError, match=r"expects .*received"):
        make()


def test_a_number_is_a_constant_and_a_callable_is_left_alone():
    assert schedules.as_schedule(2) == Constant(2.0)
    linear = Linear(1.0, 0.0, 5)
    assert schedules.as_schedule(linear) is linear
    own = lambda step: tf.sqrt(tf.cast(step, tf.float32))  # noqa: E731
    assert schedules.as_schedule(own) is own


def test_levels_bound_what_a_schedule_can_return():
    assert schedules.levels(0.5) == (0.5,)
    assert schedules.levels(Constant(0.5)) == (0.5,)
    assert schedules.levels(Linear(1.0, 0.1, 5)) == (1.0, 0.1)
    assert schedules.levels(Exponential(1.0, 0.1, 5)) == (1.0, 0.1)
    assert schedules.levels(Piecewise((0, 1), (3.0, 4.0))) == (3.0, 4.0)
    assert schedules.levels(lambda step: step) == ()


def test_every_schedule_is_in_the_table():
    assert set(schedules.SCHEDULES.values()) == {Constant, Linear, Exponential, Piecewise}
