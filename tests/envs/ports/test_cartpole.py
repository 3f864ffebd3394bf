import numpy as np
import pytest

from rlzoo.envs import make_env
from tests.port_parity import Ported, play_from

REACH = [2.5, 3.0, 0.22, 3.0]  # beyond both edges


def parity(env):
    """Compares steps from states anywhere; returns what the original did."""
    random = np.random.default_rng(0)
    states = random.uniform(-1, 1, [1_000, 4]) * REACH
    played = play_from(env, states, random.integers(2, size=1_000))
    Ported(env).replay(played)
    return played


@pytest.mark.parametrize("env_id", ["CartPole-v1", "rlzoo/CartPoleNoVel-v1"])
def test_sutton_and_bartos_reward(env_id):
    played = parity(make_env(env_id, {"sutton_barto_reward": True}))
    assert set(played.reward) == {0.0, -1.0}


def test_both_integrators():
    env = make_env("CartPole-v1")
    euler = parity(env)
    env.unwrapped.kinematics_integrator = "semi-implicit euler"
    assert np.abs(parity(env).next_obs - euler.next_obs).max() > 1e-3


def test_constants_come_from_the_original():
    env = make_env("CartPole-v1")
    usual = parity(env)
    env.unwrapped.gravity, env.unwrapped.tau = 20.0, 0.05
    assert np.abs(parity(env).next_obs - usual.next_obs).max() > 1e-3
