"""The host loop's speed beside TF-Agents. See `scripts/benchmark`."""

import argparse
import dataclasses
import statistics

from common import finish, in_turn, markdown, numbers
from host import ONE, SETTINGS

TARGET = 4.0  # times the speed of TF-Agents


def main(quick: bool) -> None:
    """Runs rlzoo and TF-Agents in turn, on the same settings."""
    task = dataclasses.replace(ONE, start=2_048, period=8_192)
    variants = {
        "rlzoo, host loop": task,
        "TF-Agents": dataclasses.replace(task, program="tf_agents"),
    }
    speeds, versions = in_turn(variants, quick)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ours, theirs = medians.values()
    rows = [
        [name, *numbers(speeds[name], medians[name]), f"{ours / theirs:.2f} ({TARGET:g})" * (not i)]
        for i, name in enumerate(variants)
    ]
    settings = SETTINGS.split(" 1 env:")[0] + " 1 environment, a gradient step every 4 steps."
    text = f"""# Speed of the host loop beside TF-Agents

DQN, whole processes in turn, timed after a warm-up of {task.start:,} steps over {task.period:,}
steps by a clock in the environment. TF-Agents runs the parts of its tutorial (DynamicStepDriver,
TFUniformReplayBuffer, a dataset, `common.function` around collecting and training) on
`GymnasiumEnvironment`. rlzoo writes its TensorBoard and metrics files; TF-Agents writes none.

{settings}

{markdown(["program", "runs (steps/s)", "median", "ratio (target)"], rows)}
"""
    results = {
        "steps_per_second": speeds,
        "medians": medians,
        "ratio": ours / theirs,
        "target": TARGET,
    }
    finish("tf_agents_speed", "tf-agents", settings, text, results, versions, quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a try of seconds; saves nothing")
    main(parser.parse_args().quick)
