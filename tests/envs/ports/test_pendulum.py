import math

import numpy as np
import pytest

from rlzoo.envs import make_env
from tests.port_parity import Ported, play_from


def parity(env):
    """Compares steps from states anywhere; returns what the original did."""
    random = np.random.default_rng(0)
    states = random.uniform(-1, 1, [1_000, 2]) * [math.pi, 8.0]
    actions = random.uniform(-4, 4, [1_000, 1]).astype(np.float32)  # clipped at 2
    played = play_from(env, states, actions)
    Ported(env).replay(played)
    return played


@pytest.mark.parametrize("gravity", [1, np.float64(9.81)])
def test_gravity_is_honoured(gravity):
    usual = parity(make_env("Pendulum-v1"))
    played = parity(make_env("Pendulum-v1", {"g": gravity}))
    assert np.abs(played.next_obs - usual.next_obs).max() > 1e-3
    np.testing.assert_array_equal(np.abs(played.next_obs[:, 2]).max(), 8.0)  # the bound is met


def test_constants_come_from_the_original():
    env = make_env("Pendulum-v1")
    usual = parity(env)
    env.unwrapped.m, env.unwrapped.l, env.unwrapped.dt = 1.5, 0.7, 0.1
    assert np.abs(parity(env).next_obs - usual.next_obs).max() > 1e-2
