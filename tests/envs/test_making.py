import importlib.util
import itertools
import sys
import types

import gymnasium
import numpy as np
import pytest
import tensorflow as tf

from rlzoo.envs import make_env
from rlzoo.envs.making import Wrapped, env_factory
from rlzoo.envs.ports import make_ported_envs
from rlzoo.envs.slot import time_limit
from rlzoo.tables import import_named
from tests.env_doubles import ChainEnv


def first_suggestion(env_id: str) -> str:
    with pytest.raises(ValueError, match="unknown env") as caught:
        make_env(env_id)
    return str(caught.value).partition("Did you mean ")[2].split(",")[0].strip("'?")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cartpole-v1", "CartPole-v1"),
        ("CartPol-v1", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("Acrobt-v1", "Acrobot-v1"),
        ("MountanCar-v0", "MountainCar-v0"),
        ("FrozenLake", "FrozenLake-v1"),
        ("Frozen-Lake-v1", "FrozenLake-v1"),
        ("DynaMaze-v0", "rlzoo/DynaMaze-v0"),
        ("rlzoo/Memori-v0", "rlzoo/Memory-v0"),
        ("CliffWaking-v1", "CliffWalking-v1"),
    ],
)
def test_typos(typed, meant):
    assert first_suggestion(typed) == meant


def test_three_ids_at_most_and_a_way_out_when_none_is_near():
    with pytest.raises(ValueError, match="unknown env") as caught:
        make_env("CartPol-v1")
    assert str(caught.value).count("'") == 2 * 4
    with pytest.raises(ValueError, match="module:Env-v0"):
        make_env("zzzzqqqq")


@pytest.mark.parametrize(
    ("env_id", "package", "line"),
    [
        ("LunarLander-v3", "Box2D", "pip install box2d"),
        ("Ant-v5", "mujoco", "pip install mujoco"),
        ("ALE/Pong-v5", "ale_py", "pip install ale-py"),
    ],
)
def test_a_missing_package_is_named_with_its_pip_line(env_id, package, line, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=f"`{line}`"):
        make_env(env_id)


def test_a_module_that_registers(monkeypatch):
    module = types.ModuleType("my_envs")
    monkeypatch.setitem(sys.modules, "my_envs", module)
    monkeypatch.setitem(
        gymnasium.registry,
        "MyChain-v0",
        gymnasium.envs.registration.EnvSpec(
            "MyChain-v0", entry_point=lambda **kwargs: ChainEnv(**kwargs), max_episode_steps=7
        ),
    )
    env = make_env("my_envs:MyChain-v0", {"time_limit": 30})
    assert env.unwrapped.time_limit == 30
    assert env.spec.max_episode_steps == 7
    with pytest.raises(ValueError, match="'nowhere', which does not import"):
        make_env("nowhere:MyChain-v0")


def test_a_module_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "found_here.py").write_text(
        "import gymnasium\ngymnasium.register('FoundHere-v0', 'tests.env_doubles:ChainEnv')\n"
    )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "found_here", raising=False)
    monkeypatch.delitem(gymnasium.registry, "FoundHere-v0", raising=False)
    if importlib.util.find_spec("ale_py"):  # whose ids are no module's of the user's
        gymnasium.register_envs(importlib.import_module("ale_py"))
        assert "Defender-v0" in gymnasium.registry
    before = list(sys.path)
    make_env("found_here:FoundHere-v0").close()
    assert sys.path == [*before, str(tmp_path)]  # behind all else: it hides nothing
    for typed in ("found_here:FoundHer-v0", "found_hre:FoundHere-v0"):
        with pytest.raises(ValueError, match=r"Did you mean 'found_here:FoundHere-v0'\?$"):
            make_env(typed)
    with pytest.raises(ValueError, match=r"The current folder is searched too\.$"):
        make_env("another:FoundHere-v0")
    with pytest.raises(ValueError, match=r"Write it as 'found_here:FoundHere-v0'\.$"):
        make_env("found_here.py:FoundHere-v0")
    with pytest.raises(ValueError, match=r"Write it as 'sub.mine:Own'\.$"):
        import_named("sub/mine.py:Own", "wrapper")
    (tmp_path / "needs_more.py").write_text("import not_installed")
    with pytest.raises(ValueError, match=r"No module named 'not_installed'\)\.$"):
        make_env("needs_more:FoundHere-v0")


def test_a_module_that_leaves_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"importing leaves called sys.exit\(0\)"):
        make_env("leaves:Any-v0")


def test_a_package_that_a_wrapper_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.delitem(sys.modules, "gymnasium.wrappers.atari_preprocessing", raising=False)

    def make():
        from gymnasium.wrappers import atari_preprocessing

        return atari_preprocessing.AtariPreprocessing(ChainEnv())

    with pytest.raises(ValueError, match="`pip install opencv-python-headless`"):
        make_env(make)


def test_a_package_that_a_named_wrapper_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    images = gymnasium.spaces.Box(0, 255, (120, 160), np.uint8)

    def resized(env):
        env.observation_space = images
        return gymnasium.wrappers.ResizeObservation(env, (84, 84))

    with pytest.raises(ValueError, match="package is missing: run `pip install opencv-python-hea"):
        make_env(Wrapped(ChainEnv, (resized,)))


def test_arguments():
    assert make_env(ChainEnv, {"time_limit": 3}).time_limit == 3
    for env in (ChainEnv, "CartPole-v1"):
        with pytest.raises(ValueError, match="does not take all of env_kwargs"):
            make_env(env, {"no_such": 1})


@pytest.mark.parametrize("env", [None, 3, ChainEnv()])
def test_neither_id_nor_callable(env):
    with pytest.raises(ValueError, match=r"an environment id or a callable.*lambda: MyEnv"):
        env_factory(env)


# --- time limits ---


class Endless(ChainEnv):
    """Never ends, whatever it states."""

    def __init__(self, **stated):
        super().__init__(time_limit=10**9)
        for name, value in stated.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("stated", "limit"),
    [
        ({}, None),
        ({"max_steps": 64}, 64),  # MiniGrid
        ({"max_episode_length": np.int64(7)}, 7),  # POPGym
        ({"max_episode_steps": 9, "max_steps": 5}, 5),
        ({"max_steps": None}, None),
        ({"max_steps": 0}, None),
        ({"max_episode_length": "many"}, None),
        ({"max_steps": lambda: 3}, None),
    ],
)
def test_limits_are_read_where_environments_state_them(stated, limit):
    assert time_limit(Endless(**stated)) == limit


def steps_of(env) -> int:
    env.reset(seed=0)
    for step in itertools.count(1):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            return step
    raise AssertionError


def test_one_limit_for_ids_callables_and_wrapped_ones():
    assert steps_of(make_env(Endless, max_episode_steps=7)) == 7
    assert steps_of(make_env("CliffWalking-v1", max_episode_steps=7)) == 7  # which has none
    # It replaces the one that an id is registered with, also by a longer one.
    assert time_limit(make_env("MountainCar-v0", max_episode_steps=300)) == 300
    wrapped = Wrapped("MountainCar-v0", (gymnasium.wrappers.NormalizeReward,))
    assert steps_of(make_env(wrapped, max_episode_steps=7)) == 7
    envs = make_ported_envs("CliffWalking-v1", 2, max_episode_steps=3)
    state, _ = envs.reset(tf.constant([0, 1]))
    ends = []
    for i in range(3):
        state, step = envs.step(state, tf.constant([0, 0]), tf.constant([0, i]))
        ends.append(step.truncated.numpy().tolist())
    assert ends == [[False, False], [False, False], [True, True]]
