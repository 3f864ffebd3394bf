"""Torsos and heads as plain Keras layers, and the network that joins them."""

from rlzoo.networks.copying import build_torso, copy_network, copy_torso
from rlzoo.networks.heads import dueling, linear, policy_logits, q_values, value
from rlzoo.networks.layers import Recurrent, is_recurrent
from rlzoo.networks.naming import all_named, named_variables, under
from rlzoo.networks.network import (
    apply,
    build_network,
    check_precision,
    initial_state,
    successor_scores,
    unroll,
)
from rlzoo.networks.normalize import Normalize, observe
from rlzoo.networks.parts import Parts, joined, over_parts
from rlzoo.networks.preprocessing import Preprocess, inputs, masked_scores
from rlzoo.networks.torsos import ENCODERS, conv, dense, gru, lstm, rnn
from rlzoo.networks.training import (
    Target,
    Trainable,
    changing_rate,
    learning_bytes,
    penalty,
    repeat,
    scale_learning_rate,
)
from rlzoo.tables import TORSOS

__all__ = [
    "ENCODERS",
    "TORSOS",
    "Normalize",
    "Parts",
    "Preprocess",
    "Recurrent",
    "Target",
    "Trainable",
    "all_named",
    "apply",
    "build_network",
    "build_torso",
    "changing_rate",
    "check_precision",
    "conv",
    "copy_network",
    "copy_torso",
    "dense",
    "dueling",
    "gru",
    "initial_state",
    "inputs",
    "is_recurrent",
    "joined",
    "learning_bytes",
    "linear",
    "lstm",
    "masked_scores",
    "named_variables",
    "observe",
    "over_parts",
    "penalty",
    "policy_logits",
    "q_values",
    "repeat",
    "rnn",
    "scale_learning_rate",
    "successor_scores",
    "under",
    "unroll",
    "value",
]
