"""Wrappers around a run's environments, by name and as objects."""

import functools
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import FlattenObservation, FrameStackObservation, ResizeObservation

import rlzoo
from rlzoo.config.files import from_yaml, load_run, to_yaml
from rlzoo.config.resolve import resolve
from rlzoo.config.wrappers import describe, makers, wrapped
from rlzoo.envs import make_env, make_envs
from tests.runs.killed_runs import final_arrays
from tests.runs.test_callbacks import StopAt

TINY = {"eval_every": 100, "eval_episodes": 1, "learning_starts": 16, "batch_size": 8,
        "replay_capacity": 100, "torso.sizes": [8], "checkpoint_every": 50}  # fmt: skip
STACK = {"name": "FrameStackObservation", "stack_size": 2}
MODULE = """
import gymnasium

class Tenth(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward / 10

NOTHING = 3
"""


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def train_maze(folder, wrappers, steps=100):
    return rlzoo.train(
        "dyna_q", "rlzoo/DynaMaze-v0", preset=False, steps=steps, wrappers=wrappers,
        run_dir=folder, overrides={"eval_every": 0, "eval_episodes": 2}, quiet=True,
    )  # fmt: skip


def train(folder, wrappers, **more):
    arguments = {"steps": 100, "run_dir": folder, "overrides": TINY, "quiet": True, **more}
    return rlzoo.train("dqn", "CartPole-v1", preset=False, wrappers=wrappers, **arguments)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_wrappers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_wrappers:Tenth"


def test_they_are_around_every_environment_the_first_inmost():
    env = make_env(wrapped("CartPole-v1", [STACK, "FlattenObservation"]))
    assert isinstance(env, FlattenObservation) and isinstance(env.env, FrameStackObservation)
    assert env.observation_space.shape == (8,)
    env.close()
    with pytest.raises(ValueError, match="expected"):  # stacking what is flat: [2, 4]
        describe("FlattenObservation")
    envs = make_envs(wrapped("CartPole-v1", [Doubled]), 2, 0, mode="async")
    try:
        envs.reset()
        assert envs.step(np.zeros(2, np.int64)).reward.tolist() == [2.0, 2.0]
    finally:
        envs.close()


def test_a_run_trains_evaluates_resumes_and_loads_with_gymnasiums_own(tmp_path):
    run = train(tmp_path / "run", [STACK, "{name: FlattenObservation}"])
    assert run.config.wrappers == (STACK, {"name": "FlattenObservation"})
    assert run.config.loop == "host" and load_run(run.dir) == run.config
    assert run.agent.spec.obs.shape == (8,)
    assert rlzoo.load(run.dir).predict(np.zeros(8)) in (0, 1)
    assert run.evaluate(20).returns == rlzoo.evaluate(run.dir).returns


@pytest.mark.slow
def test_resume_is_exact_with_wrappers(tmp_path):
    wrappers = [STACK, "FlattenObservation"]
    run = train(tmp_path / "run", wrappers, steps=200, callbacks=[StopAt(100)])
    whole = train(tmp_path / "whole", wrappers, steps=200)
    assert run.summary["steps"] < rlzoo.resume(run.dir, quiet=True).summary["steps"]
    expected = final_arrays(whole.dir)
    for name, array in final_arrays(run.dir).items():
        assert array.tobytes() == expected[name].tobytes(), name


def test_settings_and_objects_say_the_same():
    partial = functools.partial(FrameStackObservation, stack_size=2)
    assert describe([partial, FlattenObservation]) == (STACK, {"name": "FlattenObservation"})
    by_set = resolve(
        "dqn", "CartPole-v1",
        overrides=["wrappers=[{name: FrameStackObservation, stack_size: 2}, FlattenObservation]"],
    )  # fmt: skip
    assert by_set.wrappers == describe([partial, FlattenObservation])
    assert from_yaml(to_yaml(by_set)) == by_set


@pytest.mark.parametrize("shape", [(84, 84), [84, 84]])
def test_gymnasiums_own_take_tuples_from_files(shape):
    """`ResizeObservation` asserts a tuple, and YAML has only lists."""
    partial = functools.partial(ResizeObservation, shape=shape)
    assert describe([partial]) == ({"name": "ResizeObservation", "shape": [84, 84]},)
    env = make_env(wrapped("rlzoo/DigitBandit-v0", describe([partial])))
    assert env.observation_space.shape == (84, 84)
    env.close()


def test_atari_by_the_recipe():
    """As docs/environments.md has it, and what is said where a part of it is missing."""
    pytest.importorskip("ale_py")
    with pytest.warns(UserWarning, match=r"images \[210, 160, 3\].*--set env.frameskip=1"):
        make_envs("ALE/Pong-v5", 1, 0).close()
    recipe = wrapped("ALE/Pong-v5", ["AtariPreprocessing", {**STACK, "stack_size": 4}])
    with pytest.raises(ValueError, match=r"Disable frame-skipping .*--set env.frameskip=1 "):
        make_env(recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = make_envs(recipe, 1, 0, env_kwargs={"frameskip": 1})
    assert envs.spec.obs.shape == (4, 84, 84) and envs.spec.obs.pixels
    envs.close()


def test_evaluation_sees_the_wrapped_reward_and_objects_are_given_again(tmp_path):
    run = train_maze(tmp_path / "run", [Doubled], steps=1_500)
    assert run.config.wrappers == ({"name": "callable:tests.config.test_wrappers.Doubled"},)
    assert run.evaluate(2).returns == [2.0, 2.0]  # the goal gives 1
    for call in (rlzoo.resume, rlzoo.load, rlzoo.evaluate):
        with pytest.raises(ValueError, match=r"made in Python.*give all wrappers yourself"):
            call(run.dir)
    with pytest.raises(ValueError, match="Give those that the run was trained with"):
        rlzoo.resume(run.dir, wrappers=["FlattenObservation"])
    more = rlzoo.resume(run.dir, wrappers=[Doubled], steps=1_550, quiet=True)
    assert more.summary["steps"] == 1_550


def test_a_file_imports_no_wrapper_that_the_caller_has_not_named(tmp_path, module):
    run = train_maze(tmp_path / "run", [module])
    for call in (rlzoo.resume, rlzoo.load, rlzoo.evaluate, lambda path: resolve(file=path)):
        with pytest.raises(ValueError, match="'my_wrappers:Tenth', which would import a module"):
            call(run.dir)
    assert resolve(file=run.dir, wrappers=[module]).wrappers == run.config.wrappers
    assert rlzoo.load(run.dir, wrappers=[module]).predict(0) in range(4)


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        (["FlattenObservatio"], "Did you mean 'FlattenObservation'"),
        (["RecordVideo"], "`rlzoo record` makes videos"),
        ([{"stack_size": 4}], "expected a name and its parameters"),
        (["{name: FrameStackObservation"], "is no plain YAML"),
        ([{**STACK, "stack_sizes": 4}], "wrapper FrameStackObservation.*stack_sizes"),
        ([3], "expected a name, a mapping, or a class, received 3"),
        ([{"name": "ReshapeObservation", "shape": [3]}], r"AssertionError: assert .*\(shape\)"),
        (["no_such_module:Name"], "no_such_module.*does not import"),
        (["my_wrappers:NOTHING"], "expected a class, and my_wrappers:NOTHING is 3"),
        ([lambda env: None], "expected it to return an environment"),
    ],
)
def test_what_is_no_wrapper_is_refused(tmp_path, module, wrappers, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", wrappers)
    assert not (tmp_path / "run").exists()


def test_the_graph_loop_takes_none():
    with pytest.raises(ValueError, match="graph loop has environments of its own, which take none"):
        resolve("dqn", "CartPole-v1", loop="graph", wrappers=["FlattenObservation"])
    assert makers([Doubled]) == (Doubled,)
