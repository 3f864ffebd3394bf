"""One measured run, of rlzoo or a program it is compared with, in a process of its own.

Takes a `Task` as JSON, prints one line of JSON. The clock of the host loop and Stable-Baselines3
sits in the environment, which is the same for both programs: it notes the time before a step, so
that what lies between two notes is the whole training loop and nothing else. Where a whole run is
one compiled program, notes are taken between calls of it.
"""

import dataclasses
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable

import gymnasium


@dataclasses.dataclass(frozen=True)
class Task:
    """What to run and what to measure; steps are summed over the environments."""

    program: str  # a key of `PROGRAMS`
    num_envs: int
    train_every: int  # steps of each environment between updates
    gradient_steps: int  # each time
    seed: int = 0
    threads: int = 1  # of PyTorch; rlzoo chooses its own
    cores: int = 0  # 1: the process gets one, 0: it gets them all
    agent: str = "dqn"  # of the graph loop
    baseline: bool = True  # of REINFORCE
    replay: int = 10_000  # transitions
    learning_starts: int = 1_000  # transitions
    last_epsilon: float = 0.05
    epsilon_steps: int = 10_000  # over which epsilon falls from 1 to the last
    start: int = 5_120  # steps before the first note: compiling and warming up
    period: int = 20_480  # steps between notes
    periods: int = 1

    @property
    def steps(self) -> int:
        """Enough of them for the last note."""
        return self.start + self.period * self.periods + 2 * self.num_envs * self.train_every


class Clock(gymnasium.Wrapper):
    """Notes [time in s, memory in bytes] before step `start` and every `period` steps after it."""

    def __init__(self, env: gymnasium.Env, start: int, period: int, memory: Callable[[], int]):
        super().__init__(env)
        self.notes: list[tuple[float, int]] = []
        self._next = start
        self._period = period
        self._memory = memory
        self._steps = 0

    def step(self, action):
        if self._steps == self._next:
            self._next += self._period
            self.notes.append((time.perf_counter(), self._memory()))
        self._steps += 1
        return self.env.step(action)


def run(task: Task) -> dict:
    """Trains; returns the notes, the steps between first and last, and the versions of what ran."""
    notes, steps, packages = PROGRAMS[task.program](task)
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"notes": notes, "steps": steps, "versions": versions}


def with_clock(task: Task) -> tuple[list, int, tuple[str, ...]]:
    """Trains by a loop that steps Gymnasium environments."""
    programs = {"rlzoo": rlzoo_program, "sb3": sb3_program, "tf_agents": tf_agents_program}
    train, memory, packages = programs[task.program]()
    clocks = []

    def make_env() -> gymnasium.Env:
        env = gymnasium.make("CartPole-v1", disable_env_checker=True)
        start, period = task.start // task.num_envs, task.period // task.num_envs
        clocks.append(Clock(env, start, period, memory))
        return clocks[-1]

    train(task, make_env)
    notes = max((clock.notes for clock in clocks), key=len)  # of an environment that trained
    if len(notes) <= task.periods:
        raise RuntimeError(f"expected {task.periods + 1} notes, got {len(notes)}")
    return notes[: task.periods + 1], task.period * task.periods, packages


def rlzoo_program():
    import psutil

    import rlzoo

    def train(task: Task, make_env: Callable) -> None:
        overrides = {
            **dqn_overrides(task),
            "target_update_period": 125,  # gradient steps: 500 environment steps
            "eval_every": 0,
            "eval_episodes": 1,
            "checkpoint_every": 0,
        }
        with tempfile.TemporaryDirectory() as folder:
            rlzoo.train(
                "dqn",
                make_env,
                steps=task.steps,
                seed=task.seed,
                num_envs=task.num_envs,
                run_dir=f"{folder}/run",
                loop="host",
                preset=False,
                overrides=overrides,
                quiet=True,
            )

    memory = psutil.Process().memory_info
    return train, lambda: memory().rss, ("rlzoo-tf", "tensorflow", "keras", "gymnasium", "numpy")


def sb3_program():
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    def train(task: Task, make_env: Callable) -> None:
        torch.set_num_threads(task.threads)
        model = DQN(
            "MlpPolicy",
            make_vec_env(make_env, task.num_envs, seed=task.seed),
            policy_kwargs={"net_arch": [120, 84]},  # ReLU
            learning_rate=2.5e-4,
            batch_size=128,
            buffer_size=task.replay,
            learning_starts=task.learning_starts,
            train_freq=task.train_every,
            gradient_steps=task.gradient_steps,
            target_update_interval=500,  # environment steps
            exploration_fraction=min(1.0, task.epsilon_steps / task.steps),
            exploration_final_eps=task.last_epsilon,
            seed=task.seed,
            device="cpu",
        )
        model.learn(task.steps)

    return train, lambda: 0, ("stable-baselines3", "torch", "gymnasium", "numpy")


def tf_agents_program():
    """Their tutorial's parts on our environment: they cannot open one of Gymnasium."""
    import os

    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from tf_agents.agents.dqn import dqn_agent
    from tf_agents.drivers import dynamic_step_driver
    from tf_agents.environments import tf_py_environment
    from tf_agents.networks import q_network
    from tf_agents.replay_buffers import tf_uniform_replay_buffer
    from tf_agents.utils import common

    from rlzoo.interop import tf_agents as bridge

    def train(task: Task, make_env: Callable) -> None:
        env = bridge.GymnasiumEnvironment(make_env, task.num_envs, seed=task.seed)
        tf_env = tf_py_environment.TFPyEnvironment(env)
        counter = tf.Variable(0, dtype=tf.int64)
        chunk = task.train_every * task.num_envs
        epsilon = tf.keras.optimizers.schedules.PolynomialDecay(  # noqa: TID251
            1.0, task.epsilon_steps * task.gradient_steps // chunk, task.last_epsilon
        )
        agent = dqn_agent.DqnAgent(
            tf_env.time_step_spec(),
            tf_env.action_spec(),
            q_network=q_network.QNetwork(
                tf_env.observation_spec(), tf_env.action_spec(), fc_layer_params=(120, 84)
            ),
            optimizer=tf.keras.optimizers.Adam(2.5e-4),  # noqa: TID251
            epsilon_greedy=lambda: epsilon(counter),
            target_update_period=125,
            td_errors_loss_fn=common.element_wise_huber_loss,
            gamma=0.99,
            gradient_clipping=10.0,
            train_step_counter=counter,
        )
        agent.initialize()
        replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            agent.collect_data_spec, task.num_envs, max_length=task.replay // task.num_envs
        )
        driver = dynamic_step_driver.DynamicStepDriver(
            tf_env, agent.collect_policy, [replay.add_batch], num_steps=chunk
        )
        collect, learn = common.function(driver.run), common.function(agent.train)
        time_step, batches = None, None
        for taken in range(chunk, task.steps + chunk, chunk):
            time_step, _ = collect(time_step)
            if taken < task.learning_starts:
                continue
            if batches is None:
                data = replay.as_dataset(num_parallel_calls=2, sample_batch_size=128, num_steps=2)
                batches = iter(data.prefetch(3))
            for _ in range(task.gradient_steps):
                experience, _ = next(batches)
                learn(experience)

    return train, lambda: 0, ("tf-agents", "tf-keras", "tensorflow", "gymnasium", "numpy")


def rlzoo_graph(task: Task) -> tuple[list, int, tuple[str, ...]]:
    """Trains by the graph loop.

    Steps are environment steps, for `dyna_q` planning backups.
    """
    from rlzoo.config.resolve import resolve
    from rlzoo.envs.ports import make_ported_envs
    from rlzoo.loops.graph import GraphLoop
    from rlzoo.runs.build import Source, build_agent

    overrides: dict = {"baseline": task.baseline} if task.agent == "reinforce" else {}
    if task.agent == "dqn":
        overrides = {
            **dqn_overrides(task),
            "loss": "squared",  # as the JAX program
            "target_update_period": 50,  # gradient steps: 500 environment steps
        }
    config = resolve(
        task.agent,
        "rlzoo/DynaMaze-v0" if task.agent == "dyna_q" else "CartPole-v1",
        preset=task.agent != "dqn",
        overrides=overrides,
        seed=task.seed,
        num_envs=task.num_envs,
    )
    envs = make_ported_envs(config.env, task.num_envs)
    agent = build_agent(config, envs.spec, Source())
    loop = GraphLoop(agent, envs, config.seed)
    loop.run(task.start)  # compiles, and fills replay
    notes, steps = [(time.perf_counter(), 0)], 0
    for period in range(task.periods):
        steps += loop.run(task.start + (period + 1) * task.period).steps
        notes.append((time.perf_counter(), 0))
    if task.agent == "dyna_q":
        steps *= agent.config.planning_steps
    return notes, steps, ("rlzoo-tf", "tensorflow", "keras", "numpy")


def dqn_overrides(task: Task) -> dict:
    """Returns what both loops of rlzoo are told of DQN."""
    return {
        "torso": {"name": "dense", "sizes": [120, 84]},
        "exploration": {
            "name": "epsilon_greedy",
            "epsilon": {
                "name": "linear",
                "start": 1.0,
                "end": task.last_epsilon,
                "steps": task.epsilon_steps,
            },
        },
        "learning_rate": 2.5e-4,
        "batch_size": 128,
        "replay_capacity": task.replay,
        "learning_starts": task.learning_starts,
        "train_every": task.train_every,
        "updates_per_chunk": task.gradient_steps,
    }


def jax_program(task: Task) -> tuple[list, int, tuple[str, ...]]:
    """Trains by the JAX program."""
    import jax_dqn

    return jax_dqn.measure(task), task.period * task.periods, jax_dqn.PACKAGES


def numpy_program(task: Task) -> tuple[list, int, tuple[str, ...]]:
    """Plans by the NumPy program, counting backups."""
    import numpy_dyna_q

    notes = numpy_dyna_q.measure(task.start, task.period, task.seed)
    return notes, task.period * numpy_dyna_q.PLANNING_STEPS, ("numpy",)


PROGRAMS = {
    "rlzoo": with_clock,
    "sb3": with_clock,
    "tf_agents": with_clock,
    "rlzoo graph": rlzoo_graph,
    "jax": jax_program,
    "numpy": numpy_program,
}

if __name__ == "__main__":
    print(json.dumps(run(Task(**json.loads(sys.argv[1])))))
