import gymnasium
import numpy as np
import pytest
import tensorflow as tf

from rlzoo.envs import make_env
from rlzoo.envs.ports import make_port
from rlzoo.envs.ports.tabular import TabularState
from rlzoo.ops import rng
from rlzoo.spaces import MASK, unmasked
from tests.envs.ports.recorded import (
    assert_same,
    assert_same_run,
    fit,
    homogeneity,
    p_value,
    random_policy,
    record,
    repeat,
)
from tests.helpers import xla

TAXI = "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3"
SURE = [
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake8x8-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"is_slippery": False, "desc": ["SFF", "FHF", "FFG"]}),
    ("CliffWalking-v1", {"max_episode_steps": 100}),
    (TAXI, {}),
]
CHANCY = [
    ("FrozenLake-v1", {}),
    ("FrozenLake8x8-v1", {}),
    ("FrozenLake-v1", {"desc": ["SFS", "FHF", "SFG"], "reward_schedule": (5, -1, 2)}),
    ("FrozenLake8x8-v1", {"success_rate": 0.7}),
    ("CliffWalkingSlippery-v1", {"max_episode_steps": 200}),
    (TAXI, {"is_rainy": True}),
]


def state_of(env):
    return (env.s,)


def greedy_policy(env_id, env_kwargs):
    """Returns what value iteration on the table finds."""
    env = make_env(env_id, env_kwargs).unwrapped
    states, actions = env.observation_space.n, env.action_space.n
    model, gain = np.zeros((states, actions, states)), np.zeros((states, actions))
    for state in range(states):
        for action in range(actions):
            for probability, successor, reward, terminated in env.P[state][action]:
                gain[state, action] += probability * reward
                model[state, action, successor] += probability * (not terminated)
    value = np.zeros(states)
    for _ in range(200):
        q = gain + 0.99 * model @ value
        value = q.max(axis=1)
    best = q.argmax(axis=1)
    return lambda env, obs, random: int(best[obs])


@pytest.mark.parametrize("competent", [False, True])
@pytest.mark.parametrize(("env_id", "env_kwargs"), SURE)
def test_same_steps(env_id, env_kwargs, competent):
    policy = greedy_policy(env_id, env_kwargs) if competent else random_policy
    recorded = assert_same(env_id, env_kwargs, state_of, policy)
    if competent:
        assert recorded.terminated.any()
        assert not recorded.truncated.any()


@pytest.mark.parametrize(("env_id", "env_kwargs"), [row for row in SURE if row[0] != TAXI])
def test_same_runs(env_id, env_kwargs):
    assert_same_run(env_id, {**env_kwargs, "max_episode_steps": 30}, num_steps=150)


@pytest.mark.parametrize(("env_id", "env_kwargs"), CHANCY)
def test_outcomes_follow_the_table(env_id, env_kwargs):
    """In every pair of state and action, 200 draws."""
    env = make_env(env_id, env_kwargs)
    table, num_actions = env.unwrapped.P, env.action_space.n
    port = make_port(env)
    pairs = np.arange(env.observation_space.n * num_actions, dtype=np.int32)
    states, actions = np.divmod(np.repeat(pairs, 200), np.int32(num_actions))

    @xla
    def step(states, actions):
        return port.step(TabularState(states), actions, rng.from_int(3))

    state, reward, terminated = step(tf.constant(states), tf.constant(actions))
    found = zip(state.obs.numpy(), reward.numpy(), terminated.numpy(), strict=True)
    found = [(int(a), float(b), bool(c)) for a, b, c in found]
    counts, probabilities = [], []
    for pair in pairs:
        expected = {}
        for probability, *outcome in table[pair // num_actions][pair % num_actions]:
            key = (int(outcome[0]), float(outcome[1]), bool(outcome[2]))
            expected[key] = expected.get(key, 0.0) + probability
        drawn = found[pair * 200 : pair * 200 + 200]
        assert set(drawn) <= set(expected)
        if len(expected) > 1:
            counts += [[drawn.count(key) for key in expected] + [0] * (3 - len(expected))]
            probabilities += [list(expected.values()) + [0.0] * (3 - len(expected))]
    assert fit(counts, probabilities) > 0.01


@pytest.mark.parametrize("competent", [False, True])
@pytest.mark.parametrize(("env_id", "env_kwargs"), CHANCY)
def test_outcomes_are_spread_as_in_the_original(env_id, env_kwargs, competent):
    policy = greedy_policy(env_id, env_kwargs) if competent else random_policy
    recorded = record(env_id, env_kwargs, state_of, policy)
    _, step = repeat(env_id, env_kwargs, recorded)

    def outcome(obs, reward, terminated):
        return (obs * 1000 + reward.astype(int)) * 2 + terminated

    ours = outcome(step.final_obs, step.reward, step.terminated)
    theirs = outcome(recorded.next_obs, recorded.reward, recorded.terminated)
    pairs = recorded.state[:, 0] * 10 + recorded.action
    at_least = 20 if env_id == TAXI else 100
    assert homogeneity(pairs, ours, theirs, at_least) > 0.01


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"), [CHANCY[2], (TAXI, {})], ids=["three starts", "taxi"]
)
def test_starts_are_spread_as_in_the_original(env_id, env_kwargs):
    env = make_env(env_id, env_kwargs)
    expected = env.unwrapped.initial_state_distrib
    port = make_port(env)
    reset = xla(lambda: unmasked(port.observe(port.reset(rng.from_int(1), 20_000))))
    ours = reset().numpy()
    assert ours.dtype == np.int64
    assert fit(np.bincount(ours, minlength=len(expected)), expected) > 0.01
    env.reset(seed=0)
    theirs = np.array([env.reset()[0] for _ in range(20_000)])
    assert homogeneity(np.zeros(20_000), ours, theirs) > 0.01


@pytest.mark.parametrize("env_id", ["CliffWalking-v1", "FrozenLake8x8-v1"])
def test_one_start(env_id):
    env = make_env(env_id)
    port = make_port(env)
    starts = port.observe(port.reset(rng.from_int(0), 50)).numpy()
    assert set(starts.tolist()) == {env.reset(seed=0)[0]}


def test_taxi_says_in_every_state_which_actions_are_valid():
    env = make_env(TAXI)
    port, states = make_port(env), np.arange(500, dtype=np.int32)
    obs = xla(port.observe)(TabularState(tf.constant(states)))
    assert obs[MASK].dtype == tf.bool and obs["obs"].dtype == tf.int64
    wanted = [env.unwrapped.action_mask(state) for state in states]
    np.testing.assert_array_equal(obs[MASK], np.array(wanted, bool))


def test_a_fickle_passenger_is_refused():
    with pytest.raises(ValueError, match=r"fickle_passenger.*--loop host"):
        make_port(make_env(TAXI, {"fickle_passenger": True}))


def test_p_value():
    """Against quantiles printed in tables of the chi-square distribution."""
    for freedom, at_5_percent, at_1_percent in ((3, 7.815, 11.345), (30, 43.773, 50.892)):
        assert p_value(at_5_percent, freedom) == pytest.approx(0.05, rel=0.03)
        assert p_value(at_1_percent, freedom) == pytest.approx(0.01, rel=0.03)
