"""Standard output and error below Python, where C libraries and child processes print too."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from rlzoo.quiet import notices


class _Outliving(io.FileIO):
    """A standard stream that goes on when its reader has left: what comes then is lost."""

    def __init__(self, fd: int, lost: type[OSError]):
        super().__init__(fd, "w", closefd=False)
        self._lost = lost

    def write(self, data: Any) -> Any:
        """Writes, until nobody reads."""
        try:
            return super().write(data)
        except self._lost:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # C libraries print there too
            os.close(nowhere)
            return memoryview(data).nbytes


@contextlib.contextmanager
def outliving_readers() -> Iterator[None]:
    """Lets a command go on where the readers of its output leave: `rlzoo list | head`.

    A run is worth more than its progress on the screen, so for standard error a full disk or a
    terminal that is gone are no errors either.
    """
    with contextlib.ExitStack() as kept:
        for name, fd, lost in (("stdout", 1, BrokenPipeError), ("stderr", 2, OSError)):
            stream = getattr(sys, name)
            if stream is not getattr(sys, f"__{name}__") or stream is None:
                continue  # a test's, or a notebook's
            raw = io.BufferedWriter(_Outliving(fd, lost))
            text = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=fd == 2)
            setattr(sys, name, text)
            kept.callback(setattr, sys, name, stream)
            kept.callback(text.flush)
        yield


def import_tensorflow(and_tf_agents: bool = False) -> None:
    """Imports TensorFlow, and TF-Agents if asked to, without their notices."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        return  # in its own time
    with notices():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for a GPU, and says so
        if and_tf_agents:  # which imports gym, whose notice is not for us
            import tf_agents  # noqa: F401
