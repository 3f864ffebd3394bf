"""A short run that many tests look at. They must not change it."""

import pytest

import rlzoo

SHORT = {
    "learning_starts": 64,
    "batch_size": 16,
    "replay_capacity": 300,
    "torso.sizes": [16],
    "exploration.epsilon": {"name": "linear", "start": 1.0, "end": 0.1, "steps": 500},
    "eval_every": 200,
    "eval_episodes": 4,
    "checkpoint_every": 100,
    "log_every": 50,
}


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """600 steps of DQN on two CartPoles, with seed 1."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return rlzoo.train(
        "dqn", "CartPole-v1", steps=600, seed=1, num_envs=2, preset=False, overrides=SHORT,
        run_dir=folder, quiet=True,
    )  # fmt: skip
