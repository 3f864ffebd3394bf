"""Steps in an environment, gathered as examples for supervised tasks."""

import math
from typing import Any

import numpy as np
import psutil

from rlzoo.envs import make_envs
from rlzoo.spaces import Discrete, EnvSpec, Leaf, leaf_of, mask_of, unmasked
from rlzoo.types import Transitions

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
        ValueError: there is no such environment, it has an unsupported space, or so many of its
            observations do not fit into memory.
    """
    if not env:
        raise ValueError("This task needs an environment: --env CartPole-v1, for example.")
    rng = np.random.default_rng(seed)
    envs = make_envs(env, _NUM_ENVS, seed)
    try:
        _check_memory(leaf_of(envs.spec.obs), num_steps)
        rows = []
        obs = envs.reset()
        for _ in range(-(-num_steps // _NUM_ENVS)):
            action = _random_actions(envs.spec, mask_of(obs), rng)
            step = envs.step(action)
            discount = 1.0 - step.terminated.astype(np.float32)
            seen, seen_next = unmasked(obs), unmasked(step.final_obs)
            rows.append(Transitions(seen, action, step.reward, discount, seen_next))
            obs = step.obs
    finally:
        envs.close()
    fields = (np.concatenate(column)[:num_steps] for column in zip(*rows, strict=True))
    return envs.spec, Transitions(*fields)


def _check_memory(obs: Leaf, num_steps: int) -> None:
    """Refuses more steps than fit: observations twice, targets in float64 as they are made."""
    each = math.prod(obs.shape) * (4 * np.dtype(obs.dtype).itemsize + 40)  # bytes
    free = psutil.virtual_memory().available
    if num_steps * each > 0.8 * free:
        raise ValueError(
            f"steps={num_steps} needs {num_steps * each / 2**20:,.0f} MiB, more than 80 % of the "
            f"{free / 2**20:,.0f} MiB that are free: lower steps to {int(0.8 * free / each)} or "
            "less."
        )


def _random_actions(spec: EnvSpec, mask: Any, rng: np.random.Generator) -> np.ndarray:
    """Returns evenly drawn actions, [N] int32 or, within their bounds, [N, ...] float32."""
    if mask is not None:
        weights = rng.random(mask.shape) * (mask | ~mask.any(axis=-1, keepdims=True))
        return weights.argmax(axis=-1).astype(np.int32)
    if isinstance(spec.action, Discrete):
        return rng.integers(spec.num_actions, size=_NUM_ENVS, dtype=np.int32)
    low, high = np.array(spec.action.low), np.array(spec.action.high)
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
