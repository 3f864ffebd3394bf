"""Supervised pretraining: a torso learns a task by ordinary Keras `fit`, ready for an agent.

The order of the examples follows from the number of the epoch. A run that was stopped goes on from
the last epoch that was saved (each, or one every few seconds if they are shorter than that) as if
nothing had happened.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import yaml

from rlzoo.config.advice import advice
from rlzoo.config.choices import filled
from rlzoo.config.plain_yaml import load_yaml, read_text
from rlzoo.config.values import assignments, fill, merge, typed
from rlzoo.networks import TORSOS
from rlzoo.ops.streams import DATA, derived
from rlzoo.pretraining.model import batches_in, compiled_model, trained
from rlzoo.pretraining.record import PretrainConfig
from rlzoo.pretraining.session import Session, newest
from rlzoo.runs.build import open_log
from rlzoo.runs.claim import claim, unused
from rlzoo.runs.entry import entry
from rlzoo.runs.stop import Stop
from rlzoo.storage import files
from rlzoo.tasks import TASKS
from rlzoo.text import nearest, short


class Pretrained:
    """A pretraining run that has ended.

    Attributes:
        dir: its folder.
        model: the Keras model that was trained, with its best weights.
        torso: the part that agents take: `rlzoo.train("dqn", env, torso=run.torso)`.
        summary: what `summary.json` holds.
    """

    def __init__(
        self, run_dir: Path, model: keras.Model, torso: keras.Layer, summary: dict[str, Any]
    ):
        self.dir = run_dir
        self.model = model
        self.torso = torso
        self.summary = summary

    def __repr__(self) -> str:
        """Returns what it is, how well it ended, and where it lies."""
        found = self.summary
        figures = [f"{name[5:]} {found[name]:.4g}" for name in found if name.startswith("test_")]
        return (
            f"<Pretrained {found['torso']} on {found['task']}, seed {found['seed']}: epoch "
            f"{found['best_epoch']} of {found['epochs']}, test {', '.join(figures)}; {self.dir}>"
        )


@entry()
def pretrain(
    task: str | None = None,
    *,
    torso: str | Mapping[str, Any] | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    run_dir: str | Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    quiet: bool = False,
    **settings: Any,
) -> Pretrained:
    """Trains a torso on a supervised task and returns the finished run.

    Args:
        task: a name in `rlzoo.tasks.TASKS`.
        torso: a name such as "conv", or {"name": ..., **parameters}.
        epochs: at most.
        seed: of the data, the weights and their order; 0 by default.
        config: a YAML file, for example the `config.yaml` of another run.
        run_dir: the folder for results; by default runs/pretrain/<task>/<date-time>-s<seed>.
        overrides: settings such as {"learning_rate": 1e-3, "torso.size": 64}.
        quiet: show nothing.
        **settings: the task's own, such as `data="mnist.npz"`; None leaves the default.

    Raises:
        ValueError: what was asked for, or the data, is unknown, wrong or does not fit together.
        Interrupted: Ctrl-C or SIGTERM, after saving.
    """
    flags = {"torso": torso, "epochs": epochs, "seed": seed}
    given = dict(assignments(overrides, settings))
    resolved = resolve(task, file=config, overrides=given, **flags)
    made_up = unused(Path("runs", "pretrain", resolved.name), f"s{resolved.seed}")
    path = made_up if run_dir is None else files.run_path(run_dir)
    try:
        with files.lock(path):
            claim(path, advice("resume", path, getattr(resolved.task, "env", "")))
            return _train(path, resolved, quiet)
    finally:  # a run that could not start leaves no folders behind
        files.remove_empty(path, parents=0 if run_dir is not None else 3)


@entry()
def resume_pretraining(
    run_dir: str | Path, *, epochs: int | None = None, env: str | None = None, quiet: bool = False
) -> Pretrained:
    """Goes on with a pretraining run from the last epoch that was saved.

    Args:
        run_dir: the folder of the run.
        epochs: a new number of epochs in all, over which the learning rate falls from now on; by
            default the run's own.
        env: needed where the run's environment is an id that imports a module.
        quiet: show nothing.
    """
    path = files.run_path(run_dir)
    config = load_config(path, env)
    if epochs is not None:
        epochs = typed(epochs, int, "epochs")
        config = config._replace(task=dataclasses.replace(config.task, epochs=epochs))  # pyright: ignore
    with files.lock(path):
        return _train(path, config, quiet)


def is_pretraining(run_dir: str | Path) -> bool:
    """Tells whether a folder is that of a pretraining run."""
    path = Path(run_dir) / "config.yaml"
    if not os.path.isfile(path):  # also where the path is too long to be one
        return False
    values = load_yaml(read_text(path), str(path))
    return isinstance(values, dict) and "task" in values


def resolve(
    name: str | None = None,
    *,
    file: str | Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    **flags: Any,
) -> PretrainConfig:
    """Returns a run's complete configuration: defaults < file < flags < overrides.

    Raises:
        ValueError: for anything unknown, of the wrong type or out of range.
    """
    values = _read(Path(file)) if file is not None else {}
    found = values.pop("task", name)
    if name and found != name:
        raise ValueError(f"{file} configures the task {found!r}, received {name!r}.")
    name = name or found
    if name is None:
        raise ValueError(f"A task is missing. Known: {', '.join(sorted(TASKS))}.")
    if name not in TASKS:
        raise ValueError(f"Unknown task {name!r}. {nearest(name, TASKS)}")
    given = {key: value for key, value in flags.items() if value is not None}
    layers = [values, given, *({key: value} for key, value in assignments(overrides))]
    env = str(values.get("env", ""))
    if ":" in env and not any("env" in layer for layer in layers[1:]):
        raise ValueError(
            f"{file} names the environment {env!r}, which would import a module. If you trust it, "
            f"give the environment yourself as well: --env {env} (in Python: env={env!r})."
        )
    defaults = TASKS[name]()
    merged: dict[str, Any] = {"torso": defaults.torso}
    for layer in layers:
        for key, value in layer.items():
            key, *path = key.split(".") if key.startswith("torso.") else [key]
            for part in reversed(path):
                value = {part: value}
            if key == "torso" and not isinstance(value, Mapping):
                value = {"name": value}
            merged = merge(merged, {key: value})
    seed = typed(merged.pop("seed", 0), int, "seed")
    if not 0 <= seed < 2**62:
        raise ValueError(f"seed: expected 0 to 2**62 - 1, received {seed}.")
    merged["torso"] = filled(merged["torso"], TORSOS, "torso")
    task = TASKS[name](**fill(TASKS[name], merged, also=("seed",)))
    return PretrainConfig(name, task, seed)


def load_config(run_dir: Path, env: str | None = None) -> PretrainConfig:
    """Returns the configuration of a pretraining run; `env` is its environment, once more."""
    if env is not None and env != (found := _read(run_dir).get("env")):
        raise ValueError(f"{run_dir}: expected the run's environment {found!r}, received {env!r}.")
    return resolve(file=run_dir, env=env)


def _train(run_dir: Path, config: PretrainConfig, quiet: bool) -> Pretrained:
    problem = config.task.problem(derived(config.seed, DATA) % 2**31)
    model, torso = compiled_model(config, problem)
    total = config.task.epochs * batches_in(problem, config.task)
    found = newest(run_dir, trained(model, torso))
    with Stop() as stop, open_log(run_dir, total, quiet, found and found[1:]) as log:
        with files.replacing(run_dir / "config.yaml") as file:
            yaml.safe_dump(config.plain(), file, sort_keys=False)
        stop.message = log.message
        session = Session(run_dir, config, problem, model, torso, log, stop)
        if found is not None:
            session.restore(*found)
        session.run()
        return Pretrained(run_dir, model, torso, session.finish())


def _read(path: Path) -> dict[str, Any]:
    path = path / "config.yaml" if os.path.isdir(path) else path
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict) or not isinstance(values.get("task"), str):
        raise ValueError(
            f"{path}: expected the configuration of a pretraining run, with 'task: mnist' or the "
            f"like, received {short(values)}."
        )
    return values
