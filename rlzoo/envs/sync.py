"""Environments stepped one after the other, in this process."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlzoo.envs.base import Envs
from rlzoo.envs.making import RAISED
from rlzoo.envs.slot import Fault, MakeEnv, Slot, fault


class SyncEnvs(Envs):
    """N environments stepped one after the other, in this process. See `make_envs`."""

    def __init__(self, make: MakeEnv, *args: Any):
        super().__init__(make, *args)
        self._slots = [Slot(make, self.obs_space, self.action_space) for _ in range(self.num_envs)]

    def open(self) -> None:
        """Makes the environments now, else they are made at their first reset."""
        for slot in self._slots:
            slot.open()

    def close(self) -> None:
        """Closes every environment. May be called again."""
        for slot in self._slots:
            slot.close()

    def _reset_envs(
        self, indices: Sequence[int], seeds: Sequence[int], obs: np.ndarray
    ) -> dict[int, Fault]:
        faults: dict[int, Fault] = {}
        for i, seed in zip(indices, seeds, strict=True):
            try:
                obs[i] = self._slots[i].reset(seed, i in self._remake, self._lifetime[i])
            except RAISED as error:
                faults[i] = fault(error)
        return faults

    def _step_envs(
        self,
        indices: Sequence[int],
        actions: Sequence[int],
        obs: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> tuple[dict[int, Fault], list[int]]:
        faults: dict[int, Fault] = {}
        ended = []
        slots = self._slots
        for i in indices:
            try:
                obs[i], reward[i], over, cut = slots[i].step(actions[i])
            except RAISED as error:
                faults[i] = fault(error)
                continue
            if over or cut:
                terminated[i] = over
                truncated[i] = cut
                ended.append(i)
        return faults, ended
