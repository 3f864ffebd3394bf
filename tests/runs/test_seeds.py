"""Several seeds: the arithmetic by hand, and the processes with a stand-in that trains nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import keras
import numpy as np
import pytest

import rlzoo
from rlzoo.exploration import Exploration, Softmax
from rlzoo.reports import aggregate
from rlzoo.runs import seeds
from rlzoo.storage import checkpoint, files

ROOT = Path(__file__).parents[2]

MAZE = ("dyna_q", "rlzoo/DynaMaze-v0")

# What stands in for `python -m rlzoo.cli` in a child: `resume FOLDER [options]`.
STAND_IN = """
import json, os, pathlib, sys, time
folder, options = pathlib.Path(sys.argv[2]), sys.argv[3:]
top = folder.parent
print("Compiling ...", file=sys.stderr, flush=True)
environment = {k: v for k, v in os.environ.items() if k.startswith("TF_")}
note = {"began": time.time(), "options": options, "environment": environment}
ailment = top / f"{folder.name}.ailment"
if ailment.exists():
    exec(ailment.read_text())
time.sleep(0.1)
steps = int((folder / "config.yaml").read_text().split("steps: ")[1].split()[0])
seed = int(folder.name[1:])
(folder / "metrics.csv").write_text(f"step,wall_time,tag,value\\n{steps},0,eval/return,{seed}\\n")
(folder / "summary.json").write_text(json.dumps({
    "run_dir": str(folder), "agent": "dyna_q", "env": "maze", "seed": seed, "steps": steps,
    "mean_return": 2.0 * seed, "last_mean_return": float(seed), "versions": {},
}))
(folder / "note.json").write_text(json.dumps({**note, "ended": time.time()}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for runs, in which children train nothing."""
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setattr(seeds, "_RLZOO", [sys.executable, str(program)])
    monkeypatch.setattr(seeds, "_cores", lambda: 2)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def notes(folder):
    return {p.parent.name: json.loads(p.read_text()) for p in folder.glob("s*/note.json")}


# The arithmetic.


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([7], 7),
        ([0, 3], 1.5),
        ([5, 0, 1], 2),
        ([100, 1, 2, -50], 1.5),  # the middle two
        ([100, 1, 2, 3, -50], 2),  # one off at each side
        ([9, 9, 9, 1, 2, 3, 4, -9, -9, -9], 10 / 6),  # two off at each side
    ],
)
def test_interquartile_mean(values, mean):
    assert aggregate.interquartile_mean(values) == pytest.approx(mean)
    rows = aggregate.interquartile_mean([values, np.add(values, 10)])
    np.testing.assert_allclose(rows, [mean, mean + 10])


def test_bootstrap_interval():
    assert aggregate.bootstrap_interval([4.0, 4.0, 4.0]) == (4, 4)
    # Two values: a draw's mean is 0, 1/2 or 1, with probabilities 1/4, 1/2 and 1/4.
    assert aggregate.bootstrap_interval([0.0, 1.0]) == (0, 1)
    # Of 0 and 99 ones 100 times: 0 comes once at most among the middle 50 of a draw, never in 95 %.
    assert aggregate.bootstrap_interval([0.0, *[1.0] * 99]) == (1, 1)
    values = [1.0, 5.0, 2.0, 8.0, 3.0]
    assert aggregate.bootstrap_interval(values) == aggregate.bootstrap_interval(values)


def finished_run(folder, points, mean=1.0, last=0.0):
    folder.mkdir()
    rows = [f"{step},0,eval/return,{value}\n" for step, value in points]
    (folder / "metrics.csv").write_text("step,wall_time,tag,value\n" + "".join(rows))
    summary = {"agent": "dqn", "env": "E", "seed": 0, "steps": 30, "versions": {}}
    summary |= {"mean_return": mean, "last_mean_return": last}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_curves_meet_at_the_steps_of_the_first(tmp_path):
    runs = [
        finished_run(tmp_path / "a", [(10, 0), (20, 4), (30, 8)]),
        finished_run(tmp_path / "b", [(12, 6), (22, 16), (32, 6)]),
    ]
    steps, returns = aggregate.evaluation_curves(runs)
    assert steps.tolist() == [10, 20, 30]
    assert returns.tolist() == [[0, 6], [4, 14], [8, 8]]  # before b's first: as at its first


def test_the_aggregate_of_four_seeds(tmp_path):
    runs = {
        seed: finished_run(tmp_path / f"s{seed}", [(10, seed), (30, seed**2)], seed, None)
        for seed in range(4)
    }
    summary = aggregate.write(tmp_path, runs)
    with open(tmp_path / "curve.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "iqm", "low", "high", "s0", "s1", "s2", "s3"]
    assert [row[0] for row in rows] == ["10", "30"]
    assert [float(row[1]) for row in rows] == [1.5, 2.5]  # of 1 and 2, of 1 and 4
    for row in np.array(rows, float):
        assert row[4] <= row[2] < row[1] < row[3] <= row[7]
    assert summary["best"]["iqm"] == 1.5 and 0 <= summary["best"]["low"] < 1.5
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["best"] == summary["best"] and len(saved["runs"]) == 4
    assert saved["last"] == {"iqm": None, "low": None, "high": None}  # NaN
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


# The processes.


def test_seeds_share_the_cores(folder, capfd):
    summary = rlzoo.train_seeds(*MAZE, seeds=[3, 0, 1, 10, 1], steps=50, run_dir=folder / "d")
    assert summary["seeds"] == [0, 1, 3, 10] and summary["best"]["iqm"] == 4  # of 0, 2, 6, 20
    assert [run["last_mean_return"] for run in summary["runs"]] == [0, 1, 3, 10]
    spans = [(note["began"], note["ended"]) for note in notes(folder / "d").values()]
    assert max(sum(a <= began < b for a, b in spans) for began, _ in spans) == 2
    for note in notes(folder / "d").values():
        assert note["environment"]["TF_NUM_INTRAOP_THREADS"] == "1"
        assert note["environment"]["TF_NUM_INTEROP_THREADS"] == "1"
    shown = [line for line in capfd.readouterr().err.splitlines() if " | " in line]
    assert sorted(shown) == sorted(
        f"s{seed} | {text}" for seed in (0, 1, 3, 10) for text in ("Compiling ...", "Finished.")
    )


def test_a_seed_alone_has_all_cores_and_the_usual_place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    summary = rlzoo.train_seeds(*MAZE, seeds=[7], steps=50, exploration=Softmax(), quiet=True)
    assert summary["run_dir"].startswith("runs/rlzoo_DynaMaze-v0/dyna_q/2")
    assert summary["run_dir"].endswith("-seeds")
    note = notes(folder / summary["run_dir"])["s7"]
    assert "TF_NUM_INTRAOP_THREADS" not in note["environment"]
    assert note["options"] == ["--env", MAZE[1], "--quiet"]


def test_a_failing_seed_stops_no_other_and_is_tried_again(folder, capfd):
    (folder / "s1.ailment").write_text(
        "print('Traceback ...\\nrlzoo: failed: no luck', file=sys.stderr); sys.exit(1)"
    )
    (folder / "s2.ailment").write_text("os.kill(os.getpid(), 9)")
    with pytest.raises(rlzoo.SeedsFailed) as failure:
        rlzoo.train_seeds(*MAZE, seeds=range(4), steps=50, run_dir=folder)
    assert failure.value.exit_code == 1
    assert str(failure.value).startswith(
        "2 of 4 seeds failed: s1: failed: no luck; s2: killed by SIGKILL"
    )
    assert str(failure.value).endswith(f"rlzoo resume {folder}")
    assert "s1 | Traceback ...\n" in capfd.readouterr().err
    assert json.loads((folder / "summary.json").read_text())["seeds"] == [0, 3]

    before = notes(folder)
    for ailment in folder.glob("*.ailment"):
        ailment.unlink()
    assert rlzoo.resume_seeds(folder, quiet=True)["seeds"] == [0, 1, 2, 3]
    assert {name: notes(folder)[name] for name in before} == before  # those were finished
    assert rlzoo.resume_seeds(folder, steps=60)["steps"] == 60  # now all go on
    assert notes(folder)["s0"] != before["s0"]
    capfd.readouterr()
    assert rlzoo.resume_seeds(folder)["steps"] == 60
    assert capfd.readouterr().err.startswith("Every seed is finished. ")


def test_no_seed_finishes(folder):
    (folder / "s5.ailment").write_text("sys.exit(3)")
    with pytest.raises(rlzoo.SeedsFailed, match="1 of 1 seeds failed: s5: exit code 3"):
        rlzoo.train_seeds(*MAZE, seeds=[5], steps=50, run_dir=folder)


SLOW = """
import signal
def stop(number, frame):
    time.sleep(0.3)  # saving
    (folder / f"saved-{number}").touch()
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
(folder / "training").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_child_and_resume_goes_on(folder, number):
    for seed in (1, 2, 3):
        (folder / f"s{seed}.ailment").write_text(SLOW)

    def send():
        while len(list(folder.glob("s*/training"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(rlzoo.Interrupted) as stopped:
        rlzoo.train_seeds(*MAZE, seeds=range(5), steps=50, run_dir=folder, quiet=True)
    sender.join()
    assert stopped.value.exit_code == 128 + number
    assert "with 1 of 5 seeds finished" in str(stopped.value)
    assert str(stopped.value).endswith(f"rlzoo resume {folder}")
    saved = sorted(path.parent.name for path in folder.glob(f"s*/saved-{number:d}"))
    assert saved == ["s1", "s2"]  # the others never began
    for ailment in folder.glob("*.ailment"):
        ailment.unlink()
    assert rlzoo.resume_seeds(folder, quiet=True)["seeds"] == [0, 1, 2, 3, 4]


TRAINER = """
import sys, rlzoo
rlzoo.train_seeds("dqn", "CartPole-v1", seeds=[0, 1], steps=10**7, loop="host", preset=False,
    run_dir=sys.argv[1], quiet=True, overrides={"torso.sizes": [8], "checkpoint_every": 0,
    "eval_every": 0, "eval_episodes": 1})
"""


@pytest.mark.slow
def test_children_save_and_end_when_their_parent_is_killed(tmp_path):
    import psutil

    parent = subprocess.Popen([sys.executable, "-c", TRAINER, tmp_path], cwd=ROOT)
    saved = [tmp_path / f"s{seed}" / "checkpoints" for seed in (0, 1)]
    deadline = time.monotonic() + 120
    while not all(map(checkpoint.checkpoints, saved)):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]
    for folder in saved:
        assert checkpoint.step_of(checkpoint.checkpoints(folder)[0]) > 0
        with files.lock(folder.parent):  # nobody holds it
            pass


# What is refused, before anything starts.


def cartpole():
    return gymnasium.make("CartPole-v1")


class Own(keras.layers.Dense):
    pass


TRAINED = keras.layers.Dense(4)
TRAINED.build((None, 4))


class Mine(Exploration):
    def log_probs(self, scores, state, step):
        return scores


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, "expected at least one"),
        ({"seeds": [0, -1]}, "seed: expected 0 to"),
        ({"overrides": {"seed": 3}}, "received both"),
        ({"env": cartpole, "agent": "dqn"}, "env: .*cartpole is an object of this process"),
        ({"torso": Own(4), "env": "CartPole-v1"}, "torso.name: .*Own is an object"),
        ({"torso": TRAINED, "env": "CartPole-v1"}, "its weights are in this process"),
        ({"exploration": Mine()}, "exploration.name: .*Mine is an object of this process"),
        ({"agent": "dyna_q", "env": "CartPole-v1", "torso": "lstm"}, "recurrent torso"),
        ({"steps": 0}, "steps: expected 1 to"),
    ],
)
def test_what_would_fail_for_all_is_refused(arguments, message, folder):
    given = {"agent": MAZE[0], "env": MAZE[1], "seeds": [0, 1], **arguments}
    with pytest.raises(ValueError, match=message):
        rlzoo.train_seeds(run_dir=folder / "d", **given)
    assert not (folder / "d").exists()


def test_a_folder_with_runs_is_left_alone(folder):
    rlzoo.train_seeds(*MAZE, seeds=[0], steps=50, run_dir=folder, quiet=True)
    with pytest.raises(ValueError, match=f"rlzoo resume {folder}"):
        rlzoo.train_seeds(*MAZE, seeds=[0], steps=50, run_dir=folder, quiet=True)
    with pytest.raises(ValueError, match="holds no seeds"):
        rlzoo.resume_seeds(folder / "s0")
