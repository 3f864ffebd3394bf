"""Characters: what its windows hold, and how unknown characters are numbered."""

import numpy as np
import pytest

from rlzoo.spaces import Discrete
from rlzoo.tasks.characters import Characters


@pytest.fixture
def save(tmp_path):
    """Returns a function that writes a text to a file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "some.txt"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def read(problem, numbers) -> str:
    return "".join(problem.classes[i] if i < len(problem.classes) - 1 else "?" for i in numbers)


def test_targets_are_the_next_characters_and_parts_do_not_mix(save):
    text = "ab" * 40 + "ba" * 5 + "aab" * 3 + "b"
    problem = Characters(data=save(text), length=4).problem(0)
    assert problem.obs == Discrete(3, (4,))
    assert problem.classes == ("a", "b", "unknown")
    for inputs, targets in (problem.train, problem.validation, problem.test):
        assert inputs["obs"].dtype == targets.dtype == np.int64
        np.testing.assert_array_equal(inputs["obs"][:, 1:], targets[:, :-1])
    assert [read(problem, x) for x in problem.validation.inputs["obs"]] == ["baba", "baba"]
    assert [read(problem, x) for x in problem.test.inputs["obs"]] == ["aaba", "abaa"]
    assert [read(problem, x) for x in problem.test.targets] == ["abaa", "baab"]


def test_what_the_training_part_lacks_is_unknown(save):
    problem = Characters(data=save("ab" * 40 + "a\U0001f600\u0000b" * 5), length=4).problem(0)
    seen = "".join(read(problem, x) for x in problem.validation.inputs["obs"])
    assert seen == "a??ba??b"


def test_the_256_most_frequent_characters_have_numbers(save):
    rare = "".join(map(chr, range(0x4E00, 0x4E00 + 50)))
    common = "".join(map(chr, range(0x400, 0x400 + 256)))
    text = (common * 3 + rare) * 2
    problem = Characters(data=save(text + text[: len(text) // 4]), length=8).problem(0)
    assert problem.obs.n == len(problem.classes) == 257
    assert problem.classes[:-1] == tuple(sorted(common))
    assert problem.train.inputs["obs"].max() == 256


def test_the_seed_moves_the_windows_of_the_training_part_only(save):
    path = save("".join(map(chr, range(0x400, 0x400 + 200))))
    one, other = (Characters(data=path, length=10).problem(seed) for seed in (0, 1))
    assert one.train.inputs["obs"][0, 0] != other.train.inputs["obs"][0, 0]
    np.testing.assert_array_equal(one.test.targets, other.test.targets)


def test_bits_are_those_of_the_cross_entropy(save):
    problem = Characters(data=save("abcd" * 100), length=4).problem(0)
    shape = (*problem.test.targets.shape, 5)
    fair = np.where(np.arange(5) < 4, 7.0, -np.inf) * np.ones(shape, np.float32)
    assert problem.figures(fair, problem.test)["bits_per_character"] == pytest.approx(2.0)
    right = 100.0 * np.eye(5, dtype=np.float32)[problem.test.targets]
    assert problem.figures(right, problem.test)["bits_per_character"] == pytest.approx(0.0)
    wrong = problem.loss(problem.test.targets, np.roll(right, 1, -1)) / np.log(2.0)
    found = problem.figures(np.roll(right, 1, -1), problem.test)["bits_per_character"]
    assert found == pytest.approx(float(wrong), rel=1e-5)


@pytest.mark.parametrize(("text", "message"), [("short", "too short"), (" \n", "only blanks")])
def test_a_text_without_room_for_a_window_is_refused(save, text, message):
    with pytest.raises(ValueError, match=message):
        Characters(data=save(text), length=4).problem(0)


def test_the_embedded_text_is_the_default():
    problem = Characters(length=16, examples=100).problem(0)
    assert 80 <= len(problem.train.targets) <= 100
    assert {"e", " ", "\n"} <= set(problem.classes)
