"""Exploration strategies. Adding one is a file and a line in `rlzoo.tables.EXPLORATIONS`."""

from rlzoo.exploration.base import Exploration as Exploration
from rlzoo.exploration.base import check_strategy as check_strategy
from rlzoo.exploration.base import choose as choose
from rlzoo.exploration.base import chunk_metrics as chunk_metrics
from rlzoo.exploration.base import extras as extras
from rlzoo.exploration.base import has_distribution as has_distribution
from rlzoo.exploration.epsilon_z import EpsilonZ as EpsilonZ
from rlzoo.exploration.noise import OrnsteinUhlenbeck as OrnsteinUhlenbeck
from rlzoo.exploration.strategies import EpsilonGreedy as EpsilonGreedy
from rlzoo.exploration.strategies import EpsilonSoftmax as EpsilonSoftmax
from rlzoo.exploration.strategies import Greedy as Greedy
from rlzoo.exploration.strategies import Softmax as Softmax
from rlzoo.exploration.ucb import UCB as UCB
from rlzoo.tables import EXPLORATIONS as EXPLORATIONS
