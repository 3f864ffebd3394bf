"""What a run shows and leaves behind: TensorBoard events, `metrics.csv`, progress, curve, summary.

`metrics.csv` has one row per value: `step,wall_time,tag,value`. In pandas:
`pd.read_csv("metrics.csv").pivot(index="step", columns="tag", values="value")`.
"""

import collections
import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.config.values import json_value
from rlzoo.reports.loggers import Loggers
from rlzoo.reports.screen import make_screen
from rlzoo.storage.files import replacing

METRICS = "metrics.csv"

_EVENTS = "events.out.tfevents.*.rlzoo"
_COLUMNS = ["step", "wall_time", "tag", "value"]
_FLUSH_SECONDS = 2.0
_RECENT_EPISODES = 100


class RunLog:
    """Writes a run's metrics to its folder and its progress to standard error.

    Rows reach the disk every few seconds, at `flush` and at `close`. Episodes are written as
    means over a log window, so that neither files nor memory grow with millions of them.
    Nothing here reads the environment's variables.

    Args:
        run_dir: the run's folder.
        total_steps: environment steps at which the run ends.
        quiet: show nothing.
        start_step: the step to go on from. Later rows of `metrics.csv` are removed and
            TensorBoard is told to drop them, so nothing shows twice.
        loggers: where else the metrics go.
        settings: of the run, for these.
        state: the `LogState` that `get_state` described there: what was written later goes,
            at that step too.
    """

    def __init__(
        self,
        run_dir: Path,
        total_steps: int,
        *,
        quiet: bool = False,
        start_step: int = 0,
        loggers: Iterable[Any] = (),
        settings: Mapping[str, Any] | None = None,
        state: Any = None,
    ):
        self._run_dir = run_dir = Path(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._loggers = Loggers(loggers)
        sizes = None if state is None else state.files
        written = _written(run_dir / METRICS)
        _cut_metrics(run_dir / METRICS, start_step, sizes)
        self._metrics = open(run_dir / METRICS, "a", encoding="utf-8", newline="")  # noqa: SIM115
        self._rows = csv.writer(self._metrics, lineterminator="\n")
        self._events = _Events(run_dir, start_step, sizes)
        self._screen = None if quiet else make_screen(total_steps)
        if self._screen:
            self._loggers.warn = self._screen.say
        # What will be trained anew has reached them already.
        cut = written - _written(run_dir / METRICS)
        self._loggers.start(run_dir, settings or {}, cut)
        self._total_steps = total_steps
        self._step = start_step
        self._flushed = time.monotonic()
        self._logged = (time.monotonic(), start_step)
        self._recent: collections.deque[tuple[int, float]] = collections.deque()  # count, return
        self._window = _Window(*state.window) if state else _Window()
        self._evaluation = ""
        self._speed = _Speed()
        self._shown = (-math.inf, -1, False)  # time, step, was there a return to show
        self._fields: Callable[[], Mapping[str, Any]] = dict

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes metrics, with the mean return and length of the episodes since the last call.

        `time/steps_per_second` is added unless it is among `values`.
        """
        now = time.monotonic()
        since, from_step = self._logged
        rows = {**self._window.means()}
        if step > from_step and now > since:
            rows["time/steps_per_second"] = (step - from_step) / (now - since)
        self._window = _Window()
        self._logged = (now, step)
        self._write(step, {**rows, **values})

    def episode(self, step: int, mean_return: float, mean_length: float, count: int = 1) -> None:
        """Takes note of a finished episode, or the means of several; `scalars` writes them."""
        self._step = step
        self._recent.append((count, float(mean_return)))
        while sum(count for count, _ in self._recent) - self._recent[0][0] >= _RECENT_EPISODES:
            self._recent.popleft()
        self._window.add(float(mean_return), float(mean_length), count)

    def evaluation(self, step: int, mean: float, std: float, episodes: int) -> None:
        """Writes an evaluation: mean and standard deviation of the return of some episodes."""
        self._evaluation = f"eval {_text(mean)} ± {_text(std)} at step {step:,}"
        self._write(step, {"eval/return": mean, "eval/return_std": std})

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Shows a PNG file in TensorBoard."""
        self._events.picture(step, tag, path.read_bytes())

    def progress(self, step: int, fields: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Shows how far the run is, with any fields (`loss`, `epsilon`). Mostly does nothing.

        A bar on a terminal, else a line at once, one with the first return, then one in 5 s.

        Args:
            step: environment steps so far.
            fields: asked for what to show beside, when something is shown.
        """
        self._step = step
        self._fields = fields
        now = time.monotonic()
        self._speed.add(now, step)
        shown, _, with_return = self._shown
        first_return = bool(self._recent) and not with_return
        if self._screen and (now - shown >= self._screen.seconds or first_return):
            self._show(now)

    def message(self, text: str) -> None:
        """Shows a line, such as `Compiling ...`."""
        if self._screen:
            self._screen.say(text)

    def flush(self) -> None:
        """Brings all rows to the files."""
        self._metrics.flush()
        self._events.flush()
        self._flushed = time.monotonic()

    def get_state(self) -> dict[str, Any]:
        """Returns what a checkpoint needs, so that no row comes twice later and none is missing.

        That is how long each file is, and the sums of the episodes that no row tells of yet.
        """
        self.flush()
        files = [self._run_dir / METRICS, *self._run_dir.glob(_EVENTS)]
        window = self._window
        return {
            "files": {path.name: path.stat().st_size for path in files},
            "window": [window.count, window.returns, window.lengths],
        }

    def close(self) -> None:
        """Shows the last progress and closes the files. A second call does nothing."""
        if self._metrics.closed:
            return
        if self._screen:
            if self._shown[1] not in (-1, self._step):
                self._show(time.monotonic())
            self._screen.close()
        self._metrics.close()
        self._events.close()
        self._loggers.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._step = step
        now = time.time()
        values = {tag: float(value) for tag, value in values.items()}
        self._rows.writerows([step, f"{now:.3f}", tag, value] for tag, value in values.items())
        self._events.scalars(step, now, values)
        if self._loggers:
            self._metrics.flush()  # first: what is in the file is known to have reached them
            self._loggers.scalars(step, values)
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def _show(self, now: float) -> None:
        if not self._screen:
            return
        speed = self._speed.value()
        pace, state = [], []
        if speed:
            pace = [f"{speed:,.0f} steps/s", _time_left(self._total_steps - self._step, speed)]
        if self._evaluation:
            state.append(self._evaluation)
        if self._recent:
            counts, returns = zip(*self._recent, strict=True)
            state.append(f"return {_text(np.average(returns, weights=counts))}")
        state += [f"{name} {_text(v)}" for name, v in self._fields().items() if v is not None]
        self._screen.show(self._step, pace, state)
        self._shown = (now, self._step, bool(self._recent))


def series(run_dir: Path, tag: str) -> np.ndarray:
    """Returns the steps and values of a tag in a run's `metrics.csv`, `[points, 2]` float64."""
    path = Path(run_dir) / METRICS
    rows = _metric_rows(path) if path.exists() else ()
    points = [(int(step), float(value)) for step, _, t, value in rows if t == tag]
    return np.array(points, np.float64).reshape(-1, 2)  # [points, 2]


def last_step(run_dir: Path) -> int:
    """Returns the last step that a run's `metrics.csv` knows of, 0 without one."""
    path = Path(run_dir) / METRICS
    return max((int(row[0]) for row in _metric_rows(path)), default=0) if path.exists() else 0


def mean_height(points: np.ndarray) -> float:
    """Returns the area under a curve of steps and values `[P, 2]`, divided by its width."""
    if len(points) < 2:
        return float(points[0, 1]) if len(points) else math.nan
    widths, heights = np.diff(points[:, 0]), (points[1:, 1] + points[:-1, 1]) / 2
    return float(np.sum(widths * heights) / np.sum(widths))


def write_summary(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Writes `summary.json`; what is not a finite number becomes null, as JSON has no NaN."""
    path = Path(run_dir) / "summary.json"
    with replacing(path) as file:
        json.dump(json_value(summary), file, indent=2, allow_nan=False)
        file.write("\n")
    return path


def read_summary(run_dir: Path) -> dict[str, Any]:
    """Returns what `summary.json` holds, {} where there is none."""
    path = Path(run_dir) / "summary.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found if isinstance(found, dict) else {}


# --- metrics.csv ---


def _metric_rows(path: Path, size: float = math.inf) -> Iterator[list[str]]:
    """Yields the whole rows in the first `size` bytes; one that a killed process tore is left out.

    A file that somebody has edited may be of another length: a row at its edge counts.
    """
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        read = 0
        for line in file:
            if read >= size:
                return
            read += len(line.encode())
            if "\0" in line:  # what a power cut may leave
                continue
            row = next(csv.reader([line]), [])
            if line.endswith("\n") and len(row) == len(_COLUMNS) and row[0].isdecimal():
                yield row


def _written(path: Path) -> set[tuple[int, str]]:
    """Returns step and tag of the rows of a metrics file."""
    rows = _metric_rows(path) if path.exists() else ()
    return {(int(step), tag) for step, _, tag, _ in rows}


def _cut_metrics(path: Path, last_step: int, sizes: Mapping[str, int] | None) -> None:
    size = math.inf if sizes is None else sizes.get(path.name, 0)
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        if path.exists():
            rows = _metric_rows(path, size)
            writer.writerows(row for row in rows if int(row[0]) <= last_step)


# --- TensorBoard ---


class _Events:
    """A TensorBoard event file. Such a file is a sequence of `Event` records."""

    def __init__(self, run_dir: Path, start_step: int, sizes: Mapping[str, int] | None):
        import tensorflow as tf

        self._event, self._summary = tf.compat.v1.Event, tf.compat.v1.Summary
        # TensorBoard reads files in the order of their names, which start with their time.
        earlier = sorted(run_dir.glob("events.out.tfevents.*"))
        newest = earlier[-1].name.split(".")[3] if earlier else ""
        stamp = max(int(time.time()), int(newest) + 1 if newest.isdecimal() else 0)
        if sizes is not None:
            _cut_events(run_dir, sizes)
        path = run_dir / f"events.out.tfevents.{stamp:010d}.rlzoo"
        self._file = tf.io.TFRecordWriter(str(path))
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        if earlier:  # TensorBoard drops what earlier files hold from this step on
            start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
            self._write(self._event(wall_time=time.time(), step=start_step + 1, session_log=start))
        self.flush()

    def scalars(self, step: int, wall_time: float, values: Mapping[str, float]) -> None:
        if values:
            tagged = [self._summary.Value(tag=t, simple_value=v) for t, v in values.items()]
            summary = self._summary(value=tagged)
            self._write(self._event(wall_time=wall_time, step=step, summary=summary))

    def picture(self, step: int, tag: str, png: bytes) -> None:
        height, width = int.from_bytes(png[20:24], "big"), int.from_bytes(png[16:20], "big")
        image = self._summary.Image(encoded_image_string=png, height=height, width=width)
        summary = self._summary(value=[self._summary.Value(tag=tag, image=image)])
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())


def _cut_events(run_dir: Path, sizes: Mapping[str, int]) -> None:
    for path in run_dir.glob(_EVENTS):
        size = sizes.get(path.name, 0)
        if not size:
            path.unlink()
        elif path.stat().st_size > size:
            os.truncate(path, size)


# --- small things ---


class _Window:
    """Sums of the episodes since the last log row."""

    def __init__(self, count: int = 0, returns: float = 0.0, lengths: float = 0.0):
        self.count, self.returns, self.lengths = count, returns, lengths

    def add(self, mean_return: float, mean_length: float, count: int) -> None:
        self.count += count
        self.returns += count * mean_return
        self.lengths += count * mean_length

    def means(self) -> dict[str, float]:
        if not self.count:
            return {}
        return {
            "episode/return": self.returns / self.count,
            "episode/length": self.lengths / self.count,
        }


class _Speed:
    """Steps per second over the last 10 s or so."""

    def __init__(self):
        self._points: collections.deque[tuple[float, int]] = collections.deque(maxlen=20)

    def add(self, now: float, step: int) -> None:
        if not self._points or now - self._points[-1][0] >= 0.5:
            self._points.append((now, step))

    def value(self) -> float:
        (t0, step0), (t1, step1) = self._points[0], self._points[-1]
        return (step1 - step0) / (t1 - t0) if t1 > t0 else 0.0


def _time_left(steps: int, speed: float) -> str:
    seconds = max(0, round(steps / speed))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min left"
    return f"{minutes} min {seconds % 60} s left" if minutes else f"{seconds} s left"


def _text(value: Any) -> str:
    return f"{float(value):.4g}" if isinstance(value, int | float | np.number) else str(value)
