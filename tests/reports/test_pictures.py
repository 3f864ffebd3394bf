"""Pictures of supervised runs: counts by hand and by brute force, and files that show something."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlzoo.reports import pictures


def test_a_confusion_matrix_by_hand():
    targets, found = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 2])
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert pictures.confusion_matrix(targets, found, 3).tolist() == expected


@given(
    st.integers(1, 6).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), max_size=30),
            st.sampled_from([np.uint8, np.int32, np.int64]),
        )
    )
)
def test_a_confusion_matrix_by_brute_force(case):
    num_classes, pairs, dtype = case
    targets, found = np.array(pairs, dtype).reshape(-1, 2).T
    counts = pictures.confusion_matrix(targets, found, num_classes)
    assert counts.shape == (num_classes, num_classes)
    for row in range(num_classes):
        for column in range(num_classes):
            assert counts[row, column] == pairs.count((row, column))


def test_steps_of_sequences_count_one_by_one():
    targets, found = np.array([[0, 1], [1, 1]]), np.array([[0, 0], [1, 1]])
    assert pictures.confusion_matrix(targets, found, 2).tolist() == [[1, 0], [1, 2]]


def check_picture(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 200
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("classes", [list("ab\n$"), [str(i) for i in range(40)]])
def test_the_picture_of_a_confusion(classes, tmp_path):
    targets = np.arange(80) % len(classes)
    found = targets.copy()
    found[:9] = 0
    shown = check_picture(pictures.draw_confusion(tmp_path, targets, found, classes))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_worst_mistakes_come_first(channels, tmp_path):
    """Of images that are all of one grey: what is shown first is the one most surely wrong."""
    greys = np.array([40, 120, 200], np.uint8)
    images = greys.reshape(3, 1, 1, *(1 for _ in channels)) * np.ones((8, 8, *channels), np.uint8)
    logits = np.array([[1.0, 0.0], [9.0, 0.0], [0.0, 1.0]])  # the second is worst, the third right
    path = pictures.draw_mistakes(tmp_path, images, np.array([1, 1, 1]), logits, "xy")
    shown = check_picture(path)[:200]
    places = [np.argwhere((shown == grey).all(-1)) for grey in greys]
    assert len(places[0]) > 2_000 and len(places[1]) > 2_000
    assert places[1][:, 1].mean() < places[0][:, 1].mean()
    assert len(places[2]) < 500


def test_no_mistakes_is_a_picture_too(tmp_path):
    images = np.zeros((2, 5, 5), np.uint8)
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    check_picture(pictures.draw_mistakes(tmp_path, images, np.array([0, 1]), logits, "xy"))
