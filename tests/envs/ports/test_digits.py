import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.envs import make_env
from rlzoo.envs.ports import make_port, make_ported_envs
from rlzoo.loops.graph import GraphLoop
from rlzoo.ops import rng
from tests.envs.ports.recorded import (
    assert_same,
    fit,
    homogeneity,
    random_policy,
    record,
    repeat,
)
from tests.helpers import make_agent, xla
from tests.port_parity import Ported, play

SPLITS = [{}, {"split": "test"}]


# The bandit and the sequence leave nothing to chance once an episode has begun.


def bandit_state(env):
    return (env._image,)


def name_it(env, obs, random):
    return int(env.labels[env._image])


@pytest.mark.parametrize("policy", [random_policy, name_it])
@pytest.mark.parametrize("env_kwargs", SPLITS)
def test_the_bandits_steps(env_kwargs, policy):
    recorded = assert_same("rlzoo/DigitBandit-v0", env_kwargs, bandit_state, policy)
    assert recorded.reward.mean() == (1.0 if policy is name_it else pytest.approx(0.1, abs=0.02))


def sequence_state(env):
    return env._shown, env._time


def remember(env):
    return int(env.labels[env._shown[max(env._time - env.delay, 0)]])


@pytest.mark.parametrize("policy", [None, remember])
@pytest.mark.parametrize("env_kwargs", [*SPLITS, {"delay": 0, "length": 1}, {"length": 7}])
def test_the_sequences_steps(env_kwargs, policy):
    env = make_env("rlzoo/DigitSequence-v0", env_kwargs)
    inner = env.unwrapped
    recorded = play(env, sequence_state, policy, 5_000)
    assert Ported(env).replay(recorded) == 0
    assert recorded.terminated.any() and not recorded.truncated.any()
    share = 1 - inner.delay / inner.max_episode_steps
    wanted = share * (0.1 if policy is None else 1.0)
    assert recorded.reward.mean() == pytest.approx(wanted, abs=0.02)


# The maze draws an image at each step.


def maze_state(env):
    return env._digit, env._image


def way_out(env, obs, random):
    if random.random() < 0.3:
        return random_policy(env, obs, random)
    return {1: 1, 2: 1, 3: 2, 6: 3, 5: 3, 4: 2, 7: 1, 8: 1}[env._digit]


@pytest.mark.parametrize("policy", [random_policy, way_out])
@pytest.mark.parametrize("env_kwargs", SPLITS)
def test_the_mazes_steps(env_kwargs, policy):
    """All but which image of a digit it is, which is as even as the original's."""
    recorded = record("rlzoo/DigitMaze-v0", env_kwargs, maze_state, policy)
    obs, step = repeat("rlzoo/DigitMaze-v0", env_kwargs, recorded)
    np.testing.assert_array_equal(obs, recorded.obs)
    np.testing.assert_array_equal(step.reward, recorded.reward)
    np.testing.assert_array_equal(step.terminated, recorded.terminated)
    np.testing.assert_array_equal(step.truncated, recorded.truncated)
    assert step.terminated.any() and (step.truncated.any() or policy is way_out)
    source = make_env("rlzoo/DigitMaze-v0", env_kwargs).unwrapped
    number = {image.tobytes(): i for i, image in enumerate(source.images)}
    ours, theirs = (
        np.array([number[image.tobytes()] for image in images])
        for images in (step.final_obs, recorded.next_obs)
    )
    np.testing.assert_array_equal(source.labels[ours], source.labels[theirs])
    assert homogeneity(source.labels[theirs], ours // 100, theirs // 100) > 0.001
    for digit in range(1, 10):
        shown = ours[source.labels[ours] == digit]
        assert len(np.unique(shown)) > 0.5 * min(len(shown), len(source.by_class[digit]))
    going = ~(step.terminated | step.truncated)
    np.testing.assert_array_equal(step.obs[going], step.final_obs[going])
    assert (step.obs[~going] != step.final_obs[~going]).any(axis=(1, 2)).mean() > 0.9


@pytest.mark.parametrize("env_kwargs", SPLITS)
@pytest.mark.parametrize("name", ["DigitBandit", "DigitSequence", "DigitMaze"])
def test_digits_are_drawn_evenly(name, env_kwargs):
    env = make_env(f"rlzoo/{name}-v0", env_kwargs).unwrapped
    port = make_port(make_env(f"rlzoo/{name}-v0", env_kwargs))
    state = xla(lambda: port.reset(rng.from_int(0), 10_000))()
    images = tf.nest.flatten(state)[1 if name == "DigitMaze" else 0].numpy().ravel()
    obs = xla(port.observe)(state).numpy()
    assert obs.dtype == np.uint8
    assert obs.shape == (10_000, 28, 28)
    counts = np.bincount(env.labels[images], minlength=10)
    shares = [0, *[1 / 8] * 8, 0] if name == "DigitMaze" else [0.1] * 10
    assert fit(counts, shares) > 0.001
    possible = np.isin(env.labels, np.flatnonzero(shares))
    each = np.bincount(images, minlength=len(env.labels))
    assert fit(each, possible / possible.sum()) > 0.001


@pytest.mark.parametrize(
    ("agent", "name", "torso"),
    [
        ("dqn", "DigitBandit", "small"),
        ("reinforce", "DigitBandit", "small"),
        ("reinforce", "DigitSequence", "recurrent"),
    ],
)
def test_agents_learn_from_them_in_the_graph_loop_in_one_program(agent, name, torso):
    envs = make_ported_envs(f"rlzoo/{name}-v0", 2)
    if torso == "recurrent":
        encoder = {"name": "conv", "variant": "small", "size": 8, "max_pool": True}
        torso = networks.lstm(8, encoder, seed=0)
    learner = make_agent(agent, envs.spec, torso=torso)
    actor = learner.actor
    before, act, traces = actor.network.get_weights(), actor.act, []

    def counted(*args, **kwargs):
        traces.append(None)
        return act(*args, **kwargs)

    actor.act = counted
    loop = GraphLoop(learner, envs, 0)
    for until in (100, 160, 200):
        report = loop.run(until)
        assert report.steps > 0
        assert report.metrics["updates"] > 0
    assert len(traces) == 1
    program = str(loop._call._concrete.graph.as_graph_def())
    assert 'op: "MatMul"' in program
    assert 'op: "Conv2D' not in program, "slow under XLA"
    after = actor.network.get_weights()
    assert all(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
