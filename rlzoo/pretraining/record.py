"""What a pretraining run is told to do."""

import dataclasses
from typing import Any, NamedTuple

from rlzoo.tasks import Task


class PretrainConfig(NamedTuple):
    """What a pretraining run is told to do."""

    name: str  # in TASKS
    task: Task  # its settings
    seed: int

    def plain(self) -> dict[str, Any]:
        """Returns it as `config.yaml` holds it."""
        return {"task": self.name, "seed": self.seed, **dataclasses.asdict(self.task)}  # pyright: ignore
