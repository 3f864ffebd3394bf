"""Folders that cannot be those of a run."""

import os
from pathlib import Path

import pytest

from rlzoo.cli import main
from rlzoo.storage import files


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "run"


def dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def taken(folder: Path, name: str, make) -> Path:
    (folder / "run").mkdir()
    make(folder / "run" / name)
    return folder / "run"


CASES = {
    "a file": lambda folder: below_a_file(folder).parent,
    "below a file": below_a_file,
    "too long": lambda folder: folder / ("x" * 5_000),
    "too long in all": lambda folder: folder.joinpath(*["x" * 200] * 30),
    "a dangling link": dangling,
    "not writable": lambda folder: Path("/proc/run"),
    "a lock that is a pipe": lambda folder: taken(folder, "run.lock", os.mkfifo),
    "a lock that is a folder": lambda folder: taken(folder, "run.lock", os.mkdir),
    "a table that is a pipe": lambda folder: taken(folder, "metrics.csv", os.mkfifo),
    "a table that is a folder": lambda folder: taken(folder, "metrics.csv", os.mkdir),
    "a summary that is a folder": lambda folder: taken(folder, "summary.json", os.mkdir),
    "checkpoints in a file": lambda folder: taken(folder, "checkpoints", Path.touch),
}


@pytest.mark.parametrize("name", CASES)
def test_no_folder_of_a_run(name, tmp_path):
    path = CASES[name](tmp_path)
    with pytest.raises(ValueError, match=r"another --run-dir\.") as caught, files.lock(path):
        pass
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("given", ["", " ", "a\0b", None, 3, b"run"])
def test_no_path_at_all(given):
    with pytest.raises(ValueError, match="run_dir: expected the path of a folder, received"):
        files.run_path(given)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.run_path("~/runs/a") == tmp_path / "runs" / "a"
    assert files.run_path(Path("~")) == tmp_path
    assert files.run_path("a~") == Path("a~")
    with pytest.raises(ValueError, match="nobody"):
        files.run_path("~nobody-of-this-name/a")


@pytest.mark.parametrize("name", ["a file", "a table that is a pipe"])
def test_the_command_line_says_so(name, tmp_path, capfd):
    path = CASES[name](tmp_path)
    arguments = ["train", "dyna_q", "rlzoo/DynaMaze-v0", "--steps", "9", "--run-dir", str(path)]
    assert main(arguments) == 2
    err = capfd.readouterr().err
    assert err.splitlines()[-1].startswith("rlzoo: error: ") and "Traceback" not in err


def test_printed_commands_can_be_pasted(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "o'brien $HOME;x"
    line = "train dyna_q rlzoo/DynaMaze-v0 --steps 40 --no-preset --set eval_episodes=1"
    line += " --set env.max_episode_steps=30"
    assert main([*line.split(), "--run-dir", name]) == 0
    assert """rlzoo evaluate 'o'"'"'brien $HOME;x'""" in capfd.readouterr().out
    assert main([*line.split(), "--run-dir", name]) == 2
    assert """rlzoo resume 'o'"'"'brien $HOME;x'""" in capfd.readouterr().err
