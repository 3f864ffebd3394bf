"""MNIST through `rlzoo pretrain`: the embedded images, and the whole set. Every run as it comes.

scripts/learn mnist [FOLDER]    FOLDER with the whole set, as `--data` takes it
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
CASES = {  # arguments, seeds, least accuracy and most seconds wanted
    "embedded images, conv": ("", range(3), 0.975, 180),
    "whole set, conv, augmented": (
        "--data FOLDER --epochs 15 --set batch_size=64",
        range(1),
        0.993,
        1_200,
    ),
    "whole set, lstm": (
        "--torso lstm --data FOLDER --epochs 15 --set batch_size=64",
        range(1),
        0.985,
        1_200,
    ),
}


def main() -> None:
    """Runs every case that there is data for, and writes docs/results/mnist.md."""
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    path = RESULTS / "mnist.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, (arguments, seeds, _, _) in CASES.items():
        if "FOLDER" in arguments and folder is None:
            continue
        results[name] = []
        for seed in seeds:
            words = arguments.replace("FOLDER", folder or "").split()
            with tempfile.TemporaryDirectory() as run:
                command = [sys.executable, "-m", "rlzoo.cli", "pretrain", "mnist", *words]
                command += ["--seed", str(seed), "--run-dir", f"{run}/run", "--json"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = {key: v for key, v in json.loads(done.stdout).items() if key != "run_dir"}
            results[name].append(row)
            print(name, json.dumps(row), file=sys.stderr, flush=True)
            path.write_text(json.dumps(results, indent=1) + "\n")
    write_page(results)


def write_page(results: dict) -> None:
    """Writes docs/results/mnist.md."""
    lines = [
        "# MNIST",
        "",
        "`scripts/learn mnist FOLDER`, the folder holding the whole set as four idx files. The",
        "test accuracy is that of the best epoch by validation accuracy; `seconds` are those spent",
        f"in `fit`, validation included, on {len(os.sched_getaffinity(0))} cores (which did other",
        "things too: no run was timed alone).",
        "",
        "| case | command | seed | test accuracy | wanted | epochs | seconds | at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        arguments, _, accuracy, seconds = CASES[name]
        for row in rows:
            lines.append(
                f"| {name} | `rlzoo pretrain mnist {arguments}".rstrip() + "` "
                f"| {row['seed']} | {row['test_accuracy']:.4f} | {accuracy} | {row['epochs']} "
                f"| {row['seconds']:.0f} | {seconds} |"
            )
    (RESULTS / "mnist.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
