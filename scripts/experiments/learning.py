"""The learning experiments behind docs/results/learning.md: every seed, saved as it comes.

    scripts/learn dqn-cartpole dyna-maze

Each experiment is there for the host loop (NAME) and for the graph loop (NAME-graph), and writes
docs/results/<name>.json; the page is drawn anew from all of them.
"""

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import rlzoo
from rlzoo.agents import Agent, TabularDynaQ
from rlzoo.config.choices import make_exploration
from rlzoo.envs import make_envs
from rlzoo.envs.ports import make_ported_envs
from rlzoo.loops.base import Report
from rlzoo.loops.evaluate import Evaluator
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.reports.aggregate import bootstrap_interval, interquartile_mean

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


def learning(
    agent: str, env: str, threshold: float, loop: str = "host", wanted: int = 4, **arguments
):
    """An experiment: how many seeds end at `threshold` or better."""
    command = f"rlzoo train {agent} {env}"
    for name, value in arguments.items():
        if name == "overrides":
            command += "".join(f" --set {text}" for text in value)
        else:
            command += f" --{name.replace('_', '-')} {value}"

    def run(seed: int) -> dict:
        row = trained(agent, env, seed, loop=loop, **arguments)
        return {**row, "solved_at": first_reached(row["curve"], threshold)}

    command += f" --loop {loop} --seed S"
    return {"command": command, "threshold": threshold, "wanted": wanted, "run": run}


def first_reached(curve: list, threshold: float) -> int | None:
    """Returns the step of the first evaluation at `threshold` or better."""
    return next((step for step, value in curve if value >= threshold), None)


def maze(planning_steps: int, epsilon: object = 0.1, loop: str = "host", num_episodes: int = 50):
    """An experiment: steps per episode on the Dyna maze, and the greedy path after each."""

    def run(seed: int) -> dict:
        name = "rlzoo/DynaMaze-v0"
        config = TabularDynaQ.Config(planning_steps=planning_steps)
        strategy = make_exploration({"name": "epsilon_greedy", "epsilon": epsilon})
        agent = TabularDynaQ(make_ported_envs(name, 1).spec, config, strategy, None, seed)
        evaluator = Evaluator(agent, make_envs(name, 1, seed, max_episode_steps=100), 1)
        lengths, greedy = [], []
        for report in (graph_steps if loop == "graph" else host_steps)(agent, name, seed):
            for episodes in report.episodes:  # one at most
                lengths.append(int(episodes.mean_length))
                greedy.append(evaluator.run(seed).lengths[0])
            if len(lengths) == num_episodes:
                break
        optimal = next((i + 1 for i, length in enumerate(greedy) if length == 14), None)
        return {"seed": seed, "lengths": lengths, "greedy": greedy, "optimal_after": optimal}

    return {"planning_steps": planning_steps, "epsilon": epsilon, "loop": loop, "run": run}


def host_steps(agent: Agent, env: str, seed: int) -> Iterator[Report]:
    """Yields what each step of training in the host loop brings."""
    training = HostLoop(agent, make_envs(env, 1, seed), seed)
    while True:
        yield training.run()


def graph_steps(agent: Agent, env: str, seed: int) -> Iterator[Report]:
    """Yields what each step of training in the graph loop brings."""
    training = GraphLoop(agent, make_ported_envs(env, 1), seed)
    for step in itertools.count(1):
        yield training.run(step)


def experiments(loop: str) -> dict[str, dict]:
    """Returns every experiment by name, for one of the two loops."""
    learn, walk = partial(learning, loop=loop), partial(maze, loop=loop)
    by_name = {
        "dqn-cartpole": learn("dqn", "CartPole-v1", 475, steps=50_000),
        "dqn-cartpole-softmax": learn(
            "dqn", "CartPole-v1", 475, steps=50_000, exploration="softmax"
        ),
        "reinforce-cartpole": learn("reinforce", "CartPole-v1", 450, steps=300_000),
        "dqn-acrobot": learn("dqn", "Acrobot-v1", -100, steps=100_000),
        "dqn-mountaincar": learn("dqn", "MountainCar-v0", -110, steps=120_000),
        "dyna-cartpole-planning": learn("dyna_q", "CartPole-v1", 400, steps=30_000),
        "dyna-cartpole-no-planning": learn(
            "dyna_q", "CartPole-v1", 400, wanted=0, steps=30_000, overrides=("planning_steps=0",)
        ),
        "memory-lstm": learn("reinforce", "rlzoo/Memory-v0", 0.9, torso="lstm"),
        "memory-dense": learn("reinforce", "rlzoo/Memory-v0", 0.9, wanted=0, torso="dense"),
        "dqn-memory-lstm": learn("dqn", "rlzoo/Memory-v0", 0.9, torso="lstm"),
        "dqn-memory-dense": learn("dqn", "rlzoo/Memory-v0", 0.9, wanted=0, torso="dense"),
        "dyna-frozenlake": learn("dyna_q", "FrozenLake-v1", 0.7),
        "dyna-cliffwalking": learn("dyna_q", "CliffWalking-v1", -13),
        "dyna-maze-0": walk(0),
        "dyna-maze-5": walk(5),
        "dyna-maze-50": walk(50),
        "dyna-maze-preset": walk(
            50, {"name": "piecewise", "boundaries": [2_000, 3_000], "values": [1.0, 0.1]}
        ),
    }
    suffix = "" if loop == "host" else f"-{loop}"
    return {name + suffix: experiment for name, experiment in by_name.items()}


EXPERIMENTS = {**experiments("host"), **experiments("graph")}


# What others publish for the same agent and environment.
PUBLISHED = {
    "dqn-cartpole": "rl-baselines3-zoo 500.0 at 50,000 steps, one run",
    "dqn-mountaincar": "rl-baselines3-zoo -100.8 at 120,000 steps, one run",
    "dqn-acrobot": "rl-baselines3-zoo -76.6 at 100,000 steps, one run",
    "reinforce-cartpole": "SLM-Lab 483.31 at 200,000 steps, training average of 4 runs",
}


# What is to be said of figures that the settings which ship now did not give.
NOTES = {
    "dqn-cartpole": "These are figures of an earlier preset (a learning rate of 2.3e-3, a target "
    "copied every 128 gradient steps); for the one that ships see [robustness](robustness.md).",
    "dqn-cartpole-softmax": "Of the earlier preset too.",
    "dqn-mountaincar": "These are figures of an earlier preset (two layers of 256 units, a target "
    "copied every 300 gradient steps); for the one that ships see [robustness](robustness.md).",
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
    by_name = {  # both loops side by side
        name: {loop: found[key] for loop, key in keys(name).items() if key in found}
        for name in experiments("host")
    }
    learned = {
        name: results
        for name, results in by_name.items()
        if any("threshold" in result for result in results.values())
    }
    mazes = {name: by_name[name] for name in by_name if name.startswith("dyna-maze")}
    lines = [
        "# Learning results",
        "",
        "Every seed of every experiment, trained by the host loop (Gymnasium in Python) and by",
        "the graph loop (the environment in TensorFlow ops, the whole training one program),",
        "always evaluated on Gymnasium's own environment. `best` is the mean return of the best",
        "checkpoint over 20 fresh evaluation episodes, `last` that of the final weights, `reached",
        "at` the first evaluation on the way at the threshold or better. Remake any of it with",
        "`scripts/learn NAME` (host loop) or `scripts/learn NAME-graph`; numbers depend on the",
        "machine only through floating point. Most of the host loop's figures are older than the",
        "graph loop; `--loop host` was added to their commands since.",
        "",
        "Interquartile mean of `best`, its 95 % bootstrap interval over seeds, and how many seeds",
        "reached the threshold:",
        "",
        "| | threshold | host loop | graph loop |",
        "|---|---|---|---|",
        *(summary_line(name, results) for name, results in learned.items()),
        "",
    ]
    for name, results in learned.items():
        lines += learning_section(name, results)
    lines += maze_section(mazes)
    (RESULTS / "learning.md").write_text("\n".join(lines).rstrip() + "\n")


def keys(name: str) -> dict[str, str]:
    """Returns under which name an experiment's results of each loop are kept."""
    return {"host": name, "graph": f"{name}-graph"}


def summary_line(name: str, results: dict[str, dict]) -> str:
    """Returns one experiment's line in the table at the top."""
    cells = []
    for loop in keys(name):
        if loop not in results:
            cells.append("")
            continue
        best = [row["best"] for row in results[loop]["rows"]]
        low, high = bootstrap_interval(best)
        cells.append(
            f"{interquartile_mean(best):.2f} ({low:.2f} to {high:.2f}), {reached(results[loop])}"
        )
    threshold = next(iter(results.values()))["threshold"]
    return f"| {name} | {threshold:g} | {' | '.join(cells)} |"


def reached(result: dict) -> str:
    """Returns how many seeds have their best at the threshold or better."""
    solved = sum(row["best"] >= result["threshold"] for row in result["rows"])
    return f"{solved} of {len(result['rows'])}"


def learning_section(name: str, results: dict[str, dict]) -> list[str]:
    """Returns the lines about one experiment."""
    lines = [f"## {name}", ""]
    for loop, result in results.items():
        lines += [
            f"`{result['command']}`",
            "",
            f"| {loop} loop, seed | steps | best | last | reached at |",
            "|---|---|---|---|---|",
        ]
        for row in result["rows"]:
            at = "never" if row["solved_at"] is None else f"{row['solved_at']:,}"
            lines.append(
                f"| {row['seed']} | {row['steps']:,} | {row['best']:.2f} | {row['last']:.2f} "
                f"| {at} |"
            )
        lines += [""]
    if name in PUBLISHED:
        lines += [f"Published: {PUBLISHED[name]}.", ""]
    if name in NOTES:
        lines += [NOTES[name], ""]
    return lines


def maze_section(by_name: dict[str, dict]) -> list[str]:
    """Returns the lines about planning on the Dyna maze."""
    results = {name: loops["host"] for name, loops in by_name.items() if "host" in loops}
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
    pairs = [
        (host[key], graph[key])
        for loops in by_name.values()
        if len(loops) == 2
        for host, graph in zip(loops["host"]["rows"], loops["graph"]["rows"], strict=True)
        for key in ("lengths", "greedy")
    ]
    same = sum(host == graph for host, graph in pairs)
    return [
        *lines,
        "",
        "Nothing is random in the maze, and both loops draw the same actions: of the lists of",
        "episode lengths and of greedy paths, the graph loop's (NAME-graph) equal the host loop's",
        f"in {same} of {len(pairs)} cases. The tables show the host loop's.",
        "",
    ]


if __name__ == "__main__":
    main()
