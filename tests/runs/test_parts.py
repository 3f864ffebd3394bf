"""Runs on observations of several parts and on masks of valid actions, in both loops."""

import json

import gymnasium
import numpy as np
import pytest

import rlzoo
from rlzoo.envs import make_envs
from rlzoo.envs.ports import PORTS, make_ported_envs
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.spaces import MASK
from rlzoo.storage import checkpoint
from tests.helpers import make_agent, random_actions
from tests.parts_env import LENGTH, Parts, PartsPort
from tests.runs.killed_runs import final_arrays

ID = "Parts-v0"
SMALL = {
    "learning_starts": 16,
    "batch_size": 8,
    "replay_capacity": 200,
    "planning_starts": 16,
    "eval_every": 0,
    "eval_episodes": 2,
    "checkpoint_every": 40,
}
SIZES = {"torso": {"name": "dense", "sizes": [16]}}
TAXI = next(name for name in ("Taxi-v4", "Taxi-v3") if name in gymnasium.registry)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    gymnasium.register(ID, Parts, max_episode_steps=LENGTH)
    monkeypatch.setitem(PORTS, ID, PartsPort)
    yield
    del gymnasium.registry[ID]


def train(folder, agent="dqn", loop="host", steps=80, overrides=SMALL, **more):
    known = {key: value for key, value in overrides.items() if key in SMALL}
    if agent == "reinforce":
        known = {key: known[key] for key in ("eval_every", "eval_episodes", "checkpoint_every")}
    elif agent == "dqn":
        known.pop("planning_starts")
    return rlzoo.train(
        agent, ID, loop=loop, steps=steps, run_dir=folder, overrides=known, quiet=True,
        preset=False, exploration="softmax", **{**SIZES, **more},
    )  # fmt: skip


def test_the_port_is_the_environment():
    ported, envs = make_ported_envs(ID, 1), make_envs(ID, 1, 0)
    assert ported.spec == envs.spec
    assert (
        ported.port.observe(ported.port.reset(np.int32([0, 1]), 1)).keys() == envs.spec.obs.keys()
    )
    obs, random = envs.reset(), np.random.default_rng(0)
    for t in range(3 * LENGTH):
        inner = envs._slots[0].env.unwrapped
        state = ported.port.reset(np.int32([0, t]), 1)._replace(
            where=np.int32([inner.where]),
            column=np.int32([inner.column]),
            larger=np.int32([inner.larger]),
            time=np.int32([inner.time]),
        )
        seen = ported.port.observe(state)
        for key, value in obs.items():
            np.testing.assert_array_equal(seen[key], value, err_msg=key)
        action = random_actions(envs.spec, obs, (1,), random)
        _, reward, over = ported.port.step(state, action, np.int32([0, 2]))
        step = envs.step(action)
        np.testing.assert_array_equal(reward, step.reward)
        np.testing.assert_array_equal(over, step.terminated)
        obs = step.obs


@pytest.mark.parametrize("loop", ["host", "graph"])
def test_a_run_on_parts_is_resumed_evaluated_and_loaded(loop, tmp_path):
    whole = train(tmp_path / "whole", loop=loop)
    part = train(tmp_path / "part", loop=loop, steps=40)
    rlzoo.resume(part.dir, steps=80, quiet=True)
    expected = final_arrays(whole.dir)
    found = final_arrays(part.dir)
    assert found.keys() == expected.keys()
    assert "replay/obs/camera" in expected and f"replay/obs/{MASK}" in expected
    for name, array in found.items():
        assert array.tobytes() == expected[name].tobytes(), name
    assert rlzoo.evaluate(whole.dir, episodes=2) == rlzoo.evaluate(whole.dir, episodes=2)
    policy = rlzoo.load(whole.dir)
    env = gymnasium.make(ID)
    obs, info = env.reset(seed=1)
    for _ in range(LENGTH):
        action = policy.predict(obs, info["action_mask"])
        obs, *_, info = env.step(action)
    only = [policy.predict(obs, action_mask=np.arange(3) == i) for i in range(3)]
    assert only == [0, 1, 2]
    batch = {key: np.stack([value, value]) for key, value in obs.items()}
    assert policy.predict(batch).tolist() == [policy.predict(obs)] * 2
    with pytest.raises(ValueError, match=r"Expected observation with the parts .*'camera'"):
        policy.predict(obs["camera"])
    with pytest.raises(ValueError, match=r"observation\['numbers'\] of shape \(2,\)"):
        policy.predict({**obs, "numbers": np.zeros(3)})
    assert "camera: pixels [6, 6]" in repr(policy)


def test_a_torso_of_parts_is_taken_over_by_another_run(tmp_path):
    first = train(tmp_path / "first", steps=40)
    torso = rlzoo.load_torso(first.dir)
    second = train(tmp_path / "second", steps=1, torso_from=first.dir, overrides=SMALL)
    arrays, *_ = checkpoint.load(first.dir / "checkpoints", best=True)
    weights = [array for name, array in sorted(arrays.items()) if name.startswith("actor/")]
    assert len(torso.weights) == len(weights) - 2  # all but the head
    assert second.summary["steps"] >= 1


class Renamed(Parts):
    """Loses a part in the middle of its second episode."""

    episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        obs, *rest = super().step(action)
        if self.episodes == 2 and self.time == 3:
            obs = {"camera": obs["camera"], "numbers": obs["numbers"], "here": 1}
        return obs, *rest


def test_a_part_that_changes_in_mid_run_is_named():
    envs = make_envs(Renamed, 1, 0, check=False)
    obs, random = envs.reset(), np.random.default_rng(0)
    words = r"Renamed, environment 0, episode 1 .*step 3, .*obs has the parts \['camera', 'here'"
    with pytest.raises(ValueError, match=words):
        for _ in range(20):
            obs = envs.step(random_actions(envs.spec, obs, (1,), random)).obs


# --- masks ---


def forbidden(chunk) -> int:
    """Returns how many valid steps of a chunk took an action that its mask forbids."""
    mask = np.take_along_axis(np.asarray(chunk.obs[MASK]), chunk.action[..., None], axis=-1)
    return int(np.sum(~mask[..., 0] & chunk.valid))


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_no_forbidden_action_is_taken_in_the_host_loop(agent):
    envs = make_envs(TAXI, 5, 0)
    loop = HostLoop(make_agent(agent, envs.spec), envs, 0)
    steps, bad = 0, []
    while steps < 2_000:
        steps += loop.run().steps
        bad.append(forbidden(loop.collector.chunk))
    assert sum(bad) == 0 and len(bad) > 1


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_no_forbidden_action_is_taken_in_the_graph_loop(agent):
    envs = make_ported_envs(ID, 5)
    loop = GraphLoop(make_agent(agent, envs.spec), envs, 0)
    loop.run(2_000)
    assert int(np.sum(loop.state.envs.inner.invalid)) == 0
    assert loop.step >= 2_000


def test_taxis_values_never_come_from_a_forbidden_action():
    """A table whose forbidden actions are worth most: only learning by the mask leaves them out."""
    envs = make_envs(TAXI, 4, 0)
    agent = make_agent("dyna_q", envs.spec, planning_steps=20, learning_rate=1.0)
    table = np.where(taxi_masks(), 0.0, 1e6)
    agent.table.assign(table)
    loop = HostLoop(agent, envs, 0)
    for _ in range(200):
        loop.run()
    learned = agent.table.numpy()
    assert learned[taxi_masks()].max() < 100.0
    np.testing.assert_array_equal(learned[~taxi_masks()], 1e6)
    assert (learned != table).sum() > 200
    np.testing.assert_array_equal(agent.model.valid.numpy()[seen(agent)], taxi_masks()[seen(agent)])


def taxi_masks() -> np.ndarray:
    """Returns Taxi's masks of all states, [500, 6]."""
    env = gymnasium.make(TAXI).unwrapped
    return np.array([env.action_mask(state) for state in range(500)], bool)


def seen(agent) -> np.ndarray:
    """Returns the states that the agent has a transition from."""
    return np.flatnonzero(agent.model.known.numpy().reshape(500, 6).any(axis=-1))


# --- learning ---


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["host", "graph"])
@pytest.mark.parametrize(
    ("agent", "steps", "tells"),
    [
        ("dqn", 4_000, None),
        ("dyna_q", 4_000, None),
        # In 160,000 steps it does not learn which part tells: so each in a run of its own. No
        # action changes what comes next, and rewards of other steps would be noise.
        ("reinforce", 20_000, 0),
        ("reinforce", 20_000, 1),
    ],
)
def test_every_agent_learns_from_all_parts(agent, steps, tells, loop, tmp_path):
    """Who does not see the part that tells guesses in every second step: a return of 6 of 8."""
    special = {} if tells is None else {"env.tells": tells, "discount": 0.0}
    run = rlzoo.train(
        agent, ID, loop=loop, steps=steps, run_dir=tmp_path / "run", quiet=True, preset=False,
        overrides={"eval_episodes": 20, **special},
    )  # fmt: skip
    assert run.summary["mean_return"] >= 0.95 * LENGTH, json.dumps(run.summary)
