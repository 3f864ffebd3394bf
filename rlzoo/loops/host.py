"""The host loop: steps Gymnasium environments in Python, learns in compiled TensorFlow."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.envs.base import Envs
from rlzoo.loops.compiled import (
    Compiled,
    Episodes,
    LoopState,
    Report,
    adopt,
    chunk_fields,
    chunk_row,
    compile_act,
    diverged,
    initial_state,
    tensor_specs,
    uses_xla,
)
from rlzoo.loops.light import NumpyActor
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT, UPDATE
from rlzoo.spaces import Discrete, Layout, filled, items, leaves, map_leaves, write_row
from rlzoo.types import Chunk


class Packing:
    """Lays the fields of a chunk out in one array of bytes.

    Handing an array over to TensorFlow costs as much as a layer of a small network: so one, not
    nine.

    Args:
        agent: whose chunks they are.
        num_envs: N.
    """

    def __init__(self, agent: Agent, num_envs: int):
        self._layout = Layout(chunk_fields(agent, num_envs))
        self.num_bytes = self._layout.num_bytes

    def views(self, data: np.ndarray) -> Chunk:
        """Returns the fields as views of an array of `num_bytes` uint8."""
        return Chunk(**self._layout.views(data))

    def unpack(self, data: tf.Tensor) -> Chunk:
        """Returns the fields of such an array, in a compiled function."""

        def read(part: tuple[int, int, tuple[int, ...], np.dtype]):
            start, end, shape, dtype = part
            piece = data[start:end]
            if dtype == np.bool_:
                return tf.reshape(piece, shape) != 0
            if dtype.itemsize > 1:
                piece = tf.reshape(piece, (-1, dtype.itemsize))
            return tf.reshape(tf.bitcast(piece, dtype), shape)

        return Chunk(**map_leaves(read, self._layout.parts))


def compile_update(
    agent: Agent, num_envs: int, seed: int, actor: NumpyActor | None = None
) -> tuple[Compiled, list[str]]:
    """Compiles (LoopState, packed chunk) -> (metrics [M], LoopState), and names the metrics.

    With an actor, the acts of the next chunk are counted here, and what it needs for them comes
    behind the metrics.
    """
    stream = rng.fold_in(rng.from_int(seed), UPDATE)
    acting = rng.fold_in(rng.from_int(seed), ACT)
    tags: list[str] = []

    packing = Packing(agent, num_envs)

    def update(state: LoopState, data):
        chunk = packing.unpack(data)
        seed = rng.fold_in(stream, state.chunks)
        agent_state, metrics = agent.update(state.agent, chunk, seed)
        tags[:] = sorted(metrics)
        values = tf.stack([tf.cast(metrics[tag], tf.float32) for tag in tags])
        state = LoopState(agent_state, state.acts, state.chunks + 1)
        if actor is not None:
            state = state._replace(acts=state.acts + agent.chunk_length)
            values = tf.concat([values, actor.pack(state.agent.step, state.acts, acting)], axis=0)
        return values, state

    data = tf.TensorSpec([packing.num_bytes], tf.uint8)
    state = tensor_specs(initial_state(agent, num_envs))
    return Compiled(update, state, data, xla=uses_xla(agent)), tags


class HostLoop:
    """Collects chunks from environments and lets an agent learn from them.

    Give `agent.exploration` another strategy at any time: the next chunk follows it.

    Args:
        agent: the learner.
        envs: from `make_envs`.
        seed: of the run; acting and learning draw from streams of their own.
    """

    def __init__(self, agent: Agent, envs: Envs, seed: int):
        self.agent = agent
        self.envs = envs
        self._seed = seed
        self._strategy = agent.exploration  # the one that the state is of
        self.state = initial_state(agent, envs.num_envs)
        self.episode_return = np.zeros(envs.num_envs)  # of the running episodes
        self.episode_length = np.zeros(envs.num_envs, np.int64)
        self.first = np.ones(envs.num_envs, bool)
        self.obs: Any = envs.reset() if not agent.whole_episodes else None
        packing = Packing(agent, envs.num_envs)
        self._data = np.zeros(packing.num_bytes, np.uint8)  # the chunk at hand
        self._chunk = packing.views(self._data)
        self._actor = self._make_actor()
        self._compiled = False  # done when first needed
        self._lent: dict[str, Any] | None = None  # the environments' state while others use them

    def _follow(self) -> None:
        """Takes up `agent.exploration` where it is another than before.

        Another strategy starts with a state of its own; all else goes on.
        """
        if self._strategy is not self.agent.exploration:
            self._strategy = self.agent.exploration
            fresh = self.agent.init(self.envs.num_envs).exploration
            self.state = self.state._replace(agent=self.state.agent._replace(exploration=fresh))
            self._actor = self._make_actor()
            self._compiled = False

    def compile(self) -> None:
        """Prepares act and update; XLA compiles them when they are first called."""
        agent, num_envs, seed = self.agent, self.envs.num_envs, self._seed
        self._update, self._tags = compile_update(agent, num_envs, seed, self._actor)
        if self._actor is None:
            self._act = compile_act(agent, num_envs, seed, explore=True, record=True)
        self._prepare_actor()
        self._compiled = True

    def _make_actor(self) -> NumpyActor | None:
        """Returns what acts in NumPy, if this agent can be mirrored there."""
        fits = NumpyActor.fits(self.agent)
        return NumpyActor(self.agent, self.envs.num_envs) if fits else None

    def _prepare_actor(self) -> None:
        """Gives an actor that has not acted yet what it needs for the next chunk."""
        if self._actor is not None and not self._actor.packed.size:
            stream = rng.fold_in(rng.from_int(self._seed), ACT)
            packed = self._actor.pack(self.state.agent.step, self.state.acts, stream)
            self._actor.unpack(packed.numpy())

    def run_chunk(self) -> Report:
        """Collects one chunk and learns from it.

        Raises:
            FloatingPointError: a metric is not finite.
        """
        self._follow()
        if not self._compiled:
            self.compile()
        chunk, episodes = self._collect()
        values, *self._tensors = self._update(*self._tensors, tf.constant(self._data))
        values = values.numpy()
        metrics = values[: len(self._tags)]
        if self._actor is not None:
            self._actor.unpack(values[len(self._tags) :])
        report = Report(
            int(np.count_nonzero(chunk.valid)),
            [Episodes(*episode) for episode in episodes],
            dict(zip(self._tags, metrics.tolist(), strict=True)),
        )
        if not np.isfinite(metrics).all():
            bad = {tag: value for tag, value in report.metrics.items() if not np.isfinite(value)}
            raise diverged(str(bad), int(self.state.chunks))
        return report

    def _collect(self) -> tuple[Chunk, list[tuple[float, int]]]:
        """Steps the environments through one chunk; whole episodes are padded to its length.

        The arrays of the chunk are overwritten by the next one.
        """
        envs, num_envs, chunk = self.envs, self.envs.num_envs, self._chunk
        episodes: list[tuple[float, int]] = []
        active = None
        if self.agent.whole_episodes:
            self._data.fill(0)
            self.obs, active = envs.reset(), ~envs.retired
            self.first = np.ones(num_envs, bool)
        for t in range(self.agent.chunk_length):
            action, extras = self._choose(t)
            step = envs.step(action, active)
            last = step.terminated | step.truncated
            if active is not None and t + 1 == self.agent.chunk_length:
                last |= active  # an episode that goes on past the limit its environment states
            taken = ~envs.lost if active is None else active & ~envs.lost
            row = chunk_row(self.obs, self.first, action, extras, step, last, taken)
            for rows, values in zip(chunk, row, strict=True):
                write_row(rows, t, values)
            self.episode_return += step.reward
            self.episode_length += taken
            if last.any():
                ended = last & ~envs.lost
                lengths = self.episode_length[ended].tolist()
                episodes += zip(self.episode_return[ended].tolist(), lengths, strict=True)
                self.episode_return[last] = 0.0
                self.episode_length[last] = 0
            self.obs, self.first = step.obs, last
            if active is not None:
                active &= ~last
                if not active.any():
                    break
        return chunk, episodes

    def _choose(self, t: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns actions [N] and what acting knew, for row t of a chunk."""
        if self._actor is not None:
            return self._actor(self.obs, t)
        seen = map(tf.constant, leaves(self.obs))
        action, *told = self._act(*self._tensors, *seen, tf.constant(self.first))
        self._tensors = told[len(self.agent.extras) :]
        return action.numpy(), filled(self.agent.extras, (x.numpy() for x in told))

    @property
    def state(self) -> LoopState:
        """What the loop carries besides variables and environments."""
        return tf.nest.pack_sequence_as(self._structure, self._tensors)

    @state.setter
    def state(self, state: LoopState) -> None:
        self._structure = state
        self._tensors = tf.nest.flatten(state)

    @property
    def agent_step(self) -> int:
        """Environment steps that the agent has learned from."""
        return int(self.state.agent.step)

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
        self._replay(self._lent, self.obs)
        self._lent = None

    def _replay(
        self,
        state: dict[str, Any],
        expected_obs: Any,
        on_step: Callable[[int], None] = lambda t: None,
    ) -> None:
        obs = self.envs.set_state(state, expected_obs, on_step)
        self.obs = None if self.agent.whole_episodes else obs

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns all that a checkpoint needs to go on from here: arrays, and plain values."""
        self._follow()
        self._prepare_actor()
        arrays = {f"state/{i}": tensor.numpy() for i, tensor in enumerate(self._tensors)}
        arrays |= {name: value.numpy() for name, value in self.agent.variables().items()}
        envs = dict(self._lent or self.envs.get_state())
        actions = envs.pop("actions")
        envs["lengths"] = [len(row) for row in actions]
        shape, dtype = self._actions_field(sum(envs["lengths"]))
        arrays["loop/actions"] = np.empty(shape, dtype)  # of all running episodes in a row
        end = 0
        for row in actions:
            arrays["loop/actions"][end : end + len(row)] = np.reshape(row, (-1, *shape[1:]))
            end += len(row)
        arrays["loop/episode_return"] = self.episode_return
        arrays["loop/episode_length"] = self.episode_length
        arrays["loop/first"] = self.first
        if self._actor is not None:
            arrays["loop/actor"] = self._actor.packed
        if not self.agent.whole_episodes:  # these start with a reset
            arrays |= dict(items(self.obs, "loop/obs"))
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
        arrays |= {name: value.numpy() for name, value in self.agent.variables().items()}
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
        self.obs = None if self.agent.whole_episodes else obs

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
        self._tensors = [tf.constant(arrays[f"state/{i}"]) for i in range(len(self._tensors))]
        for name, variable in self.agent.variables().items():
            variable.assign(arrays[name])
        self.episode_return = arrays["loop/episode_return"].copy()
        self.episode_length = arrays["loop/episode_length"].copy()
        self.first = arrays["loop/first"].copy()
        if self._actor is not None:
            self._actor.unpack(arrays["loop/actor"])
        obs = None
        if not self.agent.whole_episodes:
            space = self.agent.spec.obs
            obs = filled(space, [arrays[path] for path, _ in items(space, "loop/obs")])
        self._replay(envs, obs, on_step)
