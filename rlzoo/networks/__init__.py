"""Torsos and heads as plain Keras layers, and the network that joins them."""

from rlzoo.networks.copying import build_torso, copy_network, copy_torso
from rlzoo.networks.heads import dueling, linear, policy_logits, q_values, value
from rlzoo.networks.network import (
    Preprocess,
    adam,
    apply,
    build_network,
    changing_rate,
    check_precision,
    descend,
    initial_state,
    named_variables,
    penalty,
    scale_learning_rate,
    unroll,
    update_target,
)
from rlzoo.networks.torsos import (
    ENCODERS,
    Recurrent,
    conv,
    dense,
    gru,
    is_recurrent,
    lstm,
    rnn,
)
from rlzoo.tables import TORSOS

__all__ = [
    "ENCODERS",
    "TORSOS",
    "Preprocess",
    "Recurrent",
    "adam",
    "apply",
    "build_network",
    "build_torso",
    "changing_rate",
    "check_precision",
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
    "penalty",
    "policy_logits",
    "q_values",
    "rnn",
    "scale_learning_rate",
    "unroll",
    "update_target",
    "value",
]
