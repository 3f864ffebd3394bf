"""Do the presets hold on other processors? docs/results/robustness.md: best and last, every seed.

    scripts/learn robustness                       every preset, seeds 100 to 109
    scripts/learn robustness mountaincar 100 101   one of them, two seeds

Floating point differs between processors, and training magnifies it: another set of instructions
is as good as another machine. Each preset is trained with the machine's own and with two others.
What is in docs/results/robustness.json already is kept, and not trained again.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEEDS = range(100, 110)
INSTRUCTIONS = {  # what each set is called, and the variables that choose it
    "own": {},
    "XLA AVX2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}
PRESETS = {  # arguments of `rlzoo train`, and the least return that users are promised
    "mountaincar": ("dqn MountainCar-v0", -110.0),
    "cartpole": ("dqn CartPole-v1", 475.0),
    "cartpole-softmax": ("dqn CartPole-v1 --exploration softmax", 475.0),
    "cartpole-reinforce": ("reinforce CartPole-v1 --steps 100000", 450.0),
    "cartpole-dyna": ("dyna_q CartPole-v1", 400.0),
    "dyna-maze": ("dyna_q rlzoo/DynaMaze-v0", 1.0),
    "frozenlake": ("dyna_q FrozenLake-v1", 0.7),
    "cliffwalking": ("dyna_q CliffWalking-v1", -13.0),
    "memory-dqn": ("dqn rlzoo/Memory-v0", 0.9),
    "memory-reinforce": ("reinforce rlzoo/Memory-v0 --steps 30000", 0.9),
}


def trained(command: str, seed: int, variables: dict[str, str]) -> dict:
    """Trains one run in a process of its own; returns its best and its last mean return."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*command.split(), "--loop", "graph", "--seed", str(seed)]
        subprocess.run(
            [sys.executable, "-m", "rlzoo.cli", "train", *arguments, "--run-dir", f"{folder}/run"],
            env={**os.environ, **variables},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return {"seed": seed, "best": summary["mean_return"], "last": summary["last_mean_return"]}


def main() -> None:
    """Trains what is named, or all, and draws the page."""
    names = [word for word in sys.argv[1:] if not word.isdigit()] or list(PRESETS)
    seeds = [int(word) for word in sys.argv[1:] if word.isdigit()] or list(SEEDS)
    for name in names:
        if name not in PRESETS:
            sys.exit(f"Unknown preset {name!r}. Known: {', '.join(PRESETS)}.")
    file = RESULTS / "robustness.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    flags = Path("/proc/cpuinfo").read_text().split()
    own = next((flag for flag in ("avx512f", "avx2", "avx") if flag in flags), "")
    for name in names:
        command, bound = PRESETS[name]
        result = found.setdefault(name, {"command": command, "bound": bound, "rows": []})
        for seed in seeds:
            for instructions, variables in INSTRUCTIONS.items():
                key = {"instructions": instructions, "seed": seed}
                if any(key.items() <= row.items() for row in result["rows"]):
                    continue
                row = {**key, **trained(command, seed, variables), "cpu": own}
                print(name, json.dumps(row), file=sys.stderr, flush=True)
                result["rows"].append(row)
                file.write_text(json.dumps(found) + "\n")
    (RESULTS / "robustness.md").write_text("\n".join(page(found)) + "\n")


def page(found: dict[str, dict]) -> list[str]:
    """Returns the lines of docs/results/robustness.md."""
    own = ", ".join(sorted({row["cpu"] for result in found.values() for row in result["rows"]}))
    lines = [
        "# Do the presets hold on other processors?",
        "",
        "Training magnifies what processors round differently, so each preset is trained with the",
        "machine's own instructions, with `XLA_FLAGS=--xla_cpu_max_isa=AVX2`, and with",
        "`ONEDNN_MAX_CPU_ISA=AVX2`, for seeds that it was not tuned on, in the graph loop.",
        "`best` is the mean return of the best checkpoint over 20 fresh episodes, `last` that of",
        "the final weights. Made by `scripts/learn robustness`. Where `last` is below `best`,",
        "training forgot again; `evaluate`, `record` and `load` take the best.",
        "",
        f"The machine's own instructions: {own}. Seeds that are missing were not trained yet.",
        "",
        "| preset | promised | best reaches it | worst best | last reaches it | worst last |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        best, last = ([row[key] for row in result["rows"]] for key in ("best", "last"))
        held = [sum(x >= result["bound"] for x in values) for values in (best, last)]
        lines.append(
            f"| {name} | {result['bound']:g} | {held[0]} of {len(best)} | {min(best):.2f} "
            f"| {held[1]} of {len(last)} | {min(last):.2f} |"
        )
    for name, result in found.items():
        lines += ["", f"## {name}", "", f"`rlzoo train {result['command']} --loop graph --seed S`"]
        for key in ("best", "last"):
            seeds = sorted({row["seed"] for row in result["rows"]})
            lines += [
                "",
                f"| {key}, seed | {' | '.join(map(str, seeds))} |",
                f"|---|{'---|' * len(seeds)}",
            ]
            for instructions in INSTRUCTIONS:
                rows = [r for r in result["rows"] if r["instructions"] == instructions]
                by_seed = {row["seed"]: f"{row[key]:.2f}" for row in rows}
                cells = " | ".join(by_seed.get(seed, "") for seed in seeds)
                lines.append(f"| {instructions} | {cells} |")
    return lines


if __name__ == "__main__":
    main()
