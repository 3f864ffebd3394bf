"""Reinforcement learning for people who live in TensorFlow and Keras.

The names below are looked up when they are first used, so that `import rlzoo` (in a worker
process, say) imports neither TensorFlow nor Keras.
"""

import importlib
import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

from rlzoo import quiet

if TYPE_CHECKING:
    from rlzoo.pretraining.run import Pretrained, pretrain, resume_pretraining
    from rlzoo.reports.plot import plot
    from rlzoo.runs.policy import Policy, evaluate, load, record
    from rlzoo.runs.run import Run, resume, train
    from rlzoo.runs.seeds import SeedsFailed, resume_seeds, train_seeds
    from rlzoo.runs.stop import Interrupted
    from rlzoo.runs.transfer import load_torso

    __version__: str

__all__ = [
    "Interrupted",
    "Policy",
    "Pretrained",
    "Run",
    "SeedsFailed",
    "evaluate",
    "load",
    "load_torso",
    "plot",
    "pretrain",
    "record",
    "resume",
    "resume_pretraining",
    "resume_seeds",
    "train",
    "train_seeds",
]

_MODULES = {
    "rlzoo.reports.plot": ("plot",),
    "rlzoo.runs.policy": ("Policy", "evaluate", "load", "record"),
    "rlzoo.pretraining.run": ("Pretrained", "pretrain", "resume_pretraining"),
    "rlzoo.runs.run": ("Run", "resume", "train"),
    "rlzoo.runs.seeds": ("SeedsFailed", "resume_seeds", "train_seeds"),
    "rlzoo.runs.stop": ("Interrupted",),
    "rlzoo.runs.transfer": ("load_torso",),
}


quiet.import_quietly()


def __getattr__(name: str) -> Any:
    if name == "__version__":  # setup.cfg has it
        return importlib.metadata.version("rlzoo-tf")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'rlzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


# A program that has Keras finds our layers there, so that `keras.saving.load_model` reads a network
# of ours; one that has not pays nothing.
if {"keras", "tensorflow"} <= sys.modules.keys():
    importlib.import_module("rlzoo.networks")
