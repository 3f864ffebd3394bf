"""The environment of a run, opened and checked once for all that a command does with it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rlzoo.config.record import RunConfig

if TYPE_CHECKING:
    from rlzoo.envs.making import EnvSource
    from rlzoo.envs.ports import PortedEnvs
    from rlzoo.envs.slot import Probe


class Opened(NamedTuple):
    """What one environment told, which was made for that and closed again."""

    probe: "Probe"
    ported: "Callable[[int], PortedEnvs] | None" = None  # makes N of its port, for the graph loop


def opened(config: RunConfig, env: "EnvSource") -> Opened:
    """Asks an environment of a run whose configuration is complete.

    Args:
        config: of the run.
        env: what makes its environments.

    Raises:
        ValueError: it cannot be made, breaks the rules, or has no port for the graph loop.
    """
    from rlzoo.envs.ports import ported
    from rlzoo.envs.vector import asked

    graph = config.loop == "graph"
    with asked(env, **config.env_settings, check=not graph) as (original, probe):
        return Opened(probe, ported(original, probe.spec) if graph else None)
