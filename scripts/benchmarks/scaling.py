"""How the graph loop's cost grows with environments, batch, network and replay."""

import argparse
import importlib.metadata
import statistics
import time

from common import finish, markdown

SETTINGS = (
    "DQN on CartPole-v1; unless the row says otherwise: 10 environments, layers of 120 and 84 ReLU "
    "units, one gradient step on a batch of 128 after each vector step, replay of 10,000."
)
ROWS = {
    "environments": [{"num_envs": n} for n in (1, 10, 100, 1_000)],
    "batch": [{"batch_size": n} for n in (32, 128, 512)],
    "network": [{"torso.sizes": sizes} for sizes in ([64, 64], [120, 84], [256, 256])],
    "replay": [{"replay_capacity": n} for n in (10_000, 100_000, 1_000_000, 4_000_000)],
    "vector steps and gradient steps per chunk": [
        {"train_every": n, "updates_per_chunk": n} for n in (1, 8, 64)
    ],
}


def measure(setting: dict, chunks: int) -> tuple[float, float, float]:
    """Returns seconds to compile, seconds per chunk (median of 3), environment steps per s."""
    from rlzoo.config.resolve import resolve
    from rlzoo.envs.ports import make_ported_envs
    from rlzoo.loops.graph import GraphLoop
    from rlzoo.runs.build import Source, build_agent

    overrides = {
        "torso.sizes": [120, 84],
        "batch_size": 128,
        "replay_capacity": 10_000,
        "learning_starts": 5_000,
        "train_every": 1,
        "loss": "squared",
        **setting,
    }
    num_envs = overrides.pop("num_envs", 10)
    config = resolve("dqn", "CartPole-v1", preset=False, num_envs=num_envs, overrides=overrides)
    envs = make_ported_envs(config.env, num_envs)
    loop = GraphLoop(build_agent(config, envs.spec, Source()), envs, 0)
    started = time.perf_counter()
    loop.compile()
    compiling = time.perf_counter() - started
    steps = num_envs * overrides["train_every"]  # of a chunk
    until = 6_000 + steps
    loop.run(until)
    times = []
    for _ in range(3):
        until += chunks * steps
        started = time.perf_counter()
        report = loop.run(until)
        times.append((time.perf_counter() - started) / report.chunks)
    per_chunk = statistics.median(times)
    return compiling, per_chunk, steps / per_chunk


def main(quick: bool) -> None:
    """Measures every row."""
    table, results = [], []
    for what, settings in ROWS.items():
        for setting in settings:
            size = next(iter(setting.values()))
            chunks = 20 if quick else max(100, 1_500 // setting.get("train_every", 1))
            compiling, per_chunk, speed = measure(setting, chunks)
            shown = f"{size:,}" if isinstance(size, int) else " x ".join(map(str, size))
            table.append(
                [what, shown, f"{1e6 * per_chunk:,.0f}", f"{speed:,.0f}", f"{compiling:.1f}"]
            )
            results.append(
                {**setting, "compile": compiling, "per_chunk": per_chunk, "steps_per_second": speed}
            )
            print(*table[-1], sep="  ", flush=True)
    head = ["what is varied", "to", "us per chunk", "env steps per s", "s to compile"]
    text = f"""# How the cost of the graph loop grows

{SETTINGS} Medians of three stretches; compiling includes tracing.

{markdown(head, table)}
"""
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
    finish("graph_scaling", "scaling", SETTINGS, text, {"rows": results}, versions, quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/benchmark scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a try of seconds; saves nothing")
    main(parser.parse_args().quick)
