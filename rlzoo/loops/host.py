"""The host loop: steps Gymnasium environments in Python, learns in compiled TensorFlow."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, variables
from rlzoo.envs.base import Envs
from rlzoo.loops.base import LoopState, Report, adopt, initial_state
from rlzoo.loops.collector import Collector
from rlzoo.loops.learner import Learner
from rlzoo.spaces import Discrete, filled, items


class HostLoop:
    """A collector and a learner.

    Give `agent.actor.exploration` another strategy at any time: the next chunk follows it.

    Args:
        agent: the learner.
        envs: from `make_envs`.
        seed: of the run; acting and learning draw from streams of their own.
    """

    def __init__(self, agent: Agent, envs: Envs, seed: int):
        self.agent = agent
        self.collector = Collector(agent, envs, seed)
        self._seed = seed
        self._strategy = agent.actor.exploration  # the one that the state is of
        self.learner = self._make_learner()
        self._compiled = False  # done when first needed
        self._lent: dict[str, Any] | None = None  # the environments' state while others use them

    @property
    def envs(self) -> Envs:
        """The environments that are trained in."""
        return self.collector.envs

    def _make_learner(self) -> Learner:
        return Learner(self.agent, [self.envs.num_envs], self._seed, self.collector.light)

    def _follow(self) -> None:
        """Takes up the actor's strategy where it is another than before; all else goes on."""
        if self._strategy is not self.agent.actor.exploration:
            self._strategy = self.agent.actor.exploration
            self.collector.follow()
            learning = self.learner.state
            self.learner = self._make_learner()
            self.learner.state = learning
            self._compiled = False

    def compile(self) -> None:
        """Prepares act and update; XLA compiles them when they are first called."""
        self.learner.compile()
        self.collector.compile(self.learner.step)
        self._compiled = True

    def run(self, until: float = 0, seconds: float = 0.0) -> Report:
        """Collects one chunk and learns from it, however few steps and seconds are asked for.

        Raises:
            FloatingPointError: a metric is not finite.
        """
        self._follow()
        if not self._compiled:
            self.compile()
        collector, learner = self.collector, self.learner
        collected, steps, episodes = collector.collect(learner.step, learner.version)
        metrics, [collector.tensors], packed = learner.learn([collected])
        if collector.light is not None:
            collector.light.unpack(packed)
        return Report(steps, episodes, metrics)

    @property
    def state(self) -> LoopState:
        """What the loop carries besides variables and environments."""
        return LoopState(self.collector.acting, self.learner.state)

    @state.setter
    def state(self, state: LoopState) -> None:
        self.collector.acting, self.learner.state = state

    @property
    def step(self) -> int:
        """Environment steps that the agent has learned from."""
        return int(self.learner.step)

    def lifetime_steps(self) -> list[int]:
        """Returns the age of each environment, where they change over their life; else []."""
        return self.envs.lifetime_steps

    @contextlib.contextmanager
    def lend_envs(self) -> Iterator[None]:
        """Leaves the environments to others; then they go back to where they were, by replay.

        If the others end in an error, they stay; `get_state` tells of where they were.
        """
        seed = self.envs.seed
        self._lent = self.envs.get_state()
        yield
        self.envs.begin(seed)
        self._replay(self._lent, self.collector.obs)
        self._lent = None

    def _replay(
        self,
        state: dict[str, Any],
        expected_obs: Any,
        on_step: Callable[[int], None] = lambda t: None,
    ) -> None:
        obs = self.envs.set_state(state, expected_obs, on_step)
        self.collector.obs = None if self.agent.traits.whole_episodes else obs

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns all that a checkpoint needs to go on from here: arrays, and plain values."""
        self._follow()
        collector = self.collector
        collector.prepare(self.learner.step)
        tensors = tf.nest.flatten(self.state)
        arrays = {f"state/{i}": tensor.numpy() for i, tensor in enumerate(tensors)}
        arrays |= {name: value.numpy() for name, value in variables(self.agent).items()}
        envs = dict(self._lent or self.envs.get_state())
        actions = envs.pop("actions")
        envs["lengths"] = [len(row) for row in actions]
        shape, dtype = self._actions_field(sum(envs["lengths"]))
        arrays["loop/actions"] = np.empty(shape, dtype)  # of all running episodes in a row
        end = 0
        for row in actions:
            arrays["loop/actions"][end : end + len(row)] = np.reshape(row, (-1, *shape[1:]))
            end += len(row)
        arrays["loop/episode_return"] = collector.episode_return
        arrays["loop/episode_length"] = collector.episode_length
        arrays["loop/first"] = collector.first
        if collector.light is not None:
            arrays["loop/light"] = collector.light.packed
        if not self.agent.traits.whole_episodes:  # these start with a reset
            arrays |= dict(items(collector.obs, "loop/obs"))
        return arrays, {"envs": envs}

    def template(self, meta: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns shape and dtype of each array of a state whose plain values are `meta`."""
        shapes = {name: (array.shape, array.dtype) for name, array in self.get_state()[0].items()}
        if "lengths" not in meta["envs"]:
            raise ValueError("not a state of environments: it says nothing of their actions")
        shapes["loop/actions"] = self._actions_field(sum(meta["envs"]["lengths"]))
        return shapes

    def template_to_adopt(self, num_envs: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns the same of what `adopt` takes from a state of so many environments."""
        state = tf.nest.flatten(initial_state(self.agent, num_envs))
        arrays = {f"state/{i}": tensor.numpy() for i, tensor in enumerate(state)}
        arrays |= {name: value.numpy() for name, value in variables(self.agent).items()}
        return {name: (array.shape, array.dtype) for name, array in arrays.items()}

    def adopt(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Goes on with what was learned with another number of environments.

        All begin an episode that none of those has had.
        """
        num_envs = self.envs.num_envs
        self.state = adopt(self.agent, num_envs, arrays)
        try:
            episode = 1 + max(int(index) for index in meta["envs"]["episode"])
            lifetime = max(int(steps) for steps in meta["envs"].get("lifetime", [0]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a state of environments: {error!r}") from None
        state = {"episode": episode, "lifetime": lifetime, "actions": []}
        obs = self.envs.set_state({name: [value] * num_envs for name, value in state.items()})
        self.collector.obs = None if self.agent.traits.whole_episodes else obs

    def _actions_field(self, count: int) -> tuple[tuple[int, ...], Any]:
        spec = self.agent.spec
        discrete = isinstance(spec.action, Discrete)
        dtype = np.min_scalar_type(spec.num_actions - 1) if discrete else np.float32
        return (count, *spec.action.shape), np.dtype(dtype)

    def set_state(
        self,
        arrays: dict[str, np.ndarray],
        meta: dict[str, Any],
        on_step: Callable[[int], None] = lambda t: None,
    ) -> None:
        """Goes back to what `get_state` returned; the environments replay their episodes.

        Args:
            arrays: that fit `template(meta)`.
            meta: the plain values.
            on_step: called with the number of each step that is replayed.
        """
        envs = dict(meta["envs"])
        ends = np.cumsum(envs.pop("lengths"))[:-1]
        envs["actions"] = [row.tolist() for row in np.split(arrays["loop/actions"], ends)]
        collector, state = self.collector, self.state
        count = len(tf.nest.flatten(state))
        tensors = [tf.constant(arrays[f"state/{i}"]) for i in range(count)]
        self.state = tf.nest.pack_sequence_as(state, tensors)
        for name, variable in variables(self.agent).items():
            variable.assign(arrays[name])
        collector.episode_return = arrays["loop/episode_return"].copy()
        collector.episode_length = arrays["loop/episode_length"].copy()
        collector.first = arrays["loop/first"].copy()
        if collector.light is not None:
            collector.light.unpack(arrays["loop/light"])
        obs = None
        if not self.agent.traits.whole_episodes:
            space = self.agent.spec.obs
            obs = filled(space, [arrays[path] for path, _ in items(space, "loop/obs")])
        self._replay(envs, obs, on_step)
