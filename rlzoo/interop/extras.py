"""Is TF-Agents there, and can it be imported? Imports the standard library only."""

import importlib.util
import os
import sys
from typing import Any

PREFIX = "tf_agents."
INSTALL = "pip install tf-agents==0.19.0 'tf-keras>=2.21'"  # as the extra of that name

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


class TFAgentsUnavailableError(ImportError, ValueError):
    """TF-Agents cannot be used here; the message says what to do."""


def prepare() -> None:
    """Makes `tf.keras` the Keras 2 that TF-Agents needs; `import keras` stays Keras 3.

    Raises:
        TFAgentsUnavailableError: Python is too new, the extra is not installed, or TensorFlow
            was imported before with Keras 3 as `tf.keras`.
    """
    if sys.version_info >= (3, 12):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise TFAgentsUnavailableError(
            f"TF-Agents 0.19.0 needs Python 3.11 or older, this is Python {version}. Use a Python "
            "3.11 for it; everything else in rlzoo works here."
        )
    missing = [name for name in ("tf_agents", "tf_keras") if not _is_installed(name)]
    if missing:
        raise TFAgentsUnavailableError(f"{' and '.join(missing)} missing. Run: {INSTALL}")
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is None:
        os.environ[_LEGACY_KERAS] = "1"
    elif os.environ.get(_LEGACY_KERAS) != "1" or not _is_keras_2(tensorflow):
        raise TFAgentsUnavailableError(
            "TensorFlow was imported before with Keras 3 as tf.keras, and TF-Agents needs Keras 2 "
            "there. Put this line before the first import of tensorflow: "
            f'import os; os.environ["{_LEGACY_KERAS}"] = "1"'
        )


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _is_keras_2(tensorflow: Any) -> bool:
    return tensorflow.keras.layers.Layer.__module__.startswith("tf_keras")
