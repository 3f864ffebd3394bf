"""Upper confidence bounds, by hand, and on a table, a network and a planning agent."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo.agents import DQN, TabularDynaQ
from rlzoo.envs import make_envs
from rlzoo.exploration import UCB, check_strategy
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import make_agent

SPEC = EnvSpec(Discrete(2), Discrete(3), None)
STEP = tf.constant(0, tf.int64)


def behave(strategy, scores, obs, counts, seed=0):
    scores, obs = tf.constant(np.float32(scores)), tf.constant(obs, tf.int64)
    first = tf.zeros(len(obs), tf.bool)
    return strategy.behave(
        scores, obs, tf.constant(np.float32(counts)), first, STEP, rng.from_int(seed)
    )


def test_the_bounds_by_hand():
    """N = 8 + 1 + 1: widths sqrt(ln 10 / 8) = 0.54, 1.52, 1.52; bounds 1.54, 1.82, 1.52 at c = 1.

    At c = 0.1 they are 1.05, 0.45, 0.15: the first.
    """
    counts = [[8, 1, 1], [0, 0, 0]]
    for c, best in ((1.0, 1), (0.1, 0)):
        action, log_prob, state = behave(UCB(c), [[1.0, 0.3, 0.0]], [0], counts)
        assert action.numpy().tolist() == [best] and log_prob.numpy().tolist() == [0.0]
        want = np.float32(counts)
        want[0, best] += 1
        np.testing.assert_array_equal(state, want)


def test_what_was_never_tried_comes_first_if_it_is_valid():
    counts = [[5, 0, 0], [1, 1, 0]]
    scores = [[9.0, 0.0, -np.inf], [0.0, 0.0, 0.0]]
    for seed in range(20):
        action, _, state = behave(UCB(), scores, [0, 1], counts, seed)
        assert action.numpy().tolist() == [1, 2]
    np.testing.assert_array_equal(state, [[5, 1, 0], [1, 1, 1]])


def test_environments_count_together():
    _, _, state = behave(UCB(), np.zeros((4, 3)), [1, 1, 1, 0], np.zeros((2, 3)))
    assert state.numpy().sum(axis=1).tolist() == [1, 3]


@pytest.mark.parametrize("agent", ["dqn", "dyna_q", "reinforce"])
def test_the_same_object_fits_a_table_and_a_network(agent):
    envs = make_envs("rlzoo/DynaMaze-v0", 2, 0, max_episode_steps=20)
    made = make_agent(agent, envs.spec, UCB(2.0))
    assert agent == "reinforce" or isinstance(made, (DQN, TabularDynaQ))
    loop = HostLoop(made, envs, 0)
    steps = sum(loop.run().steps for _ in range(10))
    counts = loop.state.acting.actor.exploration.numpy()
    assert counts.shape == (envs.spec.obs.n, envs.spec.num_actions)
    assert counts.sum() >= steps, "what waits for the others at an episode's end counts as well"
    assert agent == "reinforce" or counts.sum() == steps
    envs.close()


def test_other_observations_are_refused():
    with pytest.raises(ValueError, match="ucb counts Discrete observations, received Box"):
        check_strategy(UCB(), EnvSpec(Box((2,)), Discrete(3), None))
    with pytest.raises(ValueError, match=r"UCB expects c in \[0"):
        UCB(-1.0)
