"""Everything that has a name on the command line and in a configuration, and where it is.

Reading a table imports nothing, so that help, hints and completion are quick; an entry is imported
when it is asked for. Adding a thing is one file and one line here.
"""

import importlib
from collections import UserDict
from typing import Any


class Table(UserDict[str, Any]):
    """Things by name; one that is given as "module:Name" is imported when it is asked for.

    `data` holds the texts.
    """

    def __getitem__(self, name: str) -> Any:
        """Returns the thing itself; of an entry that is a dict, a dict of things."""
        return _load(self.data[name])


def _load(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {kind: _load(one) for kind, one in entry.items()}
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


AGENTS = Table(
    {
        "dqn": "rlzoo.agents.dqn:DQN",
        "reinforce": "rlzoo.agents.reinforce:REINFORCE",
        "dyna_q": {  # one that differs by the kind of observation
            "discrete": "rlzoo.agents.tabular_dyna_q:TabularDynaQ",
            "box": "rlzoo.agents.deep_dyna_q:DeepDynaQ",
        },
    }
)

BRIDGED = Table(  # agents of TF-Agents, an extra; `rlzoo.interop.tf_agents.register` adds them
    {
        "tf_agents.dqn": "rlzoo.interop.tf_agents.dqn:TFAgentsDQN",
        "tf_agents.reinforce": "rlzoo.interop.tf_agents.reinforce:TFAgentsREINFORCE",
        "tf_agents.ppo": "rlzoo.interop.tf_agents.ppo:TFAgentsPPO",
        "tf_agents.sac": "rlzoo.interop.tf_agents.sac:TFAgentsSAC",
        "tf_agents.td3": "rlzoo.interop.tf_agents.td3:TFAgentsTD3",
    }
)

TORSOS = Table(
    {
        "dense": "rlzoo.networks.torsos:dense",
        "conv": "rlzoo.networks.torsos:conv",
        "lstm": "rlzoo.networks.torsos:lstm",
        "gru": "rlzoo.networks.torsos:gru",
        "rnn": "rlzoo.networks.torsos:rnn",
    }
)

EXPLORATIONS = Table(
    {
        "greedy": "rlzoo.exploration:Greedy",
        "epsilon_greedy": "rlzoo.exploration:EpsilonGreedy",
        "softmax": "rlzoo.exploration:Softmax",
        "epsilon_softmax": "rlzoo.exploration:EpsilonSoftmax",
    }
)

SCHEDULES = Table(
    {
        "constant": "rlzoo.ops.schedules:Constant",
        "linear": "rlzoo.ops.schedules:Linear",
        "exponential": "rlzoo.ops.schedules:Exponential",
        "piecewise": "rlzoo.ops.schedules:Piecewise",
    }
)

TASKS = Table(
    {
        "mnist": "rlzoo.tasks.mnist:MNIST",
        "adding": "rlzoo.tasks.adding:Adding",
        "recall": "rlzoo.tasks.recall:Recall",
        "forecast": "rlzoo.tasks.forecast:Forecast",
        "characters": "rlzoo.tasks.characters:Characters",
        "reconstruct": "rlzoo.tasks.reconstruct:Reconstruct",
        "predict": "rlzoo.tasks.predict:Predict",
    }
)

ENVS = {  # our own; Gymnasium imports them
    "rlzoo/DynaMaze-v0": "rlzoo.envs.maze:DynaMaze",
    "rlzoo/BlockingMaze-v0": "rlzoo.envs.maze:BlockingMaze",
    "rlzoo/ShortcutMaze-v0": "rlzoo.envs.maze:ShortcutMaze",
    "rlzoo/Catch-v0": "rlzoo.envs.catch:Catch",
    "rlzoo/DeepSea-v0": "rlzoo.envs.deep_sea:DeepSea",
    "rlzoo/Memory-v0": "rlzoo.envs.memory:Memory",
    "rlzoo/CartPoleNoVel-v1": "rlzoo.envs.cartpole:CartPoleNoVel",
    "rlzoo/DigitBandit-v0": "rlzoo.envs.digits:DigitBandit",
    "rlzoo/DigitSequence-v0": "rlzoo.envs.digits:DigitSequence",
    "rlzoo/DigitMaze-v0": "rlzoo.envs.digits:DigitMaze",
}
