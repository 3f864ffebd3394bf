"""Reinforcement learning for people who live in TensorFlow and Keras.

The names below are looked up when they are first used, so that `import rlzoo` (in a worker
process, say) imports neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlzoo.train.run import Interrupted, Policy, Run, evaluate, load, record, resume, train

__all__ = ["Interrupted", "Policy", "Run", "evaluate", "load", "record", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":  # the package, which can be called
        return importlib.import_module("rlzoo.train")
    if name in __all__:
        return getattr(importlib.import_module("rlzoo.train.run"), name)
    raise AttributeError(f"module 'rlzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
