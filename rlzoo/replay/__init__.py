"""Experience replay: what was done, kept in TensorFlow variables and drawn from again.

Lin 1992, https://doi.org/10.1007/BF00992699.
"""

from rlzoo.replay.memory import check_sequences as check_sequences
from rlzoo.replay.ring import Replay as Replay
