"""Pretraining: what a run leaves behind, exact repetition and resume, what goes wrong."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import rlzoo
from rlzoo import networks
from rlzoo.config.choices import make_torso
from rlzoo.data import embedded_digits
from rlzoo.pretraining import session
from rlzoo.pretraining.model import build_model, named_arrays
from rlzoo.pretraining.run import load_config, resolve
from rlzoo.reports import log as logs
from rlzoo.storage import checkpoint
from rlzoo.tasks import TASKS
from tests.conftest import DIGITS
from tests.runs.test_going_on import damage, scalars
from tests.runs.test_resume import metrics

ROOT = Path(__file__).parents[2]
WILD = {"torso.sizes": [8], "learning_rate": 0.5, "epochs": 60, "patience": 2, "steps": 40}


def digit_run(digits, run_dir, **changes):
    settings = {"data": str(digits), "seed": 1, "overrides": DIGITS, "quiet": True, **changes}
    return rlzoo.pretrain("mnist", run_dir=run_dir, **settings)


def saved(run_dir: Path, best: bool = False):
    """Returns the arrays of a run's newest or best checkpoint, and what it says of itself."""
    arrays, meta, _ = checkpoint.load(run_dir / "checkpoints", best=best)
    return arrays, meta


def check_same(run_dir: Path, other: Path) -> None:
    """Checks that two runs have the same checkpoints, figures and results, bit for bit."""
    for best in (False, True):
        (found, meta), (expected, other_meta) = (saved(path, best) for path in (run_dir, other))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].tobytes() == array.tobytes(), name
        assert (meta["epoch"], meta["best"]) == (other_meta["epoch"], other_meta["best"])
    assert metrics(run_dir) == metrics(other)
    results = [json.loads((path / "summary.json").read_text()) for path in (run_dir, other)]
    for result in results:
        for key in ("run_dir", "seconds"):
            result.pop(key)
    assert results[0] == results[1]


def check_same_rows(run_dir: Path, other: Path) -> None:
    """Checks that two runs show the same, every value once, also in TensorBoard."""
    for rows, expected in ((f(run_dir), f(other)) for f in (metrics, scalars)):
        assert rows == expected and len({row[:2] for row in rows}) == len(rows) > 0


@pytest.fixture(scope="module")
def forecast(tmp_path_factory):
    """4 epochs of a tiny torso, every one of them saved and kept."""
    save = partial(checkpoint.save, keep=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_SAVING", math.inf)
        patch.setattr(checkpoint, "save", save)
        return rlzoo.pretrain(
            "forecast", torso={"name": "dense", "sizes": [4]}, values=200, length=4, epochs=4,
            run_dir=tmp_path_factory.mktemp("forecast") / "run", quiet=True,
        )  # fmt: skip


# --- what a run leaves behind ---


def test_the_folder_of_a_run(digits_run, digits):
    folder = digits_run.dir
    names = {"config.yaml", "metrics.csv", "curve.png", "confusion.png", "mistakes.png"}
    names |= {"summary.json", "checkpoints", "hparams"}
    found = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    assert found == names
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["task"] == "mnist" and config["seed"] == 1 and config["data"] == str(digits)
    assert config["torso"]["name"] == "conv" and config["torso"]["size"] == 8
    for name in names:
        if name.endswith(".png"):
            with Image.open(folder / name) as picture:
                picture.load()
                assert len(set(picture.convert("L").tobytes())) > 10, name


def test_the_metrics_of_a_run(digits_run):
    rows = metrics(digits_run.dir)
    steps = {tag: [int(step) for step, t, _ in rows if t == tag] for _, tag, _ in rows}
    batches = -(-100 // 16)  # of 120 images, two of each class validate
    every = [batches, 2 * batches, 3 * batches]
    for tag in ("loss/train", "loss/validation", "accuracy/train", "accuracy/validation"):
        assert steps[tag] == every
    assert steps["test/loss"] == steps["test/accuracy"] == every[-1:]
    assert all(np.isfinite(float(value)) for _, _, value in rows)


def test_the_summary_of_a_run(digits_run):
    summary = json.loads((digits_run.dir / "summary.json").read_text())
    assert summary == digits_run.summary
    assert summary["task"] == "mnist" and summary["torso"] == "conv" and summary["seed"] == 1
    assert summary["epochs"] == 3 and summary["examples"] == 100
    errors = 1.0 - logs.series(digits_run.dir, "accuracy/validation")[:, 1]
    assert summary["best_epoch"] == np.flatnonzero(errors == errors.min())[-1] + 1
    assert summary["validation_error"] == errors.min()
    assert {"tensorflow", "keras", "numpy"} <= summary["versions"].keys()


def test_the_events_of_a_run(digits_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(digits_run.dir), {"images": 0, "scalars": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"test/confusion", "test/mistakes"}
    picture = events.Images("test/confusion")[0]
    assert picture.encoded_image_string == (digits_run.dir / "confusion.png").read_bytes()
    assert (picture.width, picture.height) == Image.open(digits_run.dir / "confusion.png").size
    assert {"loss/train", "loss/validation", "test/accuracy"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("loss/train")) == 3


def test_the_best_weights_are_tested_and_handed_over(digits_run):
    arrays, meta = saved(digits_run.dir, best=True)
    assert meta["epoch"] == digits_run.summary["best_epoch"]
    for name, variable in named_arrays(digits_run.model, digits_run.torso).items():
        assert np.asarray(variable).tobytes() == arrays[name].tobytes(), name
    test = embedded_digits()[1]
    logits = digits_run.model({"obs": test.images[:40]}).numpy()
    right = (logits.argmax(-1) == test.labels[:40]).mean()
    assert digits_run.summary["test_accuracy"] == pytest.approx(right)
    assert {name.split("/")[0] for name in arrays} == {"torso", "head", "rest"}


# --- repetition ---


@pytest.fixture(scope="module")
def repeated(digits_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeated") / "run"
    return rlzoo.pretrain(config=digits_run.dir, run_dir=folder, quiet=True)


def test_the_configuration_repeats_the_run_bit_for_bit(repeated, digits_run):
    check_same(repeated.dir, digits_run.dir)


def test_another_seed_is_another_run(digits_run, digits, tmp_path):
    other = digit_run(digits, tmp_path / "run", seed=2, epochs=1, overrides={**DIGITS, "epochs": 1})
    (found, _), (expected, _) = (saved(path.dir) for path in (other, digits_run))
    for name in ("torso/dense/kernel", "head/kernel"):
        assert not np.array_equal(found[name], expected[name])
    for tag in ("loss/train", "loss/validation"):
        one, two = (logs.series(run.dir, tag)[0] for run in (other, digits_run))
        assert one[0] == two[0] and one[1] != two[1]


def test_the_seed_decides_data_weights_and_order():
    recall = [TASKS["recall"](examples=8).problem(seed).train.inputs["obs"] for seed in (1, 1, 2)]
    assert np.array_equal(recall[0], recall[1]) and not np.array_equal(recall[0], recall[2])


# --- stop and go on ---


def stop_at(monkeypatch, step: int, number: int) -> None:
    """Sends this process a signal when a run shows its progress at a gradient step."""
    progress = logs.RunLog.progress

    def show(self, at, *fields):
        progress(self, at, *fields)
        if at == step:
            signal.raise_signal(number)

    monkeypatch.setattr(logs.RunLog, "progress", show)


@pytest.mark.parametrize(
    ("number", "step", "epoch", "where"),
    [
        (signal.SIGTERM, 10, 1, "in epoch 2; saved up to epoch 1"),
        (signal.SIGINT, 14, 1, "in the validation of epoch 2; saved up to epoch 1"),
    ],
)
def test_stopped_and_resumed(number, step, epoch, where, digits, digits_run, tmp_path, monkeypatch):
    """Also with augmentation, whose random streams have to go on where they were."""
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        stop_at(patch, step, number)
        with pytest.raises(rlzoo.Interrupted, match=rf"{where}\. .*rlzoo resume") as caught:
            digit_run(digits, tmp_path)
    assert caught.value.exit_code == 128 + number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert saved(tmp_path)[1]["epoch"] == epoch
    assert not (tmp_path / "run.lock").exists() and not (tmp_path / "summary.json").exists()

    rlzoo.resume_pretraining(tmp_path, quiet=True)
    check_same(tmp_path, digits_run.dir)


KILLED = """
import os, signal, sys
import rlzoo
from rlzoo.reports import log as logs
from tests.conftest import DIGITS

class Killed(logs.RunLog):
    def message(self, text):
        if text.startswith("Epoch 2/"):  # its rows are in the files, and it is not saved
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)

logs.RunLog = Killed
rlzoo.pretrain(
    "mnist", data=sys.argv[1], seed=1, overrides=DIGITS, run_dir=sys.argv[2], quiet=True
)
"""


def test_killed_and_resumed(digits, digits_run, tmp_path):
    command = [sys.executable, "-c", KILLED, digits, tmp_path / "run"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert saved(tmp_path / "run")[1]["epoch"] == 1
    for rows in (metrics(tmp_path / "run"), scalars(tmp_path / "run")):
        assert len([row for row in rows if row[1] == "loss/train"]) == 2
    rlzoo.resume_pretraining(tmp_path / "run", quiet=True)
    check_same(tmp_path / "run", digits_run.dir)
    check_same_rows(tmp_path / "run", digits_run.dir)


@pytest.mark.parametrize("epoch", [1, 2])
def test_it_goes_on_from_any_checkpoint(epoch, forecast, tmp_path):
    """The files lie there as a killed run leaves them: longer than at the checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(forecast.dir, folder)
    kept = folder / "checkpoints" / f"step-{3 * epoch:09d}"  # of 156 examples, 64 at a time
    for path in checkpoint.checkpoints(kept.parent):
        if path != kept:
            shutil.rmtree(path)
    (folder / "summary.json").unlink()
    rlzoo.resume_pretraining(folder, quiet=True)
    check_same(folder, forecast.dir)
    check_same_rows(folder, forecast.dir)


def test_a_finished_run_goes_on_for_more_epochs(repeated, digits_run, tmp_path, capfd):
    folder = tmp_path / "run"
    shutil.copytree(repeated.dir, folder)
    longer = rlzoo.resume_pretraining(folder, epochs=4, quiet=True)
    assert longer.summary["epochs"] == saved(folder)[1]["epoch"] == 4
    assert yaml.safe_load((folder / "config.yaml").read_text())["epochs"] == 4
    losses, before = (logs.series(path, "loss/train") for path in (folder, digits_run.dir))
    assert len(losses) == 4 and np.array_equal(losses[:3], before)
    rlzoo.resume_pretraining(folder)
    assert "This run is finished: it is after epoch 4 of 4. " in capfd.readouterr().err


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """A run with steps so large that its validation loss soon rises."""
    folder = tmp_path_factory.mktemp("overfitted") / "run"
    return rlzoo.pretrain(
        "reconstruct", env="CartPole-v1", overrides=WILD, run_dir=folder, quiet=True
    )


def test_patience_ends_a_run(overfitted):
    losses = logs.series(overfitted.dir, "loss/validation")[:, 1]
    assert len(losses) == overfitted.summary["epochs"] < 60
    best = overfitted.summary["best_epoch"]
    assert len(losses) == best + 2 and losses[best - 1] == losses.min()
    assert saved(overfitted.dir, best=True)[1]["epoch"] == best


def test_divergence_stops_a_run_and_the_last_checkpoint_is_good(overfitted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(overfitted.dir, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"learning_rate": 1e38, "patience": 50}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    epoch = overfitted.summary["epochs"]
    message = rf"NaN or infinite in epoch {epoch + 1}\. The checkpoint of epoch {epoch} is good"
    with pytest.raises(FloatingPointError, match=message):
        rlzoo.resume_pretraining(folder, quiet=True)
    arrays, meta = saved(folder)
    assert meta["epoch"] == epoch
    assert all(np.isfinite(array).all() for array in arrays.values())
    torso = rlzoo.load_torso(folder)
    assert np.array_equal(torso.get_weights()[0], overfitted.torso.get_weights()[0])


@pytest.mark.parametrize("name", ["forecast", "overfitted"])
def test_damaged_best_weights_are_chosen_anew(name, request, tmp_path):
    """Of the newest ones, and those of the epochs after; the last one here is not always best."""
    before = request.getfixturevalue(name)
    folder, epoch = tmp_path / "run", before.summary["epochs"]
    shutil.copytree(before.dir, folder)
    damage(folder, "best", "torso/")
    with pytest.warns(UserWarning) as caught:
        found = rlzoo.resume_pretraining(folder, quiet=True).summary
    (line,) = [str(warning.message) for warning in caught]
    told = r"best-\d{9}: torso/dense/kernel: damaged \(its checksum differs\)\. "
    told += r"Loaded step-\d{9} instead\."
    assert re.fullmatch(told, line)
    losses = logs.series(folder, "loss/validation")[:, 1]
    assert found["validation_error"] == pytest.approx(losses[epoch - 1 :].min())
    assert losses[found["best_epoch"] - 1] == losses[epoch - 1 :].min()
    assert json.loads((folder / "summary.json").read_text()) == found
    rlzoo.load_torso(folder)  # without a warning: it is whole again
    if name == "forecast":  # its last epoch was the best
        check_same(folder, before.dir)


# --- what cannot start ---


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("mnst", {}, "Unknown task 'mnst'. Did you mean 'mnist'"),
        (None, {}, "A task is missing. Known: .*mnist"),
        ("mnist", {"torso": "cnov"}, "Unknown torso 'cnov'. Did you mean 'conv'"),
        ("mnist", {"overrides": ["batch_sise=3"]}, "Unknown setting batch_sise. .*'batch_size'"),
        ("mnist", {"overrides": ["torso.sise=3"]}, r"Unknown setting torso.sise. .*'torso.size'"),
        ("mnist", {"overrides": ["task=recall"]}, "Unknown setting task"),
        ("mnist", {"epochs": 0}, "epochs: expected at least 1, received 0"),
        ("mnist", {"overrides": ["learning_rate=0"]}, "learning_rate: expected at least 1e-12"),
        ("mnist", {"overrides": ["patience=many"]}, "patience: expected a whole number"),
        ("mnist", {"seed": -1}, r"seed: expected 0 to 2\*\*62 - 1, received -1"),
        ("mnist", {"data": "x", "download": True}, "data and download: expected one of them"),
        ("mnist", {"env": "CartPole-v1"}, "Unknown setting env"),
        ("recall", {"data": "x"}, "Unknown setting data"),
        ("mnist", {"data": "no/such.npz"}, "no/such.npz: expected a file, found nothing"),
        ("reconstruct", {}, "needs an environment: --env CartPole-v1"),
        ("reconstruct", {"env": "CartPol-v1"}, "CartPole-v1"),
        ("predict", {"env": "Blackjack-v1"}, "FlattenObservation"),
        (
            "predict",
            {"env": "CartPole-v1", "torso": "lstm", "overrides": ["steps=40"]},
            "A recurrent torso reads sequences, and the inputs of this task are none",
        ),
        (
            "predict",
            {"env": "CartPole-v1", "torso": "conv", "overrides": ["steps=40"]},
            r"The conv torso expects images .* received observations of shape \(4,\)",
        ),
    ],
)
def test_a_run_that_cannot_start_leaves_nothing(task, settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        rlzoo.pretrain(task, quiet=True, **settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        rlzoo.pretrain(task, quiet=True, run_dir="run", **settings)
    assert not list(tmp_path.iterdir())


def test_answers_at_every_step_take_a_recurrent_torso():
    problem = TASKS["recall"](delay=1, examples=8).problem(0)._replace(per_step=True)
    with pytest.raises(ValueError, match="which only a recurrent torso gives"):
        build_model(problem, make_torso({"name": "dense"}), 0)
    model = build_model(problem, make_torso({"name": "gru", "units": 3}), 0)
    assert model.output_shape == (None, 3, 8)


def test_bad_data_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "bad.npz"
    images = np.zeros((10, 28, 28), np.uint8)
    np.savez(data, x_train=images, y_train=np.arange(10) + 1, x_test=images, y_test=np.arange(10))
    with pytest.raises(ValueError, match=r"train: expected labels 0 to 9, found 10 at 9"):
        rlzoo.pretrain("mnist", data=str(data), quiet=True)
    assert list(tmp_path.iterdir()) == [data]
    np.savez(data, x_train=images, y_train=np.arange(10), x_test=images, y_test=np.arange(10))
    with pytest.raises(ValueError, match="of 10 none are left to learn from"):
        rlzoo.pretrain("mnist", data=str(data), quiet=True)
    assert list(tmp_path.iterdir()) == [data]


def test_a_folder_that_is_taken(digits_run, digits):
    before = (digits_run.dir / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=f"holds a run already.*rlzoo resume {digits_run.dir}"):
        digit_run(digits, digits_run.dir)
    assert (digits_run.dir / "config.yaml").read_bytes() == before


def test_a_configuration_of_another_kind(run, digits_run):
    with pytest.raises(ValueError, match="expected the configuration of a pretraining run"):
        rlzoo.pretrain(config=run.dir)
    with pytest.raises(ValueError, match="configures the task 'mnist', received 'recall'"):
        rlzoo.pretrain("recall", config=digits_run.dir)


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: rlzoo.evaluate(folder),
        lambda folder: rlzoo.load(folder),
        lambda folder: rlzoo.resume(folder),
        lambda folder: rlzoo.record(folder, folder / "film.gif"),
        lambda folder: rlzoo.train("dqn", "CartPole-v1", config=folder),
    ],
    ids=["evaluate", "load", "resume", "record", "train"],
)
def test_a_pretraining_run_is_no_agent(use, digits_run):
    before = sorted(digits_run.dir.rglob("*"))
    with pytest.raises(ValueError, match="is of a pretraining run, which has a torso") as caught:
        use(digits_run.dir)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f" --torso-from {digits_run.dir}")
    assert sorted(digits_run.dir.rglob("*")) == before


def test_an_imported_environment_must_be_named_by_the_caller(tmp_path):
    (tmp_path / "config.yaml").write_text("task: predict\nenv: trap:Env-v0\n")
    given = r"would import a module.*: --env trap:Env-v0 \(in Python: env='trap:Env-v0'\)"
    for call in (rlzoo.resume_pretraining, lambda path: rlzoo.pretrain(config=path)):
        with pytest.raises(ValueError, match=given):
            call(tmp_path)
    with pytest.raises(ValueError, match="the run's environment 'trap:Env-v0', received 'My-v0'"):
        rlzoo.resume_pretraining(tmp_path, env="My-v0")
    assert load_config(tmp_path, "trap:Env-v0").plain()["env"] == "trap:Env-v0"


def test_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(ValueError, match=r"There is no file .*config.yaml"):
        rlzoo.resume_pretraining(tmp_path / "nothing")
    assert not list(tmp_path.iterdir())


# --- settings ---


def test_flags_go_over_files_and_overrides_over_flags(digits_run):
    config = resolve(file=digits_run.dir)
    assert config.task.epochs == 3 and config.task.torso["size"] == 8
    config = resolve(file=digits_run.dir, epochs=7, overrides=["batch_size=9", "torso.size=5"])
    assert (config.task.epochs, config.task.batch_size, config.task.torso["size"]) == (7, 9, 5)
    assert config.task.torso["variant"] == "small"
    config = resolve("mnist", torso="dense")
    assert config.task.torso["name"] == "dense" and "variant" not in config.task.torso


@pytest.mark.parametrize("name", TASKS)
def test_every_task_makes_a_model_that_its_torso_fits(name):
    settings = {"examples": 16, "steps": 24, "env": "CartPole-v1", "length": 8, "delay": 2}
    known = TASKS[name].__dataclass_fields__
    task = TASKS[name](**{k: v for k, v in settings.items() if k in known})
    problem = task.problem(0)
    torso = make_torso(resolve(name).task.torso, 0)
    model = build_model(problem, torso, 0)
    batch = {key: array[:3] for key, array in problem.train.inputs.items()}
    outputs = model(batch)
    assert outputs.shape[0] == 3
    loss = problem.loss(problem.train.targets[:3], outputs)
    assert np.isfinite(float(loss))
    assert networks.is_recurrent(torso) <= problem.sequence


def test_a_setting_given_twice_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="delay: given both as a keyword and in overrides"):
        rlzoo.pretrain("recall", delay=3, overrides={"delay": 3}, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"Unknown setting lr. It is called 'learning_rate' here"):
        rlzoo.pretrain("recall", lr=1e-3, run_dir=tmp_path / "run")
