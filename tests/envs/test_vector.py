"""Both kinds of vector environment keep the same promises."""

import collections
import json
import time
import types
import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlzoo.envs import base, make_envs
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.env_doubles import (
    ChainEnv,
    CountingEnv,
    EnvBrokeError,
    FaultyEnv,
    false_transitions,
)

MODES = pytest.mark.parametrize("mode", ["sync", "async"])


@pytest.fixture
def make():
    """`make_envs` whose environments are closed after the test."""
    made = []

    def make_and_keep(*args, **kwargs):
        made.append(make_envs(*args, **kwargs))
        return made[-1]

    yield make_and_keep
    for envs in made:
        envs.close()


class DtypeEnv(gymnasium.Env):
    """Shows values of a dtype that a detour through float32 would not keep."""

    def __init__(self, dtype="float64", shape=(2, 3)):
        kind = np.dtype(dtype)
        info = np.finfo(kind) if kind.kind == "f" else None if kind.kind == "b" else np.iinfo(kind)
        low, high = (0, 1) if info is None else (info.min, info.max)
        self.observation_space = spaces.Box(low, high, shape, kind)
        self.action_space = spaces.Discrete(2)

    def _obs(self):
        kind = self.observation_space.dtype
        high = np.array(1 / 3) if kind.kind == "f" else np.array(True if kind.kind == "b" else 101)
        if kind.kind in "iu" and kind.itemsize > 4:
            high = np.array(2**53 + 1)
        return np.full(self.observation_space.shape, high.astype(kind), kind)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        return self._obs(), 0.5, False, False, {}


class StartEnv(gymnasium.Env):
    """Walks on a ring of 7 states; both spaces count from `start`."""

    def __init__(self, start=0):
        self.observation_space = spaces.Discrete(7, start=start)
        self.action_space = spaces.Discrete(3, start=start)
        self.start, self.state = start, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(7))
        return self.state + self.start, {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"illegal action {action!r}")
        self.state = (self.state + int(action) - self.start) % 7
        return np.int64(self.state + self.start), float(self.state), self.state == 0, False, {}


# Transitions


@pytest.mark.parametrize(("mode", "steps"), [("sync", 2000), ("async", 400)])
def test_no_false_transition(mode, steps, make):
    envs = make(CountingEnv, 4, 11, mode=mode)
    rng = np.random.default_rng(0)
    obs, wrong, kept = envs.reset(), 0, []
    for _ in range(steps):
        action = rng.integers(3, size=4)
        step = envs.step(action)
        wrong += false_transitions(obs, action, step)
        kept.append((step, [np.array(part) for part in step]))
        obs = step.obs
    assert wrong == 0
    assert not envs.lost.any()
    assert min(envs.episodes) > steps / 10
    # Nobody wrote to the arrays of earlier steps.
    assert all(np.array_equal(a, b) for step, copy in kept for a, b in zip(step, copy, strict=True))


@MODES
def test_whole_episodes(mode, make):
    envs = make(CountingEnv, 3, 5, mode=mode)
    obs = envs.reset()
    active = np.ones(3, bool)
    ended_at = np.zeros(3, int)
    for t in range(1, 20):
        if not active.any():
            break
        step = envs.step(np.full(3, 1), active)
        np.testing.assert_array_equal(step.obs, step.final_obs)
        idle = ~active
        np.testing.assert_array_equal(step.obs[idle], obs[idle])
        assert not step.reward[idle].any()
        assert not (step.terminated | step.truncated)[idle].any()
        assert (step.reward[active] == t).all()
        ended = step.terminated | step.truncated
        ended_at[ended] = t
        active &= ~ended
        obs = step.obs
    lengths = [envs.episode_seed(i) % 9 + 1 for i in range(3)]
    assert ended_at.tolist() == lengths
    with pytest.raises(ValueError, match=r"\[0, 1, 2\] have no running episode: call reset"):
        envs.step(np.zeros(3, int))
    before = obs
    obs = envs.reset(np.array([False, True, False]))
    assert envs.episodes.tolist() == [0, 1, 0]
    assert obs[1].tolist() == [envs.episode_seed(1), 0, 0]
    np.testing.assert_array_equal(obs[[0, 2]], before[[0, 2]])
    step = envs.step(np.zeros(3, int), np.array([False, True, False]))
    assert step.reward.tolist() == [0, 1, 0]


@MODES
def test_step_needs_a_reset_first(mode, make):
    with pytest.raises(ValueError, match="call reset first"):
        make(ChainEnv, 2, 0, mode=mode).step(np.zeros(2, int))


@MODES
def test_time_limit_truncates_and_terminal_state_terminates(mode, make):
    envs = make("CartPole-v1", 2, 0, mode=mode, env_kwargs={"max_episode_steps": 5})
    envs.reset()
    for _ in range(4):
        step = envs.step(np.array([0, 1]))
        assert not step.truncated.any()
    step = envs.step(np.array([0, 1]))
    assert step.truncated.all()
    assert not step.terminated.any()
    assert envs.episodes.tolist() == [1, 1]
    assert not np.array_equal(step.obs, step.final_obs)


def test_types_of_what_comes_back(make):
    envs = make("CartPole-v1", 3, 0)
    assert envs.spec == EnvSpec(Box((4,)), Discrete(2), 500)
    assert envs.max_episode_steps == 500
    assert envs.reset().dtype == np.float32
    step = envs.step(np.zeros(3, np.int32))
    dtypes = [part.dtype for part in step]
    assert dtypes == [np.float32, np.float32, bool, bool, np.float32]
    assert [part.shape for part in step] == [(3, 4), (3,), (3,), (3,), (3, 4)]
    assert make(lambda: gymnasium.make("CartPole-v1"), 1, 0).max_episode_steps == 500
    assert make(ChainEnv, 1, 0).max_episode_steps is None


# Seeds


def test_64_environments_have_64_streams(make):
    def streams(seed):
        envs = make("CartPole-v1", 64, seed, check=False)
        rows = [envs.reset() for _ in range(3)]
        return np.stack(rows, axis=1).reshape(64, -1)

    first = streams(0)
    assert len({row.tobytes() for row in first}) == 64
    assert len({part.tobytes() for row in first for part in row.reshape(3, 4)}) == 3 * 64
    np.testing.assert_array_equal(first, streams(0))
    other = streams(1)
    assert not {row.tobytes() for row in first} & {row.tobytes() for row in other}


def test_sync_and_async_see_the_same(make):
    both = [make("CartPole-v1", 3, 7, mode=mode) for mode in ("sync", "async")]
    np.testing.assert_array_equal(*[envs.reset() for envs in both])
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.integers(2, size=3)
        for a, b in zip(*[envs.step(action) for envs in both], strict=True):
            np.testing.assert_array_equal(a, b)
    assert both[0].get_state() == both[1].get_state()


def test_the_episode_seed_replays_the_episode(make):
    envs = make("CartPole-v1", 2, 3)
    envs.reset()
    obs = envs.reset(np.array([False, True]))
    assert envs.episodes.tolist() == [0, 1]
    env = gymnasium.make("CartPole-v1")
    np.testing.assert_array_equal(env.reset(seed=envs.episode_seed(1))[0], obs[1])


# Spaces and dtypes


@MODES
@pytest.mark.parametrize("start", [-3, 0, 1, 10])
def test_discrete_spaces_are_counted_from_0(start, mode, make):
    envs = make(StartEnv, 3, 1, mode=mode, env_kwargs={"start": start})
    plain = make(StartEnv, 3, 1)
    assert envs.spec == EnvSpec(Discrete(7), Discrete(3), None)
    assert envs.action_space.start == start
    np.testing.assert_array_equal(envs.reset(), plain.reset())
    rng = np.random.default_rng(2)
    for _ in range(300 if mode == "sync" else 60):
        action = rng.integers(3, size=3)
        for a, b in zip(envs.step(action), plain.step(action), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


@pytest.mark.filterwarnings("ignore:observations may reach:UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_dtypes_go_through_unchanged(dtype, shape, make):
    env_kwargs = {"dtype": dtype, "shape": shape}
    expected = DtypeEnv(**env_kwargs)._obs()
    for mode in ("sync", "async") if shape else ("sync",):
        envs = make(DtypeEnv, 2, 0, mode=mode, env_kwargs=env_kwargs, check=False)
        assert envs.spec.obs.dtype == dtype
        step = (envs.reset(), *envs.step(np.zeros(2, int)))
        for obs in (step[0], step[1], step[5]):
            assert obs.dtype == dtype
            np.testing.assert_array_equal(obs, np.stack([expected, expected]))


def test_big_integers_warn(make):
    with pytest.warns(UserWarning, match="holds integers exactly only up to 16777216"):
        make(DtypeEnv, 1, 0, env_kwargs={"dtype": "int32"})


def test_an_environment_of_parts(make):
    envs = make("Blackjack-v1", 2, 0)
    assert envs.spec.obs == {"0": Discrete(32), "1": Discrete(11), "2": Discrete(2)}
    obs = envs.reset()
    env = gymnasium.make("Blackjack-v1")
    for i in range(2):
        seen, _ = env.reset(seed=envs.episode_seed(i))
        assert tuple(int(obs[key][i]) for key in "012") == seen
    step = envs.step(np.ones(2, int))  # a card more
    assert not np.array_equal(step.final_obs["0"], obs["0"])
    for key in "012":
        assert obs[key].dtype == np.int64
        waits = ~step.terminated
        np.testing.assert_array_equal(step.obs[key][waits], step.final_obs[key][waits])


# Bad input


@MODES
@pytest.mark.parametrize(
    "action",
    [
        np.zeros(2, int),
        np.zeros(4, int),
        np.zeros((3, 1), int),
        0,
        np.zeros(3),
        np.zeros(3, bool),
        [0, 0, 2],
        [0, -1, 0],
        None,
        ["a", "b", "c"],
    ],
    ids=str,
)
def test_bad_actions(mode, action, shared_envs):
    envs = shared_envs[mode]
    before = envs.get_state()
    started = time.perf_counter()
    with pytest.raises(ValueError, match="actions must be"):
        envs.step(action)
    assert time.perf_counter() - started < 0.1  # at once: nobody waits for an answer
    assert envs.get_state() == before
    assert envs.step(np.ones(3, int)).reward.tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def shared_envs():
    kwargs = {"time_limit": 1000}
    both = {
        mode: make_envs(ChainEnv, 3, 0, mode=mode, env_kwargs=kwargs) for mode in ("sync", "async")
    }
    for envs in both.values():
        envs.reset()
    yield both
    for envs in both.values():
        envs.close()


@pytest.mark.parametrize("mask", [[True], np.ones(3, int), np.ones((3, 1), bool)], ids=str)
def test_bad_masks(mask, shared_envs):
    with pytest.raises(ValueError, match="mask must be 3 bools"):
        shared_envs["sync"].reset(mask)
    with pytest.raises(ValueError, match="active must be 3 bools"):
        shared_envs["sync"].step(np.zeros(3, int), mask)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"mode": "asink"}, "Did you mean 'async'"),
        ({"on_env_error": "restrat"}, "Did you mean 'restart'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_envs(**{"env": "CartPole-v1", "num_envs": 1, "seed": 0, **kwargs})


def test_a_callable_that_returns_one_environment_again():
    env = ChainEnv()
    envs = make_envs(lambda: gymnasium.wrappers.TimeLimit(env, 5), 2, 0)
    with pytest.raises(ValueError, match="make a new environment every time"):
        envs.reset()
    envs.close()


def test_an_observation_that_changes_shape_is_stopped(make):
    class Grows(ChainEnv):
        def _obs(self):
            return np.ones(1 + (self.time > 300), np.float32)

    envs = make(Grows, 2, 0, env_kwargs={"time_limit": 1000})
    envs.reset()
    with pytest.raises(
        ValueError, match=r"step 301, .*obs has shape \(2,\), its space says \(1,\)"
    ):
        for _ in range(302):
            envs.step(np.zeros(2, int))


# Faults


def run_until_fault(envs, steps=30):
    """Steps and returns how often, with what was learned from: rows that are not lost."""
    obs, rows = envs.reset(), []
    for _ in range(steps):
        step = envs.step(np.zeros(envs.num_envs, int))
        for part in (step.obs, step.final_obs, step.reward):
            assert np.isfinite(part).all()
        rows.append((obs, step, envs.lost.copy()))
        obs = step.obs
    return rows


KINDS = ["raise", "raise_reset", "nan_obs", "inf_obs", "nan_reward", "inf_reward", "nan_reset"]


@MODES
@pytest.mark.parametrize("kind", KINDS)
def test_raise(kind, mode, make):
    """The second environment's third episode fails, where it says it does."""
    seeds = make(ChainEnv, 2, 4)
    for _ in range(3):
        seeds.reset()
    bad = seeds.episode_seed(1)
    envs = make(FaultyEnv, 2, 4, mode=mode, env_kwargs={"kind": kind, "only_seed": bad, "at": 4})
    with pytest.raises(EnvBrokeError if kind.startswith("raise") else ValueError) as caught:
        run_until_fault(envs)
    text = "\n".join([str(caught.value), *caught.value.__notes__])
    at = 0 if kind.endswith("reset") else 4
    where = f"FaultyEnv, environment 1, episode 2 (seed {bad}), step {at}, "
    assert where + ("on action 5" if at else "at reset") in text
    if not kind.startswith("raise"):
        key = "reward is" if kind.endswith("reward") else "obs"
        assert key in str(caught.value)
        assert where in str(caught.value)
    if mode == "async" and kind.startswith("raise"):
        assert "in step" in text or "in reset" in text
        assert "tests/env_doubles.py" in text.replace("\\", "/")
    # It replays from what is printed.
    assert f"reset(seed={bad}), then the actions {[5] * at}" in text
    env = FaultyEnv(kind, only_seed=bad, at=4)
    if kind == "raise":
        env.reset(seed=bad)
        for _ in range(3):
            env.step(5)
        with pytest.raises(EnvBrokeError):
            env.step(5)
    # The state is that before the failing step: what a last checkpoint may hold.
    assert len(envs.get_state()["actions"][1]) == max(0, at - 1)


@MODES
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("bad_flag", "terminated is 'no', expected a bool"),
        ("bad_info", "info of step is None, expected a dict"),
        ("bad_reward", "reward is '1', expected a number"),
        ("sys_exit", r"the environment called sys.exit\(0\)"),
        ("exit_reset", r"the environment called sys.exit\(0\)"),
    ],
)
def test_every_step_is_checked(kind, told, mode, make):
    """What goes wrong only in mid-run: an episode long after the one that is tried at first."""
    seeds = make(ChainEnv, 2, 4)
    for _ in range(3):
        seeds.reset()
    env_kwargs = {"kind": kind, "only_seed": seeds.episode_seed(1), "at": 4}
    envs = make(FaultyEnv, 2, 4, mode=mode, env_kwargs=env_kwargs)
    with pytest.raises((ValueError, RuntimeError), match=told) as caught:
        run_until_fault(envs)
    assert "environment 1, episode 2" in "\n".join([str(caught.value), *caught.value.__notes__])


def test_numpy_flags_and_numbers_are_taken(make):
    class Scalars(ChainEnv):
        def step(self, action):
            obs, reward, *flags, _ = super().step(action)
            return obs, np.float32(reward), *map(np.bool_, flags), collections.OrderedDict()

    envs = make(Scalars, 1, 0, check=False)
    envs.reset()
    for _ in range(10):
        step = envs.step([0])
    assert (step.reward[0], step.terminated[0], step.truncated[0]) == (1, True, False)


@pytest.mark.filterwarnings("ignore:FaultyEnv:RuntimeWarning")
@MODES
@pytest.mark.parametrize("kind", KINDS)
def test_restart(kind, mode, make):
    seeds = make(ChainEnv, 3, 4)
    seeds.reset()
    seeds.reset()
    bad = seeds.episode_seed(1)
    env_kwargs = {"kind": kind, "only_seed": bad, "at": 4}
    envs = make(FaultyEnv, 3, 4, mode=mode, on_env_error="restart", env_kwargs=env_kwargs)
    rows = run_until_fault(envs)
    lost = np.array([lost for _, _, lost in rows])
    assert not lost[:, [0, 2]].any()
    if kind.endswith("reset"):
        assert not lost.any()  # no step was taken: the next episode just started
        assert envs.episodes.tolist() == [3, 4, 3]
    else:
        assert np.flatnonzero(lost[:, 1]).tolist() == [13]
        obs, step, _ = rows[13]
        assert (step.reward[1], step.terminated[1], step.truncated[1]) == (0, False, True)
        np.testing.assert_array_equal(step.final_obs[1], obs[1])  # the last good one
        np.testing.assert_array_equal(step.obs[1], [0, 0])  # the next episode
        assert envs.episodes.tolist() == [3, 3, 3]


@MODES
def test_restart_gives_up_after_three_in_an_hour(mode, make, monkeypatch):
    now = [0.0]
    rests = []
    monkeypatch.setattr(
        base, "time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=rests.append)
    )
    env_kwargs = {"kind": "raise", "at": 2}
    envs = make(FaultyEnv, 1, 4, mode=mode, on_env_error="restart", env_kwargs=env_kwargs)
    envs.reset()
    for _ in range(3):
        envs.step([0])
        with pytest.warns(RuntimeWarning, match=r"FaultyEnv, environment 0.*Restarting it"):
            envs.step([0])
    now[0] = 3601.0
    envs.step([0])
    with pytest.warns(RuntimeWarning, match="Restarting"):
        envs.step([0])
    for _ in range(2):
        envs.step([0])
        with pytest.warns(RuntimeWarning, match="Restarting"):
            envs.step([0])
    envs.step([0])
    with pytest.raises(EnvBrokeError) as caught:
        envs.step([0])
    assert "restarted 3 times within an hour already" in caught.value.__notes__[0]
    assert rests == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]


@pytest.mark.filterwarnings("ignore:FaultyEnv:RuntimeWarning")
@MODES
def test_a_reset_that_always_fails_ends_with_one_error(mode, make, monkeypatch):
    monkeypatch.setattr(base, "_BACK_OFF", 0.01)
    env_kwargs = {"kind": "raise_reset"}
    envs = make(FaultyEnv, 2, 4, mode=mode, on_env_error="restart", env_kwargs=env_kwargs)
    with pytest.raises(EnvBrokeError):
        envs.reset()


@pytest.mark.filterwarnings("ignore:FaultyEnv:RuntimeWarning")
@MODES
@pytest.mark.parametrize("kind", KINDS)
def test_drop(kind, mode, make):
    seeds = make(ChainEnv, 3, 4)
    seeds.reset()
    seeds.reset()
    env_kwargs = {"kind": kind, "only_seed": seeds.episode_seed(1), "at": 4}
    envs = make(FaultyEnv, 3, 4, mode=mode, on_env_error="drop", env_kwargs=env_kwargs)
    rows = run_until_fault(envs)
    assert envs.retired.tolist() == [False, True, False]
    lost = np.array([lost for _, _, lost in rows])
    assert not lost[:, [0, 2]].any()
    first = 10 if kind.endswith("reset") else 13
    assert np.flatnonzero(lost[:, 1]).tolist() == list(range(first, 30))
    for _, step, gone in rows[first:]:
        assert gone[1]
        assert (step.reward[1], step.terminated[1], step.truncated[1]) == (0, False, True)
    # Whole-episode collection leaves it alone, too.
    envs.reset()
    step = envs.step(np.zeros(3, int), ~envs.retired)
    assert step.truncated.tolist() == [False, False, False]
    assert envs.lost.tolist() == [False, True, False]
    # A state remembers it.
    state = envs.get_state()
    again = make(FaultyEnv, 3, 4, mode=mode, on_env_error="drop", env_kwargs=env_kwargs)
    np.testing.assert_array_equal(again.set_state(state)[[0, 2]], step.obs[[0, 2]])
    assert again.get_state() == state
    assert again.retired.tolist() == [False, True, False]


@pytest.mark.filterwarnings("ignore:FaultyEnv:RuntimeWarning")
@MODES
def test_drop_of_the_last_one_raises(mode, make):
    envs = make(FaultyEnv, 2, 4, mode=mode, on_env_error="drop", env_kwargs={"at": 3})
    with pytest.raises(EnvBrokeError) as caught:
        run_until_fault(envs)
    assert "No environment is left" in caught.value.__notes__[0]


@MODES
def test_a_fault_in_whole_episode_collection_waits_for_the_reset(mode, make):
    envs = make(
        FaultyEnv, 2, 0, mode=mode, on_env_error="restart", env_kwargs={"at": 2, "times": 1}
    )
    envs.reset()
    active = np.ones(2, bool)
    envs.step(np.zeros(2, int), active)
    with pytest.warns(RuntimeWarning, match="Restarting"):
        step = envs.step(np.zeros(2, int), active)
    assert envs.lost.all()
    assert step.truncated.all()
    assert envs.episodes.tolist() == [0, 0]
    np.testing.assert_array_equal(step.obs, step.final_obs)
    envs.reset()
    assert envs.episodes.tolist() == [1, 1]


# State


@MODES
@pytest.mark.parametrize("whole", [False, True])
def test_replay(mode, whole, make):
    envs = make("CartPole-v1", 3, 9, mode=mode)
    obs = envs.reset()
    rng = np.random.default_rng(0)
    active = np.ones(3, bool)
    for _ in range(37):
        step = envs.step(rng.integers(2, size=3), active if whole else None)
        active &= ~(step.terminated | step.truncated)
        obs = step.obs
    state = envs.get_state()
    again = make("CartPole-v1", 3, 9, mode=mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(again.set_state(state, obs), obs)
    assert again.get_state() == state
    if whole:
        assert not active.all()  # one at least has ended, and waits for its reset here too
        with pytest.raises(ValueError, match="call reset first"):
            again.step(np.zeros(3, int))
        np.testing.assert_array_equal(envs.reset(~active), again.reset(~active))
    for _ in range(30):
        action = rng.integers(2, size=3)
        now = active & (rng.random(3) < 0.5) if whole else None
        first, second = envs.step(action, now), again.step(action, now)
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
        if whole:
            active &= ~(first.terminated | first.truncated)


def test_state_before_the_first_reset(make):
    state = make(ChainEnv, 2, 0).get_state()
    assert state == {
        "episode": [-1, -1],
        "lifetime": [0, 0],
        "actions": [[], []],
        "retired": [False, False],
    }
    envs = make(ChainEnv, 2, 0)
    envs.set_state(state)
    envs.reset()
    assert envs.episodes.tolist() == [0, 0]


def test_an_environment_that_does_not_come_back_warns(make):
    rng = np.random.default_rng(0)

    class Random(ChainEnv):
        def _obs(self):
            return rng.random(1, np.float32)

    class Shorter(ChainEnv):
        made = 0

        def __init__(self):
            Shorter.made += 1
            super().__init__(time_limit=100 if Shorter.made <= 2 else 3)

    for env in (Random, Shorter):
        envs = make(env, 1, 0, check=False)
        obs = envs.reset()
        for _ in range(5):
            obs = envs.step([0]).obs
        again = make(env, 1, 0, check=False)
        with pytest.warns(UserWarning, match=r"\[0\] did not come back to the state"):
            again.set_state(envs.get_state(), obs)
        again.step([0])  # and yet it goes on


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"episode": [0], "actions": [[]]},
        {"episode": [0, 0], "actions": [[], [7]]},
        {"episode": [0, -2], "actions": [[], []]},
        {"episode": ["a", 0], "actions": [[], []]},
        {"episode": [0, 0], "actions": [[], []], "retired": [True, True]},
        None,
    ],
)
def test_bad_states(state, make):
    with pytest.raises(ValueError, match="state"):
        make(ChainEnv, 2, 0).set_state(state)


def test_closing_twice(make):
    for mode in ("sync", "async"):
        envs = make(partial(ChainEnv, time_limit=3), 1, 0, mode=mode)
        envs.close()
        envs.close()


def test_box_actions_are_stepped_saved_and_replayed():
    random = np.random.default_rng(0)
    envs = make_envs("Pendulum-v1", 2, seed=3)
    assert envs.spec.action == Box((1,), "float32", (-2.0,), (2.0,))
    envs.reset()
    for _ in range(7):
        step = envs.step(random.uniform(-2, 2, (2, 1)).astype(np.float32))
    state = json.loads(json.dumps(envs.get_state()))
    other = make_envs("Pendulum-v1", 2, seed=3)
    np.testing.assert_array_equal(other.set_state(state, step.obs), step.obs)
    action = np.full((2, 1), 1.25, np.float32)
    np.testing.assert_array_equal(other.step(action).obs, envs.step(action).obs)


@pytest.mark.parametrize(
    ("action", "match"),
    [([[0.0], [2.5]], "within"), ([[np.nan], [0.0]], "within"), ([0.0, 0.0], "shape")],
)
def test_box_actions_are_checked(action, match):
    envs = make_envs("Pendulum-v1", 2, seed=3)
    envs.reset()
    with pytest.raises(ValueError, match=match):
        envs.step(np.array(action, np.float32))
