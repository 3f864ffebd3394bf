"""Environments stepped at once, each in a process of its own that may die, hang and be replaced.

A step costs one small message each way; observations come through memory that is shared.
"""

import contextlib
import ctypes
import math
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection, forkserver, reduction, sharedctypes, util
from typing import Any

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from rlzoo import frames
from rlzoo.envs.base import Envs
from rlzoo.envs.slot import Fault, MakeEnv, Slot, fault
from rlzoo.spaces import Layout, copy_row, map_leaves, write_row

_START_SECONDS = 60.0  # until a new process answers, which imports the user's modules
_CLOSE_SECONDS = 5.0
_ENDING_SECONDS = 1.0  # from a broken connection to the end of a process

# A worker is started afresh, never forked: TensorFlow's threads do not survive a fork.
_START_METHOD = "forkserver"

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class AsyncEnvs(Envs):
    """N environments stepped at once, each in a worker process. See `make_envs`."""

    def __init__(self, make: MakeEnv, *args: Any, step_timeout: float):
        super().__init__(make, *args)
        self._limit = step_timeout or math.inf
        fields = map_leaves(lambda x: ((self.num_envs, *x.shape), x.dtype), self.spec.obs)
        layout = Layout(fields)
        shared = sharedctypes.RawArray("B", max(1, layout.num_bytes))
        self._seen = layout.views(np.frombuffer(shared, np.uint8))  # [N, ...], of the workers
        slot = Slot(make, self.probe)
        self._workers = [_Worker(_wrapped(slot), i, shared, layout) for i in range(self.num_envs)]
        # Also when nobody closes it: multiprocessing waits for its processes at exit.
        self._end = util.Finalize(self, _end, (self._workers,), exitpriority=10)
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Closes every environment and ends its process. May be called again."""
        self._end()

    def _reset_envs(
        self, indices: Sequence[int], seeds: Sequence[int], obs: Any
    ) -> dict[int, Fault]:
        for i in indices:
            self._workers[i].start()
        deadline = time.monotonic() + _START_SECONDS
        greetings = [(i, self._answer(i, deadline)) for i in indices if self._workers[i].is_new]
        faults = {i: answer for i, answer in greetings if answer is not None}
        messages = {
            i: (seed, i in self._remake, self._lifetime[i])
            for i, seed in zip(indices, seeds, strict=True)
            if i not in faults
        }
        for i, answer in self._ask(messages):
            if answer is None:
                copy_row(obs, self._seen, i)
            else:
                faults[i] = answer
        return faults

    def _step_envs(
        self,
        indices: Sequence[int],
        actions: Sequence[Any],
        obs: Any,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> tuple[dict[int, Fault], list[int]]:
        faults: dict[int, Fault] = {}
        ended = []
        for i, answer in self._ask({i: actions[i] for i in indices}):
            if type(answer) is Fault:
                faults[i] = answer
                continue
            reward[i], over, cut = answer
            copy_row(obs, self._seen, i)
            if over or cut:
                terminated[i] = over
                truncated[i] = cut
                ended.append(i)
        return faults, ended

    def _ask(self, messages: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        """Sends messages to workers, and when all are sent yields their answers."""
        for i, message in messages.items():
            self._workers[i].send(message)
        deadline = time.monotonic() + self._limit
        for i in messages:
            yield i, self._answer(i, deadline)

    def _answer(self, index: int, deadline: float) -> Any:
        """Returns what a worker answers, or the fault that keeps it from answering."""
        worker = self._workers[index]
        try:
            answer = worker.answer(deadline)
        except TimeoutError:
            worker.kill()
            limit = _START_SECONDS if worker.is_new else self._limit
            what = f"no answer within {limit:g} s, so its process was killed"
            what += "" if worker.is_new else " (the limit is env_step_timeout)"
            return Fault(TimeoutError(what), died=True)
        except (EOFError, OSError):
            return Fault(RuntimeError(f"its worker process {worker.kill()}"), died=True)
        return answer.fault() if type(answer) is _Sent else answer


class _Worker:
    """A process with one environment, as its parent sees it.

    It is sent an action, or what a reset takes, and answers with reward and flags, with None, or
    with what its environment raised. Sent None, it ends.
    """

    def __init__(self, *what: Any):
        self.is_new = True  # it has yet to say that it is ready, by None
        self._what = what
        self._process: Any = None
        self._owes = 0  # answers

    def start(self) -> None:
        """Starts the process, if there is none."""
        if self._process is not None:
            return
        context = multiprocessing.get_context(_START_METHOD)
        if _START_METHOD == "forkserver":
            context.set_forkserver_preload([__name__, "rlzoo.envs.forkserver"])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._what), daemon=True)
        with _main_module_hidden():
            self._process.start()
        theirs.close()
        self._poll = select.poll()  # made once: `Connection.poll` makes one each time
        self._poll.register(self._connection, select.POLLIN)
        self.is_new, self._owes = True, 1

    def send(self, message: Any) -> None:
        """Sends it something to do. That it is dead shows when it does not answer."""
        self._owes += 1
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def answer(self, deadline: float) -> Any:
        """Returns its next answer.

        Raises:
            TimeoutError: there is none before the deadline.
            EOFError, OSError: it is dead.
        """
        left = deadline - time.monotonic()
        if not self._poll.poll(None if left == math.inf else max(0.0, 1000 * left)):
            raise TimeoutError
        answer = self._connection.recv()
        self._owes -= 1
        self.is_new = False
        return answer

    def dismiss(self) -> None:
        """Asks it to close its environment and end."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._connection.send(None)

    def close(self, deadline: float) -> None:
        """Waits until it has ended; one that is busy, or takes longer, is killed."""
        if self._process is None:
            return
        with contextlib.suppress(TimeoutError, EOFError, OSError):
            while self._owes:
                self.answer(0.0)
            self._process.join(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> str:
        """Ends the process and what it has started; returns how it had ended by itself, if so."""
        if not self._owes or self._poll.poll(0):  # it is ending, or closed its side
            self._process.join(_ENDING_SECONDS)
        code = self._process.exitcode
        with contextlib.suppress(OSError):  # it leads a group, unless it is only just starting
            os.killpg(self._process.pid, signal.SIGKILL)
        if code is None:
            self._process.kill()
            self._process.join(_CLOSE_SECONDS)
        self._process = None
        self._connection.close()
        if code is None:
            return "broke its connection"
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was killed by {signal.Signals(-code).name}"


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.dismiss()
    deadline = time.monotonic() + _CLOSE_SECONDS
    for worker in workers:
        worker.close(deadline)


def _serve(
    parent: connection.Connection,
    slot: CloudpickleWrapper,
    index: int,
    shared: Any,
    layout: Layout,
) -> None:
    """Does what the parent says with one environment, in a process of its own."""
    _settle()
    env: Any = slot.fn  # a Slot
    seen = layout.views(np.frombuffer(shared, np.uint8))
    parent.send(None)
    while True:
        try:
            message = parent.recv()
        except EOFError:
            break
        if message is None:
            break
        answer: Any = None
        try:
            if type(message) is tuple:
                write_row(seen, index, env.reset(*message))
            else:
                obs, reward, over, cut = env.step(message)
                write_row(seen, index, obs)
                answer = float(reward), bool(over), bool(cut)
        except (
            BaseException
        ) as error:  # Ctrl-C is the parent's: what is raised is the environment's
            answer = _Sent(fault(error).error)
        parent.send(answer)
    env.close()


def _settle() -> None:
    """Leaves signals to the parent, which saves first, and ends when the parent does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # not ignored: what it starts would inherit that
        signal.signal(number, lambda *_: None)
    os.setpgrp()  # Ctrl-C is for the parent's group; and what it starts can be ended with it
    if sys.platform == "linux":  # also where the environment keeps Python from running
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        server: Any = forkserver._forkserver  # ends with the last that holds this end of a pipe
        if (held := server._forkserver_alive_fd) is not None:
            server._forkserver_alive_fd = None
            os.close(held)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os.killpg(0, signal.SIGKILL)


class _Sent:
    """An exception on its way from a worker, with the user's frames of where it was there."""

    def __init__(self, error: Exception):
        self.trace = frames.of_user(error)
        text = str(error)
        self._what: Any = _wrapped(RuntimeError(f"{type(error).__name__}: {text}"))
        # An exception that cannot be sent whole goes as its type and text.
        for what in (error, (type(error), text)):
            wrapped = _wrapped(what)
            with contextlib.suppress(Exception):
                data = reduction.ForkingPickler.dumps(wrapped)
                reduction.ForkingPickler.loads(data)  # type: ignore[attr-defined]
                self._what = wrapped
                return

    def fault(self) -> Fault:
        """Returns what the parent should act on."""
        what = self._what.fn
        if isinstance(what, tuple):
            kind, text = what
            what = kind.__new__(kind)
            what.args = (text,)
        return Fault(what, self.trace)


def _wrapped(value: Any) -> Any:
    """Returns `value` in what Gymnasium sends functions to its workers in."""
    return CloudpickleWrapper(value)


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keeps new processes from importing the user's script again, and TensorFlow with it.

    What the script defines travels by value, so it is not needed there.
    """
    main = sys.modules["__main__"]
    kept = {name: main.__dict__[name] for name in ("__spec__", "__file__") if name in main.__dict__}
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(kept)
