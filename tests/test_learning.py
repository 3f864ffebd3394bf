"""Agents learn. One seed each, to the figure that users are promised; the rest is in docs/results.

The seeds are fixed and training is deterministic on a given machine, so these do not flicker.
"""

import json
import subprocess
from pathlib import Path

import pytest

import rlzoo

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def best_return(tmp_path, agent, env, **arguments) -> float:
    run = rlzoo.train(agent, env, run_dir=tmp_path / "run", quiet=True, **arguments)
    return run.summary["mean_return"]


def test_scripts_train_is_the_promise_of_the_readme(tmp_path):
    done = subprocess.run(
        [ROOT / "scripts/train", "dqn", "CartPole-v1", "--json", "--run-dir", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=800,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["mean_return"] >= 475


def test_dqn_with_softmax_solves_cartpole(tmp_path):
    assert best_return(tmp_path, "dqn", "CartPole-v1", exploration="softmax") >= 475


def test_reinforce_solves_cartpole(tmp_path):
    assert best_return(tmp_path, "reinforce", "CartPole-v1", steps=100_000) >= 450


def test_deep_dyna_q_learns_cartpole(tmp_path):
    assert best_return(tmp_path, "dyna_q", "CartPole-v1") >= 400


def test_dyna_q_finds_the_shortest_path(tmp_path):
    assert best_return(tmp_path, "dyna_q", "rlzoo/DynaMaze-v0") == 1.0
    run = rlzoo.evaluate(tmp_path / "run", episodes=1)
    assert run.lengths == [14]


@pytest.mark.parametrize(("env", "threshold"), [("FrozenLake-v1", 0.7), ("CliffWalking-v1", -13)])
def test_q_learning_solves(env, threshold, tmp_path):
    assert best_return(tmp_path, "dyna_q", env) >= threshold


def test_dqn_solves_mountain_car(tmp_path):
    assert best_return(tmp_path, "dqn", "MountainCar-v0") >= -110


@pytest.mark.parametrize("agent", ["dqn", "reinforce"])
def test_memory_needs_a_recurrent_torso(agent, tmp_path):
    lstm = best_return(tmp_path / "lstm", agent, "rlzoo/Memory-v0", steps=30_000)
    dense = best_return(tmp_path / "dense", agent, "rlzoo/Memory-v0", steps=30_000, torso="dense")
    assert lstm >= 0.9
    assert dense <= 0.6  # chance is 0, plus the luck of 20 episodes


def test_a_long_memory_is_learned(tmp_path):
    """Of two numbers 200 steps apart at most, and of a symbol 50 steps back."""
    lstm = rlzoo.pretrain("adding", run_dir=tmp_path / "lstm", quiet=True)
    rnn = rlzoo.pretrain("adding", torso="rnn", run_dir=tmp_path / "rnn", quiet=True)
    recall = rlzoo.pretrain("recall", run_dir=tmp_path / "recall", quiet=True)
    assert lstm.summary["test_loss"] < 0.01
    assert rnn.summary["test_loss"] > 0.1
    assert recall.summary["test_accuracy"] >= 0.99
