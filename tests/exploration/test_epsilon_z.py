"""Temporally extended epsilon-greedy, by what it repeats and how long."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo.exploration import EpsilonGreedy, EpsilonZ
from rlzoo.ops import rng
from rlzoo.spaces import Discrete, EnvSpec
from tests.helpers import chi_square_fits, xla

SPEC = EnvSpec(Discrete(2), Discrete(4), None)
STEP = tf.constant(0, tf.int64)
SCORES = np.float32([0.0, 3.0, 1.0, 2.0])  # action 1 is the best


def play(strategy, steps, num_envs=200, first=None, scores=SCORES):
    """Returns actions and log-probabilities [T, N], and what was left of a repetition before."""
    rows = tf.constant(np.tile(scores, (num_envs, 1)))
    act = xla(lambda state, first, seed: strategy.behave(rows, 0, state, first, STEP, seed))
    state, told = strategy.init(num_envs, SPEC), []
    for t in range(steps):
        begins = np.full(num_envs, t == 0) if first is None else first[t]
        left = state.left.numpy()
        action, log_prob, state = act(state, tf.constant(begins), rng.from_int(t))
        told.append((action.numpy(), log_prob.numpy(), left))
    return [np.stack(x) for x in zip(*told, strict=True)]


def test_what_is_kept_up_is_certain_and_what_is_not_is_epsilon_greedy():
    action, log_prob, left = play(EpsilonZ(epsilon=0.5, mu=1.5), 50)
    kept = left > 0
    assert 0.2 < kept.mean() < 0.98
    assert (action[1:][kept[1:]] == action[:-1][kept[1:]]).all()
    assert (log_prob[kept] == 0.0).all()
    want = np.float32([0.125, 0.625, 0.125, 0.125])
    np.testing.assert_allclose(np.exp(log_prob[~kept]), want[action[~kept]], rtol=1e-5)
    assert chi_square_fits(np.bincount(action[~kept], minlength=4), want)


def test_durations_are_drawn_by_their_power():
    """P(n) in proportion to n ** -2 up to 5: of what begins, n - 1 repetitions are left."""
    strategy = EpsilonZ(epsilon=1.0, mu=2.0, longest=5)
    *_, state = strategy.behave(
        tf.zeros((20_000, 4)), 0, strategy.init(20_000, SPEC), tf.fill([20_000], True), STEP,
        rng.from_int(1),
    )  # fmt: skip
    weights = np.arange(1, 6) ** -2.0
    assert chi_square_fits(np.bincount(state.left, minlength=5), weights / weights.sum())


def test_an_episodes_end_and_an_action_that_becomes_invalid_end_it():
    strategy = EpsilonZ(epsilon=1.0, mu=1.1, longest=1_000)
    first = np.zeros((20, 100), bool)
    first[::2] = True  # each episode has two steps
    action, log_prob, left = play(strategy, 20, 100, first)
    assert (left[2::2] > 0).mean() > 0.5, "much was to be kept up where an episode began"
    np.testing.assert_allclose(log_prob[::2], np.log(0.25), rtol=1e-5)
    state = strategy.init(100, SPEC)._replace(left=tf.fill([100], 9), action=tf.fill([100], 2))
    scores = np.tile(np.float32([0.0, 1.0, -np.inf, 2.0]), (100, 1))
    action, *_ = strategy.behave(
        tf.constant(scores), 0, state, tf.fill([100], False), STEP, rng.from_int(0)
    )
    assert (action.numpy() != 2).all()


def test_without_repetition_it_is_epsilon_greedy():
    action, log_prob, left = play(EpsilonZ(epsilon=0.2, longest=1), 20)
    assert not left.any()
    want = EpsilonGreedy(0.2).log_probs(tf.constant(SCORES[None]), (), STEP).numpy()[0]
    np.testing.assert_allclose(log_prob, want[action], rtol=1e-5)


@pytest.mark.parametrize("bad", [{"epsilon": 1.1}, {"mu": 1.0}, {"longest": 0}])
def test_what_is_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=f"EpsilonZ expects {next(iter(bad))}"):
        EpsilonZ(**bad)
