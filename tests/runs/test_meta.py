"""What a checkpoint says beside its arrays, forged in every way."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlzoo.envs import make_envs
from rlzoo.loops.host import HostLoop
from rlzoo.runs import meta as metas
from tests.helpers import make_agent

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "a", "1", "../x", "callable:a.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def saved():
    """A host loop amid its episodes, and what its checkpoint would hold."""
    envs = make_envs("CartPole-v1", 2, 0)
    loop = HostLoop(make_agent("dqn", envs.spec), envs, 0)
    for _ in range(3):
        loop.run()
    arrays, plain = loop.get_state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    meta = {
        "loop": {
            **plain, "step": 24, "seconds": 1.5, "best": 3.0, "evaluated": 8, "solved_at": None,
            "means": {"loss/td": [1.0, 2.0]},
        },
        "log": {"files": {"metrics.csv": 100}, "window": [1, 2.0, 3.0]},
        "spec": envs.spec.plain(),
        "epoch": 3, "best": [0.5, 2], "seconds": 1.0, "torso": {"name": "dense"},
        "classes": ["0", "1"],
    }  # fmt: skip
    yield loop, arrays, json.loads(json.dumps(meta))
    envs.close()


def places(value, path=()):
    """Returns the path of every item in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


def go_on(loop, arrays, meta) -> None:
    """Does what a resume does with a meta."""
    progress = vars(metas.read(metas.Progress, meta.get("loop"), "loop"))
    template = loop.template(progress)
    if {name: array.shape for name, array in arrays.items()} != {
        name: tuple(shape) for name, (shape, _) in template.items()
    }:
        raise ValueError("arrays of another shape")  # as the checkpoint would say
    loop.set_state(arrays, progress)
    metas.read(metas.LogState, meta.get("log"), "log")
    spec = meta.get("spec")
    metas.obs_space(spec.get("obs") if isinstance(spec, dict) else spec, "spec.obs")
    metas.read_epochs(meta)
    metas.checked_torso(meta.get("torso"))
    metas.checked_classes(meta.get("classes"))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_is_forged_works_or_is_refused_in_one_line(saved, data):
    loop, arrays, meta = saved
    meta = copy.deepcopy(meta)
    *path, last = data.draw(st.sampled_from(places(meta)), label="place")
    inside = meta
    for key in path:
        inside = inside[key]
    if data.draw(st.booleans(), label="replaced"):
        inside[last] = data.draw(ANYTHING, label="by")
    else:
        del inside[last]
    try:
        go_on(loop, arrays, meta)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 600


def test_what_was_saved_is_taken(saved):
    loop, arrays, meta = saved
    go_on(loop, arrays, meta)
    for name, array in loop.get_state()[0].items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("written", [{}, {"keras": "0.1"}])
def test_versions_that_were_not_written_are_listed(written):
    with pytest.warns(UserWarning, match="keras .* then") as caught:
        metas.warn_of_other_versions(written)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
