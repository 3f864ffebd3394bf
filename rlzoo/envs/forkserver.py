"""Imported by the server that workers are forked from, and by nothing else.

SIGTERM goes to a whole process group where a system shuts down. If it ended the server, it would
end the workers, and then the run could not come to where it saves.

The server ends when the parent has died, and the workers with it, at once: before, it ends what
they have started, for which they may find no time.
"""

import atexit
import contextlib
import os
import pathlib
import signal


def _end_groups() -> None:
    """Ends the group of each worker, where the system tells which they are (Linux)."""
    with contextlib.suppress(OSError):
        listed = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        for worker in map(int, listed.split()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker, signal.SIGKILL)


def _in_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    atexit.unregister(_end_groups)


signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(after_in_child=_in_child)
atexit.register(_end_groups)
