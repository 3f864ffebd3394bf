"""Reconstruct: an observation is its own target."""

import numpy as np
import pytest

from rlzoo.spaces import Box
from rlzoo.tasks import TASKS

Reconstruct = TASKS["reconstruct"]


def test_the_target_is_the_observation_standardised():
    problem = Reconstruct(env="CartPole-v1", steps=50).problem(1)
    parts = (problem.train, problem.validation, problem.test)
    assert [len(part.targets) for part in parts] == [40, 5, 5]
    train = problem.train.inputs["obs"].astype(np.float64)
    for part in parts:
        assert list(part.inputs) == ["obs"]
        expected = (part.inputs["obs"] - train.mean(0)) / train.std(0)
        np.testing.assert_allclose(part.targets, expected, rtol=1e-4, atol=1e-5)
    inputs = {row.tobytes() for part in parts for row in part.inputs["obs"]}
    assert len(inputs) == 50
    assert problem.loss([[1.0, 0.0]], [[0.0, 0.0]]) == 0.5
    assert problem.obs == Box((4,)) and not problem.classes


def test_a_discrete_observation_is_a_class():
    problem = Reconstruct(env="rlzoo/DynaMaze-v0", steps=40).problem(1)
    assert np.array_equal(problem.train.targets, problem.train.inputs["obs"])
    states = problem.obs.n
    assert states == 54 and problem.obs.shape == ()
    assert problem.metrics == ("accuracy",)
    assert problem.head(0)(np.zeros((1, 3), np.float32)).shape == (1, states)
    even = float(problem.loss(np.array([3]), np.zeros((1, states), np.float32)))
    assert even == pytest.approx(np.log(states), rel=1e-5)


def test_images_are_flattened():
    problem = Reconstruct(env="rlzoo/Catch-v0", steps=20).problem(0)
    size = int(np.prod(problem.obs.shape))
    assert problem.train.targets.shape == (16, size)
    assert problem.head(0)(np.zeros((1, 3), np.float32)).shape == (1, size)


@pytest.mark.parametrize("steps", [19, 0, -5])
def test_too_few_steps(steps):
    with pytest.raises(ValueError, match=f"steps: expected 20 to 1e\\+08, received {steps}"):
        Reconstruct(env="CartPole-v1", steps=steps)
