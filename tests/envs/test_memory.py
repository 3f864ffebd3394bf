import gymnasium
import numpy as np
import pytest

from rlzoo.envs.memory import Memory


def play(env, policy, seed):
    """Returns all observations and rewards of an episode."""
    obs, _ = env.reset(seed=seed)
    seen, rewards = [obs], []
    while True:
        obs, reward, terminated, truncated, _ = env.step(policy(seen))
        assert not truncated
        seen.append(obs)
        rewards.append(reward)
        if terminated:
            return np.array(seen), rewards


def recall(seen):
    return int(np.argmax(seen[0][:-1]))


@pytest.mark.parametrize(("num_cues", "delay"), [(2, 0), (2, 10), (4, 3)])
def test_an_episode(num_cues, delay):
    env = gymnasium.make("rlzoo/Memory-v0", num_cues=num_cues, delay=delay)
    seen, rewards = play(env, recall, seed=1)
    assert rewards == [0.0] * (delay + 1) + [1.0]
    assert seen[0, :-1].sum() == 1
    assert seen[0, -1] == 0
    assert not seen[1 : delay + 1].any()  # blanks
    assert seen[delay + 1].tolist() == [0.0] * num_cues + [1.0]  # go
    assert seen.dtype == np.float32


def test_a_wrong_answer_costs_one():
    env = Memory(delay=2)
    assert sum(play(env, lambda seen: 1 - recall(seen), seed=3)[1]) == -1


def test_no_policy_without_memory_beats_chance():
    # Only the action on the go signal counts, and that observation is always the same one.
    for answer in range(3):
        env = Memory(num_cues=3, delay=1)
        returns = [sum(play(env, lambda _, a=answer: a, seed)[1]) for seed in range(600)]
        assert np.mean(returns) == pytest.approx(2 / 3 - 1, abs=0.12)


def test_cues_follow_the_seed():
    env = Memory()
    first = [env.reset(seed=seed)[0].tolist() for seed in range(20)]
    assert first == [env.reset(seed=seed)[0].tolist() for seed in range(20)]
    assert len({tuple(obs) for obs in first}) == 2


@pytest.mark.parametrize("kwargs", [{"num_cues": 1}, {"delay": -1}, {"render_mode": "human"}])
def test_bad_arguments(kwargs):
    with pytest.raises(ValueError, match="got"):
        Memory(**kwargs)


def test_bad_action():
    env = Memory()
    env.reset()
    with pytest.raises(ValueError, match="0 to 1, got 2"):
        env.step(2)


def test_rgb_array():
    env = Memory(delay=1, render_mode="rgb_array")
    pictures = []
    env.reset(seed=0)
    for _ in range(3):
        pictures.append(env.render())
        env.step(0)
    assert pictures[0].shape == (48, 48 * 3, 3)
    assert pictures[0].dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert Memory().render() is None
