"""The graph loop: what reaches an agent and a report is what the environments did.

That all three kinds of loop learn the same is tested in tests/conformance/test_loops.py.
"""

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf

from rlzoo.agents import variables
from rlzoo.envs.ports import PortedEnvs, make_ported_envs
from rlzoo.exploration import Exploration, Greedy
from rlzoo.loops.compiled import not_compilable
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.ops import rng
from rlzoo.spaces import Box, Discrete, EnvSpec
from tests.helpers import PortEnvs, arrays, make_agent
from tests.loops.test_host import Recorder
from tests.runs.killed_runs import counting

LIMIT = 5


class CountState(NamedTuple):
    at: tf.Tensor  # [N] int32, steps in this episode
    end: tf.Tensor  # [N] int32, where it terminates: at 3 to 6
    age: tf.Tensor  # [N] int32, steps over all episodes: outlives them


class Count:
    """Rewards step t with t. One environment fails at one step of its life, if asked to."""

    def __init__(self, kind="none", env=0, age=0):
        self.kind, self.env, self.age = kind, env, age

    def reset(self, seed, num_envs):
        zeros = tf.zeros([num_envs], tf.int32)
        return CountState(zeros, 3 + rng.integers(seed, [num_envs], 4), zeros)

    def keep(self, fresh, old):
        return fresh._replace(age=old.age)

    def observe(self, state):
        return tf.cast(tf.stack(state, axis=-1), tf.float32) + self._fault("obs", state)[:, None]

    def step(self, state, action, seed):
        state = state._replace(at=state.at + 1, age=state.age + 1)
        reward = tf.cast(state.at, tf.float32) + self._fault("reward", state)
        return state, reward, state.at >= state.end

    def _fault(self, kind, state):
        fails = (tf.range(state.at.shape[0]) == self.env) & (state.age == self.age)
        return tf.where(fails & (kind == self.kind), np.nan, 0.0)


def counts(num_envs=3, length=10, whole=False, **fault):
    """Returns a loop over `Count`, with an agent that keeps the last chunk."""
    envs = PortedEnvs(Count(**fault), EnvSpec(Box((3,)), Discrete(2), LIMIT), num_envs)
    return GraphLoop(Recorder(envs.spec, num_envs, length, whole), envs, seed=5)


def check_chunk(chunk, before: np.ndarray) -> None:
    """Checks the valid rows [T, N] of a chunk that starts with environments of these ages."""
    at, end, age = np.moveaxis(chunk.obs, -1, 0)
    over, cut = at + 1 >= end, at + 1 == LIMIT
    expected_age = before + np.cumsum(chunk.valid, axis=0) - 1
    next_obs = np.stack([at + 1, end, age + 1], axis=-1)
    for found, expected in (
        (age, expected_age),
        (chunk.reward, at + 1),
        (chunk.first, at == 0),
        (chunk.last, over | cut),
        (chunk.discount, ~over),
        (chunk.next_obs, next_obs),
        (chunk.extras["log_prob"], at + 1),  # acts since the episode's start
    ):
        np.testing.assert_array_equal(found[chunk.valid], expected[chunk.valid])
    going = chunk.valid[1:] & ~chunk.last[:-1]
    np.testing.assert_array_equal(chunk.obs[1:][going], chunk.next_obs[:-1][going])


def check_episodes(report, lengths: np.ndarray) -> None:
    """Checks a report against the lengths of the episodes that ended."""
    (episodes,) = report.episodes
    returns = lengths * (lengths + 1) / 2
    assert episodes == pytest.approx((returns.mean(), lengths.mean(), len(lengths)))


def test_chunks_and_reports_are_what_the_environments_did():
    loop, age, seen = counts(), np.zeros(3), set()
    for number in range(20):
        report = loop.run(30 * (number + 1))
        chunk = loop.agent.chunk()
        assert chunk.valid.all() and (report.steps, report.chunks) == (30, 1)
        check_chunk(chunk, age)
        lengths = chunk.next_obs[chunk.last][:, 0]
        check_episodes(report, lengths)
        age, seen = age + 10, seen | set(lengths)
    assert seen == {3, 4, 5}


@pytest.mark.parametrize("whole", [False, True])
def test_a_call_sums_over_its_chunks(whole):
    one, many = counts(whole=whole), counts(whole=whole)
    report = one.run(600)
    parts = []
    while (step := int(many.state.loop.learning.step)) < 600:
        parts.append(many.run(step + 1))
    assert report.steps == sum(part.steps for part in parts) >= 600
    assert report.chunks == len(parts) == int(one.state.loop.learning.chunks)
    ended = [part.episodes[0] for part in parts]
    (episodes,) = report.episodes
    assert episodes.num_episodes == sum(e.num_episodes for e in ended)
    weights = [e.num_episodes for e in ended]
    means = np.average([e[:2] for e in ended], axis=0, weights=weights)
    assert episodes[:2] == pytest.approx(tuple(means))


def test_counts_and_means_of_a_long_call_are_exact():
    """In float32 these sums would be off from the second chunk on."""
    loop = counts()
    update, many = loop.agent.update, 2**24 - 1

    def counted(state, chunk, step, seed):
        state, _ = update(state, chunk, step, seed)
        step = tf.cast(step, tf.float32) + 30.0
        return state, {
            "updates": tf.constant(float(many)),
            "loss/x": step,
            "value/one": step / step,
        }

    loop.agent.update = counted
    metrics = loop.run(30 * 1_000).metrics
    assert metrics == {
        "updates": many * 1_000,
        "loss/x": pytest.approx(30 * 1_001 / 2, rel=1e-9),
        "value/one": 1.0,
    }


def test_whole_episodes_are_one_per_environment_and_chunk():
    loop, age, seen = counts(whole=True), np.zeros(3), set()
    for _ in range(20):
        acts = int(loop.state.loop.acting.acts)
        report = loop.run(int(loop.state.loop.learning.step) + 1)
        chunk = loop.agent.chunk()
        lengths = chunk.valid.sum(axis=0)
        check_chunk(chunk, age)
        check_episodes(report, lengths)
        assert int(loop.state.loop.acting.acts) - acts == lengths.max(), (
            "a chunk ends with the last one"
        )
        assert report.steps == lengths.sum()
        assert chunk.first[0].all()
        for field in tf.nest.flatten(chunk._replace(start=(), version=())):
            assert not field[~chunk.valid].any()
        for i, length in enumerate(lengths):
            assert chunk.valid[:length, i].all() and chunk.last[length - 1, i]
        age, seen = age + lengths, seen | set(lengths)
    assert seen == {3, 4, 5}


def test_a_call_with_nothing_to_do_does_nothing():
    loop = counts()
    loop.run(30)
    before = loop.get_state()[0]
    for until in (0, 29, 30):
        report = loop.run(until)
        assert (report.steps, report.chunks, report.episodes) == (0, 0, [])
    for name, array in loop.get_state()[0].items():
        np.testing.assert_array_equal(array, before[name])
    assert loop.run(31).steps == 30


def test_nothing_is_traced_after_the_first_call_and_memory_is_flat():
    loop, traces = counts(), []
    act = loop.agent.actor.act

    def counted(*args, **kwargs):
        traces.append("act")
        return act(*args, **kwargs)

    loop.agent.actor.act = counted
    loop.run(30)
    assert len(traces) == 1
    process = psutil.Process()
    for number in range(600):
        loop.run(30 * number)
        if number == 100:
            before = process.memory_info().rss
    assert len(traces) == 1
    assert process.memory_info().rss - before < 2 * 2**20


@pytest.mark.slow
def test_memory_is_flat_over_ten_million_steps():
    envs = make_ported_envs("rlzoo/DynaMaze-v0", 1)
    loop = GraphLoop(make_agent("dyna_q", envs.spec, planning_steps=0), envs, 0)
    process, before, episodes = psutil.Process(), 0, 0
    for number in range(1, 1_001):
        report = loop.run(10_000 * number)
        episodes += sum(e.num_episodes for e in report.episodes)
        if number == 50:
            before = process.memory_info().rss
    assert int(loop.state.loop.learning.step) == 10_000_000
    assert episodes > 10_000
    assert process.memory_info().rss - before < 2 * 2**20


def test_the_strategy_is_swapped_midway():
    envs = make_ported_envs("rlzoo/DynaMaze-v0", 2)
    loop = GraphLoop(make_agent("dyna_q", envs.spec, Greedy()), envs, 0)
    for strategy, tag in ((counting(), "exploration/rate"), (Greedy(), None)):
        loop.run(int(loop.state.loop.learning.step) + 100)
        before, step = arrays(variables(loop.agent)), int(loop.state.loop.learning.step)
        loop.agent.actor.exploration = strategy
        assert loop.run(step).chunks == 0
        for name, value in arrays(variables(loop.agent)).items():
            np.testing.assert_array_equal(value, before[name])
        report = loop.run(step + 100)
        assert report.steps == 100
        assert (tag is None) == ("exploration/rate" not in report.metrics)
        explored = loop.state.loop.acting.actor.exploration
        if tag:  # it counts both environments' steps since it came
            np.testing.assert_allclose(explored[0], [50 / 16] * 2)
        else:
            assert explored == ()


# --- what XLA cannot compile ---


def in_python(values):
    result = tf.py_function(lambda x: x, [values], tf.float32)
    result.set_shape(values.shape)
    return result


@dataclasses.dataclass(frozen=True)
class InPython(Exploration):
    """A strategy that leaves TensorFlow."""

    def log_probs(self, scores, state, step):
        return tf.nn.log_softmax(in_python(scores))


@keras.saving.register_keras_serializable("tests")
class PythonLayer(keras.Layer):
    """A torso that leaves TensorFlow."""

    def call(self, x):
        return in_python(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("loop", ["graph", "host"])
@pytest.mark.parametrize("part", ["strategy", "torso"])
def test_what_cannot_be_compiled_is_named(part, loop):
    ported = make_ported_envs("CartPole-v1", 2)
    given = {"strategy": InPython()} if part == "strategy" else {"torso": PythonLayer(name="mine")}
    agent = make_agent("reinforce", ported.spec, **given)
    where = "" if part == "strategy" else "layer 'mine.*', "
    where += r"\S*test_graph.py line \d+, in in_python"
    with pytest.raises(ValueError, match=rf"compile EagerPyFunc \({where}\)\. .*keras\.ops"):
        if loop == "graph":
            GraphLoop(agent, ported, 0).run(1)
        else:
            envs: Any = PortEnvs(ported, 0)
            HostLoop(agent, envs, 0).run()


def test_a_message_that_names_nothing_is_passed_on():
    text = "Unsupported: dynamic shapes\n\ttf2xla conversion failed while converting f"
    assert not_compilable(text).startswith("XLA cannot compile Unsupported: dynamic shapes. What")


# --- numbers that are not finite ---


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["obs", "reward"])
def test_a_bad_number_names_the_environment_and_stops(kind, whole):
    loop = counts(kind=kind, env=1, age=3, whole=whole, length=6)  # no episode is shorter
    with pytest.raises(FloatingPointError, match=r"Environment 1 returned.*before update 1\."):
        loop.run(10_000)
    assert int(loop.state.loop.learning.chunks) == 1

    loop = counts(kind=kind, env=2, age=27, length=4)
    with pytest.raises(FloatingPointError, match=r"Environment 2 returned.*before update 7\."):
        loop.run(10_000)
    assert int(loop.state.loop.learning.chunks) == 7


def test_divergence_is_named_and_stops():
    envs = make_ported_envs("CartPole-v1", 2)
    loop = GraphLoop(make_agent("dqn", envs.spec, learning_rate=1e38), envs, 0)
    with pytest.raises(
        FloatingPointError, match=r"diverged: .*loss/td.* at update (\d+)"
    ) as caught:
        loop.run(10_000)
    assert f"at update {int(loop.state.loop.learning.chunks)}." in str(caught.value)
    assert int(loop.state.loop.learning.step) < 200
