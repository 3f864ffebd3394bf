"""Standard output and error below Python, where C libraries and child processes print too."""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any


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


@contextlib.contextmanager
def redirected(source: int, target: int) -> Iterator[None]:
    """Sends one file descriptor (1 is standard output, 2 standard error) where another goes."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(source)
    os.dup2(target, source)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved, source)
        os.close(saved)


def import_tensorflow(and_tf_agents: bool = False) -> None:
    """Imports TensorFlow without the notices that it prints whatever its log level is.

    They are shown if the import fails, or if the user asked for them: TF_CPP_MIN_LOG_LEVEL=0.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        return
    with tempfile.TemporaryFile() as notices:
        try:
            with redirected(2, notices.fileno()):
                import keras  # noqa: F401
                import tensorflow as tf

                tf.config.list_physical_devices()  # looks for a GPU, and says so
                if and_tf_agents:  # which imports gym, whose notice is not for us
                    import tf_agents  # noqa: F401
        except BaseException:
            notices.seek(0)
            sys.stderr.write(notices.read().decode(errors="replace"))
            raise
