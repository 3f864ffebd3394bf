"""What every entry of `PORTS` promises: to do what the original does.

A new one adds a `Case`, or, where its steps can be compared exactly, a file in tests/envs/ports.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest

from rlzoo.envs import make_env
from rlzoo.envs.ports import PORTS, make_port
from rlzoo.ops import rng
from rlzoo.spaces import unmasked
from tests.helpers import xla
from tests.port_parity import Ported, play, same_distribution, start_of

STEPS = 10_000


class Case(NamedTuple):
    """What the tests have to know of an original.

    `state` and `policy` see it unwrapped. The policy is a competent one: random actions and it
    together have to bring episodes to all their `ends`.
    """

    state: Callable[[Any], tuple]  # the fields of the port's state, in order
    policy: Callable[[Any], Any]
    ends: tuple[str, ...] = ("terminated", "truncated")


def balance(env):
    x, x_dot, theta, theta_dot = env.state
    return int(10 * theta + 3 * theta_dot + 0.3 * x + x_dot > 0)


def swing_acrobot(env):
    """Torque with the swing of the second link adds energy."""
    return 2 if env.state[3] > 0 else 0


def swing_pendulum(env):
    theta, rate = env.state
    theta = math.remainder(theta, 2 * math.pi)
    lack = env.g / 2 * (1 - math.cos(theta)) - rate**2 / 6  # of energy, to stand still upright
    torque = rate * lack if math.cos(theta) < 0.9 else -10 * theta - 2 * rate
    return np.array([torque], np.float32)


def pendulum_state(env):
    theta, rate = env.state
    return math.remainder(theta, 2 * math.pi), rate


CARTPOLE = Case(lambda env: tuple(env.state), balance)
CASES = {
    "Acrobot-v1": Case(lambda env: tuple(env.state), swing_acrobot),
    "CartPole-v1": CARTPOLE,
    "MountainCar-v0": Case(lambda env: tuple(env.state), lambda env: 2 * int(env.state[1] > 0)),
    "MountainCarContinuous-v0": Case(
        lambda env: tuple(env.state), lambda env: np.sign(env.state[1:] + 1e-9, dtype=np.float32)
    ),
    "Pendulum-v1": Case(pendulum_state, swing_pendulum, ends=("truncated",)),
    "rlzoo/CartPoleNoVel-v1": CARTPOLE,
}
OWN_TESTS = Path(__file__).parents[1] / "envs" / "ports"


@functools.cache
def ported(env_id) -> Ported:
    return Ported(make_env(env_id))


@functools.cache
def played(env_id, policy):
    case = CASES[env_id]
    return play(make_env(env_id), case.state, case.policy if policy else None, STEPS)


def test_every_port_is_of_a_registered_environment():
    assert len(set(PORTS) - set(gymnasium.registry)) == 1, "Taxi, of an older or a newer Gymnasium"
    assert set(CASES) <= set(PORTS)


@pytest.mark.parametrize("env_id", sorted(set(PORTS) - set(CASES)))
def test_a_port_without_a_case_is_compared_exactly_in_its_own_tests(env_id):
    module = PORTS[env_id].__module__.rpartition(".")[2]
    text = (OWN_TESTS / f"test_{module}.py").read_text()
    assert f'"{env_id}"' in text and "assert_same(" in text


@pytest.mark.parametrize("policy", [None, "competent"])
@pytest.mark.parametrize("env_id", CASES)
def test_each_step_is_the_originals(env_id, policy):
    ported(env_id).replay(played(env_id, policy))


@pytest.mark.parametrize("policy", [None, "competent"])
@pytest.mark.parametrize("env_id", CASES)
def test_a_run_of_steps_stays_with_the_original(env_id, policy):
    assert ported(env_id).run_free(played(env_id, policy), steps=10, copies=64) < 1e-4


@pytest.mark.parametrize("env_id", CASES)
def test_the_steps_compared_bring_episodes_to_every_end(env_id):
    both = [played(env_id, policy) for policy in (None, "competent")]
    seen = [end for end in ("terminated", "truncated") if any(getattr(p, end).any() for p in both)]
    assert tuple(seen) == CASES[env_id].ends


@pytest.mark.parametrize("env_id", sorted(set(PORTS) & set(gymnasium.registry)))
def test_episodes_start_as_the_originals(env_id):
    env, count = make_env(env_id), 10_000
    env.reset(seed=3)
    theirs = np.stack([env.reset()[0] for _ in range(count)]) - start_of(env.observation_space)
    port = make_port(env)
    ours = xla(lambda seed: unmasked(port.observe(port.reset(seed, count))))(
        rng.from_int(3)
    ).numpy()
    assert same_distribution(ours, theirs)
