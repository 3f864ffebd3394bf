"""Short runs that many tests look at. They must not change them."""

import pytest

import rlzoo
from tests.helpers import save_digits

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
DIGITS = {"batch_size": 16, "torso.filters": [4, 4], "torso.size": 8, "epochs": 3}  # augmented


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """600 steps of DQN on two CartPoles, with seed 1."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return rlzoo.train(
        "dqn", "CartPole-v1", steps=600, seed=1, num_envs=2, preset=False, overrides=SHORT,
        run_dir=folder, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def mazes(tmp_path_factory):
    """A folder with two seeds of one configuration (a and b), and one of another (c)."""
    folder = tmp_path_factory.mktemp("mazes")
    for name, seed, more in (("a", 0, {}), ("b", 1, {}), ("c", 0, {"learning_rate": 0.25})):
        rlzoo.train(
            "dyna_q", "rlzoo/DynaMaze-v0", steps=200, seed=seed, preset=False, loop="host",
            run_dir=folder / name, quiet=True,
            overrides={"eval_every": 50, "eval_episodes": 1, "log_every": 25, **more},
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A file with 12 training and 4 test images of each digit."""
    return save_digits(tmp_path_factory.mktemp("digits") / "digits.npz")


@pytest.fixture(scope="session")
def digits_run(digits, tmp_path_factory):
    """3 epochs of a conv torso on these, with seed 1."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    return rlzoo.pretrain(
        "mnist", data=str(digits), seed=1, overrides=DIGITS, run_dir=folder, quiet=True
    )
