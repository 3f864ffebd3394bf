"""Forecast: what its windows hold, and which series it refuses."""

import math

import numpy as np
import pytest

from rlzoo.spaces import Box
from rlzoo.tasks.forecast import Forecast


@pytest.fixture
def ramp(tmp_path):
    """A CSV file whose column `up` goes 0, 2, 4, ... in 100 rows."""
    path = tmp_path / "ramp.csv"
    path.write_text("day,up\n" + "".join(f"{day},{2 * day}\n" for day in range(100)))
    return str(path)


def in_units(values):
    """Undoes the standardising of `ramp`."""
    train = 2.0 * np.arange(80)
    return values * train.std() + train.mean()


def test_windows_are_followed_by_what_comes_horizon_steps_later(ramp):
    problem = Forecast(data=ramp, column="up", length=3, horizon=4).problem(0)
    assert problem.obs == Box((3, 1))
    starts = {"train": range(0, 80 - 6), "validation": range(80, 84), "test": range(90, 94)}
    for name, first in starts.items():  # no window crosses from one part into another
        inputs, targets = getattr(problem, name)
        rows = 2.0 * np.array([[day, day + 1, day + 2, day + 6] for day in first])
        np.testing.assert_allclose(in_units(inputs["obs"][:, :, 0]), rows[:, :3], atol=1e-3)
        np.testing.assert_allclose(in_units(targets), rows[:, 3:], atol=1e-3)


def test_the_training_part_alone_has_mean_0_and_deviation_1(ramp):
    train = Forecast(data=ramp, column="up", length=1).problem(0).train
    values = np.append(train.inputs["obs"], train.targets[-1])  # every value once
    assert len(values) == 80
    assert values.mean() == pytest.approx(0.0, abs=1e-6)
    assert values.std() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("column", [1, "1", "up"])
def test_a_column_has_a_name_and_a_number(ramp, column):
    same, other = (Forecast(data=ramp, column=c, length=3).problem(0) for c in (column, "up"))
    np.testing.assert_array_equal(same.test.targets, other.test.targets)


def test_figures_are_in_the_series_own_units(ramp):
    problem = Forecast(data=ramp, column="up", length=3, horizon=2).problem(0)
    deviation = (2.0 * np.arange(80)).std()
    off_by_1 = problem.test.targets + 1.0 / deviation  # persistence is off by 4
    figures = problem.figures(off_by_1, problem.test)
    assert figures["rmse"] == pytest.approx(1.0, rel=1e-4)
    assert figures["rmse_persistence"] == pytest.approx(4.0, rel=1e-4)
    assert figures["skill"] == pytest.approx(1 - 1 / 16, rel=1e-4)


def test_skill_is_unknown_where_persistence_is_perfect(tmp_path):
    path = tmp_path / "flat.csv"
    path.write_text("x\n" + "".join(f"{min(i, 50)}\n" for i in range(100)))
    problem = Forecast(data=str(path), length=3).problem(0)
    figures = problem.figures(problem.test.targets, problem.test)
    assert math.isnan(figures["skill"])
    assert figures["rmse"] == 0.0


@pytest.mark.parametrize("rows", [["0.1"] * 100, ["1e300", "-1e300"] * 50, ["0"] * 90 + ["1"] * 10])
def test_a_series_that_cannot_be_standardised_is_refused(tmp_path, rows):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(["x", *rows]))
    with pytest.raises(ValueError, match=r"bad\.csv, column 0: expected values that differ"):
        Forecast(data=str(path), length=3).problem(0)


def test_a_series_without_room_for_a_window_is_refused(ramp):
    with pytest.raises(ValueError, match="expected at least 13 in each"):
        Forecast(data=ramp, column="up", length=8, horizon=5).problem(0)


def test_a_missing_file_or_column_is_refused(ramp):
    with pytest.raises(ValueError, match="no column 'down'"):
        Forecast(data=ramp, column="down").problem(0)
    with pytest.raises(ValueError, match="expected a file, found nothing"):
        Forecast(data="none.csv").problem(0)
