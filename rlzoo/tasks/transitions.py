"""Steps in an environment, gathered as examples for supervised tasks."""

import numpy as np

from rlzoo.envs import make_envs
from rlzoo.types import EnvSpec, Transitions

_NUM_ENVS = 8


def gather(env: str, num_steps: int, seed: int) -> tuple[EnvSpec, Transitions]:
    """Returns the steps of uniformly random actions in an environment.

    Args:
        env: a Gymnasium id.
        num_steps: transitions wanted, B.
        seed: of the environments and the actions.

    Returns:
        What the environment is like, and B transitions in the order they were taken.

    Raises:
        ValueError: there is no such environment, or it has an unsupported space.
    """
    if not env:
        raise ValueError("This task needs an environment: --env CartPole-v1, for example.")
    rng = np.random.default_rng(seed)
    envs = make_envs(env, _NUM_ENVS, seed)
    try:
        rows = []
        obs = envs.reset()
        for _ in range(-(-num_steps // _NUM_ENVS)):
            action = _random_actions(envs.spec, rng)
            step = envs.step(action)
            discount = 1.0 - step.terminated.astype(np.float32)
            rows.append(Transitions(obs, action, step.reward, discount, step.final_obs))
            obs = step.obs
    finally:
        envs.close()
    fields = (np.concatenate(column)[:num_steps] for column in zip(*rows, strict=True))
    return envs.spec, Transitions(*fields)


def _random_actions(spec: EnvSpec, rng: np.random.Generator) -> np.ndarray:
    """Returns evenly drawn actions, [N] int32 or, within their bounds, [N, ...] float32."""
    if spec.action_box is None:
        return rng.integers(spec.num_actions, size=_NUM_ENVS, dtype=np.int32)
    low, high = np.array(spec.action_box.low), np.array(spec.action_box.high)
    return rng.uniform(low, high, (_NUM_ENVS, *low.shape)).astype(np.float32)


def standardized(obs: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns observations as float32 [n, D] with mean 0 and deviation 1.

    Args:
        obs: [n, ...].
        like: [m, ...], whose mean and deviation count; what never changes there stays 0.
    """
    flat = obs.reshape(len(obs), -1).astype(np.float64)
    flat_like = like.reshape(len(like), -1).astype(np.float64)
    deviation = flat_like.std(0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-8)
    return ((flat - flat_like.mean(0)) * scale).astype(np.float32)
