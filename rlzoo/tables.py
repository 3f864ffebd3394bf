"""Everything that has a name on the command line and in a configuration, and where it is.

Reading a table imports nothing, so that help, hints and completion are quick; an entry is imported
when it is asked for. Adding a thing is one file and one line here.
"""

import difflib
import importlib
import os
import sys
from collections import UserDict
from pathlib import Path
from typing import Any

from rlzoo.text import nearest


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
        "greedy": "rlzoo.exploration.strategies:Greedy",
        "epsilon_greedy": "rlzoo.exploration.strategies:EpsilonGreedy",
        "softmax": "rlzoo.exploration.strategies:Softmax",
        "epsilon_softmax": "rlzoo.exploration.strategies:EpsilonSoftmax",
        "epsilon_z": "rlzoo.exploration.epsilon_z:EpsilonZ",
        "ucb": "rlzoo.exploration.ucb:UCB",
        "ornstein_uhlenbeck": "rlzoo.exploration.noise:OrnsteinUhlenbeck",
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

_CONTRACT = ("Config", "traits", "init", "update", "variables")  # what a class of agents must have


def agent_name(agent: str | type) -> str:
    """Returns the name of an agent: one of ours, or "module:Class" of one that the caller brings.

    From here on the process knows it by this name. Only for what the caller has given: a file's
    names import nothing.

    Args:
        agent: a name, "module:Class", or a class.

    Raises:
        ValueError: it is no agent's class, or its module does not import.
    """
    if isinstance(agent, str) and ":" not in agent:
        return agent
    cls = import_named(agent, "agent") if isinstance(agent, str) else agent
    missing = [name for name in _CONTRACT if not hasattr(cls, name)]
    if not isinstance(cls, type) or missing:
        lacks = f", which has no {missing[0]}" if missing else ""
        raise ValueError(
            f"agent: expected a class with {', '.join(_CONTRACT)}, as rlzoo/agents/base.py says, "
            f"received {agent!r}{lacks}."
        )
    name = agent if isinstance(agent, str) else f"{cls.__module__}:{cls.__qualname__}"
    AGENTS[name] = cls
    return name


def check_agent(name: str) -> None:
    """Raises a `ValueError` if no agent has this name, or one that has not been brought yet."""
    if name in AGENTS:
        return
    if ":" in name:
        raise ValueError(
            f"The agent {name!r} is none of rlzoo's own, and a file may not import it. If you "
            f"trust it, give it yourself: --agent {name} (in Python: agent={name!r})."
        )
    raise ValueError(f"Unknown agent {name!r}. {nearest(name, [*AGENTS, *BRIDGED])}")


def import_named(name: str, what: str) -> Any:
    """Returns what "module:Name" names. Only for names that the user has typed, not for files'.

    Args:
        name: of the module, and of what is in it.
        what: it is, for messages.

    Raises:
        ValueError: for another form, a module that does not import, a name it does not have.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{what}: expected module:Name, received {name!r}.")
    found = import_users(module, attribute, what)
    if not hasattr(found, attribute):
        names = [name for name in dir(found) if not name.startswith("_")]
        raise ValueError(f"{what}: {module} has no {attribute!r}. {nearest(attribute, names)}")
    return getattr(found, attribute)


def import_users(module: str, name: str, what: str) -> Any:
    """Imports the module of "module:name", as the user has typed it; says what it might be."""
    try:
        return import_module(module)
    except ImportError as error:
        hint = ""
        if module.startswith(error.name or " "):  # else it is there, and what it needs is missing
            here = [path.stem for path in Path().glob("*.py")]
            here += [path.parent.name for path in Path().glob("*/__init__.py")]
            near = difflib.get_close_matches(module, here, n=3, cutoff=0.5)
            hint = " The current folder is searched too."
            if (bare := module.removesuffix(".py").replace("/", ".")) != module:
                hint = f" Write it as {f'{bare}:{name}'!r}."
            elif near:
                hint += f" Did you mean {', '.join(repr(f'{other}:{name}') for other in near)}?"
        raise ValueError(
            f"{what} {f'{module}:{name}'!r} names the module {module!r}, which does not import "
            f"({error}).{hint}"
        ) from error


def import_module(module: str) -> Any:
    """Imports a module that the user has named, from the current folder if it is nowhere else."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # for good: what it holds is imported again in other processes
    try:
        return importlib.import_module(module)
    except SystemExit as error:
        raise RuntimeError(f"importing {module} called sys.exit({error.code!r})") from error
