import gymnasium
import numpy as np
import pytest

from rlzoo.data import embedded_digits
from rlzoo.envs import check_env, make_env
from rlzoo.envs.digits import DigitBandit, DigitMaze, DigitSequence

ENVS = {"DigitBandit": DigitBandit, "DigitSequence": DigitSequence, "DigitMaze": DigitMaze}
SPLITS = dict(zip(("train", "test"), embedded_digits(), strict=True))


def knowledge(split):
    """Returns what an image of the split shows, by its bytes."""
    images, labels = SPLITS[split]
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


@pytest.fixture(params=SPLITS)
def split(request):
    return request.param


@pytest.mark.parametrize("name", ENVS)
def test_images_are_those_of_the_split(name, split):
    """And the embedded sets have no image in common (tests/data/test_images.py)."""
    env = make_env(f"rlzoo/{name}-v0", {"split": split})
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (28, 28), np.uint8)
    assert check_env(env) == []
    known, seen = knowledge(split), set()
    obs, _ = env.reset(seed=0)
    for _ in range(1_000):
        assert obs.tobytes() in known
        seen.add(obs.tobytes())
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            obs, _ = env.reset()
    assert len(seen) > 500
    env.close()


def test_the_bandit_pays_for_the_right_digit(split):
    env, known = make_env("rlzoo/DigitBandit-v0", {"split": split}), knowledge(split)
    digits = []
    for seed in range(300):
        obs, _ = env.reset(seed=seed)
        digits.append(known[obs.tobytes()])
        action = (digits[-1] + seed) % 10
        after, reward, terminated, truncated, _ = env.step(action)
        assert reward == (1.0 if seed % 10 == 0 else 0.0)
        assert (terminated, truncated) == (True, False)
        np.testing.assert_array_equal(after, obs)
    assert min(np.bincount(digits, minlength=10)) > 10
    assert env.unwrapped.max_episode_steps == 1


@pytest.mark.parametrize("env_kwargs", [{}, {"delay": 0, "length": 1}, {"delay": 5, "length": 7}])
def test_the_sequence_pays_for_the_digit_of_some_steps_ago(env_kwargs):
    env, known = make_env("rlzoo/DigitSequence-v0", env_kwargs), knowledge("train")
    delay, length = env_kwargs.get("delay", 3), env_kwargs.get("length", 20)
    random = np.random.default_rng(0)
    for seed in range(20):
        shown = [known[env.reset(seed=seed)[0].tobytes()]]
        for t in range(length):
            wrong = int(random.integers(2))
            action = (shown[t - delay if t >= delay else 0] + wrong) % 10
            obs, reward, terminated, truncated, _ = env.step(action)
            shown.append(known[obs.tobytes()])
            assert reward == (1.0 if t >= delay and not wrong else 0.0)
            assert (terminated, truncated) == (t == length - 1, False)


def test_the_sequence_pays_a_tenth_without_memory():
    env, known = (
        make_env("rlzoo/DigitSequence-v0", {"delay": 1, "length": 2_001}),
        knowledge("train"),
    )
    obs, _ = env.reset(seed=0)
    rewards = []
    for _ in range(2_001):
        obs, reward, *_ = env.step(known[obs.tobytes()])
        rewards.append(reward)
    assert 0.07 < np.mean(rewards) < 0.13


WAY = {1: 1, 2: 1, 3: 2, 6: 3, 5: 3, 4: 2, 7: 1, 8: 1}  # action in each cell


def test_the_maze_has_one_way_through():
    env, known = make_env("rlzoo/DigitMaze-v0"), knowledge("train")
    starts = []
    for seed in range(200):
        obs, _ = env.reset(seed=seed)
        digit = known[obs.tobytes()]
        starts.append(digit)
        left = [*list(WAY)[list(WAY).index(digit) + 1 :], 9]
        for expected in left:
            obs, reward, terminated, truncated, _ = env.step(WAY[digit])
            digit = known[obs.tobytes()]
            assert digit == expected
            assert (reward, terminated) == (float(digit == 9), digit == 9)
            assert not truncated
    assert set(starts) == set(range(1, 9))
    assert min(np.bincount(starts)[1:]) > 10


def test_the_maze_has_walls_and_two_ways_along_the_path():
    env = DigitMaze()
    path = [*WAY, 9]
    for i, digit in enumerate(path):
        around = {path[i + step] for step in (-1, 1) if 0 <= i + step < 9}
        assert set(env.successors[digit]) - {digit} == around
    assert env.successors[1].tolist() == [1, 2, 1, 1]  # up, right, down, left
    assert env.successors[6].tolist() == [3, 6, 6, 5]


def test_the_maze_shows_another_image_when_the_agent_stays():
    env, known = DigitMaze(), knowledge("train")
    env.reset(seed=0)
    env._digit = 1
    seen = {env.step(0)[0].tobytes() for _ in range(200)}
    assert {known[image] for image in seen} == {1}
    assert len(seen) > 100


def test_the_maze_has_a_time_limit_of_30_steps():
    env = make_env("rlzoo/DigitMaze-v0")
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(30)]  # up leads nowhere near the 9
    assert ends == [(False, False)] * 29 + [(False, True)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DigitBandit(split="all"), "'train' or 'test', got 'all'"),
        (lambda: DigitSequence(split=None), "'train' or 'test', got None"),
        (lambda: DigitMaze(render_mode="human"), "'rgb_array' or None, got 'human'"),
        (lambda: DigitSequence(delay=-1), "delay must be 0 or more steps, got -1"),
        (lambda: DigitSequence(delay=2.5), "delay must be 0 or more steps, got 2.5"),
        (lambda: DigitSequence(length=3), "more steps than the delay of 3, got 3"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "last"), [("DigitBandit", 9), ("DigitSequence", 9), ("DigitMaze", 3)]
)
@pytest.mark.parametrize("action", [-1, 10, 0.5])
def test_bad_actions(name, last, action):
    env = ENVS[name]()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"action must be 0 to {last}, got {action}"):
        env.step(action)


def test_pictures():
    for cls in (DigitBandit, DigitSequence):
        env = cls(render_mode="rgb_array")
        obs, _ = env.reset(seed=0)
        picture = env.render()
        assert picture.shape == (168, 168, 3)
        np.testing.assert_array_equal(picture[::6, ::6, 1], obs)
        assert cls().render() is None


def test_the_maze_is_drawn_with_its_walls():
    env = DigitMaze(render_mode="rgb_array")
    env.reset(seed=0)
    env._digit = 5
    obs = env.step(0)[0]  # against the wall
    keypad = env.render()[::6, ::6, 0]
    assert keypad.shape == (84, 84)
    np.testing.assert_array_equal(keypad[29:55, 28:56], obs[1:-1])
    assert (keypad[27:29, :56] == 0).all()  # below 1 and 2
    assert (keypad[27:29, 60:] == 200).all()  # not below 3
    assert (keypad[55:57, 28:] == 0).all()
    assert (keypad[55:57, :28] == 200).all()
    assert DigitMaze().render() is None
