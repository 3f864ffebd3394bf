"""The graph loop's speed beside a JAX program and Stable-Baselines3. See `scripts/benchmark`."""

import argparse
import statistics

from common import finish, in_turn, markdown, numbers
from worker import Task

SETTINGS = (
    "DQN: CartPole-v1, 10 envs, layers of 120 and 84 ReLU units, a gradient step of Adam at 2.5e-4 "
    "on a batch of 128 after each vector step (10 steps), replay of 10,000, learning from 10,000 "
    "steps on, target network copied every 500 steps, epsilon from 1 to 0.05 over 25,000 steps. "
    "REINFORCE: CartPole-v1, 64 envs, rlzoo's preset (two layers of 64 tanh units, a baseline "
    "fitted by 10 gradient steps an update), and the same without a baseline. Dyna-Q: the "
    "Dyna maze, 1 env, 50 planning backups a step."
)


def dqn(program: str, **changes) -> Task:
    """Returns the DQN task, for one of the programs."""
    fields = {
        "num_envs": 10,
        "train_every": 1,
        "gradient_steps": 1,
        "learning_starts": 10_000,
        "epsilon_steps": 25_000,
        "start": 50_000,
        "period": 500_000,
    }
    return Task(program, **{**fields, **changes})


def dyna_q(program: str, period: int) -> Task:
    """Returns the Dyna-Q task."""
    return Task(program, num_envs=1, train_every=1, gradient_steps=0, period=period, agent="dyna_q")


def reinforce(baseline: bool) -> Task:
    """Returns the REINFORCE task, with or without the learned baseline."""
    fields = {"num_envs": 64, "train_every": 1, "gradient_steps": 1, "baseline": baseline}
    return Task("rlzoo graph", **fields, agent="reinforce", start=200_000, period=2_000_000)


VARIANTS = {
    ("DQN", "rlzoo, 1 core"): dqn("rlzoo graph", cores=1),
    ("DQN", "JAX, 1 core"): dqn("jax", cores=1),
    ("DQN", "rlzoo, 2 cores"): dqn("rlzoo graph"),
    ("DQN", "JAX, 2 cores"): dqn("jax"),
    ("DQN", "SB3, 1 thread"): dqn("sb3", threads=1, start=15_000, period=30_000),
    ("DQN", "SB3, 2 threads"): dqn("sb3", threads=2, start=15_000, period=30_000),
    ("REINFORCE", "no baseline"): reinforce(baseline=False),
    ("REINFORCE", "preset"): reinforce(baseline=True),
    ("Dyna-Q backups", "rlzoo"): dyna_q("rlzoo graph", period=200_000),
    ("Dyna-Q backups", "NumPy"): dyna_q("numpy", period=5_000),
}
# What is asked of rlzoo: (case, program, target), the target a speed or times that of another.
RATIOS = (
    ("DQN", "rlzoo, 1 core", "JAX, 1 core", 1.2),
    ("DQN", "rlzoo, 2 cores", "rlzoo, 1 core", 1.0),
    ("DQN", "rlzoo, 2 cores", "JAX, 2 cores", None),
    ("DQN", "rlzoo, 2 cores", "JAX, 1 core", None),
    ("DQN", "rlzoo, 1 core", "SB3, 1 thread", None),
    ("DQN", "rlzoo, 2 cores", "SB3, 2 threads", 20.0),
    ("Dyna-Q backups", "rlzoo", "NumPy", 10.0),
)
SPEEDS = (
    ("REINFORCE", "no baseline", 500_000),
    ("REINFORCE", "preset", 500_000),
    ("Dyna-Q backups", "rlzoo", 2_000_000),
)


def compare(quick: bool, programs: list[str] | None) -> None:
    """Runs the programs in turn and sets their speeds side by side."""
    variants = {
        key: task for key, task in VARIANTS.items() if not programs or task.program in programs
    }
    speeds, versions = in_turn(variants, quick)
    medians = {key: statistics.median(values) for key, values in speeds.items()}
    rows = [[*key, *numbers(speeds[key], medians[key])] for key in variants]
    checks, verdicts = [], []
    for case, ours, other, target in RATIOS:
        if {(case, ours), (case, other)} <= medians.keys():
            ratio = medians[case, ours] / medians[case, other]
            verdicts.append([case, ours, other, f"{ratio:.2f}", f"{target:g}" if target else ""])
            checks.append(
                {"case": case, "program": ours, "beside": other, "ratio": ratio, "target": target}
            )
    for case, ours, target in SPEEDS:
        if (case, ours) in medians:
            speed = medians[case, ours]
            verdicts.append([case, ours, "", f"{speed:,.0f}/s", f"{target:,}/s"])
            checks.append({"case": case, "program": ours, "speed": speed, "target": target})
    text = f"""# Speed of the graph loop

Whole processes in turn, timed after compiling and a warm-up, over a fixed number of steps. The JAX
program is `scripts/benchmarks/jax_dqn.py`, written to be as fast as it can and to do the work of
PureJaxRL's DQN. With 1 core the process is bound to it; SB3's threads are PyTorch's. Figures are
environment steps per second, for Dyna-Q planning backups per second.

{SETTINGS}

{markdown(["case", "program", "runs (per s)", "median"], rows)}

{markdown(["case", "program", "beside", "ratio of medians, or median", "target"], verdicts)}
"""
    results = {
        "per_second": {", ".join(key): values for key, values in speeds.items()},
        "medians": {", ".join(key): value for key, value in medians.items()},
        "targets": checks,
    }
    partial = programs is not None
    finish("graph_speed", "graph", SETTINGS, text, results, versions, quick or partial)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/benchmark graph", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a try of seconds; saves nothing")
    parser.add_argument("--only", nargs="+", help="programs to run; saves nothing")
    given = parser.parse_args()
    compare(given.quick, given.only)
