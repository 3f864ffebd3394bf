"""Reinforcement learning for people who live in TensorFlow and Keras.

The names below are looked up when they are first used, so that `import rlzoo` (in a worker
process, say) imports neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlzoo.train.evaluate import evaluate_run as evaluate
    from rlzoo.train.run import Run, load, resume, train

__all__ = ["Run", "evaluate", "load", "resume", "train"]

_EXPORTS = {
    "Run": ("rlzoo.train.run", "Run"),
    "evaluate": ("rlzoo.train.evaluate", "evaluate_run"),
    "load": ("rlzoo.train.run", "load"),
    "resume": ("rlzoo.train.run", "resume"),
}


def __getattr__(name: str) -> Any:
    if name == "train":  # the package, which can be called
        return importlib.import_module("rlzoo.train")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rlzoo' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
