"""The host loop's speed beside TF-Agents. See `scripts/benchmark`."""

import argparse
import dataclasses
import statistics

from common import finish, in_turn, markdown, numbers
from host import ONE, SETTINGS

TARGET = 4.0  # times the speed of TF-Agents
TASK = dataclasses.replace(ONE, start=2_048, period=4_096)
CASES = {  # a gradient step every so many steps
    "every step": dataclasses.replace(TASK, train_every=1),  # as in their tutorial
    "every 4 steps": TASK,
}
PROGRAMS = {"rlzoo, host loop": "rlzoo", "TF-Agents": "tf_agents"}


def main(quick: bool) -> None:
    """Runs rlzoo and TF-Agents in turn, on the same settings."""
    variants = {
        (case, name): dataclasses.replace(task, program=program)
        for case, task in CASES.items()
        for name, program in PROGRAMS.items()
    }
    speeds, versions = in_turn(variants, quick)
    rows, cases = [], {}
    for case in CASES:
        runs = {name: speeds[case, name] for name in PROGRAMS}
        ours, theirs = map(statistics.median, runs.values())
        for median, (name, values) in zip((ours, theirs), runs.items(), strict=True):
            verdict = f"{ours / theirs:.2f} ({TARGET:g})" if name != "TF-Agents" else "1"
            rows.append([case, name, *numbers(values, median), verdict])
        cases[case] = {"steps_per_second": runs, "ratio": ours / theirs, "target": TARGET}
    settings = SETTINGS.split(" 1 env:")[0] + " 1 environment."
    head = ["a gradient step", "program", "runs (steps/s)", "median", "ratio (target)"]
    text = f"""# Speed of the host loop beside TF-Agents

DQN, whole processes in turn, timed after a warm-up of {TASK.start:,} steps over {TASK.period:,}
steps by a clock in the environment. TF-Agents runs the parts of its tutorial (DynamicStepDriver,
TFUniformReplayBuffer, a dataset, `common.function` around collecting and training) on
`GymnasiumEnvironment`; its tutorial takes a gradient step every step. rlzoo writes its TensorBoard
and metrics files; TF-Agents writes none.

{settings}

{markdown(head, rows)}
"""
    finish("tf_agents_speed", "tf-agents", settings, text, {"cases": cases}, versions, quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a try of seconds; saves nothing")
    main(parser.parse_args().quick)
