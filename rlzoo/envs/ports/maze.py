"""The mazes of the Dyna papers, those that change included."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf


class MazeState(NamedTuple):
    """Where the agent is, and the age of its world, each [N] int32."""

    cell: tf.Tensor
    age: tf.Tensor  # steps over all episodes, counted until the walls change


class Maze:
    """rlzoo's DynaMaze, BlockingMaze and ShortcutMaze, as a table of successors."""

    def __init__(self, env: gymnasium.Env):
        source: Any = env
        self._changes = hasattr(source, "lifetime_steps")
        self._change_after = source.change_after
        self._start, self._goal = (
            row * source.columns + column for row, column in (source.start, source.goal)
        )
        cells = list(np.ndindex(source.rows, source.columns))
        self._num_pairs = 4 * len(cells)
        successors = [
            source.successor(cell, action, walls)
            for walls in (source.walls, source.later_walls)
            for cell in cells
            for action in range(4)
        ]
        self._successor = np.array(  # [2 * S * A]: before the change, after it
            [row * source.columns + column for row, column in successors], np.int32
        )

    def reset(self, seed, num_envs: int) -> MazeState:
        """Returns N agents on the start cell, in new mazes."""
        return MazeState(tf.fill([num_envs], self._start), tf.zeros([num_envs], tf.int32))

    def keep(self, fresh: MazeState, old: MazeState) -> MazeState:
        """Returns the fresh states in mazes as old as they are."""
        return fresh._replace(age=old.age)

    def lifetime_steps(self, state: MazeState) -> list[int]:
        """Returns the age of each maze that changes; it ages no more when it has."""
        return state.age.numpy().tolist() if self._changes else []

    def observe(self, state: MazeState) -> tf.Tensor:
        """Returns the cells [N] int64."""
        return tf.cast(state.cell, tf.int64)

    def step(self, state: MazeState, action, seed):
        """Moves up (0), right (1), down (2) or left (3)."""
        changed = tf.cast(state.age >= self._change_after, tf.int32)
        cell = tf.gather(self._successor, changed * self._num_pairs + state.cell * 4 + action)
        at_goal = cell == self._goal
        age = tf.minimum(state.age + 1, self._change_after)  # cannot overflow
        return MazeState(cell, age), tf.cast(at_goal, tf.float32), at_goal
