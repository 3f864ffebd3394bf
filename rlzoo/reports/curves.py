"""Learning curves as pictures: `curve.png` of a run, of several seeds, of pretraining."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.config.plain_yaml import load_yaml, read_text
from rlzoo.reports.log import series
from rlzoo.storage.files import replacing

_FEW = 20  # points that are shown one by one


def draw_returns(run_dir: Path) -> Path:
    """Draws the returns in a run's `metrics.csv` against environment steps, to `curve.png`."""
    run_dir = Path(run_dir)
    train, mean, std = (
        series(run_dir, tag) for tag in ("episode/return", "eval/return", "eval/return_std")
    )
    axes = returns_axes(title(run_dir))
    few = len(train) < _FEW
    if train.size:
        axes.plot(
            *train.T, color="tab:blue", alpha=0.8 if few else 0.3, linewidth=1,
            marker="." if few else "", label="training, with exploration",
        )  # fmt: skip
    if not few:
        axes.plot(
            train[:, 0], _smooth(train[:, 1]), color="tab:blue", linewidth=2.2,
            label="the same, smoothed",
        )  # fmt: skip
    if mean.size:
        spread = dict(std)
        axes.errorbar(
            mean[:, 0], mean[:, 1], [spread.get(step, 0.0) for step in mean[:, 0]],
            color="tab:orange", marker="o", markersize=5, linewidth=1.2, elinewidth=1, capsize=3,
            label="evaluation, mean ± standard deviation", clip_on=False,
        )  # fmt: skip
    if not train.size and not mean.size:
        axes.text(0.5, 0.5, "no finished episode", ha="center", transform=axes.transAxes)
    return save(axes, run_dir / "curve.png")


def draw_losses(run_dir: Path, heading: str) -> Path:
    """Draws what `metrics.csv` holds of a pretraining run, to `curve.png`."""
    panels = ["loss", "accuracy"] if series(run_dir, "accuracy/train").size else ["loss"]
    figure = _figure(4.6 * len(panels) + 0.6, 4.4)
    figure.suptitle(heading, parse_math=False)
    axes: Any = None
    for i, tag in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        for kind, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            points = series(run_dir, f"{tag}/{kind}")
            if points.size:
                axes.plot(
                    *points.T, color=color, marker="o", markersize=3, label=kind, clip_on=False
                )
        if tag == "loss":
            _logarithmic_if_wide(axes)
        plain(axes, "gradient steps", tag)
    return save(axes, run_dir / "curve.png")


def returns_axes(heading: str) -> Any:
    """Returns empty axes for returns against environment steps."""
    axes = _figure(9, 5.6).add_subplot()
    axes.set_title(heading, parse_math=False)
    plain(axes, "environment steps", "return of an episode")
    return axes


def plain(axes: Any, x: str, y: str) -> None:
    """Labels axes, with whole numbers of steps below and no sums or powers at the side."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    if axes.get_yscale() == "linear":
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save(axes: Any, path: Path, *, from_zero: bool = True) -> Path:
    """Writes the figure of some axes to a PNG file, and returns its path.

    Curves begin at step 0 and end with the last step there is, unless `from_zero` is false; the
    legend is below.
    """
    for each in axes.figure.axes if from_zero else ():
        each.autoscale_view()
        each.set_xlim(0, max(each.dataLim.x1, 1))
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    with replacing(path) as file:
        axes.figure.savefig(file.buffer, format="png")
    return path


def title(run_dir: Path, seeds: Sequence[int] = ()) -> str:
    """Returns what a run's `config.yaml` says of it: `dqn on CartPole-v1, seed 0, host loop`.

    Args:
        run_dir: the run's folder.
        seeds: of several runs, of which this is one; by default its own.
    """
    config = run_dir / "config.yaml"
    values = load_yaml(read_text(config), str(config)) if config.exists() else None
    if not isinstance(values, dict) or "agent" not in values or "env" not in values:
        return run_dir.name
    told = [f"{values['agent']} on {values['env']}"]
    if seeds or "seed" in values:
        told.append(_seeds(seeds or [values["seed"]]))
    if "loop" in values:
        told.append(f"{values['loop']} loop")
    return ", ".join(told)


def _seeds(seeds: Sequence[int]) -> str:
    """Returns seeds in words: `seed 3`, `seeds 0, 2, 7`, `seeds 0-9`."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]}-{seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) <= 10 else f"{len(seeds)} seeds"


def _logarithmic_if_wide(axes: Any) -> None:
    """Makes the scale of what spans a factor of three or more logarithmic."""
    from matplotlib.ticker import LogLocator, NullLocator

    shown = [y for line in axes.lines for y in line.get_ydata()]
    if min(shown, default=0) > 0 and max(shown) >= 3 * min(shown):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _smooth(values: np.ndarray) -> np.ndarray:
    """Returns the mean over a centred window, a tenth of the curve wide."""
    width = max(1, len(values) // 20) * 2 + 1
    kernel = np.ones(width)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), kernel, "full")
    count = np.convolve(known.astype(float), kernel, "full")
    middle = slice(width // 2, width // 2 + len(values))
    return total[middle] / np.maximum(count[middle], 1)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # slow to import, and only needed here

    return Figure(figsize=(width, height), dpi=100, layout="constrained")
