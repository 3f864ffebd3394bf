"""Predict: how an observation changes, by the action."""

import gymnasium
import numpy as np
import pytest

import rlzoo
from rlzoo.tasks import TASKS
from rlzoo.tasks.base import Examples
from rlzoo.tasks.predict import ActionHead
from rlzoo.tasks.transitions import gather

Predict = TASKS["predict"]


@pytest.fixture(scope="module")
def problem():
    return Predict(env="CartPole-v1", steps=200).problem(2)


def parts_of(problem):
    return problem.train, problem.validation, problem.test


def test_the_target_is_the_change_standardised(problem):
    """Recomputed by a second environment, also where an episode ends."""
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    changes, ends = [], 0
    for part in parts_of(problem):
        for obs, action in zip(part.inputs["obs"], part.inputs["action"], strict=True):
            env.state, env.steps_beyond_terminated = obs.astype(np.float64), None
            next_obs, _, terminated, _, _ = env.step(int(action))
            changes.append(next_obs - obs)
            ends += terminated
    assert ends > 3  # and there the target is no jump to the next start
    changes = np.array(changes, np.float64)
    expected = (changes - changes[:160].mean(0)) / changes[:160].std(0)
    targets = np.concatenate([part.targets for part in parts_of(problem)])
    np.testing.assert_allclose(targets, expected, atol=2e-3)
    assert [len(part.targets) for part in parts_of(problem)] == [160, 20, 20]


def test_no_step_is_in_two_parts(problem):
    rows = [part.inputs["obs"][i].tobytes() for part in parts_of(problem) for i in
            range(len(part.targets))]  # fmt: skip
    assert len(set(rows)) == 200


def test_discrete_observations_have_a_next_one():
    problem = Predict(env="rlzoo/DynaMaze-v0", steps=40).problem(1)
    _, steps = gather("rlzoo/DynaMaze-v0", 40, 1)
    assert np.array_equal(problem.train.targets, steps.next_obs[:32])
    assert np.array_equal(problem.train.inputs["obs"], steps.obs[:32])
    assert problem.metrics == ("accuracy",) and problem.figures is None
    assert problem.obs.n == 54
    answers = problem.head(0)([np.zeros((2, 3), np.float32), np.array([0, 3])])
    assert answers.shape == (2, 54)


def test_the_head_has_a_layer_for_each_action():
    head = ActionHead(3, 2, seed=0)
    head.build([(None, 4), (None,)])
    kernel = np.arange(24, dtype=np.float32).reshape(4, 6)
    bias = np.array([1, 2, 3, 4, 5, 6], np.float32)
    head.set_weights([kernel, bias])
    features = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    found = np.asarray(head([features, np.array([0, 2, 1], np.int32)]))
    # Columns 2a and 2a + 1 of kernel and bias belong to action a.
    assert found.tolist() == [[0 + 1, 1 + 2], [10 + 5, 11 + 6], [14 + 20 + 3, 15 + 21 + 4]]
    assert head.compute_output_shape([(5, 4), (5,)]) == (5, 2)


def test_explained_variance_by_hand(problem):
    targets = np.array([[1.0, 0.0], [-1.0, 0.0]])
    test = Examples({}, targets)
    assert problem.figures(targets, test) == {"explained_variance": 1.0}
    assert problem.figures(np.zeros((2, 2)), test) == {"explained_variance": 0.0}
    assert problem.figures(0.5 * targets, test) == {"explained_variance": 0.75}
    assert problem.figures(targets, Examples({}, np.zeros((2, 2)))) == {}  # nothing changes


def test_continuous_actions_are_seen(tmp_path):
    """Half of Pendulum's change of speed is the torque: who is blind to it explains less."""
    run = rlzoo.pretrain(
        "predict", env="Pendulum-v1", epochs=12, run_dir=tmp_path / "run", quiet=True,
        overrides={"steps": 2_000, "torso.sizes": [32], "learning_rate": 3e-3},
    )  # fmt: skip
    assert run.summary["test_explained_variance"] > 0.9
