"""N steps = k steps + kill -9 + resume + the rest, bit for bit."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rlzoo
from rlzoo.storage import checkpoint
from tests.runs.killed_runs import CASES, Case, final_arrays, note

ROOT = Path(__file__).parents[2]
FAST = (
    "dqn",
    "reinforce with memory",
    "dyna_q over a table",
    "dyna_q with networks",
    "dyna_q over a table, graph",
)
SLOW = tuple(name for name in CASES if name not in FAST)


@contextlib.contextmanager
def parked(folder: Path, names):
    """Yields a process in which these cases run, each stuck amid an episode."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runs.killed_runs", folder, *names],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def wait():
        while not note(folder, "all").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        return process

    try:
        yield wait
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def killed_and_whole(folder: Path, names) -> dict[str, tuple[Path, Path]]:
    """Returns, of each case, the folder of a run killed on its way and of one never stopped."""
    folders = {name: (folder / name, folder / f"whole {name}") for name in names}
    with parked(folder, names) as wait:
        for name in names:  # while the others run on the other core
            CASES[name].train(folders[name][1], vector="sync")
        process = wait()
        check_that_the_folder_is_taken(folders[names[0]][0], CASES[names[0]], process.pid)
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    return folders


def check_that_the_folder_is_taken(run_dir: Path, case: Case, pid: int) -> None:
    before = sorted((run_dir / "checkpoints").iterdir())
    started = time.monotonic()
    for second in (rlzoo.train, rlzoo.resume):
        arguments = {"run_dir": run_dir, "quiet": True, **case.arguments()}
        with pytest.raises(ValueError, match=rf"is in use by process {pid} on .*stop it"):
            second(*([case.agent] if second is rlzoo.train else []), **arguments)
    assert time.monotonic() - started < 2
    assert sorted((run_dir / "checkpoints").iterdir()) == before


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return killed_and_whole(tmp_path_factory.mktemp("killed"), FAST)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return killed_and_whole(tmp_path_factory.mktemp("killed"), SLOW)


@pytest.mark.parametrize("name", FAST)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name, fast):
    check_resume(name, *fast[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_killed_runs(name, slow):
    check_resume(name, *slow[name])


def check_resume(name: str, killed: Path, whole: Path) -> None:
    case = CASES[name]
    saved = checkpoint.load(killed / "checkpoints")[1]["loop"]["step"]
    assert saved <= 0.8 * case.steps, "killed too late to show anything"
    assert saved > 0 or case.settings.get("checkpoint_every") == 0
    assert not (killed / "summary.json").exists()

    resumed = rlzoo.resume(killed, quiet=True, **case.arguments())

    assert resumed.summary["steps"] >= case.steps
    check_same(killed, whole)
    kinds = {name.split("/")[0] for name in final_arrays(killed)}
    assert {"state", "actor"} <= kinds
    assert ("loop" in kinds) == (case.loop == "host")


def check_same(run_dir: Path, other: Path) -> None:
    """Checks that two runs have ended in the same state, having shown the same."""
    for best in (False, True):
        found, expected = (
            checkpoint.load(path / "checkpoints", best=best) for path in (run_dir, other)
        )
        assert found[0].keys() == expected[0].keys()
        for name, array in expected[0].items():
            assert found[0][name].dtype == array.dtype
            assert found[0][name].tobytes() == array.tobytes(), name
        for result in (found, expected):
            result[1]["loop"].pop("seconds")
        assert found[1]["loop"] == expected[1]["loop"]
    results = [json.loads((path / "summary.json").read_text()) for path in (run_dir, other)]
    for key in ("steps", "mean_return", "std_return", "last_mean_return", "best_step"):
        assert results[0][key] == results[1][key]
    assert metrics(run_dir) == metrics(other)


def metrics(run_dir: Path) -> list[tuple[str, str, str]]:
    with open(run_dir / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(r["step"], r["tag"], r["value"]) for r in rows if not r["tag"].startswith("time/")]


def test_training_on_is_training_longer(tmp_path):
    case = CASES["dyna_q over a table"]
    run = case.train(tmp_path / "parts", steps=73)
    run.train(30, quiet=True).train(case.steps - 103, quiet=True)
    case.train(tmp_path / "whole")
    assert run.summary["steps"] == run.config.steps == case.steps
    found, expected = (final_arrays(tmp_path / name) for name in ("parts", "whole"))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name
