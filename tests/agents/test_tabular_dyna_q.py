"""Tabular Dyna-Q against the book's algorithm in plain Python, draw by draw."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents import TabularDynaQ, variables
from rlzoo.agents.tabular_dyna_q import TabularDynaQConfig
from rlzoo.exploration import EpsilonGreedy
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.ops.tabular import q_backup, write
from tests.helpers import (
    DISCRETE,
    STEP,
    arrays,
    assign,
    chain_envs,
    chain_values,
    make_agent,
    random_chunk,
    tensors,
    xla,
)

SEED = rng.from_int(0)
STATES, ACTIONS = DISCRETE.obs.n, DISCRETE.num_actions


class Book:
    """The box "Tabular Dyna-Q" of Sutton & Barto, 2nd ed., section 8.2, with a discount."""

    def __init__(self, config):
        self.config = config
        self.q = np.zeros((STATES, ACTIONS))
        self.model = {}  # (state, action) -> (reward, gamma or 0, next state), in order of sight

    def backup(self, state, action, reward, discount, next_state):
        target = reward + discount * self.q[next_state].max()
        self.q[state, action] += self.config.learning_rate * (target - self.q[state, action])

    def learn(self, chunk, seed):
        draws = rng.uniform(seed, [chunk.reward.size, self.config.planning_steps]).numpy()
        for i, index in enumerate(np.ndindex(chunk.reward.shape)):
            if chunk.valid[index]:
                pair = int(chunk.obs[index]), int(chunk.action[index])
                discount = self.config.discount * float(chunk.discount[index])
                seen = float(chunk.reward[index]), discount, int(chunk.next_obs[index])
                self.backup(*pair, *seen)
                self.model[pair] = seen
            for draw in draws[i]:
                if self.model:
                    pair = list(self.model)[int(draw * np.float32(len(self.model)))]
                    self.backup(*pair, *self.model[pair])


@pytest.mark.parametrize(
    ("planning_steps", "num_envs", "gaps"),
    [(0, 1, False), (7, 1, False), (3, 4, False), (3, 4, True)],
    ids=["q-learning", "planning", "envs", "gaps"],
)
def test_it_is_the_books_algorithm(planning_steps, num_envs, gaps):
    """Compiled, over 60 chunks; several environments learn one after the other."""
    agent = make_agent(
        "dyna_q", DISCRETE, planning_steps=planning_steps, learning_rate=0.3, discount=0.9
    )
    book, update, state = Book(agent.config), xla(agent.update), agent.init(num_envs)
    for number in range(60):
        chunk = random_chunk(DISCRETE, 1, num_envs, seed=number)
        if gaps:
            valid = np.random.default_rng(number).random((1, num_envs)) < 0.5
            chunk = chunk._replace(valid=valid)
        seed = rng.from_int(number)
        state, metrics = update(state, tensors(chunk), STEP, seed)
        book.learn(chunk, seed)
        np.testing.assert_allclose(agent.table.numpy(), book.q, atol=1e-5)
        np.testing.assert_allclose(agent.actor.network(np.arange(STATES)), book.q, atol=1e-5)
        assert float(metrics["model/pairs"]) == len(book.model)
    model = agent.model
    assert model.pairs[: len(book.model)].numpy().tolist() == [
        s * ACTIONS + a for s, a in book.model
    ]
    for (s, a), (reward, discount, next_state) in book.model.items():
        pair = s * ACTIONS + a
        assert bool(model.known[pair])
        assert float(model.reward[pair]) == pytest.approx(reward)
        assert float(model.discount[pair]) == pytest.approx(discount)
        assert int(model.next_obs[pair]) == next_state
    assert int(tf.math.count_nonzero(model.known)) == len(book.model)


def test_a_backup_by_hand():
    q = tf.constant([0.0, 1.0, 5.0, 2.0])  # of 2 observations and actions
    every = tf.ones((2, 2), tf.bool)
    value, error = q_backup(q, every, 1, 2.0, 0.9, 1, 0.5)  # 2 + 0.9 * 5 = 6.5, halved from 1
    assert (float(value), float(error)) == (pytest.approx(3.75), pytest.approx(5.5))
    value, _ = q_backup(q, every, 1, 2.0, 0.0, 1, 0.5)  # terminated
    assert float(value) == pytest.approx(1.5)
    np.testing.assert_array_equal(write(q, 1, value), [0.0, 1.5, 5.0, 2.0])
    second = tf.constant([[True, True], [False, True]])
    value, _ = q_backup(q, second, 1, 2.0, 0.9, 1, 0.5)  # 2 + 0.9 * 2 = 3.8: 5 is not to be had
    assert float(value) == pytest.approx(2.4)


def one_step(obs, action, reward, next_obs, valid=True):
    chunk = random_chunk(DISCRETE, 1, 1, seed=0)
    values = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs, "discount": 1}
    for name, value in values.items():
        getattr(chunk, name)[:] = value
    chunk.valid[:] = valid
    return tensors(chunk)


def test_the_model_remembers_the_last_transition_of_a_pair():
    agent = make_agent("dyna_q", DISCRETE)
    state = agent.init(1)
    for reward, next_obs in ((1.0, 2), (5.0, 3)):
        state, metrics = agent.update(state, one_step(1, 2, reward, next_obs), STEP, SEED)
    pair = 1 * ACTIONS + 2
    assert float(metrics["model/pairs"]) == 1
    assert float(agent.model.reward[pair]) == 5.0
    assert int(agent.model.next_obs[pair]) == 3


def test_a_step_that_is_not_valid_leaves_no_trace():
    agent = make_agent("dyna_q", DISCRETE, planning_steps=3)
    state, _ = agent.update(agent.init(1), one_step(1, 2, 1.0, 2), STEP, SEED)
    found = []
    for reward in (3.0, 1e6):
        start = arrays(variables(agent))
        _, metrics = agent.update(state, one_step(4, 0, reward, 2, valid=False), STEP, SEED)
        found.append(arrays(variables(agent)) | arrays(metrics))
        assign(variables(agent), start)
    assert not found[0]["model/known"][4 * ACTIONS]
    assert found[0]["model/num_pairs"] == 1
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)


def test_planning_before_anything_is_known_does_nothing():
    agent = make_agent("dyna_q", DISCRETE, planning_steps=3)
    agent.update(agent.init(1), one_step(4, 0, 3.0, 2, valid=False), STEP, SEED)
    assert not agent.table.numpy().any()


def test_planning_carries_a_reward_back_faster():
    """A corridor walked once: the reward at its end reaches the start only with planning."""
    for planning_steps, reaches in ((0, False), (200, True)):
        agent = make_agent("dyna_q", DISCRETE, planning_steps=planning_steps, learning_rate=1.0)
        update, state = xla(agent.update), agent.init(1)
        for number in range(4):
            chunk = one_step(number, 1, float(number == 3), number + 1)
            state, _ = update(state, chunk, STEP, rng.from_int(number))
        assert (agent.table.numpy()[0, 1] > 0) == reaches


@pytest.mark.parametrize("torso", [networks.dense((4,)), keras.layers.Dense(3), networks.lstm(4)])
def test_a_torso_is_refused(torso):
    with pytest.raises(ValueError, match=r"dyna_q keeps a table.*no torso"):
        make_agent("dyna_q", DISCRETE, torso=torso)


# What it learns


@pytest.fixture(scope="module")
def chain_loop():
    config = TabularDynaQConfig(learning_rate=0.5, discount=0.9, planning_steps=5)
    envs = chain_envs("truncate")
    agent = TabularDynaQ(envs.spec, config, EpsilonGreedy(1.0), None, seed=0)
    return HostLoop(agent, envs, 0), arrays(variables(agent))


@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_a_time_limit_is_no_terminal_state(chain_loop, end):
    """10 for ever where the limit truncates, the exact finite sum where it terminates."""
    loop, start = chain_loop
    assign(variables(loop.agent), start)
    loop.collector.envs = chain_envs(end)
    loop.collector.obs = loop.envs.reset()
    for _ in range(300):
        loop.run()
    values = chain_values(end)
    np.testing.assert_allclose(
        loop.agent.table.numpy(), np.stack([values, values], axis=1), rtol=0.02
    )
