"""The host loop: what reaches an agent is what the environments did, no more and no less."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from rlzoo.agents import ActorState, Traits
from rlzoo.envs import make_envs
from rlzoo.exploration import Exploration, Softmax
from rlzoo.loops.base import chunk_fields
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.spaces import Discrete, EnvSpec, map_leaves
from rlzoo.storage import checkpoint
from rlzoo.types import Chunk, Memory
from tests.env_doubles import ChainEnv, CountingEnv, FaultyEnv
from tests.helpers import make_agent

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
ROOT = Path(__file__).parents[2]


class RandomActor:
    """Acts at random; tells how often it has acted since the last first, not a probability."""

    network = None
    exploration: Exploration = Softmax()
    extras: ClassVar = {"log_prob": ((), "float32")}

    def __init__(self, spec: EnvSpec):
        self.spec = spec

    def init(self, num_envs):
        return ActorState(Memory((tf.zeros([num_envs]),)), ())

    def act(self, state, obs, first, step, seed, mode):
        [acts] = state.memory.recurrent
        acts = tf.where(first, 0.0, acts) + 1.0
        if isinstance(self.spec.action, Discrete):
            action = rng.integers(seed, first.shape, self.spec.num_actions)
        else:
            action = rng.uniform(seed, (*first.shape, *self.spec.action.shape)) * 2 - 1
        return action, {"log_prob": acts}, ActorState(Memory((acts,)), ())

    def observe(self, state, chunk, step):
        return state, {}

    def variables(self):
        return {}


class Recorder:
    """Learns nothing, and keeps the last chunk as it came into `update`."""

    def __init__(self, spec: EnvSpec, num_envs: int, length: int, whole: bool = False):
        self.spec = spec
        self.traits = Traits(actions=("Discrete", "Box"), whole_episodes=whole)
        self.chunk_length = length
        self.actor = RandomActor(spec)
        fields = chunk_fields(self, num_envs)
        rows = map_leaves(lambda field: tf.Variable(tf.zeros(*field)), fields)
        start, version = tf.zeros([num_envs]), tf.zeros([num_envs], tf.int64)
        self.kept = Chunk(**rows, start=Memory((tf.Variable(start),)), version=tf.Variable(version))

    def init(self, num_envs):
        return ()

    def update(self, state, chunk, step, seed):
        pairs = zip(tf.nest.flatten(self.kept), tf.nest.flatten(chunk), strict=True)
        for variable, value in pairs:
            variable.assign(value)
        return (), {"updates": tf.constant(0.0)}

    def variables(self):
        return {}

    def chunk(self) -> Chunk:
        return tf.nest.map_structure(lambda variable: variable.numpy(), self.kept)


@pytest.fixture
def recording():
    """A function that makes a host loop with a `Recorder`; its environments are closed after."""
    made = []

    def make(env, num_envs, length, *, mode="sync", seed=5, whole=False, **kwargs):
        made.append(make_envs(env, num_envs, seed, mode=mode, **kwargs))
        return HostLoop(Recorder(made[-1].spec, num_envs, length, whole), made[-1], seed)

    yield make
    for envs in made:
        envs.close()


def episode_seed(seed: int, env: int, episode: int) -> int:
    """Returns the seed of an episode, of (run, environment, episode)."""
    return int(np.random.SeedSequence((seed, env, episode)).generate_state(1)[0])


def scalar_episode(seed: int, actions) -> list[tuple]:
    """Plays an episode as one plays Gymnasium by hand: rows like those of a chunk."""
    env = CountingEnv()
    obs, _ = env.reset(seed=seed)
    rows, obs = [], obs.copy()
    for action in actions:
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, reward, terminated, truncated, next_obs.copy()))
        obs = next_obs.copy()
        if terminated or truncated:
            break
    return rows


def check_rows(chunk: Chunk, t: int, i: int, expected: tuple, first: bool) -> int:
    """Returns how many rows of one are not as the environment made them."""
    obs, action, reward, terminated, truncated, next_obs = expected
    return not (
        np.array_equal(chunk.obs[t, i], obs)
        and chunk.action[t, i] == action
        and chunk.reward[t, i] == reward
        and chunk.discount[t, i] == (0.0 if terminated else 1.0)
        and chunk.last[t, i] == (terminated or truncated)
        and chunk.first[t, i] == first
        and np.array_equal(chunk.next_obs[t, i], next_obs)
        and chunk.extras["log_prob"][t, i] == obs[1] + 1  # acts since the episode's start
        and chunk.valid[t, i]
    )


@MODES
def test_no_false_transition_of_50_000(mode, recording):
    """Every row is compared with an episode played by hand with the same seed and actions."""
    num_envs, length, chunks = 10, 25, 200
    loop = recording(CountingEnv, num_envs, length, mode=mode)
    columns = [[] for _ in range(num_envs)]  # (chunk, t) of each environment, in order
    found_episodes, steps = [], 0
    for _ in range(chunks):
        report = loop.run()
        steps += report.steps
        found_episodes += report.episodes
        chunk = loop.agent.chunk()
        for column in columns:
            column += [(chunk, t) for t in range(length)]
    assert steps == num_envs * length * chunks == 50_000
    assert int(loop.state.learning.step) == steps

    false, expected_episodes = 0, []
    for i, column in enumerate(columns):
        at, episode = 0, 0
        while at < len(column):
            ahead = [int(chunk.action[t, i]) for chunk, t in column[at : at + 9]]
            rows = scalar_episode(episode_seed(5, i, episode), ahead)
            for k, row in enumerate(rows):
                chunk, t = column[at + k]
                false += check_rows(chunk, t, i, row, first=k == 0)
            if rows[-1][3] or rows[-1][4]:
                expected_episodes.append((sum(row[2] for row in rows), len(rows), 1))
            at, episode = at + len(rows), episode + 1
    assert false == 0
    assert sorted(found_episodes) == sorted(expected_episodes)
    assert len({length for _, length, _ in found_episodes}) == 9


@MODES
def test_whole_episodes_are_one_per_environment_and_chunk(mode, recording):
    num_envs, length = 6, 12  # CountingEnv plays 9 steps at most: always padded
    loop = recording(CountingEnv, num_envs, length, mode=mode, whole=True)
    for episode in range(15):
        report = loop.run()
        chunk = loop.agent.chunk()
        lengths = chunk.valid.sum(axis=0)
        for i in range(num_envs):
            actions = chunk.action[:, i].tolist()
            rows = scalar_episode(episode_seed(5, i, episode), actions)
            assert lengths[i] == len(rows) and rows[-1][3] + rows[-1][4] == 1
            false = sum(check_rows(chunk, t, i, row, t == 0) for t, row in enumerate(rows))
            assert false == 0
            assert not chunk.valid[len(rows) :, i].any()
            assert not chunk.reward[len(rows) :, i].any()
            assert not chunk.last[len(rows) :, i].any()
        assert report.steps == lengths.sum()
        assert sorted(report.episodes) == sorted((n * (n + 1) / 2, n, 1) for n in lengths.tolist())


def test_a_chunk_ends_when_every_episode_has(recording):
    loop = recording(CountingEnv, 3, 500, whole=True)
    loop.run()
    assert int(loop.state.acting.acts) <= 9


def test_one_environment_is_the_same_in_both_modes(recording):
    loops = [recording(CountingEnv, 1, 20, mode=mode, seed=3) for mode in ("sync", "async")]
    for _ in range(20):
        reports = [loop.run() for loop in loops]
        assert reports[0] == reports[1]
        chunks = (tf.nest.flatten(loop.agent.chunk()) for loop in loops)
        for one, other in zip(*chunks, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("end", ["terminate", "truncate"])
def test_only_termination_stops_the_bootstrap(end, recording):
    loop = recording(partial(ChainEnv, time_limit=5, end=end), 2, 20)
    loop.run()
    chunk = loop.agent.chunk()
    over = np.arange(20) % 5 == 4
    assert (chunk.last == over[:, None]).all()
    assert (chunk.discount == np.where((end == "terminate") & over, 0, 1)[:, None]).all()


class BothFlags(ChainEnv):
    """Its last step is a terminal state right at the time limit."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, terminated or truncated, info


def test_both_flags_at_once_is_termination(recording):
    loop = recording(partial(BothFlags, time_limit=4), 1, 8)
    loop.run()
    assert loop.agent.chunk().discount[:, 0].tolist() == [1, 1, 1, 0] * 2
    assert loop.agent.chunk().last[:, 0].tolist() == [False, False, False, True] * 2


def test_the_time_limit_of_gymnasium_truncates(recording):
    loop = recording(partial(gymnasium.make, "CartPole-v1", max_episode_steps=7), 2, 30)
    loop.run()
    chunk = loop.agent.chunk()
    assert chunk.last.any() and (chunk.discount[chunk.last] == 1.0).all()


# --- faults ---


def fault_at(env: int, episode: int, seed: int = 5, **kwargs):
    """Returns a maker of environments of which one fails in one episode, at its step 4."""
    where = episode_seed(seed, env, episode)
    return partial(FaultyEnv, **{"at": 4, "only_seed": where, "length": 6, **kwargs})


@MODES
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("nan_obs", "obs[1] is nan"),
        ("inf_obs", "obs[1] is inf"),
        ("nan_reward", "reward is nan"),
        ("inf_reward", "reward is inf"),
        ("nan_reset", "obs[0] is nan"),
        ("raise", "raise at 4"),
        ("raise_reset", "raise_reset at 0"),
    ],
)
def test_a_fault_stops_with_environment_step_and_seed(kind, what, mode, recording):
    loop = recording(fault_at(1, 2, kind=kind), 2, 6, mode=mode)
    before: list[np.ndarray] = []
    with pytest.raises(Exception) as caught:
        for _ in range(3):  # of 6 steps, as an episode; a reset belongs to the chunk before
            before = [array.copy() for array in tf.nest.flatten(loop.agent.chunk())]
            loop.run()
    notes = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert what in notes
    assert "environment 1" in notes or "env 1" in notes
    assert str(episode_seed(5, 1, 2)) in notes
    assert ("step 4" in notes) != kind.endswith("reset")
    for old, new in zip(before, tf.nest.flatten(loop.agent.chunk()), strict=True):
        assert np.array_equal(old, new)  # the chunk with the fault did not reach the agent


def genuine(obs, action, reward, next_obs) -> bool:
    """Tells whether a transition is one that `FaultyEnv` made without failing."""
    return bool(next_obs[0] == obs[0] + 1 and next_obs[1] == action + 5 and reward == 1.0)


@MODES
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["raise", "nan_obs", "nan_reward"])
def test_restart_makes_no_transition_up(kind, whole, mode, recording):
    loop = recording(
        fault_at(1, 2, kind=kind), 3, 6, mode=mode, whole=whole, on_env_error="restart"
    )
    steps, lost, episodes = 0, 0, []
    for number in range(6):
        if number == 2:
            with pytest.warns(RuntimeWarning, match=r"Restarting it"):
                report = loop.run()
        else:
            report = loop.run()
        chunk = loop.agent.chunk()
        steps += report.steps
        episodes += report.episodes
        assert report.steps == chunk.valid.sum()
        for t, i in np.argwhere(chunk.valid):
            row = [field[t, i] for field in (chunk.obs, chunk.action, chunk.reward, chunk.next_obs)]
            assert genuine(*row)
            assert chunk.first[t, i] == (chunk.obs[t, i, 0] == 0)
            assert chunk.last[t, i] == (chunk.next_obs[t, i, 0] == 6)
        for t, i in np.argwhere(~chunk.valid):
            assert i == 1
            assert not chunk.reward[t, i] and np.isfinite(chunk.next_obs[t, i]).all()
            if not whole:
                assert chunk.last[t, i], "the episode must not go on over the gap"
                assert t == 5 or chunk.first[t + 1, i]
            lost += 1
    assert lost == (3 if whole else 1)  # whole: the failing step and the padding after it
    assert steps == 6 * 6 * 3 - lost
    assert set(episodes) == {(6.0, 6, 1)}  # an episode that was cut short is none
    assert len(episodes) == 17


@MODES
@pytest.mark.parametrize("whole", [False, True])
def test_a_dropped_environment_leaves_invalid_rows_only(whole, mode, recording):
    loop = recording(
        fault_at(0, 1, kind="raise"), 2, 6, mode=mode, whole=whole, on_env_error="drop"
    )
    loop.run()
    with pytest.warns(RuntimeWarning, match="Dropping it"):
        report = loop.run()
    assert report.steps == 6 + 3
    for _ in range(3):
        report = loop.run()
        chunk = loop.agent.chunk()
        assert report.steps == 6 and report.episodes == [(6.0, 6, 1)]
        assert not chunk.valid[:, 0].any() and chunk.valid[:, 1].all()
        assert not chunk.reward[:, 0].any()


@pytest.mark.parametrize("policy", ["restart", "drop"])
def test_no_false_transition_enters_replay(policy, recording):
    env = fault_at(1, 2, kind="nan_obs")
    envs = make_envs(env, 3, 5, on_env_error=policy)
    agent = make_agent("dqn", envs.spec)
    loop = HostLoop(agent, envs, 5)
    with pytest.warns(RuntimeWarning):
        steps = sum(loop.run().steps for _ in range(5))
    envs.close()
    assert int(agent.replay.size) == steps == (59 if policy == "restart" else 5 * 12 - 5)
    held = [x.numpy() for x in agent.replay.read(tf.range(steps, dtype=tf.int64))]
    for obs, action, reward, discount, next_obs in zip(*held, strict=True):
        assert genuine(obs, action, reward, next_obs)
        assert discount == (next_obs[0] != 6)


# --- long episodes ---


class Endless(gymnasium.Env):
    """Its state follows from all actions, and is cheap to step."""

    max_steps = 10**9

    def __init__(self, box: bool):
        self.action_space = spaces.Box(-1, 1, (2,)) if box else spaces.Discrete(9)
        self.observation_space = spaces.Box(-2, 2, (2,)) if box else spaces.Discrete(1_000_003)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        box = isinstance(self.action_space, spaces.Box)
        self.state = np.zeros(2, np.float32) if box else seed % 1_000_003
        return self.state, {}

    def step(self, action):
        if isinstance(action, np.ndarray):
            self.state = self.state / 2 + action
        else:
            self.state = (self.state * 10 + action) % 1_000_003
        return self.state, 0.0, False, False, {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "steps", "too_big"),
    [
        # What a manifest may hold: 200,000 brackets, of which every action of a Box is one;
        # 8 MiB, of which every Discrete one, a digit, a comma and a space, takes 3 bytes.
        (True, 1_000, lambda text: text.count("[") > 200_000),
        (False, 14_000, lambda text: len(text) > 8 << 20),
    ],
    ids=["box", "discrete"],
)
def test_millions_of_actions_in_flight_are_saved_and_replayed(box, steps, too_big, tmp_path):
    """200 episodes at once: 200,000 actions of a Box, 2.8 million Discrete ones."""
    loops = []
    for _ in range(2):
        envs = make_envs(partial(Endless, box), 200, 5)
        agent = Recorder(envs.spec, 200, length=100)
        loops.append(HostLoop(agent, envs, 5))
    loop, other = loops
    for _ in range(steps // 100):
        loop.run()
    assert too_big(json.dumps(loop.envs.get_state()["actions"]))  # where they lay once

    arrays, meta = loop.get_state()
    path = checkpoint.save(tmp_path, 200 * steps, arrays, meta)
    assert (path / "manifest.json").stat().st_size < 64 << 10

    found, meta, _ = checkpoint.load(tmp_path, other.template)
    other.set_state(found, meta)
    assert other.envs.get_state() == loop.envs.get_state()
    assert found["loop/actions"].shape == (200 * steps, *other.envs.spec.action.shape)
    for name, array in other.get_state()[0].items():
        assert array.tobytes() == arrays[name].tobytes(), name
    for one in loops:
        one.run()
    pairs = zip(
        tf.nest.flatten(other.agent.chunk()), tf.nest.flatten(loop.agent.chunk()), strict=True
    )
    for kept, expected in pairs:
        assert kept.tobytes() == expected.tobytes()
    for one in loops:
        one.envs.close()


# --- divergence ---


class Overflowing(ChainEnv):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 3e38, *rest


@pytest.mark.parametrize(
    ("env", "settings", "metric"),
    [
        (ChainEnv, {"learning_rate": 1e38}, "loss/td"),
        (Overflowing, {"loss": "squared"}, "loss/td"),
    ],
)
def test_divergence_is_named(env, settings, metric):
    envs = make_envs(env, 2, 0)
    loop = HostLoop(make_agent("dqn", envs.spec, **settings), envs, 0)
    with pytest.raises(FloatingPointError, match=rf"diverged.*{metric}.* at update \d+"):
        for _ in range(20):
            loop.run()
    envs.close()


# --- compiled once, flat memory ---


@pytest.mark.slow
def test_nothing_is_compiled_after_warm_up_and_memory_is_flat(tmp_path):
    """In a process of its own, where XLA leaves a file for everything that it compiles."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.loops.endurance", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("flat") == 7, done.stdout


class Boundless(ChainEnv):
    """States a limit that it does not keep to."""

    max_steps = 5


def test_a_whole_episode_is_cut_where_its_environment_said_that_it_ends():
    envs = make_envs(partial(Boundless, time_limit=1_000), 2, 0)
    agent = make_agent("reinforce", envs.spec)
    assert agent.chunk_length == 5
    loop = HostLoop(agent, envs, 0)
    for _ in range(2):
        report = loop.run()
        assert report.steps == 10
        assert [episode[:2] for episode in report.episodes] == [(5.0, 5), (5.0, 5)]
        assert loop.collector.chunk.last.tolist() == [[False] * 2] * 4 + [[True] * 2]
        assert loop.collector.chunk.discount.all()  # it goes on: its value is bootstrapped
    envs.close()
