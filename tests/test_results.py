"""What docs/results says is what the data beside it says."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"


def test_the_page_on_robustness_is_drawn_from_its_data():
    script = runpy.run_path(str(ROOT / "scripts/experiments/robustness.py"))
    found = json.loads((RESULTS / "robustness.json").read_text())
    assert (RESULTS / "robustness.md").read_text() == "\n".join(script["page"](found)) + "\n"
    for name, result in found.items():
        command, bound = script["PRESETS"][name]
        assert (result["command"], result["bound"]) == (command, bound)
        assert all(row["seed"] >= 100 for row in result["rows"]), "others were tuned on"


def test_mountain_car_is_solved_under_all_instructions():
    rows = json.loads((RESULTS / "robustness.json").read_text())["mountaincar"]["rows"]
    assert len({row["instructions"] for row in rows}) == 3
    assert min(row["best"] for row in rows) >= -110


def test_the_page_on_replay_is_drawn_from_its_data():
    script = runpy.run_path(str(ROOT / "scripts/experiments/replay.py"))
    rows = json.loads((RESULTS / "replay.json").read_text())
    assert (RESULTS / "replay.md").read_text() == script["page"](rows)
    assert len({(row["env"], row["switches"], row["seed"]) for row in rows}) == len(rows)
    assert all(row["seed"] >= 100 for row in rows), "others were tuned on"
