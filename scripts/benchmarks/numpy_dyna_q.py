"""Tabular Dyna-Q on the Dyna maze in plain Python and NumPy: the reference for the compiled one.

Written as a textbook would: the box "Tabular Dyna-Q" in Sutton & Barto, 2nd ed., section 8.2.
"""

import time

import numpy as np

from rlzoo.envs.maze import DynaMaze

ALPHA, GAMMA, EPSILON, PLANNING_STEPS = 0.1, 0.95, 0.1, 50


class DynaQ:
    """The agent with its table, its model and its maze."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.env = DynaMaze()
        self.state, _ = self.env.reset()
        self.q = np.zeros((54, 4))
        self.model = {}  # (state, action): (reward, next state, terminated)
        self.known = []  # the keys of the model

    def step(self) -> None:
        """Takes a step in the maze, learns from it and plans."""
        if self.random.random() < EPSILON:
            action = int(self.random.integers(4))
        else:
            row = self.q[self.state]
            action = int(self.random.choice(np.flatnonzero(row == row.max())))
        pair = self.state, action
        next_state, reward, terminated, _, _ = self.env.step(action)
        if pair not in self.model:
            self.known.append(pair)
        self.model[pair] = reward, next_state, terminated
        self.backup(pair)
        for index in self.random.integers(len(self.known), size=PLANNING_STEPS):
            self.backup(self.known[index])
        self.state = self.env.reset()[0] if terminated else next_state

    def backup(self, pair: tuple[int, int]) -> None:
        """Moves the value of a pair towards what the model says of it."""
        reward, next_state, terminated = self.model[pair]
        target = reward + (0.0 if terminated else GAMMA * self.q[next_state].max())
        self.q[pair] += ALPHA * (target - self.q[pair])


def measure(steps_before: int, steps: int, seed: int) -> list[tuple[float, int]]:
    """Returns the notes [time in s, 0] before and after `steps` steps in the maze."""
    agent = DynaQ(seed)
    for _ in range(steps_before):
        agent.step()
    notes = [(time.perf_counter(), 0)]
    for _ in range(steps):
        agent.step()
    return [*notes, (time.perf_counter(), 0)]


if __name__ == "__main__":
    (first, _), (last, _) = measure(1_000, 5_000, seed=0)
    print(f"{5_000 * PLANNING_STEPS / (last - first):,.0f} planning backups/s")
