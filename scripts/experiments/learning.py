"""The learning experiments behind docs/results/learning.md: every seed, saved as it comes.

    scripts/learn dqn-cartpole dyna-maze

Each experiment writes docs/results/<name>.json; the page is drawn anew from all of them.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import rlzoo
from rlzoo.train.aggregate import bootstrap_interval, interquartile_mean
from rlzoo.train.config import make_exploration
from rlzoo.train.evaluate import Evaluator
from rlzoo.train.host import HostLoop

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEEDS = range(5)


def trained(agent: str, env: str, seed: int, **arguments) -> dict:
    """Trains one run; returns its summary with every evaluation made on the way."""
    with tempfile.TemporaryDirectory() as folder:
        run = rlzoo.train(agent, env, seed=seed, run_dir=f"{folder}/run", quiet=True, **arguments)
        rows = [line.split(",") for line in (run.dir / "metrics.csv").read_text().splitlines()]
    curve = [(int(row[0]), float(row[3])) for row in rows if row[2] == "eval/return"]
    return {
        "seed": seed,
        "steps": run.summary["steps"],
        "best": run.summary["mean_return"],
        "last": run.summary["last_mean_return"],
        "curve": curve,
    }


def learning(agent: str, env: str, threshold: float, wanted: int = 4, **arguments):
    """An experiment: how many seeds end at `threshold` or better."""
    command = f"rlzoo train {agent} {env}"
    for name, value in arguments.items():
        if name == "overrides":
            command += "".join(f" --set {text}" for text in value)
        else:
            command += f" --{name.replace('_', '-')} {value}"

    def run(seed: int) -> dict:
        row = trained(agent, env, seed, **arguments)
        return {**row, "solved_at": first_reached(row["curve"], threshold)}

    return {"command": f"{command} --seed S", "threshold": threshold, "wanted": wanted, "run": run}


def first_reached(curve: list, threshold: float) -> int | None:
    """Returns the step of the first evaluation at `threshold` or better."""
    return next((step for step, value in curve if value >= threshold), None)


def maze(planning_steps: int, epsilon: object = 0.1, num_episodes: int = 50):
    """An experiment: steps per episode on the Dyna maze, and the greedy path after each."""

    def run(seed: int) -> dict:
        from rlzoo.agents import TabularDynaQ
        from rlzoo.envs import make_envs

        envs = make_envs("rlzoo/DynaMaze-v0", 1, seed)
        config = TabularDynaQ.Config(planning_steps=planning_steps)
        strategy = make_exploration({"name": "epsilon_greedy", "epsilon": epsilon})
        agent = TabularDynaQ(envs.spec, config, strategy, None, seed)
        loop = HostLoop(agent, envs, seed)
        evaluator = Evaluator(agent, "rlzoo/DynaMaze-v0", {"max_episode_steps": 100}, 1)
        lengths, greedy = [], []
        while len(lengths) < num_episodes:
            for _, length in loop.run_chunk().episodes:
                lengths.append(length)
                greedy.append(evaluator.run(seed).lengths[0])
        optimal = next((i + 1 for i, steps in enumerate(greedy) if steps == 14), None)
        return {"seed": seed, "lengths": lengths, "greedy": greedy, "optimal_after": optimal}

    return {"planning_steps": planning_steps, "epsilon": epsilon, "run": run}


EXPERIMENTS = {
    "dqn-cartpole": learning("dqn", "CartPole-v1", 475, steps=50_000),
    "dqn-cartpole-softmax": learning(
        "dqn", "CartPole-v1", 475, steps=50_000, exploration="softmax"
    ),
    "reinforce-cartpole": learning("reinforce", "CartPole-v1", 450, steps=300_000),
    "dqn-acrobot": learning("dqn", "Acrobot-v1", -100, steps=100_000),
    "dqn-mountaincar": learning("dqn", "MountainCar-v0", -110, steps=120_000),
    "dyna-cartpole-planning": learning("dyna_q", "CartPole-v1", 400, steps=30_000),
    "dyna-cartpole-no-planning": learning(
        "dyna_q", "CartPole-v1", 400, wanted=0, steps=30_000, overrides=("planning_steps=0",)
    ),
    "memory-lstm": learning("reinforce", "rlzoo/Memory-v0", 0.9, torso="lstm"),
    "memory-dense": learning("reinforce", "rlzoo/Memory-v0", 0.9, wanted=0, torso="dense"),
    "dyna-frozenlake": learning("dyna_q", "FrozenLake-v1", 0.7),
    "dyna-cliffwalking": learning("dyna_q", "CliffWalking-v1", -13),
    "dyna-maze-0": maze(0),
    "dyna-maze-5": maze(5),
    "dyna-maze-50": maze(50),
    "dyna-maze-preset": maze(
        50, {"name": "piecewise", "boundaries": [2_000, 3_000], "values": [1.0, 0.1]}
    ),
}


# What others publish for the same agent and environment.
PUBLISHED = {
    "dqn-cartpole": "rl-baselines3-zoo 500.0 at 50,000 steps, one run",
    "dqn-acrobot": "rl-baselines3-zoo -76.6 at 100,000 steps, one run",
    "reinforce-cartpole": "SLM-Lab 483.31 at 200,000 steps, training average of 4 runs",
}


def main() -> None:
    """Runs the experiments that are named, or all."""
    names = sys.argv[1:] or list(EXPERIMENTS)
    for name in names:
        if name not in EXPERIMENTS:
            sys.exit(f"Unknown experiment {name!r}. Known: {', '.join(EXPERIMENTS)}.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names:
        experiment = {**EXPERIMENTS[name]}
        run, rows = experiment.pop("run"), []
        for seed in SEEDS:
            rows.append(run(seed))
            short = {key: value for key, value in rows[-1].items() if key != "curve"}
            print(name, json.dumps(short), file=sys.stderr, flush=True)
            text = json.dumps({**experiment, "rows": rows}) + "\n"
            (RESULTS / f"{name}.json").write_text(text)
    write_page()


def write_page() -> None:
    """Writes docs/results/learning.md from every result there is."""
    found = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in EXPERIMENTS
        if (RESULTS / f"{name}.json").exists()
    }
    lines = [
        "# Learning results",
        "",
        "Every seed of every experiment. `best` is the mean return of the best checkpoint over 20",
        "fresh evaluation episodes, `last` that of the final weights, `reached at` the first",
        "evaluation on the way at the threshold or better. Remake any of it with",
        "`scripts/learn NAME`; numbers depend on the machine only through floating point.",
        "",
    ]
    for name, result in found.items():
        if "threshold" in result:
            lines += learning_section(name, result)
    if mazes := {name: found[name] for name in found if name.startswith("dyna-maze")}:
        lines += maze_section(mazes)
    (RESULTS / "learning.md").write_text("\n".join(lines).rstrip() + "\n")


def learning_section(name: str, result: dict) -> list[str]:
    """Returns the lines about one experiment."""
    rows, threshold = result["rows"], result["threshold"]
    best = [row["best"] for row in rows]
    solved = sum(value >= threshold for value in best)
    low, high = bootstrap_interval(best)
    lines = [
        f"## {name}",
        "",
        f"`{result['command']}`",
        "",
        "| seed | steps | best | last | reached at |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        reached = "never" if row["solved_at"] is None else f"{row['solved_at']:,}"
        lines.append(
            f"| {row['seed']} | {row['steps']:,} | {row['best']:.2f} | {row['last']:.2f} "
            f"| {reached} |"
        )
    return [
        *lines,
        "",
        f"Best >= {threshold:g}: {solved} of {len(rows)} seeds. IQM of best "
        f"{interquartile_mean(best):.2f}, 95 % bootstrap interval {low:.2f} to {high:.2f}.",
        *([f"Published: {PUBLISHED[name]}."] if name in PUBLISHED else []),
        "",
    ]


def maze_section(results: dict) -> list[str]:
    """Returns the lines about planning on the Dyna maze."""
    shown = (1, 2, 3, 4, 6, 11, 16, 21, 26, 50)
    lines = [
        "## dyna-maze",
        "",
        f"`scripts/learn {' '.join(results)}`",
        "",
        "Steps per episode, mean of 5 seeds (Sutton & Barto, 2nd ed., figure 8.2: alpha 0.1, gamma",
        "0.95, epsilon 0.1). The shortest path has 14 steps; epsilon 0.1 makes it about 17. The",
        "preset acts at random for the first 2,000 steps, which changes what is known of the maze.",
        "",
        f"| | {' | '.join(f'episode {i}' for i in shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for name, result in results.items():
        means = np.mean([row["lengths"] for row in result["rows"]], axis=0)
        lines.append(f"| {name} | {' | '.join(f'{means[i - 1]:.0f}' for i in shown)} |")
    lines += [
        "",
        "Greedy path after episode 10, and the first episode after which it had 14 steps:",
        "",
        "| | seed 0 | seed 1 | seed 2 | seed 3 | seed 4 |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        cells = [f"{r['greedy'][9]} ({r['optimal_after'] or 'never'})" for r in result["rows"]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
