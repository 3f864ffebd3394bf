"""Hints for names that nothing has."""

import pytest

from rlzoo.cli import help
from rlzoo.text import ALIASES, nearest

AGENTS = ("dqn", "dyna_q", "reinforce", "tf_agents.dqn", "tf_agents.ppo")
ALL = "Known: dqn, dyna_q, reinforce, tf_agents.dqn, tf_agents.ppo."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DQN", f"Did you mean 'dqn'? {ALL}"),
        ("Dyna-Q", f"Did you mean 'dyna_q'? {ALL}"),
        ("ppo", f"Did you mean 'tf_agents.ppo'? {ALL}"),
        ("reinforc", f"Did you mean 'reinforce'? {ALL}"),
        ("q-learning", "It is called 'dyna_q' here."),
        ("zzz", ALL),
        ("dog", ALL),
        ("", ALL),
    ],
)
def test_hints(name, hint):
    assert nearest(name, AGENTS) == hint


def test_a_name_that_others_give_counts_where_the_thing_is_there():
    assert nearest("buffer_size", ["replay_capacity"]) == "It is called 'replay_capacity' here."
    assert "called" not in nearest("buffer_size", ["discount"])
    assert nearest("Hidden", ["torso"]) == "It is called 'torso.sizes' here."
    assert nearest("temperature", ["humidity"]) == "Known: humidity."  # a column of a file


def test_a_long_list_is_left_out_if_something_is_near():
    names = [f"name{i}" for i in range(50)]
    assert nearest("Name7", names) == "Did you mean 'name7'?"
    assert "Known: name0, " in nearest("???", names)


def test_every_alias_leads_to_something():
    known = {
        s.name for name in help.names() for found in help.entries(name).values() for s in found
    }
    assert set(ALIASES.values()) <= known | set(help.names())
    assert not set(ALIASES) & known - {"epsilon", "temperature"}
