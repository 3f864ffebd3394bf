"""A collector in a process of its own, for `test_collector`."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import tensorflow as tf

from rlzoo.agents import acting_variables
from rlzoo.envs import make_envs
from rlzoo.loops.collector import Collector
from tests.helpers import assign


def serve(connection: Connection, env: Any, num_envs: int, make: Callable, seed: int) -> None:
    """Collects a chunk whenever it is told weights, step, version and what to go on with."""
    envs = make_envs(env, num_envs, seed)
    agent = make(envs.spec)
    collector = Collector(agent, envs, seed)
    collector.compile(tf.constant(0, tf.int64))
    while (told := connection.recv()) is not None:
        weights, step, version, acting = told
        assign(acting_variables(agent), weights)
        if acting is not None:
            collector.tensors = [tf.constant(x) for x in acting]
        step, version = (tf.constant(x, tf.int64) for x in (step, version))
        collector.prepare(step, anew=True)
        collected, steps, episodes = collector.collect(step, version)
        connection.send((tf.nest.map_structure(np.asarray, collected), steps, episodes))
    envs.close()
