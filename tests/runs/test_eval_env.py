"""Where a run is evaluated: in environments of its own, those of training, or nowhere."""

import json
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rlzoo
from rlzoo.config.resolve import resolve
from rlzoo.envs import make_envs
from rlzoo.envs.maze import BlockingMaze
from rlzoo.loops.host import HostLoop
from rlzoo.reports import log as logs
from rlzoo.storage import checkpoint
from tests.env_doubles import ChainEnv
from tests.helpers import make_agent
from tests.runs.killed_runs import final_arrays

TINY = {"eval_every": 40, "eval_episodes": 3, "log_every": 40, "checkpoint_every": 40}


class Simulator(gymnasium.Env):
    """Walks a ring of 5 states; counts how many of it there are, and refuses to be too many."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)
    made, alive, most = 0, 0, 0

    def __init__(self, at_once=100):
        if Simulator.alive >= at_once:
            raise OSError("address already in use")
        Simulator.made += 1
        Simulator.alive += 1
        Simulator.most = max(Simulator.most, Simulator.alive)
        self.open = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.time = int(self.np_random.integers(5)), 0
        return self.state, {}

    def step(self, action):
        self.state = (self.state + 2 * action - 1) % 5
        self.time += 1
        return self.state, float(self.state == 3), False, self.time == 10, {}

    def close(self):
        if self.open:
            self.open = False
            Simulator.alive -= 1


@pytest.fixture(autouse=True)
def nobody_yet():
    Simulator.made = Simulator.alive = Simulator.most = 0
    yield
    assert Simulator.alive == 0  # whatever was made was closed


def train(tmp_path, agent="dyna_q", env=Simulator, steps=200, **arguments):
    overrides = {**TINY, **arguments.pop("overrides", {})}
    if agent == "reinforce":
        overrides |= {"torso.sizes": [4]}
    return rlzoo.train(
        agent, env, steps=steps, preset=False, run_dir=tmp_path, overrides=overrides,
        **{"quiet": True, **arguments},
    )  # fmt: skip


def test_evaluation_environments_are_made_once(tmp_path):
    train(tmp_path, num_envs=2)
    # 5 evaluations and 2 at the end, in the same 3; what is asked about the spaces is closed first.
    assert Simulator.most == 2 + 3
    assert Simulator.made <= 2 + 3 + 2


@pytest.mark.parametrize("agent", ["dyna_q", "reinforce"])
def test_an_environment_of_which_there_can_be_one(agent, tmp_path, capfd):
    """A simulator on a port: it is evaluated in the environment that it trains in."""
    env = partial(Simulator, at_once=1)
    run = train(tmp_path, agent, env, num_envs=1, max_episode_steps=8, quiet=False)
    assert Simulator.most == 1 and run.summary["episodes"] == 3
    said = " ".join(capfd.readouterr().err.split())
    assert "address already in use" in said and "--eval-env training" in said
    assert "Environments: 1 to train in; evaluating in the same." in said
    assert run.config.eval_env == "training"  # recorded, so that a resumed run does the same
    assert "eval_env: training" in (tmp_path / "config.yaml").read_text()
    assert rlzoo.evaluate(tmp_path, env=env, episodes=3).mean_return == run.summary["mean_return"]


@pytest.mark.parametrize(
    ("agent", "env"),
    [("dqn", Simulator), ("reinforce", "CartPole-v1")],
)
@pytest.mark.slow
def test_training_does_not_notice_where_it_is_evaluated(agent, env, tmp_path):
    """Also exact resume: k steps to an end and the rest are as many steps in one go."""
    small = {
        "dqn": {
            "learning_starts": 16, "batch_size": 8, "replay_capacity": 64, "torso.sizes": [8],
            "exploration.epsilon": 0.5,  # by default it falls within a fifth of `steps`
        }
    }  # fmt: skip
    arguments = {
        "agent": agent, "env": env, "num_envs": 2, "loop": "host", "max_episode_steps": 8,
        "overrides": small.get(agent, {}),
    }  # fmt: skip
    ends = {}
    for where in ("separate", "training", "none"):
        run = train(tmp_path / where, eval_env=where, **arguments)
        ends[where] = final_arrays(run.dir), run.summary
    train(tmp_path / "part", eval_env="training", steps=100, **arguments)
    resumed = rlzoo.resume(tmp_path / "part", steps=200, env=env, quiet=True)
    ends["part"] = final_arrays(resumed.dir), resumed.summary

    arrays, _ = ends["training"]
    for where, (found, _) in ends.items():
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].tobytes() == array.tobytes(), (where, name)
    whole, part = ends["training"][1], ends["part"][1]
    figures = ("mean_return", "std_return", "best_step", "last_mean_return")
    assert [part[name] for name in figures] == [whole[name] for name in figures]


def test_lent_environments_come_back_as_they_were():
    envs = make_envs(Simulator, 2, 5)
    loop = HostLoop(make_agent("dyna_q", envs.spec), envs, 5)
    loop.run()
    arrays, meta = loop.get_state()
    with loop.lend_envs():
        envs.begin(99)
        envs.reset()
        envs.step(np.array([0, 1]))
    again, meta_again = loop.get_state()
    assert meta_again == meta and envs.seed == 5
    assert all(np.array_equal(array, again[name]) for name, array in arrays.items())
    envs.close()


def test_a_run_that_is_not_evaluated_tells_how_training_went(tmp_path, capfd):
    env = partial(ChainEnv, num_states=3, time_limit=7)
    run = train(tmp_path, env=env, eval_env="none", quiet=False)
    assert "evaluating nowhere: the last agent is the best" in capfd.readouterr().err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["episodes"] == 0 and summary["std_return"] is None
    assert summary["mean_return"] == summary["last_mean_return"] == 7.0
    assert summary["best_step"] == run.summary["steps"]
    assert not logs.series(tmp_path, "eval/return").size
    assert not checkpoint.checkpoints(tmp_path / "checkpoints", best=True)
    assert rlzoo.load(tmp_path, env=env).predict(0) in (0, 1)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="'training' evaluates in the environments that the host"):
        resolve("dqn", "CartPole-v1", loop="graph", eval_env="training")
    assert resolve("dqn", "CartPole-v1", eval_env="training").loop == "host"
    with pytest.raises(ValueError, match="eval_env is none"):
        resolve("dqn", "CartPole-v1", eval_env="none", overrides={"until_return": 1.0})


# --- environments that change as they grow older ---


class Turncoat(gymnasium.Env):
    """One state; the action that is paid for is another from step `change_after` of its life on."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(2)

    def __init__(self, change_after):
        self.change_after, self.lifetime_steps = change_after, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return 0, {}

    def step(self, action):
        right = int(self.lifetime_steps >= self.change_after)
        self.lifetime_steps += 1
        self.time += 1
        return 0, float(action == right), False, self.time == 5, {}


LEARNS_QUICKLY = {"learning_rate": 0.5, "planning_steps": 0, "exploration.epsilon": 0.5}


def test_the_best_of_a_world_that_is_gone_is_the_best_no_more(tmp_path):
    env = partial(Turncoat, 100)
    run = train(tmp_path, env=env, steps=200, overrides={**LEARNS_QUICKLY, "discount": 0.0})
    evaluations = dict(logs.series(tmp_path, "eval/return").tolist())
    assert evaluations[80.0] == 5.0 and evaluations[200.0] == 5.0  # each in the world of its day
    assert run.summary["best_step"] == 200 and run.summary["mean_return"] == 5.0
    assert rlzoo.evaluate(tmp_path, env=env, episodes=1).mean_return == 5.0
    later = rlzoo.evaluate(tmp_path, env=partial(Turncoat, 0), episodes=1)
    assert later.mean_return == 5.0


def test_a_best_that_has_become_bad_is_judged_anew(tmp_path):
    """The change comes with the last step, so that all there is was learned before."""
    run = train(
        tmp_path, env=partial(Turncoat, 160), steps=160,
        overrides={**LEARNS_QUICKLY, "discount": 0.0},
    )  # fmt: skip
    assert dict(logs.series(tmp_path, "eval/return").tolist())[120.0] == 5.0
    assert run.summary["mean_return"] == run.summary["last_mean_return"] == 0.0
    _, meta, _ = checkpoint.load(tmp_path / "checkpoints", best=True)
    assert meta["loop"]["best"] == 0.0


@pytest.mark.parametrize("loop", ["host", "graph"])
def test_dyna_q_on_the_blocking_maze_is_judged_in_the_maze_of_its_day(loop, tmp_path):
    run = train(
        tmp_path, env="rlzoo/BlockingMaze-v0", steps=600, loop=loop, max_episode_steps=60,
        overrides={
            "env.change_after": 500, "eval_every": 150, "eval_episodes": 2,
            "learning_rate": 0.5, "planning_steps": 20,
        },
    )  # fmt: skip
    assert dict(logs.series(tmp_path, "eval/return").tolist())[450.0] == 1.0  # by the short way

    def later(**_):
        return gymnasium.wrappers.TimeLimit(BlockingMaze(change_after=0), 60)

    assert rlzoo.evaluate(tmp_path, env=later, episodes=2).mean_return == run.summary["mean_return"]
    best = rlzoo.evaluate(tmp_path, episodes=2)
    assert best.mean_return == run.summary["mean_return"]
    _, meta, _ = checkpoint.load(tmp_path / "checkpoints")
    assert meta["loop"]["lifetime_steps"] == [600 if loop == "host" else 500]


def test_a_forged_age_is_refused(tmp_path):
    env = partial(Turncoat, 10)
    train(tmp_path, env=env, steps=40)
    arrays, meta, _ = checkpoint.load(tmp_path / "checkpoints")
    meta = {key: value for key, value in meta.items() if key != "versions"}
    for i, forged in enumerate(([-1], ["0"], {"0": 1}, [True], [1.5], "12")):
        meta["loop"]["lifetime_steps"] = forged
        checkpoint.save(tmp_path / "checkpoints", 41 + i, arrays, meta, keep=1)
        with pytest.raises(ValueError, match=r"not as rlzoo writes it: loop\.lifetime_steps"):
            rlzoo.evaluate(tmp_path, env=env, episodes=1)
