"""How deep a sea each exploration strategy can search: docs/results/deep_sea.md.

    scripts/learn deep-sea                    everything, about half an hour on one core
    scripts/learn deep-sea softmax-50         one strategy, by Dyna-Q with 50 planning steps
    scripts/learn deep-sea softmax-dqn        one strategy, by DQN; after softmax-0

Each case writes docs/results/deep_sea.json as it comes; the page is drawn anew from it.
"""

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from rlzoo.config.resolve import resolve
from rlzoo.envs import make_envs
from rlzoo.envs.ports import make_ported_envs
from rlzoo.loops.evaluate import Evaluator
from rlzoo.loops.graph import GraphLoop
from rlzoo.runs.build import Source, build_agent

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEEDS = range(5)
SIZES = (4, 6, 8, 10, 12, 14, 16, 20, 25, 30)
TUNED_AT = 10  # the size at which a strategy's parameters are chosen
EPISODES = 10_000
BLOCK = 50  # episodes between looks; fewer than 100, see `found`
BAD_SHARE = 0.8  # bsuite/experiments/deep_sea/analysis.py: `thresh`
HALF = EPISODES // 2
FALLING = f"falling from 1 to 0 over {HALF:,} episodes"
RANDOM_FIRST = f"1 for {HALF:,} episodes, then 0"

CANDIDATES = {
    "greedy": [{}],
    "epsilon_greedy": [
        {"epsilon": 0.1},
        {"epsilon": 0.5},
        {"epsilon": FALLING},
        {"epsilon": RANDOM_FIRST},
    ],
    "softmax": [{"temperature": 0.01}, {"temperature": 0.1}, {"temperature": 1.0}],
    "epsilon_softmax": [
        {"epsilon": 0.05, "temperature": 0.01},
        {"epsilon": 0.05, "temperature": 0.1},
        {"epsilon": 0.05, "temperature": 1.0},
    ],
}
TABLE = {"learning_rate": 1.0, "discount": 1.0}
LEARNERS = {  # the last part of a case's name: words, agent, hyperparameters
    "0": ("Q-learning", "dyna_q", {**TABLE, "planning_steps": 0}),
    "50": ("Dyna-Q, 50 planning steps", "dyna_q", {**TABLE, "planning_steps": 50}),
    "dqn": (
        "DQN",
        "dqn",
        {
            "learning_rate": 1e-3,
            "batch_size": 32,
            "replay_capacity": 10_000,
            "learning_starts": 100,
            "train_every": 4,
            "target_update_period": 4,
            "torso.sizes": [50, 50],
        },
    ),
}
CASES = [f"{name}-{learner}" for learner in LEARNERS for name in CANDIDATES]


def dive(strategy: dict, learner: str, size: int, seed: int) -> dict:
    """Trains one agent until it has solved the sea, or for all episodes."""
    half = HALF * size  # in steps
    schedules = {
        FALLING: {"name": "linear", "start": 1.0, "end": 0.0, "steps": half},
        RANDOM_FIRST: {"name": "piecewise", "boundaries": [half, half + 1], "values": [1.0, 0.0]},
    }
    strategy = {key: schedules.get(value, value) for key, value in strategy.items()}
    _, agent_name, hyperparameters = LEARNERS[learner]
    config = resolve(
        agent_name,
        "rlzoo/DeepSea-v0",
        loop="graph",
        seed=seed,
        exploration=strategy,
        overrides={"env.size": size, **hyperparameters},
    )
    envs = make_ported_envs(config.env, config.num_envs, **config.env_settings)
    agent = build_agent(config, envs.spec, Source())
    loop = GraphLoop(agent, envs, seed)
    episodes = good = 0
    first_found = solved_at = None
    while episodes < EPISODES and solved_at is None:
        episodes += BLOCK
        good += found(loop.run(episodes * size))
        if good and first_found is None:
            first_found = episodes
        if episodes - good < BAD_SHARE * episodes:
            solved_at = episodes
    with closing(make_envs(config.env, 1, seed, check=False, **config.env_settings)) as evaluated:
        greedy = Evaluator(agent, evaluated, 1).run(seed).mean_return
    return {
        "size": size,
        "seed": seed,
        "solved_at": solved_at,
        "first_found": first_found,
        "good": good,
        "greedy_return": round(greedy, 4),
    }


def found(report) -> int:
    """Returns in how many episodes of a report the treasure was found.

    An episode's return is in [-0.01, 0] without it and 0.99 with it.
    """
    total = sum(episodes.mean_return * episodes.num_episodes for episodes in report.episodes)
    return round(total + 0.005 * BLOCK)


def explore(name: str, learner: str, strategy: dict | None) -> dict:
    """Goes deeper until no seed succeeds, with a strategy or the best one at `TUNED_AT`."""
    tried: list[dict[str, Any]] = []
    done = []
    if strategy is None:
        for parameters in CANDIDATES[name]:
            candidate = {"name": name, **parameters}
            rows = dives(candidate, learner, TUNED_AT)
            tried.append({"strategy": candidate, "rows": rows})
        best = min(tried, key=lambda entry: (-solved(entry["rows"]), cost(entry["rows"])))
        strategy, done = dict(best["strategy"]), best["rows"]
    rows = []
    for size in SIZES:
        new = done if done and size == TUNED_AT else dives(strategy, learner, size)
        rows += new
        if not solved(new):
            break
    return {"strategy": strategy, "tried": tried, "rows": rows}


def dives(strategy: dict, learner: str, size: int) -> list[dict]:
    """Trains every seed."""
    rows = [dive(strategy, learner, size, seed) for seed in SEEDS]
    ends = [row["solved_at"] for row in rows]
    print(strategy, learner, size, ends, file=sys.stderr, flush=True)
    return rows


def solved(rows: list[dict]) -> int:
    """Returns how many seeds solved their sea."""
    return sum(row["solved_at"] is not None for row in rows)


def cost(rows: list[dict]) -> float:
    """Returns the mean number of episodes, all of them where a sea was not solved."""
    return float(np.mean([row["solved_at"] or EPISODES for row in rows]))


def main() -> None:
    """Runs the cases that are named, or all."""
    names = sys.argv[1:] or list(CASES)
    for name in names:
        if name not in CASES:
            sys.exit(f"Unknown case {name!r}. Known: {', '.join(CASES)}.")
    file = RESULTS / "deep_sea.json"
    for name in names:
        results = json.loads(file.read_text()) if file.exists() else {}
        strategy, _, learner = name.rpartition("-")
        given = results[f"{strategy}-0"]["strategy"] if learner == "dqn" else None
        results[name] = explore(strategy, learner, given)
        results = {name: results[name] for name in CASES if name in results}
        file.write_text(json.dumps(results) + "\n")
        (RESULTS / "deep_sea.md").write_text("\n".join(page(results)) + "\n")


def page(results: dict[str, dict]) -> list[str]:
    """Returns the lines of docs/results/deep_sea.md."""
    sizes = sorted({row["size"] for result in results.values() for row in result["rows"]})
    lines = [
        "# DeepSea: how deep does each strategy search?",
        "",
        "`scripts/learn deep-sea`",
        "",
        "`rlzoo/DeepSea-v0` in the graph loop, 1 environment, 5 seeds, at most 10,000 episodes.",
        "Q-learning and Dyna-Q keep a table: learning rate 1 (nothing is random in this sea),",
        "discount 1. DQN: two layers of 50, Adam at 1e-3, batch 32, a gradient step every 4 steps,",
        "target network copied every 4 of them, replay 10,000, discount 0.99.",
        "",
        "Solved, as in bsuite (`find_solution` in `bsuite/experiments/deep_sea/analysis.py`,",
        "threshold 0.8): the first episode at which fewer than 80 % of all training episodes so",
        f"far missed the treasure; looked at every {BLOCK} episodes. Training ends there. A random",
        "policy finds it once in 2^N episodes: 1,024 at N = 10, 4,096 at 12, 16,384 at 14.",
        "",
        f"Each strategy's parameters are the best of those listed below at N = {TUNED_AT}, with",
        "the same seeds (most solved, then fewest episodes; the first listed if equal); DQN takes",
        "those of Q-learning. From the smallest sea up to the first that no seed solved; larger",
        "ones were not tried.",
        "",
        "None of these strategies searches on purpose. Moves to the right cost, so before the",
        "first find a table's values point left, and what finds the treasure is chance, about 2^N",
        "episodes of it. Planning spreads the news of a find; it does not look for one. The same",
        "seed draws the same numbers under every strategy: those that act at random until the",
        "first find often make it in the same episode, so the strategies' results are not",
        "independent of each other.",
        "",
        "## Seeds that solved it, of 5",
        "",
        "`deepest` is the largest N up to which at least 4 of 5 seeds solved every sea.",
        "",
        f"| learner | strategy | deepest | {' | '.join(f'N = {size}' for size in sizes)} |",
        f"|---|---|---|{'---|' * len(sizes)}",
    ]
    for name, result in results.items():
        cells = []
        for size in sizes:
            rows = [row for row in result["rows"] if row["size"] == size]
            cells.append(str(solved(rows)) if rows else "")
        head = f"| {learner(name)} | {label(result['strategy'])} | {deepest(result['rows'])} | "
        lines.append(f"{head}{' | '.join(cells)} |")
    cut = [name for name, result in results.items() if deeper(result["rows"])]
    if cut:
        lines += ["", f"Stopped for lack of time, not by a sea: {', '.join(cut)}."]
    lines += ["", "## Every seed: the episode at which it was solved", ""]
    for name, result in results.items():
        lines += seeds_table(f"{learner(name)}, {label(result['strategy'])}", result["rows"])
    lines += [f"## What was tried at N = {TUNED_AT}", ""]
    lines += ["| learner | strategy | seeds solved | mean episodes (10,000 if not) |"]
    lines += ["|---|---|---|---|"]
    for name, result in results.items():
        for candidate in result["tried"]:
            rows = candidate["rows"]
            lines.append(
                f"| {learner(name)} | {label(candidate['strategy'])} "
                f"| {solved(rows)} of {len(rows)} | {cost(rows):,.0f} |"
            )
    return lines


def seeds_table(title: str, rows: list[dict]) -> list[str]:
    """Returns a table with a line for each size."""
    lines = [f"{title}:", "", f"| N | {' | '.join(f'seed {seed}' for seed in SEEDS)} |"]
    lines.append(f"|---|{'---|' * len(SEEDS)}")
    for size in sorted({row["size"] for row in rows}):
        ends = [row for row in rows if row["size"] == size]
        cells = [f"{row['solved_at']:,}" if row["solved_at"] else missed(row) for row in ends]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return [*lines, ""]


def missed(row: dict) -> str:
    """Returns what is said of a sea that was not solved."""
    if row["good"] is None:  # a run of which only the end was kept
        return "no"
    if not row["good"]:
        return "never found"
    times = "time" if row["good"] == 1 else "times"
    return f"no (found {row['good']:,} {times}, first by {row['first_found']:,})"


def deepest(rows: list[dict]) -> str:
    """Returns the largest size up to which at least 4 seeds solved every one."""
    found = "none"
    for size in sorted({row["size"] for row in rows}):
        if solved([row for row in rows if row["size"] == size]) < 4:
            break
        found = str(size)
    return found


def deeper(rows: list[dict]) -> bool:
    """Tells whether some seed solved the largest sea that was tried, and there are larger ones."""
    size = max(row["size"] for row in rows)
    return size < SIZES[-1] and solved([row for row in rows if row["size"] == size]) > 0


def learner(case: str) -> str:
    """Returns a case's learner in words."""
    return LEARNERS[case.rpartition("-")[2]][0]


def label(strategy: dict) -> str:
    """Returns a strategy and its parameters in words."""
    parameters = [f"{key} {value}" for key, value in strategy.items() if key != "name"]
    return " ".join([strategy["name"], ", ".join(parameters)]).strip()


if __name__ == "__main__":
    main()
