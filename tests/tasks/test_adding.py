"""Adding: what its sequences hold."""

import numpy as np
import pytest

from rlzoo.tasks.adding import Adding


def test_the_target_is_the_sum_of_the_two_marked_numbers():
    problem = Adding(length=20, examples=50).problem(0)
    for inputs, targets in (problem.train, problem.validation, problem.test):
        numbers, markers = np.moveaxis(inputs["obs"], -1, 0)  # [n, length] each
        np.testing.assert_allclose(targets[:, 0], (numbers * markers).sum(1), rtol=1e-6)
        assert ((numbers >= 0) & (numbers < 1)).all()
        assert set(np.unique(markers)) == {0.0, 1.0}


@pytest.mark.parametrize("length", [2, 3, 20])
def test_one_place_is_in_each_half_and_every_place_occurs(length):
    markers = Adding(length=length, examples=2_000).problem(0).train.inputs["obs"][:, :, 1]
    half = length // 2
    assert (markers[:, :half].sum(1) == 1).all()
    assert (markers[:, half:].sum(1) == 1).all()
    assert (markers.sum(0) > 0).all()


def test_the_mean_is_off_by_a_sixth():
    targets = Adding(length=4, examples=20_000).problem(0).train.targets
    assert np.mean((targets - 1.0) ** 2) == pytest.approx(1 / 6, rel=0.03)
