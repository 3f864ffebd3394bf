"""The records that travel between environments, agents and loops. NamedTuples only."""

import difflib
import re
from collections.abc import Iterable
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
    extras: Any  # dict of [T, N, ...]: what acting knew and learning wants, as `Agent.extras` says


class Transitions(NamedTuple):
    """A batch of B single steps."""

    obs: Any  # [B, ...] in the environment's dtype
    action: Any  # [B] int32; of a Box [B, ...] float32
    reward: Any  # [B] float32
    discount: Any  # [B] float32: 0 where terminated, else 1
    next_obs: Any  # [B, ...] the true successor, also at an episode's end


class Sequences(NamedTuple):
    """A batch of B sequences of T steps, time-major."""

    obs: Any  # [T, B, ...] in the environment's dtype
    action: Any  # [T, B] int32; of a Box [T, B, ...] float32
    reward: Any  # [T, B] float32
    discount: Any  # [T, B] float32: 0 where terminated, else 1
    next_obs: Any  # [T, B, ...] the true successor, also at an episode's end
    first: Any  # [T, B] bool: obs is the first of an episode
    valid: Any  # [T, B] bool: False on padding
    state: tuple  # of [B, ...] float32, a recurrent torso's before the first step


_MOST_KNOWN = 40  # names that a hint lists

# What others call it -> its name here; for hints only.
ALIASES = {
    "lr": "learning_rate",
    "alpha": "learning_rate",
    "gamma": "discount",
    "batch": "batch_size",
    "minibatch_size": "batch_size",
    "buffer_size": "replay_capacity",
    "memory_size": "replay_capacity",
    "tau": "target_update_rate",
    "target_update_interval": "target_update_period",
    "train_freq": "train_every",
    "gradient_steps": "updates_per_chunk",
    "ent_coef": "entropy_cost",
    "vf_coef": "value_cost",
    "n_epochs": "num_epochs",
    "clip_range": "clip_ratio",
    "eps": "exploration.epsilon",
    "epsilon": "exploration.epsilon",
    "temperature": "exploration.temperature",
    "hidden": "torso.sizes",
    "hidden_sizes": "torso.sizes",
    "net_arch": "torso.sizes",
    "activation": "torso.activation",
    "policy": "torso",
    "network": "torso",
    "n_envs": "num_envs",
    "total_timesteps": "steps",
    "timesteps": "steps",
    "num_steps": "steps",
    "eval_freq": "eval_every",
    "n_eval_episodes": "eval_episodes",
    "q_learning": "dyna_q",
    "mlp": "dense",
    "cnn": "conv",
    "boltzmann": "softmax",
    "e_greedy": "epsilon_greedy",
    "eps_greedy": "epsilon_greedy",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a hint for an unknown `name`: its nearest neighbours, then what is known.

    Case and punctuation do not count; what other libraries call otherwise is known too.
    """
    known = sorted(set(known))
    alias = ALIASES.get(name.lower().replace("-", "_"), "")
    if alias.partition(".")[0] in known:
        return f"It is called {alias!r} here."
    bare = {key: re.sub("[^a-z0-9]", "", key.lower()) for key in [name, *known]}
    same = [key for key in known if bare[key] == bare[name]]
    near = same or [key for key in known if len(bare[name]) > 2 and bare[name] in bare[key]]
    close = (
        []
        if same
        else difflib.get_close_matches(bare[name], [bare[key] for key in known], n=3, cutoff=0.5)
    )
    near += [key for match in close for key in known if bare[key] == match]
    near = list(dict.fromkeys(near))[:3]
    if near and len(known) > _MOST_KNOWN:
        return f"Did you mean {', '.join(map(repr, near))}?"
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    return f"{hint}Known: {', '.join(known)}."
