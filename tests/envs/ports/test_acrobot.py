import math

import numpy as np
import tensorflow as tf

from rlzoo.envs import make_env
from rlzoo.envs.ports import make_port
from rlzoo.envs.ports.acrobot import AcrobotState, runge_kutta
from rlzoo.ops import rng
from tests.helpers import xla
from tests.port_parity import Ported, play_from, same_distribution

REACH = np.array([math.pi, math.pi, 12.0, 9.0])


def parity(env, reach=REACH / 2):
    """Compares steps from many states; returns what the original did."""
    random = np.random.default_rng(0)
    states = random.uniform(-1, 1, [1_000, 4]) * reach
    played = play_from(env, states, random.integers(3, size=1_000))
    Ported(env).replay(played)
    return played


def test_both_equations():
    env = make_env("Acrobot-v1")
    book = parity(env)
    env.unwrapped.book_or_nips = "nips"
    assert np.abs(parity(env).next_obs - book.next_obs).max() > 1e-2


def test_constants_come_from_the_original():
    env = make_env("Acrobot-v1")
    source = env.unwrapped
    usual = parity(env)
    source.AVAIL_TORQUE = [-2, 0, 2]
    source.LINK_LENGTH_1, source.LINK_COM_POS_1, source.LINK_COM_POS_2 = 1.1, 0.6, 0.4
    source.LINK_MASS_1, source.LINK_MASS_2, source.LINK_MOI = 1.2, 0.9, 1.1
    assert np.abs(parity(env).next_obs - usual.next_obs).max() > 1e-2


def test_velocities_are_bounded():
    env = make_env("Acrobot-v1")
    env.unwrapped.MAX_VEL_1, env.unwrapped.MAX_VEL_2 = 2.0, 3.0
    played = parity(env)
    for rate, bound in ((4, 2.0), (5, 3.0)):
        assert (played.next_obs[:, rate] == bound).any()
        assert (played.next_obs[:, rate] == -bound).any()


def test_noise_of_the_torque():
    env = make_env("Acrobot-v1")
    env.unwrapped.torque_noise_max = 0.5
    state, count = [0.3, -0.2, 1.0, 0.5], 2_000
    env.reset(seed=1)
    theirs = []
    for _ in range(count):
        env.unwrapped.state = np.array(state)
        theirs.append(env.unwrapped.step(2)[0])
    port = make_port(env)
    fields = AcrobotState(*(tf.fill([count], x) for x in state))
    ours = port.observe(xla(port.step)(fields, tf.fill([count], 2), rng.from_int(1))[0])
    assert np.std(ours[:, 5]) > 0.01
    assert same_distribution(ours.numpy(), np.stack(theirs))


def test_runge_kutta_on_a_known_solution():
    y = runge_kutta(lambda y: y, tf.constant([1.0, -2.0]), 0.1)  # y' = y: the series of exp
    series = 1 + 0.1 + 0.1**2 / 2 + 0.1**3 / 6 + 0.1**4 / 24
    np.testing.assert_allclose(y, [series, -2 * series], rtol=1e-6)
