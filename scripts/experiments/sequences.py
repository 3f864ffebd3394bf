"""How well the torsos learn the sequence tasks: docs/results/sequences.md.

    scripts/learn sequences                   everything, half an hour on one core
    scripts/learn sequences adding-lstm       some of the cases

Each run writes docs/results/sequences.json as it ends; the page is drawn anew from it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import rlzoo

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
FILE = RESULTS / "sequences.json"
SEEDS = range(3)


class Case(NamedTuple):
    """A task and how it is learned."""

    words: str
    task: str
    settings: str  # as the command line takes them
    figure: str  # in the summary
    wanted: str = ""


MSE, ACCURACY = "test_loss", "test_accuracy"
CASES = {
    "adding-lstm": Case("LSTM, as by default", "adding", "", MSE, "below 0.01"),
    "adding-lstm-plain": Case(
        "LSTM without chrono initialisation", "adding", "--set torso.chrono=null", MSE
    ),
    "adding-rnn": Case("plain RNN", "adding", "--torso rnn", MSE, "above 0.1"),
    "adding-rnn-slow": Case(
        "plain RNN, a tenth of the learning rate",
        "adding",
        "--torso rnn --set learning_rate=0.001",
        MSE,
        "above 0.1",
    ),
    "recall-lstm": Case("LSTM, as by default", "recall", "", ACCURACY, "0.99 or more"),
    "forecast-gru": Case("GRU, as by default", "forecast", "", "test_skill"),
    "forecast-dense": Case("dense", "forecast", "--torso dense", "test_skill"),
    "characters-lstm": Case("LSTM, as by default", "characters", "", "test_bits_per_character"),
}
ABOUT = {
    "adding": [
        "Add the two marked numbers of 200; always answering 1 has an error of 0.167. The LSTM",
        "needs a memory that lasts from the start (`torso.chrono`): without it, it learns nothing",
        "in the same time.",
    ],
    "recall": ["Name the symbol, one of 8, that was seen 51 steps before."],
    "forecast": [
        "The embedded series (Mackey & Glass 1977), one step ahead. Skill: 1 is perfect, 0 is no",
        "better than the last value seen.",
    ],
    "characters": ["The embedded text, one character ahead at every step."],
}
TITLES = {
    MSE: "mean squared error",
    ACCURACY: "accuracy",
    "test_skill": "skill",
    "test_bits_per_character": "bits per character",
}


def run(case: Case, seed: int) -> dict[str, Any]:
    """Trains once; returns what was reached, and how."""
    words = case.settings.split()
    flags = dict(zip(words[::2], words[1::2], strict=True))
    with tempfile.TemporaryDirectory() as folder:
        summary = rlzoo.pretrain(
            case.task,
            torso=flags.get("--torso"),
            overrides=[flags["--set"]] if "--set" in flags else (),
            seed=seed,
            run_dir=f"{folder}/run",
            quiet=True,
        ).summary
    kept = [key for key in summary if key.startswith("test_")]
    kept += ["epochs", "best_epoch", "examples", "seconds", "versions"]
    return {"seed": seed, **{key: summary[key] for key in kept}}


def main() -> None:
    """Runs the cases that are named, or all."""
    names = sys.argv[1:] or list(CASES)
    for name in names:
        if name not in CASES:
            sys.exit(f"Unknown case {name!r}. Known: {', '.join(CASES)}.")
    for seed in SEEDS:
        for name in names:
            row = run(CASES[name], seed)
            print(name, json.dumps(row), file=sys.stderr, flush=True)
            results = json.loads(FILE.read_text()) if FILE.exists() else {}
            rows = [r for r in results.get(name, []) if r["seed"] != seed]
            results[name] = sorted([*rows, row], key=lambda r: r["seed"])
            results = {name: results[name] for name in CASES if name in results}
            FILE.write_text(json.dumps(results) + "\n")
            (RESULTS / "sequences.md").write_text("\n".join(page(results)) + "\n")


def page(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Returns the lines of docs/results/sequences.md."""
    lines = [
        "# Sequence tasks",
        "",
        "`scripts/learn sequences`; the tasks' own settings unless said otherwise. The figure is",
        "that of the test set, with the weights of the best epoch (by validation accuracy where",
        "there are classes, else by loss); `seconds` are those spent in `fit`, on one core of a",
        "machine that did other things too.",
        "",
    ]
    for task in dict.fromkeys(case.task for case in CASES.values()):
        lines += [f"## {task}", "", *ABOUT[task], ""]
        for name, rows in results.items():
            case = CASES[name]
            if case.task != task:
                continue
            command = " ".join(["rlzoo pretrain", task, case.settings]).strip()
            wanted = f" Wanted: {case.wanted}." if case.wanted else ""
            lines += [f"{case.words}: `{command} --seed S`.{wanted}", ""]
            lines += [
                f"| seed | {TITLES[case.figure]} | best epoch | seconds |",
                "|---|---|---|---|",
            ]
            for r in rows:
                epochs = f"{r['best_epoch']} of {r['epochs']}"
                value = f"{r[case.figure]:.5f}"
                lines.append(f"| {r['seed']} | {value} | {epochs} | {r['seconds']:.0f} |")
            lines.append("")
    return lines[:-1]


if __name__ == "__main__":
    main()
