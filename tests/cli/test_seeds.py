"""`rlzoo train --seeds`: what it takes, and one real training that is stopped and goes on."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

import rlzoo
from rlzoo.cli import commands, main
from rlzoo.cli.parser import parse


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-4", [0, 1, 2, 3, 4]),
        ("0,3,7", [0, 3, 7]),
        ("0-2,5", [0, 1, 2, 5]),
        ("8", [8]),
        (" 1 - 2, 4 ", [1, 2, 4]),
    ],
)
def test_seeds(text, seeds):
    assert parse(["train", "dqn", "CartPole-v1", "--seeds", text]).seeds == seeds


@pytest.mark.parametrize("text", ["4-0", "0-", "0,,1", "a", "", "1.5", "0-1-2", "0-99999999999"])
def test_malformed_seeds_are_one_line(text, capfd):
    with pytest.raises(SystemExit) as left:
        main(["train", "dqn", "CartPole-v1", f"--seeds={text}"])
    err = capfd.readouterr().err
    assert left.value.code == 2 and err.count("\n") == 1
    assert f"expected seeds such as 0-4, 0,3,7 or 0-2,5 (at most 1,000), received {text!r}" in err


def test_seed_and_seeds_exclude_each_other(capfd):
    with pytest.raises(SystemExit) as left:
        main(["train", "dqn", "CartPole-v1", "--seed", "1", "--seeds", "0-1"])
    err = capfd.readouterr().err
    assert left.value.code == 2 and err.count("\n") == 1
    assert "--seeds: not allowed with argument --seed" in err


def test_bad_input_starts_nothing(tmp_path, capfd):
    run_dir = str(tmp_path / "d")
    line = ["train", "dqn", "CartPol-v1", "--seeds", "0-1", "--run-dir", run_dir]
    assert main(line) == 2
    assert "'CartPole-v1'" in capfd.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_result_for_people(monkeypatch, capfd):
    figures = {"iqm": 2.5, "low": 2.0, "high": 3.0}
    run = {"seed": 4, "mean_return": 500.0, "last_mean_return": 481.25}
    result = {"run_dir": "d", "seeds": [4], "best": figures, "last": figures, "runs": [run]}
    monkeypatch.setitem(commands.COMMANDS, "train", lambda args: result)
    assert main(["train", "dqn", "CartPole-v1", "--seeds", "4"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^ +4 +500\.00 +481\.25$", out, re.M)
    assert "best: interquartile mean 2.50, 95 % bootstrap interval 2.00 to 3.00\n" in out
    assert "tensorboard --logdir d\n" in out


@pytest.mark.slow
def test_two_seeds_are_stopped_and_go_on_exactly(tmp_path, capfd):
    folder = tmp_path / "seeds"
    settings = "--set planning_steps=2 --set eval_every=200 --set eval_episodes=1 --steps 1000000"
    line = f"train dyna_q rlzoo/DynaMaze-v0 {settings} --seeds 0-1 --run-dir {folder}"
    process = subprocess.Popen(
        [sys.executable, "-m", "rlzoo.cli", *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("s*/checkpoints/best-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("rlzoo: Interrupted with 0 of 2 seeds finished; everything is saved.")
    assert last.endswith(f"rlzoo resume {folder}")
    shown = re.findall(r"^s\d \| rlzoo: Interrupted at step ([\d,]+);", err, re.M)
    at = [int(step.replace(",", "")) for step in shown]
    assert len(at) == 2

    steps = max(at) + 100
    assert main(["resume", str(folder), "--steps", str(steps), "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    result = json.loads(out)
    assert result["seeds"] == [0, 1] and set(result["best"]) == {"iqm", "low", "high"}
    assert {"curve.png", "curve.csv", "summary.json", "s0", "s1"} == {
        path.name for path in folder.iterdir()
    }
    alone = rlzoo.train(config=folder / "s1", run_dir=tmp_path / "alone", quiet=True).summary
    for name in ("seed", "steps", "mean_return", "last_mean_return", "best_step"):
        assert result["runs"][1][name] == alone[name]
