"""What a user installs: a wheel that holds everything, and types that an editor finds."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rlzoo

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("rlzoo", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def test_the_version_is_that_of_the_distribution():
    assert rlzoo.__version__ == importlib.metadata.version("rlzoo-tf")
    assert "__version__" in dir(rlzoo)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: nothing is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, timeout=200)
    (found,) = folder.glob("rlzoo_tf-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel, unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.slow
def test_a_wheel_holds_the_whole_package_and_nothing_else(installed):
    def files(folder):
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        return {name for name in found if name.endswith((".py", ".yaml", "py.typed"))}

    assert {name for name in files(installed)} == {
        f"rlzoo/{name}" for name in files(ROOT / "rlzoo")
    }
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"rlzoo", "rlzoo_tf"}
    about = next(installed.glob("*.dist-info"))
    assert (about / "licenses" / "LICENSE").is_file()
    assert "rlzoo = rlzoo.cli:main" in (about / "entry_points.txt").read_text()


@pytest.mark.slow
def test_a_wheel_trains_outside_of_the_checkout(installed, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(installed), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=250, check=True,
        )  # fmt: skip
        return done.stdout

    where = run("-c", "import rlzoo; print(rlzoo.__file__, rlzoo.__version__)")
    assert where.split() == [str(installed / "rlzoo/__init__.py"), rlzoo.__version__]
    assert "Presets: " in run("-m", "rlzoo.cli", "list")
    small = ["--set", "torso.sizes=[8]", "--set", "eval_episodes=1", "--loop", "host"]
    train = ["train", "dqn", "CartPole-v1", "--steps", "300", "--run-dir", "run", "--json", *small]
    assert json.loads(run("-m", "rlzoo.cli", *train))["steps"] >= 300


SCRIPT = """\
import rlzoo
from rlzoo.exploration import Softmax

run = rlzoo.train("dqn", "CartPole-v1", steps=100, exploration=Softmax(temperature=0.5))
reveal_type(run)
reveal_type(run.dir)
reveal_type(run.summary)
reveal_type(rlzoo.load(run.dir))
reveal_type(rlzoo.__version__)
rlzoo.train("dqn", "CartPole-v1", steps="many")
"""


@pytest.mark.slow
def test_an_editor_finds_rlzoo_and_its_types(tmp_path):
    """In the environment of this Python: an editable install by an import hook would hide it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)["generalDiagnostics"]
    types = [x["message"].split(" is ")[1] for x in said if x["severity"] == "information"]
    assert types == ['"Run"', '"Path"', '"dict[str, Any]"', '"Policy"', '"str"'], said
    (error,) = (x["message"] for x in said if x["severity"] == "error")
    assert "\"Literal['many']\"" in error and '"int | None"' in error
