"""Cutting data into parts and windows."""

import numpy as np
import pytest

from rlzoo.tasks.base import chronological, windows


def test_a_series_is_parted_in_the_order_of_time():
    parts = chronological(np.arange(25))
    assert [part.tolist() for part in parts] == [[*range(20)], [20, 21], [22, 23, 24]]


def test_windows_start_every_step():
    assert windows(np.arange(7), 3, 2, 100).tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert windows(np.arange(3), 3, 1, 100).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(("most", "starts"), [(8, range(8)), (7, range(0, 8, 2)), (1, [0])])
def test_windows_are_thinned_out_evenly(most, starts):
    assert windows(np.arange(10), 3, 1, most)[:, 0].tolist() == list(starts)


def test_too_short_a_series_is_refused():
    with pytest.raises(ValueError, match=r"too short: .* expected at least 5 in each"):
        windows(np.arange(4), 5, 1, 10)
