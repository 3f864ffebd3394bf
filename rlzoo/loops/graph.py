"""The graph loop: environments, acting and learning in one program, compiled by XLA."""

import copy
import math
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.envs.ports import EnvState, PortedEnvs
from rlzoo.envs.ports.base import where
from rlzoo.loops.compiled import (
    Compiled,
    Episodes,
    LoopState,
    Report,
    adopt,
    chunk_fields,
    chunk_row,
    diverged,
    initial_state,
    is_learned,
    tensor_specs,
)
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT, ENV_RESET, ENV_STEP, UPDATE
from rlzoo.spaces import map_leaves
from rlzoo.types import Chunk


class GraphState(NamedTuple):
    """What goes round in the program, besides variables."""

    loop: LoopState
    envs: EnvState
    obs: Any  # [N, ...], nested as the observation's space is
    first: tf.Tensor  # [N] bool
    episode_return: tf.Tensor  # [N] float32, of the running episodes
    episode_length: tf.Tensor  # [N] int32


class Sums(NamedTuple):
    """What one call of the program brought; float64 counts far beyond 2**24."""

    chunks: tf.Tensor  # [] float64
    updates: tf.Tensor  # [] float64, gradient steps
    metrics: tf.Tensor  # [M] float64, weighted by updates if learned
    episodes: tf.Tensor  # [] float64, how many ended
    returns: tf.Tensor  # [] float64, summed over them
    lengths: tf.Tensor  # [] float64
    bad: tf.Tensor  # [M + N] bool: metrics and environments with a number that is not finite


class GraphLoop:
    """Trains in one compiled call from report to report.

    Give `agent.exploration` another strategy at any time: the next call follows it.

    Args:
        agent: the learner.
        envs: environments in TensorFlow ops.
        seed: of the run; environments, acting and learning draw from streams of their own.
    """

    def __init__(self, agent: Agent, envs: PortedEnvs, seed: int):
        self.agent = agent
        self.envs = envs
        self._seed = rng.from_int(seed)
        self._strategy = agent.exploration  # the one that the state is of
        env_state, obs = envs.reset(self._stream(ENV_RESET, 0))
        self.state = GraphState(
            loop=initial_state(agent, envs.num_envs),
            envs=env_state,
            obs=obs,
            first=tf.ones([envs.num_envs], tf.bool),
            episode_return=tf.zeros([envs.num_envs]),
            episode_length=tf.zeros([envs.num_envs], tf.int32),
        )
        self._call: Compiled | None = None  # made when first needed
        self._tags: list[str] = []  # of the metrics, known then too
        self._pending: list[float] = []  # sums that no report has told of yet
        self._stretch = 1  # steps that a call of bounded time begins with

    def run(self, until: float, seconds: float = math.inf) -> Report:
        """Runs chunk after chunk until `until` environment steps have been learned from.

        Args:
            until: environment steps in all.
            seconds: that the call may take, about; a chunk is never broken off.

        Returns:
            What was done since the last report that came to its `until`. If the time is up
            before, only the steps of this call: the rest comes with a later report, the same
            to the last bit as if there had been one call.

        Raises:
            FloatingPointError: a metric, a reward or an observation is not finite; training
                stopped there.
        """
        self._follow()
        call = self._call or self.compile()
        before = int(self.state.loop.agent.step)
        limit = int(until) if math.isinf(seconds) else min(int(until), before + self._stretch)
        started = time.perf_counter()
        tensors = call(*tf.nest.flatten(self.state), *self._arguments(limit))
        count = len(tf.nest.flatten(self.state))
        self.state = tf.nest.pack_sequence_as(self.state, tensors[:count])
        sums = Sums(*(x.numpy() for x in tensors[count:]))
        steps = int(self.state.loop.agent.step) - before
        if not sums.bad.any() and before + steps < until:
            took = time.perf_counter() - started
            self._stretch = max(1, int(steps * min(10.0, seconds / took)))
            self._pending = np.hstack(sums[:-1]).tolist()
            return Report(steps, [], {}, chunks=0)
        self._pending = []
        chunks, updates = float(sums.chunks), float(sums.updates)
        weights = [updates if is_learned(tag) else chunks for tag in self._tags]
        means = (sums.metrics / np.maximum(weights, 1.0)).tolist()
        if sums.bad.any():
            raise self._fault(sums.bad)
        ended = []
        if count := int(sums.episodes):
            ended = [Episodes(float(sums.returns) / count, float(sums.lengths) / count, count)]
        return Report(
            steps=steps,
            episodes=ended,
            metrics={**dict(zip(self._tags, means, strict=True)), "updates": updates},
            chunks=int(chunks),
        )

    def compile(self) -> Compiled:
        """Compiles the program, by a call in which there is nothing to do."""
        self._call = self._trace()
        self._call(*tf.nest.flatten(self.state), *self._arguments(-1))
        return self._call

    def _arguments(self, until: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sums to go on with, and the step to stop at."""
        count = len(Sums._fields) - 2 + len(self._tags)
        if self._pending and len(self._pending) != count:
            raise ValueError(
                f"pending: expected {count} sums, received {len(self._pending)}: this checkpoint "
                "is of an agent with other metrics."
            )
        pending = self._pending or [0.0] * count
        return tf.constant(pending, tf.float64), tf.constant(until, tf.int64)

    @property
    def agent_step(self) -> int:
        """Environment steps that the agent has learned from."""
        return int(self.state.loop.agent.step)

    def lifetime_steps(self) -> list[int]:
        """Returns the age of each environment, where they change over their life; else []."""
        return self.envs.lifetime_steps(self.state.envs)

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns all that a checkpoint needs to go on from here: arrays, and plain values."""
        self._follow()
        tensors = tf.nest.flatten(self.state)
        arrays = {f"state/{i}": tensor.numpy() for i, tensor in enumerate(tensors)}
        arrays |= {name: value.numpy() for name, value in self.agent.variables().items()}
        return arrays, {"pending": self._pending}

    def template(self, meta: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns shape and dtype of each array of a state whose plain values are `meta`."""
        return {name: (array.shape, array.dtype) for name, array in self.get_state()[0].items()}

    def template_to_adopt(self, num_envs: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Returns the same of what `adopt` takes from a state of so many environments."""
        envs = copy.copy(self.envs)
        envs.num_envs = num_envs
        loop = GraphLoop(self.agent, envs, 0)
        return loop.template({})

    def adopt(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Goes on with what was learned with another number of environments.

        All begin a new episode.
        """
        loop = adopt(self.agent, self.envs.num_envs, arrays)
        envs, obs = self.envs.reset(self._stream(ENV_RESET, loop.chunks))
        self.state = self.state._replace(loop=loop, envs=envs, obs=obs)

    def set_state(
        self, arrays: dict[str, np.ndarray], meta: dict[str, Any], on_step: Any = None
    ) -> None:
        """Goes back to what `get_state` returned. No step is replayed."""
        self._pending = [float(value) for value in meta.get("pending", [])]
        count = len(tf.nest.flatten(self.state))
        tensors = [tf.constant(arrays[f"state/{i}"]) for i in range(count)]
        self.state = tf.nest.pack_sequence_as(self.state, tensors)
        for name, variable in self.agent.variables().items():
            variable.assign(arrays[name])

    def _follow(self) -> None:
        """Takes up `agent.exploration` where it is another than before; its state starts anew."""
        if self._strategy is not self.agent.exploration:
            self._strategy = self.agent.exploration
            fresh = self.agent.init(self.envs.num_envs).exploration
            agent = self.state.loop.agent._replace(exploration=fresh)
            self.state = self.state._replace(loop=self.state.loop._replace(agent=agent))
            self._call = None
            self._pending = []  # its metrics may be others

    def _trace(self) -> Compiled:
        agent, envs = self.agent, self.envs
        length, num_envs = agent.chunk_length, envs.num_envs
        update = tf.function(agent.update, autograph=False)
        fields = chunk_fields(agent, num_envs)
        rows = Chunk(**map_leaves(lambda field: tf.TensorSpec(*field), fields))

        def step(state: GraphState, active):
            """Takes one step in every environment; returns state and row of the chunk."""
            loop = state.loop
            seed = self._stream(ACT, loop.acts)
            action, extras, agent_state = agent.act(
                loop.agent, state.obs, state.first, seed, explore=True
            )
            env_state, now = envs.step(state.envs, action, self._stream(ENV_STEP, loop.acts))
            last = now.terminated | now.truncated
            row = chunk_row(state.obs, state.first, action, extras, now, last, active)
            row = row._replace(discount=tf.cast(row.discount, tf.float32))
            state = GraphState(
                loop=loop._replace(agent=agent_state, acts=loop.acts + 1),
                envs=env_state,
                obs=now.obs,
                first=last,
                episode_return=state.episode_return,
                episode_length=state.episode_length,
            )
            return state, row

        def collect(state: GraphState, sums: Sums):
            """Fills a chunk; whole episodes are padded to its length."""
            everyone = tf.ones([num_envs], tf.bool)
            if agent.whole_episodes:
                env_state, obs = envs.reset(self._stream(ENV_RESET, state.loop.chunks), state.envs)
                state = state._replace(envs=env_state, obs=obs, first=everyone)

            def more(t, active, *_):
                return (t < length) & tf.reduce_any(active) if agent.whole_episodes else t < length

            def body(t, active, state, sums, arrays):
                old, (state, row) = state.envs, step(state, active)
                if agent.whole_episodes:  # those that have ended wait for the others
                    row = tf.nest.map_structure(
                        lambda x: where(active, x, tf.zeros([], x.dtype)), row
                    )
                    waiting = tf.nest.map_structure(partial(where, active), state.envs, old)
                    state = state._replace(envs=waiting)
                flat = tf.nest.flatten(row)
                arrays = [array.write(t, x) for array, x in zip(arrays, flat, strict=True)]
                returns = state.episode_return + row.reward
                lengths = state.episode_length + tf.cast(active, tf.int32)
                sums = sums._replace(
                    episodes=sums.episodes + total(row.last),
                    returns=sums.returns + total(tf.where(row.last, returns, 0.0)),
                    lengths=sums.lengths + total(tf.where(row.last, lengths, 0)),
                )
                state = state._replace(
                    episode_return=tf.where(row.last, 0.0, returns),
                    episode_length=tf.where(row.last, 0, lengths),
                )
                if agent.whole_episodes:
                    active &= ~row.last
                return t + 1, active, state, sums, arrays

            arrays = [
                tf.TensorArray(x.dtype, length, element_shape=x.shape[1:], clear_after_read=False)
                for x in tf.nest.flatten(rows)
            ]
            loop = (tf.constant(0), everyone, state, sums, arrays)
            *_, state, sums, arrays = tf.while_loop(more, body, loop)
            chunk = tf.nest.pack_sequence_as(rows, [array.stack() for array in arrays])
            return state, sums, chunk

        def train(state: GraphState, sums: Sums):
            state, sums, chunk = collect(state, sums)
            loop = state.loop
            agent_state, metrics = update(loop.agent, chunk, self._stream(UPDATE, loop.chunks))
            values = [tf.cast(metrics[tag], tf.float64) for tag in self._tags]
            values = tf.convert_to_tensor(values, tf.float64)  # [M]; there may be none
            updates = tf.cast(metrics["updates"], tf.float64)
            learned = [is_learned(tag) for tag in self._tags]
            weights = tf.where(learned, updates, tf.ones([], tf.float64))
            seen = tf.nest.flatten((chunk.reward, chunk.next_obs))
            floats = [x for x in seen if x.dtype.is_floating]
            sound = [finite_envs(x) for x in floats]  # each [N]
            sums = sums._replace(
                chunks=sums.chunks + 1.0,
                updates=sums.updates + updates,
                metrics=sums.metrics
                + tf.where(weights > 0, weights * values, tf.zeros([], tf.float64)),
                bad=~tf.concat([tf.math.is_finite(values), tf.reduce_all(sound, axis=0)], 0),
            )
            loop = loop._replace(agent=agent_state, chunks=loop.chunks + 1)
            return state._replace(loop=loop), sums

        def program(state: GraphState, pending, until):
            # Which metrics there are has to be known beforehand. Traced here and not outside, where
            # layers could not know that it is XLA that they are traced for.
            traced = update.get_concrete_function(
                tensor_specs(self.state.loop.agent), rows, tf.TensorSpec([2], tf.int32)
            )
            self._tags = sorted(tag for tag in traced.structured_outputs[1] if tag != "updates")
            sizes = [1, 1, len(self._tags), 1, 1, 1]
            chunks, updates, metrics, *episodes = tf.split(pending, sizes)
            sums = Sums(
                tf.reshape(chunks, []),
                tf.reshape(updates, []),
                tf.reshape(metrics, [len(self._tags)]),
                *(tf.reshape(x, []) for x in episodes),
                bad=tf.zeros(len(self._tags) + num_envs, tf.bool),
            )

            def more(state, sums):
                return (state.loop.agent.step < until) & ~tf.reduce_any(sums.bad)

            return tf.while_loop(more, train, (state, sums))

        pending = tf.TensorSpec([None], tf.float64)
        return Compiled(program, tensor_specs(self.state), pending, tf.TensorSpec([], tf.int64))

    def _stream(self, number: int, counter) -> tf.Tensor:
        """Returns the seed of one call in one of the run's random streams."""
        return rng.fold_in(rng.fold_in(self._seed, number), counter)

    def _fault(self, bad: np.ndarray) -> FloatingPointError:
        update = int(self.state.loop.chunks)
        metrics, envs = bad[: len(self._tags)], bad[len(self._tags) :]
        if envs.any():
            return FloatingPointError(
                f"Environment {envs.argmax()} returned a reward or an observation that is not a "
                f"finite number, before update {update}. The last checkpoint is good."
            )
        names = [tag for tag, is_bad in zip(self._tags, metrics, strict=True) if is_bad]
        return diverged(", ".join(names), update)


def total(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum as float64."""
    return tf.reduce_sum(tf.cast(values, tf.float64))


def finite_envs(values: tf.Tensor) -> tf.Tensor:
    """Returns for each environment whether all its numbers [T, N, ...] are finite."""
    axes = [axis for axis in range(len(values.shape)) if axis != 1]
    return tf.reduce_all(tf.math.is_finite(values), axis=axes)
