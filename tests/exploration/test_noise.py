"""Ornstein-Uhlenbeck noise on the actions of a toy actor."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo.exploration import EpsilonGreedy, OrnsteinUhlenbeck, check_strategy
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import xla

SPEC = EnvSpec(Box((3,)), Box((2,)), None)
STEP = tf.constant(0, tf.int64)


def noises(strategy, steps, num_envs=2_000, first=()):
    """Returns what is added [T, N, 2] to the actions of an actor that always does the same."""
    policy = tf.constant(np.tile(np.float32([0.5, -0.25]), (num_envs, 1)))
    act = xla(lambda state, first, seed: strategy.behave(policy, 0, state, first, STEP, seed))
    state, found = strategy.init(num_envs, SPEC), []
    for t in range(steps):
        action, log_prob, state = act(state, tf.fill([num_envs], t in first), rng.from_int(t))
        assert not log_prob.numpy().any()
        found.append(action - policy)
    return np.stack(found)


def test_its_variance_and_correlation_are_those_of_the_process():
    """X' = (1 - theta) x + sigma e: the variance tends to sigma^2 / (1 - (1 - theta)^2)."""
    found = noises(OrnsteinUhlenbeck(sigma=0.3, theta=0.25), 40)
    settled = found[30:]
    assert settled.var() == pytest.approx(0.09 / (1 - 0.75**2), rel=0.03)
    correlation = np.corrcoef(settled[:-1].ravel(), settled[1:].ravel())[0, 1]
    assert correlation == pytest.approx(0.75, abs=0.02)
    assert abs(settled.mean()) < 0.02
    assert abs(np.corrcoef(settled[..., 0].ravel(), settled[..., 1].ravel())[0, 1]) < 0.03


def test_an_episode_begins_without_what_was():
    found = noises(OrnsteinUhlenbeck(sigma=0.3, theta=0.0), 10, first=(5,))
    for t in range(10):
        steps = t - 5 + 1 if t >= 5 else t + 1
        assert found[t].var() == pytest.approx(0.09 * steps, rel=0.1)


def test_it_is_for_box_actions_and_others_are_for_discrete_ones():
    check_strategy(OrnsteinUhlenbeck(), SPEC)
    discrete = SPEC._replace(action=Discrete(2))
    with pytest.raises(ValueError, match=r"OrnsteinUhlenbeck is for Box actions, .* Discrete ones"):
        check_strategy(OrnsteinUhlenbeck(), discrete)
    with pytest.raises(ValueError, match=r"EpsilonGreedy is for Discrete actions, .* Box ones"):
        check_strategy(EpsilonGreedy(), SPEC)


@pytest.mark.parametrize("bad", [{"sigma": -1.0}, {"theta": 1.5}])
def test_what_is_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"OrnsteinUhlenbeck expects {next(iter(bad))}"):
        OrnsteinUhlenbeck(**bad)
