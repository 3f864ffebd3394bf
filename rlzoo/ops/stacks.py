"""Frame stacks: where `EnvSpec.frames` is k, networks see the last k observations of an episode.

As Mnih et al. 2015, https://doi.org/10.1038/nature14236. At an episode's start, where there are no
k yet, the first stands for those before it, as in `gymnasium.wrappers.FrameStackObservation`. A
mask is not stacked: it says what may be done now. Where k is 1, networks see what is observed, and
the frames before are ().
"""

from typing import Any

import tensorflow as tf

from rlzoo.spaces import EnvSpec, Leaf, Mask, map_leaves
from rlzoo.types import Chunk


def no_frames(spec: EnvSpec, num_envs: int) -> Any:
    """Returns the frames before the first step, [N, k - 1, ...] of each leaf; () of a mask."""
    if spec.frames == 1:
        return ()

    def zeros(leaf: Leaf):
        shape = (num_envs, spec.frames - 1, *leaf.shape)
        return () if isinstance(leaf, Mask) else tf.zeros(shape, leaf.dtype)

    return map_leaves(zeros, spec.obs)


def push(spec: EnvSpec, frames: Any, obs: Any, first: tf.Tensor) -> tuple[Any, Any]:
    """Returns what networks see at a step, and the frames before the next one.

    Args:
        spec: of the environment.
        frames: before this step, as `no_frames` has them.
        obs: [N, ...], nested as `spec.obs` is.
        first: [N] bool, obs is the first of an episode.

    Returns:
        The stack [N, k, ...], from `spec.seen`, the newest last; and the frames [N, k - 1, ...].
    """
    if spec.frames == 1:
        return obs, frames

    def stack(leaf: Leaf, x, past):
        if isinstance(leaf, Mask):
            return x
        x = x[:, None]  # [N, 1, ...]
        return tf.concat([tf.where(_beside(first, x), x, past), x], axis=1)

    stacks = map_leaves(stack, spec.obs, obs, frames)
    rest = map_leaves(lambda leaf, x: () if isinstance(leaf, Mask) else x[:, 1:], spec.obs, stacks)
    return seen(spec, stacks), rest


def stacked(spec: EnvSpec, chunk: Chunk) -> Chunk:
    """Returns a chunk with `obs` and `next_obs` as networks see them.

    Args:
        spec: of the environment.
        chunk: [T, N, ...] of single observations. The frames that it starts with, as `push` left
            them, are not looked at where row 0 is `first`.

    Returns:
        The chunk with stacks [T, N, k, ...], from `spec.seen`. `next_obs` is the last k - 1 frames
        up to obs, and the true successor.
    """
    if spec.frames == 1:
        return chunk

    def stack(leaf: Leaf, x, past):
        if isinstance(leaf, Mask):
            return x
        first, frames = _beside(chunk.first, x), [x]
        for i in range(1, spec.frames):  # the frame i steps ago was i - 1 steps before the last row
            older = tf.concat([past[None, :, -i], frames[-1][:-1]], axis=0)
            frames.append(tf.where(first, x, older))
        return tf.stack(frames[::-1], axis=2)

    def follow(leaf: Leaf, x, following):
        if isinstance(leaf, Mask):
            return following
        return tf.concat([x[:, :, 1:], following[:, :, None]], axis=2)

    obs = map_leaves(stack, spec.obs, chunk.obs, chunk.start.frames)
    following = map_leaves(follow, spec.obs, obs, chunk.next_obs)
    return chunk._replace(obs=seen(spec, obs), next_obs=seen(spec, following))


def seen(spec: EnvSpec, stacks: Any) -> Any:
    """Returns stacks [..., k, *shape] of each leaf with the shapes of `spec.seen`.

    They differ for whole numbers, of which several are seen as one array, and for a mask, which
    is none.
    """

    def shaped(leaf: Leaf, space: Leaf, x):
        dims = len(leaf.shape) + (not isinstance(leaf, Mask))
        leading = x.shape[: len(x.shape) - dims]
        return tf.reshape(x, (*leading, *space.shape))

    return map_leaves(shaped, spec.obs, spec.seen, stacks)


def _beside(flags: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns flags with as many axes as x has, to be broadcast with it."""
    return tf.reshape(flags, (*flags.shape, *[1] * (len(x.shape) - len(flags.shape))))
