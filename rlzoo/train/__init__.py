"""Training: loops, evaluation, checkpoints, logs, configuration.

`rlzoo.train` is this package and can be called: `rlzoo.train("dqn", "CartPole-v1")` is
`rlzoo.train.run.train("dqn", "CartPole-v1")`. Importing it imports no TensorFlow.
"""

import inspect
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlzoo.train.run import Run


class _CallablePackage(types.ModuleType):
    """A package that can be called, so that `rlzoo.train` is both the function and the package."""

    def __call__(self, *args, **kwargs) -> "Run":
        return self._function(*args, **kwargs)

    @property
    def _function(self):
        from rlzoo.train.run import train

        return train

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def __doc__(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._function.__doc__


sys.modules[__name__].__class__ = _CallablePackage
