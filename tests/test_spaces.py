"""The spaces as learners see them: nesting, layout in bytes, words and files."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlzoo import spaces
from rlzoo.spaces import MASK, Box, Discrete, EnvSpec, Layout, Mask, MultiDiscrete

LEAVES = st.one_of(
    st.builds(Discrete, st.integers(1, 9), st.lists(st.integers(1, 3), max_size=2).map(tuple)),
    st.builds(
        Box,
        st.lists(st.integers(1, 3), max_size=3).map(tuple),
        st.sampled_from(["float32", "float64", "uint8", "bool", "int16"]),
        st.none(),
        st.none(),
    ),
    st.builds(MultiDiscrete, st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)),
    st.builds(Mask, st.integers(1, 4)),
    st.just(Box((2,), "uint8", 0, 255)),
    st.just(Box((2,), "float32", (-1.0, -2.0), (1.0, 2.0))),
)
KEYS = st.text(st.sampled_from("ab_é 0"), min_size=1, max_size=3)
SPACES = st.recursive(LEAVES, lambda x: st.dictionaries(KEYS, x, min_size=1, max_size=3))


@given(SPACES)
def test_a_space_survives_json(space):
    assert spaces.read_space(json.loads(json.dumps(spaces.plain(space)))) == space


@given(SPACES, st.data())
def test_what_is_damaged_is_refused_or_another_space(space, data):
    values = spaces.plain(space)
    inside = values
    while isinstance(inside, dict):
        key = data.draw(st.sampled_from(sorted(inside)))
        parent, inside = inside, inside[key]
    parent[key] = data.draw(
        st.sampled_from([None, -1, 0, "x", 2.5, [], {}, [0], [-3], float("nan"), 10**12, True])
    )
    try:
        found = spaces.read_space(values)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert all(math.prod(leaf.shape) > 0 for leaf in spaces.leaves(found))


@given(SPACES, st.integers(1, 3))
def test_arrays_lie_side_by_side_in_one(space, count):
    fields = spaces.map_leaves(lambda leaf: ((count, *leaf.shape), leaf.dtype), space)
    layout = Layout(fields)
    data = np.zeros(layout.num_bytes, np.uint8)
    views = spaces.leaves(layout.views(data))
    for i, (view, leaf) in enumerate(zip(views, spaces.leaves(space), strict=True)):
        assert view.shape == (count, *leaf.shape) and view.dtype == leaf.dtype
        view[...] = i + 1
    for i, view in enumerate(views):  # none has written to another
        assert (view == np.array(i + 1).astype(view.dtype)).all()


def test_leaves_and_paths_come_in_the_order_of_keys():
    tree = {"b": 1, "a": {"d": 2, "c": 3}}
    assert spaces.leaves(tree) == [3, 2, 1]
    assert list(spaces.items(tree)) == [("a/c", 3), ("a/d", 2), ("b", 1)]
    assert list(spaces.items(5)) == [("", 5)]
    assert spaces.filled(tree, "xyz") == {"a": {"c": "x", "d": "y"}, "b": "z"}
    assert spaces.map_leaves(lambda x, y: x + y, tree, tree) == {"b": 2, "a": {"d": 4, "c": 6}}


def test_rows_are_written_and_copied_leaf_by_leaf():
    rows = {"a": np.zeros((2, 3)), "b": {"c": np.zeros(2, int)}}
    spaces.write_row(rows, 1, {"a": [1, 2, 3], "b": {"c": 7}})
    assert rows["a"].tolist() == [[0, 0, 0], [1, 2, 3]] and rows["b"]["c"].tolist() == [0, 7]
    others = {"a": np.ones((2, 3)), "b": {"c": np.ones(2, int)}}
    spaces.copy_row(rows, others, 0)
    assert rows["a"].tolist() == [[1, 1, 1], [1, 2, 3]] and rows["b"]["c"].tolist() == [1, 7]


def test_a_mask_is_no_part_that_a_torso_sees():
    obs = {"obs": Discrete(5), MASK: Mask(3)}
    assert spaces.unmasked(obs) == Discrete(5) == spaces.leaf_of(obs)
    assert spaces.mask_of(obs) == Mask(3) and spaces.mask_of(Discrete(5)) is None
    several = {"a": Discrete(5), "b": Box((2,)), MASK: Mask(3)}
    assert spaces.unmasked(several) == {"a": Discrete(5), "b": Box((2,))}
    with pytest.raises(ValueError, match=r"received the parts \['a', 'b'\]. .*FlattenObservation"):
        spaces.leaf_of(several)


def test_what_a_torso_sees_in_words():
    assert spaces.describe(Box((84, 84), "uint8", 0, 255)) == "pixels [84, 84]"
    assert spaces.describe(Box((4,), "uint8", 0, 7)) == spaces.describe(Box((4,))) == "numbers [4]"
    assert spaces.describe(Discrete(3, (2,))) == "Discrete(3)[2]"
    nested = {"b": MultiDiscrete((2, 3)), "a": {"c": Discrete(3)}, MASK: Mask(2)}
    assert spaces.describe(nested) == "{a/c: Discrete(3), b: MultiDiscrete([2, 3])}"


def test_a_spec_counts_its_actions():
    spec = EnvSpec(Box((4,)), Discrete(2), 500)
    assert (spec.num_actions, spec.action_dtype) == (2, "int32")
    spec = EnvSpec(Box((4,)), Box((1,), "float32", (-2.0,), (2.0,)), None)
    assert spec.action_dtype == "float32"
    with pytest.raises(ValueError, match="expected Discrete actions"):
        spec.num_actions  # noqa: B018
    assert spec.plain() == {
        "obs": {"Box": {"shape": [4], "dtype": "float32", "low": None, "high": None}},
        "action": {"Box": {"shape": [1], "dtype": "float32", "low": [-2.0], "high": [2.0]}},
        "max_episode_steps": None,
    }


def test_what_is_seen_of_a_space_where_frames_are_stacked():
    pixels = Box((84, 84), "uint8", 0, 255)
    parts = {"a": pixels, "b": Discrete(3), "c": {"d": MultiDiscrete((2, 5))}, MASK: Mask(2)}
    spec = EnvSpec(parts, Discrete(2), 500)
    assert spec.seen is spec.obs
    stacked = spec._replace(frames=3)
    assert stacked.seen == {
        "a": Box((3, 84, 84), "uint8", 0, 255),
        "b": MultiDiscrete((3, 3, 3)),
        "c": {"d": MultiDiscrete((2, 5, 2, 5, 2, 5))},
        MASK: Mask(2),
    }
    assert stacked.seen["a"].pixels
    assert stacked.plain() == spec.plain(), "the environment is the same"
    assert EnvSpec(Discrete(2, (2,)), Discrete(2), 5, frames=2).seen == MultiDiscrete((2, 2, 2, 2))
