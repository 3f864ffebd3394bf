"""Evaluation: whole episodes with seeds of their own, that training does not notice."""

import copy
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, Mode
from rlzoo.config.record import RunConfig
from rlzoo.envs.base import Envs
from rlzoo.exploration import EpsilonGreedy, EpsilonSoftmax
from rlzoo.loops.base import initial_acting
from rlzoo.loops.compiled import compile_act
from rlzoo.ops.streams import derived
from rlzoo.spaces import Discrete, leaves

_MAX_ENVS = 20  # episodes played side by side, in environments made for that
_RANDOM_SHARE = 0.05  # of the actions in mode "explore": Mnih et al. 2015, doi:10.1038/nature14236
_MAX_STEPS = 1_000  # of an episode in an environment without a time limit


class Evaluation(NamedTuple):
    """The outcome of some episodes."""

    returns: list[float]  # one per episode
    lengths: list[int]  # steps of each

    def __repr__(self) -> str:
        """Returns mean and standard deviation of the return, and what they are of."""
        spread = f"{self.mean_return:.4g} ± {self.std_return:.4g}"
        return f"<Evaluation: return {spread} (mean ± standard deviation of {self.episodes})>"

    @property
    def mean_return(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))

    @property
    def std_return(self) -> float:
        """The standard deviation of the returns."""
        return float(np.std(self.returns))

    @property
    def episodes(self) -> int:
        """How many episodes were played."""
        return len(self.returns)


class Evaluator:
    """Plays episodes of an agent that may go on learning in between.

    Every call with the same seed plays the same episodes and draws the same actions, whatever
    happened before: as far as a reset with a seed brings the environments to the same state.

    Args:
        agent: whose network acts; its training state is not touched.
        envs: to play in. Their episodes are given up.
        episodes: to play in each evaluation.
        mode: how to act. "greedy" takes the best action; "policy" draws from the policy of an
            agent that learns one, and else is greedy; "explore" does as "policy" does, but takes
            a random action in 1 of 20 steps.

    Raises:
        ValueError: no episodes, or "explore" where actions are not Discrete.
    """

    def __init__(self, agent: Agent, envs: Envs, episodes: int, mode: Mode = "greedy"):
        if episodes < 1:
            raise ValueError(f"episodes: expected at least 1, received {episodes}.")
        self._agent = judged(agent, mode)
        self._envs = envs
        self._episodes = episodes
        self._act = compile_act(self._agent, envs.num_envs, 0, mode)

    def run(
        self,
        seed: int,
        lifetime_steps: Sequence[int] = (),
        on_step: Callable[[], None] = lambda: None,
    ) -> Evaluation:
        """Plays the episodes that belong to a seed.

        Args:
            seed: of the episodes and of the draws, 0 or more.
            lifetime_steps: how old environments that change over their life are to be when an
                episode starts, as for `Envs.begin`.
            on_step: may raise, which ends it.
        """
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more, received {seed}.")
        returns: list[float] = []
        lengths: list[int] = []
        for i in itertools.count():  # each environment's i-th episode
            self._envs.begin(seed, i, lifetime_steps)
            totals, steps = self._play(_first_draw(seed, i), on_step)
            returns += totals
            lengths += steps
            if len(returns) >= self._episodes:
                break
        return Evaluation(returns[: self._episodes], lengths[: self._episodes])

    def _play(self, acts: int, on_step: Callable[[], None]) -> tuple[list[float], list[int]]:
        """Plays one whole episode in each environment."""
        envs, num_envs = self._envs, self._envs.num_envs
        acting = initial_acting(self._agent, num_envs)
        tensors = tf.nest.flatten(acting._replace(acts=tf.constant(acts, tf.int64)))
        step = tf.zeros([], tf.int64)
        counts = (np.arange(num_envs) < self._episodes) & ~envs.retired
        active, first = counts.copy(), np.ones(num_envs, bool)
        obs = envs.reset(active)
        totals, lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        limit = envs.spec.max_episode_steps or _MAX_STEPS
        for _ in range(limit):
            on_step()
            action, *tensors = self._act(
                *tensors, step, *map(tf.constant, leaves(obs)), tf.constant(first)
            )
            now = envs.step(action.numpy(), active)
            totals += now.reward
            lengths += active
            counts &= ~(envs.lost & active)  # an episode that failed is none
            active &= ~(now.terminated | now.truncated)
            obs, first = now.obs, np.zeros(num_envs, bool)
            if not active.any():
                break
        else:
            warnings.warn(
                f"{envs.name} has no time limit that ends its episodes: an evaluation episode was "
                f"cut after {limit:,} steps. Give it one: --max-episode-steps N.",
                stacklevel=2,
            )
        return totals[counts].tolist(), lengths[counts].tolist()


def num_envs(config: RunConfig, episodes: int) -> int:
    """Returns how many environments a run is evaluated in."""
    in_training = config.eval_env == "training"
    return config.num_envs if in_training else max(1, min(episodes, _MAX_ENVS))


def judged(agent: Agent, mode: Mode) -> Agent:
    """Returns who acts in an evaluation: the agent, or its like with another strategy.

    Raises:
        ValueError: "explore" where actions are not Discrete.
    """
    if mode != "explore":
        return agent
    if not isinstance(agent.spec.action, Discrete):
        raise ValueError(
            "eval_mode: 'explore' takes random actions in 1 of 20 steps, which is for Discrete "
            "actions; expected 'greedy' for these."
        )
    kind = EpsilonSoftmax if agent.traits.policy else EpsilonGreedy
    acting: Any = copy.copy(agent)  # the same networks
    acting.actor = copy.copy(agent.actor)
    acting.actor.exploration = kind(_RANDOM_SHARE)
    return acting


def _first_draw(seed: int, episode: int) -> int:
    """Returns where among an evaluation's random draws those of some episodes begin."""
    return derived(seed, episode) >> 1
