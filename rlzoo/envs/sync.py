"""Environments stepped one after the other, in this process."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlzoo.envs.base import Envs
from rlzoo.envs.making import RAISED
from rlzoo.envs.slot import Fault, MakeEnv, Slot, fault
from rlzoo.spaces import write_row


class SyncEnvs(Envs):
    """N environments stepped one after the other, in this process. See `make_envs`."""

    def __init__(self, make: MakeEnv, *args: Any):
        super().__init__(make, *args)
        self._slots = [Slot(make, self.probe) for _ in range(self.num_envs)]

    def open(self) -> None:
        """Makes the environments now, else they are made at their first reset."""
        for slot in self._slots:
            slot.open()

    def close(self) -> None:
        """Closes every environment. May be called again."""
        for slot in self._slots:
            slot.close()

    def _reset_envs(
        self, indices: Sequence[int], seeds: Sequence[int], obs: Any
    ) -> dict[int, Fault]:
        faults: dict[int, Fault] = {}
        for i, seed in zip(indices, seeds, strict=True):
            try:
                slot = self._slots[i]
                seen = slot.reset(seed, i in self._remake, self._lifetime[i])
                write_row(obs, i, seen)
            except RAISED as error:
                faults[i] = fault(error)
        return faults

    def _step_envs(
        self,
        indices: Sequence[int],
        actions: Sequence[int],
        obs: Any,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> tuple[dict[int, Fault], list[int]]:
        faults: dict[int, Fault] = {}
        ended = []
        slots = self._slots
        for i in indices:
            try:
                seen, reward[i], over, cut = slots[i].step(actions[i])
                write_row(obs, i, seen)
            except RAISED as error:
                faults[i] = fault(error)
                continue
            if over or cut:
                terminated[i] = over
                truncated[i] = cut
                ended.append(i)
        return faults, ended
