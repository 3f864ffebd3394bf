"""Numbers as Python users write them."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from rlzoo.cli.parser import parse
from rlzoo.config.advice import advice
from rlzoo.config.files import to_yaml
from rlzoo.config.resolve import resolve
from rlzoo.config.values import json_value, plain_value, typed
from rlzoo.config.wrappers import describe as describe_wrappers
from rlzoo.runs.seeds import _numbers

STACK = {"name": "FrameStackObservation", "stack_size": 4}
OWN = {"name": "callable:mine.Own"}


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1e3, int, 1000),
        (np.int64(7), int, 7),
        (np.uint8(7), float, 7.0),
        (np.float64(3.0), int, 3),
        (np.array(5), int, 5),
        (np.float32(0.5), float, 0.5),
        (np.bool_(True), bool, True),
        (np.array([8, 16]), tuple[int, ...], (8, 16)),
        (range(2, 4), tuple[int, ...], (2, 3)),
        ([np.int32(8)], tuple[int, ...], (8,)),
        (Path("a/b"), str, "a/b"),
        (np.str_("relu"), str, "relu"),
    ],
)
def test_it_is_taken(value, hint, expected):
    found = typed(value, hint, "x")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [(np.float64(1.5), int), (np.nan, float), (np.bool_(True), int), ("100", int), (np.inf, int)],
)
def test_it_is_refused_in_one_line(value, hint):
    with pytest.raises(ValueError, match=r"x: expected .* received") as caught:
        typed(value, hint, "x")
    assert "\n" not in str(caught.value)


def test_a_run_takes_them_everywhere():
    config = resolve(
        "dqn", "CartPole-v1", steps=1e3, seed=np.int64(2**40), num_envs=np.int32(2), preset=False,
        overrides={
            "learning_rate": np.float32(1e-3), "double_q": np.bool_(False), "eval_every": 2e2,
            "torso.sizes": np.array([8, 8]), "exploration.epsilon": np.float64(0.1),
            "env.max_episode_steps": np.int64(20),
        },
    )  # fmt: skip
    assert (config.steps, config.seed, config.num_envs, config.eval_every) == (1000, 2**40, 2, 200)
    assert yaml.safe_load(to_yaml(config))["torso"]["sizes"] == [8, 8]
    assert config.max_episode_steps == 20


def test_json_holds_what_a_command_returns():
    given = {
        1: np.float32(0.5), "nan": float("nan"), "array": np.array([1.0, np.inf]), "bool": True,
        "path": Path("a/b"), "pair": (None, np.int64(3)), "class": int,
    }  # fmt: skip
    expected = {
        "1": 0.5, "nan": None, "array": [1.0, None], "bool": True,
        "path": "a/b", "pair": [None, 3], "class": "<class 'int'>",
    }  # fmt: skip
    assert json_value(given) == expected
    json.dumps(json_value(given), allow_nan=False)


@pytest.mark.parametrize("name", ["steps", "seed", "num_envs"])
@pytest.mark.parametrize("value", [-1, 2**70, np.int64(-5), 1.5, "100", [1]])
def test_numbers_out_of_range_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=rf"{name}: expected .*, received") as caught:
        resolve("dqn", "CartPole-v1", **{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seeds", [range(3), np.arange(3), [2, 0, 1, 1], (0.0, 1, 2), {0, 1, 2}])
def test_seeds(seeds):
    found = _numbers(seeds)
    assert found == [0, 1, 2] and all(type(seed) is int for seed in found)


@pytest.mark.parametrize("seeds", [3, "0-2", [], [0.5], ["0"], [True], None])
def test_what_are_no_seeds(seeds):
    with pytest.raises(ValueError, match="seeds: expected"):
        _numbers(seeds)


def test_a_strange_object_is_left_to_its_check():
    thing = object()
    assert plain_value({"a": thing})["a"] is thing


@pytest.mark.parametrize(
    ("env", "wrappers", "command"),
    [
        ("CartPole-v1", [], "rlzoo resume 'runs/a b'"),
        ("CartPole-v1", [STACK], "rlzoo resume 'runs/a b'"),
        ("my_env:My-v0", [STACK], "rlzoo resume 'runs/a b' --env my_env:My-v0"),
        (
            "CartPole-v1",
            [STACK, {"name": "mine:Own"}],
            "rlzoo resume 'runs/a b' --wrapper '{name: FrameStackObservation, stack_size: 4}' "
            "--wrapper mine:Own",
        ),
        ("callable:mine.make", [], "rlzoo.resume('runs/a b', env=...) in Python"),
        ("CartPole-v1", [OWN], "rlzoo.resume('runs/a b', wrappers=...) in Python"),
        ("my_env:My-v0", [OWN], "rlzoo.resume('runs/a b', env=..., wrappers=...) in Python"),
    ],
)
def test_printed_commands_can_be_pasted(env, wrappers, command):
    assert advice("resume", "runs/a b", env, wrappers) == command
    if command.startswith("rlzoo resume"):
        typed = parse(shlex.split(command)[1:]).wrappers
        assert typed is None or describe_wrappers(typed) == tuple(wrappers)
