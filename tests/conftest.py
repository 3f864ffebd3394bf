"""Defaults that make the tests quick and quiet. Set before TensorFlow is first imported."""

import importlib.util
import os

for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "1",  # small networks lose more by handing over than they gain
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEODRIVER": "dummy",
}.items():
    os.environ.setdefault(_name, _value)

# TF-Agents, where it is installed, needs Keras 2 as tf.keras. rlzoo itself imports keras only.
if importlib.util.find_spec("tf_agents") is not None:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
