"""Vanishing gradients, shown by the task recall: docs/results/vanishing_gradients.md.

    scripts/learn vanishing                   everything, about 15 minutes on two cores
    scripts/learn vanishing lstm gru          some of the torsos

Each run writes docs/results/vanishing_gradients.json as it ends; what is there is not run again.
The page and the picture are drawn anew from it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

import rlzoo
from rlzoo.tasks.recall import Recall
from rlzoo.train.config import make_torso

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
FILE = RESULTS / "vanishing_gradients.json"
SEEDS = range(3)
DELAYS = (10, 50, 100, 200)
TORSOS: dict[str, tuple[str, dict[str, Any], str]] = {  # words, torso, colour
    "rnn": ("plain RNN", {"name": "rnn"}, "tab:red"),
    "gru": ("GRU", {"name": "gru"}, "tab:orange"),
    "lstm": ("LSTM", {"name": "lstm"}, "tab:blue"),
    "lstm-chrono": ("LSTM, chrono 200", {"name": "lstm", "chrono": 200}, "tab:green"),
}
BUDGET = {"epochs": 5, "patience": 5, "batch_size": 32, "examples": 6_400}  # 1,000 steps
SAMPLE = 64  # sequences that gradients are averaged over
SAID: list[str] = []  # what the figures say
SMALLEST = float(np.finfo(np.float32).tiny)  # of float32, in which networks train


def gradients(torso: dict[str, Any], delay: int, seed: int, weights: list | None = None) -> list:
    """Returns the mean norm of d loss / d input, from the last step back to the first.

    In float64: what is 0 in float32 shows too.

    Args:
        torso: its name and parameters.
        delay: of the task.
        seed: of weights and data.
        weights: of the torso and the head, after training; by default those at its start.
    """
    problem = Recall(delay=delay, examples=4 * SAMPLE).problem(seed)
    obs, symbols = problem.train.inputs["obs"][:SAMPLE], problem.train.targets[:SAMPLE]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        walk = keras.layers.RNN(make_torso(torso, seed))
        head = problem.head(seed)
        model = keras.Sequential([keras.Input(obs.shape[1:], dtype="float64"), walk, head])
    finally:
        keras.config.set_dtype_policy(before)
    if weights is not None:
        model.set_weights(weights)

    @tf.function
    def gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            logits = model(inputs)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(symbols, logits))
        return tape.gradient(loss, inputs)

    found = gradient(tf.constant(obs, tf.float64))
    norms = np.linalg.norm(found, axis=-1).mean(0)  # [delay + 2]
    return [float(f"{norm:.4g}") for norm in norms[::-1]]


def run(torso: dict[str, Any], delay: int, seed: int) -> dict[str, Any]:
    """Trains once; returns the accuracy, and the gradients before and after."""
    with tempfile.TemporaryDirectory() as folder:
        trained = rlzoo.pretrain(
            "recall", torso=torso, seed=seed, delay=delay, run_dir=f"{folder}/run", quiet=True,
            **BUDGET,
        )  # fmt: skip
    return {
        "delay": delay,
        "seed": seed,
        "accuracy": round(trained.summary["test_accuracy"], 4),
        "start": gradients(torso, delay, seed),
        "end": gradients(torso, delay, seed, trained.model.get_weights()),
    }


def main() -> None:
    """Runs the torsos that are named, or all."""
    names = sys.argv[1:] or list(TORSOS)
    for name in names:
        if name not in TORSOS:
            sys.exit(f"Unknown torso {name!r}. Known: {', '.join(TORSOS)}.")
    for seed in SEEDS:
        for name in names:
            for delay in DELAYS:
                if any((r["delay"], r["seed"]) == (delay, seed) for r in read().get(name, [])):
                    continue
                row = run(TORSOS[name][1], delay, seed)
                print(
                    name,
                    delay,
                    seed,
                    row["accuracy"],
                    row["start"][-1],
                    file=sys.stderr,
                    flush=True,
                )
                results = read()
                results[name] = [*results.get(name, []), row]
                results = {name: results[name] for name in TORSOS if name in results}
                FILE.write_text(json.dumps(results) + "\n")
    draw(read())
    (RESULTS / "vanishing_gradients.md").write_text("\n".join(page(read())) + "\n")


def read() -> dict[str, list[dict[str, Any]]]:
    """Returns the runs of each torso so far."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def draw(results: dict[str, list[dict[str, Any]]]) -> None:
    """Draws gradients against steps back, and accuracy against delay."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 5.2), dpi=110, layout="constrained")
    left: Any = figure.add_subplot(1, 2, 1)
    right: Any = figure.add_subplot(1, 2, 2)
    longest = max(DELAYS)
    for name, rows in results.items():
        words, _, color = TORSOS[name]
        curves = np.array([row["start"] for row in rows if row["delay"] == longest])
        for curve in curves:
            left.plot(np.maximum(curve, 1e-300), color=color, linewidth=0.8, alpha=0.4)
        if len(curves):
            left.plot(geometric_mean(curves), color=color, linewidth=2.2, label=words)
        delays = [delay for delay in DELAYS if cells(rows, delay, "accuracy")]
        means = [np.mean(cells(rows, delay, "accuracy")) for delay in delays]
        right.plot(delays, means, color=color, linewidth=2.2, label=words)
        points = [(row["delay"], row["accuracy"]) for row in rows]
        right.scatter(*zip(*points, strict=True), color=color, s=28, alpha=0.7, zorder=3)
    left.axhline(SMALLEST, color="gray", linestyle=":", linewidth=1.5)
    left.text(
        longest,
        SMALLEST * 3,
        "float32 ends here",
        color="gray",
        ha="right",
        va="bottom",
        fontsize=9,
    )
    left.set_yscale("log")
    left.set_title(f"Before training, delay {longest}")
    left.set_xlabel("steps back from the answer")
    left.set_ylabel("norm of d loss / d input")
    right.axhline(1 / 8, color="gray", linestyle=":", linewidth=1.5)
    right.text(DELAYS[0], 1 / 8 + 0.01, "guessing", color="gray", va="bottom", fontsize=9)
    right.set_title("After 1,000 gradient steps")
    right.set_xlabel("delay in steps")
    right.set_ylabel("test accuracy")
    right.set_xticks(DELAYS)
    right.set_ylim(0.0, 1.04)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left" if axes is left else "center left", framealpha=0.9)
    figure.suptitle("Recall: name the symbol seen at the start; thin lines and dots are seeds")
    figure.savefig(RESULTS / "vanishing_gradients.png")


def page(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Returns the lines of docs/results/vanishing_gradients.md."""
    heads = [f"| torso | {' | '.join(f'delay {delay}' for delay in DELAYS)} |"]
    heads += [f"|---|{'---|' * len(DELAYS)}"]
    return [
        "# Vanishing gradients",
        "",
        "`scripts/learn vanishing`",
        "",
        "The task `recall`: a symbol, one of 8; `delay` steps of noise; then the question which",
        "it was. Torsos of 64 units with the weights they start with in rlzoo: glorot for inputs,",
        "orthogonal for states, and for the LSTM a forget bias of 1. `chrono 200` is the LSTM with",
        "biases that make its units forget at paces from 2 to 200 steps (Tallec & Ollivier 2018).",
        f"{len(SEEDS)} seeds.",
        "",
        "![gradient norms before training, and accuracy after it](vanishing_gradients.png)",
        "",
        *SAID,
        "",
        "## The gradient that reaches the symbol, before training",
        "",
        "The norm of d loss / d input at the first step, mean over 64 sequences, geometric mean of",
        "the seeds. Computed in float64; networks train in float32, where nothing is smaller than",
        "about 1e-45 and, from 1e-38 down, digits are lost.",
        "",
        *heads,
        *(
            line(name, rows, lambda found: f"{found:.0e}", "start")
            for name, rows in results.items()
        ),
        "",
        "## Accuracy on the test set after 1,000 gradient steps, every seed",
        "",
        "Adam at 3e-3, falling along a cosine; batches of 32, 6,400 sequences, 5 epochs; the best",
        "of the 5 by validation loss, tested on 1,600 others. Guessing is right in 0.125.",
        "",
        *heads,
        *(accuracies(name, rows) for name, rows in results.items()),
        "",
        "## The gradient that reaches the symbol, after training",
        "",
        "As above. A network that has learned to be sure has small gradients at every step, so",
        "these are relative: to the gradient at the last step.",
        "",
        *heads,
        *(line(name, rows, lambda found: f"{found:.0e}", "end") for name, rows in results.items()),
    ]


def line(name: str, rows: list[dict[str, Any]], text: Any, key: str) -> str:
    """Returns a row of a table of gradients."""
    shown = []
    for delay in DELAYS:
        curves = np.array(cells(rows, delay, key))
        if not len(curves):
            shown.append("")
            continue
        found = geometric_mean(curves)
        shown.append(text(found[-1] / found[0] if key == "end" else found[-1]))
    return f"| {TORSOS[name][0]} | {' | '.join(shown)} |"


def accuracies(name: str, rows: list[dict[str, Any]]) -> str:
    """Returns a row of the table of accuracies."""
    shown = [", ".join(f"{x:.3f}" for x in cells(rows, delay, "accuracy")) for delay in DELAYS]
    return f"| {TORSOS[name][0]} | {' | '.join(shown)} |"


def cells(rows: list[dict[str, Any]], delay: int, key: str) -> list:
    """Returns what every seed found at a delay."""
    return [row[key] for row in sorted(rows, key=lambda r: r["seed"]) if row["delay"] == delay]


def geometric_mean(curves: np.ndarray) -> np.ndarray:
    """Returns the geometric mean over the first axis."""
    return np.exp(np.log(np.maximum(curves, 1e-300)).mean(0))


if __name__ == "__main__":
    main()
