"""The records that travel between environments, agents and loops. NamedTuples only."""

from typing import Any, NamedTuple


class TimeStep(NamedTuple):
    """What N environments return for one step, after any automatic reset.

    `obs` is what to act on next; `final_obs` is the true successor of the step just
    taken. They differ only where an episode has ended.
    """

    obs: Any  # [N, ...], nested as the observation's space is
    reward: Any  # [N] float32
    terminated: Any  # [N] bool
    truncated: Any  # [N] bool
    final_obs: Any  # [N, ...]


class Memory(NamedTuple):
    """What networks must know of the past of N environments to act on an observation."""

    recurrent: tuple = ()  # of [N, ...] float32, the state of a recurrent network
    frames: Any = ()  # [N, k - 1, ...], the observations before, where networks see k at once


class Chunk(NamedTuple):
    """T steps of N environments, time-major: what every agent learns from.

    There is no `done`: bootstrap unless terminated (`discount`), cut at `last`.
    """

    obs: Any  # [T, N, ...] in the environment's dtype, nested as its space is
    action: Any  # [T, N] int32, in 0..num_actions-1; of a Box [T, N, ...] float32
    reward: Any  # [T, N] float32
    discount: Any  # [T, N] float32: 0 where terminated, else 1
    last: Any  # [T, N] bool: terminated or truncated
    first: Any  # [T, N] bool: obs is the first of an episode
    next_obs: Any  # [T, N, ...] the true successor of obs
    valid: Any  # [T, N] bool: False on padding after an episode that fills no chunk
    extras: Any  # dict of [T, N, ...]: what acting knew and learning wants, as `Actor.extras` says
    start: Any = Memory()  # the actor's before the first row
    version: Any = ()  # [N] int64: updates of the learner before the weights that acted


class Transitions(NamedTuple):
    """A batch of B transitions of a step; or of several, their rewards in one sum."""

    obs: Any  # [B, ...] in the environment's dtype
    action: Any  # [B] int32; of a Box [B, ...] float32
    reward: Any  # [B] float32
    discount: Any  # [B] float32: 0 where terminated, else 1; of n steps gamma ** (n - 1)
    next_obs: Any  # [B, ...] the true successor, also at an episode's end


class Sequences(NamedTuple):
    """A batch of B sequences of T steps, time-major; at each a transition, as in `Transitions`."""

    obs: Any  # [T, B, ...] in the environment's dtype
    action: Any  # [T, B] int32; of a Box [T, B, ...] float32
    reward: Any  # [T, B] float32
    discount: Any  # [T, B] float32
    next_obs: Any  # [T, B, ...] the true successor, also at an episode's end
    until: Any  # [T, B] int32, the step of the sequence that next_obs comes after
    first: Any  # [T, B] bool: obs is the first of an episode that begins after the sequence does
    valid: Any  # [T, B] bool: False on padding
    state: tuple  # of [B, ...] float32, a recurrent torso's before the first step
