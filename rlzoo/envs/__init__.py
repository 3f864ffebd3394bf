"""Gymnasium environments: ours, and the vector layer that steps anybody's. No TensorFlow here.

Importing this package registers our own environments with Gymnasium.
"""

from rlzoo.envs.check import check_env
from rlzoo.envs.making import make_env
from rlzoo.envs.registration import ENVS, register
from rlzoo.envs.sync import SyncEnvs
from rlzoo.envs.vector import make_envs
from rlzoo.envs.workers import AsyncEnvs

__all__ = ["ENVS", "AsyncEnvs", "SyncEnvs", "check_env", "make_env", "make_envs", "register"]

register()
