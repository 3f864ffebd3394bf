"""Several seeds as one result: interquartile means with 95 % bootstrap intervals.

As Agarwal et al. 2021 (arXiv:2108.13264) advise for few seeds: the interquartile mean is steadier
than the mean and wastes less than the median.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.reports import curves
from rlzoo.reports import log as logs
from rlzoo.storage import files

DRAWS = 2_000  # of the bootstrap


def interquartile_mean(values: Any) -> Any:
    """Returns the mean of the middle half, over the last axis; of fewer than 4 values, of all."""
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return np.mean(ordered[..., cut : ordered.shape[-1] - cut], axis=-1)


def bootstrap_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of the interquartile mean, always the same."""
    draws = np.random.default_rng(0).choice(values, (DRAWS, len(values)))  # [draws, seeds]
    low, high = np.percentile(interquartile_mean(draws), [2.5, 97.5])
    return float(low), float(high)


def evaluation_curves(run_dirs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps of evaluations `[P]` and the mean return at each, `[P, runs]` float64.

    Of runs that are not evaluated it is the return in training.

    The steps are the first run's. Where those of another differ, as with agents that learn from
    whole episodes, its returns are interpolated linearly.
    """
    tag = "eval/return" if logs.series(run_dirs[0], "eval/return").size else "episode/return"
    found = [logs.series(run_dir, tag) for run_dir in run_dirs]
    steps = found[0][:, 0]
    return steps, np.stack([np.interp(steps, *curve.T) for curve in found], axis=-1)


def write(folder: Path, run_dirs: Mapping[int, Path]) -> dict[str, Any]:
    """Writes `curve.csv`, `curve.png` and `summary.json` of finished runs; returns the summary.

    Args:
        folder: for the files.
        run_dirs: the folder of each seed's run, at least one.
    """
    steps, returns = evaluation_curves(list(run_dirs.values()))
    iqm = interquartile_mean(returns)  # [P]
    low, high = np.array([bootstrap_interval(row) for row in returns]).T  # [P] each
    with files.replacing(folder / "curve.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "iqm", "low", "high", *(f"s{seed}" for seed in run_dirs)])
        for step, *values in np.column_stack([steps, iqm, low, high, returns]).tolist():
            writer.writerow([int(step), *values])

    runs = [json.loads((path / "summary.json").read_text("utf-8")) for path in run_dirs.values()]
    seeds = list(run_dirs)
    axes = curves.returns_axes(curves.title(run_dirs[seeds[0]], seeds))
    for i, line in enumerate(returns.T):
        label = None if i else "evaluation of each seed"
        axes.plot(steps, line, color="tab:blue", alpha=0.4, linewidth=0.8, marker=".", label=label)
    axes.fill_between(
        steps, low, high, color="tab:orange", alpha=0.25, label="95 % bootstrap interval"
    )
    axes.plot(
        steps,
        iqm,
        "o-",
        color="tab:orange",
        markersize=4,
        clip_on=False,
        label="interquartile mean",
    )
    curves.save(axes, folder / "curve.png")

    summary = {
        "run_dir": str(folder),
        "agent": runs[0]["agent"],
        "env": runs[0]["env"],
        "seeds": seeds,
        "steps": max(run["steps"] for run in runs),
        "best": figures([run["mean_return"] for run in runs]),
        "last": figures([run["last_mean_return"] for run in runs]),
        "runs": [{key: run[key] for key in run if key != "versions"} for run in runs],
        "versions": runs[0]["versions"],
    }
    logs.write_summary(folder, summary)
    return summary


def figures(returns: Sequence[float | None] | np.ndarray) -> dict[str, float | None]:
    """Returns interquartile mean and interval of some runs' returns, None each of no runs."""
    values = np.array(returns, np.float64)  # JSON has null for NaN
    if not len(values):
        return {"iqm": None, "low": None, "high": None}
    low, high = bootstrap_interval(values)
    return {"iqm": float(interquartile_mean(values)), "low": low, "high": high}
