"""Supervised pretraining: a torso learns a task by ordinary Keras `fit`, ready for an agent.

The order of the examples follows from the number of the epoch. A run that was stopped goes on from
the last epoch that was saved (each, or one every few seconds if they are shorter than that) as if
nothing had happened.
"""

import dataclasses
import datetime
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import yaml

from rlzoo import networks
from rlzoo.config.advice import advice
from rlzoo.config.choices import filled, make_torso
from rlzoo.config.describe import flatten
from rlzoo.config.plain_yaml import load_yaml, read_text
from rlzoo.config.values import assignments, fill, merge, typed
from rlzoo.networks import TORSOS
from rlzoo.reports import curves, hparams, pictures
from rlzoo.reports import log as logs
from rlzoo.runs import meta as metas
from rlzoo.runs.build import assign, stream, template_of
from rlzoo.runs.claim import claim
from rlzoo.runs.entry import entry
from rlzoo.runs.session import open_log
from rlzoo.runs.stop import Interrupted, Stop
from rlzoo.spaces import Leaf, plain
from rlzoo.storage import checkpoint, files
from rlzoo.tasks import TASKS, Problem, Task
from rlzoo.text import nearest, short

_SAVING = 0.02  # of the time at most goes into saving, but for the first and the last epoch
_DATA, _TORSO, _HEAD, _LAYERS, _ORDER = range(5)  # streams of randomness


class PretrainConfig(NamedTuple):
    """What a pretraining run is told to do."""

    name: str  # in TASKS
    task: Task  # its settings
    seed: int

    def plain(self) -> dict[str, Any]:
        """Returns it as `config.yaml` holds it."""
        return {"task": self.name, "seed": self.seed, **dataclasses.asdict(self.task)}  # pyright: ignore


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
    path = files.run_path(run_dir) if run_dir is not None else _new_run_dir(resolved)
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


def build_model(problem: Problem, torso: keras.Layer, seed: int) -> keras.Model:
    """Returns the Keras model from a problem's inputs to its outputs, around a torso.

    A recurrent torso walks along a sequence; any other one takes it in as a whole.

    Raises:
        ValueError: the torso and the problem do not fit together.
    """
    recurrent = networks.is_recurrent(torso)
    if recurrent and not problem.sequence:
        raise ValueError(
            "A recurrent torso reads sequences, and the inputs of this task are none. "
            "Use --torso dense or conv."
        )
    if problem.per_step and not recurrent:
        raise ValueError(
            "This task asks for an answer at every step of a sequence, which only a recurrent "
            "torso gives. Use --torso lstm, gru or rnn."
        )
    extras = {
        name: keras.Input(array.shape[1:], dtype=str(array.dtype), name=name)
        for name, array in problem.train.inputs.items()
        if name != "obs"
    }
    augment = problem.augment() if problem.augment else None
    return connect(problem.obs, torso, problem.head(seed), extras, augment, problem.per_step)


def connect(
    obs: Leaf,
    torso: keras.Layer,
    head: keras.Layer,
    extras: Mapping[str, Any] | None = None,
    augment: keras.Layer | None = None,
    per_step: bool = False,
) -> keras.Model:
    """Returns the Keras model from inputs to a head's outputs.

    Args:
        obs: the inputs; a recurrent torso takes their first axis as time.
        torso: from preprocessed inputs to features.
        head: from features, or [features, *extras], to outputs.
        extras: Keras inputs for the head, by name.
        augment: changes preprocessed inputs while the model trains.
        per_step: whether a recurrent torso gives the features of every step, or of the last.
    """
    inputs = {"obs": keras.Input(obs.shape, dtype=obs.dtype, name="obs"), **(extras or {})}
    features = networks.Preprocess(obs, name="preprocess")(inputs["obs"])
    if augment is not None:
        features = _InTraining(augment, name="augment")(features)
    if networks.is_recurrent(torso):
        features = keras.layers.RNN(torso, return_sequences=per_step, name="walk")(features)
    else:
        features = torso(features)
        if len(features.shape) > 2:
            features = keras.layers.Flatten(name="features")(features)
    outputs = head([features, *extras.values()] if extras else features)
    return keras.Model(inputs, outputs)


def step_spec(problem: Problem, torso: keras.Layer) -> Leaf:
    """Returns the inputs of the torso itself: one step of a sequence if it is recurrent."""
    if networks.is_recurrent(torso):
        return problem.obs._replace(shape=problem.obs.shape[1:])
    return problem.obs


def named_arrays(model: keras.Model, torso: keras.Layer) -> dict[str, Any]:
    """Returns the variables of a model by name: `torso/i`, `head/i`, and `rest/i` for others."""
    torso_variables, head_variables = torso.variables, model.layers[-1].variables
    named = {id(variable) for variable in [*torso_variables, *head_variables]}
    rest = [variable for variable in model.variables if id(variable) not in named]
    groups = {"torso": torso_variables, "head": head_variables, "rest": rest}
    return {
        f"{group}/{i}": variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def compiled_model(config: PretrainConfig, problem: Problem) -> tuple[keras.Model, keras.Layer]:
    """Returns the model that a run trains, ready for `fit`, and the torso in it."""
    task = config.task
    keras.utils.set_random_seed(stream(config.seed, _LAYERS))
    torso = make_torso(task.torso, stream(config.seed, _TORSO) % 2**31)
    model = build_model(problem, torso, stream(config.seed, _HEAD) % 2**31)
    steps = task.epochs * _batches_in(problem, task)
    schedule = keras.optimizers.schedules.CosineDecay(task.learning_rate, steps)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    # Neither the layers that augment images nor the gradient of pooling do well under XLA.
    jit = problem.augment is None and (networks.is_recurrent(torso) or task.torso["name"] != "conv")
    metrics = list(problem.metrics)
    model.compile(optimizer, problem.loss, metrics=metrics, jit_compile=jit)
    return model, torso


def _batches_in(problem: Problem, task: Task) -> int:
    """Returns the gradient steps of an epoch."""
    return -(-len(problem.train.targets) // task.batch_size)


def _train(run_dir: Path, config: PretrainConfig, quiet: bool) -> Pretrained:
    problem = config.task.problem(stream(config.seed, _DATA) % 2**31)
    model, torso = compiled_model(config, problem)
    total = config.task.epochs * _batches_in(problem, config.task)
    found = _newest(run_dir, _trained(model, torso))
    with Stop() as stop, open_log(run_dir, total, quiet, found and found[1:]) as log:
        with files.replacing(run_dir / "config.yaml") as file:
            yaml.safe_dump(_yaml(config.plain()), file, sort_keys=False)
        stop.message = log.message
        session = _Session(run_dir, config, problem, model, torso, log, stop)
        if found is not None:
            session.restore(*found)
        session.run()
        return Pretrained(run_dir, model, torso, session.finish())


class _Session:
    """One stretch of pretraining, from a start or a checkpoint to the end or an interruption."""

    def __init__(self, run_dir, config, problem, model, torso, log, stop):
        self.run_dir: Path = run_dir
        self.config: PretrainConfig = config
        self.problem: Problem = problem
        self.model: keras.Model = model
        self.torso: keras.Layer = torso
        self.log: logs.RunLog = log
        self.stop: Stop = stop
        self.epoch = 0  # whole epochs done
        self.best = (np.inf, 0)  # validation error and epoch
        self.seconds = 0.0  # in `fit`, also in earlier sessions
        self.batches = _batches_in(problem, config.task)
        self._saved = 0  # the epoch of the newest checkpoint
        self._save_from = 0.0  # seconds on the clock: when the next one may be written
        self._unsaved_best: dict[str, np.ndarray] = {}

    def run(self) -> None:
        """Trains until the last epoch, or until the validation error no longer falls."""
        task = self.config.task
        count = sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)
        self.log.message(
            f"Pretraining {task.torso['name']} on {self.config.name}: "
            f"{len(self.problem.train.targets):,} examples, {count:,} weights. The first epoch "
            "begins with compiling ..."
        )
        if self.epoch < task.epochs and not self._is_patience_over():
            validation = self.problem.validation
            self.model.fit(
                self._batches(),
                initial_epoch=self.epoch,
                epochs=task.epochs,
                steps_per_epoch=self.batches,
                validation_data=(validation.inputs, validation.targets),
                validation_batch_size=task.batch_size,
                shuffle=False,  # they are already
                verbose=0,
                callbacks=[_Watch(self)],
            )
        if self.epoch < task.epochs:
            self.log.message(
                f"Stopped early: only worse validation errors since epoch {self.best[1]} "
                f"(patience {task.patience})."
            )

    def end_epoch(self, results: Mapping[str, float], seconds: float) -> bool:
        """Logs an epoch, and saves it unless that was done a moment ago.

        Args:
            results: of `fit`, those of the validation called `val_...`.
            seconds: that it took.

        Returns:
            Whether it is the last.
        """
        self.epoch += 1
        self.seconds += seconds
        figures = {}
        for name, value in results.items():
            kind = "validation" if name.startswith("val_") else "train"
            figures[f"{name.removeprefix('val_')}/{kind}"] = float(value)
        self.log.scalars(self.epoch * self.batches, figures)
        if not all(map(np.isfinite, figures.values())):
            before = f"The checkpoint of epoch {self._saved} is good. " if self._saved else ""
            raise FloatingPointError(
                f"The loss became NaN or infinite in epoch {self.epoch}. {before}"
                "A lower learning_rate may help."
            )
        if _error(figures) <= self.best[0]:  # of equals the last: it learned longest
            self.best = (_error(figures), self.epoch)
            self._unsaved_best = _values(named_arrays(self.model, self.torso))
        shown = ", ".join(f"{tag} {value:.4g}" for tag, value in figures.items())
        self.log.message(f"Epoch {self.epoch}/{self.config.task.epochs}: {shown}")
        last = self.epoch == self.config.task.epochs or self._is_patience_over()
        if last or self.stop.signal or time.perf_counter() >= self._save_from:
            self._save()
        self.check_stop(f"after epoch {self.epoch}")
        return last

    def check_stop(self, where: str) -> None:
        """Raises `Interrupted` if a signal has asked for it."""
        if self.stop.signal:
            saved = f"saved up to epoch {self._saved}"
            env = getattr(self.config.task, "env", "")
            raise Interrupted(self.run_dir, where, self.stop.signal, saved, env=env)

    def _is_patience_over(self) -> bool:
        return self.epoch - self.best[1] >= self.config.task.patience

    def finish(self) -> dict[str, Any]:
        """Tests the best weights, leaves them in the model; returns the summary."""
        variables = named_arrays(self.model, self.torso)
        arrays, meta, _ = self._read_best()
        assign(variables, arrays)
        figures, outputs = self._test()
        summary = {
            "run_dir": str(self.run_dir),
            "task": self.config.name,
            "torso": self.config.task.torso["name"],
            "seed": self.config.seed,
            "epochs": self.epoch,
            "best_epoch": metas.read_epochs(meta).epoch,
            "examples": len(self.problem.train.targets),
            "seconds": round(self.seconds, 3),
            "validation_error": self.best[0],
            **{f"test_{name}": value for name, value in figures.items()},
            "versions": checkpoint.versions(),
        }
        if self.problem.classes:
            self._draw(outputs)
        settings = flatten({k: v for k, v in self.config.plain().items() if k != "seed"})
        results = {f"test/{name}": value for name, value in figures.items()}
        step = self.epoch * self.batches
        self.log.scalars(step, results)
        self.log.close()
        hparams.write(self.run_dir, f"pretraining on {self.config.name}", settings, results, step)
        logs.write_summary(self.run_dir, summary)
        title = f"{summary['torso']} on {summary['task']}, seed {summary['seed']}"
        curves.draw_losses(self.run_dir, title)
        return summary

    def _batches(self) -> tf.data.Dataset:
        """Returns the batches of all epochs that are left, whose order the epoch's number decides.

        One pipeline for all: to build it takes as long as many gradient steps of a small network.
        """
        size, seed = self.config.task.batch_size, stream(self.config.seed, _ORDER) % 2**31
        with tf.device("cpu:0"):
            train = tf.nest.map_structure(tf.constant, tuple(self.problem.train))
            count = len(self.problem.train.targets)

            def epoch(number: tf.Tensor) -> tf.data.Dataset:
                order = tf.random.experimental.stateless_shuffle(tf.range(count), [seed, number])
                return tf.data.Dataset.from_tensor_slices(order).batch(size)

            def examples(chosen: tf.Tensor) -> Any:
                return tf.nest.map_structure(lambda array: tf.gather(array, chosen), train)

            numbers = tf.data.Dataset.range(self.epoch, self.config.task.epochs)
            return numbers.flat_map(epoch).map(examples).prefetch(tf.data.AUTOTUNE)

    def _test(self) -> tuple[dict[str, float], np.ndarray]:
        test = self.problem.test
        size = self.config.task.batch_size
        found = self.model.evaluate(
            test.inputs, test.targets, batch_size=size, verbose=0, return_dict=True
        )
        figures = {name: float(value) for name, value in found.items()}
        outputs = self.model.predict(test.inputs, batch_size=size, verbose=0)
        if self.problem.figures is not None:
            figures |= self.problem.figures(outputs, test)
        return figures, outputs

    def _draw(self, outputs: np.ndarray) -> None:
        test, classes = self.problem.test, self.problem.classes
        step = self.epoch * self.batches
        found = outputs.argmax(-1)
        path = pictures.draw_confusion(self.run_dir, test.targets, found, classes)
        self.log.picture(step, "test/confusion", path)
        images = test.inputs["obs"]
        if images.dtype == np.uint8 and images.ndim >= 3:
            path = pictures.draw_mistakes(self.run_dir, images, test.targets, outputs, classes)
            self.log.picture(step, "test/mistakes", path)

    def _save(self) -> None:
        started = time.perf_counter()
        if self._unsaved_best:
            self._write_checkpoint(self._unsaved_best, self.best[1], best=True)
            self._unsaved_best = {}
        self._write_checkpoint(_values(_trained(self.model, self.torso)), self.epoch, best=False)
        self._saved = self.epoch
        now = time.perf_counter()
        self._save_from = now + (now - started) / _SAVING

    def _write_checkpoint(self, arrays: Mapping[str, np.ndarray], epoch: int, best: bool) -> None:
        spec = step_spec(self.problem, self.torso)
        meta = {
            "task": self.config.name,
            "config": self.config.plain(),
            "obs": plain(spec),
            "torso": self.config.task.torso,
            "input": plain(self.problem.obs),
            "sequence": self.problem.sequence,
            "classes": self.problem.classes,
            "epoch": epoch,
            "best": self.best,
            "seconds": self.seconds,
            "log": self.log.get_state(),
        }
        checkpoint.save(self.run_dir / "checkpoints", epoch * self.batches, arrays, meta, best=best)

    def restore(self, arrays: Mapping[str, np.ndarray], meta: dict[str, Any], path: Path) -> None:
        """Goes back to a checkpoint."""
        metas.warn_of_other_versions(meta["versions"])
        found = metas.read_epochs(meta)
        assign(_trained(self.model, self.torso), arrays)
        self.epoch = self._saved = found.epoch
        self.best = found.best
        self.seconds = found.seconds
        if self.epoch < self.config.task.epochs:
            self.log.message(f"Going on after epoch {self.epoch}.")
        else:
            self.log.message(
                f"This run is finished: it is after epoch {self.epoch} of "
                f"{self.config.task.epochs}. Go on with a new total: --epochs N."
            )
        if self._read_best()[2] not in checkpoint.checkpoints(path.parent, best=True):
            self._take_for_best()  # the best is damaged

    def _take_for_best(self) -> None:
        """Validates the weights as they are, and saves them as the best so far."""
        found = self.model.evaluate(
            self.problem.validation.inputs,
            self.problem.validation.targets,
            batch_size=self.config.task.batch_size,
            verbose=0,
            return_dict=True,
        )
        figures = {f"{name}/validation": float(value) for name, value in found.items()}
        self.best = (_error(figures), self.epoch)
        self._unsaved_best = _values(named_arrays(self.model, self.torso))
        self._save()

    def _read_best(self) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
        template = template_of(named_arrays(self.model, self.torso))
        groups = ("torso/", "head/", "rest/")
        return checkpoint.load(self.run_dir / "checkpoints", template, best=True, only=groups)


def _values(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(v).copy() for name, v in variables.items()}


def _error(figures: Mapping[str, float]) -> float:
    """Returns what chooses the best epoch: the share of wrong answers, or else the loss."""
    if "accuracy/validation" in figures:
        return 1.0 - figures["accuracy/validation"]
    return figures["loss/validation"]


def _trained(model: keras.Model, torso: keras.Layer) -> dict[str, Any]:
    """Returns all variables that training changes, by name."""
    return {
        **named_arrays(model, torso),
        **networks.named_variables("optimizer", model.optimizer),
    }


def _newest(run_dir: Path, variables: Mapping[str, Any]) -> tuple[Any, dict[str, Any], Path] | None:
    """Reads the newest good checkpoint, None before the first."""

    def template(meta: dict[str, Any]) -> Any:
        metas.read_epochs(meta)
        return template_of(variables)

    folder = run_dir / "checkpoints"
    return checkpoint.load(folder, template) if checkpoint.checkpoints(folder) else None


class _InTraining(keras.layers.Layer):
    """A layer that works while the model trains, and else lets its inputs through.

    Keras's own layers for images also change them where nobody says whether the model trains.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        """Builds the layer inside."""
        self.layer.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, changed or not."""
        return self.layer(inputs, training=True) if training else inputs


class _Watch(keras.callbacks.Callback):
    """Shows progress, ends epochs, and breaks off one that is to be stopped."""

    def __init__(self, session: _Session):
        super().__init__()
        self._session = session
        self._step = session.epoch * session.batches
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Stops here if asked to, not after a step: it may have been the last of the epoch."""
        self._session.check_stop(f"in epoch {self._session.epoch + 1}")

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Stops amid a validation too; what the epoch has learned is lost then."""
        self._session.check_stop(f"in the validation of epoch {self._session.epoch + 1}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the gradient step."""
        self._step += 1
        self._session.log.progress(self._step, lambda: {"loss": float((logs or {}).get("loss", 0))})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves, and ends training if the validation error no longer falls."""
        seconds = time.perf_counter() - self._started
        if self._session.end_epoch(logs or {}, seconds):
            self.model.stop_training = True  # pyright: ignore[reportOptionalMemberAccess]


def _read(path: Path) -> dict[str, Any]:
    path = path / "config.yaml" if os.path.isdir(path) else path
    values = load_yaml(read_text(path), str(path))
    if not isinstance(values, dict) or not isinstance(values.get("task"), str):
        raise ValueError(
            f"{path}: expected the configuration of a pretraining run, with 'task: mnist' or the "
            f"like, received {short(values)}."
        )
    return values


def _yaml(value: Any) -> Any:
    """Returns tuples as lists, which plain YAML has."""
    if isinstance(value, dict):
        return {key: _yaml(item) for key, item in value.items()}
    return [_yaml(item) for item in value] if isinstance(value, (list, tuple)) else value


def _new_run_dir(config: PretrainConfig) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / "pretrain" / config.name
    path = folder / f"{now}-s{config.seed}"
    for count in range(2, 1000):
        if not path.exists():
            break
        path = folder / f"{now}-s{config.seed}-{count}"
    return path
