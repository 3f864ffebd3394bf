"""TF-Agents and rlzoo in each other's hands on CartPole-v1: docs/results/tf_agents.md.

    scripts/learn tf-agents                 all cases
    scripts/learn tf-agents driver          one of them: dqn, ppo, driver

`dqn` and `ppo` train their agents by `rlzoo train`, `driver` trains our DQN by their driver and
their replay buffer. One process per seed.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEEDS = range(3)
RLZOO = [sys.executable, "-m", "rlzoo.cli"]
CASES = {
    "dqn": ("rlzoo train tf_agents.dqn CartPole-v1 --steps 30000", 400),
    "ppo": ("rlzoo train tf_agents.ppo CartPole-v1 --steps 200000", 475),
    "driver": ("scripts/learn tf-agents driver", 400),
}
STEPS, CHUNK, UPDATES, BATCH = 50_000, 256, 128, 64  # the preset of our DQN
EVAL_EVERY, EPISODES, ENOUGH = 1_000, 20, 490


def by_command(command: str, seed: int) -> dict:
    """Trains by the command line; returns its summary and its evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--seed", str(seed), "--run-dir", f"{folder}/run", "--json"]
        done = subprocess.run(
            [*RLZOO, *command.split()[1:], *arguments], check=True, stdout=subprocess.PIPE
        )
        table = Path(folder, "run", "metrics.csv").read_text().splitlines()
    rows = [line.split(",") for line in table]
    evaluations = [(int(row[0]), float(row[3])) for row in rows if row[2] == "eval/return"]
    return {**json.loads(done.stdout.splitlines()[-1]), "evaluations": evaluations}


def by_their_driver(seed: int) -> dict:
    """Trains our DQN by their driver, replay buffer and evaluation; returns a summary."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from tf_agents.drivers import dynamic_step_driver
    from tf_agents.environments import tf_py_environment
    from tf_agents.metrics import tf_metrics
    from tf_agents.replay_buffers import tf_uniform_replay_buffer
    from tf_agents.utils import common

    from rlzoo import networks
    from rlzoo.agents import DQN
    from rlzoo.exploration import EpsilonGreedy
    from rlzoo.interop import tf_agents as bridge
    from rlzoo.ops.schedules import Linear

    def environment(stream: int, num_envs: int = 1):
        env = bridge.GymnasiumEnvironment("CartPole-v1", num_envs, seed=10 * seed + stream)
        return tf_py_environment.TFPyEnvironment(env)

    train_env = environment(0)
    agent = DQN(
        train_env.pyenv.spec,
        DQN.Config(
            learning_rate=2.3e-3,
            batch_size=BATCH,
            target_update_period=128,
            double_q=True,
            loss="squared",
            replay_capacity=1,  # not used: theirs is
            learning_starts=1,
        ),
        EpsilonGreedy(Linear(1.0, 0.04, 8_000)),
        networks.dense((120, 84), init="glorot", seed=seed),
        seed,
    )
    greedy = bridge.to_tf_policy(agent, seed=seed)
    collect = bridge.to_tf_policy(agent, explore=True, seed=seed)
    replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        collect.trajectory_spec, batch_size=1, max_length=100_000
    )
    driver = dynamic_step_driver.DynamicStepDriver(
        train_env, collect, observers=[replay.add_batch], num_steps=CHUNK
    )
    collect_chunk = common.function(driver.run)

    @tf.function
    def learn(batches, updates):
        for _ in tf.range(UPDATES):
            experience, _ = next(batches)
            agent.gradient_step(bridge.to_transitions(experience), updates)
            updates += 1
        return updates

    def evaluator(stream: int):
        """Returns a function that plays 500 steps side by side, as long as an episode may be."""
        env = environment(stream, EPISODES)
        metric = tf_metrics.AverageReturnMetric(batch_size=EPISODES, buffer_size=EPISODES)
        play = dynamic_step_driver.DynamicStepDriver(
            env, greedy, [metric], num_steps=500 * EPISODES
        )
        run = common.function(play.run)

        def evaluate() -> float:
            metric.reset()
            run(env.reset())
            return float(metric.result())  # of the episodes that ended last

        return evaluate

    evaluate, judge = evaluator(1), evaluator(2)

    time_step, batches, best, weights = None, None, -1.0, agent.actor.network.get_weights()
    updates, evaluations, taken, best_step = tf.constant(0, tf.int64), 0, 0, 0
    history: list[tuple[int, float]] = []
    while taken < STEPS:
        time_step, _ = collect_chunk(time_step)
        taken += CHUNK
        if taken < 1_000:
            continue
        if batches is None:
            batches = iter(replay.as_dataset(sample_batch_size=BATCH, num_steps=2).prefetch(3))
        updates = learn(batches, updates)
        if taken // EVAL_EVERY > evaluations:
            evaluations = taken // EVAL_EVERY
            mean = evaluate()
            history.append((taken, mean))
            print(f"seed {seed}, step {taken:,}: {mean:.1f}", file=sys.stderr, flush=True)
            if mean >= best:
                best, best_step, weights = mean, taken, agent.actor.network.get_weights()
            if best >= ENOUGH:
                break
    last = judge()
    agent.actor.network.set_weights(weights)
    return {
        "seed": seed,
        "steps": taken,
        "best_step": best_step,
        "mean_return": judge(),
        "last_mean_return": last,
        "evaluations": history,
    }


def trained(case: str, seed: int) -> dict:
    """Returns the summary of one seed, trained in a process of its own."""
    if case != "driver":
        return by_command(CASES[case][0], seed)
    done = subprocess.run(
        [sys.executable, __file__, "--seed", str(seed)], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout.splitlines()[-1])


def record(summary: dict, wanted: float) -> dict:
    """Returns what is kept of a summary, with the step of the first evaluation good enough."""
    keys = ("seed", "steps", "best_step", "mean_return", "last_mean_return")
    reached = [step for step, mean in summary["evaluations"] if mean >= wanted]
    return {**{key: summary[key] for key in keys}, "reached_at": reached[0] if reached else None}


def main() -> None:
    """Trains the cases that are named, or all, and draws the page."""
    file = RESULTS / "tf_agents.json"
    cases = json.loads(file.read_text())["cases"] if file.exists() else {}
    for case in sys.argv[1:] or CASES:
        for seed in SEEDS:
            row = record(trained(case, seed), CASES[case][1])
            print(case, json.dumps(row), file=sys.stderr, flush=True)
            others = [r for r in cases.get(case, []) if r["seed"] != seed]
            cases[case] = sorted([*others, row], key=lambda r: r["seed"])
            result = {"command": "scripts/learn tf-agents", "cases": cases}
            file.write_text(json.dumps(result, indent=1) + "\n")
            (RESULTS / "tf_agents.md").write_text("\n".join(page(cases)) + "\n")


def page(cases: dict) -> list[str]:
    """Returns the lines of docs/results/tf_agents.md."""
    lines = [
        "# TF-Agents and rlzoo in each other's hands",
        "",
        f"CartPole-v1, `scripts/learn tf-agents` ({platform.machine()}). `dqn` and `ppo`: agents",
        "of TF-Agents 0.19.0 in rlzoo's trainer with the presets that ship. `driver`: our DQN",
        "with their DynamicStepDriver, TFUniformReplayBuffer and metrics, until an evaluation",
        f"reaches {ENOUGH}, at most {STEPS:,} steps. `best` is the best of the evaluations on the",
        "way, `last` the final weights, both over 20 fresh greedy episodes. `reached at` is the",
        "first of the evaluations, every 1,000 steps (`ppo`: 10,000), with what is wanted.",
        "",
        "| case | command | seed | steps | wanted | reached at | best at | best | last |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, (command, wanted) in CASES.items():
        for r in cases.get(case, []):
            seed = "" if case == "driver" else f" --seed {r['seed']}"
            lines.append(
                f"| {case} | `{command}{seed}` | {r['seed']} | {r['steps']:,} | {wanted} "
                f"| {'never' if r['reached_at'] is None else format(r['reached_at'], ',')} "
                f"| {r['best_step']:,} | {r['mean_return']:.2f} | {r['last_mean_return']:.2f} |"
            )
    lines.append("")
    for case, (_, wanted) in CASES.items():
        rows = cases.get(case, [])
        reached = sum(r["mean_return"] >= wanted for r in rows)
        lines.append(f"- {case}: {reached} of {len(rows)} seeds reach {wanted}.")
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seed"]:
        print(json.dumps(by_their_driver(int(sys.argv[2]))))
    else:
        main()
