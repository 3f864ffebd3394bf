"""What a call of rlzoo leaves as it was, and where it refuses to start."""

import multiprocessing
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import rlzoo
from tests.runs.killed_runs import final_arrays
from tests.runs.test_going_on import train


def draw() -> list[float]:
    """Draws from everything global."""
    drawn = random.random(), np.random.rand(), keras.random.uniform([]), tf.random.uniform([])
    return [float(number) for number in drawn]


CALLS = {
    "load": lambda run, digits_run, tmp_path: rlzoo.load(run.dir),
    "evaluate": lambda run, digits_run, tmp_path: rlzoo.evaluate(run.dir, episodes=1),
    "record": lambda run, digits_run, tmp_path: rlzoo.record(run.dir, tmp_path / "a.gif"),
    "load_torso": lambda run, digits_run, tmp_path: rlzoo.load_torso(digits_run.dir),
    "train and train on": lambda run, digits_run, tmp_path: train(tmp_path / "a", steps=8).train(8),
    "pretrain": lambda run, digits_run, tmp_path: rlzoo.pretrain(
        config=digits_run.dir, epochs=1, run_dir=tmp_path / "a", quiet=True
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_callers_generators_stay_as_they_were(name, run, digits_run, tmp_path):
    keras.utils.set_random_seed(5)
    draw()
    expected = draw()
    keras.utils.set_random_seed(5)
    draw()
    CALLS[name](run, digits_run, tmp_path)
    assert draw() == expected


def test_also_if_it_fails(tmp_path):
    keras.utils.set_random_seed(5)
    draw()
    expected = draw()
    keras.utils.set_random_seed(5)
    draw()
    with pytest.raises(FloatingPointError):
        train(tmp_path, learning_rate=1e38)
    assert draw() == expected


def test_a_run_does_not_depend_on_them(tmp_path):
    found = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        found.append(final_arrays(train(tmp_path / str(seed), steps=40).dir))
    for name, array in found[0].items():
        assert array.tobytes() == found[1][name].tobytes(), name


def _load(queue, run_dir):
    try:
        rlzoo.load(run_dir)
        queue.put("loaded")
    except ValueError as error:
        queue.put(str(error))


def test_a_fork_of_a_process_with_tensorflow_is_told_to_spawn(run):
    """It would wait for ever for threads that a fork does not copy."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_load, args=(queue, run.dir))
    child.start()
    said = queue.get(timeout=60)
    child.join(10)
    assert "get_context('spawn')" in said and "\n" not in said
