"""Exploration strategies: what every one of them promises, and what each of them is."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlzoo import exploration
from rlzoo.envs import make_envs
from rlzoo.exploration import EpsilonGreedy, EpsilonSoftmax, Exploration, Greedy, Softmax
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.ops.schedules import Exponential, Linear, Piecewise
from rlzoo.spaces import Discrete
from tests.env_doubles import ChainEnv
from tests.helpers import BOX, STEP, chi_square_fits, make_agent, random_chunk, tensors, xla

STRATEGIES = [
    Greedy(),
    EpsilonGreedy(0.0),
    EpsilonGreedy(0.3),
    EpsilonGreedy(1.0),
    EpsilonGreedy(Linear(1.0, 0.1, 10)),
    Softmax(),
    Softmax(1e-6),
    Softmax(50.0),
    EpsilonSoftmax(),
    EpsilonSoftmax(0.5, 2.0),
]
ZERO = tf.constant(0, tf.int64)
INF = float("inf")


def probabilities(strategy, scores, step=ZERO):
    return np.exp(strategy.log_probs(tf.constant(scores, tf.float32), (), step).numpy())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@settings(max_examples=25, deadline=None)
@given(
    scores=hnp.arrays(
        np.float32, (3, 4), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
    ),
    invalid=hnp.arrays(np.bool_, (3, 4)),
    step=st.integers(0, 10**6),
)
def test_promises_of_every_strategy(strategy, scores, invalid, step):
    invalid[np.arange(3), scores.argmax(axis=1) // 2] = False
    scores[invalid] = -INF
    found = probabilities(strategy, scores, tf.constant(step, tf.int64))
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    assert (found[invalid] == 0.0).all()
    for row in range(3):  # equals are treated as equals, better ones no worse
        for one in range(4):
            for other in range(4):
                if scores[row, one] == scores[row, other]:
                    assert found[row, one] == found[row, other]
                elif scores[row, one] > scores[row, other]:
                    assert found[row, one] >= found[row, other] - 1e-6


@pytest.mark.parametrize(
    ("strategy", "want"),
    [
        (Greedy(), [0, 0.5, 0, 0.5]),
        (EpsilonGreedy(0.3), [0.1, 0.45, 0, 0.45]),
        (EpsilonGreedy(0.0), [0, 0.5, 0, 0.5]),
        (EpsilonGreedy(1.0), [1 / 3, 1 / 3, 0, 1 / 3]),
        (Softmax(1.0), [0.2, 0.4, 0, 0.4]),
        (Softmax(0.5), [1 / 9, 4 / 9, 0, 4 / 9]),
        (Softmax(1e-6), [0, 0.5, 0, 0.5]),
        (Softmax(1e6), [1 / 3, 1 / 3, 0, 1 / 3]),
        (EpsilonSoftmax(0.3, 1.0), [0.1 + 0.14, 0.1 + 0.28, 0, 0.1 + 0.28]),
        (EpsilonSoftmax(0.0, 1.0), [0.2, 0.4, 0, 0.4]),
        (EpsilonSoftmax(1.0, 1.0), [1 / 3, 1 / 3, 0, 1 / 3]),
    ],
    ids=repr,
)
def test_probabilities_by_hand(strategy, want):
    """The scores are log 1, log 2, impossible, log 2."""
    found = probabilities(strategy, [[0.0, math.log(2), -INF, math.log(2)]])
    np.testing.assert_allclose(found[0], want, atol=1e-5)


def test_scores_may_have_a_time_axis():
    scores = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    for strategy in STRATEGIES:
        flat = probabilities(strategy, scores.reshape(15, 4))
        np.testing.assert_allclose(probabilities(strategy, scores).reshape(15, 4), flat, atol=1e-6)


def test_a_strategy_may_have_fields_that_are_no_rates():
    @dataclasses.dataclass(frozen=True)
    class Tempered(Exploration):
        kind: str = "soft"
        shared: bool = True
        sizes: tuple = (1, 2)
        temperature: float = 2.0

        def log_probs(self, scores, state, step):
            return tf.nn.log_softmax(scores / self.temperature)

    strategy = Tempered()
    assert {name: float(x) for name, x in strategy.rates(ZERO).items()} == {"temperature": 2.0}
    agent = make_agent("dqn", BOX, strategy)
    chunk = tensors(random_chunk(BOX, agent.chunk_length, 2, seed=0))
    _, metrics = xla(agent.actor.observe)(agent.actor.init(2), chunk, STEP)
    assert float(metrics["exploration/temperature"]) == 2.0


def test_rates_follow_their_schedule():
    strategy = EpsilonSoftmax(Linear(1.0, 0.0, 10), Linear(2.0, 1.0, 10))
    rates = strategy.rates(tf.constant(5, tf.int64))
    assert {name: float(rate) for name, rate in rates.items()} == pytest.approx(
        {"epsilon": 0.5, "temperature": 1.5}
    )
    scores = [[0.0, 1.5 * math.log(3)]]
    halfway = probabilities(strategy, scores, tf.constant(5, tf.int64))
    np.testing.assert_allclose(halfway, [[0.25 + 0.125, 0.25 + 0.375]], atol=1e-6)
    np.testing.assert_allclose(probabilities(strategy, scores), [[0.5, 0.5]], atol=1e-6)
    assert Greedy().rates(ZERO) == {}


@pytest.mark.parametrize(
    "strategy",
    [
        EpsilonGreedy(Piecewise((0, 10, 20), (1.0, 0.01, 0.0))),
        EpsilonGreedy(Linear(0.7, 1.0, 10)),
        EpsilonSoftmax(Piecewise((0, 10, 20), (1.0, 0.07, 0.0)), 1e-6),
        Softmax(Linear(100.0, 1e-6, 10)),
        Softmax(Exponential(1e-6, 100.0, 10)),
    ],
    ids=repr,
)
def test_rounding_of_a_rate_makes_no_nan(strategy):
    for step in (0, 10, 20, 10**6):
        found = probabilities(strategy, [[1.0, 2.0, -INF]], tf.constant(step, tf.int64))
        np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)
        assert (found >= 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EpsilonGreedy(-0.1),
        lambda: EpsilonGreedy(1.1),
        lambda: EpsilonGreedy(Linear(2.0, 0.1, 10)),
        lambda: Softmax(0.0),
        lambda: Softmax(-1.0),
        lambda: Softmax(Linear(1.0, 0.0, 10)),
        lambda: EpsilonSoftmax(2.0, 1.0),
        lambda: EpsilonSoftmax(0.1, 0.0),
        lambda: EpsilonGreedy(float("nan")),
    ],
)
def test_a_rate_out_of_range_is_refused(make):
    with pytest.raises(ValueError, match=r"expects (epsilon|temperature) in \[.*received"):
        make()


def test_a_strategy_without_log_probs_says_what_is_missing():
    class Nothing(Exploration):
        pass

    with pytest.raises(TypeError, match="Nothing must define log_probs"):
        Nothing().log_probs(tf.zeros((1, 2)), (), ZERO)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_choose_draws_from_the_distribution_and_reports_its_log_probability(strategy):
    scores = tf.constant(np.tile(np.float32([0.5, 1.0, -INF, 0.0]), (20_000, 1)))
    first = tf.zeros(20_000, tf.bool)
    action, extras, state = exploration.choose(
        strategy, scores, scores, (), first, ZERO, rng.from_int(3)
    )
    assert state == ()
    want = probabilities(strategy, scores[:1])[0]
    assert action.dtype == tf.int32
    assert chi_square_fits(np.bincount(action, minlength=4), want)
    np.testing.assert_allclose(np.exp(extras["log_prob"]), want[action.numpy()], rtol=1e-5)


def test_metrics_of_a_chunk_by_hand():
    chunk = random_chunk(BOX._replace(action=Discrete(2)), 2, 2, seed=0)
    action = np.array([[0, 1], [1, 0]], np.int32)
    valid = np.array([[True, True], [True, False]])
    scores = np.float32([[[0, 1], [0, 1]], [[0, 0], [9, 0]]])  # greedy: no, yes, yes (a tie)
    chunk = chunk._replace(action=action, valid=valid, extras={"scores": tf.constant(scores)})
    shown = exploration.chunk_metrics(EpsilonGreedy(0.5), chunk, (), ZERO)
    skewed = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert {tag: float(value) for tag, value in shown.items()} == pytest.approx(
        {
            "exploration/entropy": (2 * skewed + math.log(2)) / 3,
            "exploration/greedy_fraction": 2 / 3,
            "exploration/epsilon": 0.5,
        }
    )


@dataclasses.dataclass(frozen=True)
class UCB(Exploration):
    """Upper confidence bounds (Auer et al. 2002): it counts what was done, and learns from it."""

    width: float = 1.0

    def init(self, num_envs, spec):
        return {"counts": tf.zeros([spec.num_actions]), "chunks": tf.zeros([], tf.int64)}

    def log_probs(self, scores, state, step):
        total = tf.reduce_sum(state["counts"]) + 1.0
        bonus = self.width * tf.sqrt(tf.math.log(total) / (state["counts"] + 1e-3))
        return Greedy().log_probs(scores + bonus, state, step)

    def observe(self, state, chunk):
        taken = tf.one_hot(chunk.action, state["counts"].shape[0])
        taken *= tf.cast(chunk.valid, tf.float32)[..., None]
        counts = state["counts"] + tf.reduce_sum(taken, axis=[0, 1])
        return {"counts": counts, "chunks": state["chunks"] + 1}


@pytest.mark.parametrize("name", ["dqn", "reinforce", "dyna_q"])
def test_a_strategy_of_the_users_own_that_counts_fits_every_agent(name):
    """Its state is carried by the actor's, through compiled code."""
    agent = make_agent(name, BOX, UCB())
    actor = agent.actor
    act = xla(lambda *args: actor.act(*args, "explore"))
    seed, num_envs = rng.from_int(0), 2
    state = actor.init(num_envs)
    obs, first = tf.zeros((num_envs, *BOX.obs.shape)), tf.ones(num_envs, bool)
    chunk = random_chunk(BOX, agent.chunk_length, num_envs, 0, agent.traits.whole_episodes)
    chunk.action[:] = 1
    state, metrics = xla(actor.observe)(state, tensors(chunk), STEP)
    assert state.exploration["counts"].numpy().tolist() == [0, chunk.valid.sum(), 0]
    assert int(state.exploration["chunks"]) == 1
    assert float(metrics["exploration/width"]) == 1.0
    action, extras, state = act(state, obs, first, STEP, seed)
    assert (action.numpy() != 1).all(), "actions never tried have by far the widest bounds"
    assert np.isfinite(extras["log_prob"]).all()
    assert int(state.exploration["chunks"]) == 1


@pytest.fixture
def chain_loop():
    envs = make_envs(ChainEnv, 2, 0, env_kwargs={"num_states": 5}, check=False)
    loop = HostLoop(make_agent("dyna_q", envs.spec, Greedy(), planning_steps=0), envs, 0)
    yield loop
    envs.close()


def run_chunks(loop, count):
    reports = [loop.run() for _ in range(count)]
    return [report.metrics["exploration/entropy"] for report in reports]


def test_the_strategy_can_be_swapped_mid_run(chain_loop):
    """Swapping keeps all that was learned; the rewards are equal, so the greedy one is stuck."""
    loop = chain_loop
    entropies = run_chunks(loop, 30)
    assert entropies[0] == pytest.approx(math.log(2))  # all values are 0: ties are shared
    assert np.mean(entropies[-10:]) < 0.1
    table = loop.agent.table.numpy().copy()
    loop.agent.actor.exploration = EpsilonGreedy(1.0)
    np.testing.assert_array_equal(loop.agent.table, table)
    np.testing.assert_allclose(run_chunks(loop, 10), math.log(2), atol=1e-6)
    assert int(loop.state.learning.step) == 2 * 40
    assert int(loop.state.acting.acts) == 40


def test_a_strategy_with_a_state_can_be_swapped_in_mid_run(chain_loop):
    loop = chain_loop
    run_chunks(loop, 5)
    loop.agent.actor.exploration = UCB()
    run_chunks(loop, 20)
    counts = loop.state.acting.actor.exploration["counts"].numpy()
    assert counts.sum() == 2 * 20
    assert abs(counts[0] - counts[1]) <= 4
    assert int(loop.state.learning.step) == 2 * 25
    loop.agent.actor.exploration = Softmax()
    run_chunks(loop, 1)
    assert loop.state.acting.actor.exploration == ()


def test_every_strategy_is_in_the_table():
    behaving = {exploration.EpsilonZ, exploration.UCB, exploration.OrnsteinUhlenbeck}
    known = {type(strategy) for strategy in STRATEGIES} | behaving
    assert set(exploration.EXPLORATIONS.values()) == known
