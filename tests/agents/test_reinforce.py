"""REINFORCE: its gradient against the exact one, its episodes, its memory, its baseline."""

import itertools

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.wrappers import TimeLimit

from rlzoo import networks
from rlzoo.agents import REINFORCE, variables
from rlzoo.agents.reinforce import REINFORCEConfig, reinforce_loss
from rlzoo.envs import make_envs
from rlzoo.exploration import EpsilonSoftmax, Softmax
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.spaces import Discrete, EnvSpec
from tests.helpers import (
    BOX,
    STEP,
    agent_chunk,
    arrays,
    assign,
    chain_envs,
    chain_values,
    collect,
    make_agent,
    random_chunk,
    tensors,
    xla,
)

SEED = rng.from_int(0)
PLAIN = {"baseline": False, "normalize_advantages": False, "discount": 1.0}


# The loss by hand


def row(**fields):
    """Returns a chunk of T steps in one environment, from one value per step."""
    length = len(fields["action"])
    chunk = random_chunk(BOX, length, 1, seed=0)
    log_prob = fields.pop("log_prob", chunk.extras["log_prob"])
    columns = {
        name: np.array(values).reshape(length, 1).astype(getattr(chunk, name).dtype)
        for name, values in fields.items()
    }
    log_prob = np.reshape(log_prob, (length, 1)).astype(np.float32)
    extras = {**chunk.extras, "log_prob": log_prob}
    return tensors(chunk._replace(**columns, extras=extras))


def test_loss_by_hand():
    """Sum over the valid steps of -weight * log pi - cost * entropy; the last is padding."""
    probabilities = np.float32([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    logits = tf.math.log(probabilities)[:, None, :]  # [3, 1, 2]
    chunk = row(
        action=[1, 0, 0],
        log_prob=np.log([0.5, 0.5, 0.1]),
        valid=[True, True, False],
    )
    advantage = tf.constant([[2.0], [-1.0], [100.0]])
    surprise = -np.log([0.75, 0.5])
    entropies = np.array([-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)), np.log(2)])
    for correct, ratio in ((True, [1.5, 1.0]), (False, [1.0, 1.0])):
        config = REINFORCEConfig(entropy_cost=0.1, importance_correction=correct)
        loss, entropy = reinforce_loss(logits, chunk, advantage, config)
        want = (np.array(ratio) * [2.0, -1.0] * surprise - 0.1 * entropies).sum()
        assert float(loss) == pytest.approx(want, rel=1e-5)
        assert float(entropy) == pytest.approx(entropies.mean(), rel=1e-5)


def test_the_correction_is_a_weight_without_a_gradient():
    logits = tf.Variable([[[0.3, -0.2]]])
    chunk = row(action=[0], log_prob=np.log([0.9]), valid=[True])
    with tf.GradientTape() as tape:
        loss, _ = reinforce_loss(logits, chunk, tf.constant([[2.0]]), REINFORCEConfig())
    policy = tf.nn.softmax(logits)[0, 0].numpy()
    want = -(policy[0] / 0.9) * 2.0 * (np.array([1.0, 0.0]) - policy)
    np.testing.assert_allclose(tape.gradient(loss, logits)[0, 0], want, rtol=1e-5)


# The gradient: a fork and a short way on, with every number known.

FORK = EnvSpec(Discrete(2), Discrete(2), 2)


class Fork(gymnasium.Env):
    """Action 0 ends with 1 at once. Action 1 leads on, where 0 brings 2 and 1 nothing.

    Corridors of `length` steps in which nothing can be done make the long way longer.
    """

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length=1):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return 0, {}

    def step(self, action):
        self.time += 1
        if self.time == 1:
            return 1, float(action == 0), bool(action == 0), False, {}
        over = self.time > self.length
        return 1, 2.0 * (action == 0) * over, over, False, {}


def exact_gradient(theta):
    """Returns the gradient of the expected return for logits theta [2 states, 2 actions]."""
    theta = tf.constant(theta)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        start, after = tf.unstack(tf.nn.softmax(theta))
        expected = start[0] * 1.0 + start[1] * after[0] * 2.0
    return tape.gradient(expected, theta).numpy()


def fork_agent(theta, **config):
    """Returns an agent whose logits are a table, and whose steps are the plain gradient."""
    config = PLAIN | {"max_grad_norm": 1e9} | config
    agent = make_agent("reinforce", FORK, torso=keras.layers.Identity(), **config)
    agent.policy.optimizer = keras.optimizers.SGD(1.0)
    agent.policy.optimizer.build(agent.actor.network.trainable_variables)
    set_logits(agent, theta)
    return agent


def set_logits(agent, theta):
    agent.actor.network.set_weights([np.float32(theta), np.zeros(2, np.float32)])


def fork_chunk(actions, probabilities):
    """Returns one column for each episode in `actions`: (0,), (1, 0) or (1, 1)."""
    chunk = random_chunk(FORK, 2, len(actions), seed=0)
    for field in tf.nest.flatten(chunk):
        field[:] = 0
    chunk.obs[1] = chunk.next_obs[:] = 1
    chunk.first[0] = True
    for n, taken in enumerate(actions):
        for t, action in enumerate(taken):
            chunk.action[t, n] = action
            chunk.extras["log_prob"][t, n] = np.log(probabilities[t][action])
            chunk.valid[t, n] = True
        chunk.last[t, n] = True
        chunk.discount[t, n] = 0.0
        chunk.discount[:t, n] = 1.0
        chunk.reward[t, n] = 1.0 if taken == (0,) else 2.0 * (taken[-1] == 0)
    return tensors(chunk)


# Episodes in exact proportion to a policy of 1/4, 3/4 at the fork and 1/2, 1/2 after it.
POLICY = np.array([[0.25, 0.75], [0.5, 0.5]])
THETA = np.log(POLICY)
EPISODES = [(0,)] * 2 + [(1, 0)] * 3 + [(1, 1)] * 3


def gradient_of_update(agent, chunk):
    """Returns the step that a plain gradient ascent of rate 1 takes, less that of the bias."""
    before = agent.actor.network.get_weights()[0]
    agent.update(agent.init(1), chunk, STEP, SEED)
    return agent.actor.network.get_weights()[0] - before


@pytest.mark.parametrize("baseline", [False, True])
def test_the_expected_update_is_the_policy_gradient(baseline):
    """Also with a baseline, which is no good yet: it must not bias anything."""
    agent = fork_agent(THETA, baseline=baseline)
    found = gradient_of_update(agent, fork_chunk(EPISODES, POLICY))
    np.testing.assert_allclose(found, exact_gradient(np.float32(THETA)), atol=1e-6)


def test_the_expected_update_of_another_behaviour_is_corrected():
    """One decision, drawn uniformly: without pi / b the gradient would be another."""
    uniform = np.full((2, 2), 0.5)
    chunk = fork_chunk([(1, 0), (1, 1)], uniform)
    # The second step is the only one that is learned from: the first is no choice here.
    chunk = chunk._replace(valid=chunk.valid & (tf.range(2)[:, None] == 1))
    policy = np.array([[0.5, 0.5], [0.2, 0.8]])
    wanted = np.array([[0.0, 0.0], 2.0 * 0.2 * 0.8 * np.array([1.0, -1.0])])
    agent = fork_agent(np.log(policy))
    np.testing.assert_allclose(gradient_of_update(agent, chunk), wanted, atol=1e-6)
    agent = fork_agent(np.log(policy), importance_correction=False)
    assert np.abs(gradient_of_update(agent, chunk) - wanted).max() > 0.1


def test_discounting_leaves_out_gamma_to_the_t():
    """Deviation 2: the sum over steps of G[t] grad log pi, each G discounted from t on."""
    gamma = 0.5
    found = gradient_of_update(fork_agent(THETA, discount=gamma), fork_chunk(EPISODES, POLICY))
    want = np.zeros((2, 2))
    for episode in EPISODES:
        reward = [1.0] if episode == (0,) else [0.0, 2.0 * (episode[1] == 0)]
        for t, action in enumerate(episode):
            returned = sum(gamma ** (k - t) * reward[k] for k in range(t, len(episode)))
            want[t] += returned * (np.eye(2)[action] - POLICY[t]) / len(EPISODES)
    np.testing.assert_allclose(found, want, atol=1e-6)


@pytest.fixture(scope="module")
def fork_loop():
    """Long ways take 6 steps, short ones 1: a biased collector would prefer the short."""
    envs = make_envs(lambda: TimeLimit(Fork(length=5), 6), 64, 0, check=False)
    config = REINFORCEConfig(**PLAIN, max_grad_norm=1e9)
    agent = REINFORCE(envs.spec, config, Softmax(), keras.layers.Identity(), seed=0)
    agent.policy.optimizer = keras.optimizers.SGD(1.0)
    agent.policy.optimizer.build(agent.actor.network.trainable_variables)
    return HostLoop(agent, envs, 0)


def test_each_environment_plays_exactly_one_episode_whatever_its_length(fork_loop):
    short = episodes = 0
    for _ in range(30):
        set_logits(fork_loop.agent, THETA)
        report = fork_loop.run()
        assert len(report.episodes) == 64
        assert report.steps == sum(e.mean_length for e in report.episodes)
        found = {(e.mean_length, e.mean_return, e.num_episodes) for e in report.episodes}
        assert found == {(1, 1, 1), (6, 0, 1), (6, 2, 1)}
        short += sum(e.mean_length == 1 for e in report.episodes)
        episodes += 64
    assert abs(short / episodes - 0.25) < 4 * (0.25 * 0.75 / episodes) ** 0.5


def test_the_mean_of_sampled_updates_is_the_policy_gradient(fork_loop):
    """From the environment through the host loop and compiled code to the weights."""
    steps = []
    for _ in range(60):
        set_logits(fork_loop.agent, THETA)
        fork_loop.run()
        steps.append(fork_loop.agent.actor.network.get_weights()[0][0] - THETA[0])  # at the fork
    error = np.mean(steps, axis=0) - exact_gradient(np.float32(THETA))[0]
    assert (np.abs(error) < 4 * np.std(steps, axis=0) / len(steps) ** 0.5).all()


# Recurrent policies

TORSOS = {
    "dense": lambda: networks.dense((4,), seed=0),
    "lstm": lambda: networks.lstm(4, encoder=(5,), seed=0),
}


@pytest.fixture(scope="module", params=TORSOS.values(), ids=TORSOS)
def agent(request):
    """With everything on that could look at the padding."""
    return make_agent("reinforce", BOX, torso=request.param(), entropy_cost=0.01)


@pytest.fixture(scope="module")
def compiled_update(agent):
    return xla(agent.update)


def test_what_the_padding_holds_changes_nothing_at_all(agent, compiled_update):
    chunk = random_chunk(BOX, 6, 4, seed=0, whole=True)
    assert not chunk.valid.all()
    start, random = arrays(variables(agent)), np.random.default_rng(1)
    found = []
    for _ in range(3):
        assign(variables(agent), start)
        junk = random_chunk(BOX, 6, 4, seed=int(random.integers(1000)))
        junk = junk._replace(valid=chunk.valid, first=chunk.first)

        def spoiled(real, other):
            valid = chunk.valid.reshape(6, 4, *[1] * (real.ndim - 2))
            other = 50 * other if other.dtype == np.float32 else other
            return np.where(valid, real, other).astype(real.dtype)

        mixed = tensors(tf.nest.map_structure(spoiled, chunk, junk))
        mixed = mixed._replace(start=agent.actor.init(4).memory)
        _, metrics = compiled_update(agent.init(4), mixed, STEP, SEED)
        found.append(arrays(variables(agent)) | arrays(metrics))
    changed = [name for name in start if not np.array_equal(start[name], found[0][name])]
    assert changed
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)
        np.testing.assert_array_equal(value, found[2][name], err_msg=name)


def test_acting_resets_the_state_of_those_that_start_anew(agent):
    obs = tf.constant(np.random.default_rng(0).normal(size=(2, 3)), tf.float32)
    start, both = agent.actor.init(2), tf.constant([True, True])
    _, _, used = agent.actor.act(start, obs, both, STEP, SEED, "explore")
    first = tf.constant([True, False])
    _, _, mixed = agent.actor.act(used, obs, first, STEP, SEED, "explore")
    for once, twice in zip(used.memory.recurrent, mixed.memory.recurrent, strict=True):
        np.testing.assert_allclose(twice[0], once[0], atol=1e-6)
        assert np.abs(twice[1] - once[1]).max() > 1e-4


class Walk(gymnasium.Env):
    """Random observations, episodes of random length."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        return self._obs(), 1.0, bool(self.np_random.random() < 0.2), False, {}

    def _obs(self):
        return self.np_random.normal(size=3).astype(np.float32)


def test_logits_replayed_are_the_logits_acted_on(agent):
    """With Softmax(1) the behaviour is the policy: pi / b is 1, also in the second chunk.

    The policy is made a decided one, so that its entropy tells what the update saw.
    """
    head = agent.actor.network.layers[-1].kernel
    head.assign(100.0 * head)
    envs = make_envs(lambda: TimeLimit(Walk(), 6), 3, 0, check=False)
    loop = HostLoop(agent, envs, 0)
    for _ in range(2):
        chunk = collect(loop)
        assert chunk.valid[0].all()
        assert chunk.first[0].all()
        assert not chunk.first[1:][chunk.valid[1:]].any()
        initial = networks.initial_state(agent.actor.network, 3)
        logits, _ = networks.unroll(
            agent.actor.network, chunk.obs, initial, tf.constant(chunk.first)
        )
        log_probs = tf.nn.log_softmax(logits).numpy()
        log_prob = np.take_along_axis(log_probs, chunk.action[..., None], axis=-1)[..., 0]
        ratio = np.exp(log_prob - chunk.extras["log_prob"])[chunk.valid]
        np.testing.assert_allclose(ratio, 1.0, atol=1e-5)
        if initial:  # the state counts: without it the logits are others
            alone, _ = networks.unroll(
                agent.actor.network, chunk.obs, initial, tf.fill((6, 3), True)
            )
            assert np.abs(alone - logits)[chunk.valid].max() > 1e-2
        entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)[chunk.valid].mean()
        weights = arrays(variables(agent))
        _, metrics = agent.update(agent.init(3), tensors(chunk), STEP, SEED)
        assign(variables(agent), weights)  # those that the loop acts with
        assert float(metrics["loss/entropy"]) == pytest.approx(entropy, abs=1e-5)
        _, shown = agent.actor.observe(agent.actor.init(3), tensors(chunk), STEP)
        assert float(shown["exploration/entropy"]) == pytest.approx(entropy, abs=1e-5)


# Options


def test_normalised_advantages_do_not_feel_the_scale_of_rewards():
    chunk, found = random_chunk(BOX, 6, 4, seed=0, whole=True), []
    for scale in (1.0, 1000.0):
        agent = make_agent("reinforce", BOX, baseline=False, normalize_advantages=True)
        scaled = tensors(chunk._replace(reward=chunk.reward * np.float32(scale) + 0))
        _, metrics = agent.update(agent.init(4), scaled, STEP, SEED)
        found.append([float(metrics["loss/policy"]), float(metrics["grad/norm"])])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def step_at_the_fork(episodes, rewards, **config):
    """Returns the step [2] that episodes of these rewards, normalised, give an even policy."""
    agent = fork_agent(np.zeros((2, 2)), normalize_advantages=True, **config)
    chunk = fork_chunk(episodes, np.full((2, 2), 0.5))
    reward = np.zeros(chunk.reward.shape, np.float32)
    reward[0] = rewards
    return gradient_of_update(agent, chunk._replace(reward=tf.constant(reward)))[0]


def test_a_single_episode_is_not_normalised():
    """Its own mean says how good it was: less that, an episode of one step would teach nothing."""
    # A * (one-hot - pi) = 3 * ([1, 0] - [1/2, 1/2])
    np.testing.assert_allclose(step_at_the_fork([(0,)], [3.0]), [1.5, -1.5], rtol=1e-5)
    # Two steps of an episode: 3 * ([0, 1] - [1/2, 1/2]) in the first
    np.testing.assert_allclose(step_at_the_fork([(1, 0)], [3.0]), [-1.5, 1.5], rtol=1e-5)


def test_two_episodes_and_more_are_normalised():
    # 3 and 1 become 1 and -1, which cancel after the same action
    found = step_at_the_fork([(0,), (0,)], [3.0, 1.0])
    np.testing.assert_allclose(found, [0.0, 0.0], atol=1e-6)
    # The steps 7, 4, 4 and 1, 0 have mean 3.2 and deviation sqrt(30.8 / 5) = 2.481935
    found = step_at_the_fork([(0,), (0,), (0,), (1, 1)], [7.0, 4.0, 4.0, 1.0], discount=0.0)
    want = ((7 + 4 + 4 - 3 * 3.2) - (1 - 3.2)) / 2.481935 / 4 * 0.5
    np.testing.assert_allclose(found, [want, -want], rtol=1e-5)


def test_rounding_is_not_taken_for_an_advantage():
    """Seven returns of 0.7 have a mean that is not quite 0.7: a deviation of nothing but that."""
    for reward in (0.1, 0.3, 0.7):
        found = step_at_the_fork([(0,)] * 7, [reward] * 7)
        assert np.abs(found).max() < 0.05  # up to 0.4 where it is taken for one


def test_the_entropy_bonus_alone_makes_the_policy_uniform():
    agent = make_agent("reinforce", BOX, entropy_cost=1.0, learning_rate=0.1, **PLAIN)
    update = xla(agent.update)
    agent.actor.network.layers[-1].bias.assign([2.0, 0.0, -2.0])
    chunk = agent_chunk(agent, 4, 0)._replace(reward=tf.zeros((6, 4)))
    state = agent.init(2)
    entropies = [float(update(state, chunk, STEP, SEED)[1]["loss/entropy"]) for _ in range(60)]
    assert entropies[0] < 0.7
    assert entropies[-1] == pytest.approx(np.log(3), abs=0.01)


def test_policy_and_baseline_share_no_variable():
    agent = make_agent("reinforce", BOX)
    own = {id(v) for v in agent.actor.network.variables}
    assert not own & {id(v) for v in agent.value_network.variables}
    names = variables(agent)
    assert len({id(v) for v in names.values()}) == len(names)


def test_a_baseline_that_knows_the_return_leaves_nothing_to_learn():
    chunk = row(action=[1], reward=[5.0], discount=[0.0], last=[True], valid=[True])
    for value, learns in ((5.0, False), (0.0, True)):
        agent = make_agent("reinforce", BOX, normalize_advantages=False)
        kernel, bias = agent.value_network.layers[-1].weights
        kernel.assign(tf.zeros_like(kernel))
        bias.assign([value])
        _, metrics = agent.update(agent.init(1), chunk, STEP, SEED)
        assert (float(metrics["grad/norm"]) > 0) == learns


def test_without_a_baseline_there_is_none():
    agent = make_agent("reinforce", BOX, baseline=False)
    assert not any(name.startswith("value") for name in variables(agent))
    _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, SEED)
    assert "loss/value" not in metrics


def test_an_update_is_one_gradient_step_of_the_policy():
    agent = make_agent("reinforce", BOX)
    state = agent.init(2)
    for number in range(3):
        state, metrics = agent.update(state, agent_chunk(agent, 4, number), STEP, SEED)
        assert int(state.updates) == number + 1
        assert float(metrics["updates"]) == 1


def test_an_environment_without_a_time_limit_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"needs a time limit.*--max-episode-steps 1000"):
        make_agent("reinforce", BOX._replace(max_episode_steps=None))


# What the baseline learns


@pytest.fixture(scope="module")
def chain_loop():
    config = REINFORCEConfig(discount=0.9, value_learning_rate=0.01, value_updates=50)
    envs = chain_envs("truncate")
    agent = REINFORCE(envs.spec, config, EpsilonSoftmax(1.0), keras.layers.Identity(), seed=0)
    return HostLoop(agent, envs, 0), arrays(variables(agent))


@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_a_time_limit_is_no_terminal_state(chain_loop, end):
    """10 for ever where the limit truncates, the exact finite sum where it terminates."""
    loop, start = chain_loop
    assign(variables(loop.agent), start)
    loop.collector.envs = chain_envs(end)
    for _ in range(60):
        loop.run()
    found = loop.agent.value_network(np.arange(10)).numpy()[:, 0]
    np.testing.assert_allclose(found, chain_values(end), rtol=0.02)


def test_without_a_baseline_the_return_ends_at_the_limit():
    """Deviation 3: nothing is known of what would have come."""
    chunk = tensors(random_chunk(BOX, 6, 1, seed=0))
    steps = np.arange(6)[:, None] == 5
    chunk = chunk._replace(
        reward=tf.ones((6, 1)), discount=tf.ones((6, 1)), last=tf.constant(steps)
    )
    for baseline, same in ((False, True), (True, False)):
        agent = make_agent("reinforce", BOX, baseline=baseline, normalize_advantages=False)
        losses = []
        for flag in (1.0, 0.0):  # truncated, terminated
            discount = np.where(steps, flag, 1.0).astype(np.float32)
            start = arrays(variables(agent))
            _, metrics = agent.update(
                agent.init(1), chunk._replace(discount=tf.constant(discount)), STEP, SEED
            )
            assign(variables(agent), start)
            losses.append(float(metrics["loss/policy"]))
        assert (losses[0] == losses[1]) == same


def test_every_pattern_of_options_gives_finite_metrics():
    for baseline, normalize, correct in itertools.product([False, True], repeat=3):
        agent = make_agent(
            "reinforce",
            BOX,
            baseline=baseline,
            normalize_advantages=normalize,
            importance_correction=correct,
            entropy_cost=0.01,
        )
        _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, SEED)
        assert np.isfinite(list(map(float, metrics.values()))).all()
