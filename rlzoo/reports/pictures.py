"""Pictures of supervised runs: confusion matrix, mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.storage.files import replacing

_MISTAKES = (4, 6)  # rows and columns of images


def draw_confusion(
    run_dir: Path, targets: np.ndarray, found: np.ndarray, classes: Sequence[str]
) -> Path:
    """Draws how often each class was taken for which, to `confusion.png`.

    Args:
        run_dir: the run's folder.
        targets: [n, ...] int, the true classes.
        found: [n, ...] int, the network's.
        classes: their names.
    """
    counts = confusion_matrix(targets, found, len(classes))
    axes = _figure(6.4, 5.8).add_subplot()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 30:
        names = [repr(name)[1:-1] for name in classes]
        axes.set_xticks(range(len(classes)), names)
        axes.set_yticks(range(len(classes)), names)
        for row, column in np.argwhere(counts):
            dark = share[row, column] > 0.5
            axes.text(
                column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8,
                color="white" if dark else "black",
            )  # fmt: skip
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"test set: {100 * accuracy:.2f} % right of {counts.sum():,}")
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("truth")
    return _save(axes.figure, run_dir / "confusion.png")


def draw_mistakes(
    run_dir: Path,
    images: np.ndarray,
    targets: np.ndarray,
    logits: np.ndarray,
    classes: Sequence[str],
) -> Path:
    """Draws the images that the network got most wrong, the worst first, to `mistakes.png`.

    Args:
        run_dir: the run's folder.
        images: [n, height, width] or [n, height, width, channels] uint8.
        targets: [n] int, the true classes.
        logits: [n, classes] float, the network's outputs.
        classes: their names.
    """
    probabilities = _softmax(logits)
    found: np.ndarray = logits.argmax(-1)
    wrong = np.flatnonzero(found != targets)
    worst = wrong[np.argsort(probabilities[wrong, targets[wrong]], kind="stable")]
    rows, columns = _MISTAKES
    figure = _figure(1.45 * columns, 1.75 * rows + 0.5)
    figure.suptitle(f"{len(wrong)} of {len(targets):,} test images misclassified")
    axes: Any = None
    for place in range(rows * columns):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.axis("off")
        if place < len(worst):
            i = int(worst[place])
            axes.imshow(images[i], cmap="gray", vmin=0, vmax=255)
            sure = 100 * probabilities[i, found[i]]
            axes.set_title(
                f"{classes[found[i]]} ({sure:.0f} %), is {classes[targets[i]]}", fontsize=9
            )
    return _save(axes.figure, run_dir / "mistakes.png")


def confusion_matrix(targets: np.ndarray, found: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns [num_classes, num_classes] int64: how often row was taken for column."""
    cells = targets.reshape(-1).astype(np.int64) * num_classes + found.reshape(-1)
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # slow to import, and only needed here

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    with replacing(path) as file:
        figure.savefig(file.buffer, format="png")
    return path
