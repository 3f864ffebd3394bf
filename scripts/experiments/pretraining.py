"""Does pretraining help? The experiments behind docs/results/pretraining.md.

    scripts/learn pretraining [CASE ...]

Each case trains an agent with a torso that starts anew, with a pretrained one that stays frozen,
and with a pretrained one that learns on: five seeds each, every one saved as it comes. The page
and the picture are drawn anew from all results there are.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # one process a core
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import gymnasium
import numpy as np

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "pretraining"
RUNS = Path("runs") / "pretraining"  # of the torsos
SEEDS = range(5)
VARIANTS = ("scratch", "frozen", "tuned")
COLORS = {"scratch": "tab:gray", "frozen": "tab:blue", "tuned": "tab:orange"}

CONV = {
    "name": "conv",
    "variant": "small",
    "filters": [8, 16],
    "stride": 2,
    "size": 64,
    "layer_norm": True,
}
LSTM = {"name": "lstm", "units": 32}
DENSE = {"name": "dense", "sizes": [120, 84], "init": "glorot"}
TORSOS = {  # what is pretrained, on which task with which settings
    "digits": ("mnist", {"torso": CONV, "epochs": 25}),
    "recall": ("recall", {"torso": LSTM, "delay": 10, "num_symbols": 2}),
    "foresight": ("predict", {"torso": DENSE, "env": "CartPole-v1"}),
}
DQN = {
    "num_envs": 8,
    "batch_size": 64,
    "replay_capacity": 20_000,
    "learning_starts": 32,
    "train_every": 4,
    "updates_per_chunk": 16,
    "target_update_period": 500,
}


def case(agent: str, env: Any, steps: int, torso: dict, pretrained: str, rates=1e-3, **settings):
    """Returns what a case trains: its settings are those of `--set`."""
    rates = rates if isinstance(rates, dict) else dict.fromkeys(VARIANTS, rates)
    return {
        "agent": agent,
        "env": env,
        "steps": steps,
        "torso": torso,
        "pretrained": pretrained,
        "learning_rates": rates,
        "settings": settings,
    }


def catch_in_bytes(**settings) -> gymnasium.Env:
    """Returns rlzoo/Catch-v0 on a board of 7 x 7, each square of it 4 x 4 pixels, as bytes."""
    env = gymnasium.make("rlzoo/Catch-v0", rows=7, columns=7, **settings)
    space = gymnasium.spaces.Box(0, 255, (28, 28), np.uint8)
    return gymnasium.wrappers.TransformObservation(env, magnified, space)


def magnified(board: np.ndarray) -> np.ndarray:
    """Returns the board [7, 7] of numbers up to 1 as bytes [28, 28]."""
    return (255 * board).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)


def cases() -> dict[str, dict]:
    """Returns every case by name."""
    bandit, sequence, maze = (f"rlzoo/Digit{name}-v0" for name in ("Bandit", "Sequence", "Maze"))
    rates = {"scratch": 2e-3, "frozen": 1e-2, "tuned": 2e-3}
    slower = {"scratch": 1e-3, "frozen": 1e-2, "tuned": 1e-3}
    softmax = {"name": "softmax", "temperature": 0.1}
    policy = {"num_envs": 32, "baseline": False, "normalize_advantages": True}
    often = {"eval_every": 320, "eval_episodes": 200}
    behind = {"name": "lstm", "units": 64, "encoder": CONV}
    return {
        "bandit-reinforce": case(
            "reinforce", bandit, 12_800, CONV, "digits", rates, discount=0.0, **policy, **often
        ),
        "bandit-dqn": case(
            "dqn", bandit, 4_096, CONV, "digits", slower,
            **DQN, eval_every=128, eval_episodes=200, exploration=softmax,
        ),
        "maze-reinforce": case(
            "reinforce", maze, 60_000, CONV, "digits", rates, num_envs=32, entropy_cost=0.01,
            value_updates=4, eval_every=2_000, eval_episodes=100,
        ),
        "maze-dqn": case(
            "dqn", maze, 12_000, CONV, "digits", slower,
            **DQN, discount=0.9, eval_every=480, eval_episodes=100,
        ),
        "memory-reinforce": case(
            "reinforce", "rlzoo/Memory-v0", 60_000, LSTM, "recall", 2e-3,
            eval_every=2_000, eval_episodes=100,
        ),
        "cartpole-dqn": case(
            "dqn", "CartPole-v1", 40_000, DENSE, "foresight", 2.3e-3,
            eval_every=2_000, eval_episodes=20,
        ),
        "catch-dqn": case(
            "dqn", catch_in_bytes, 12_000, CONV, "digits", slower,
            **DQN, eval_every=480, eval_episodes=100,
        ),
        "sequence-reinforce": case(
            "reinforce", sequence, 160_000, behind, "digits", 2e-3, discount=0.0, **policy,
            eval_every=6_400, eval_episodes=20, **{"env.delay": 1},
        ),
    }  # fmt: skip


def pretrained(name: str) -> Path:
    """Returns the folder of a pretraining run, made the first time it is asked for."""
    import rlzoo

    task, settings = TORSOS[name]
    folder = RUNS / name
    if not (folder / "summary.json").exists():
        rlzoo.pretrain(task, run_dir=folder, quiet=True, **settings)
    return folder


def train(job: tuple[str, str, int]) -> dict:
    """Trains one seed of a variant of a case; returns its curve and its final returns."""
    import rlzoo
    from rlzoo.train.logs import series

    name, variant, seed = job
    what = CASES[name]
    start = {"torso": what["torso"]}
    if variant != "scratch":
        start = {"torso_from": RUNS / what["pretrained"], "freeze": variant == "frozen"}
        if "encoder" in what["torso"]:
            start["torso"] = {k: v for k, v in what["torso"].items() if k != "encoder"}
    overrides = {**what["settings"], "learning_rate": what["learning_rates"][variant]}
    num_envs = overrides.pop("num_envs", None)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = rlzoo.train(
            what["agent"], what["env"], steps=what["steps"], num_envs=num_envs, seed=seed,
            overrides=overrides, run_dir=f"{folder}/run", quiet=True, **start,
        )  # fmt: skip
        curve = series(run.dir, "eval/return")
        row = {"seed": seed, "best": run.summary["mean_return"]}
        if str(what["env"]).startswith("rlzoo/Digit"):  # on images that nothing was trained on
            env = partial(gymnasium.make, what["env"], split="test")
            row["unseen"] = rlzoo.evaluate(run.dir, env=env, episodes=200).mean_return
    return {
        **row,
        "last": run.summary["last_mean_return"],
        "seconds": round(time.perf_counter() - started, 1),
        "curve": [(int(step), round(value, 4)) for step, value in curve],
    }


CASES = cases()


def main() -> None:
    """Runs the cases that are named, or all."""
    names = sys.argv[1:] or list(CASES)
    for name in names:
        if name not in CASES:
            sys.exit(f"Unknown case {name!r}. Known: {', '.join(CASES)}.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for torso in dict.fromkeys(CASES[name]["pretrained"] for name in names):
            pool.apply(pretrained, (torso,))
        for name in names:
            jobs = [(name, variant, seed) for variant in VARIANTS for seed in SEEDS]
            rows: dict[str, list] = {variant: [] for variant in VARIANTS}
            for job, row in zip(jobs, pool.imap(train, jobs), strict=True):
                rows[job[1]].append(row)
                shown = {key: value for key, value in row.items() if key != "curve"}
                print(name, job[1], json.dumps(shown), file=sys.stderr, flush=True)
                text = json.dumps({**described(name), "rows": rows}) + "\n"
                (RESULTS / f"{name}.json").write_text(text)
    write_page()


def described(name: str) -> dict:
    """Returns a case as a file can hold it."""
    what = {**CASES[name]}
    if callable(what["env"]):
        what["env"] = what["env"].__name__
    return what


def write_page() -> None:
    """Writes docs/results/pretraining.md and its picture from every result there is."""


if __name__ == "__main__":
    main()
