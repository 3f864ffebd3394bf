"""Does pretraining help? The experiments behind docs/results/pretraining.md.

    scripts/learn pretraining [CASE ...]

Each case trains an agent with a torso that starts anew, with a pretrained one that stays frozen,
and with a pretrained one that learns on: five seeds each, every one saved as it comes. The page
and the picture are drawn anew from all results there are.
"""

import json
import math
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

from rlzoo.reports.aggregate import bootstrap_interval, interquartile_mean

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
    "max_pool": False,
    "size": 64,
    "layer_norm": True,
}
LSTM = {"name": "lstm", "units": 32}
DENSE = {"name": "dense", "sizes": [120, 84], "init": "glorot"}
TORSOS = {  # what is pretrained, on which task with which settings
    "digits": ("mnist", {"torso": CONV}),
    "recall": ("recall", {"torso": LSTM, "delay": 10, "num_symbols": 2}),
    "foresight": ("predict", {"torso": DENSE, "env": "CartPole-v1"}),
}
CATCH = {  # those of the preset for DigitMaze, but for the discount
    "num_envs": 8,
    "batch_size": 64,
    "replay_capacity": 20_000,
    "learning_starts": 32,
    "train_every": 4,
    "updates_per_chunk": 8,
    "target_update_period": 100,
    "double_q": True,
    "exploration": {
        "name": "epsilon_greedy",
        "epsilon": {"name": "linear", "start": 1.0, "end": 0.1, "steps": 6_000},
    },
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
    slower = {"scratch": 1e-3, "frozen": 3e-3, "tuned": 1e-3}
    faster = {"scratch": 2e-3, "frozen": 5e-3, "tuned": 5e-3}
    softmax = {"name": "softmax", "temperature": 0.1}
    sooner = {"name": "linear", "start": 1.0, "end": 0.05, "steps": 300}
    eager = {"name": "epsilon_greedy", "epsilon": sooner}
    behind = {"name": "lstm", "units": 64, "encoder": CONV}
    return {
        "bandit-reinforce": case(
            "reinforce", bandit, 12_800, CONV, "digits", rates, eval_every=320, eval_episodes=200
        ),
        "bandit-dqn": case(
            "dqn", bandit, 6_144, CONV, "digits", rates, eval_every=192, eval_episodes=200
        ),
        "bandit-dqn-eager": case(
            "dqn", bandit, 3_072, CONV, "digits", rates, eval_every=96, eval_episodes=200,
            updates_per_chunk=32, exploration=eager,
        ),
        "bandit-dqn-softmax": case(
            "dqn", bandit, 6_144, CONV, "digits", {**slower, "frozen": 1e-2}, eval_every=192,
            eval_episodes=200, exploration=softmax,
        ),
        "maze-reinforce": case(
            "reinforce", maze, 60_000, CONV, "digits", 4e-3, eval_every=2_000, eval_episodes=100
        ),
        "maze-dqn": case(
            "dqn", maze, 16_000, CONV, "digits", slower, eval_every=640, eval_episodes=100
        ),
        "sequence-reinforce": case(
            "reinforce", sequence, 160_000, behind, "digits", faster, eval_every=6_400,
            eval_episodes=20, **{"env.delay": 1},
        ),
        "sequence-dqn": case(
            "dqn", sequence, 16_000, behind, "digits", 2e-3, eval_every=640,
            eval_episodes=20, **{"env.delay": 1},
        ),
        "memory-reinforce": case(
            "reinforce", "rlzoo/Memory-v0", 60_000, LSTM, "recall", 2e-3,
            eval_every=2_000, eval_episodes=100,
        ),
        "catch-dqn": case(
            "dqn", catch_in_bytes, 16_000, CONV, "digits", slower, **CATCH,
            eval_every=640, eval_episodes=100,
        ),
        "cartpole-dqn": case(
            "dqn", "CartPole-v1", 40_000, DENSE, "foresight", 2.3e-3,
            eval_every=2_000, eval_episodes=20,
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
    from rlzoo.reports.log import series

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
    found = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in CASES
        if (RESULTS / f"{name}.json").exists()
    }
    figures = {name: measured(result) for name, result in found.items()}
    draw(found, figures)
    lines = [*INTRODUCTION, "", *HEADING]
    for name, result in found.items():
        for variant in VARIANTS:
            lines.append(summary_line(name, variant, result, figures[name]))
    lines += ["", "![Curves of every case](pretraining.png)", ""]
    for name, result in found.items():
        lines += section(name, result, figures[name])
    (RESULTS.parent / "pretraining.md").write_text("\n".join(lines).rstrip() + "\n")


INTRODUCTION = """\
# Does pretraining help?

`scripts/learn pretraining [CASE ...]`: each case trains an agent with a torso that starts anew
(`scratch`), with a pretrained one whose weights stay (`frozen`), and with a pretrained one that
learns on (`tuned`). Five seeds each, every one below. The settings are the presets of the agent for
the environment, and what is named below; they are the same in the three variants but for the
learning rate, which is in the table; for the bandit, the maze and the sequence we chose it for each
variant by a few trials on other seeds, which are not kept.

- `area`: the mean of all evaluations along the training, evenly spaced: the area under the
  learning curve, as a return. Interquartile mean over seeds and its 95 % bootstrap interval.
- `steps to 90 %`: median over seeds of the environment steps before the first evaluation that
  reaches 90 % of the best return that any variant's mean curve reaches (from the worst return seen
  upwards where returns are negative), and how many of the five seeds reach it at all.
- `unseen`: the best checkpoint on 200 episodes with images that neither pretraining nor the agent
  was shown.

What pretraining itself costs is not counted: `digits` is MNIST, 3,600 labelled images, 40 epochs
(test accuracy 0.968; the agents of the digit environments are shown the same images, and 400 more,
without labels); `recall` 6,400 sequences; `foresight` 16,000 random steps of CartPole, which would
be steps of the environment too. One pretrained torso, of seed 0, serves all five seeds of a case.

Where it helps:

- DigitBandit: REINFORCE comes to 90 % in 2,240 steps instead of 9,920 (4.4 times fewer), frozen or
  not. DQN, whose replay uses every step many times, needs few from scratch: 1,536, against 960
  frozen (1.6 times fewer) and 1,344 tuned; with four times the gradient steps and an epsilon that
  falls sooner (`bandit-dqn-eager`) 1,344, 768 and 768. In the end all three are alike.
- DigitSequence: the conv torso comes before an LSTM, which starts anew. REINFORCE comes to 90 % in
  44,800 steps with a frozen one, and in 160,000 never from scratch; DQN in 3,840 instead of 8,320.
- DigitMaze, with a torso that learns on: 8,132 steps instead of 14,129 with REINFORCE, 6,400
  instead of 8,320 with DQN.
- Memory: an LSTM that has learned `recall` does it from the first evaluation on.
- In `bandit-reinforce`, both epsilon-greedy cases of DQN on the bandit, and both sequence cases the
  answers are also right more often on unseen images.

Where it does not:

- DigitMaze, with a frozen torso: where to go is learned as slowly as from scratch, or more slowly.
- DQN on DigitBandit with softmax at a low temperature (learning rates carried over from earlier
  trials) is no better with a frozen torso, and worse with one that learns on: some seeds never come
  to answer some digits. We think that they never try the right answer for these, as frozen and with
  a falling epsilon, all else the same, it is gone. On DigitSequence the same softmax does no harm.
- Catch, another image: frozen features of digits are a burden; free to learn they neither help nor
  harm.
- CartPole: features that foresee the next observation do not tell how to balance. Frozen, no seed
  gets there (the best one has 305); free to learn, they are as good as a new torso.""".split("\n")
HEADING = (
    "| case | torso | learning rate | area | steps to 90 % | last | unseen |",
    "|---|---|---|---|---|---|---|",
)


def measured(result: dict) -> dict[str, dict]:
    """Returns for each variant the area under each seed's curve, and when it came to 90 %."""
    curves = {
        variant: [np.array(row["curve"]) for row in rows]
        for variant, rows in result["rows"].items()
    }
    length = min(len(curve) for rows in curves.values() for curve in rows)
    means = [np.mean([c[:length, 1] for c in rows], axis=0) for rows in curves.values() if rows]
    low = min(0.0, min(float(mean.min()) for mean in means))
    target = low + 0.9 * (max(float(mean.max()) for mean in means) - low)
    figures = {}
    for variant, rows in curves.items():
        reached = [next((int(s) for s, value in c if value >= target), None) for c in rows]
        figures[variant] = {
            "area": [float(c[:, 1].mean()) for c in rows],
            "reached": reached,
            "target": target,
        }
    return figures


def median_steps(reached: list) -> str:
    """Returns the median of the steps, a seed that never came counting as infinitely late."""
    middle = sorted(math.inf if step is None else step for step in reached)[len(reached) // 2]
    count = sum(step is not None for step in reached)
    return f"{'never' if middle == math.inf else f'{middle:,}'} ({count} of {len(reached)})"


def summary_line(name: str, variant: str, result: dict, figures: dict) -> str:
    """Returns a variant's line in the table at the top."""
    rows, mine = result["rows"][variant], figures[variant]
    if not rows:
        return f"| {name} | {variant} | | not run | | | |"
    low, high = bootstrap_interval(mine["area"])
    last = interquartile_mean([row["last"] for row in rows])
    unseen = [row["unseen"] for row in rows if "unseen" in row]
    return (
        f"| {name} | {variant} | {result['learning_rates'][variant]:g} "
        f"| {interquartile_mean(mine['area']):.3f} ({low:.3f} to {high:.3f}) "
        f"| {median_steps(mine['reached'])} | {last:.3f} "
        f"| {f'{interquartile_mean(unseen):.3f}' if unseen else ''} |"
    )


def section(name: str, result: dict, figures: dict) -> list[str]:
    """Returns the lines about one case: every seed."""
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    known = "the preset" if str(result["env"]).startswith(("rlzoo/", "CartPole")) else "no preset"
    lines = [
        f"## {name}",
        "",
        f"{result['agent']} on {result['env']}, {result['steps']:,} steps; torso "
        f"{result['torso']['name']}, pretrained as `{result['pretrained']}`; {known}, {settings}. "
        f"90 % of the best: {figures['scratch']['target']:.3f}.",
        "",
        "| torso | seed | area | steps to 90 % | best | last | unseen |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        mine = figures[variant]
        for row, area, at in zip(
            result["rows"][variant], mine["area"], mine["reached"], strict=True
        ):
            unseen = f"{row['unseen']:.3f}" if "unseen" in row else ""
            came = "never" if at is None else f"{at:,}"
            lines.append(
                f"| {variant} | {row['seed']} | {area:.3f} | {came} "
                f"| {row['best']:.3f} | {row['last']:.3f} | {unseen} |"
            )
    return [*lines, ""]


PICTURED = {  # how the picture names agents, environments and torsos
    "dqn": "DQN",
    "reinforce": "REINFORCE",
    "catch_in_bytes": "Catch",
    "digits": "conv, of MNIST",
    "recall": "LSTM, of recall",
    "foresight": "dense, of CartPole's next step",
}


def draw(found: dict, figures: dict) -> None:
    """Draws every case's curves: each seed thin, their mean thick."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = 2 if len(found) > 1 else 1
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(6.2 * columns, 3.9 * rows + 0.5), dpi=90, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
    for place, (name, result) in enumerate(found.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        last = 0
        for variant, seeds in result["rows"].items():
            curves = [np.array(row["curve"]) for row in seeds]
            for curve in curves:
                axes.plot(*curve.T, color=COLORS[variant], alpha=0.25, linewidth=0.8)
                last = max(last, curve[-1, 0])
            if curves:
                length = min(map(len, curves))
                mean = np.mean([curve[:length] for curve in curves], axis=0)
                axes.plot(*mean.T, color=COLORS[variant], linewidth=2.2)
        axes.axhline(figures[name]["scratch"]["target"], color="black", linestyle=":", linewidth=1)
        agent = PICTURED[result["agent"]]
        env = PICTURED.get(result["env"]) or result["env"].removeprefix("rlzoo/")
        axes.set_title(f"{name}: {agent} on {env}\n(torso: {PICTURED[result['pretrained']]})")
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return of an episode")
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.set_xlim(0, last)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    lines = [Line2D([], [], color=COLORS[variant], linewidth=2.2) for variant in VARIANTS]
    lines += [Line2D([], [], color="black", alpha=0.4, linewidth=0.8)]
    lines += [Line2D([], [], color="black", linestyle=":", linewidth=1)]
    told = [f"{variant}, mean of the seeds" for variant in VARIANTS]
    told += ["one seed", "90 % of the best mean"]
    figure.legend(lines, told, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(RESULTS.parent / "pretraining.png")


if __name__ == "__main__":
    main()
