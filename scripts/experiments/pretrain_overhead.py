"""What pretraining through rlzoo costs beside Keras alone: docs/results/pretrain_overhead.md.

    scripts/learn pretrain-overhead            7 rounds of each case
    scripts/learn pretrain-overhead --quick    sees that it runs; saves nothing

Both sides train the same model, with the same optimiser and compile options, on the same examples,
and validate after each epoch. rlzoo writes metrics and TensorBoard events, watches for signals and
saves checkpoints; Keras does nothing but `fit`. A first epoch, with all compiling, is timed on
neither side. The sides take turns, and so does who comes first.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from rlzoo.pretraining.model import compiled_model
from rlzoo.pretraining.run import pretrain, resolve
from rlzoo.reports import log as logs

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
LIMIT = 1.05  # the ratio that was promised
EPOCHS = 5  # timed in each round
CASES = {
    "conv on mnist": ("mnist", {"augment": False}),
    "lstm on recall": ("recall", {"torso.name": "lstm"}),
}


class Clock(keras.callbacks.Callback):
    """Notes when each epoch has ended."""

    def __init__(self):
        super().__init__()
        self.times = []

    def on_epoch_end(self, epoch, logs=None):
        self.times.append(time.perf_counter())


def with_keras(config) -> float:
    """Returns the seconds of an epoch in one call of `fit`, validation included."""
    task = config.task
    problem = task.problem(config.seed)
    model, _ = compiled_model(config, problem)
    clock = Clock()
    model.fit(
        problem.train.inputs,
        problem.train.targets,
        batch_size=task.batch_size,
        epochs=task.epochs,
        validation_data=(problem.validation.inputs, problem.validation.targets),
        verbose=0,
        callbacks=[clock],
    )
    return (clock.times[-1] - clock.times[0]) / (task.epochs - 1)


def with_rlzoo(config) -> float:
    """Returns the seconds of an epoch, with all that a run leaves behind after each."""
    values = config.plain()
    name = values.pop("task")
    with tempfile.TemporaryDirectory() as folder:
        pretrain(name, overrides=values, run_dir=f"{folder}/run", quiet=True)
        text = Path(folder, "run", logs.METRICS).read_text()
    rows = [line.split(",") for line in text.splitlines()]
    times = [float(row[1]) for row in rows if row[2] == "loss/validation"]
    return (times[-1] - times[0]) / (config.task.epochs - 1)


def measured(case: str, rounds: int, epochs: int) -> dict:
    """Returns the seconds of an epoch on both sides, round by round."""
    name, overrides = CASES[case]
    config = resolve(name, epochs=1 + epochs, overrides={**overrides, "patience": 1 + epochs})
    sides = {"keras": with_keras, "rlzoo": with_rlzoo}
    seconds = {side: [] for side in sides}
    for i in range(rounds):
        for side in sorted(sides, reverse=bool(i % 2)):
            seconds[side].append(round(sides[side](config), 5))
            print(f"{case}, {side}: {seconds[side][-1]:.3f} s/epoch", file=sys.stderr, flush=True)
            keras.backend.clear_session()
    ratios = [r / k for r, k in zip(seconds["rlzoo"], seconds["keras"], strict=True)]
    return {"case": case, **seconds, "ratio": statistics.median(ratios)}


def page(rows: list[dict]) -> list[str]:
    """Returns the lines of docs/results/pretrain_overhead.md."""
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# Pretraining through rlzoo beside a bare `fit`",
        "",
        "`scripts/learn pretrain-overhead`",
        "",
        "Seconds of an epoch with its validation, after the one that compiles: the same model,",
        "optimiser, compile options and examples. rlzoo orders the examples itself, logs, watches",
        "for signals and saves checkpoints; Keras, from NumPy arrays, does nothing but `fit`.",
        f"The sides take turns; each figure is the mean of {EPOCHS} epochs. Ratio: the median over",
        f"the rounds, at most {LIMIT} is the promise. {cores} cores ({platform.machine()}),",
        f"Keras {keras.__version__}, Python {platform.python_version()}.",
        "",
        "| case | Keras, every round | median | rlzoo, every round | median | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["case"]]
        for side in ("keras", "rlzoo"):
            cells.append(", ".join(f"{s:.3f}" for s in row[side]))
            cells.append(f"{statistics.median(row[side]):.3f}")
        lines.append(f"| {' | '.join(cells)} | {row['ratio']:.3f} |")
    kept = sum(row["ratio"] <= LIMIT for row in rows)
    return [*lines, "", f"Within {LIMIT}: {kept} of {len(rows)}."]


def main() -> None:
    """Measures every case, and saves the page unless it is a try."""
    quick = sys.argv[1:] == ["--quick"]
    if sys.argv[1:] and not quick:
        sys.exit("pretrain-overhead: expected --quick or nothing.")
    rows = [measured(case, *((1, 1) if quick else (7, EPOCHS))) for case in CASES]
    print("\n".join(page(rows)))
    if quick:
        print("A try: nothing is saved.")
        return
    result = {"command": "scripts/learn pretrain-overhead", "epochs": EPOCHS, "rows": rows}
    (RESULTS / "pretrain_overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "pretrain_overhead.md").write_text("\n".join(page(rows)) + "\n")


if __name__ == "__main__":
    main()
