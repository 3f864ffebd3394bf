"""The agents. Adding one is a file and a line in `rlzoo.tables.AGENTS`."""

from rlzoo.agents.actor import Actor, ActorState, Mode, ScoreActor
from rlzoo.agents.base import Agent, Traits, acting_variables, variables
from rlzoo.agents.deep_dyna_q import DeepDynaQ
from rlzoo.agents.dqn import DQN
from rlzoo.agents.reinforce import REINFORCE
from rlzoo.agents.tabular_dyna_q import TabularDynaQ
from rlzoo.spaces import Discrete, EnvSpec, describe, unmasked
from rlzoo.tables import AGENTS, check_agent

_OTHERWISE = {  # what to do where an agent does not take such actions
    "Box": (
        "Make them Discrete, as in --wrapper '{name: DiscretizeAction, bins: 5}', or take the "
        "agent tf_agents.sac or tf_agents.td3."
    ),
    "Discrete": "Take the agent dqn or reinforce.",
}


def agent_class(name: str, spec: EnvSpec) -> type:
    """Returns the class of an agent for an environment.

    Raises:
        ValueError: no agent has this name, or it does not take such actions or observations.
    """
    check_agent(name)
    entry = AGENTS[name]
    if isinstance(entry, dict):
        seen = unmasked(spec.obs)
        entry = entry["discrete" if isinstance(seen, Discrete) else "box"]
    kind = type(spec.action).__name__
    takes = entry.traits.actions
    if kind not in takes:
        raise ValueError(
            f"{name} takes {' or '.join(takes)} actions, this environment has {kind} ones. "
            f"{_OTHERWISE[kind]}"
        )
    seen = unmasked(spec.obs)
    if type(seen).__name__ not in entry.traits.observations:
        several = isinstance(seen, dict)
        instead = "--wrapper FlattenObservation makes one array of them"
        raise ValueError(
            f"{name} takes {' or '.join(entry.traits.observations)} observations, received "
            f"{f'the parts {sorted(seen)}' if several else describe(seen)}. "
            f"{instead if several else 'Take the agent dqn or reinforce'}."
        )
    return entry


__all__ = [
    "AGENTS",
    "DQN",
    "REINFORCE",
    "Actor",
    "ActorState",
    "Agent",
    "DeepDynaQ",
    "Mode",
    "ScoreActor",
    "TabularDynaQ",
    "Traits",
    "acting_variables",
    "agent_class",
    "variables",
]
