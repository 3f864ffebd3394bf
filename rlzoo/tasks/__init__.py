"""Supervised tasks that train a torso, by name. Adding one is a file and a line in `TASKS`."""

from rlzoo.tasks.adding import Adding
from rlzoo.tasks.base import Examples, Problem, Task
from rlzoo.tasks.characters import Characters
from rlzoo.tasks.forecast import Forecast
from rlzoo.tasks.mnist import MNIST
from rlzoo.tasks.predict import Predict
from rlzoo.tasks.recall import Recall
from rlzoo.tasks.reconstruct import Reconstruct

TASKS: dict[str, type] = {
    "mnist": MNIST,
    "adding": Adding,
    "recall": Recall,
    "forecast": Forecast,
    "characters": Characters,
    "reconstruct": Reconstruct,
    "predict": Predict,
}

__all__ = ["TASKS", "Examples", "Problem", "Task"]
