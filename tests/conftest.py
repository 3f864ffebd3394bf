"""Defaults that make the tests quick and quiet, and short runs that many tests look at.

The tests must not change these runs.
"""

import atexit
import importlib.util
import os
import shutil
import tempfile

import pytest

# Set before TensorFlow is first imported.
for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "1",  # small networks lose more by handing over than they gain
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEODRIVER": "dummy",
}.items():
    os.environ.setdefault(_name, _value)

# One folder of compiled programs for all processes of a test run, which inherit the variable.
if "RLZOO_COMPILE_CACHE" not in os.environ:
    os.environ["RLZOO_COMPILE_CACHE"] = tempfile.mkdtemp(prefix="rlzoo-compiled-")
    atexit.register(shutil.rmtree, os.environ["RLZOO_COMPILE_CACHE"], ignore_errors=True)

# TF-Agents, where it is installed, needs Keras 2 as tf.keras. rlzoo itself imports keras only.
if importlib.util.find_spec("tf_agents") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

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
    import rlzoo

    folder = tmp_path_factory.mktemp("runs") / "run"
    return rlzoo.train(
        "dqn", "CartPole-v1", steps=600, seed=1, num_envs=2, preset=False, overrides=SHORT,
        run_dir=folder, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def mazes(tmp_path_factory):
    """A folder with two seeds of one configuration (a and b), and one of another (c)."""
    import rlzoo

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
    from tests.helpers import save_digits

    return save_digits(tmp_path_factory.mktemp("digits") / "digits.npz")


@pytest.fixture(scope="session")
def digits_run(digits, tmp_path_factory):
    """3 epochs of a conv torso on these, with seed 1."""
    import rlzoo

    folder = tmp_path_factory.mktemp("pretrained") / "run"
    return rlzoo.pretrain(
        "mnist", data=str(digits), seed=1, overrides=DIGITS, run_dir=folder, quiet=True
    )
