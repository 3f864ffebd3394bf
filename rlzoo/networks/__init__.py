"""Torsos and heads as plain Keras layers, and the network that joins them."""

from rlzoo.networks.heads import dueling, linear, policy_logits, q_values, value
from rlzoo.networks.network import (
    Preprocess,
    adam,
    apply,
    build_network,
    build_torso,
    changing_rate,
    copy_network,
    copy_torso,
    descend,
    initial_state,
    named_variables,
    scale_learning_rate,
    unroll,
    update_target,
)
from rlzoo.networks.torsos import TORSOS, Recurrent, conv, dense, gru, is_recurrent, lstm

__all__ = [
    "TORSOS",
    "Preprocess",
    "Recurrent",
    "adam",
    "apply",
    "build_network",
    "build_torso",
    "changing_rate",
    "conv",
    "copy_network",
    "copy_torso",
    "dense",
    "descend",
    "dueling",
    "gru",
    "initial_state",
    "is_recurrent",
    "linear",
    "lstm",
    "named_variables",
    "policy_logits",
    "q_values",
    "scale_learning_rate",
    "unroll",
    "update_target",
    "value",
]
