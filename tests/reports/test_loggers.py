"""Where the numbers of a run go beside its folder."""

import csv
import importlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import rlzoo
from rlzoo.reports.loggers import Loggers
from rlzoo.storage import checkpoint
from tests.runs.test_callbacks import StopAt, train

ROOT = Path(__file__).parents[2]


class Kept:
    """Keeps what it is told."""

    def __init__(self):
        self.started, self.rows, self.closed = [], [], 0

    def start(self, run_dir, settings):
        self.started.append((run_dir, settings))

    def scalars(self, step, values):
        self.rows += [(step, tag, value) for tag, value in values.items()]

    def close(self):
        self.closed += 1


class Failing(Kept):
    def scalars(self, step, values):
        if step >= 100:
            raise ConnectionError("the server is gone")
        super().scalars(step, values)


class Deadly(Kept):
    """Writes to a file, and kills the process at a step."""

    def start(self, run_dir, settings):
        self.path = run_dir.parent / "rows.jsonl"

    def scalars(self, step, values):
        with open(self.path, "a") as file:
            file.writelines(json.dumps([step, t, v]) + "\n" for t, v in values.items())


def rows(run_dir):
    with open(run_dir / "metrics.csv", newline="") as file:
        return [(int(r["step"]), r["tag"], float(r["value"])) for r in csv.DictReader(file)]


def once(found, run_dir):
    """Checks that each row of a run came once, and nothing else (times differ where redone)."""
    assert max(Counter((step, tag) for step, tag, _ in found).values()) == 1
    timed = "time/steps_per_second"
    assert {r for r in found if r[1] != timed} == {r for r in rows(run_dir) if r[1] != timed}


def test_a_logger_takes_all_that_metrics_csv_holds(tmp_path):
    kept, other = Kept(), Failing()
    with pytest.warns(UserWarning, match="logger Failing failed in `scalars`.*the server is gone"):
        run = train(tmp_path / "run", loggers=[other, kept])
    assert kept.rows == rows(run.dir)
    ((folder, settings),) = kept.started
    assert folder == run.dir and kept.closed == 1
    assert settings["agent"] == "dyna_q" and settings["seed"] == 0
    assert settings["exploration.name"] == run.config.exploration["name"]
    assert all(isinstance(value, bool | int | float | str) for value in settings.values())
    assert other.closed == 0 and {step for step, *_ in other.rows} == {50}


def test_each_row_comes_once_where_a_run_goes_back_to_an_earlier_checkpoint(tmp_path):
    kept = Kept()
    run = train(tmp_path / "run", callbacks=[StopAt(290)], loggers=[kept])
    newest, earlier = checkpoint.checkpoints(run.dir / "checkpoints")
    assert (newest.name, earlier.name) == ("step-000000290", "step-000000150")
    shutil.rmtree(newest)
    sent = {(step, tag) for step, tag, _ in kept.rows}
    assert (200, "eval/return") in sent and (250, "exploration/entropy") in sent
    rlzoo.resume(run.dir, loggers=[kept], quiet=True)
    # What the callback's end had added at step 290 is no part of the run that went on.
    once([row for row in kept.rows if row[0] != 290], run.dir)


@pytest.mark.slow
def test_each_row_comes_once_over_a_kill(tmp_path):
    script = (
        "import os, rlzoo\n"
        "from tests.reports.test_loggers import Deadly\n"
        "from tests.runs.test_callbacks import train\n"
        "class Kill(Deadly):\n"
        "    def scalars(self, step, values):\n"
        "        super().scalars(step, values)\n"
        "        if step >= 200: os.kill(os.getpid(), 9)\n"
        f"train({str(tmp_path / 'run')!r}, loggers=[Kill])\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert killed.returncode == -9
    rlzoo.resume(tmp_path / "run", loggers=[Deadly], quiet=True)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    once([tuple(json.loads(line)) for line in lines], tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["wandbb"], "Unknown logger 'wandbb'. Did you mean 'wandb'"),
        (["no_such_module:Name"], "no_such_module.*does not import"),
        ([object()], "expected the methods start, scalars and close"),
        ("wandb", "expected a list of loggers"),
    ],
)
def test_what_is_no_logger_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Loggers(given)


@pytest.mark.parametrize(
    "start", [partial(rlzoo.train, seed=0), partial(rlzoo.train_seeds, seeds=[0])]
)
def test_a_package_that_is_missing_is_named_before_anything_is_trained(
    start, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install wandb$"):
        start(
            "dyna_q", "rlzoo/DynaMaze-v0", steps=50, loggers=["wandb"], quiet=True,
            run_dir=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


# --- the adapters, where the packages are installed ---


@pytest.mark.slow
def test_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(tmp_path / "run", loggers=["wandb"])
    (file,) = (run.dir / "wandb").glob("offline-run-*/run-*.wandb")
    assert file.stat().st_size > 1000 and b"eval/return" in file.read_bytes()


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = train(tmp_path / "run", callbacks=[StopAt(200)], loggers=["mlflow"])
    rlzoo.resume(run.dir, loggers=["mlflow"], quiet=True)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("rlzoo").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params["agent"] == "dyna_q"
    history = client.get_metric_history(found.info.run_id, "eval/return")
    expected = [(step, value) for step, tag, value in rows(run.dir) if tag == "eval/return"]
    assert [(point.step, point.value) for point in history] == expected


@pytest.mark.slow
def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio is not installed")
    run = train(tmp_path / "run", loggers=["trackio"])
    assert run.summary["steps"] == 400
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    (name,) = storage.get_runs("rlzoo")
    found = {(row["step"], "eval/return", row["eval/return"])
             for row in storage.get_logs("rlzoo", name) if "eval/return" in row}  # fmt: skip
    assert found == {row for row in rows(run.dir) if row[1] == "eval/return"}
