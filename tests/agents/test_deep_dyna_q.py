"""Dyna-Q with networks: its loss, when it plans, what values it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents import DeepDynaQ, variables
from rlzoo.agents.deep_dyna_q import DeepDynaQConfig
from rlzoo.agents.dqn import DQNConfig, dqn_loss
from rlzoo.exploration import EpsilonGreedy
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.types import Transitions
from tests.helpers import (
    BOX,
    STEP,
    agent_chunk,
    arrays,
    assign,
    chain_envs,
    chain_values,
    make_agent,
)

SEED = rng.from_int(0)


@pytest.mark.parametrize("double_q", [False, True], ids=["single", "double"])
def test_loss_by_hand(double_q):
    """Linear networks without bias on one-hot observations are tables."""
    spec = EnvSpec(Box((2,)), Discrete(3), None)
    network, target = (
        networks.build_network(spec, keras.layers.Identity(), networks.q_values(3)) for _ in "12"
    )
    network.set_weights([np.float32([[1, 2, 3], [4, 6, 5]]), np.zeros(3)])
    target.set_weights([np.float32([[10, 20, 30], [70, 50, 60]]), np.zeros(3)])
    hot = tf.eye(2)
    batch = Transitions(
        obs=tf.gather(hot, [0, 0, 1]),
        action=tf.constant([2, 0, 1]),
        reward=tf.constant([1.0, -1.0, 0.5]),
        discount=tf.constant([1.0, 0.0, 0.5]),  # the last one simulated: a half terminates
        next_obs=tf.gather(hot, [1, 1, 0]),
    )
    loss, _, q = dqn_loss(network, target, batch, DQNConfig(discount=0.5, double_q=double_q))
    first = 1 + 0.5 * (50 if double_q else 70)
    error = np.array([first - 3, -1.0 - 1, 0.5 + 0.25 * 30 - 6])
    assert float(loss) == pytest.approx((np.abs(error) - 0.5).mean(), rel=1e-5)
    assert float(q) == pytest.approx((3 + 1 + 6) / 3)


# When it learns and plans


def same(one, other):
    return all(map(np.array_equal, one, other))


def test_it_learns_then_plans_as_replay_fills():
    """Chunks of 8 steps: real steps from 16 on, simulated ones from 24 on."""
    agent = make_agent("dyna_q", BOX, learning_starts=16, planning_starts=24, planning_steps=3)
    state = agent.init(2)
    for number, updates in enumerate([0, 1, 4, 4]):
        weights, model = agent.actor.network.get_weights(), agent.model.network.get_weights()
        before = int(state.updates)
        state, metrics = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        assert float(metrics["updates"]) == updates
        assert int(state.updates) == before + updates
        assert same(weights, agent.actor.network.get_weights()) == (updates == 0)
        assert same(model, agent.model.network.get_weights()) == (updates == 0)


def test_without_planning_there_is_no_model():
    agent = make_agent("dyna_q", BOX, planning_steps=0)
    state, model = agent.init(2), agent.model.network.get_weights()
    for number in range(3):
        state, metrics = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        assert float(metrics["updates"]) == 1
    assert same(model, agent.model.network.get_weights())
    assert int(state.updates) == 3


def test_simulated_steps_count_for_the_target():
    """One real and two simulated steps each: with a period of three, equal after each update."""
    for period, equal in ((3, True), (4, False)):
        agent = make_agent("dyna_q", BOX, planning_steps=2, target_update_period=period)
        agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, SEED)
        assert (
            same(agent.dqn.target.network.get_weights(), agent.actor.network.get_weights()) == equal
        )
    own, target = (
        {id(v) for v in x.variables} for x in (agent.actor.network, agent.dqn.target.network)
    )
    assert not own & target


def test_steps_that_are_not_valid_change_nothing():
    agent = make_agent("dyna_q", BOX)
    start, chunk = arrays(variables(agent)), agent_chunk(agent, 2, 0)
    valid = np.array([[True, True], [True, False], [False, True], [True, True]])
    found = []
    for junk in (0.0, 1e6):
        assign(variables(agent), start)
        rows = {name: getattr(chunk, name) for name in ("obs", "next_obs", "reward")}
        changed = {
            name: tf.where(valid[..., None] if row.ndim == 3 else valid, row, junk * (i + 1))
            for i, (name, row) in enumerate(rows.items())
        }
        changed = chunk._replace(**changed, valid=tf.constant(valid))
        _, metrics = agent.update(agent.init(2), changed, STEP, SEED)
        found.append(arrays(variables(agent)) | arrays(metrics))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)


@pytest.mark.parametrize("torso", [networks.lstm(4), networks.gru(4), keras.layers.LSTMCell(4)])
def test_a_recurrent_torso_is_refused_with_what_to_use(torso):
    with pytest.raises(ValueError, match=r"dyna_q cannot use a recurrent.*dense.*reinforce"):
        make_agent("dyna_q", BOX, torso=torso)


# What it learns


@pytest.fixture(scope="module")
def chain_loop():
    config = DeepDynaQConfig(
        learning_rate=0.005,
        discount=0.9,
        replay_capacity=1_000,
        learning_starts=64,
        planning_steps=2,
        planning_starts=400,
        target_update_period=50,
        model_sizes=(32,),
        train_every=1,
    )
    envs = chain_envs("truncate", one_hot=True)
    agent = DeepDynaQ(envs.spec, config, EpsilonGreedy(1.0), keras.layers.Identity(), seed=0)
    return HostLoop(agent, envs, 0), arrays(variables(agent))


@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_a_time_limit_is_no_terminal_state(chain_loop, end):
    """10 for ever where the limit truncates, the exact finite sum where it terminates.

    Two of three backups are on what the model predicts.
    """
    loop, start = chain_loop
    assign(variables(loop.agent), start)
    loop.collector.envs = chain_envs(end, one_hot=True)
    loop.collector.obs = loop.envs.reset()
    for _ in range(2_000):
        loop.run()
    values = chain_values(end)
    found = loop.agent.actor.network(np.eye(10)).numpy()
    np.testing.assert_allclose(found, np.stack([values, values], axis=1), rtol=0.02)
