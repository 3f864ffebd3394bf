"""TF-Agents, both ways: their agents on our environments, our agents as their policies.

Import this, or set TF_USE_LEGACY_KERAS=1, before TensorFlow is first imported.
"""

from rlzoo.interop import extras

extras.prepare()

from rlzoo.interop.tf_agents.environment import GymnasiumEnvironment
from rlzoo.interop.tf_agents.networks import TorsoNetwork
from rlzoo.interop.tf_agents.parts import register
from rlzoo.interop.tf_agents.policies import ExplorationPolicy, RlzooPolicy, to_tf_policy
from rlzoo.interop.tf_agents.specs import action_spec, observation_spec, time_step_spec
from rlzoo.interop.tf_agents.trajectories import to_chunk, to_trajectory, to_transitions
from rlzoo.tables import BRIDGED as AGENTS

__all__ = [
    "AGENTS",
    "ExplorationPolicy",
    "GymnasiumEnvironment",
    "RlzooPolicy",
    "TorsoNetwork",
    "action_spec",
    "observation_spec",
    "register",
    "time_step_spec",
    "to_chunk",
    "to_tf_policy",
    "to_trajectory",
    "to_transitions",
]
