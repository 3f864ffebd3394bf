"""Every agent in `AGENTS` learns the same in every loop: number by number, from the same seed.

The host loop steps the environments from Python; the graph loop runs them, acting and learning in
one program, here both as a plain TensorFlow graph and compiled by XLA.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlzoo.agents import AGENTS, variables
from rlzoo.envs.ports import make_ported_envs
from rlzoo.loops import graph
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.networks import lstm
from rlzoo.spaces import Normalization
from tests.helpers import PortEnvs, arrays, make_agent

SEED, NUM_ENVS, NUM_CHUNKS = 3, 2, 200
ENVS = {
    "floats": ("CartPole-v1", {"max_episode_steps": 12}),
    "normalized": ("CartPole-v1", {"max_episode_steps": 12}),
    "stacked": ("CartPole-v1", {"max_episode_steps": 12}),
    "states": ("rlzoo/BlockingMaze-v0", {"max_episode_steps": 12, "change_after": 150}),
    "memory": ("rlzoo/Memory-v0", {"delay": 3}),
}


class Plain:
    """`Compiled` without XLA."""

    def __init__(self, function, *specs: Any):
        self._specs = specs
        self._function = tf.function(function, autograph=False).get_concrete_function(*specs)

    def __call__(self, *tensors):
        return tf.nest.flatten(self._function(*tf.nest.pack_sequence_as(self._specs, tensors)))


class Learned(NamedTuple):
    """What a loop did in `NUM_CHUNKS` chunks."""

    actions: np.ndarray  # [chunks, T, N], -1 where not valid
    variables: dict[str, np.ndarray]
    steps: int
    episodes: tuple[float, float, int]  # sums of returns and lengths, and how many
    metrics: dict[str, float]  # means


def record_actions(agent) -> tf.Variable:
    """Makes an agent write down the actions of all chunks that it learns from."""
    taken = tf.Variable(tf.fill([NUM_CHUNKS, agent.chunk_length, NUM_ENVS], -1))
    count, update = tf.Variable(0), agent.update

    def recording(state, chunk, step, seed):
        actions = tf.where(chunk.valid, chunk.action, -1)
        taken.scatter_nd_update([[count]], [actions])
        count.assign_add(1)
        return update(state, chunk, step, seed)

    agent.update = recording
    return taken


def learn(make, env: str, in_graph: bool, steps: float = np.inf) -> Learned:
    """Trains for `NUM_CHUNKS` chunks, or for some steps."""
    env_id, env_kwargs = ENVS[env]
    ported = make_ported_envs(env_id, NUM_ENVS, env_kwargs)
    agent = make(ported.spec)
    taken = record_actions(agent)
    if in_graph:
        reports = [GraphLoop(agent, ported, SEED).run(steps)]
    else:
        envs: Any = PortEnvs(ported, SEED)
        loop = HostLoop(agent, envs, SEED)
        reports = [loop.run() for _ in range(NUM_CHUNKS)]
    sums = np.zeros(3)
    for e in (e for report in reports for e in report.episodes):
        sums += np.multiply(e.num_episodes, (e.mean_return, e.mean_length, 1))
    updates = [report.metrics["updates"] for report in reports]
    metrics = {"updates": sum(updates)}
    for tag in reports[0].metrics.keys() - metrics:
        weights = updates if graph.is_learned(tag) else [report.chunks for report in reports]
        metrics[tag] = np.average([report.metrics[tag] for report in reports], weights=weights)
    taken_steps = sum(report.steps for report in reports)
    return Learned(taken.numpy(), arrays(variables(agent)), taken_steps, tuple(sums), metrics)


def difference(one: Learned, other: Learned) -> float:
    """Returns the largest difference between variables."""
    assert one.variables.keys() == other.variables.keys()
    return max(
        np.abs(value.astype(float) - other.variables[name]).max(initial=0)
        for name, value in one.variables.items()
    )


def cases():
    for name, entry in AGENTS.items():
        classes = entry.values() if isinstance(entry, dict) else [entry]
        for env in ENVS:
            if env == "memory" and not all(cls.traits.recurrent for cls in classes):
                continue  # a torso that it refuses: see test_agents
            known = {("reinforce", "normalized"), ("dqn", "stacked")}
            quick = (name, env) in known or env == (
                "states" if isinstance(entry, dict) else "floats"
            )
            marks = () if quick else pytest.mark.slow
            yield pytest.param(name, env, marks=marks, id=f"{name}-{env}")


@pytest.mark.parametrize(("name", "env"), list(cases()))
def test_host_loop_plain_graph_and_xla_agree(name, env, monkeypatch):
    def make(spec):
        keras.utils.set_random_seed(0)  # what the LSTM has for dropout, not drawn from here
        if env == "normalized":
            spec = spec._replace(normalize=Normalization(obs=True, reward=True))
        if env == "stacked":
            spec = spec._replace(frames=3)
        return make_agent(name, spec, **({"torso": lstm(4, seed=0)} if env == "memory" else {}))

    host = learn(make, env, in_graph=False)
    xla = learn(make, env, in_graph=True, steps=host.steps)
    monkeypatch.setattr(graph, "Compiled", Plain)
    plain = learn(make, env, in_graph=True, steps=host.steps)
    keras.backend.clear_session()
    for loop in (plain, xla):
        np.testing.assert_array_equal(loop.actions, host.actions)
        assert loop.steps == host.steps
        assert loop.episodes == pytest.approx(host.episodes)
        assert loop.metrics == pytest.approx(host.metrics, rel=1e-4, abs=1e-4)
        assert difference(host, loop) <= 1e-5
    assert host.metrics["updates"] >= 190
