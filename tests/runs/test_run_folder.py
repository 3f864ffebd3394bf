"""The page about the run folder names all that a run leaves."""

import csv
import fnmatch
import json
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "run-folder.md"


def test_the_page_names_every_file_tag_and_field_of_a_run(run):
    named = re.findall(r"`([^`\n]+)`", PAGE.read_text())
    names = [re.sub(r"<.*?>|(?<=-)N(?=/)", "*", name).rstrip("/") for name in named]
    files = {path.name for path in run.dir.iterdir()} - {"checkpoints"}
    files |= {f"checkpoints/{path.name}" for path in (run.dir / "checkpoints").iterdir()}
    with open(run.dir / "metrics.csv") as file:
        tags = {row["tag"] for row in csv.DictReader(file)}
    fields = set(json.loads((run.dir / "summary.json").read_text()))
    for name in files | tags | fields:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in names), name
