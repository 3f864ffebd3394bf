"""Our chunks as their trajectories and back, exact at the edges of episodes.

A frame of a `Trajectory` holds an observation, the action taken there and what came of it; the
successor is the observation of the next frame. So an episode ends in a frame of its own, a
boundary (step_type LAST), that holds the last observation and no step: without it the successor
would be the next episode's first observation.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.trajectories.policy_step import PolicyInfo
from tf_agents.trajectories.time_step import StepType

from rlzoo.types import Chunk, Transitions

_FIRST, _MID, _LAST = (int(kind) for kind in (StepType.FIRST, StepType.MID, StepType.LAST))


def to_trajectory(chunk: Chunk) -> trajectory.Trajectory:
    """Returns a chunk as a batch of frames, an environment per row.

    Each environment's valid steps come in order. A boundary frame follows where an episode ends,
    and where the chunk does: then the step before it says (`next_step_type` MID) that the episode
    goes on. Shorter rows are filled up with boundary frames.

    Args:
        chunk: [T, N, ...].

    Returns:
        A `Trajectory` of NumPy arrays [N, F, ...], F at most 2 T; `policy_info` is a
        `PolicyInfo` with the log-probabilities of the actions.
    """
    rows_only = chunk._replace(start=(), version=())  # theirs have no place for the others
    chunk = tf.nest.map_structure(np.asarray, rows_only)
    rows = [_frames(chunk, i) for i in range(chunk.reward.shape[1])]
    length = max(map(len, rows))
    no_action = np.zeros_like(chunk.action[0, 0])
    blank = np.zeros_like(chunk.obs[0, 0])
    padding = (_LAST, blank, no_action, np.float32(0), _LAST, np.float32(0), np.float32(1))
    filled = [row + [padding] * (length - len(row)) for row in rows]
    step_type, obs, action, log_prob, next_step_type, reward, discount = (
        np.array([[frame[i] for frame in row] for row in filled]) for i in range(7)
    )
    return trajectory.Trajectory(
        step_type=step_type.astype(np.int32),
        observation=obs.astype(chunk.obs.dtype),
        action=action.astype(chunk.action.dtype),
        policy_info=PolicyInfo(log_probability=log_prob.astype(np.float32)),
        next_step_type=next_step_type.astype(np.int32),
        reward=reward.astype(np.float32),
        discount=discount.astype(np.float32),
    )


def _frames(chunk: Chunk, env: int) -> list[tuple]:
    """Returns the frames of one environment: (step_type, obs, action, log_prob, next, ...)."""
    frames: list[tuple] = []
    no_action, steps = np.zeros_like(chunk.action[0, 0]), np.flatnonzero(chunk.valid[:, env])
    for t, following in zip(steps, [*steps[1:], None], strict=True):
        row = tf.nest.map_structure(lambda field, t=t: field[t, env], chunk)
        frames.append(
            (
                _FIRST if row.first else _MID,
                row.obs,
                row.action,
                row.extras["log_prob"],
                _LAST if row.last else _MID,
                row.reward,
                row.discount,
            )
        )
        goes_on = following is not None and not row.last and not chunk.first[following, env]
        if not goes_on:
            zero, one = np.float32(0), np.float32(1)
            frames.append((_LAST, row.next_obs, no_action, zero, _FIRST, zero, one))
    return frames


def to_chunk(experience: trajectory.Trajectory) -> Chunk:
    """Returns a batch of frames as a chunk.

    Boundary frames and the last frame of a row give their observation to the step before, and
    are no steps themselves. Rows with fewer steps than others are padded (`valid` is False).

    Args:
        experience: [B, F, ...] arrays or tensors, F >= 2.

    Returns:
        A `Chunk` of NumPy arrays [T, B, ...], T the most steps of a row. Without a
        `PolicyInfo` in the frames, `extras["log_prob"]` is 0.

    Raises:
        ValueError: frames that are not [B, F, ...], or hold no step.
    """
    frames: Any = tf.nest.map_structure(np.asarray, experience)
    if frames.reward.ndim != 2 or frames.reward.shape[1] < 2:
        raise ValueError(
            "Expected a Trajectory [B, F, ...] of at least 2 frames, received rewards of shape "
            f"{frames.reward.shape}."
        )
    is_step = frames.step_type != _LAST
    is_step[:, -1] = False
    length = int(is_step.sum(axis=1).max())
    if not length:
        raise ValueError("Expected at least one step, received boundary frames only.")
    info = frames.policy_info
    log_prob = getattr(info, "log_probability", ())
    if isinstance(log_prob, tuple):
        log_prob = np.zeros_like(frames.reward)
    fields = Chunk(
        obs=frames.observation[:, :-1],
        action=frames.action[:, :-1],
        reward=frames.reward[:, :-1],
        discount=frames.discount[:, :-1],
        last=frames.next_step_type[:, :-1] == _LAST,
        first=frames.step_type[:, :-1] == _FIRST,
        next_obs=frames.observation[:, 1:],
        valid=is_step[:, :-1],
        extras={"log_prob": log_prob[:, :-1]},
    )

    def packed(field: np.ndarray) -> np.ndarray:
        rows = np.zeros((length, len(field), *field.shape[2:]), field.dtype)
        for i, steps in enumerate(is_step[:, :-1]):
            rows[: steps.sum(), i] = field[i, steps]
        return rows

    return tf.nest.map_structure(packed, fields)


def to_transitions(experience: trajectory.Trajectory) -> Transitions:
    """Returns the single steps in a batch of frames, as sampled from their replay buffers.

    Args:
        experience: tensors [B, F, ...], in graph code too.

    Returns:
        `Transitions` [K, ...], K the number of steps: boundary frames are none.
    """
    is_step = experience.step_type[:, :-1] != _LAST

    def steps(frames):
        return tf.boolean_mask(frames, is_step)

    return Transitions(
        obs=steps(experience.observation[:, :-1]),
        action=steps(experience.action[:, :-1]),
        reward=steps(experience.reward[:, :-1]),
        discount=steps(experience.discount[:, :-1]),
        next_obs=steps(experience.observation[:, 1:]),
    )


def pairs(batch: Transitions, policy_info: Any = ()) -> trajectory.Trajectory:
    """Returns single steps as pairs of frames [B, 2, ...], in graph code too."""
    count = tf.shape(batch.reward)[0]

    def stack(one, other):
        return tf.stack([one, other], axis=1)  # [B, 2, ...]

    mid = tf.fill([count], _MID)
    # Whether the step was an episode's last does not matter to a loss: its discount does.
    return trajectory.Trajectory(
        step_type=stack(mid, mid),
        observation=stack(batch.obs, batch.next_obs),
        action=stack(batch.action, tf.zeros_like(batch.action)),
        policy_info=policy_info,
        next_step_type=stack(mid, mid),
        reward=stack(batch.reward, tf.zeros_like(batch.reward)),
        discount=stack(batch.discount, tf.ones_like(batch.discount)),
    )


def episodes(chunk: Chunk, policy_info: Any = ()) -> trajectory.Trajectory:
    """Returns whole episodes one after the other, in one row of frames [1, F, ...].

    Each ends in its boundary frame, as when their driver had collected them. Padding is left
    out, so F differs from call to call: not for XLA.

    Args:
        chunk: [T, N, ...] of whole episodes, one per environment.
        policy_info: nested tensors [T, N, ...].
    """
    num_envs = chunk.reward.shape[1]
    length = tf.math.count_nonzero(chunk.valid, axis=0)  # [N]
    end = tf.maximum(length - 1, 0)
    final_obs = tf.gather(tf.experimental.numpy.swapaxes(chunk.next_obs, 0, 1), end, batch_dims=1)
    is_frame = tf.concat([chunk.valid, length[None] > 0], axis=0)  # [T + 1, N]
    is_frame = tf.transpose(is_frame)  # [N, T + 1]

    def pack(steps, boundary):
        frames = tf.concat([steps, tf.cast(boundary, steps.dtype)[None]], axis=0)  # [T + 1, N, ...]
        frames = tf.experimental.numpy.swapaxes(frames, 0, 1)
        return tf.boolean_mask(frames, is_frame)[None]  # [1, F, ...]

    zeros, ones = tf.zeros([num_envs]), tf.ones([num_envs])
    first, mid, last = (tf.fill([num_envs], kind) for kind in (_FIRST, _MID, _LAST))
    return trajectory.Trajectory(
        step_type=pack(tf.where(chunk.first, first, mid), last),
        observation=pack(chunk.obs, final_obs),
        action=pack(chunk.action, tf.zeros_like(chunk.action[0])),
        policy_info=tf.nest.map_structure(lambda x: pack(x, tf.zeros_like(x[0])), policy_info),
        next_step_type=pack(tf.where(chunk.last, last, mid), first),
        reward=pack(chunk.reward, zeros),
        discount=pack(chunk.discount, ones),
    )
