"""The folder of a run that begins: one that failed there before it had trained gives way."""

import contextlib
import datetime
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path

from rlzoo.reports import log as logs
from rlzoo.storage import checkpoint, files


def claim(path: Path, go_on: str, seeds: Iterable[Path] = ()) -> None:
    """Sees to it that a folder holds no run; only who holds its lock may call this.

    Args:
        path: the folder.
        go_on: the command that goes on with the run that may be there.
        seeds: the run folders in it, where it is for several seeds.

    Raises:
        ValueError: it holds a run that has trained, or one that was only prepared.
    """
    runs = [run for run in (path, *seeds) if (run / "config.yaml").exists()]
    if not all(map(_has_failed_at_once, runs)):
        one = runs == [path]
        what, it = ("holds a run already", "it") if one else ("holds runs already", "them")
        raise ValueError(f"{path} {what}. Take another --run-dir, or go on with {it}: {go_on}")
    for run in runs:
        with contextlib.nullcontext() if run == path else files.lock(run):
            for found in _checkpoints(run):
                shutil.rmtree(found)
            (run / "config.yaml").unlink()  # last: killed before, it is still known for what it is
    if runs:
        warnings.warn(f"{path}: what failed there had trained nothing; it gives way.", stacklevel=2)


def unused(folder: Path, suffix: str) -> Path:
    """Returns a path in a folder that nothing has yet, named by date and time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = folder / f"{now}-{suffix}"
    for count in range(2, 1000):
        if not path.exists():
            break
        path = folder / f"{now}-{suffix}-{count}"
    return path


def _has_failed_at_once(run: Path) -> bool:
    """Tells whether a run began, and came to no step that a checkpoint or a log knows of."""
    steps = map(checkpoint.step_of, _checkpoints(run))
    began = (run / logs.METRICS).exists() and not (run / "summary.json").exists()
    return began and not any(steps) and not logs.last_step(run)


def _checkpoints(run: Path) -> list[Path]:
    return [
        path
        for best in (False, True)
        for path in checkpoint.checkpoints(run / "checkpoints", best=best)
    ]
