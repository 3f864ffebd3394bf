"""The graph loop: environments, acting and learning in one program, compiled by XLA."""

import copy
import math
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, variables
from rlzoo.envs.ports import EnvState, PortedEnvs
from rlzoo.envs.ports.base import where
from rlzoo.loops.base import (
    Acting,
    Episodes,
    LoopState,
    Report,
    adopt,
    chunk_fields,
    chunk_row,
    diverged,
    initial_state,
    is_learned,
    learn,
)
from rlzoo.loops.compiled import Compiled, tensor_specs
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

    @property
    def version(self) -> tf.Tensor:
        """[N] int64, how often the weights that act have been updated."""
        return tf.fill(self.first.shape, self.loop.learning.chunks)


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

    Give `agent.actor.exploration` another strategy at any time: the next call follows it.

    Args:
        agent: the learner.
        envs: environments in TensorFlow ops.
        seed: of the run; environments, acting and learning draw from streams of their own.
    """

    def __init__(self, agent: Agent, envs: PortedEnvs, seed: int):
        self.agent = agent
        self.envs = envs
        self._seed = rng.from_int(seed)
        self._strategy = agent.actor.exploration  # the one that the state is of
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
        before = self.step
        limit = int(until) if math.isinf(seconds) else min(int(until), before + self._stretch)
        started = time.perf_counter()
        tensors = call(*tf.nest.flatten(self.state), *self._arguments(limit))
        count = len(tf.nest.flatten(self.state))
        self.state = tf.nest.pack_sequence_as(self.state, tensors[:count])
        sums = Sums(*(x.numpy() for x in tensors[count:]))
        steps = self.step - before
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
    def step(self) -> int:
        """Environment steps that the agent has learned from."""
        return int(self.state.loop.learning.step)

    def lifetime_steps(self) -> list[int]:
        """Returns the age of each environment, where they change over their life; else []."""
        return self.envs.lifetime_steps(self.state.envs)

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns all that a checkpoint needs to go on from here: arrays, and plain values."""
        self._follow()
        tensors = tf.nest.flatten(self.state)
        arrays = {f"state/{i}": tensor.numpy() for i, tensor in enumerate(tensors)}
        arrays |= {name: value.numpy() for name, value in variables(self.agent).items()}
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
        envs, obs = self.envs.reset(self._stream(ENV_RESET, loop.learning.chunks))
        self.state = self.state._replace(loop=loop, envs=envs, obs=obs)

    def set_state(
        self, arrays: dict[str, np.ndarray], meta: dict[str, Any], on_step: Any = None
    ) -> None:
        """Goes back to what `get_state` returned. No step is replayed."""
        self._pending = [float(value) for value in meta.get("pending", [])]
        count = len(tf.nest.flatten(self.state))
        tensors = [tf.constant(arrays[f"state/{i}"]) for i in range(count)]
        self.state = tf.nest.pack_sequence_as(self.state, tensors)
        for name, variable in variables(self.agent).items():
            variable.assign(arrays[name])

    def _follow(self) -> None:
        """Takes up the actor's strategy where it is another than before; its state starts anew."""
        actor = self.agent.actor
        if self._strategy is not actor.exploration:
            self._strategy = actor.exploration
            fresh = actor.init(self.envs.num_envs).exploration
            loop = self.state.loop
            state = loop.acting.actor._replace(exploration=fresh)
            loop = loop._replace(acting=loop.acting._replace(actor=state))
            self.state = self.state._replace(loop=loop)
            self._call = None
            self._pending = []  # its metrics may be others

    def _trace(self) -> Compiled:
        fields = chunk_fields(self.agent, self.envs.num_envs)
        self._rows = Chunk(**map_leaves(lambda field: tf.TensorSpec(*field), fields))
        self._learn = tf.function(self._learn_from, autograph=False)
        pending, until = tf.TensorSpec([None], tf.float64), tf.TensorSpec([], tf.int64)
        return Compiled(self._program, tensor_specs(self.state), pending, until)

    def _program(self, state: GraphState, pending, until):
        """Trains until so many steps have been learned from, or something is wrong."""
        # Which metrics there are has to be known beforehand. Traced here and not outside, where
        # layers could not know that it is XLA that they are traced for.
        chunk = self._rows._replace(start=state.loop.acting.actor.memory, version=state.version)
        traced = self._learn.get_concrete_function(*tensor_specs((state.loop, chunk)))
        self._tags = sorted(tag for tag in traced.structured_outputs[1] if tag != "updates")
        sizes = [1, 1, len(self._tags), 1, 1, 1]
        chunks, updates, metrics, *episodes = tf.split(pending, sizes)
        sums = Sums(
            tf.reshape(chunks, []),
            tf.reshape(updates, []),
            tf.reshape(metrics, [len(self._tags)]),
            *(tf.reshape(x, []) for x in episodes),
            bad=tf.zeros(len(self._tags) + self.envs.num_envs, tf.bool),
        )

        def more(state, sums):
            return (state.loop.learning.step < until) & ~tf.reduce_any(sums.bad)

        return tf.while_loop(more, self._train, (state, sums))

    def _train(self, state: GraphState, sums: Sums) -> tuple[GraphState, Sums]:
        """Collects a chunk and learns from it."""
        state, sums, chunk = self._collect(state, sums)
        loop, metrics = self._learn(state.loop, chunk)
        values = [tf.cast(metrics[tag], tf.float64) for tag in self._tags]
        values = tf.convert_to_tensor(values, tf.float64)  # [M]; there may be none
        updates = tf.cast(metrics["updates"], tf.float64)
        learned = [is_learned(tag) for tag in self._tags]
        weights = tf.where(learned, updates, tf.ones([], tf.float64))
        weighted = tf.where(weights > 0, weights * values, tf.zeros([], tf.float64))
        seen = tf.nest.flatten((chunk.reward, chunk.next_obs))
        floats = [x for x in seen if x.dtype.is_floating]
        sound = [finite_envs(x) for x in floats]  # each [N]
        sums = sums._replace(
            chunks=sums.chunks + 1.0,
            updates=sums.updates + updates,
            metrics=sums.metrics + weighted,
            bad=~tf.concat([tf.math.is_finite(values), tf.reduce_all(sound, axis=0)], 0),
        )
        return state._replace(loop=loop), sums

    def _learn_from(self, loop: LoopState, chunk: Chunk) -> tuple[LoopState, dict[str, tf.Tensor]]:
        """Lets actor and learner have a chunk."""
        acting, learning = loop
        state, shown = self.agent.actor.observe(acting.actor, chunk, learning.step)
        seed = self._stream(UPDATE, learning.chunks)
        learning, metrics = learn(self.agent, learning, chunk, seed)
        return LoopState(acting._replace(actor=state), learning), {**shown, **metrics}

    def _collect(self, state: GraphState, sums: Sums) -> tuple[GraphState, Sums, Chunk]:
        """Fills a chunk; whole episodes are padded to its length."""
        envs, length = self.envs, self.agent.chunk_length
        whole = self.agent.traits.whole_episodes
        everyone = tf.ones([envs.num_envs], tf.bool)
        start, version = state.loop.acting.actor.memory, state.version
        if whole:
            stream = self._stream(ENV_RESET, state.loop.learning.chunks)
            env_state, obs = envs.reset(stream, state.envs)
            state = state._replace(envs=env_state, obs=obs, first=everyone)

        def more(t, active, *_):
            return (t < length) & tf.reduce_any(active) if whole else t < length

        def body(t, active, state, sums, arrays):
            old, (state, row) = state.envs, self._step(state, active)
            if whole:  # those that have ended wait for the others
                row = tf.nest.map_structure(lambda x: where(active, x, tf.zeros([], x.dtype)), row)
                waiting = tf.nest.map_structure(partial(where, active), state.envs, old)
                state = state._replace(envs=waiting)
            flat = tf.nest.flatten(row)
            arrays = [array.write(t, x) for array, x in zip(arrays, flat, strict=True)]
            state, sums = _count(state, sums, row, active)
            if whole:
                active &= ~row.last
            return t + 1, active, state, sums, arrays

        arrays = [
            tf.TensorArray(x.dtype, length, element_shape=x.shape[1:], clear_after_read=False)
            for x in tf.nest.flatten(self._rows)
        ]
        loop = (tf.constant(0), everyone, state, sums, arrays)
        *_, state, sums, arrays = tf.while_loop(more, body, loop)
        rows = [array.stack() for array in arrays]
        chunk = tf.nest.pack_sequence_as(self._rows, rows)
        return state, sums, chunk._replace(start=start, version=version)

    def _step(self, state: GraphState, active: tf.Tensor) -> tuple[GraphState, Chunk]:
        """Takes one step in every environment; returns state and row of the chunk."""
        (acting, learning), agent = state.loop, self.agent
        action, extras, actor = agent.actor.act(
            acting.actor,
            state.obs,
            state.first,
            learning.step,
            self._stream(ACT, acting.acts),
            "explore",
        )
        env_state, now = self.envs.step(state.envs, action, self._stream(ENV_STEP, acting.acts))
        last = now.terminated | now.truncated
        row = chunk_row(state.obs, state.first, action, extras, now, last, active)
        row = row._replace(discount=tf.cast(row.discount, tf.float32))
        acting = Acting(actor, acting.acts + 1)
        state = state._replace(
            loop=LoopState(acting, learning), envs=env_state, obs=now.obs, first=last
        )
        return state, row

    def _stream(self, number: int, counter) -> tf.Tensor:
        """Returns the seed of one call in one of the run's random streams."""
        return rng.fold_in(rng.fold_in(self._seed, number), counter)

    def _fault(self, bad: np.ndarray) -> FloatingPointError:
        update = int(self.state.loop.learning.chunks)
        metrics, envs = bad[: len(self._tags)], bad[len(self._tags) :]
        if envs.any():
            return FloatingPointError(
                f"Environment {envs.argmax()} returned a reward or an observation that is not a "
                f"finite number, before update {update}. The last checkpoint is good."
            )
        names = [tag for tag, is_bad in zip(self._tags, metrics, strict=True) if is_bad]
        return diverged(", ".join(names), update)


def _count(state: GraphState, sums: Sums, row: Chunk, active) -> tuple[GraphState, Sums]:
    """Adds a row to the returns and lengths of the running episodes; sums up those that end."""
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
    return state, sums


def total(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum as float64."""
    return tf.reduce_sum(tf.cast(values, tf.float64))


def finite_envs(values: tf.Tensor) -> tf.Tensor:
    """Returns for each environment whether all its numbers [T, N, ...] are finite."""
    axes = [axis for axis in range(len(values.shape)) if axis != 1]
    return tf.reduce_all(tf.math.is_finite(values), axis=axes)
