"""Environments in TensorFlow ops: ports of Gymnasium environments, for the graph loop.

A new one is one file and one line here.
"""

import gymnasium

from rlzoo.envs.ports.acrobot import Acrobot
from rlzoo.envs.ports.base import EnvState, Port, PortedEnvs
from rlzoo.envs.ports.cartpole import CartPole, CartPoleNoVel
from rlzoo.envs.ports.mountain_car import MountainCar, MountainCarContinuous
from rlzoo.envs.ports.pendulum import Pendulum

PORTS: dict[str, type[Port]] = {  # by the id that Gymnasium registers
    "Acrobot-v1": Acrobot,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "MountainCarContinuous-v0": MountainCarContinuous,
    "Pendulum-v1": Pendulum,
    "rlzoo/CartPoleNoVel-v1": CartPoleNoVel,
}

__all__ = ["PORTS", "EnvState", "Port", "PortedEnvs", "make_port"]


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
