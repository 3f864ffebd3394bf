"""Several runs in one picture, and the figures of each group."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import rlzoo
from rlzoo.reports import aggregate, curves
from rlzoo.reports import log as logs
from rlzoo.reports import plot as plotting


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def bend(folder, **changes):
    """Changes the configuration of a copied run."""
    path = folder / "config.yaml"
    text = path.read_text()
    for key, value in changes.items():
        assert f"\n{key}: " in f"\n{text}"
        text = "".join(
            f"{key}: {value}\n" if line.startswith(f"{key}: ") else line
            for line in text.splitlines(keepends=True)
        )
    path.write_text(text)


def test_seeds_are_one_group_and_labels_tell_what_differs(mazes, tmp_path):
    result = rlzoo.plot([mazes], tmp_path / "new" / "all.png")
    one, other = result["groups"]
    assert one["label"] == "dyna_q, learning_rate=0.1" and one["seeds"] == [0, 1]
    assert other["label"] == "dyna_q, learning_rate=0.25" and other["seeds"] == [0]
    for name, key in (("best", "mean_return"), ("last", "last_mean_return"), ("area", "area")):
        values = [summary(mazes / run)[key] for run in "ab"]
        assert one[name] == aggregate.figures(values)
        value = summary(mazes / "c")[key]
        assert other[name] == {"iqm": value, "low": value, "high": value}
    with Image.open(result["file"]) as picture:
        assert picture.format == "PNG" and len(set(picture.convert("L").tobytes())) > 10
    again = rlzoo.plot([mazes / "a", mazes / "b", mazes / "a"], tmp_path / "two.png")
    assert [group["label"] for group in again["groups"]] == ["dyna_q"]
    assert again["groups"][0]["seeds"] == [0, 1]


def test_groups_of_other_agents_and_environments_are_told_apart(mazes, tmp_path):
    for name, changes in (
        ("a", {}), ("b", {"agent": "dqn"}), ("c", {"env": "Taxi-v3"}),
    ):  # fmt: skip
        shutil.copytree(mazes / name, tmp_path / name)
        bend(tmp_path / name, **changes)
    labels = {g["label"] for g in rlzoo.plot(tmp_path, tmp_path / "x.png")["groups"]}
    assert labels == {"dyna_q on rlzoo/DynaMaze-v0", "dqn on rlzoo/DynaMaze-v0",
                      "dyna_q on Taxi-v3"}  # fmt: skip


def drawn(mazes, x="steps"):
    axes = curves.returns_axes("")
    runs = [plotting._read(mazes / name) for name in "ab"]
    plotting._draw_curve(axes, runs, x, "both", "C0")
    return axes


def test_the_curve_is_the_interquartile_mean_with_its_band_and_every_seed(mazes):
    axes = drawn(mazes)
    *seeds, middle = [np.stack(line.get_data(), axis=-1) for line in axes.lines]
    expected = [logs.series(mazes / name, "eval/return") for name in "ab"]
    assert [line.tolist() for line in seeds] == [points.tolist() for points in expected]
    assert middle[:, 0].tolist() == [50, 100, 150, 200]
    assert middle[:, 1].tolist() == np.mean([p[:, 1] for p in expected], axis=0).tolist()
    assert axes.lines[-1].get_label() == "both (2 runs)"
    assert len(axes.collections) == 1


def test_seconds_are_those_of_training_also_where_it_was_interrupted(mazes, tmp_path):
    axes = drawn(mazes, "seconds")
    for name, line in zip("ab", axes.lines, strict=False):
        seconds = line.get_xdata()
        assert all(np.diff(seconds) > 0) and 0 < seconds[-1] < summary(mazes / name)["seconds"] + 60
    (tmp_path / "metrics.csv").write_text(
        "step,wall_time,tag,value\n"
        "100,1000.0,time/steps_per_second,50\n"  # 2 s
        "100,1000.0,eval/return,1\n"
        "150,9000.0,eval/return,2\n"  # a pause, of which nothing is left
        "200,9004.0,time/steps_per_second,25\n"  # 4 s
        "200,9004.0,eval/return,3\n"
    )
    run = plotting._Run(tmp_path, {}, {}, {})
    curve = plotting._over_seconds(run, logs.series(tmp_path, "eval/return"))
    assert curve.tolist() == [[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]]


def test_a_profile_is_the_share_of_runs_above_each_return():
    axes = curves.returns_axes("")
    plotting._draw_profile(axes, [1.0, 2.0, 4.0, float("nan")], [0.0, 4.0], "p", "C1")
    (line,) = axes.lines
    level, share = line.get_data()
    assert line.get_label() == "p (3 runs)"
    for score, above in ((0.5, 1.0), (1.5, 2 / 3), (3.0, 1 / 3), (4.1, 0.0)):
        assert share[np.argmin(abs(level - score))] == pytest.approx(above)
    assert len(axes.collections) == 1  # the band


def test_an_unfinished_run_has_a_curve_and_no_figures(mazes, tmp_path):
    shutil.copytree(mazes / "a", tmp_path / "a")
    (tmp_path / "a/summary.json").unlink()
    (group,) = rlzoo.plot([tmp_path / "a"], tmp_path / "x.png")["groups"]
    assert group["best"] == {"iqm": None, "low": None, "high": None}
    with pytest.raises(ValueError, match="expected finished runs to draw, received 1 runs"):
        rlzoo.plot([tmp_path / "a"], tmp_path / "x.png", profile="best")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "x.pdf"}, "expected a file that ends in .png"),
        ({"runs": ["nowhere"]}, "expected a folder with runs, 'nowhere' holds none"),
        ({"x": "hours"}, "x: expected steps or seconds, received 'hours'"),
        ({"profile": "worst"}, "profile: expected best or last, received 'worst'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(mazes, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        rlzoo.plot(**{"runs": [mazes], **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_prints_the_table_and_imports_no_tensorflow(mazes, tmp_path):
    script = (
        "import sys\nfrom rlzoo.cli import main\n"
        f"code = main(['plot', {str(mazes)!r}, '--profile', 'best', '-o', 'p.png'])\n"
        "sys.exit(code or ('tensorflow' in sys.modules and 9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "dyna_q, learning_rate=0.1 (2 runs): best " in done.stdout
    assert done.stdout.endswith("Wrote p.png.\n")
