"""Seconds from the command to a solved CartPole-v1: docs/results/time_to_solved.md.

    scripts/learn time-to-solved              seeds 0 to 4
    scripts/learn time-to-solved 3            one of them

Solved: an evaluation of 20 greedy episodes on Gymnasium's CartPole-v1 with a mean return of 475.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
COMMAND = "rlzoo train dqn CartPole-v1 --loop graph"
THRESHOLD = 475
LIMIT = 30  # seconds asked for


def timed(seed: int) -> dict:
    """Runs the command in a process of its own; returns what it took and what it reached."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rlzoo.cli", *COMMAND.split()[1:]]
        command += ["--seed", str(seed), "--run-dir", f"{folder}/run"]
        before, started = time.time(), time.perf_counter()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
        text = Path(folder, "run", "metrics.csv").read_text()
    table = [line.split(",") for line in text.splitlines()]
    evaluations = [row for row in table if row[2] == "eval/return"]
    reached = next((row for row in evaluations if float(row[3]) >= THRESHOLD), None)
    return {
        "seed": seed,
        "seconds": round(seconds, 2),
        "reached_at": reached and int(reached[0]),
        "reached_after": reached and round(float(reached[1]) - before, 2),
        "steps": summary["steps"],
        "best": summary["mean_return"],
        "last": summary["last_mean_return"],
    }


def main() -> None:
    """Times the seeds that are named, or all, and draws the page."""
    file = RESULTS / "time_to_solved.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for seed in map(int, sys.argv[1:] or range(5)):
        row = timed(seed)
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows = sorted([*(r for r in rows if r["seed"] != seed), row], key=lambda r: r["seed"])
        result = {"command": f"{COMMAND} --seed S", "threshold": THRESHOLD, "rows": rows}
        file.write_text(json.dumps(result) + "\n")
    (RESULTS / "time_to_solved.md").write_text("\n".join(page(rows)) + "\n")


def page(rows: list[dict]) -> list[str]:
    """Returns the lines of docs/results/time_to_solved.md."""
    cores = len(os.sched_getaffinity(0))
    in_time = [r for r in rows if r["best"] >= THRESHOLD and r["seconds"] <= LIMIT]
    lines = [
        "# From the command to a solved CartPole-v1",
        "",
        f"`{COMMAND} --seed S`, timed by `scripts/learn time-to-solved`",
        "",
        "`seconds` is the whole command as a user starts it, to its end: imports, compiling,",
        "50,000 steps with the preset, 20 evaluations and checkpoints, summary and curve.",
        "`reached` is the first evaluation with a mean return of 475 or more over 20 greedy",
        "episodes on Gymnasium's own CartPole-v1, by step and by seconds since the command was",
        "started. `best` is the best checkpoint, the one that `rlzoo evaluate` takes, and `last`",
        "the final weights, both over 20 fresh episodes.",
        f"Each seed alone on {cores} cores ({platform.machine()}); TensorFlow had been imported on",
        "the machine before, so its byte code was written and its files were in memory.",
        "",
        "| seed | seconds | reached at step | reached after | best | last |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        at, after = "never", "never"
        if r["reached_at"] is not None:
            at, after = f"{r['reached_at']:,}", f"{r['reached_after']:.1f} s"
        lines.append(
            f"| {r['seed']} | {r['seconds']:.1f} | {at} | {after} | {r['best']:.2f} "
            f"| {r['last']:.2f} |"
        )
    text = f"Solved, and the command over, within {LIMIT} s: {len(in_time)} of {len(rows)} seeds."
    return [*lines, "", text]


if __name__ == "__main__":
    main()
