"""Two collectors in two processes and one learner: what samplers on other machines stand on."""

import contextlib
import multiprocessing
from functools import partial

import numpy as np
import pytest

from rlzoo.agents import acting_variables
from rlzoo.envs import make_envs
from rlzoo.exploration import Greedy
from rlzoo.loops.learner import Learner, Packing
from tests.env_doubles import CountingEnv
from tests.helpers import arrays, make_agent, tensors
from tests.loops.collecting import serve
from tests.loops.test_host import Recorder, check_rows, episode_seed, scalar_episode

EACH, LENGTH, SEEDS = 3, 25, (5, 6)


class Elsewhere:
    """Collectors in processes of their own, one for each seed."""

    def __init__(self, env, make):
        context = multiprocessing.get_context("spawn")
        self._pipes, self._acting = [], [None] * len(SEEDS)
        self._processes = []
        for seed in SEEDS:
            here, there = context.Pipe()
            args = (there, env, EACH, make, seed)
            self._processes.append(context.Process(target=serve, args=args, daemon=True))
            self._processes[-1].start()
            self._pipes.append(here)

    def collect(self, agent, learner: Learner):
        """Broadcasts the weights; returns a chunk of each, and all steps and episodes."""
        weights = arrays(acting_variables(agent))
        for pipe, acting in zip(self._pipes, self._acting, strict=True):
            pipe.send((weights, int(learner.step), int(learner.version), acting))
        told = [pipe.recv() for pipe in self._pipes]
        steps = sum(steps for _, steps, _ in told)
        episodes = [episode for *_, episodes in told for episode in episodes]
        return [tensors(found) for found, *_ in told], steps, episodes

    def learn(self, learner: Learner, collected) -> dict[str, float]:
        metrics, actings, _ = learner.learn(collected)
        self._acting = [[x.numpy() for x in acting] for acting in actings]
        return metrics

    def close(self):
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(BrokenPipeError):
                pipe.send(None)
            process.join(30)
            process.kill()


@pytest.fixture
def elsewhere():
    made = []

    def make(*args):
        made.append(Elsewhere(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def spec_of(env):
    envs = make_envs(env, 1, 0)
    envs.close()
    return envs.spec


def test_no_false_transition_of_7_500(elsewhere):
    """As `test_host` has it: every row is compared with an episode played by hand."""
    make = partial(Recorder, num_envs=EACH, length=LENGTH)
    collectors, chunks = elsewhere(CountingEnv, make), 50
    agent = Recorder(spec_of(CountingEnv), len(SEEDS) * EACH, LENGTH)
    learner = Learner(agent, [EACH] * len(SEEDS), 0)
    learner.compile()
    columns = [[] for _ in range(len(SEEDS) * EACH)]
    total, found_episodes, starts = 0, [], []
    for number in range(chunks):
        collected, steps, episodes = collectors.collect(agent, learner)
        collectors.learn(learner, collected)
        total, found_episodes = total + steps, found_episodes + episodes
        chunk = agent.chunk()
        assert (chunk.version == number).all()
        starts.append(chunk.start.recurrent[0])
        for column in columns:
            column += [(chunk, t) for t in range(LENGTH)]
    assert total == int(learner.step) == len(SEEDS) * EACH * LENGTH * chunks == 7_500

    false, expected_episodes = 0, []
    for i, column in enumerate(columns):
        at, episode = 0, 0
        while at < len(column):
            ahead = [int(chunk.action[t, i]) for chunk, t in column[at : at + 9]]
            seed = episode_seed(SEEDS[i // EACH], i % EACH, episode)
            rows = scalar_episode(seed, ahead)
            for k, row in enumerate(rows):
                chunk, t = column[at + k]
                false += check_rows(chunk, t, i, row, first=k == 0)
            if rows[-1][3] or rows[-1][4]:
                expected_episodes.append((sum(row[2] for row in rows), len(rows), 1))
            at, episode = at + len(rows), episode + 1
        for number, start in enumerate(starts[1:], 1):  # the memory of the row before
            chunk, t = column[number * LENGTH - 1]
            assert start[i] == chunk.extras["log_prob"][t, i]
    assert false == 0
    assert sorted(found_episodes) == sorted(expected_episodes)


def test_each_chunk_is_acted_by_the_weights_of_its_version(elsewhere):
    config = {"train_every": LENGTH, "learning_rate": 0.1, "replay_capacity": 1_000}
    make = partial(make_agent, "dqn", strategy=Greedy(), **config)
    collectors = elsewhere("CartPole-v1", make)
    agent = make(spec_of("CartPole-v1"))
    learner = Learner(agent, [EACH] * len(SEEDS), 0)
    learner.compile()
    packing, first = Packing(agent, EACH), agent.actor.network.get_weights()
    for number in range(4):
        collected, steps, _ = collectors.collect(agent, learner)
        assert steps == len(SEEDS) * EACH * LENGTH
        for one in collected:
            chunk = packing.views(one.rows.numpy())
            assert int(one.version) == number
            rows = chunk.obs.reshape(-1, 4)
            expected = agent.actor.network(rows).numpy().reshape(LENGTH, EACH, 2)
            np.testing.assert_allclose(chunk.extras["scores"], expected, rtol=1e-4, atol=1e-4)
        metrics = collectors.learn(learner, collected)
        assert metrics["exploration/greedy_fraction"] == 1.0 and metrics["updates"] == 1
        assert int(agent.replay.steps) == int(learner.step) == steps * (number + 1)
    assert not np.array_equal(first[0], agent.actor.network.get_weights()[0])
