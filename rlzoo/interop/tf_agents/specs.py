"""What an `EnvSpec` is in the words of TF-Agents."""

from typing import Any

import numpy as np
from tf_agents.specs import array_spec, tensor_spec
from tf_agents.trajectories import time_step as ts

from rlzoo.spaces import Discrete, EnvSpec, leaf_of


def observation_array_spec(spec: EnvSpec) -> array_spec.ArraySpec:
    """Returns the spec of one environment's observation."""
    obs = leaf_of(spec.obs)  # a mask is no matter of theirs
    if isinstance(obs, Discrete):
        return array_spec.BoundedArraySpec(obs.shape, obs.dtype, 0, obs.n - 1, name="observation")
    return array_spec.ArraySpec(obs.shape, obs.dtype, name="observation")


def action_array_spec(spec: EnvSpec) -> array_spec.BoundedArraySpec:
    """Returns the spec of one environment's action: 0..n-1 if Discrete, else its bounds."""
    box = spec.action
    if isinstance(box, Discrete):
        return array_spec.BoundedArraySpec((), np.int32, 0, box.n - 1, name="action")
    low, high = np.asarray(box.low, np.float32), np.asarray(box.high, np.float32)
    return array_spec.BoundedArraySpec(box.shape, np.float32, low, high, name="action")


def observation_spec(spec: EnvSpec) -> tensor_spec.TensorSpec:
    """Returns the spec of an observation as a tensor."""
    return tensor_spec.from_spec(observation_array_spec(spec))


def action_spec(spec: EnvSpec) -> tensor_spec.BoundedTensorSpec:
    """Returns the spec of an action as a tensor."""
    return tensor_spec.from_spec(action_array_spec(spec))


def time_step_spec(spec: EnvSpec) -> Any:
    """Returns the spec of a `TimeStep` of tensors."""
    return ts.time_step_spec(observation_spec(spec))


def check_specs(spec: EnvSpec, observation: Any, action: Any) -> None:
    """Raises a `ValueError` that names the spec which our agents do not work with."""
    for what, found, wanted in (
        ("observation", observation, observation_array_spec(spec)),
        ("action", action, action_array_spec(spec)),
    ):
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        name = getattr(dtype, "name", None) or (dtype and np.dtype(dtype).name)
        same = shape is not None and tuple(shape) == wanted.shape and name == wanted.dtype.name
        if not same:
            raise ValueError(
                f"{what} spec: expected {wanted}, received {found}. Make the environment with "
                "GymnasiumEnvironment, which has the specs that our agents see."
            )
