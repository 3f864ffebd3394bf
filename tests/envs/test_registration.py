import importlib
import subprocess
import sys
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rlzoo.envs import ENVS, check_env, register


@pytest.mark.parametrize("env_id", ENVS)
def test_entry_points_and_docstrings(env_id):
    module, _, name = ENVS[env_id].partition(":")
    doc = getattr(importlib.import_module(module), name).__doc__
    for word in ("Observation:", "Actions:", "Reward:", "End:", "Source:"):
        assert word in doc


@pytest.mark.parametrize("env_id", ENVS)
def test_gymnasium_finds_nothing(env_id):
    env = gymnasium.make(env_id, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(env.unwrapped)
        assert check_env(env_id) == []
    env.close()


def test_registering_again_changes_nothing():
    before = dict(gymnasium.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert dict(gymnasium.registry) == before
    assert set(ENVS) <= set(before)


def test_no_tensorflow_is_imported():
    code = (
        "import sys, rlzoo.envs; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
