"""Runs to be killed: `python -m tests.runs.killed_runs FOLDER CASE...` starts and parks them.

Each case trains up to a step in the midst of an episode, some time after a checkpoint, where its
environment, or the graph loop, stops answering. When all have come so far, the process waits to be
killed. One process for many runs, as importing TensorFlow takes as long as training these.
"""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

EPISODE = 15  # a time limit: checks (two episodes) and evaluations end before a run is parked


class Parking(gymnasium.Wrapper):
    """An environment that, from its step `at` on, leaves a note and never answers."""

    def __init__(self, env: gymnasium.Env, at: int, note: Path):
        super().__init__(env)
        self.at, self.note, self.count = at, note, 0

    def step(self, action):
        self.count += 1
        if self.count == self.at:
            self.note.touch()
            time.sleep(1_000)
        return self.env.step(action)


@contextlib.contextmanager
def parking_loop(at: int, note: Path):
    """In here, the graph loop leaves a note and never answers once it has come to step `at`."""
    from rlzoo.loops.graph import GraphLoop

    run = GraphLoop.run

    def run_and_park(self, until, *seconds):
        report = run(self, until, *seconds)
        if int(self.state.loop.learning.step) >= at:
            note.touch()
            time.sleep(1_000)
        return report

    GraphLoop.run = run_and_park
    yield
    GraphLoop.run = run


def make_env(env: str, parking: tuple[int, Path] | None = None, **kwargs) -> gymnasium.Env:
    made = gymnasium.make(env, **kwargs)
    return Parking(made, *parking) if parking else made


@dataclasses.dataclass(frozen=True)
class Case:
    """A run, and the step of one of its environments where it is parked."""

    agent: str
    env: str
    at: int
    num_envs: int = 1
    vector: str = "sync"
    loop: str = "host"
    steps: int = 160
    torso: str | None = None
    counting: bool = False  # whether its strategy is one of the user's own that keeps a state
    exploration: str | None = None  # one of the table's
    settings: dict = dataclasses.field(default_factory=dict)
    env_kwargs: dict = dataclasses.field(default_factory=lambda: {"max_episode_steps": EPISODE})

    def arguments(self) -> dict[str, Any]:
        """What only Python can hand to `rlzoo.train` and `rlzoo.resume`, without parking."""
        return {"env": self.make(), **({"exploration": counting()} if self.counting else {})}

    def make(self, parking: tuple[int, Path] | None = None) -> Callable[..., gymnasium.Env]:
        return partial(make_env, self.env, parking, **self.env_kwargs)

    def train(self, run_dir: Path, **changes: Any):
        """Runs it to its end, in its folder."""
        import rlzoo

        settings = {"eval_every": 40, "checkpoint_every": 40, "log_every": 40, "eval_episodes": 2}
        arguments = {
            "steps": self.steps,
            "seed": 7,
            "num_envs": self.num_envs,
            "vector": self.vector,
            "loop": self.loop,
            "torso": self.torso,
            "exploration": self.exploration,
            "overrides": {**settings, **self.settings},
            **self.arguments(),
            **changes,
        }
        return rlzoo.train(self.agent, run_dir=run_dir, preset=False, quiet=True, **arguments)


def counting():
    """Returns a strategy with a state: the more steps it has seen, the warmer it is."""
    import tensorflow as tf

    from rlzoo.exploration import Exploration

    @dataclasses.dataclass(frozen=True)
    class Counting(Exploration):
        rate: float = 0.5

        def init(self, num_envs, spec):
            return (tf.zeros([num_envs]),)

        def log_probs(self, scores, state, step):
            warmth = 1.0 + self.rate * state[0]  # [N]
            warmth = tf.broadcast_to(warmth[:, None], tf.shape(scores))
            return tf.nn.log_softmax(scores / warmth)

        def observe(self, state, chunk):
            valid = tf.cast(chunk.valid, tf.float32)  # [T, N]
            return (state[0] + tf.reduce_sum(valid, axis=0) / 16.0,)

    return Counting()


_REPLAY = {"learning_starts": 16, "batch_size": 8, "torso.sizes": [8]}
CASES = {
    "dqn": Case(
        "dqn", "CartPole-v1", at=101, counting=True,
        settings={
            **_REPLAY, "replay_capacity": 64, "target_update_period": 3, "n_step": 3,
            "priority_exponent": 0.6, "frame_stack": 2,
        },
    ),
    "dqn before its first save": Case(
        "dqn", "CartPole-v1", at=39, steps=80, settings={**_REPLAY, "checkpoint_every": 0},
    ),
    "dqn, 3 environments in processes": Case(
        "dqn", "CartPole-v1", at=41, num_envs=3, vector="async",
        settings={
            **_REPLAY, "replay_capacity": 500, "target_update_rate": 0.1, "double_q": True,
            "env_step_timeout": 0,  # it waits in a step until all are parked
        },
    ),
    "dqn with memory": Case(  # sequences begin anywhere in an episode, which has 7 steps
        "dqn", "rlzoo/Memory-v0", at=42, num_envs=2, torso="lstm",
        settings={
            "learning_starts": 16, "batch_size": 8, "replay_capacity": 64, "train_every": 4,
            "target_update_period": 3, "torso.units": 4, "torso.encoder": [4],
        },
        env_kwargs={"delay": 5},
    ),
    "reinforce": Case(
        "reinforce", "CartPole-v1", at=45, num_envs=2, exploration="epsilon_z",
        settings={
            "torso.sizes": [8], "normalize.obs": True, "normalize.reward": True, "frame_stack": 2,
        },
    ),
    "reinforce with memory": Case(
        "reinforce", "rlzoo/Memory-v0", at=42, num_envs=2, torso="lstm",
        settings={"torso.units": 4, "torso.encoder": [4]}, env_kwargs={"delay": 5},
    ),
    "reinforce with memory, 1 environment": Case(
        "reinforce", "rlzoo/CartPoleNoVel-v1", at=90, torso="gru",
        settings={"torso.units": 4, "baseline": False},
    ),
    "dyna_q over a table": Case(  # the maze changes after the last save and the kill
        "dyna_q", "rlzoo/DynaMaze-v0", at=101, exploration="ucb",
        settings={"planning_steps": 5},
        env_kwargs={
            "max_episode_steps": EPISODE, "shape": [2, 4], "start": [1, 0], "goal": [0, 3],
            "walls": [[0, 1]], "later_walls": [[1, 1]], "change_after": 110,
        },
    ),
    "dyna_q over a table, 3 environments in processes": Case(
        "dyna_q", "rlzoo/DynaMaze-v0", at=41, num_envs=3, vector="async",
        settings={"planning_steps": 5, "env_step_timeout": 0},
    ),
    "dyna_q with networks": Case(
        "dyna_q", "CartPole-v1", at=50, num_envs=2,
        settings={**_REPLAY, "planning_steps": 2, "planning_starts": 24, "model_sizes": [8]},
    ),
}  # fmt: skip
IN_GRAPH = (
    "dqn",
    "dqn with memory",
    "reinforce",
    "reinforce with memory",
    "dyna_q over a table",
    "dyna_q with networks",
)
CASES |= {
    f"{name}, graph": dataclasses.replace(CASES[name], loop="graph", at=101) for name in IN_GRAPH
}


def note(folder: Path, name: str) -> Path:
    """Returns the file that says that a case is parked."""
    return folder / f"{name}.parked"


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        case = CASES[name]
        parked = note(folder, name)
        in_host = case.loop == "host"
        changes = {"env": case.make((case.at, parked))} if in_host else {}
        with contextlib.nullcontext() if in_host else parking_loop(case.at, parked):
            thread = threading.Thread(
                target=case.train, args=(folder / name,), kwargs=changes, daemon=True
            )
            thread.start()
            while not parked.exists():  # one after the other: they share the cores
                time.sleep(0.01)
                if not thread.is_alive():
                    sys.exit(f"{name} has ended before it was parked")
    note(folder, "all").touch()
    time.sleep(1_000)


def final_arrays(run_dir: Path) -> dict[str, np.ndarray]:
    """Returns every array of a run's newest checkpoint."""
    from rlzoo.storage import checkpoint

    return checkpoint.load(run_dir / "checkpoints")[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
