"""Loggers: where a run's numbers go beside `metrics.csv` and TensorBoard.

Those named in `LOGGERS` are adapters of about 20 lines; the packages are imported only when named,
and are set up by their own variables and logins (`WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`).
"""

import hashlib
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rlzoo.tables import import_named
from rlzoo.text import nearest


class Logger(Protocol):
    """Takes a run's numbers: one of your own needs these three methods and no base class.

    One that raises is left out from then on, with a warning; the run goes on.
    """

    def start(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Called before anything else, at the start and after each resume.

        Args:
            run_dir: the run's folder.
            settings: bools, numbers and texts, named as `--set` takes them.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes metrics at an environment step. Each comes once, also where a run is resumed."""

    def close(self) -> None:
        """Called at the end."""


class WeightsAndBiases:
    """`pip install wandb`. The project is `WANDB_PROJECT`, or rlzoo."""

    def start(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Starts a run, or goes on with that of this folder."""
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rlzoo"), dir=str(run_dir), id=_id(run_dir),
            name=run_dir.name, resume="allow",
        )  # fmt: skip
        self._run.config.update(dict(settings), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs them at this step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class MLflow:
    """`pip install mlflow`. The experiment is `MLFLOW_EXPERIMENT_NAME`, or rlzoo."""

    def start(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Starts a run, or goes on with that of this folder."""
        import mlflow  # pyright: ignore[reportMissingImports]

        self._client, self._metric = mlflow.MlflowClient(), mlflow.entities.Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rlzoo")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        tag = _id(run_dir)
        found = self._client.search_runs([experiment], f"tags.rlzoo_run = '{tag}'")
        run = found[0] if found else self._client.create_run(
            experiment, tags={"rlzoo_run": tag}, run_name=run_dir.name
        )  # fmt: skip
        self._run = run.info.run_id
        for key in settings.keys() - run.data.params.keys():  # MLflow lets none change
            self._client.log_param(self._run, key, settings[key])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs them at this step."""
        now = int(1000 * time.time())
        metrics = [self._metric(tag, value, now, step) for tag, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._run)


class Trackio:
    """`pip install trackio`. The project is `TRACKIO_PROJECT`, or rlzoo."""

    def start(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Starts a run, or goes on with that of this folder."""
        import trackio  # pyright: ignore[reportMissingImports]

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "rlzoo"), config=dict(settings),
            name=f"{run_dir.name}-{_id(run_dir)}", resume="allow",
        )  # fmt: skip

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs them at this step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


LOGGERS: dict[str, Callable[[], Logger]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


class Loggers:
    """Several loggers as one, without those that have failed.

    Args:
        given: names in `LOGGERS`, "module:Name", loggers, or their classes.
    """

    def __init__(self, given: Iterable[Any] = ()):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"loggers: expected a list of loggers, received {given!r}.")
        self._loggers = [_make(one) for one in given]
        self._known: set[tuple[int, str]] = set()
        self.warn: Callable[[str], None] = lambda text: warnings.warn(text, stacklevel=2)

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def start(self, run_dir: Path, settings: Mapping[str, Any], known: Iterable = ()) -> None:
        """Starts all; `known` are the steps and tags that reached them before a resume."""
        self._known = set(known)
        self._call("start", run_dir, settings)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Hands metrics over, but for those that are known."""
        if new := {tag: value for tag, value in values.items() if (step, tag) not in self._known}:
            self._call("scalars", step, new)

    def close(self) -> None:
        """Closes all."""
        self._call("close")
        self._loggers = []

    def _call(self, method: str, *args: Any) -> None:
        for logger in list(self._loggers):
            try:
                getattr(logger, method)(*args)
            except Exception as error:
                self._loggers.remove(logger)
                self.warn(
                    f"The logger {type(logger).__qualname__} failed in `{method}` and is left out "
                    f"from now on: {type(error).__name__}: {error}"
                )


def adapter(name: str) -> Callable[[], Logger]:
    """Returns what makes a logger in `LOGGERS`, each of which is named as its package.

    Raises:
        ValueError: the package is missing.
    """
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"The logger {name} needs a package that is missing: pip install {name}")
    return LOGGERS[name]


def _make(given: Any) -> Logger:
    logger: Any = given
    if isinstance(given, str):
        if ":" not in given and given not in LOGGERS:
            raise ValueError(
                f"Unknown logger {given!r}. {nearest(given, LOGGERS)} Or module:Name, for yours."
            )
        logger = adapter(given) if given in LOGGERS else import_named(given, "logger")
    if isinstance(logger, type):
        logger = logger()
    missing = [m for m in ("start", "scalars", "close") if not callable(getattr(logger, m, None))]
    if missing:
        raise ValueError(
            f"loggers: expected the methods start, scalars and close, received {given!r} without "
            f"{' and '.join(missing)}."
        )
    return logger


def _id(run_dir: Path) -> str:
    """Returns what names a run folder elsewhere, the same after each resume."""
    return hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:12]
