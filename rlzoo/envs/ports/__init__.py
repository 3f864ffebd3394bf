"""Environments in TensorFlow ops: ports of Gymnasium environments, for the graph loop.

A new one is one file and one line here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium

from rlzoo.envs.making import EnvSource, make_env
from rlzoo.envs.ports.acrobot import Acrobot
from rlzoo.envs.ports.base import EnvState, Port, PortedEnvs
from rlzoo.envs.ports.cartpole import CartPole, CartPoleNoVel
from rlzoo.envs.ports.catch import Catch
from rlzoo.envs.ports.deep_sea import DeepSea
from rlzoo.envs.ports.digits import DigitBandit, DigitMaze, DigitSequence
from rlzoo.envs.ports.maze import Maze
from rlzoo.envs.ports.memory import Memory
from rlzoo.envs.ports.mountain_car import MountainCar, MountainCarContinuous
from rlzoo.envs.ports.pendulum import Pendulum
from rlzoo.envs.ports.tabular import Tabular
from rlzoo.envs.slot import probe, time_limit
from rlzoo.spaces import EnvSpec

PORTS: dict[str, type[Port]] = {  # by the id that Gymnasium registers
    "Acrobot-v1": Acrobot,
    "CartPole-v1": CartPole,
    "CliffWalking-v1": Tabular,
    "CliffWalkingSlippery-v1": Tabular,
    "FrozenLake-v1": Tabular,
    "FrozenLake8x8-v1": Tabular,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
    "Taxi-v3": Tabular,  # until Gymnasium 1.2
    "Taxi-v4": Tabular,  # since Gymnasium 1.3
    "rlzoo/BlockingMaze-v0": Maze,
    "rlzoo/CartPoleNoVel-v1": CartPoleNoVel,
    "rlzoo/Catch-v0": Catch,
    "rlzoo/DeepSea-v0": DeepSea,
    "rlzoo/DigitBandit-v0": DigitBandit,
    "rlzoo/DigitMaze-v0": DigitMaze,
    "rlzoo/DigitSequence-v0": DigitSequence,
    "rlzoo/DynaMaze-v0": Maze,
    "rlzoo/Memory-v0": Memory,
    "rlzoo/ShortcutMaze-v0": Maze,
}

__all__ = ["PORTS", "EnvState", "Port", "PortedEnvs", "make_port", "make_ported_envs", "ported"]


def make_port(env: gymnasium.Env) -> Port:
    """Returns the port of an environment, with the settings that this one has.

    Raises:
        ValueError: it has no port, or one that lacks a setting.
    """
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    if name not in PORTS:
        raise ValueError(
            f"{name} has no port in TensorFlow ops, so the graph loop cannot run it: use "
            f"--loop host. Ports: {', '.join(sorted(PORTS))}."
        )
    added = env.spec.additional_wrappers if env.spec else ()
    if added:
        wrappers = ", ".join(wrapper.name for wrapper in added)
        raise ValueError(
            f"{name} is wrapped in {wrappers}, which its port in TensorFlow ops does not know: "
            "use --loop host."
        )
    return PORTS[name](env.unwrapped)


def make_ported_envs(
    env: EnvSource,
    num_envs: int,
    env_kwargs: dict[str, Any] | None = None,
    max_episode_steps: int = 0,
) -> PortedEnvs:
    """Returns N copies of the port of an environment. Arguments are as in `make_envs`."""
    original = make_env(env, env_kwargs, max_episode_steps)
    try:
        return ported(original, probe(original).spec)(num_envs)
    finally:
        original.close()


def ported(original: gymnasium.Env, spec: EnvSpec) -> Callable[[int], PortedEnvs]:
    """Returns what makes N copies of the port of an environment, which may be closed by then.

    Args:
        original: the environment.
        spec: of it; its time limit may be another than the original's.

    Raises:
        ValueError: as `make_port`.
    """
    name = "_max_episode_steps"  # of the wrapper that truncates
    wrapped = original.get_wrapper_attr(name) if original.has_wrapper_attr(name) else None
    limit = spec.max_episode_steps
    truncates = limit == wrapped or limit != time_limit(original)
    return partial(PortedEnvs, make_port(original), spec, truncates=truncates)
