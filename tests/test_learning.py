"""Agents learn, to the figure that users are promised; every seed of it is in docs/results.

Training magnifies what processors round differently, so that no seed ends alike on all of them:
what is asked is that two of three seeds reach a figure which most of them exceed, and which an
agent that does not learn is far from. The third is trained only if the others disagree.
"""

import json
import subprocess
from pathlib import Path

import pytest

import rlzoo

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def two_of_three(reaches) -> bool:
    """Tells whether `reaches(seed)` holds for two of the seeds 0, 1 and 2."""
    held = [reaches(seed) for seed in (0, 1)]
    return held[0] if held[0] == held[1] else reaches(2)


def learns(tmp_path, agent, env, bound, **arguments) -> bool:
    """Tells whether two of three seeds have a best mean return of `bound` or more."""

    def reaches(seed):
        folder = tmp_path / str(seed)
        run = rlzoo.train(agent, env, seed=seed, run_dir=folder, quiet=True, **arguments)
        return run.summary["mean_return"] >= bound

    return two_of_three(reaches)


def test_scripts_train_is_the_promise_of_the_readme(tmp_path):
    def reaches(seed):
        command = ["dqn", "CartPole-v1", "--json", "--seed", str(seed)]
        done = subprocess.run(
            [ROOT / "scripts/train", *command, "--run-dir", tmp_path / str(seed)],
            capture_output=True,
            text=True,
            timeout=400,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])["mean_return"] >= 475

    assert two_of_three(reaches)


def test_dqn_with_softmax_solves_cartpole(tmp_path):
    assert learns(tmp_path, "dqn", "CartPole-v1", 475, exploration="softmax")


def test_reinforce_solves_cartpole(tmp_path):
    assert learns(tmp_path, "reinforce", "CartPole-v1", 450, steps=100_000)


def test_deep_dyna_q_learns_cartpole(tmp_path):
    assert learns(tmp_path, "dyna_q", "CartPole-v1", 400)


def test_dqn_solves_mountain_car(tmp_path):
    assert learns(tmp_path, "dqn", "MountainCar-v0", -110)


def test_dyna_q_finds_the_shortest_path(tmp_path):
    def reaches(seed):
        rlzoo.train(
            "dyna_q", "rlzoo/DynaMaze-v0", seed=seed, run_dir=tmp_path / str(seed), quiet=True
        )
        return rlzoo.evaluate(tmp_path / str(seed), episodes=1).lengths == [14]

    assert two_of_three(reaches)


def test_q_learning_crosses_the_cliff(tmp_path):
    assert learns(tmp_path, "dyna_q", "CliffWalking-v1", -13)


def test_q_learning_crosses_slippery_ice(tmp_path):
    """The best policy arrives in 74 of 100 episodes, one that acts at random in 1."""

    def reaches(seed):
        rlzoo.train("dyna_q", "FrozenLake-v1", seed=seed, run_dir=tmp_path / str(seed), quiet=True)
        return rlzoo.evaluate(tmp_path / str(seed), episodes=200).mean_return >= 0.6

    assert two_of_three(reaches)


@pytest.mark.parametrize("agent", ["dqn", "reinforce"])
def test_memory_needs_a_recurrent_torso(agent, tmp_path):
    memory = "rlzoo/Memory-v0"
    assert learns(tmp_path / "lstm", agent, memory, 0.9, steps=30_000, torso="lstm")
    # Chance is 0, plus the luck of 20 episodes: once in 800 it is more than 0.6.
    assert not learns(tmp_path / "dense", agent, memory, 0.7, steps=15_000, torso="dense")


def test_a_long_memory_is_learned(tmp_path):
    """Of two numbers 200 steps apart at most, and of a symbol 50 steps back.

    One seed each: three end at 0.0003 or less, above 0.16, and at 1 (docs/results/sequences.md).
    """
    lstm = rlzoo.pretrain("adding", run_dir=tmp_path / "lstm", quiet=True)
    rnn = rlzoo.pretrain("adding", torso="rnn", run_dir=tmp_path / "rnn", quiet=True)
    recall = rlzoo.pretrain("recall", run_dir=tmp_path / "recall", quiet=True)
    assert lstm.summary["test_loss"] < 0.01
    assert rnn.summary["test_loss"] > 0.1
    assert recall.summary["test_accuracy"] >= 0.99
