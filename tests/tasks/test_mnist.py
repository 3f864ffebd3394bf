"""MNIST as a task: what is learned from, what validates, what tests."""

import numpy as np
import pytest

from rlzoo.data import embedded_digits
from rlzoo.tasks import TASKS
from tests.helpers import save_digits


@pytest.fixture(scope="module")
def problem():
    return TASKS["mnist"]().problem(0)


def rows(examples) -> set[bytes]:
    return {image.tobytes() for image in examples.inputs["obs"]}


def test_parts_are_disjoint_and_whole(problem):
    train, validation, test = map(rows, (problem.train, problem.validation, problem.test))
    assert not train & validation and not train & test and not validation & test
    given, kept = embedded_digits()
    assert train | validation == {image.tobytes() for image in given.images}
    assert test == {image.tobytes() for image in kept.images}


def test_a_tenth_of_each_class_validates(problem):
    for part, count in ((problem.train, 360), (problem.validation, 40), (problem.test, 100)):
        assert np.bincount(part.targets).tolist() == [count] * 10
        assert part.inputs["obs"].shape == (10 * count, 28, 28)
        assert part.inputs["obs"].dtype == np.uint8


def test_labels_stay_with_their_images(problem):
    given, _ = embedded_digits()
    known = dict(zip(map(bytes, given.images), given.labels, strict=True))
    for part in (problem.train, problem.validation):
        images = map(bytes, part.inputs["obs"])
        assert [known[image] for image in images] == part.targets.tolist()


def test_the_seed_chooses_what_validates(problem):
    same, other = (TASKS["mnist"]().problem(seed) for seed in (0, 1))
    assert rows(same.validation) == rows(problem.validation) != rows(other.validation)
    assert rows(same.test) == rows(other.test)


def test_augmentation_moves_ink_and_adds_none(problem):
    images = problem.train.inputs["obs"][:50].astype(np.float32) / 255
    layer = problem.augment()
    moved = np.asarray(layer(images, training=True))
    assert moved.shape == images.shape
    assert np.array_equal(np.asarray(layer(images, training=False)), images)
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6
    assert not np.allclose(moved, images)
    assert not np.allclose(moved, np.asarray(layer(images, training=True)))  # anew each time
    assert moved.sum() == pytest.approx(images.sum(), rel=0.2)
    assert TASKS["mnist"](augment=False).problem(0).augment is None


def test_data_of_ones_own(tmp_path):
    file = save_digits(tmp_path / "own.npz", train=11, test=3)
    problem = TASKS["mnist"](data=str(file)).problem(0)
    sizes = [len(part.targets) for part in (problem.train, problem.validation, problem.test)]
    assert sizes == [90, 20, 30]  # of 11, the first and the eleventh


def test_too_few_images(tmp_path):
    file = save_digits(tmp_path / "few.npz", train=1)
    with pytest.raises(ValueError, match=r"of 10 none are left to learn from\. Give more"):
        TASKS["mnist"](data=str(file)).problem(0)
