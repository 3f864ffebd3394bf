"""The two pictures at the top of the README, of a real run.

    scripts/learn pictures

Trains DQN on CartPole-v1 with its preset and five seeds, one after the other (a few minutes), into
runs/pictures; a seed that is there already is left alone. Writes docs/images/cartpole.png, the
curve of all seeds, and docs/images/cartpole.gif, an episode of the first seed's best agent.
"""

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from PIL import Image, ImageSequence

import rlzoo
from rlzoo.reports import aggregate

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
RUNS = Path("runs") / "pictures"
SEEDS = range(100, 105)
SIZE = (300, 200)
EVERY = 2  # of the frames
COLORS = 16


def main() -> None:
    """Trains what is not trained yet, and draws."""
    runs = {seed: RUNS / f"s{seed}" for seed in SEEDS}
    for seed, folder in runs.items():
        if not (folder / "summary.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            rlzoo.train("dqn", "CartPole-v1", seed=seed, run_dir=folder)
    summary = aggregate.write(RUNS, runs)
    IMAGES.mkdir(exist_ok=True)
    shutil.copyfile(RUNS / "curve.png", IMAGES / "cartpole.png")
    outcome = rlzoo.record(runs[SEEDS[0]], RUNS / "episode.gif")
    shorten(RUNS / "episode.gif", IMAGES / "cartpole.gif")
    print(f"best {summary['best']}, last {summary['last']}; episode: {outcome.returns}")


def shorten(source: Path, target: Path) -> None:
    """Writes every second frame of a GIF, smaller and in few colours, at the same speed."""
    with Image.open(source) as gif:
        wait = gif.info["duration"] * EVERY  # ms
        frames = [
            frame.convert("RGB").resize(SIZE).quantize(COLORS)
            for i, frame in enumerate(ImageSequence.Iterator(gif))
            if i % EVERY == 0
        ]
    frames[0].save(
        target, save_all=True, append_images=frames[1:], duration=wait, loop=0, optimize=True
    )


if __name__ == "__main__":
    main()
