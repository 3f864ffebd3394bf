"""Callbacks, loggers and wrappers of the user's own, named on the command line."""

import json

import pytest

from rlzoo.cli import main
from rlzoo.cli.commands import show

MODULE = """
import gymnasium

class Early:
    def on_step(self, step, metrics, episodes):
        return step >= 60

class Rows:
    def start(self, run_dir, settings):
        self.path = run_dir / "rows.txt"

    def scalars(self, step, values):
        with open(self.path, "a") as file:
            file.writelines(f"{step} {tag}\\n" for tag in values)

    def close(self):
        pass

class Tenth(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward / 10
"""
HOOKS = ["--callback", "my_hooks:Early", "--logger", "my_hooks:Rows", "--wrapper", "my_hooks:Tenth"]
TRAIN = [
    "train", "dyna_q", "rlzoo/DynaMaze-v0", "--steps", "100", "--loop", "host", "--json",
    "--set", "eval_every=50", "--set", "eval_episodes=1", "--set", "log_every=20",
]  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_hooks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)  # the current folder is searched
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.slow
def test_a_run_takes_hooks_by_name_and_resume_wants_them_again(module, tmp_path, capfd):
    assert main([*TRAIN, "--run-dir", "run", *HOOKS]) == 0
    summary = json.loads(capfd.readouterr().out)
    show("train", summary)  # without --json
    assert "rlzoo evaluate run --wrapper my_hooks:Tenth\n" in capfd.readouterr().out
    assert summary["steps"] == 60 and summary["stopped_by"] == "Early"
    assert "20 exploration/entropy" in (tmp_path / "run/rows.txt").read_text().splitlines()
    assert main(["resume", "run", "--json"]) == 2
    refused = capfd.readouterr().err
    assert "give all wrappers yourself as well: --wrapper my_hooks:Tenth, or" in refused
    assert main(["resume", "run", "--json", "--wrapper", "my_hooks:Tenth"]) == 0
    assert json.loads(capfd.readouterr().out)["steps"] == 100
    assert main(["evaluate", "run", "--wrapper", "my_hooks:Tenth", "--episodes", "1"]) == 0


@pytest.mark.slow
def test_seeds_take_hooks_by_name(module, tmp_path, capfd):
    assert main([*TRAIN, "--seeds", "0,1", "--run-dir", "both", *HOOKS]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert [run["steps"] for run in summary["runs"]] == [60, 60]
    for seed in "01":
        assert "60 eval/return" in (tmp_path / f"both/s{seed}/rows.txt").read_text()


def test_pretraining_runs_take_none(digits_free, capfd):
    assert main(["resume", digits_free, "--until-return", "3"]) == 2
    assert "takes --epochs, not --until-return" in capfd.readouterr().err


@pytest.fixture
def digits_free(tmp_path):
    (tmp_path / "config.yaml").write_text("task: mnist\n")
    return str(tmp_path)
