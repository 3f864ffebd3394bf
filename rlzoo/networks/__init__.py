"""Torsos and heads as plain Keras layers, and the network that joins them."""

from rlzoo.networks.heads import dueling, policy_logits, q_values, value
from rlzoo.networks.network import (
    apply,
    build_network,
    copy_network,
    copy_torso,
    initial_state,
    named_variables,
    unroll,
)
from rlzoo.networks.torsos import TORSOS, Recurrent, conv, dense, gru, is_recurrent, lstm

__all__ = [
    "TORSOS",
    "Recurrent",
    "apply",
    "build_network",
    "conv",
    "copy_network",
    "copy_torso",
    "dense",
    "dueling",
    "gru",
    "initial_state",
    "is_recurrent",
    "lstm",
    "named_variables",
    "policy_logits",
    "q_values",
    "unroll",
    "value",
]
