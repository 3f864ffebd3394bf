"""Standard output and error below Python, where C libraries and child processes print too."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


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
