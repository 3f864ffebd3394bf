"""Defaults that follow from how large an environment's observations are."""

import math
import warnings
from typing import Any

from rlzoo.spaces import Box, EnvSpec, describe, unmasked

_MOST_REPLAY = 2**29  # bytes where nobody says how many; saving takes as much again, or twice


def default_torso(name: str, spec: EnvSpec) -> dict[str, Any]:
    """Returns the torso that an agent takes where none is named: for images convolutions.

    Args:
        name: the agent's own default.
        spec: of the environment.
    """
    from rlzoo.networks.layers import image_sides
    from rlzoo.networks.torsos import SMALLEST

    obs = unmasked(spec.obs)
    image = isinstance(obs, Box) and obs.pixels and len(obs.shape) in (2, 3, 4)
    if name != "dense" or not image:
        return {"name": name}
    side = min(image_sides(obs.shape))
    variants = [variant for variant, smallest in SMALLEST.items() if side >= smallest]
    return {"name": "conv", "variant": variants[0]} if variants else {"name": name}


def default_capacity(spec: EnvSpec, params: dict[str, Any]) -> int:
    """Returns how many transitions replay holds where nobody says so; warns if it is fewer.

    Args:
        spec: of the environment.
        params: the agent's hyperparameters, `replay_capacity` among them.
    """
    from rlzoo.replay import Replay

    wanted = params["replay_capacity"]
    fitting = _MOST_REPLAY // Replay.predicted_bytes(spec, 1)
    if fitting >= wanted:
        return wanted
    shown = describe(spec.obs)
    digits = 10 ** max(0, int(math.log10(max(fitting, 1))) - 1)
    least = [params.get(key, 1) for key in ("learning_starts", "planning_starts", "batch_size")]
    fitting = max(fitting // digits * digits, *least)
    warnings.warn(
        f"replay_capacity is {fitting:,} instead of {wanted:,}: with observations {shown} "
        "it takes 512 MiB. Choose another with --set replay_capacity=N.",
        stacklevel=2,
    )
    return min(fitting, wanted)
