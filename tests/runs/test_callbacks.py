"""Callbacks and the return that ends a run."""

import json
import sys

import pytest

import rlzoo
from rlzoo.loops.evaluate import Evaluation
from rlzoo.runs.callbacks import Callback, Callbacks
from rlzoo.storage import checkpoint
from tests.runs.killed_runs import final_arrays

MAZE = {"eval_every": 100, "eval_episodes": 1, "log_every": 50, "checkpoint_every": 150}


def train(folder, loop="host", **more):
    arguments = {"steps": 400, "loop": loop, "overrides": MAZE, "quiet": True, **more}
    return rlzoo.train("dyna_q", "rlzoo/DynaMaze-v0", preset=False, run_dir=folder, **arguments)


class Recorder(Callback):
    def __init__(self):
        self.steps, self.evaluations, self.checkpoints = [], [], []

    def on_step(self, step, metrics, episodes):
        assert all(isinstance(value, float) for value in metrics.values())
        assert all(ended.mean_length >= 1 for ended in episodes)
        self.steps.append(step)

    def on_evaluation(self, step, evaluation, is_best):
        assert isinstance(evaluation, Evaluation)
        self.evaluations.append((step, is_best))

    def on_checkpoint(self, path, step):
        assert path.is_dir()
        self.checkpoints.append((path.name, step))


class StopAt:
    """Stops a run at a step; an object of no class of ours, with one method."""

    def __init__(self, step=120):
        self.step = step

    def on_step(self, step, metrics, episodes):
        return step >= self.step


class Failing:
    def on_evaluation(self, step, evaluation, is_best):
        if step >= 200:
            raise KeyError("a mistake of the user's")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with a callback that looks on, and the callback."""
    seen = Recorder()
    return train(tmp_path_factory.mktemp("runs") / "whole", callbacks=[seen]), seen


def test_callbacks_see_steps_evaluations_and_checkpoints(whole):
    run, seen = whole
    assert seen.steps == list(range(1, 401))
    assert [step for step, _ in seen.evaluations] == [100, 200, 300, 400]
    bests = [name for name, _ in seen.checkpoints if name.startswith("best-")]
    assert len(bests) == sum(is_best for _, is_best in seen.evaluations)
    written = [step for name, step in seen.checkpoints if name.startswith("step-")]
    assert written == [0, 150, 300, 400]
    assert run.summary["stopped_by"] is None and run.summary["solved_at"] is None


def test_the_graph_loop_calls_them_after_each_stretch(tmp_path):
    seen = Recorder()
    run = train(tmp_path / "run", loop="graph", callbacks=[seen])
    assert seen.steps[-1] == 400 and {50, 100, 150} <= set(seen.steps)
    assert [step for step, _ in seen.evaluations] == [100, 200, 300, 400]
    assert run.summary["steps"] == 400


def test_a_callback_ends_the_run_and_resume_goes_on_exactly(tmp_path, whole):
    run = train(tmp_path / "run", callbacks=[StopAt(120), Recorder()])
    assert run.summary["steps"] == 120 and run.summary["stopped_by"] == "StopAt"
    assert json.loads((run.dir / "summary.json").read_text()) == run.summary
    newest = checkpoint.checkpoints(run.dir / "checkpoints")[0]
    assert newest.name == "step-000000120"
    resumed = rlzoo.resume(run.dir, quiet=True)
    assert resumed.summary["steps"] == 400 and resumed.summary["stopped_by"] is None
    expected = final_arrays(whole[0].dir)
    for name, array in final_arrays(run.dir).items():
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("method", ["on_evaluation", "on_checkpoint"])
def test_any_method_may_end_the_run(tmp_path, method):
    stop = type("Stop", (), {method: lambda self, first, *rest: True})
    run = train(tmp_path / "run", callbacks=[stop])  # a class is called
    assert run.summary["stopped_by"] == "Stop"
    assert run.summary["steps"] == {"on_evaluation": 100, "on_checkpoint": 0}[method]


def test_a_callback_that_fails_is_named_after_the_run_is_saved(tmp_path, whole):
    with pytest.raises(KeyError, match="a mistake of the user's") as caught:
        train(tmp_path / "run", callbacks=[Recorder(), Failing()])
    notes = getattr(caught.value, "__notes__", [])
    assert any("callback Failing.on_evaluation" in note for note in notes)
    assert checkpoint.checkpoints(tmp_path / "run/checkpoints")[0].name == "step-000000200"
    rlzoo.resume(tmp_path / "run", quiet=True)
    expected = final_arrays(whole[0].dir)
    for name, array in final_arrays(tmp_path / "run").items():
        assert array.tobytes() == expected[name].tobytes(), name


def test_a_module_may_hold_the_callback(tmp_path, monkeypatch):
    (tmp_path / "my_callbacks.py").write_text(
        "class Early:\n    def on_step(self, step, metrics, episodes):\n        return step >= 10\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = train(tmp_path / "run", callbacks=["my_callbacks:Early"])
    assert run.summary["steps"] == 10 and run.summary["stopped_by"] == "Early"
    more = run.train(30, callbacks=["my_callbacks:Early"], quiet=True)
    assert more.summary["steps"] == 11
    sys.modules.pop("my_callbacks")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([object()], "expected an object with on_step, on_evaluation or on_checkpoint"),
        ([type("Odd", (), {"on_stepp": None})], "Did you mean 'on_step'"),
        (["no_such_module:Name"], "no_such_module.*does not import"),
        (["json:Decoder"], "json has no 'Decoder'"),
        (["json"], "expected module:Name, received 'json'"),
        (3, "expected a list of callbacks, received 3"),
        ("json:loads", "expected a list of callbacks"),
    ],
)
def test_what_is_no_callback_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Callbacks(given)


def test_seeds_take_callbacks_by_name_only(tmp_path):
    with pytest.raises(ValueError, match="expected 'module:Name', for each seed trains"):
        rlzoo.train_seeds(
            "dyna_q", "rlzoo/DynaMaze-v0", seeds=[0], run_dir=tmp_path / "x", callbacks=[StopAt()]
        )
    assert not (tmp_path / "x").exists()


# --- until_return ---


def test_a_run_ends_when_an_evaluation_reaches_the_return(tmp_path, capsys):
    run = train(tmp_path / "run", steps=3_000, until_return=1.0)
    solved = run.summary["solved_at"]
    assert run.summary["steps"] == solved < 3_000 and solved % 100 == 0
    assert run.summary["stopped_by"] == "until_return" and run.summary["best_step"] == solved
    assert run.config.until_return == 1.0

    resumed = rlzoo.resume(run.dir)
    assert resumed.summary["steps"] == solved
    assert f"finished: an evaluation reached 1 at step {solved:,}" in capsys.readouterr().err

    resumed = rlzoo.resume(run.dir, until_return=2.0, steps=solved + 100, quiet=True)  # never
    assert resumed.summary["steps"] == solved + 100
    assert resumed.summary["solved_at"] is None and resumed.summary["stopped_by"] is None


@pytest.mark.slow
def test_more_steps_go_on_after_the_return_was_reached(tmp_path):
    run = train(tmp_path / "run", steps=3_000, until_return=1.0)
    solved = run.summary["solved_at"]
    run.train(50, quiet=True)
    assert run.summary["steps"] == solved + 50 and run.config.until_return is None
    resumed = rlzoo.resume(run.dir, steps=solved + 90, quiet=True)
    assert resumed.summary["steps"] == solved + 90


def test_the_return_needs_evaluations(tmp_path):
    with pytest.raises(ValueError, match="until_return: 1 can be reached in an evaluation only"):
        train(tmp_path / "run", until_return=1, overrides={**MAZE, "eval_every": 0})
