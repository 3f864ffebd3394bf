"""Environments stepped at once, each in a process of its own."""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import reduction
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.utils import CloudpickleWrapper

from rlzoo.envs.base import Envs, Fault, MakeEnv, Slot, fault

_IDLE = -1  # the action of an environment that is not stepped
_CLOSE_SECONDS = 5.0

# A worker is started afresh, never forked: TensorFlow's threads do not survive a fork.
_START_METHOD = "forkserver" if sys.platform != "win32" else "spawn"


class AsyncEnvs(Envs):
    """N environments stepped at once, each in a worker process. See `make_envs`."""

    def __init__(self, make: MakeEnv, *args: Any):
        super().__init__(make, *args)
        if self.spec.action_box is not None:
            raise ValueError(
                f"vector='async' sends Discrete actions only, {self.name} has {self.action_space}: "
                "use vector='sync'"
            )
        obs_space = self.obs_space
        if self.spec.num_states is not None:
            obs_space = spaces.Discrete(self.spec.num_states)
        workers = [
            _Worker(make, i, self.obs_space, self.action_space, obs_space)
            for i in range(self.num_envs)
        ]
        context = multiprocessing.get_context(_START_METHOD)
        if _START_METHOD == "forkserver":
            context.set_forkserver_preload([__name__])
        with _main_module_hidden():
            self._workers = AsyncVectorEnv(
                workers,
                shared_memory=self.spec.obs_dtype != "float16",  # which ctypes has not
                copy=False,
                context=_START_METHOD,
                autoreset_mode=AutoresetMode.DISABLED,
            )

    def close(self) -> None:
        """Closes every environment and ends its process. May be called again."""
        if self._workers.closed:
            return
        alive = all(process.is_alive() for process in self._workers.processes)
        with contextlib.suppress(EOFError, OSError):  # a worker may die meanwhile
            self._workers.close(timeout=_CLOSE_SECONDS, terminate=not alive)
        self._workers.closed = True
        for process in self._workers.processes:
            process.join(_CLOSE_SECONDS)
            if process.is_alive():
                process.kill()

    def _reset_envs(
        self, indices: Sequence[int], seeds: Sequence[int], obs: np.ndarray
    ) -> dict[int, Fault]:
        mask = np.zeros(self.num_envs, bool)
        mask[indices] = True
        all_seeds: list[int | None] = [None] * self.num_envs
        for i, seed in zip(indices, seeds, strict=True):
            all_seeds[i] = seed
        options = {
            "reset_mask": mask,
            "remake": sorted(self._remake),
            "lifetime": list(self._lifetime),
        }
        with self._death_reported():
            found, info = self._workers.reset(seed=all_seeds, options=options)
        obs[mask] = found[mask]
        return _faults(info)

    def _step_envs(
        self,
        indices: Sequence[int],
        actions: Sequence[int],
        obs: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> tuple[dict[int, Fault], list[int]]:
        sent = np.full(self.num_envs, _IDLE, np.int64)
        sent[indices] = np.asarray(actions)[indices]
        with self._death_reported():
            found, rewards, over, cut, info = self._workers.step(sent)
        obs[indices] = found[indices]
        reward[:], terminated[:], truncated[:] = rewards, over, cut
        return _faults(info), np.flatnonzero(over | cut).tolist()

    @contextlib.contextmanager
    def _death_reported(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            dead = []
            for i, process in enumerate(self._workers.processes):
                process.join(0.5)
                if not process.is_alive():
                    dead.append(f"{i} (exit code {process.exitcode})")
            raise RuntimeError(
                f"{self.name}: the worker process of environment {', '.join(dead) or '?'} died"
            ) from error


class _Worker(gymnasium.Env):
    """An environment in its process. It answers with its fault where another would raise.

    The parent calls it too, only to learn the spaces: the environment is made at first reset.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        make: MakeEnv,
        index: int,
        obs_space: spaces.Space,
        action_space: spaces.Space,
        seen_space: spaces.Space,
    ):
        self._slot = Slot(make, obs_space, action_space)
        self._index = index
        self._parent = os.getpid()
        self.observation_space = seen_space
        self.action_space = spaces.Discrete(int(getattr(action_space, "n", 0)))
        self._last = np.zeros(seen_space.shape or (), seen_space.dtype)

    def __call__(self) -> "_Worker":
        if os.getpid() != self._parent:
            # Ctrl-C is the parent's to handle: it saves first, then closes its workers.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return self

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        try:
            given = options or {"remake": (), "lifetime": {self._index: 0}}
            remake = self._index in given["remake"]
            obs = self._slot.reset(seed or 0, remake, given["lifetime"][self._index])
            self._last = np.array(obs, self.observation_space.dtype)
        except BaseException as error:  # Ctrl-C is the parent's: this is the environment's own
            return self._last, {"fault": _Sent(fault(error).error)}
        return self._last, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == _IDLE:
            return self._last, 0.0, False, False, {}
        try:
            obs, reward, terminated, truncated = self._slot.step(int(action))
            self._last = np.array(obs, self.observation_space.dtype)
            return self._last, float(reward), bool(terminated), bool(truncated), {}
        except BaseException as error:
            return self._last, 0.0, False, False, {"fault": _Sent(fault(error).error)}

    def close(self) -> None:
        self._slot.close()


class _Sent:
    """An exception on its way from a worker, with the traceback it had there."""

    def __init__(self, error: Exception):
        self.trace = traceback.format_exc()
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


def _faults(info: dict[str, Any]) -> dict[int, Fault]:
    if "fault" not in info:
        return {}
    return {int(i): info["fault"][i].fault() for i in np.flatnonzero(info["_fault"])}


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
