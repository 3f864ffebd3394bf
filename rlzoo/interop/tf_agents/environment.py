"""Any Gymnasium environment as a TF-Agents environment, batched."""

from typing import Any

import numpy as np
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from rlzoo.envs import make_envs
from rlzoo.envs.making import EnvSource
from rlzoo.interop.tf_agents.specs import action_array_spec, observation_array_spec
from rlzoo.spaces import leaf_of, unmasked

_FIRST, _MID, _LAST = (np.int32(kind) for kind in range(3))  # as in ts.StepType


class GymnasiumEnvironment(py_environment.PyEnvironment):
    """Gymnasium environments, stepped together, as a batched `PyEnvironment`.

    Each one that has ended starts its next episode at the following step, where its action is
    ignored. Termination gives discount 0; a time limit keeps 1, so that agents bootstrap there.
    Actions and Discrete observations count from 0, whatever the environment's `start`.

    Args:
        env: a Gymnasium id, or a callable that makes an environment.
        num_envs: how many; None for one that is not batched.
        seed: of the environments; each episode has a seed of its own.
        env_kwargs: passed on to the environment.

    Raises:
        ValueError: a space that rlzoo does not work with, by name.
    """

    def __init__(
        self,
        env: EnvSource,
        num_envs: int | None = 1,
        *,
        seed: int = 0,
        env_kwargs: dict[str, Any] | None = None,
    ):
        self._envs = make_envs(env, num_envs or 1, seed, env_kwargs=env_kwargs)
        self._is_batched = num_envs is not None
        self._over = np.zeros(num_envs or 1, bool)  # those to be reset before their next step
        self.spec = self._envs.spec
        leaf_of(self.spec.obs)  # refuses observations of several parts
        super().__init__()

    @property
    def batched(self) -> bool:
        """Whether time steps and actions have a batch dimension."""
        return self._is_batched

    @property
    def batch_size(self) -> int | None:
        """How many environments there are, None without a batch dimension."""
        return self._envs.num_envs if self._is_batched else None

    def observation_spec(self) -> array_spec.ArraySpec:
        """Returns the spec of one environment's observation."""
        return observation_array_spec(self.spec)

    def action_spec(self) -> array_spec.BoundedArraySpec:
        """Returns the spec of one environment's action."""
        return action_array_spec(self.spec)

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()

    def _reset(self) -> ts.TimeStep:
        self._over[:] = False
        obs = self._envs.reset()
        zeros = np.zeros(self._envs.num_envs, np.float32)
        return self._time_step(np.full(len(zeros), _FIRST), zeros, zeros + 1, obs)

    def _step(self, action: Any) -> ts.TimeStep:
        action = np.asarray(action)
        starts, self._over = self._over, np.zeros_like(self._over)
        step = self._envs.step(action if self._is_batched else action[None], ~starts)
        self._over = step.terminated | step.truncated
        obs = self._envs.reset(starts) if starts.any() else step.obs
        kind = np.where(self._over, _LAST, np.where(starts, _FIRST, _MID))
        return self._time_step(kind, step.reward, np.float32(1) - step.terminated, obs)

    def _time_step(self, kind: Any, reward: Any, discount: Any, obs: Any) -> ts.TimeStep:
        # Not by name: TF-Agents orders the fields (step_type, reward, discount, observation).
        step = (kind.astype(np.int32), reward, discount.astype(np.float32), unmasked(obs))
        return ts.TimeStep(*step if self._is_batched else (part[0] for part in step))
