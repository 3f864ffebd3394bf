"""A command opens an environment once to see what it is like; all others are stepped."""

import sys
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rlzoo
from rlzoo.runs import seeds

TINY = {"eval_every": 30, "eval_episodes": 2, "log_every": 30}
ASKED, TRAINED, EVALUATED = 1, 3, 2  # environments


class Ring(gymnasium.Env):
    """Walks a ring of 5 states; counts how often it was made."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(self, render_mode=None):
        Ring.made += 1
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(5))
        return self.state, {}

    def step(self, action):
        self.state = (self.state + 2 * action - 1) % 5
        return self.state, float(self.state == 3), self.state == 3, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


class Pixels(Ring):
    """The same, seen as numbers: what there is to reconstruct."""

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)

    def reset(self, *, seed=None, options=None):
        state, info = super().reset(seed=seed)
        return np.eye(5, dtype=np.float32)[state], info

    def step(self, action):
        state, *rest = super().step(action)
        return np.eye(5, dtype=np.float32)[state], *rest


@pytest.fixture(autouse=True)
def ring():
    gymnasium.register("tests/Ring-v0", Ring, max_episode_steps=10)
    gymnasium.register("tests/Pixels-v0", Pixels, max_episode_steps=10)
    Ring.made = 0
    yield
    gymnasium.registry.pop("tests/Ring-v0")
    gymnasium.registry.pop("tests/Pixels-v0")


def made():
    """Returns how many were made since it was last asked."""
    count, Ring.made = Ring.made, 0
    return count


def train(run_dir, env="tests/Ring-v0", **arguments):
    settings = {"num_envs": TRAINED, "steps": 60, "preset": False, "quiet": True, **arguments}
    return rlzoo.train("dyna_q", env, run_dir=run_dir, overrides=TINY, **settings)


def test_each_command_opens_its_environment_once(tmp_path):
    run = train(tmp_path / "run")
    assert made() == ASKED + TRAINED + EVALUATED
    run.train(30)
    assert made() == ASKED + TRAINED + EVALUATED
    rlzoo.resume(run.dir, steps=120, quiet=True)
    assert made() == ASKED + TRAINED + EVALUATED
    rlzoo.evaluate(run.dir, episodes=2)
    assert made() == ASKED + 2
    rlzoo.record(run.dir, tmp_path / "episode.gif")
    assert made() == ASKED + 1
    rlzoo.load(run.dir)
    assert made() == ASKED
    train(tmp_path / "same", eval_env="training")
    assert made() == ASKED + TRAINED
    train(tmp_path / "callable", env=Ring, max_episode_steps=10)
    assert made() == ASKED + TRAINED + EVALUATED


def test_the_graph_loop_opens_the_original_once_beside_those_of_evaluation(tmp_path):
    count = []

    def make():
        count.append(1)
        return gymnasium.make("FrozenLake-v1")

    train(tmp_path / "run", make, loop="graph")
    assert len(count) == ASKED + EVALUATED
    count.clear()
    rlzoo.resume(tmp_path / "run", env=make, steps=90, quiet=True)
    assert len(count) == ASKED + EVALUATED


def test_seeds_open_it_once_before_their_processes_do(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "_RLZOO", [sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(seeds.SeedsFailed):
        seeds.train_seeds("dyna_q", "tests/Ring-v0", seeds=[0, 1], run_dir=tmp_path, steps=60)
    assert made() == ASKED


def test_pretraining_opens_it_once_beside_those_that_it_gathers_from(tmp_path):
    settings = {"epochs": 1, "overrides": {"steps": 40, "torso.sizes": [4]}, "quiet": True}
    rlzoo.pretrain("reconstruct", env="tests/Pixels-v0", run_dir=tmp_path / "run", **settings)
    assert made() == ASKED + 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"num_envs": 2**16 + 1},
        {"eval_every": -1},
        {"log_every": 0},
        {"keep_checkpoints": 0},
        {"seed": -1},
        {"loop": "fast"},
        {"eval_mode": "gredy"},
        {"on_env_error": "ignore"},
        {"env_step_timeout": -1.0},
        {"until_return": 1.0, "eval_env": "none"},
        {"loop": "graph", "vector": "async"},
        {"loop": "graph", "eval_env": "training"},
        {"loop": "graph", "wrappers": ["FlattenObservation"]},
        {"wrappers": ["FlatenObservation"]},
        {"learning_rate": {"name": "linear", "start": 1.0, "end": 0.1, "steps": 0}},
        {"learning_starts": 100, "replay_capacity": 50},
        {"unfreeze_after": 5},
        {"learning_rate": "fast"},
        {"learning_rate": -0.1},
        {"batch_size": 0},
        {"dicsount": 0.9},
        {"overrides": {"exploration.epsilon": 2.0}},
        {"overrides": {"exploration.epsilom": 0.5}},
        {"exploration": "softmx"},
        {"overrides": {"transfer.lr_scale": -1.0, "transfer.run": "no/run"}},
        {"overrides": {"torso.activation": 3}, "torso": "dense"},
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_an_environment_is_made(wrong, tmp_path):
    with pytest.raises(ValueError, match=r"expect|Unknown|until_return|graph|name its run"):
        rlzoo.train("dqn", "tests/Pixels-v0", run_dir=tmp_path / "run", **wrong)
    assert made() == 0
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_later_is_said_before_an_environment_is_made_too(tmp_path):
    run = train(tmp_path / "run")
    made()
    gif, pretrain = (
        tmp_path / "x.gif",
        partial(rlzoo.pretrain, "reconstruct", env="tests/Pixels-v0"),
    )
    several = partial(seeds.train_seeds, "dqn", "tests/Pixels-v0", run_dir=tmp_path / "seeds")
    for call, message in (
        (lambda: rlzoo.resume(run.dir, steps=0), "steps: expected 1 to .* received 0"),
        (lambda: rlzoo.resume(run.dir, num_envs=0), "num_envs: expected 1 to 65536, received 0"),
        (lambda: rlzoo.resume(run.dir, until_return="x"), "until_return: expected a float or null"),
        (lambda: run.train("many"), "steps: expected a whole number, received 'many'"),
        (lambda: rlzoo.evaluate(run.dir, episodes=0), "episodes: expected at least 1, received 0"),
        (lambda: rlzoo.evaluate(run.dir, seed=-1), "seed: expected at least 0, received -1"),
        (lambda: rlzoo.evaluate(run.dir, eval_mode="x"), "eval_mode: expected 'greedy' or"),
        (lambda: rlzoo.evaluate(run.dir, max_episode_steps=-1), "max_episode_steps: expected 0 to"),
        (lambda: rlzoo.record(run.dir, gif, seed=-1), "seed: expected at least 0, received -1"),
        (lambda: several(seeds=[-1]), "seed: expected 0 to"),
        (lambda: several(seeds=[0], learning_rate=-1.0), "learning_rate: expected at least"),
        (lambda: pretrain(epochs=0), "epochs: expected at least 1, received 0"),
        (lambda: pretrain(seed=-1), "seed: expected 0 to"),
        (lambda: pretrain(steps=-1), "steps: expected 20 to"),
        (lambda: pretrain(torso="dens"), "Unknown torso 'dens'. Did you mean 'dense'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        assert made() == 0, message


def test_an_agent_of_two_classes_waits_for_the_observations_where_only_one_refuses(tmp_path):
    """dyna_q is a table or deep; of what both refuse alike no environment is asked."""
    with pytest.raises(ValueError, match="planning_steps: expected"):
        rlzoo.train("dyna_q", "tests/Ring-v0", planning_steps=-1)
    assert made() == 0
    with pytest.raises(ValueError, match=r"Unknown setting model_learning_rate"):
        rlzoo.train("dyna_q", "tests/Ring-v0", model_learning_rate=0.1)
    assert made() == ASKED
