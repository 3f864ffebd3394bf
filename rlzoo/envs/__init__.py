"""Gymnasium environments: ours, and the vector layer that steps anybody's. No TensorFlow here.

Importing this package registers our own environments with Gymnasium.
"""

from rlzoo.envs.making import make_env
from rlzoo.envs.registration import ENVS, register
from rlzoo.envs.sync import SyncEnvs
from rlzoo.envs.vector import make_envs

__all__ = ["ENVS", "SyncEnvs", "make_env", "make_envs", "register"]

register()
