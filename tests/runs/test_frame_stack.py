"""Runs in which networks see several observations at once."""

import gymnasium
import numpy as np
import pytest
import tensorflow as tf

import rlzoo
from rlzoo.cli import main
from tests.runs.killed_runs import final_arrays

TINY = {"eval_every": 200, "eval_episodes": 3, "log_every": 100, "torso.sizes": [16]}


class Order(gymnasium.Env):
    """Two lights in a row; the first one, which is gone, says what pays."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.light, self.time = int(self.np_random.integers(2)), 0
        return np.eye(2, dtype=np.float32)[self.light], {}

    def step(self, action):
        self.time += 1
        reward = float(self.time == 2 and action == self.light)
        return np.zeros(2, np.float32), reward, self.time == 2, False, {}


def order(**kwargs):
    return gymnasium.wrappers.TimeLimit(Order(), 10)


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_what_was_seen_a_step_ago_is_learned_from(agent, tmp_path):
    """The best without a memory is 0.5; a torso without one, and two frames, get 1."""
    run = rlzoo.train(
        agent, order, steps=3_000, seed=0, preset=False, quiet=True, frame_stack=2,
        run_dir=tmp_path / "two", overrides={"eval_episodes": 20},
    )  # fmt: skip
    assert run.summary["mean_return"] == 1.0
    policy = rlzoo.load(run.dir, env=order)
    assert policy.network.input_shape == (None, 2, 2)
    for light in (0, 1, 1, 0):
        policy.reset()
        policy.predict(np.eye(2, dtype=np.float32)[light])
        assert policy.predict(np.zeros(2, np.float32)) == light
    assert rlzoo.evaluate(run.dir, env=order, episodes=10).mean_return == 1.0
    if agent == "dqn":
        one = rlzoo.train(
            agent, order, steps=3_000, seed=0, preset=False, quiet=True, run_dir=tmp_path / "one",
            overrides={"eval_episodes": 200},
        )  # fmt: skip
        assert one.summary["mean_return"] < 0.7


def test_it_is_what_the_wrapper_of_gymnasium_shows(tmp_path):
    """The same weights after the same steps: but for what replay holds, it is the same run."""
    settings = {**TINY, "replay_capacity": 2_000}
    arrays = [
        final_arrays(
            rlzoo.train(
                "dqn", "CartPole-v1", steps=600, seed=3, preset=False, quiet=True, loop="host",
                run_dir=tmp_path / str(i), overrides=settings, **how,
            ).dir
        )
        for i, how in enumerate(
            ({"frame_stack": 3}, {"wrappers": [{"name": "FrameStackObservation", "stack_size": 3}]})
        )
    ]  # fmt: skip
    acting = [name for name in arrays[0] if name.startswith("actor/")]
    assert acting == [name for name in arrays[1] if name.startswith("actor/")]
    for name in acting:
        np.testing.assert_allclose(arrays[0][name], arrays[1][name], rtol=1e-3, atol=1e-4)
    sizes = [x["replay/obs"].nbytes for x in arrays]
    assert sizes[1] == 3 * sizes[0]


def test_its_torso_goes_on_in_another_run(tmp_path):
    run = rlzoo.train(
        "dqn", "CartPole-v1", steps=100, frame_stack=2, preset=False, quiet=True,
        run_dir=tmp_path / "first", overrides=TINY,
    )  # fmt: skip
    torso = rlzoo.load_torso(run.dir)
    assert torso(tf.zeros((5, 2, 4))).shape == (5, 16)
    arguments = {"torso_from": run.dir, "preset": False, "quiet": True, "steps": 50}
    rlzoo.train("reinforce", "CartPole-v1", frame_stack=2, run_dir=tmp_path / "second", **arguments)
    with pytest.raises(ValueError, match=r"does not fit: it reads .*2, 4.*shows .*4"):
        rlzoo.train("reinforce", "CartPole-v1", run_dir=tmp_path / "third", **arguments)


def test_a_table_sees_one_at_a_time(tmp_path):
    with pytest.raises(ValueError, match=r"dyna_q sees one observation .*FrameStackObservation"):
        rlzoo.train("dyna_q", "FrozenLake-v1", frame_stack=4, run_dir=tmp_path, quiet=True)
    with pytest.raises(ValueError, match=r"frame_stack: expected 1 to 64, received 0"):
        rlzoo.train("dqn", "FrozenLake-v1", frame_stack=0, run_dir=tmp_path, quiet=True)


def test_the_command_line_takes_it(tmp_path):
    command = (
        "train dqn rlzoo/Catch-v0 --steps 60 --quiet --set frame_stack=4 --set torso.sizes=[8]"
    )
    assert main([*command.split(), "--torso", "dense", "--run-dir", str(tmp_path / "run")]) == 0
    assert "frame_stack: 4" in (tmp_path / "run/config.yaml").read_text()
