import numpy as np

from rlzoo.envs.drawing import draw


def test_text():
    assert draw([["A", "."], ["#", "G"]], "ansi") == "A.\n#G\n"


def test_picture():
    picture = draw(["A.", "#G", ".o"], "rgb_array")
    assert picture.shape == (3 * 32, 2 * 32, 3)
    assert picture.dtype == np.uint8
    middles = picture[16::32, 16::32].reshape(-1, 3)
    assert len(np.unique(middles, axis=0)) == 5
