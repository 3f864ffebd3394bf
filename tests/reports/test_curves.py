"""Learning curves: what is drawn where, and what the axes say."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from rlzoo.reports import aggregate, curves
from rlzoo.storage import files


def write_run(folder, rows, config=""):
    """Writes `metrics.csv` of (step, tag, value), and perhaps `config.yaml`."""
    folder.mkdir(exist_ok=True)
    lines = ["step,wall_time,tag,value", *(f"{step},0,{tag},{value}" for step, tag, value in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if config:
        (folder / "config.yaml").write_text(config)
    return folder


def learned(folder, evaluations=True):
    rng = np.random.default_rng(0)
    rows = [
        (step, "episode/return", min(500.0, step / 80 * rng.uniform(0.3, 1.2)))
        for step in range(250, 50_001, 250)
    ]
    for step in range(5_000, 50_001, 5_000) if evaluations else ():
        rows += [(step, "eval/return", min(500.0, step / 80)), (step, "eval/return_std", 30.0)]
    return write_run(folder, rows, "agent: dqn\nenv: CartPole-v1\n")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, to ask what they show."""
    figures = []
    save = curves.save

    def keep(axes, path):
        found = save(axes, path)
        figures.append(axes.figure)
        return found

    monkeypatch.setattr(curves, "save", keep)
    return figures


def ticks(axis):
    """Returns the labels of the ticks that are seen."""
    low, high = sorted(axis.get_view_interval())
    pairs = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [label.get_text() for at, label in pairs if low <= at <= high]


@pytest.mark.parametrize("evaluations", [True, False])
def test_the_curve_of_a_run(tmp_path, evaluations):
    path = curves.draw_returns(learned(tmp_path, evaluations))
    assert path == tmp_path / "curve.png"
    image = imread(path)
    assert image.shape[:2] == (560, 900)
    blue = (image[..., 2] > 0.6) & (image[..., 0] < 0.2)
    orange = (image[..., 0] > 0.9) & (image[..., 2] < 0.2)
    height = np.array(
        [rows.mean() if rows.size else np.nan for rows in map(np.flatnonzero, blue[:480].T)]
    )
    assert np.nanmean(height[200:300]) > np.nanmean(height[700:800]) + 50  # it rises
    assert orange.any() == evaluations
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))


def test_steps_begin_at_0_and_end_with_the_last_one(tmp_path, drawn):
    curves.draw_returns(learned(tmp_path))
    assert drawn[0].axes[0].get_xlim() == (0, 50_000)
    assert ticks(drawn[0].axes[0].xaxis)[0] == "0"
    assert ticks(drawn[0].axes[0].xaxis)[-1] == "50,000"


@pytest.mark.parametrize("last", [1, 3, 256, 3_072])
def test_ticks_are_whole_steps_of_the_run_however_short_it_is(tmp_path, drawn, last):
    rows = [(last, "eval/return", 8.0), (last, "eval/return_std", 0.0)]
    curves.draw_returns(write_run(tmp_path, rows))
    axes = drawn[0].axes[0]
    assert axes.get_xlim() == (0, last)
    labels = ticks(axes.xaxis)
    numbers = [int(label.replace(",", "")) for label in labels]
    assert numbers == sorted(set(numbers)) and numbers[-1] <= last
    assert len(numbers) >= 2


def test_one_point_is_seen(tmp_path):
    blue = []
    for returns in ([], [(256, "episode/return", 20.0)]):
        image = imread(
            curves.draw_returns(write_run(tmp_path, [(256, "eval/return", 8.0), *returns]))
        )
        blue.append(((image[..., 2] > 0.6) & (image[..., 0] < 0.4))[:480].sum())
    assert blue[0] == 0 and blue[1] > 5


def test_the_legend_is_below_the_axes(tmp_path, drawn):
    curves.draw_returns(learned(tmp_path))
    figure = drawn[0]
    (legend,) = figure.legends
    assert figure.axes[0].get_legend() is None
    below = legend.get_window_extent().y1
    assert below < figure.axes[0].xaxis.label.get_window_extent().y0 + 1
    assert len(legend.texts) == 3


def test_the_title_says_agent_environment_seed_and_loop(tmp_path):
    assert curves.title(tmp_path) == tmp_path.name
    config = "agent: dqn\nenv: CartPole-v1\n"
    (tmp_path / "config.yaml").write_text(config)
    assert curves.title(tmp_path) == "dqn on CartPole-v1"
    (tmp_path / "config.yaml").write_text(config + "seed: 3\nloop: graph\n")
    assert curves.title(tmp_path) == "dqn on CartPole-v1, seed 3, graph loop"
    for seeds, text in [
        ([7], "seed 7"),
        ([0, 1], "seeds 0, 1"),
        (range(5, 15), "seeds 5-14"),
        ([0, 2, 7], "seeds 0, 2, 7"),
        (range(0, 60, 2), "30 seeds"),
    ]:
        assert curves.title(tmp_path, seeds) == f"dqn on CartPole-v1, {text}, graph loop"


def test_the_curve_of_nothing(tmp_path):
    assert imread(curves.draw_returns(tmp_path)).shape[:2] == (560, 900)
    write_run(tmp_path, [], "agent: my $agent$\nenv: _^{\n")  # no formula
    assert imread(curves.draw_returns(tmp_path)).shape[:2] == (560, 900)


def test_the_curve_of_seeds_says_which(tmp_path, drawn):
    config = "agent: dqn\nenv: CartPole-v1\nseed: {}\nloop: host\n"
    summary = {"agent": "dqn", "env": "CartPole-v1", "steps": 600, "versions": {}}
    runs = {}
    for seed in (0, 1, 2):
        rows = [(600, "eval/return", 1.0 + seed)]
        runs[seed] = write_run(tmp_path / f"s{seed}", rows, config.format(seed))
        results = {"seed": seed, "mean_return": 1.0 + seed, "last_mean_return": 1.0}
        (runs[seed] / "summary.json").write_text(json.dumps({**summary, **results}))
    aggregate.write(tmp_path, runs)
    axes = drawn[0].axes[0]
    assert axes.get_title() == "dqn on CartPole-v1, seeds 0-2, host loop"
    assert axes.get_xlim() == (0, 600)


def test_smoothing_keeps_a_constant_and_skips_gaps():
    for length in (1, 2, 5, 100):
        np.testing.assert_allclose(curves._smooth(np.full(length, 3.0)), 3.0)
    values = np.full(100, 3.0)
    values[[0, 50]] = np.nan
    np.testing.assert_allclose(curves._smooth(values), 3.0)


# --- pretraining ---


def losses(folder, values, *more):
    rows = [(i + 1, f"loss/{kind}", x) for kind in ("train", "validation") for i, x in
            enumerate(values)]  # fmt: skip
    return write_run(folder, [*rows, *more])


@pytest.mark.parametrize("values", [(2.0, 0.5), (0.0, 0.0), (-1.0, -2.0), (0.3,)])
def test_losses(values, tmp_path):
    shown = imread(curves.draw_losses(losses(tmp_path, values), "a $heading"))
    assert (shown[..., 2] > shown[..., 0] + 0.3).sum() > 10
    assert (shown[..., 0] > shown[..., 2] + 0.6).sum() > 20
    losses(tmp_path, values, (1, "accuracy/train", 0.5))
    assert imread(curves.draw_losses(tmp_path, "two")).shape[1] > shown.shape[1]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((2.0, 0.5), "log"),
        ((2.07, 2.02), "linear"),
        ((1.0, 0.0), "linear"),
        ((-1.0, 5.0), "linear"),
    ],
)
def test_a_logarithmic_scale_only_of_what_spans_a_factor_of_three(values, scale, tmp_path, drawn):
    curves.draw_losses(losses(tmp_path, values), "heading")
    assert drawn[0].axes[0].get_yscale() == scale


@pytest.mark.parametrize("values", [(2.0, 0.5), (2.07, 2.02), (900.0, 1e-3)])
def test_numbers_at_the_side_are_plain(values, tmp_path, drawn):
    curves.draw_losses(losses(tmp_path, values), "heading")
    labels = ticks(drawn[0].axes[0].yaxis)
    assert len(labels) >= 2
    for label in labels:
        float(label.replace("\N{MINUS SIGN}", "-"))
    assert not drawn[0].axes[0].yaxis.get_offset_text().get_text()
