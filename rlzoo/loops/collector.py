"""The collector of the host loop: steps environments by an agent's actor, chunk after chunk."""

from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.envs.base import Envs
from rlzoo.loops.base import Acting, Episodes, chunk_fields, chunk_row, initial_acting
from rlzoo.loops.compiled import compile_act
from rlzoo.loops.learner import Collected, Packing
from rlzoo.loops.light import NumpyActor
from rlzoo.ops import rng
from rlzoo.ops.streams import ACT
from rlzoo.spaces import filled, leaves, write_row


class Collector:
    """Collects chunks of experience.

    Nothing of it learns: it may stand in another process than the learner, given the variables of
    the actor and `acting` from time to time.

    Args:
        agent: whose actor acts.
        envs: from `make_envs`.
        seed: of what the actor draws.
    """

    def __init__(self, agent: Agent, envs: Envs, seed: int):
        self.agent = agent
        self.envs = envs
        self._seed = seed
        self.acting = initial_acting(agent, envs.num_envs)
        self.episode_return = np.zeros(envs.num_envs)  # of the running episodes
        self.episode_length = np.zeros(envs.num_envs, np.int64)
        self.first = np.ones(envs.num_envs, bool)
        self.obs: Any = None if agent.traits.whole_episodes else envs.reset()
        packing = Packing(agent, envs.num_envs)
        self._rows = np.zeros(packing.num_bytes, np.uint8)  # of the chunk at hand
        self.chunk = packing.views(self._rows)  # overwritten by the next one
        self._fields = self.chunk[: len(chunk_fields(agent, envs.num_envs))]  # those that have rows
        self.light: NumpyActor | None = None  # acts in NumPy, where agent and strategy allow it
        self.follow()

    @property
    def acting(self) -> Acting:
        """What is carried from step to step; its tensors are `tensors`."""
        return tf.nest.pack_sequence_as(self._structure, self.tensors)

    @acting.setter
    def acting(self, acting: Acting) -> None:
        self._structure = acting
        self.tensors = tf.nest.flatten(acting)
        self._remembered = len(tf.nest.flatten(acting.actor.memory))  # the first of them

    def follow(self) -> None:
        """Takes up the actor's strategy as it is now; its own state begins anew."""
        fits = NumpyActor.fits(self.agent)
        self.light = NumpyActor(self.agent, self.envs.num_envs) if fits else None
        fresh = self.agent.actor.init(self.envs.num_envs).exploration
        acting = self.acting
        self.acting = acting._replace(actor=acting.actor._replace(exploration=fresh))

    def compile(self, step: tf.Tensor) -> None:
        """Prepares acting; XLA compiles it when it is first called."""
        if self.light is None:
            num_envs = self.envs.num_envs
            self._act = compile_act(self.agent, num_envs, self._seed, "explore", record=True)
        self.prepare(step)

    def prepare(self, step: tf.Tensor, anew: bool = False) -> None:
        """Gives what acts in NumPy what it needs for the next chunk, if no update has done so.

        Args:
            step: [] int64, environment steps learned from.
            anew: whether the weights are others than an update has told.
        """
        if self.light is not None and (anew or not self.light.packed.size):
            stream = rng.fold_in(rng.from_int(self._seed), ACT)
            self.light.unpack(self.light.pack(step, self.acting.acts, stream).numpy())

    def collect(self, step: tf.Tensor, version: tf.Tensor) -> tuple[Collected, int, list[Episodes]]:
        """Steps the environments through one chunk; whole episodes are padded to its length.

        Args:
            step: [] int64, environment steps that the weights have learned from.
            version: [] int64, updates that they have gone through.

        Returns:
            The chunk for the learner; how many steps are in it; the episodes that ended.
        """
        envs, whole = self.envs, self.agent.traits.whole_episodes
        start = self.tensors[: self._remembered]
        episodes: list[Episodes] = []
        active = None
        if whole:
            self._rows.fill(0)
            self.obs, active = envs.reset(), ~envs.retired
            self.first = np.ones(envs.num_envs, bool)
        for t in range(self.agent.chunk_length):
            action, extras = self._choose(t, step)
            now = envs.step(action, active)
            last = now.terminated | now.truncated
            if active is not None and t + 1 == self.agent.chunk_length:
                last |= active  # an episode that goes on past the limit its environment states
            taken = ~envs.lost if active is None else active & ~envs.lost
            row = chunk_row(self.obs, self.first, action, extras, now, last, taken)
            for rows, values in zip(self._fields, row, strict=False):
                write_row(rows, t, values)
            self.episode_return += now.reward
            self.episode_length += taken
            if last.any():
                ended = last & ~envs.lost
                lengths = self.episode_length[ended].tolist()
                returns = self.episode_return[ended].tolist()
                episodes += map(Episodes, returns, lengths)
                self.episode_return[last] = 0.0
                self.episode_length[last] = 0
            self.obs, self.first = now.obs, last
            if active is not None:
                active &= ~last
                if not active.any():
                    break
        steps = int(np.count_nonzero(self.chunk.valid))
        return Collected(tf.constant(self._rows), start, version, self.tensors), steps, episodes

    def _choose(self, t: int, step: tf.Tensor) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns actions [N] and what acting knew, for row t of a chunk."""
        if self.light is not None:
            return self.light(self.obs, t)
        extras, seen = self.agent.actor.extras, map(tf.constant, leaves(self.obs))
        action, *told = self._act(*self.tensors, step, *seen, tf.constant(self.first))
        self.tensors = told[len(extras) :]
        return action.numpy(), filled(extras, (x.numpy() for x in told))
