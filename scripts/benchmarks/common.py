"""What the benchmarks share: programs run in turn, tables, saved results."""

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from worker import Task

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "docs" / "results"
PYTHONS = {
    "rlzoo": ".venv/bin/python",
    "rlzoo graph": ".venv/bin/python",
    "tf_agents": ".venv/bin/python",
    "numpy": ".venv/bin/python",
    "sb3": ".benchmark/venv/bin/python",
    "jax": ".benchmark/jax/bin/python",
}


def in_turn(variants: dict, quick: bool) -> tuple[dict, dict[str, str]]:
    """Returns the steps/s of three runs of each task, taken in turn, and the versions."""
    speeds = {name: [] for name in variants}
    versions = {}
    for seed in range(1 if quick else 3):
        for name, task in variants.items():
            task = dataclasses.replace(shortened(task) if quick else task, seed=seed)
            result = run(task, name if isinstance(name, str) else ", ".join(name))
            (first, _), *_, (last, _) = result["notes"]
            speeds[name].append(result["steps"] / (last - first))
            versions |= result["versions"]
            print(f"    {speeds[name][-1]:,.0f}/s", flush=True)
    return speeds, versions


def shortened(task: Task) -> Task:
    """Returns the task with next to no steps: to see that it runs, not how fast."""
    starts = min(task.learning_starts, 1_000)
    return dataclasses.replace(task, start=1_280, period=640, learning_starts=starts)


def run(task: Task, title: str) -> dict:
    """Runs a task in a process of its own and returns what it prints."""
    print(f"{title}, seed {task.seed} ...", flush=True)
    command = [PYTHONS[task.program], HERE / "worker.py", json.dumps(dataclasses.asdict(task))]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    if task.cores == 1:
        command = ["taskset", "--cpu-list", "0", *command]
        environ["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nscripts/benchmark: {title} failed, see above.")
    return json.loads(done.stdout.splitlines()[-1])


def finish(
    name: str,
    command: str,
    settings: str,
    text: str,
    results: dict,
    versions: dict[str, str],
    trial: bool,
) -> None:
    """Prints the results, and saves them unless they come from a try."""
    versions = {"python": platform.python_version(), **versions}
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"
    text += f"\nMade by `scripts/benchmark {command}` on {machine}, with {listed}.\n"
    print(f"\n{text}")
    if trial:
        print("A try: nothing is saved.")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = {
        "command": f"scripts/benchmark {command}",
        "machine": machine,
        "cpus": os.cpu_count(),
        "versions": versions,
        "settings": settings,
        **results,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    print(f"Saved in docs/results/{name}.md and {name}.json.")


def numbers(speeds: list[float], median: float) -> list[str]:
    """Returns the cells of a row: all runs, and their median."""
    return [", ".join(f"{speed:,.0f}" for speed in speeds), f"{median:,.0f}"]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
