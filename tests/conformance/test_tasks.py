"""What every task in `TASKS` promises. Being in the table puts it under these tests."""

import dataclasses
import inspect
import json
import re

import numpy as np
import pytest

import rlzoo
from rlzoo.spaces import Discrete
from rlzoo.tasks import TASKS

# Settings that keep a task small; each takes those that it knows.
SMALL = {
    "epochs": 1,
    "batch_size": 64,
    "examples": 40,
    "length": 12,
    "delay": 5,
    "values": 300,
    "env": "CartPole-v1",
    "steps": 200,
}
LEFT = {"config.yaml", "metrics.csv", "summary.json", "curve.png", "checkpoints"}


def settings(name):
    known = {field.name for field in dataclasses.fields(TASKS[name])}
    return {key: value for key, value in SMALL.items() if key in known}


@pytest.fixture(scope="module", params=TASKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def problem(name):
    return TASKS[name](**settings(name)).problem(3)


def flat(problem):
    """Returns all of a problem's arrays in order."""
    return [
        array
        for part in (problem.train, problem.validation, problem.test)
        for array in (*part.inputs.values(), part.targets)
    ]


def test_it_says_what_it_is(name):
    first = inspect.getdoc(TASKS[name]).splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 92, "one line of `rlzoo list tasks`"


def test_its_settings_are_frozen_and_each_of_its_own_is_explained(name):
    cls = TASKS[name]
    task = cls()  # every field has a default
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.epochs = 1
    shared = {"torso", "epochs", "batch_size", "learning_rate", "patience"}
    fields = {field.name for field in dataclasses.fields(cls)}
    assert shared <= fields
    source = inspect.getsource(cls)
    for field in fields - shared:
        assert re.search(rf"^    {field}: .*#", source, re.M), f"say what {field} is"


@pytest.mark.parametrize("field", ["epochs", "batch_size", "learning_rate", "patience"])
def test_a_setting_out_of_range_is_refused_in_one_line(name, field):
    with pytest.raises(ValueError, match=rf"^{field}: expected .*, received 0\.$"):
        TASKS[name](**{field: 0})


def test_the_seed_decides_the_data(name, problem):
    task = TASKS[name](**settings(name))
    assert all(map(np.array_equal, flat(problem), flat(task.problem(3))))
    assert not all(map(np.array_equal, flat(problem), flat(task.problem(4))))


def test_its_data_are_what_it_says(problem):
    spec = problem.obs
    for inputs, targets in (problem.train, problem.validation, problem.test):
        obs = inputs["obs"]
        assert obs.shape[1:] == spec.shape
        assert obs.dtype == spec.dtype
        assert {len(x) for x in inputs.values()} == {len(targets)}
        assert len(targets) > 0
        if isinstance(spec, Discrete):
            assert ((obs >= 0) & (obs < spec.n)).all()
        assert all(np.isfinite(x).all() for x in (*inputs.values(), targets))
        if problem.per_step:
            assert targets.shape[1] == spec.shape[0]
        if problem.classes:
            assert targets.dtype.kind in "iu"
            assert ((targets >= 0) & (targets < len(problem.classes))).all()


def test_its_splits_are_disjoint(problem):
    """No example of one part is one of another."""
    parts = []
    for inputs, targets in (problem.train, problem.validation, problem.test):
        arrays = (*inputs.values(), targets)
        parts.append({b"".join(a[i].tobytes() for a in arrays) for i in range(len(targets))})
    train, validation, test = parts
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_an_epoch_leaves_a_whole_run(name, tmp_path):
    run = rlzoo.pretrain(name, run_dir=tmp_path / "run", quiet=True, **settings(name))
    assert {path.name for path in run.dir.iterdir()} >= LEFT
    summary = json.loads((run.dir / "summary.json").read_text())
    assert summary["task"] == name
    assert summary["epochs"] == 1
    assert np.isfinite(summary["test_loss"])
    assert run.torso.built
