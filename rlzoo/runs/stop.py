"""How Ctrl-C and SIGTERM end a run: after it was saved, or else within ten seconds."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlzoo.config.advice import advice

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 4.0  # seconds from a signal until a run is ended where it stands
_LAST_SECONDS = 2.0  # until the process is, after that


class Interrupted(Exception):
    """Ctrl-C or SIGTERM ended a run after it was saved; `exit_code` is 130 or 143."""

    def __init__(
        self,
        run_dir: Path,
        where: str,
        signal_number: int,
        saved: str = "everything is saved",
        **made_of: Any,
    ):
        command = advice("resume", run_dir, **made_of)
        super().__init__(f"Interrupted {where}; {saved}. Go on with: {command}")
        self.run_dir = run_dir
        self.exit_code = 128 + signal_number


class Ended(KeyboardInterrupt):
    """A run was ended where it stood, unsaved since its last checkpoint; as `Interrupted`.

    No environment's code takes it for an error of its own.
    """

    def __init__(self, signal_number: int):
        super().__init__(
            "Stopped at once; what came after the last checkpoint is lost. Go on from there with: "
            "rlzoo resume RUN"
        )
        self.exit_code = 128 + signal_number


class Stop:
    """Ctrl-C or SIGTERM asks for a stop after the chunk at hand; a second one stops at once.

    So does a chunk that does not end: an environment may hang, and a program of XLA be long.
    """

    def __init__(self):
        self.message: Callable[[str], None] = lambda text: None
        self._signal = 0
        self._heard = threading.Event()
        self._exit = contextlib.ExitStack()

    @property
    def signal(self) -> int:
        """The number of the signal that came, 0 if none did.

        Who reads it stops, and may take the time that saving takes.
        """
        if self._signal:
            self._heard.set()
        return self._signal

    def __enter__(self) -> "Stop":
        if threading.current_thread() is not threading.main_thread():  # no other may set handlers
            return self
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _watched.add(self)
        self._exit.callback(_watched.discard, self)
        watch = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        watch.start()
        self._exit.callback(watch.join)
        self._exit.callback(os.close, writer)
        self._exit.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
        for number in _SIGNALS:
            self._exit.callback(signal.signal, number, signal.signal(number, self._catch))
        return self

    def __exit__(self, *_: Any) -> None:
        self._heard.set()
        self._exit.close()

    def _catch(self, number: int, _: Any) -> None:
        if self._signal:
            raise Ended(number)
        self._signal = number

    def _watch(self, reader: int) -> None:
        """Sees to it that a signal is obeyed in time.

        In a thread, because Python calls no handler while the main one is in a long call.
        """
        with open(reader, "rb", buffering=0) as signals:
            while received := signals.read(1):  # nothing, in the end
                number = received[0]
                if number not in _SIGNALS:
                    continue
                self.message("Stopping after this update; once more to stop at once ...")
                if self._heard.wait(_PATIENCE):
                    continue
                os.kill(os.getpid(), number)  # raises where the loop is, if Python runs there
                if not self._heard.wait(_LAST_SECONDS) and not hasattr(sys, "ps1"):  # no notebook
                    self.message(str(Ended(number)))
                    os._exit(128 + number)


_watched: set[Stop] = set()


def _hold_signals() -> None:
    if _watched:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_signals_in() -> None:
    if _watched:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _leave_signals_to_the_parent() -> None:
    """In a process that an environment forks: it may be told to end, and no run is told of that."""
    if _watched:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for all: the parent saves first
        _let_signals_in()


os.register_at_fork(
    before=_hold_signals,
    after_in_parent=_let_signals_in,
    after_in_child=_leave_signals_to_the_parent,
)
