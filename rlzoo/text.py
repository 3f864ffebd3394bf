"""What messages are made of."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

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


def short(value: Any) -> str:
    """Returns a value as a message can show it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
