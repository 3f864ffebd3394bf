"""One stretch of pretraining: epochs by Keras `fit`, saved as they end."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlzoo.config.describe import flatten
from rlzoo.ops.streams import ORDER, derived
from rlzoo.pretraining.model import batches_in, named_arrays, step_spec, trained
from rlzoo.pretraining.record import PretrainConfig
from rlzoo.reports import curves, hparams, pictures
from rlzoo.reports import log as logs
from rlzoo.runs import meta as metas
from rlzoo.runs.build import assign, template_of
from rlzoo.runs.stop import Interrupted, Stop
from rlzoo.spaces import plain
from rlzoo.storage import checkpoint, manifest
from rlzoo.tasks import Problem

_SAVING = 0.02  # of the time at most goes into saving, but for the first and the last epoch


class Session:
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
        self.batches = batches_in(problem, config.task)
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
            "versions": manifest.versions(),
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
        size, seed = self.config.task.batch_size, derived(self.config.seed, ORDER) % 2**31
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
        self._write_checkpoint(_values(trained(self.model, self.torso)), self.epoch, best=False)
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
        assign(trained(self.model, self.torso), arrays)
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


def newest(run_dir: Path, variables: Mapping[str, Any]) -> tuple[Any, dict[str, Any], Path] | None:
    """Reads the newest good checkpoint, None before the first."""

    def template(meta: dict[str, Any]) -> Any:
        metas.read_epochs(meta)
        return template_of(variables)

    folder = run_dir / "checkpoints"
    return checkpoint.load(folder, template) if checkpoint.checkpoints(folder) else None


class _Watch(keras.callbacks.Callback):
    """Shows progress, ends epochs, and breaks off one that is to be stopped."""

    def __init__(self, session: Session):
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
