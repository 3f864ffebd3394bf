"""What a run shows and leaves behind."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from functools import partial

import numpy as np
import pytest

from rlzoo.reports import log as logs
from rlzoo.reports.log import RunLog
from rlzoo.storage import files


def accumulated(run_dir):
    """Reads the folder as TensorBoard does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(
        str(run_dir), size_guidance={"scalars": 0}, purge_orphaned_data=True
    )
    return accumulator.Reload()


def tensorboard(run_dir, tag):
    return [(event.step, event.value) for event in accumulated(run_dir).Scalars(tag)]


def rows(run_dir, tag=None):
    with open(run_dir / "metrics.csv", newline="") as file:
        found = [
            (int(row["step"]), row["tag"], float(row["value"])) for row in csv.DictReader(file)
        ]
    return found if tag is None else [(step, value) for step, t, value in found if t == tag]


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def time(self):
            return self.now + 1e9

    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


# --- metrics ---


def test_scalars_reach_tensorboard_and_csv(tmp_path, clock):
    with RunLog(tmp_path, 1000, quiet=True) as log:
        for step in range(100, 1001, 100):
            clock.now += 0.5
            log.scalars(step, {"loss/q": step / 8, "exploration/epsilon": np.float32(0.25)})
    expected = [(step, step / 8) for step in range(100, 1001, 100)]
    assert rows(tmp_path, "loss/q") == tensorboard(tmp_path, "loss/q") == expected
    assert tensorboard(tmp_path, "exploration/epsilon")[0] == (100, 0.25)
    assert tensorboard(tmp_path, "time/steps_per_second") == [(s, 200.0) for s, _ in expected]
    first = (tmp_path / "metrics.csv").read_text().splitlines()[:2]
    assert first[0] == "step,wall_time,tag,value"
    assert first[1] == "100,1000001000.500,time/steps_per_second,200.0"


def test_episodes_are_written_as_means_of_a_window(tmp_path):
    with RunLog(tmp_path, 1000, quiet=True) as log:
        log.episode(10, 1.0, 10)
        log.episode(15, 2.0, 5)
        log.scalars(20, {})
        log.scalars(30, {"loss/q": 1.0})
        log.episode(35, 5.0, 20)
        log.scalars(40, {})
        log.evaluation(40, 7.0, 0.5, 20)
    assert rows(tmp_path, "episode/return") == [(20, 1.5), (40, 5.0)]
    assert tensorboard(tmp_path, "episode/length") == [(20, 7.5), (40, 20.0)]
    assert tensorboard(tmp_path, "eval/return") == [(40, 7.0)]
    assert rows(tmp_path, "eval/return_std") == [(40, 0.5)]


def test_not_a_number_is_logged_as_such(tmp_path):
    with RunLog(tmp_path, 10, quiet=True) as log:
        log.scalars(1, {"loss/q": float("nan")})
    assert np.isnan(rows(tmp_path, "loss/q")[0][1])
    assert np.isnan(tensorboard(tmp_path, "loss/q")[0][1])


def test_rows_are_on_disk_after_seconds_and_after_flush(tmp_path, clock):
    log = RunLog(tmp_path, 1000, quiet=True)
    log.scalars(1, {"loss/q": 1.0})
    assert rows(tmp_path) == []
    clock.now += 3
    log.scalars(2, {"loss/q": 2.0})
    assert [step for step, _ in rows(tmp_path, "loss/q")] == [1, 2]
    log.scalars(3, {"loss/q": 3.0})
    log.flush()
    assert [step for step, _ in rows(tmp_path, "loss/q")] == [1, 2, 3]
    assert [step for step, _ in tensorboard(tmp_path, "loss/q")] == [1, 2, 3]
    log.close()
    log.close()


def test_the_mean_height_of_a_curve():
    # (0 + 4) / 2 over 10 steps and (4 + 2) / 2 over 30: 20 + 90 = 110, over 40 steps.
    assert logs.mean_height(np.array([[0, 0.0], [10, 4.0], [40, 2.0]])) == 110 / 40
    assert logs.mean_height(np.array([[7, 3.0]])) == 3.0
    assert np.isnan(logs.mean_height(np.empty((0, 2))))


# --- resume ---


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    def run(start, end, value):
        with RunLog(tmp_path, 1000, quiet=True, start_step=start) as log:
            for step in range(start + 100, end + 1, 100):
                log.episode(step, value, 9)
                log.scalars(step, {"loss/q": value})
                if value == 1.0:
                    log.scalars(step, {"loss/rare": value})
            log.evaluation(end, value, 0.0, 5)

    run(0, 700, 1.0)
    run(500, 800, 2.0)
    run(800, 1000, 3.0)
    steps = [*range(100, 501, 100), 600, 700, 800, 900, 1000]
    values = [1.0] * 5 + [2.0] * 3 + [3.0] * 2
    for tag in ("loss/q", "episode/return"):
        assert rows(tmp_path, tag) == list(zip(steps, values, strict=True))
        assert tensorboard(tmp_path, tag) == list(zip(steps, values, strict=True))
    assert tensorboard(tmp_path, "eval/return") == [(800, 2.0), (1000, 3.0)]
    # A tag that is not written again is cut as well.
    assert [step for step, _ in tensorboard(tmp_path, "loss/rare")] == [100, 200, 300, 400, 500]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 3


def test_event_files_of_one_second_stay_in_order(tmp_path):
    for start in range(12):
        with RunLog(tmp_path, 100, quiet=True, start_step=start) as log:
            log.scalars(start + 1, {"x": start})
    assert tensorboard(tmp_path, "x") == [(i + 1, i) for i in range(12)]
    names = [p.name for p in sorted(tmp_path.glob("events.*"))]
    assert len(set(names)) == 12


def test_a_row_torn_by_a_kill_is_dropped(tmp_path):
    with RunLog(tmp_path, 100, quiet=True) as log:
        log.scalars(1, {"x": 1.0})
    path = tmp_path / "metrics.csv"
    whole = path.read_text()
    for torn in ("2,1000", "2,1000.0,x,12", "2,", '2,3.0,"x', "2,3.0,x,\0\0\n", "\xff\n"):
        path.write_bytes(whole.encode() + torn.encode("latin-1"))
        with RunLog(tmp_path, 100, quiet=True, start_step=50):
            pass
        assert path.read_text() == whole


def test_a_kill_while_cutting_loses_nothing(tmp_path, monkeypatch):
    with RunLog(tmp_path, 100, quiet=True) as log:
        log.scalars(1, {"x": 1.0})
    before = (tmp_path / "metrics.csv").read_text()

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            RunLog(tmp_path, 100, quiet=True)
    assert (tmp_path / "metrics.csv").read_text() == before
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))


# --- the screen ---


def test_plain_lines(tmp_path, capsys, clock):
    with RunLog(tmp_path, 50_000) as log:
        log.message("Compiling [b]dqn[/b] ...")
        log.progress(0)
        for step in range(100, 20_001, 100):  # 20 s in all
            clock.now += 0.1
            if step == 1000:
                log.episode(step, 20.0, 20)
            if step == 9000:
                log.evaluation(step, 123.456, 7.0, 20)
            log.progress(step, partial(dict, loss=0.0123456, epsilon=0.5, absent=None))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Compiling [b]dqn[/b] ...",
        "step 0/50,000 (0 %)",
        "step 1,000/50,000 (2 %)  1,000 steps/s  49 s left  return 20  loss 0.01235  epsilon 0.5",
        *(
            f"step {step:,}/50,000 ({step // 500} %)  1,000 steps/s  {50 - step // 1000} s left"
            f"{evaluation}  return 20  loss 0.01235  epsilon 0.5"
            for step, evaluation in [
                (6000, ""),
                (11_000, "  eval 123.5 ± 7 at step 9,000"),
                (16_000, "  eval 123.5 ± 7 at step 9,000"),
                (20_000, "  eval 123.5 ± 7 at step 9,000"),
            ]
        ),
    ]


def test_recent_return_is_the_mean_of_100_episodes(tmp_path, capsys, clock):
    with RunLog(tmp_path, 1000) as log:
        for i in range(200):
            log.episode(i, float(i), 1)
        log.progress(200)
    assert "return 149.5" in capsys.readouterr().err


def test_quiet_shows_nothing(tmp_path, capsys):
    with RunLog(tmp_path, 1000, quiet=True) as log:
        log.message("Compiling ...")
        log.episode(1, 1.0, 1)
        log.progress(1, partial(dict, loss=1.0))
        log.scalars(1, {"x": 1.0})
        log.evaluation(1, 1.0, 0.0, 1)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("color", [True, False])
def test_two_lines_on_a_terminal(tmp_path, monkeypatch, capsys, clock, columns, color):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not color:
        monkeypatch.setenv("NO_COLOR", "1")
    with RunLog(tmp_path, 50_000) as log:
        log.message("Compiling [b]dqn[/b] ...")
        log.episode(1, 20.0, 20)
        for step in range(1, 101):
            clock.now += 0.1
            if step == 50:
                log.evaluation(step * 100, 195.23, 12.31, 20)
            log.progress(step * 100, partial(dict, loss=0.5, note="[red]"))
            print("standard output")
    text = terminal.getvalue()
    assert "Compiling [b]dqn[/b] ..." in text
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", text)) == color
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    lines = [line.rstrip() for line in plain.replace("\r", "\n").splitlines()]
    assert max(map(len, lines)) <= columns
    pace, state = lines[-2:]
    assert re.fullmatch(r"step 10,000/50,000 +[━╸╺]+ +20 %  1,000 steps/s  40 s left", pace)
    whole = "eval 195.2 ± 12.31 at step 5,000  return 20  loss 0.5  note [red]"
    assert state == (whole if columns > 60 else whole[:59] + "…")
    # What is not ours and goes to a pipe or a file is left alone.
    assert capsys.readouterr().out == "standard output\n" * 100
    assert "standard output" not in text


def test_no_more_than_all_is_done(tmp_path, capsys):
    """Whole episodes may go beyond the end."""
    with RunLog(tmp_path, 300) as log:
        log.progress(512)
    assert capsys.readouterr().err == "step 512/300 (100 %)\n"


def test_dumb_terminal_gets_lines(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with RunLog(tmp_path, 100) as log:
        log.progress(0)
    assert terminal.getvalue() == "step 0/100 (0 %)\n"


# --- cost ---


def test_memory_is_flat(tmp_path):
    log = RunLog(tmp_path, 10**9, quiet=True)

    def run(start, end):
        for step in range(start, end):
            log.episode(step, 1.0, 1)
            log.progress(step, partial(dict, loss=1.0))
            if step % 50 == 0:
                log.scalars(step, {"loss/q": 1.0})

    run(0, 20_000)
    tracemalloc.start()
    run(20_000, 25_000)
    before = tracemalloc.get_traced_memory()[0]
    run(25_000, 60_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    log.close()
    assert grown < 20_000


def test_importing_is_light():
    code = "import sys, rlzoo.reports.log; print({'tensorflow', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


# --- summary ---


def test_summary_is_strict_json(tmp_path):
    logs.write_summary(tmp_path, {"mean_return": 1.0})
    path = logs.write_summary(
        tmp_path,
        {
            "mean_return": np.float32(480.5),
            "returns": np.array([1, 2]),
            "worst": float("-inf"),
            "versions": {"numpy": "2"},
            "run_dir": tmp_path,
            "best": None,
            "pair": (1, 2.0),
        },
    )

    def refuse(text):
        raise ValueError(text)

    assert path == tmp_path / "summary.json"
    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "mean_return": 480.5,
        "returns": [1, 2],
        "worst": None,
        "versions": {"numpy": "2"},
        "run_dir": str(tmp_path),
        "best": None,
        "pair": [1, 2.0],
    }
    assert os.listdir(tmp_path) == ["summary.json"]


class Nameless:
    """What no text can be made of."""

    def __str__(self):
        raise TypeError("nameless")


def test_a_failed_summary_leaves_the_old_one(tmp_path):
    logs.write_summary(tmp_path, {"a": 1})
    with pytest.raises(TypeError, match="nameless"):
        logs.write_summary(tmp_path, {"a": Nameless()})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]
