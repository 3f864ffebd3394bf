"""The same batch and weights to TF-Agents' code and to ours: an independent check of ours.

Nothing here comes from `rlzoo.interop` but the translation of specs.
"""

from rlzoo.interop import extras

extras.prepare()

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.agents.dqn import dqn_agent
from tf_agents.agents.reinforce import reinforce_agent
from tf_agents.networks import q_network, sequential
from tf_agents.policies import boltzmann_policy, epsilon_greedy_policy, q_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common, value_ops

from rlzoo import exploration, networks
from rlzoo.agents.dqn import DQNConfig, dqn_loss
from rlzoo.agents.reinforce import REINFORCEConfig, reinforce_loss
from rlzoo.interop.tf_agents.specs import action_spec, observation_spec, time_step_spec
from rlzoo.ops.returns import discounted_returns, generalized_advantages, n_step_returns
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.types import Chunk, Transitions

SPEC = EnvSpec(Box((3,)), Discrete(4), 9)
SIZES = (16, 8)
GAMMA = 0.9
TOLERANCE = 1e-5


def our_network(seed: int, head=networks.q_values) -> keras.Model:
    torso = networks.dense(SIZES, seed=seed)
    return networks.build_network(SPEC, torso, head(SPEC.num_actions, seed))


def their_network():
    return q_network.QNetwork(observation_spec(SPEC), action_spec(SPEC), fc_layer_params=SIZES)


def copy_weights(ours: keras.Model, theirs) -> None:
    """Gives their network the weights of ours; both list kernel, bias of each layer in order."""
    for source, target in zip(ours.weights, theirs.variables, strict=True):
        assert tuple(source.shape) == tuple(target.shape)
        target.assign(source.value)


def random_batch(count: int = 64) -> Transitions:
    """A quarter of the steps terminate; rewards reach both parts of the Huber loss."""
    random = np.random.default_rng(0)
    return Transitions(
        tf.constant(random.normal(size=(count, 3)).astype(np.float32)),
        tf.constant(random.integers(4, size=count).astype(np.int32)),
        tf.constant(random.normal(scale=3.0, size=count).astype(np.float32)),
        tf.constant((random.random(count) < 0.75).astype(np.float32)),
        tf.constant(random.normal(size=(count, 3)).astype(np.float32)),
    )


def frames(batch: Transitions) -> trajectory.Trajectory:
    """Two frames [B, 2] per step, with step types as their driver would have them."""
    terminated = batch.discount == 0
    step_type = tf.where(terminated, ts.StepType.LAST, ts.StepType.MID)
    mid = tf.ones_like(step_type)

    def pair(one, other):
        return tf.stack([one, other], axis=1)

    return trajectory.Trajectory(
        step_type=pair(mid, step_type),
        observation=pair(batch.obs, batch.next_obs),
        action=pair(batch.action, batch.action),
        policy_info=(),
        next_step_type=pair(step_type, mid),
        reward=pair(batch.reward, batch.reward),
        discount=pair(batch.discount, batch.discount),
    )


@pytest.mark.parametrize("double_q", [False, True], ids=["dqn", "double dqn"])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_dqn_loss_and_gradients(double_q, loss):
    network, target = our_network(1), our_network(2)
    q, target_q = their_network(), their_network()
    q.create_variables()
    target_q.create_variables()
    make = dqn_agent.DdqnAgent if double_q else dqn_agent.DqnAgent
    theirs = {"huber": common.element_wise_huber_loss, "squared": common.element_wise_squared_loss}
    agent = make(
        time_step_spec(SPEC),
        action_spec(SPEC),
        q_network=q,
        target_q_network=target_q,
        optimizer=tf.keras.optimizers.Adam(1e-3),
        td_errors_loss_fn=theirs[loss],
        gamma=GAMMA,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    copy_weights(network, q)
    copy_weights(target, target_q)
    batch = random_batch()
    with tf.GradientTape() as tape:
        # By itself, `loss` takes gamma = 1; `train` passes the agent's own.
        found = agent.loss(frames(batch), training=True, gamma=GAMMA).loss
    their_gradients = tape.gradient(found, q.trainable_variables)
    config = DQNConfig(discount=GAMMA, double_q=double_q, loss=loss)
    with tf.GradientTape() as tape:
        want, *_ = dqn_loss(network, target, batch, config)
    our_gradients = tape.gradient(want, network.trainable_variables)
    factor = 2.0 if loss == "squared" else 1.0  # ours is half the square, theirs the whole
    np.testing.assert_allclose(factor * want, found, atol=TOLERANCE, rtol=0)
    assert max(np.abs(g).max() for g in our_gradients) > 0.01
    for one, other in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(factor * one, other, atol=TOLERANCE, rtol=0)


def random_chunk(length: int, num_envs: int, ends: float):
    """Steps that terminate with probability `ends`; their returns know no other end."""
    random = np.random.default_rng(1)
    shape = (length, num_envs)
    terminated = random.random(shape) < ends
    reward, value, final = random.normal(size=(3, *shape)).astype(np.float32)
    discount = (GAMMA * ~terminated).astype(np.float32)
    next_value = np.concatenate([value[1:], final[-1:]])
    return reward, discount, terminated, value, next_value


def test_discounted_returns():
    reward, discount, last, _, next_value = random_chunk(20, 5, 0.2)
    want = value_ops.discounted_return(reward, discount, final_value=next_value[-1])
    found = discounted_returns(reward, discount, last, next_value)
    np.testing.assert_allclose(found, want, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_generalized_advantages(gae_lambda):
    reward, discount, last, value, next_value = random_chunk(20, 5, 0.2)
    want = value_ops.generalized_advantage_estimation(
        value, next_value[-1], discount, reward, gae_lambda
    )
    found = generalized_advantages(reward, discount, last, value, next_value, gae_lambda)
    np.testing.assert_allclose(found, want, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_n_step_returns(num_steps):
    """Of the first step of each row, terminated on the way or not."""
    reward, discount, last, _, next_value = random_chunk(num_steps, 40, 0.2)
    count = reward.shape[1]

    def rows(steps):  # [T, N] to [N, T + 1]: the last frame holds no step
        return tf.constant(np.concatenate([steps, steps[-1:]]).T)

    kinds = np.ones((count, num_steps + 1), np.int32)
    experience = trajectory.Trajectory(
        step_type=tf.constant(kinds),
        observation=tf.zeros((count, num_steps + 1, 3)),
        action=tf.zeros((count, num_steps + 1), tf.int32),
        policy_info=(),
        next_step_type=tf.constant(kinds),
        reward=rows(reward),
        discount=rows((discount > 0).astype(np.float32)),
    )
    after = trajectory.to_n_step_transition(experience, gamma=GAMMA).next_time_step
    want = after.reward + GAMMA * after.discount * next_value[-1]
    found = n_step_returns(reward, discount, last, next_value, num_steps)[0]
    np.testing.assert_allclose(found, want, atol=TOLERANCE, rtol=0)


def categorical(logits):
    return tfp.distributions.Categorical(logits=logits, dtype=tf.int32)


def test_reinforce_loss_and_gradients():
    """Two whole episodes of different lengths, terminated."""
    length, lengths = 6, [6, 4]
    random = np.random.default_rng(2)
    network = our_network(3, networks.policy_logits)
    # Their ActorDistributionNetwork cannot be made for Discrete actions with NumPy 2.4.
    layers = [tf.keras.layers.Dense(size, "relu") for size in SIZES]
    layers += [tf.keras.layers.Dense(SPEC.num_actions), tf.keras.layers.Lambda(categorical)]
    actor = sequential.Sequential(layers, input_spec=observation_spec(SPEC))
    actor.create_variables()
    copy_weights(network, actor)
    agent = reinforce_agent.ReinforceAgent(
        time_step_spec(SPEC),
        action_spec(SPEC),
        actor_network=actor,
        optimizer=tf.keras.optimizers.Adam(1e-3),
        normalize_returns=False,
        gamma=GAMMA,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    steps = np.arange(length)[:, None]
    valid, last = steps < lengths, steps == np.array(lengths) - 1
    obs = random.normal(size=(length, 2, 3)).astype(np.float32)
    action = random.integers(4, size=(length, 2)).astype(np.int32)
    reward = (random.normal(size=(length, 2)) * valid).astype(np.float32)
    discount = (~last).astype(np.float32)
    first, extras = steps + 0 * last == 0, {"log_prob": np.zeros((length, 2), np.float32)}
    chunk = Chunk(obs, action, reward, discount, last, first, obs, valid, extras)
    returns = discounted_returns(reward, GAMMA * discount, last, tf.zeros_like(reward))
    config = REINFORCEConfig(baseline=False, importance_correction=False, discount=GAMMA)
    with tf.GradientTape() as tape:
        logits, _ = networks.unroll(network, obs, (), np.asarray(chunk.first))
        want, _ = reinforce_loss(logits, chunk, returns, config)
    our_gradients = tape.gradient(want, network.trainable_variables)

    following = np.roll(valid, -1, axis=0) & ~last
    step_type = np.where(valid, np.where(steps == 0, 0, 1), 2).astype(np.int32)
    experience = trajectory.Trajectory(
        step_type=tf.constant(step_type.T),
        observation=tf.constant(obs.swapaxes(0, 1)),
        action=tf.constant(action.T),
        policy_info=(),
        next_step_type=tf.constant(np.where(following, 1, np.where(last, 2, 0)).astype(np.int32).T),
        reward=tf.constant(reward.T),
        discount=tf.constant(discount.T),
    )
    with tf.GradientTape() as tape:
        found = agent.total_loss(experience, tf.transpose(returns), weights=None).loss
    their_gradients = tape.gradient(found, actor.trainable_variables)
    np.testing.assert_allclose(want, found, atol=TOLERANCE, rtol=0)
    assert max(np.abs(g).max() for g in our_gradients) > 0.01
    for one, other in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0)


def q_values_policy():
    """Returns our network, and their policy on a network of the same weights."""
    network, q = our_network(4), their_network()
    q.create_variables()
    copy_weights(network, q)
    return network, q_policy.QPolicy(time_step_spec(SPEC), action_spec(SPEC), q)


def observed(count: int):
    obs = np.random.default_rng(5).normal(size=(count, 3)).astype(np.float32)
    return obs, ts.restart(tf.constant(obs), batch_size=count)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_boltzmann_distribution(temperature):
    network, policy = q_values_policy()
    obs, time_step = observed(50)
    theirs = boltzmann_policy.BoltzmannPolicy(policy, temperature).distribution(time_step).action
    strategy = exploration.Softmax(temperature)
    ours = strategy.log_probs(network(obs), (), tf.constant(0, tf.int64))
    found = tf.nn.softmax(theirs.logits)
    np.testing.assert_allclose(tf.exp(ours), found, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_epsilon_greedy_distribution(epsilon):
    """Theirs can only be sampled: the frequencies of 40,000 draws are held against ours."""
    network, policy = q_values_policy()
    obs, time_step = observed(4)
    draws = 10_000
    repeated = tf.nest.map_structure(lambda x: tf.repeat(x, draws, axis=0), time_step)
    theirs = epsilon_greedy_policy.EpsilonGreedyPolicy(policy, epsilon).action(repeated, seed=1)
    strategy = exploration.EpsilonGreedy(epsilon)
    ours = np.exp(strategy.log_probs(network(obs), (), tf.constant(0, tf.int64)))
    actions = theirs.action.numpy().reshape(4, draws)
    found = np.stack([(actions == action).mean(axis=1) for action in range(4)], axis=1)
    deviation = np.sqrt(ours * (1 - ours) / draws)
    assert (np.abs(found - ours) <= 4.5 * deviation + 1e-7).all()
    # Their parts, put together by the rule, are ours exactly.
    greedy = tf.one_hot(policy.distribution(time_step).action.mode(), 4)
    np.testing.assert_allclose(ours, epsilon / 4 + (1 - epsilon) * greedy, atol=TOLERANCE, rtol=0)


def test_the_referee_notices_a_difference():
    """The same comparison fails where one side is changed a little."""
    network, target, batch = our_network(1), our_network(2), random_batch()
    config = DQNConfig(discount=GAMMA)
    loss, *_ = dqn_loss(network, target, batch, config)
    other, *_ = dqn_loss(network, target, batch, dataclasses.replace(config, discount=GAMMA + 0.01))
    assert abs(float(loss - other)) > 10 * TOLERANCE
