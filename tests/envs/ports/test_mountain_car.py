import numpy as np
import pytest

from rlzoo.envs import make_env
from tests.port_parity import Ported, play_from

IDS = ["MountainCar-v0", "MountainCarContinuous-v0"]


def parity(env):
    """Compares steps from states anywhere; returns what the original did."""
    random = np.random.default_rng(0)
    states = random.uniform([-1.2, -0.07], [0.6, 0.07], [1_000, 2]).astype(np.float32)
    if hasattr(env.action_space, "n"):
        actions = random.integers(3, size=1_000)
    else:
        actions = random.uniform(-2, 2, [1_000, 1]).astype(np.float32)  # clipped at 1
    played = play_from(env, states, actions)
    Ported(env).replay(played)
    return played


@pytest.mark.parametrize("env_id", IDS)
def test_anywhere_with_any_push(env_id):
    played = parity(make_env(env_id))
    position, velocity = played.next_obs.T
    assert played.terminated.any()
    assert ((position == np.float32(-1.2)) & (velocity == 0)).any()  # against the wall
    for bound in (0.07, -0.07):
        assert (velocity == np.float32(bound)).any()


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("velocity", [np.float64(0.03), -0.03])
def test_goal_velocity_is_honoured(env_id, velocity):
    usual = parity(make_env(env_id)).terminated.sum()
    ends = parity(make_env(env_id, {"goal_velocity": velocity})).terminated.sum()
    assert ends < usual if velocity > 0 else ends > usual
