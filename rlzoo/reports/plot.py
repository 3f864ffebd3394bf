"""Several runs in one picture: learning curves with bands, or performance profiles.

Runs that differ in their seed only are a group, drawn as the interquartile mean with a 95 %
bootstrap interval, as Agarwal et al. 2021 (arXiv:2108.13264) advise; nothing here needs TensorFlow.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rlzoo.config.describe import settings
from rlzoo.config.plain_yaml import load_yaml, read_text
from rlzoo.reports import aggregate, curves
from rlzoo.reports import log as logs

_MOST_SETTINGS = 4  # in a label
_POINTS = 200  # of a profile


class _Run(NamedTuple):
    folder: Path
    config: dict[str, Any]  # as config.yaml has it
    settings: dict[str, Any]  # those that decide how it learns, flat
    summary: dict[str, Any]  # {} before its end


def plot(
    runs: Iterable[str | Path],
    path: str | Path = "plot.png",
    *,
    x: Literal["steps", "seconds"] = "steps",
    profile: Literal["best", "last"] | None = None,
) -> dict[str, Any]:
    """Draws runs together, those that differ in their seed only as one curve.

    Args:
        runs: folders of runs, or folders that hold such (of `--seeds`, or all of `runs`).
        path: of the picture, a PNG file.
        x: what the evaluations are drawn over: environment steps, or seconds of training.
        profile: draw instead, for each return, the share of runs whose final evaluation of the
            best or last agent was above it.

    Returns:
        `file`, and in `groups` for each its `label`, `agent`, `env`, `seeds`, `runs`, and of its
        finished runs the figures `best`, `last` and `area` (under the curve of evaluations, by its
        width): interquartile mean `iqm` and 95 % interval `low`, `high`; None if there is none.

    Raises:
        ValueError: a folder without runs, nothing to draw, or another ending than .png.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"plot: expected a file that ends in .png, received {str(path)!r}.")
    for name, value, known in (("x", x, ("steps", "seconds")), ("profile", profile, _PROFILES)):
        if value not in known:
            raise ValueError(
                f"plot: {name}: expected {' or '.join(known[:2])}, received {value!r}."
            )
    found = [_read(folder) for given in _listed(runs) for folder in _folders(Path(given))]
    found = list({run.folder.resolve(): run for run in found}.values())
    groups = [list(members) for members in _grouped(found).values()]
    labels = _labels([members[0] for members in groups])
    figures = [_figures(members, label) for members, label in zip(groups, labels, strict=True)]

    envs = " and ".join(sorted({run.config["env"] for run in found}))
    axes = curves.returns_axes(envs)
    colors = [f"C{i % 10}" for i in range(len(groups))]
    for members, label, color in zip(groups, labels, colors, strict=True):
        if profile is None:
            _draw_curve(axes, members, x, label, color)
        else:
            scores = [_score(run, profile) for group in groups for run in group]
            _draw_profile(axes, [_score(r, profile) for r in members], scores, label, color)
    if not axes.lines:
        what = "evaluations" if profile is None else "finished runs"
        raise ValueError(f"plot: expected {what} to draw, received {len(found)} runs without any.")
    if profile is not None:
        curves.plain(axes, f"return of the {profile} agent", "share of runs above it")
        axes.set_ylim(-0.02, 1.02)
    elif x == "seconds":
        curves.plain(axes, "seconds of training", "return of an evaluation")
    else:
        curves.plain(axes, "environment steps", "return of an evaluation")
    path.parent.mkdir(parents=True, exist_ok=True)
    curves.save(axes, path, from_zero=profile is None)
    return {"file": str(path), "groups": figures}


_PROFILES = ("best", "last", None)


def _listed(runs: Iterable[str | Path]) -> list[str | Path]:
    return [runs] if isinstance(runs, (str, Path)) else list(runs)


def _folders(folder: Path) -> list[Path]:
    """Returns a run's folder, or those of the agents' runs below."""
    if (folder / "config.yaml").is_file():
        return [folder]
    below = sorted(path.parent for path in folder.glob("**/config.yaml"))
    agents = [path for path in below if "agent" in _config(path)]
    if not agents:
        raise ValueError(f"plot: expected a folder with runs, {str(folder)!r} holds none.")
    return agents


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    values = load_yaml(read_text(path), str(path))
    return values if isinstance(values, dict) else {}


def _read(folder: Path) -> _Run:
    config = _config(folder)
    if not {"agent", "env"} <= config.keys():
        raise ValueError(f"plot: expected the runs of agents, {str(folder)!r} is none.")
    return _Run(folder, config, settings(config), logs.read_summary(folder))


def _grouped(runs: Sequence[_Run]) -> dict[str, list[_Run]]:
    groups: dict[str, list[_Run]] = {}
    for run in runs:
        groups.setdefault(repr(sorted(run.settings.items())), []).append(run)
    return groups


def _labels(firsts: Sequence[_Run]) -> list[str]:
    """Returns what tells groups apart: the agent, the environment, settings that differ."""
    envs = {run.config["env"] for run in firsts}
    labels = []
    for run in firsts:
        peers = [
            other
            for other in firsts
            if all(other.config[key] == run.config[key] for key in ("agent", "env"))
        ]
        parts = [run.config["agent"] + (f" on {run.config['env']}" if len(envs) > 1 else "")]
        differing = [
            f"{key}={value}"
            for key, value in run.settings.items()
            if any(other.settings.get(key) != value for other in peers)
        ]
        parts += differing[:_MOST_SETTINGS] + ["..."] * (len(differing) > _MOST_SETTINGS)
        labels.append(", ".join(parts))
    return labels


def _figures(members: Sequence[_Run], label: str) -> dict[str, Any]:
    finished = [run for run in members if run.summary]
    scores = {name: np.array([_score(run, name) for run in finished]) for name in ("best", "last")}
    heights = [logs.mean_height(logs.series(run.folder, "eval/return")) for run in finished]
    return {
        "label": label,
        "agent": members[0].config["agent"],
        "env": members[0].config["env"],
        "seeds": [run.config.get("seed", 0) for run in members],
        "runs": [str(run.folder) for run in members],
        **{name: aggregate.figures(of) for name, of in (scores | {"area": heights}).items()},
    }


def _score(run: _Run, which: str) -> float:
    """Returns the mean return of a finished run's best or last agent, NaN of an unfinished one."""
    value = run.summary.get({"best": "mean_return", "last": "last_mean_return"}[which])
    return float("nan") if value is None else float(value)


def _draw_curve(axes: Any, members: Sequence[_Run], x: str, label: str, color: str) -> None:
    series = [logs.series(run.folder, "eval/return") for run in members]
    if x == "seconds":
        series = [_over_seconds(run, points) for run, points in zip(members, series, strict=True)]
    series = [points for points in series if len(points)]
    if not series:
        return
    # Where all have evaluations: a curve is not drawn on beyond its end.
    low, high = max(p[0, 0] for p in series), min(p[-1, 0] for p in series)
    grid = np.unique(
        np.concatenate([p[:, 0] for p in series] if x == "steps" else [series[0][:, 0]])
    )
    grid = grid[(grid >= low) & (grid <= high)]
    if not len(grid):
        grid = np.array([high])
    returns = np.stack([np.interp(grid, *points.T) for points in series], axis=-1)  # [P, runs]
    for points in series if len(series) > 1 else ():
        axes.plot(*points.T, color=color, alpha=0.3, linewidth=0.8)
    if len(series) > 1:
        low, high = np.array([aggregate.bootstrap_interval(row) for row in returns]).T  # [P] each
        axes.fill_between(grid, low, high, color=color, alpha=0.2, linewidth=0)
    count = f" ({len(series)} runs)" if len(series) > 1 else ""
    axes.plot(grid, aggregate.interquartile_mean(returns), color=color, label=label + count)


def _over_seconds(run: _Run, points: np.ndarray) -> np.ndarray:
    """Returns a curve over seconds of training, without the time between stopping and resuming."""
    speed = logs.series(run.folder, "time/steps_per_second")  # [rows, 2], since the row before
    if not len(speed) or not len(points):
        return points[:0]
    steps = np.diff(speed[:, 0], prepend=0.0)
    seconds = np.cumsum(steps / speed[:, 1])
    at = np.interp(points[:, 0], np.r_[0.0, speed[:, 0]], np.r_[0.0, seconds])
    return np.column_stack([at, points[:, 1]])


def _draw_profile(
    axes: Any, scores: Sequence[float], every: Sequence[float], label: str, color: str
) -> None:
    own = np.array([score for score in scores if np.isfinite(score)])
    if not len(own):
        return
    least, most = np.nanmin(every), np.nanmax(every)
    margin = 0.05 * (most - least) or 1.0
    at = np.linspace(least - margin, most + margin, _POINTS)
    share = np.mean(own > at[:, None], axis=-1)  # [P]
    axes.step(at, share, where="post", color=color, label=f"{label} ({len(own)} runs)")
    if len(own) > 1:
        draws = np.random.default_rng(0).choice(own, (aggregate.DRAWS, len(own)))
        shares = np.stack([np.mean(draws > level, axis=-1) for level in at])  # [P, draws]
        low, high = np.percentile(shares, [2.5, 97.5], axis=-1)
        axes.fill_between(at, low, high, step="post", color=color, alpha=0.2, linewidth=0)
