"""The host loop's speed beside Stable-Baselines3, and its memory. See `scripts/benchmark`."""

import argparse
import dataclasses
import statistics

from common import finish, in_turn, markdown, numbers, run, shortened
from worker import Task

ONE = Task("rlzoo", num_envs=1, train_every=4, gradient_steps=1)
EIGHT = Task("rlzoo", num_envs=8, train_every=8, gradient_steps=16, period=61_440)
CASES = {"1 env": ONE, "8 envs": EIGHT}
TARGETS = {"1 env": 2.0, "8 envs": 3.0}  # times the speed of Stable-Baselines3
SETTINGS = (
    "CartPole-v1, layers of 120 and 84 ReLU units, batches of 128, Adam at 2.5e-4, replay of "
    "10,000, learning from 1,000 transitions on, target network copied every 500 steps (125 "
    "gradient steps), epsilon from 1 to 0.05 over 10,000 steps. 1 env: a gradient step every 4 "
    "steps. 8 envs: 16 gradient steps every 8 vector steps."
)


def compare(quick: bool) -> None:
    """Runs rlzoo and Stable-Baselines3 in turn, on each case."""
    programs = {
        "rlzoo": {"program": "rlzoo"},
        "SB3, 1 thread": {"program": "sb3", "threads": 1},
        "SB3, 2 threads": {"program": "sb3", "threads": 2},
    }
    variants = {
        (case, name): dataclasses.replace(task, **changes)
        for case, task in CASES.items()
        for name, changes in programs.items()
    }
    speeds, versions = in_turn(variants, quick)
    medians = {key: statistics.median(values) for key, values in speeds.items()}
    rows, cases = [], {}
    for case, target in TARGETS.items():
        best = max(list(programs)[1:], key=lambda name: medians[case, name])
        ratio = medians[case, "rlzoo"] / medians[case, best]
        for name in programs:
            verdict = {"rlzoo": f"{ratio:.2f} ({target:g})", best: "1"}.get(name, "")
            rows.append([case, name, *numbers(speeds[case, name], medians[case, name]), verdict])
        cases[case] = {
            "steps_per_second": {name: speeds[case, name] for name in programs},
            "medians": {name: medians[case, name] for name in programs},
            "best_of_sb3": best,
            "ratio": ratio,
            "target": target,
        }
    head = ["case", "program", "runs (steps/s)", "median", "ratio (target)"]
    text = f"""# Speed of the host loop beside Stable-Baselines3

DQN, whole processes in turn, timed after a warm-up of {ONE.start:,} steps over
{ONE.period:,} (1 env) and {EIGHT.period:,} (8 envs) steps by a clock in the environment. The ratio
is that of the medians, to the better of Stable-Baselines3's two. rlzoo writes its TensorBoard and
metrics files; Stable-Baselines3 writes none.

{SETTINGS}

{markdown(head, rows)}
"""
    finish("host_speed", "sb3", SETTINGS, text, {"cases": cases}, versions, quick)


def memory(quick: bool) -> None:
    """Measures the growth of memory once replay is full, and the price of a large replay."""
    rows, growth, versions = [], {}, {}
    for case, task in CASES.items():
        task = dataclasses.replace(task, start=51_200, period=6_400, periods=32)
        if quick:
            task = dataclasses.replace(shortened(task), periods=4)
        result = run(task, case)
        versions |= result["versions"]
        steps = [task.start + i * task.period for i in range(task.periods + 1)]
        sizes = [size / 1e6 for _, size in result["notes"]]  # MB
        slope = statistics.linear_regression(steps, sizes).slope * 100_000
        growth[case] = {"steps": steps, "megabytes": sizes, "slope_per_100k_steps": slope}
        shown = f"{steps[0]:,} to {steps[-1]:,}"
        rows.append([case, shown, f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}", f"{slope:+.2f} (1)"])
    head = ["case", "steps", "MB at first", "MB at last", "MB per 100,000 steps (limit)"]
    growth_table = markdown(head, rows)

    # Both are full when the clock starts. Acting at random keeps episodes equally long.
    variants = {}
    for size in (10_000, 1_000_000):
        start = size + 6_400 - size % 64  # 64 steps are an update of 8 envs
        variants[f"replay {size:,}"] = dataclasses.replace(
            EIGHT, replay=size, learning_starts=size, last_epsilon=1.0, start=start
        )
    if quick:
        variants = {
            name: dataclasses.replace(task, learning_starts=1_000)
            for name, task in variants.items()
        }
    speeds, _ = in_turn(variants, quick)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    small, large = medians.values()
    rows = [[name, *numbers(speeds[name], medians[name])] for name in variants]
    text = f"""# Memory of the host loop

DQN. {SETTINGS}

## Growth once replay is full

The slope of a line through the resident memory of {len(steps)} moments.

{growth_table}

## A large replay

8 envs, acting at random; both replays are full when the clock starts. The median with 1,000,000 is
{100 * large / small:.1f} % of that with 10,000 (at least 90 % is asked for).

{markdown(["", "runs (steps/s)", "median"], rows)}
"""
    results = {
        "growth": growth,
        "replay": {"steps_per_second": speeds, "medians": medians, "ratio": large / small},
    }
    finish("host_memory", "memory", SETTINGS, text, results, versions, quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("what", choices=["sb3", "memory"])
    parser.add_argument("--quick", action="store_true", help="a try of seconds; saves nothing")
    given = parser.parse_args()
    {"sb3": compare, "memory": memory}[given.what](given.quick)
