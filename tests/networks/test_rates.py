"""Learning rates that change, and the loop of gradient steps."""

import numpy as np
import pytest
import tensorflow as tf

from rlzoo import networks
from rlzoo.ops import rng
from rlzoo.ops.schedules import Linear
from tests.helpers import BOX, STEP, agent_chunk, make_agent, small_torso, xla

FALLING = Linear(1e-2, 0.0, 100)


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_a_learning_rate_follows_its_schedule(agent):
    agent = make_agent(agent, BOX, learning_rate=FALLING)
    update, state = xla(agent.update), agent.init(2)
    for step, rate in ((0, 1e-2), (25, 7.5e-3), (100, 0.0), (1_000, 0.0)):
        before = agent.actor.network.get_weights()
        state, metrics = update(state, agent_chunk(agent, 2, 0), np.int64(step), rng.from_int(step))
        assert float(metrics["rate/learning_rate"]) == pytest.approx(rate, abs=1e-9)
        assert float(metrics["updates"]) > 0
        still = all(map(np.array_equal, before, agent.actor.network.get_weights()))
        assert still == (rate == 0.0)


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_a_constant_rate_is_not_shown(agent):
    agent = make_agent(agent, BOX)
    _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, rng.from_int(0))
    assert "rate/learning_rate" not in metrics


@pytest.mark.parametrize("bad", [Linear(1e-3, -1e-3, 10), Linear(-1.0, 1e-3, 10), -1.0])
def test_no_value_of_a_schedule_may_be_out_of_range(bad):
    with pytest.raises(ValueError, match=r"learning_rate: expected at least .*, received"):
        make_agent("dqn", BOX, learning_rate=bad)


def test_adam_starts_with_the_largest_rate():
    network = networks.build_network(BOX, small_torso(BOX), networks.q_values(2, 0))
    trainer = networks.Trainable(network, FALLING, 10.0)
    optimizer = trainer.optimizer
    assert float(optimizer.learning_rate) == pytest.approx(1e-2)
    assert networks.Trainable(network, 1e-3, 10.0).follow(tf.constant(5)) == {}


@pytest.mark.parametrize(("count", "mean"), [(0, 0.0), (1, 0.0), (4, 1.5)])
def test_steps_are_repeated_and_their_metrics_averaged(count, mean):
    total = tf.Variable(0.0)

    @xla
    def run(count):
        def step(i):
            total.assign_add(1.0)
            return {"number": tf.cast(i, tf.float32)}

        return networks.repeat(count, step, ["number"])

    assert float(run(tf.constant(count))["number"]) == mean
    assert float(total) == count
