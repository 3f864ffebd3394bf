"""Runs that normalise what they see and what they learn from."""

import gymnasium
import numpy as np
import pytest

import rlzoo
from rlzoo.cli import main
from rlzoo.reports import log as logs
from tests.env_doubles import ChainEnv

BOTH = {"normalize.obs": True, "normalize.reward": True}
TINY = {"eval_every": 100, "eval_episodes": 3, "log_every": 50, "torso.sizes": [16]}
DQN = {**TINY, "learning_starts": 100}


class Far(gymnasium.Wrapper):
    """An environment whose numbers are large, and its rewards too."""

    def __init__(self, env, reward: float = 1_000.0):
        super().__init__(env)
        self.reward = reward
        shape = env.observation_space.shape
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)

    def _far(self, obs):
        return (np.float32([10.0, 100.0, 1_000.0, 1.0]) * obs + 300.0).astype(np.float32)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return self._far(obs), info

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return self._far(obs), self.reward * reward, *rest


def far(**kwargs):
    return Far(gymnasium.make("CartPole-v1", **kwargs))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return rlzoo.train(
        "dqn", far, steps=400, seed=1, preset=False, quiet=True, overrides={**DQN, **BOTH},
        run_dir=tmp_path_factory.mktemp("far") / "run",
    )  # fmt: skip


def test_what_is_shown_is_what_the_environment_gave(run):
    returns = logs.series(run.dir, "episode/return")[:, 1]
    assert (returns >= 8_000.0).all()
    assert run.summary["mean_return"] >= 8_000.0
    values = logs.series(run.dir, "value/q")[:, 1]
    assert np.abs(values).max() < 100.0, "what is learned is of another size"


def test_a_loaded_agent_sees_by_what_its_run_had_seen(run):
    policy = rlzoo.load(run.dir, env=far, last=True)
    layer = policy.network.get_layer("normalize")
    before = [weight.numpy() for weight in layer.weights]
    count, mean, _ = before
    assert count == 400
    assert 250 < mean[3] < 350, "of the last coordinate, which is a speed and 300"
    policy.predict(np.float32([300.0, 300.0, 300.0, 300.0]))
    rlzoo.evaluate(run.dir, env=far, episodes=2)
    for old, new in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_it_is_refused_where_there_is_nothing_to_normalise(tmp_path):
    for env, agent, settings, told in (
        ("FrozenLake-v1", "dyna_q", "normalize.obs", r"dyna_q does not normalise"),
        ("FrozenLake-v1", "dqn", "normalize.obs", r"FrozenLake-v1 shows no numbers to normalise"),
        ("CartPole-v1", "dqn", "normalize.observations", r"Did you mean .*normalize.obs"),
    ):
        with pytest.raises(ValueError, match=told) as caught:
            rlzoo.train(
                agent, env, steps=10, run_dir=tmp_path, quiet=True, overrides={settings: True}
            )
        assert "\n" not in str(caught.value)


def test_the_command_line_takes_it(tmp_path, capfd):
    arguments = "train reinforce CartPole-v1 --steps 50 --quiet --set normalize.obs=true"
    assert main([*arguments.split(), "--run-dir", str(tmp_path / "run")]) == 0
    assert "normalize:\n  obs: true\n  reward: false" in (tmp_path / "run/config.yaml").read_text()
    assert main([*arguments.replace("true", "7").split(), "--run-dir", str(tmp_path)]) == 2
    assert "normalize.obs: expected" in capfd.readouterr().err


def test_rewards_alone_leave_the_network_as_it_is(tmp_path):
    run = rlzoo.train(
        "dqn", ChainEnv, steps=60, run_dir=tmp_path, quiet=True, preset=False,
        overrides={**TINY, "normalize.reward": True},
    )  # fmt: skip
    assert not [layer for layer in run.agent.actor.network.layers if layer.name == "normalize"]


@pytest.mark.slow
def test_numbers_of_any_size_are_learned_from(tmp_path):
    """Without it the same agent learns nothing there; on two of three seeds at least."""
    solved = {}
    for name, settings in (("normalised", BOTH), ("plain", {})):
        returns = [
            rlzoo.train(
                "dqn", far, steps=12_000, seed=seed, preset=False, quiet=True,
                overrides={"eval_every": 3_000, "eval_episodes": 5, **settings},
                run_dir=tmp_path / f"{name}-{seed}",
            ).summary["mean_return"]
            for seed in range(3)
        ]  # fmt: skip
        solved[name] = sum(value >= 150_000 for value in returns)
    assert solved["normalised"] >= 2 and solved["plain"] == 0, solved
