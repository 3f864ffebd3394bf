"""Recall: what its sequences hold."""

import numpy as np

from rlzoo.tasks.recall import Recall


def test_a_sequence_is_a_symbol_a_wait_and_a_signal():
    train = Recall(delay=4, num_symbols=3, noise=0.0, examples=40).problem(0).train
    expected = np.zeros((40, 6, 4), np.float32)
    expected[np.arange(40), 0, train.targets] = 1.0
    expected[:, 5, 3] = 1.0
    np.testing.assert_array_equal(train.inputs["obs"], expected)
    assert set(train.targets) == {0, 1, 2}


def test_noise_has_its_deviation():
    blank = Recall(delay=50, noise=0.2, examples=400).problem(0).train.inputs["obs"][:, 1:-1]
    assert abs(blank.mean()) < 0.01
    assert abs(blank.std() - 0.2) < 0.01
