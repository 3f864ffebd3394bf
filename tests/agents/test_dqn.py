"""DQN: its loss by hand, its target network, when it learns, what values it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents import DQN, variables
from rlzoo.agents.dqn import DQNConfig, dqn_loss
from rlzoo.exploration import EpsilonGreedy
from rlzoo.loops.base import initial_state
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.ops.schedules import Linear
from rlzoo.spaces import Discrete, EnvSpec
from rlzoo.types import Sequences, Transitions
from tests.helpers import (
    BOX,
    STEP,
    agent_chunk,
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

# Two states, three actions: the online and the target network as tables.
STATES = EnvSpec(Discrete(2), Discrete(3), None)
Q = np.float32([[1.0, 2.0, 3.0], [4.0, 6.0, 5.0]])
TARGET_Q = np.float32([[10.0, 20.0, 30.0], [70.0, 50.0, 60.0]])
BATCH = Transitions(
    obs=np.array([0, 0, 1]),
    action=np.array([2, 0, 1], np.int32),
    reward=np.float32([1.0, -1.0, 0.5]),
    discount=np.float32([1.0, 0.0, 1.0]),  # the second step terminated
    next_obs=np.array([1, 1, 0]),
)
TARGETS = np.float32([1 + 0.5 * 70, -1.0, 0.5 + 0.5 * 30])
DOUBLE_TARGETS = np.float32([1 + 0.5 * 50, -1.0, 0.5 + 0.5 * 30])  # online: actions 1 and 2
PREDICTED = np.float32([3.0, 1.0, 6.0])


def table(values):
    network = networks.build_network(STATES, keras.layers.Identity(), networks.q_values(3))
    network.set_weights([values, np.zeros(3, np.float32)])
    return network


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("double_q", [False, True], ids=["single", "double"])
def test_loss_and_gradient_by_hand(loss, double_q):
    network, target = table(Q), table(TARGET_Q)
    config = DQNConfig(discount=0.5, double_q=double_q, loss=loss)
    batch = Transitions(*map(tf.constant, BATCH))
    with tf.GradientTape() as tape:
        value, errors, mean_q = dqn_loss(network, target, batch, config)
    error = (DOUBLE_TARGETS if double_q else TARGETS) - PREDICTED
    np.testing.assert_allclose(errors, error, rtol=1e-5)
    each = 0.5 * error**2 if loss == "squared" else np.abs(error) - 0.5  # all above 1 in size
    slope = -error if loss == "squared" else -np.sign(error)
    assert float(value) == pytest.approx(each.mean(), rel=1e-5)
    assert float(mean_q) == pytest.approx(PREDICTED.mean(), rel=1e-5)
    gradient = np.zeros((2, 3), np.float32)
    np.add.at(gradient, (BATCH.obs, BATCH.action), slope / 3)
    kernel, *others = tape.gradient(value, [network.trainable_variables[0], *target.variables])
    np.testing.assert_allclose(kernel, gradient, rtol=1e-5)
    assert others == [None, None], "no gradient reaches the target network"


# The target network


def test_the_target_is_equal_at_first_and_shares_nothing():
    agent = make_agent("dqn", BOX)
    own, target = agent.actor.network.variables, agent.target.network.variables
    assert not {id(v) for v in own} & {id(v) for v in target}
    for one, two in zip(own, target, strict=True):
        np.testing.assert_array_equal(one, two)


def same_weights(one, other):
    return all(map(np.array_equal, one, other))


def test_a_hard_target_is_still_between_copies_and_exact_after_them():
    agent = make_agent("dqn", BOX, target_update_period=3, learning_rate=0.01)
    state, target = agent.init(2), agent.target.network.get_weights()
    for number in range(1, 8):
        state, _ = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        assert int(state.updates) == number
        if number % 3 == 0:
            target = agent.actor.network.get_weights()
        assert same_weights(agent.target.network.get_weights(), target)
        assert same_weights(agent.actor.network.get_weights(), target) == (number % 3 == 0)


def test_the_period_counts_gradient_steps_not_chunks():
    """Two steps a chunk, a copy every three: within the second chunk, and after the third."""
    agent = make_agent("dqn", BOX, updates_per_chunk=2, target_update_period=3, learning_rate=0.01)
    state, history = agent.init(2), [agent.actor.network.get_weights()]
    for number in range(3):
        state, metrics = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        assert float(metrics["updates"]) == 2
        target = agent.target.network.get_weights()
        history.append(agent.actor.network.get_weights())
        assert [same_weights(target, weights) for weights in history] == [
            [True, False],
            [False, False, False],
            [False, False, False, True],
        ][number]


def test_a_soft_target_moves_by_its_share_of_the_difference():
    agent = make_agent(
        "dqn", BOX, target_update_rate=0.05, target_update_period=1, learning_rate=0.01
    )
    state = agent.init(2)
    for number in range(4):
        before = agent.target.network.get_weights()
        state, _ = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        now = zip(
            before,
            agent.actor.network.get_weights(),
            agent.target.network.get_weights(),
            strict=True,
        )
        for old, source, found in now:
            want = old.astype(np.float64) + 0.05 * (source.astype(np.float64) - old)
            assert np.abs(found - want).max() <= 1e-7


# When it learns


def test_nothing_is_learned_before_replay_holds_enough():
    agent = make_agent("dqn", BOX, learning_starts=16)  # chunks of 4 steps in 2 environments
    state = agent.init(2)
    weights = agent.actor.network.get_weights()
    for number in range(4):
        state, metrics = agent.update(state, agent_chunk(agent, 2, number), STEP, SEED)
        learned = number >= 1
        assert float(metrics["updates"]) == learned
        assert int(state.updates) == number
        assert int(agent.replay.added) == 8 * (number + 1)
        assert (float(metrics["loss/td"]) > 0) == learned
        same = all(map(np.array_equal, weights, agent.actor.network.get_weights()))
        assert same != learned


def test_each_gradient_step_draws_a_batch_of_its_own():
    """With a network that stands still, only the batches can make the mean loss another."""
    losses = set()
    for updates, seed in ((1, 1), (2, 1), (3, 1), (1, 2)):
        agent = make_agent("dqn", BOX, updates_per_chunk=updates, learning_rate=1e-12)
        _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, rng.from_int(seed))
        losses.add(float(metrics["loss/td"]))
    assert len(losses) == 4


@pytest.mark.parametrize("torso", ["small", "lstm"])
@pytest.mark.parametrize("n_step", [1, 3])
def test_after_a_step_priorities_are_the_errors_of_what_was_drawn(n_step, torso):
    """The network stands still, so that the errors can be told afterwards."""
    recurrent = torso == "lstm"
    agent = make_agent(
        "dqn",
        BOX,
        torso=RECURRENT["lstm"]() if recurrent else torso,
        n_step=n_step,
        priority_exponent=1.0,
        learning_rate=1e-12,
        batch_size=4,  # one sequence
    )
    _, metrics = xla(agent.update)(agent.init(2), agent_chunk(agent, 2, 0), STEP, rng.from_int(3))
    assert float(metrics["updates"]) == 1
    replay, config = agent.replay, agent.config
    held = int(replay.size)
    assert held == (2 if recurrent else 8)
    batch = replay.read(tf.range(held, dtype=tf.int64), n_step, config.discount)
    _, error, _ = dqn_loss(agent.actor.network, agent.target.network, batch, config)
    error = np.abs(error)
    if recurrent:  # most of the largest and some of the mean
        error = 0.9 * error.max(axis=0) + 0.1 * error.mean(axis=0)
    found = replay.priorities.values.numpy()[:held]
    drawn = found != 1.0  # what is new has priority 1
    assert 1 <= drawn.sum() <= (1 if recurrent else 4)
    np.testing.assert_allclose(found[drawn], error[drawn] + 1e-6, rtol=1e-4)


def test_a_weight_scales_the_loss_and_not_the_error():
    """Errors as above: of sizes 33, 2 and 9.5 less a half each, by 1, 0 and 0.5; over three."""
    network, target = table(Q), table(TARGET_Q)
    batch = Transitions(*map(tf.constant, BATCH))
    loss, error, _ = dqn_loss(
        network, target, batch, DQNConfig(discount=0.5), tf.constant([1.0, 0.0, 0.5])
    )
    each = np.abs(TARGETS - PREDICTED) - 0.5
    assert float(loss) == pytest.approx((each[0] + 0.5 * each[2]) / 3, rel=1e-5)
    np.testing.assert_allclose(error, TARGETS - PREDICTED, rtol=1e-5)


def test_the_importance_exponent_may_be_a_schedule():
    """At 0 draws are not made up for: the loss is the plain mean over the batch."""
    losses = {}
    for name, exponent in (("none", 0.0), ("scheduled", Linear(0.0, 1.0, 10)), ("full", 1.0)):
        agent = make_agent(
            "dqn", BOX, priority_exponent=1.0, importance_exponent=exponent, learning_rate=1e-12
        )
        state = agent.init(2)
        for number in range(2):  # the first evens out nothing: all are new
            step = np.int64([0, 10][number] if name == "scheduled" else 0)
            state, metrics = agent.update(state, agent_chunk(agent, 2, number), step, SEED)
        losses[name] = float(metrics["loss/td"])
    assert losses["scheduled"] == pytest.approx(losses["full"], rel=1e-5)
    assert losses["none"] != pytest.approx(losses["full"], rel=1e-2)


def test_steps_that_are_not_valid_change_nothing():
    agent = make_agent("dqn", BOX)
    start = arrays(variables(agent))
    chunk = agent_chunk(agent, 2, 0)
    valid = np.array([[True, True], [True, False], [False, True], [True, True]])
    found = []
    for junk in (0.0, 1e6):
        assign(variables(agent), start)
        obs, next_obs = (np.where(valid[..., None], x, junk) for x in (chunk.obs, chunk.next_obs))
        reward = np.where(valid, chunk.reward, junk)
        changed = chunk._replace(
            obs=tf.constant(obs, tf.float32),
            next_obs=tf.constant(next_obs, tf.float32),
            reward=tf.constant(reward, tf.float32),
            valid=tf.constant(valid),
        )
        _, metrics = agent.update(agent.init(2), changed, STEP, SEED)
        found.append(arrays(variables(agent)) | arrays(metrics))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)


# Acting


def test_it_explores_by_the_strategy_at_the_step_it_is_told():
    agent = make_agent("dqn", BOX, EpsilonGreedy(Linear(1.0, 0.0, 100)))
    obs, first = tf.ones((500, 3)), tf.zeros(500, tf.bool)
    best = int(tf.argmax(agent.actor.network(obs[:1])[0]))
    state = agent.actor.init(500)
    for step, share in ((0, 1 / 3), (50, 2 / 3), (100, 1.0)):
        step = tf.constant(step, tf.int64)
        action, extras, _ = agent.actor.act(state, obs, first, step, SEED, "explore")
        np.testing.assert_allclose(extras["log_prob"][action == best], np.log(share), atol=1e-5)
        assert np.mean(action == best) == pytest.approx(share, abs=0.08)
    for mode in ("greedy", "policy"):
        action, extras, _ = agent.actor.act(state, obs, first, STEP, SEED, mode)
        assert (action.numpy() == best).all(), "without exploring it is greedy"
        assert not np.any(extras["log_prob"])


# With a memory

RECURRENT = {
    "lstm": lambda seed=0: networks.lstm(4, encoder=(5,), seed=seed),
    "gru": lambda seed=0: networks.gru(4, seed=seed),
    "cell": lambda seed=0: keras.layers.LSTMCell(4),
}


def random_sequences(length, batch_size, seed=0):
    """Returns made-up sequences of an LSTM of 4 units; one of them ends in padding.

    Their successors are those of one step, but for the first step of the last: of two.
    """
    random = np.random.default_rng(seed)
    chunk = random_chunk(BOX, length, batch_size, seed)
    first = chunk.first.copy()
    first[0] = random.random(batch_size) < 0.5  # others began in the chunk before
    valid = np.ones((length, batch_size), bool)
    valid[-1, 0] = False
    state = tuple(random.normal(size=(batch_size, 4)).astype(np.float32) for _ in range(2))
    until = np.tile(np.arange(length, dtype=np.int32)[:, None], batch_size)
    first[1, -1], until[0, -1], chunk.next_obs[0, -1] = False, 1, chunk.next_obs[1, -1]
    steps = {name: getattr(chunk, name) for name in Transitions._fields}
    return tensors(Sequences(**steps, until=until, first=first, valid=valid, state=state))


def q_step_by_step(network, batch, n):
    """Returns Q-values [T, A] of the observations and the successors of sequence n."""
    state = tuple(x[n : n + 1] for x in batch.state)
    q, next_q, states = [], [], []
    for t in range(len(batch.obs)):
        if batch.first[t, n]:
            state = tuple(map(tf.zeros_like, state))
        scores, *state = network([batch.obs[t, n : n + 1], *state])
        q.append(scores[0])
        states.append(state)
    for t, end in enumerate(batch.until[:, n]):
        next_q.append(network([batch.next_obs[t, n : n + 1], *states[end]])[0][0])
    return np.stack(q), np.stack(next_q)


@pytest.mark.parametrize("double_q", [False, True], ids=["single", "double"])
def test_the_loss_along_sequences_is_that_of_each_step(double_q):
    config = DQNConfig(discount=0.9, double_q=double_q, loss="squared")
    network, target = (
        networks.build_network(BOX, RECURRENT["lstm"](seed), networks.q_values(3, seed))
        for seed in (1, 2)
    )
    batch = random_sequences(5, 3)
    wanted, values = [], []
    for n in range(3):
        q, next_online = q_step_by_step(network, batch, n)
        _, next_q = q_step_by_step(target, batch, n)
        for t in range(5):
            if batch.valid[t, n]:
                best = np.argmax((next_online if double_q else next_q)[t])
                goal = batch.reward[t, n] + 0.9 * batch.discount[t, n] * next_q[t, best]
                values.append(q[t, batch.action[t, n]])
                wanted.append(0.5 * (goal - values[-1]) ** 2)
    found, error, mean_q = dqn_loss(network, target, batch, config)
    assert len(wanted) == 14
    np.testing.assert_allclose(
        0.5 * np.sort(np.ravel(error**2)), np.sort([0.0, *wanted]), rtol=1e-3
    )
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-5)
    assert float(mean_q) == pytest.approx(np.mean(values), rel=1e-5)


def test_the_gradient_goes_back_along_the_sequence_and_not_into_targets():
    network, target = (
        networks.build_network(BOX, RECURRENT["lstm"](seed), networks.q_values(3, seed))
        for seed in (1, 2)
    )
    batch = random_sequences(4, 2)
    batch = batch._replace(
        first=tf.zeros((4, 2), tf.bool),
        valid=tf.constant([[False] * 2] * 3 + [[True] * 2]),  # the last step alone is learned from
    )
    for reset in (None, 3):
        obs = tf.Variable(batch.obs)
        first = np.zeros((4, 2), bool)
        if reset:
            first[reset] = True
        changed = batch._replace(obs=obs, first=tf.constant(first))
        with tf.GradientTape() as tape:
            loss, *_ = dqn_loss(network, target, changed, DQNConfig())
        gradient, *others = tape.gradient(loss, [obs, *target.variables])
        assert all(other is None for other in others)
        reached = np.abs(gradient).max(axis=(1, 2)) > 0
        assert reached.tolist() == ([False, False, False, True] if reset else [True] * 4)


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_a_sequence_is_stored_with_the_memory_it_began_with(make):
    agent = make_agent("dqn", BOX, torso=make(), batch_size=8, train_every=4)
    acting, state, starts = agent.actor.init(2), agent.init(2), []
    for number in range(3):
        chunk = agent_chunk(agent, 2, number)
        first = tf.concat([[[False, False]], chunk.first[1:]], axis=0)
        chunk = chunk._replace(first=first, start=acting.memory)
        starts.append(acting.memory.recurrent)
        for obs, first in zip(chunk.obs, chunk.first, strict=True):
            _, _, acting = agent.actor.act(acting, obs, first, STEP, SEED, "explore")
        state, metrics = agent.update(state, chunk, STEP, SEED)
        assert float(metrics["updates"]) == 1
    assert int(agent.replay.steps) == 24
    assert any(np.abs(x).max() > 0 for x in starts[-1])
    stored = agent.replay.read(tf.range(6, dtype=tf.int64)).state
    for i, row in enumerate(stored):
        np.testing.assert_array_equal(row, np.concatenate([start[i] for start in starts]))


def test_the_entropy_shown_is_that_of_what_was_acted_by():
    """Not that of the network on the chunk, which knows nothing of the memory before it."""
    agent = make_agent("dqn", BOX, torso=RECURRENT["lstm"](), learning_starts=64)
    chunk = agent_chunk(agent, 2, 0)
    scores = np.zeros((4, 2, 3), np.float32)
    scores[1:, :, 2] = 100.0  # after the first step it was certain
    chunk = chunk._replace(extras={**chunk.extras, "scores": tf.constant(scores)})
    _, metrics = agent.actor.observe(agent.actor.init(2), chunk, STEP)
    assert float(metrics["exploration/entropy"]) == pytest.approx(np.log(3) / 4, rel=1e-5)


# Construction


def test_it_has_a_dueling_head_if_asked():
    agent = make_agent("dqn", BOX, dueling=True)
    assert any(layer.name == "dueling" for layer in agent.actor.network.layers)
    assert any(layer.name == "dueling" for layer in agent.target.network.layers)


@pytest.mark.parametrize("torso", ["small", "lstm"])
def test_a_replay_that_does_not_fit_is_refused(torso):
    torso = RECURRENT["lstm"]() if torso == "lstm" else torso
    with pytest.raises(ValueError, match=r"replay_capacity=1000000000000 needs .* lower"):
        make_agent("dqn", BOX, torso=torso, replay_capacity=10**12)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"batch_size": 3}, r"batch_size=3 .*train_every=4.*raise batch_size"),
        ({"replay_capacity": 8}, r"4 steps.*replay_capacity=8: raise it to 9"),
    ],
)
def test_what_sequences_cannot_do_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        make_agent("dqn", BOX, torso=RECURRENT["lstm"](), **config)
    make_agent("dqn", BOX, **config)


# What it learns


@pytest.fixture(scope="module")
def chain_loop():
    config = DQNConfig(
        learning_rate=0.01,
        discount=0.9,
        batch_size=64,
        replay_capacity=1_000,
        learning_starts=64,
        updates_per_chunk=20,
        target_update_period=20,
    )
    envs = chain_envs("truncate")
    agent = DQN(envs.spec, config, EpsilonGreedy(1.0), keras.layers.Identity(), seed=0)
    loop = HostLoop(agent, envs, 0)
    return loop, arrays(variables(agent))


@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_a_time_limit_is_no_terminal_state(chain_loop, end):
    """10 for ever where the limit truncates, the exact finite sum where it terminates."""
    loop, start = chain_loop
    assign(variables(loop.agent), start)
    loop.state = initial_state(loop.agent, loop.envs.num_envs)
    loop.collector.envs = chain_envs(end)
    loop.collector.obs = loop.envs.reset()
    for _ in range(500):
        loop.run()
    values = chain_values(end)
    found = loop.agent.actor.network(np.arange(10)).numpy()
    np.testing.assert_allclose(found, np.stack([values, values], axis=1), rtol=0.02)
