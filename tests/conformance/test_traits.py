"""What each agent declares, pinned: who declines what, and that it then says so."""

import dataclasses

import pytest

from rlzoo.agents import AGENTS, Traits, agent_class
from rlzoo.spaces import Box, Discrete, EnvSpec, MultiDiscrete
from tests.helpers import BOX, DISCRETE, PARTS, make_agent

DECLINES = {  # what differs from the traits of an agent that takes all there is
    "dqn": {},
    "reinforce": {"whole_episodes": True, "policy": True},
    "dyna_q on Box": {"recurrent": False},
    "dyna_q on Discrete": {
        "recurrent": False, "adapts_input": False, "observations": ("Discrete",),
    },
}  # fmt: skip


def declared():
    for name, entry in AGENTS.items():
        if isinstance(entry, dict):
            for spec, kind in ((BOX, "Box"), (DISCRETE, "Discrete")):
                yield f"{name} on {kind}", agent_class(name, spec)
        else:
            yield name, entry


def test_the_table_says_who_declines_what():
    """An agent that is new, or that takes more or less than before, changes a line here."""
    usual = dataclasses.asdict(Traits())
    found = {
        name: {
            field: value
            for field, value in dataclasses.asdict(cls.traits).items()
            if value != usual[field]
        }
        for name, cls in declared()
    }
    assert found == DECLINES


@pytest.mark.parametrize("name", AGENTS)
def test_actions_of_another_kind_are_refused_with_what_to_use(name):
    spec = BOX._replace(action=Box((2,), "float32", -1.0, 1.0))
    with pytest.raises(ValueError, match=rf"{name} takes Discrete actions.*tf_agents.sac"):
        agent_class(name, spec)


def test_observations_of_another_kind_are_refused_with_what_to_use(monkeypatch):
    class Own(type(make_agent("dqn", BOX))):
        traits = Traits(observations=("Discrete",))

    monkeypatch.setitem(AGENTS, "own", Own)
    assert agent_class("own", DISCRETE) is Own
    for spec, told in (
        (BOX, r"own takes Discrete observations, received numbers \[3\]. Take the agent dqn"),
        (PARTS, r"received the parts \['camera', .*FlattenObservation makes one array"),
        (EnvSpec(MultiDiscrete((2, 3)), Discrete(2), 5), r"own takes Discrete observations"),
    ):
        with pytest.raises(ValueError, match=told):
            agent_class("own", spec)
