"""Steps gathered in environments: in order, true at the ends of episodes, standardised."""

import gymnasium
import numpy as np
import pytest

from rlzoo.spaces import Box
from rlzoo.tasks.transitions import gather, standardized


@pytest.fixture(scope="module")
def cartpole():
    return gather("CartPole-v1", 400, 3)


def test_every_successor_is_the_environments(cartpole):
    """Recomputed by a second environment, also where an episode ends."""
    spec, steps = cartpole
    assert spec.obs.shape == (4,) and spec.num_actions == 2
    assert [len(field) for field in steps] == [400] * 5
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for obs, action, reward, discount, next_obs in zip(*steps, strict=True):
        env.state, env.steps_beyond_terminated = obs.astype(np.float64), None
        expected, expected_reward, terminated, _, _ = env.step(int(action))
        np.testing.assert_allclose(next_obs, expected, atol=1e-5)
        assert (reward, discount) == (expected_reward, 1.0 - terminated)
    assert (steps.discount == 0).sum() > 5


def test_steps_of_an_environment_follow_each_other(cartpole):
    """Eight environments take turns."""
    _, steps = cartpole
    follows = (steps.next_obs[:-8] == steps.obs[8:]).all(1)
    ended = steps.discount[:-8] == 0
    assert follows[~ended].all() and not follows[ended].any()


def test_actions_are_uniform_and_the_seed_decides(cartpole):
    _, steps = cartpole
    assert 150 < steps.action.sum() < 250
    again, other = (gather("CartPole-v1", 400, seed)[1] for seed in (3, 4))
    for found, expected in zip(again, steps, strict=True):
        assert np.array_equal(found, expected)
    assert not np.array_equal(other.obs, steps.obs)
    assert len({obs.tobytes() for obs in steps.obs[:8]}) == 8


def test_as_many_as_wanted():
    assert [len(field) for field in gather("CartPole-v1", 21, 0)[1]] == [21] * 5


def test_continuous_actions_fill_their_box():
    spec, steps = gather("Pendulum-v1", 400, 0)
    assert isinstance(spec.action, Box)
    assert steps.action.shape == (400, 1)
    assert steps.action.dtype == np.float32
    assert -2.0 <= steps.action.min() < -1.8
    assert 1.8 < steps.action.max() <= 2.0


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("", "needs an environment: --env CartPole-v1"),
        ("CartPol-v1", "CartPole-v1"),
        ("Blackjack-v1", r"parts \['0', '1', '2'\]. .*FlattenObservation"),
    ],
)
def test_environments_that_do_not_fit(env, message):
    with pytest.raises(ValueError, match=message) as caught:
        gather(env, 20, 0)
    assert "\n" not in str(caught.value)


def test_more_than_fits_into_memory_is_refused_before_it_is_gathered():
    """An observation of Catch has 50 values of 1 byte; 10**8 of them, 44 bytes a value: 220 GB."""
    with pytest.raises(ValueError, match=r"steps=10{12} needs [\d,]+ MiB, .*lower steps to \d+"):
        gather("rlzoo/Catch-v0", 10**12, 0)


def test_standardised_by_the_part_that_is_learned_from():
    obs = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [100.0, 7.0]])
    found = standardized(obs, obs[:3])
    deviation = np.sqrt(8 / 3)
    np.testing.assert_allclose(found[:, 0], (obs[:, 0] - 2) / deviation, rtol=1e-6)
    assert (found[:, 1] == 0).all()  # it never changed: nothing to learn
    assert found.dtype == np.float32
    images = np.random.default_rng(0).integers(256, size=(9, 2, 3)).astype(np.uint8)
    found = standardized(images, images)
    assert found.shape == (9, 6)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-6)
