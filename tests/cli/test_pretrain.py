"""The command line of the supervised mode: pretrain, predict, and what takes a pretraining run."""

import contextlib
import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from rlzoo.cli import main
from rlzoo.cli.parser import parse
from rlzoo.data import embedded_digits
from rlzoo.reports import log as logs
from rlzoo.tasks import TASKS
from tests.helpers import save_digits

QUICK = "--set batch_size=32 --set torso.size=8 --set torso.filters=[4,4] --epochs 1 --seed 4"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_digits(tmp_path_factory.mktemp("digits") / "digits.npz")


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A folder with a short run in its usual place, and what was printed."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main(["pretrain", "mnist", "--data", str(data), *QUICK.split()]) == 0
    return folder, out.getvalue()


@pytest.fixture
def run(pretrained, monkeypatch):
    """The run's folder, from the folder that holds it."""
    folder, _ = pretrained
    monkeypatch.chdir(folder)
    (path,) = folder.glob("runs/pretrain/mnist/*-s4")
    return str(path.relative_to(folder))


def error(line, capfd, code=2) -> str:
    """Runs a command that fails with one line on standard error; returns the line."""
    try:
        found = main(line if isinstance(line, list) else line.split())
    except SystemExit as left:
        found = left.code
    out, err = capfd.readouterr()
    assert found == code and out == "" and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("rlzoo: error: " if code == 2 else "rlzoo: ")
    return last


@pytest.mark.parametrize("command", ["pretrain", "predict"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and f"usage: rlzoo {command}" in shown and "--json" in shown


def test_every_flag():
    line = """pretrain mnist --torso conv --epochs 3 --seed 1 --data d --download --env e --set a=1
        --config c --run-dir r --json"""
    args = parse(line.split())
    assert (args.task, args.torso, args.epochs, args.seed) == ("mnist", "conv", 3, 1)
    assert (args.data, args.download, args.env, args.overrides) == ("d", True, "e", ["a=1"])
    assert (args.config, args.run_dir, args.json) == ("c", "r", True)
    assert parse("pretrain --seed 1 mnist".split()).task == "mnist"
    args = parse("train dqn X --torso-from r --unfreeze-after 5 --torso-lr-scale 0.1".split())
    assert (args.torso_from, args.unfreeze_after, args.torso_lr_scale) == ("r", 5, 0.1)
    assert parse("train dqn X --torso-from r --freeze".split()).freeze


def test_it_says_what_came_out_and_what_to_type(pretrained, run):
    _, shown = pretrained
    assert "test set, with the weights of epoch 1: accuracy 0." in shown
    assert f"rlzoo train AGENT ENV --torso-from {run}" in shown


def test_json_is_one_line(run, tmp_path, capfd):
    """Of a run that has ended, nothing is left but the test, which comes out as before."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = json.loads((folder / "summary.json").read_text())
    assert main(["resume", str(folder), "--epochs", "1", "--json"]) == 0
    out, _ = capfd.readouterr()
    assert out.count("\n") == 1
    summary = json.loads(out)
    assert summary == before | {"run_dir": str(folder)}
    assert {"task", "torso", "seed", "epochs", "seconds", "test_accuracy"} <= set(summary)
    assert summary == json.loads((folder / "summary.json").read_text())


def test_predict(run, tmp_path, capfd):
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    for file, image in zip(files, embedded_digits()[1].images, strict=False):
        Image.fromarray(255 - image).resize((70, 70)).save(file)
    assert main(["predict", run, *files, "--json"]) == 0
    out, _ = capfd.readouterr()
    found = json.loads(out)
    assert found["run_dir"] == run and out.count("\n") == 1
    assert [answer["file"] for answer in found["predictions"]] == files
    for answer in found["predictions"]:
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
    assert main(["predict", run, *files]) == 0
    for line, answer in zip(capfd.readouterr().out.splitlines(), found["predictions"], strict=True):
        expected = f"{answer['class']} ({100 * answer['probability']:.1f} %)"
        assert line == f"{answer['file']}: {expected}"


def test_predict_refuses(run, tmp_path, capfd):
    assert "expected a file, found nothing" in error(["predict", run, "nothing.png"], capfd)
    os.mkfifo(tmp_path / "pipe.png")
    assert "found a pipe or device" in error(["predict", run, str(tmp_path / "pipe.png")], capfd)
    for path in ("x" * 5_000, "ab/" * 2_000):
        assert "File name too long" in error(["predict", run, path], capfd)
        assert "is not the folder of a run" in error(["predict", path, "x.png"], capfd)
    (tmp_path / "text.png").write_text("text")
    line = error(["predict", run, str(tmp_path / "text.png"), "--json"], capfd)
    assert "cannot be read as a picture" in line
    assert "is not the folder of a run" in error(["predict", "no/run", "x.png"], capfd)
    assert "FILE" in error(["predict", run], capfd)


def test_what_is_for_agents_is_refused(run, capfd):
    assert "takes --epochs, not --steps" in error(["resume", run, "--steps", "5"], capfd)
    for line in (["evaluate", run], ["record", run], ["train", "--config", run]):
        assert "is of a pretraining run" in error(line, capfd)


def test_epochs_are_for_pretraining(tmp_path, capfd):
    (tmp_path / "config.yaml").write_text("agent: dqn\nenv: CartPole-v1\n")
    line = error(["resume", str(tmp_path), "--epochs", "3"], capfd)
    assert "--epochs is for pretraining runs; this one takes --steps" in line


def test_list_tasks(capfd):
    assert main(["list", "tasks", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert list(shown) == ["tasks"] and list(shown["tasks"]) == list(TASKS)
    assert all(about.endswith(".") or "(" in about for about in shown["tasks"].values())
    assert main(["list", "tasks"]) == 0
    assert "mnist" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "A task is missing. Known: "),
        ("minst", "unknown 'minst'. Did you mean 'mnist'"),
        ("mnist --torso covn", "unknown 'covn'. Did you mean 'conv'"),
        ("mnist --set epoch=3", "Unknown setting epoch. Did you mean 'epochs'"),
        ("mnist --epochs many", "expected a whole number, received 'many'"),
        ("mnist --data no/file.npz", "no/file.npz: expected a file"),
        ("mnist --data empty.npz", "empty.npz is empty"),
        ("mnist --data torn.npz", "torn.npz is damaged, or of another kind"),
        ("mnist --data nan.npz", "with NaN"),
        ("mnist --data .", "holds no train-images-idx3-ubyte"),
        ("predict --env Blackjack-v1", "FlattenObservation"),
        ("reconstruct", "needs an environment: --env"),
        ("--config no.yaml", "There is no file no.yaml"),
    ],
)
def test_bad_input_is_one_line(line, message, data, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.npz").touch()
    (tmp_path / "torn.npz").write_bytes(data.read_bytes()[:2_000])
    images, labels = np.full((1, 28, 28), np.nan), np.zeros(1, int)
    np.savez("nan.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    before = sorted(tmp_path.iterdir())
    assert message in error(f"pretrain {line}", capfd)
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_ends_with_130(data, tmp_path, monkeypatch, capfd):
    progress = logs.RunLog.progress

    def show(self, step, *fields):
        progress(self, step, *fields)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(logs.RunLog, "progress", show)
    run_dir = tmp_path / "run"
    line = f"pretrain mnist --data {data} {QUICK} --run-dir {run_dir} --json"
    shown = error(line, capfd, code=130)
    assert "Interrupted in epoch 1; saved up to epoch 0. " in shown
    assert shown.endswith(f"rlzoo resume {run_dir}")
    assert not (run_dir / "run.lock").exists() and (run_dir / "config.yaml").exists()
