"""Our agents as their policies, and our exploration strategies on top of their policies."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step

from rlzoo import exploration, networks
from rlzoo.exploration.base import has_distribution
from rlzoo.interop.tf_agents.specs import action_spec, check_specs, time_step_spec
from rlzoo.ops import rng
from rlzoo.spaces import Discrete, EnvSpec, describe


class ScoresPolicy(tf_policy.TFPolicy):
    """A policy that explores by a strategy of ours on the scores of a network.

    It counts the steps it has acted in, one per environment, which is what the rates of a
    strategy follow. Set `steps` (a variable) to begin elsewhere. Its draws come from `seed` and a
    counter, so that the same policy acts the same twice.

    Subclasses say what the scores are: `_scores(time_step, policy_state) -> (scores, state)`.
    """

    def __init__(self, time_step_spec, action_spec, strategy, seed: int, policy_state_spec=()):
        made_up = EnvSpec(Discrete(2), Discrete(2), None)
        if not has_distribution(strategy) or strategy.init(1, made_up) != ():
            raise ValueError(
                f"{type(strategy).__name__} keeps a state of its own, which TF-Agents has no place "
                "for. Use a strategy without one, such as EpsilonGreedy or Softmax."
            )
        super().__init__(
            time_step_spec,
            action_spec,
            policy_state_spec=policy_state_spec,
            info_spec=(),
            automatic_state_reset=True,
            emit_log_probability=True,
            clip=False,
        )
        self.strategy = strategy
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._calls = tf.Variable(0, dtype=tf.int64, trainable=False, name="calls")
        self._seed = rng.from_int(seed).numpy()

    def _scores(self, time_step, policy_state) -> tuple[Any, Any]:
        raise NotImplementedError

    def _action(self, time_step, policy_state, seed=None) -> policy_step.PolicyStep:
        log_probs, state = self._log_probs(time_step, policy_state)
        if seed is None:
            seed = rng.fold_in(tf.constant(self._seed), self._calls.assign_add(1))
        else:
            seed = rng.from_int(seed) if isinstance(seed, int) else seed
        action = rng.categorical(seed, log_probs)  # [N]
        log_prob = tf.gather(log_probs, action, batch_dims=1)
        self.steps.assign_add(tf.shape(action, out_type=tf.int64)[0])
        action = tf.cast(action, self.action_spec.dtype) + self.action_spec.minimum
        info = policy_step.PolicyInfo(log_probability=log_prob)
        return policy_step.PolicyStep(action, state, info)

    def _distribution(self, time_step, policy_state) -> policy_step.PolicyStep:
        log_probs, state = self._log_probs(time_step, policy_state)
        spec = self.action_spec
        distribution = tfp.distributions.Categorical(logits=log_probs, dtype=spec.dtype)
        return policy_step.PolicyStep(distribution, state, ())

    def _log_probs(self, time_step, policy_state) -> tuple[Any, Any]:
        scores, state = self._scores(time_step, policy_state)
        return self.strategy.log_probs(scores, (), self.steps), state


class RlzooPolicy(ScoresPolicy):
    """An agent of rlzoo as a policy of TF-Agents. See `to_tf_policy`."""

    def __init__(self, agent: Any, explore: bool, seed: int):
        self._agent = agent
        network = agent.actor.network
        self._network = network  # tracked, so that PolicySaver finds its variables
        self._learned = [variable.value for variable in network.variables]
        strategy = agent.actor.exploration if explore else exploration.Greedy()
        states = [tensor_spec.TensorSpec(x.shape[1:], x.dtype) for x in network.inputs[1:]]
        spec = agent.spec
        super().__init__(time_step_spec(spec), action_spec(spec), strategy, seed, tuple(states))

    def _scores(self, time_step, policy_state):
        return networks.apply(
            self._network, time_step.observation, tuple(policy_state), time_step.is_first()
        )

    def _variables(self):
        return [*self._learned, self.steps, self._calls]


class ExplorationPolicy(ScoresPolicy):
    """A policy of TF-Agents that chooses from scores, explored by a strategy of ours.

    Args:
        policy: whose distribution is categorical: a QPolicy, or an actor on Discrete actions.
            Its logits are the scores: Q-values of a QPolicy.
        strategy: such as `EpsilonGreedy(Linear(1.0, 0.1, 10_000))`.
        seed: of the choices.

    Raises:
        ValueError: a policy with other actions, or a strategy that keeps a state.
    """

    def __init__(self, policy: tf_policy.TFPolicy, strategy: exploration.Exploration, seed=0):
        spec = policy.action_spec
        if not (isinstance(spec, tensor_spec.BoundedTensorSpec) and spec.dtype.is_integer):
            raise ValueError(
                f"An exploration strategy chooses among Discrete actions, received a policy with "
                f"{spec}. Its own collect_policy explores there."
            )
        self._policy = policy
        super().__init__(policy.time_step_spec, spec, strategy, seed, policy.policy_state_spec)

    def _scores(self, time_step, policy_state):
        step = self._policy.distribution(time_step, policy_state)
        logits = getattr(step.action, "logits", None)
        if logits is None:
            raise ValueError(
                "Expected a policy with a Categorical distribution, such as a QPolicy, received "
                f"{type(self._policy).__name__} with {step.action}. Give the policy inside of it."
            )
        return logits, step.state

    def _variables(self):
        return [*self._policy.variables(), self.steps, self._calls]


def to_tf_policy(agent: Any, *, explore: bool = False, seed: int = 0, environment: Any = None):
    """Returns an agent of rlzoo as a `TFPolicy`, for their drivers, metrics and PolicySaver.

    It shares the agent's variables: what the agent learns, the policy follows.

    Args:
        agent: one with a network on Discrete actions, or what `rlzoo.load` returned.
        explore: by the agent's own strategy, or greedily.
        seed: of what is random.
        environment: whose specs must be the agent's, if given.

    Raises:
        ValueError: specs that do not fit, by name, or an agent that has no such network.
    """
    agent = getattr(agent, "agent", agent)
    if not isinstance(agent.spec.action, Discrete) or not hasattr(agent.actor.network, "inputs"):
        raise ValueError(
            f"Expected an agent of rlzoo on Discrete actions, received {type(agent).__name__}. An "
            "agent of TF-Agents has a policy of its own: agent.tf_agent.policy."
        )
    if agent.spec.frames > 1:
        raise ValueError(
            "Expected an agent that sees one observation at a time, received one with frame_stack="
            f"{agent.spec.frames}: a policy of TF-Agents does not stack."
        )
    if isinstance(agent.spec.obs, dict):
        raise ValueError(
            "Expected an agent on observations that are one array without a mask, received one on "
            f"{describe(agent.spec.obs)}: a policy of TF-Agents cannot pass more on."
        )
    if environment is not None:
        check_specs(agent.spec, environment.observation_spec(), environment.action_spec())
    return RlzooPolicy(agent, explore, seed)
