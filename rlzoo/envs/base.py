"""What both kinds of vector environment share: episodes, seeds, checks, faults, state."""

import array
import collections
import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlzoo.envs.checked import checked_actions, checked_mask, checked_state
from rlzoo.envs.slot import Fault, MakeEnv, Probe, env_action
from rlzoo.envs.spaces import in_float32, warn_if_inexact
from rlzoo.ops.streams import derived
from rlzoo.spaces import Box, EnvSpec, copy_row, items, leaves, map_leaves
from rlzoo.types import TimeStep

_MAX_RESTARTS = 3  # per environment, within
_RESTART_WINDOW = 3600.0  # seconds
_BACK_OFF = 1.0  # seconds before the second restart of these, twice as many before each after it


class Envs:
    """What both kinds share: episodes, seeds, checks, faults, state. See `make_envs`.

    Attributes:
        probe: what they were made by.
        spec: what the learner sees.
        seed: of the run, from which those of the episodes derive.
        name: the environment's id, for messages.
        num_envs: N.
        obs_space: the observation space of one environment, unmapped.
        action_space: its action space, unmapped.
        max_episode_steps: its time limit or None.
        lost: [N] bool, rows of the last step that hold no transition: the environment failed
            there, or was dropped before. Such a row says truncated, with reward 0 and the
            last good observation as `final_obs`; do not learn from it.
        retired: [N] bool, environments dropped for good.
    """

    def __init__(
        self,
        make: MakeEnv,
        num_envs: int,
        seed: int,
        on_env_error: str,
        probe: Probe,
    ):
        self.probe = probe
        self.name = probe.name
        self.num_envs = num_envs
        self.obs_space = probe.obs_space
        self.action_space = probe.action_space
        self.max_episode_steps = probe.max_episode_steps
        self.spec: EnvSpec = probe.spec
        warn_if_inexact(self.obs_space)
        self.lost = np.zeros(num_envs, bool)
        self.retired = np.zeros(num_envs, bool)
        self._make = make
        self.seed = seed
        self._on_env_error = on_env_error
        self._obs = map_leaves(lambda x: np.zeros((num_envs, *x.shape), x.dtype), self.spec.obs)
        self._may_be_non_finite = any(x.dtype.kind == "f" for x in leaves(self._obs))
        self._episode = [-1] * num_envs
        self._env_action = env_action(self.action_space)
        self._log: list[Any] = [self._empty_log() for _ in range(num_envs)]
        self._lifetime = [0] * num_envs  # steps of each before its current episode
        self._in_use = list(range(num_envs))  # those not retired
        self._waiting = set(self._in_use)  # those that must be reset before their next step
        self._remake: set[int] = set()  # those whose environment is to be made anew at reset
        self._restarts = [collections.deque[float]() for _ in range(num_envs)]
        self._rest_until = [0.0] * num_envs  # on the clock: when each may be restarted

    @property
    def episodes(self) -> np.ndarray:
        """[N] int64: the index of the current episode of each, -1 before the first."""
        return np.array(self._episode, np.int64)

    def episode_seed(self, index: int) -> int:
        """Returns the seed that environment `index` was last reset with."""
        return derived(self.seed, index, max(self._episode[index], 0))

    @property
    def lifetime_steps(self) -> list[int]:
        """The steps of each over all its episodes, where they change over their life; else []."""
        if not self.probe.changes:
            return []
        return [past + len(log) for past, log in zip(self._lifetime, self._log, strict=True)]

    def open(self) -> None:
        """Makes the environments of this process, which else are made at their first reset."""

    def begin(self, seed: int, episode: int = 0, lifetime_steps: Sequence[int] = ()) -> None:
        """Makes the next reset start an episode of a seed, whatever was played before.

        Args:
            seed: of the run that the episode belongs to.
            episode: its index.
            lifetime_steps: the age at which environments that change are to be, those of others
                whose number may differ; the ages are taken in turn.
        """
        self.seed = seed
        self._episode = [episode - 1] * self.num_envs
        self._log = [self._empty_log() for _ in range(self.num_envs)]
        ages = itertools.cycle(lifetime_steps or (0,))
        self._lifetime = list(itertools.islice(ages, self.num_envs))
        self._waiting = set(self._in_use)

    def reset(self, mask: Any = None) -> Any:
        """Starts the next episode where `mask` [N] bool says so, everywhere if it is None.

        Returns:
            [N, ...] the current observations; those not reset keep theirs.
        """
        chosen = self._in_use
        if mask is not None:
            mask = checked_mask(mask, "mask", self.num_envs)
            chosen = [i for i in chosen if mask[i]]
        return self._start(chosen)

    def step(self, action: Any, active: Any = None) -> TimeStep:
        """Steps all environments, or those where `active` [N] bool says so.

        With `active` None, an environment whose episode has ended is reset at once: `obs` is
        the first observation of its next episode. With `active` given, it is left where it
        ended until `reset(mask)`, and inactive rows hold their current observation, reward 0
        and False.

        Args:
            action: [N] integers, 0 to num_actions - 1; of a Box [N, ...] numbers within it.
            active: [N] bool or None.

        Returns:
            The step, in arrays that are written to by nobody later.

        Raises:
            ValueError: actions of the wrong shape, type or range, or a step that needs a
                reset first.
        """
        actions = checked_actions(action, self.spec.action, self.num_envs)
        stepped = self._in_use
        asked = None
        if active is not None:
            asked = checked_mask(active, "active", self.num_envs)
            stepped = [i for i in stepped if asked[i]]
        if self._waiting and not self._waiting.isdisjoint(stepped):
            late = sorted(self._waiting.intersection(stepped))
            raise ValueError(f"environments {late} have no running episode: call reset first")

        final_obs = map_leaves(np.copy, self._obs)
        reward = np.zeros(self.num_envs, np.float32)
        terminated = np.zeros(self.num_envs, bool)
        truncated = np.zeros(self.num_envs, bool)
        faults, ended = self._step_envs(stepped, actions, final_obs, reward, terminated, truncated)
        if self._may_be_non_finite and not _all_finite(final_obs):
            self._find_non_finite(stepped, final_obs, faults)
        self.lost = self.retired.copy()
        if faults:
            for i, fault in faults.items():
                self._tolerate(i, fault, actions[i])
                copy_row(final_obs, self._obs, i)
                reward[i] = 0.0
                terminated[i] = False
                self.lost[i] = truncated[i] = True
            ended = [i for i in {*ended, *faults} if not self.retired[i]]
        if len(self._in_use) < self.num_envs:
            truncated |= self.retired if asked is None else self.retired & asked
        for i in stepped:
            if i not in faults:
                self._log[i].append(actions[i])

        self._obs = final_obs
        if ended and asked is None:
            self._start(ended)
        else:
            self._waiting.update(ended)
        return TimeStep(self._obs, reward, terminated, truncated, final_obs)

    def get_state(self) -> dict[str, Any]:
        """Returns what brings every environment back: its episode and the actions since.

        JSON-able; the actions are counted from 0, `lifetime` holds the steps before the episode.
        """
        return {
            "episode": list(self._episode),
            "lifetime": list(self._lifetime),
            "actions": [list(log) for log in self._log],
            "retired": [bool(retired) for retired in self.retired],
        }

    def set_state(
        self,
        state: dict[str, Any],
        expected_obs: Any = None,
        on_step: Callable[[int], None] = lambda t: None,
    ) -> Any:
        """Brings back a state by resetting with the same seeds and replaying the actions.

        Args:
            state: from `get_state`, of as many environments with the same seed.
            expected_obs: [N, ...] the observations they should end up with; a warning tells
                if they do not.
            on_step: called with the number of each step that is replayed.

        Returns:
            [N, ...] the current observations.

        Raises:
            ValueError: a state that is not of these environments.
        """
        episode, lifetime, actions, retired = checked_state(state, self.spec.action, self.num_envs)
        self.retired = np.array(retired, bool)
        self._in_use = [i for i in range(self.num_envs) if not retired[i]]
        self._waiting = set(self._in_use)
        started = [i for i in self._in_use if episode[i] >= 0]
        self._episode = [index - 1 if i in started else index for i, index in enumerate(episode)]
        self._lifetime = lifetime
        self._log = [self._empty_log() for _ in range(self.num_envs)]
        self._start(started)
        early: set[int] = set()
        idle = self.spec.action.low if isinstance(self.spec.action, Box) else 0
        for t in range(max(map(len, actions))):
            on_step(t)
            due = [i for i in started if t < len(actions[i])]
            early.update(self._waiting.intersection(due))
            active = np.zeros(self.num_envs, bool)
            active[[i for i in due if i not in self._waiting]] = True
            now = [actions[i][t] if active[i] else idle for i in range(self.num_envs)]
            self.step(np.array(now), active)
        self.lost = self.retired.copy()
        obs = self._obs
        if expected_obs is not None:
            for found, wanted in zip(leaves(obs), leaves(expected_obs), strict=True):
                expected = np.asarray(wanted)
                if expected.shape != found.shape:
                    raise ValueError(
                        f"expected_obs must have shape {found.shape}, got {expected.shape}"
                    )
                early.update(i for i in started if not np.array_equal(found[i], expected[i]))
        if early:
            warnings.warn(
                f"{self.name}: environments {sorted(early)} did not come back to the state they "
                "were saved in: they are not deterministic given the reset seed, so this run "
                "will not repeat exactly",
                stacklevel=2,
            )
        if over := sorted(self._waiting.intersection(early)):
            obs = self._start(over)
        return map_leaves(np.copy, obs)

    def close(self) -> None:
        """Closes every environment. May be called again."""
        raise NotImplementedError

    # What the two kinds do in their own way. Both write the rows in `indices` of the arrays,
    # and leave it to their caller to judge what is written where a fault is returned.

    def _reset_envs(
        self, indices: Sequence[int], seeds: Sequence[int], obs: Any
    ) -> dict[int, Fault]:
        raise NotImplementedError

    def _step_envs(
        self,
        indices: Sequence[int],
        actions: Sequence[int],
        obs: Any,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> tuple[dict[int, Fault], list[int]]:
        raise NotImplementedError

    def _start(self, indices: Sequence[int]) -> Any:
        """Starts the next episode of some, going on to the one after where the reset fails."""
        obs = map_leaves(np.copy, self._obs)
        while indices:
            if self._remake:
                rest = max(self._rest_until[i] for i in indices) - time.monotonic()
                time.sleep(max(0.0, rest))
            for i in indices:
                self._episode[i] += 1
                self._lifetime[i] += len(self._log[i])
                self._log[i] = self._empty_log()
            faults = self._reset_envs(indices, [self.episode_seed(i) for i in indices], obs)
            if self._may_be_non_finite and not _all_finite(obs):
                self._find_non_finite(indices, obs, faults)
            for i in indices:
                self._remake.discard(i)
                self._waiting.discard(i)
            for i, fault in faults.items():
                self._waiting.add(i)
                copy_row(obs, self._obs, i)
                self._tolerate(i, fault, None)
            indices = [i for i in faults if not self.retired[i]]
        self._obs = obs
        return obs

    def _find_non_finite(self, indices: Sequence[int], obs: Any, faults: dict[int, Fault]) -> None:
        for i in set(indices).difference(faults):
            for path, rows in items(obs):
                if rows.dtype.kind == "f" and not (sound := in_float32(rows[i])).all():
                    where = np.argwhere(~sound)[0].tolist()
                    value = rows[i][tuple(where)]
                    expected = "finite numbers"
                    if np.isfinite(value):
                        expected = "what float32, in which networks compute, holds: up to 3.4e38"
                    name = f"obs[{path!r}]" if path else "obs"
                    faults[i] = Fault(ValueError(f"{name}{where} is {value}, expected {expected}"))

    def _tolerate(self, index: int, fault: Fault, action: Any) -> None:
        """Acts on a fault as `on_env_error` says: raises it, or plans to go on without."""
        what = self._describe(index, action)
        error = fault.error
        # That a process is gone is nothing an environment has raised: "raise" restarts it, too.
        restart = self._on_env_error == "restart" or (fault.died and self._on_env_error == "raise")
        if restart and self._may_restart(index):
            self._remake.add(index)
            warnings.warn(f"{what}: {error!r}. Restarting it.", RuntimeWarning, stacklevel=4)
            return
        if self._on_env_error == "drop":
            self.retired[index] = True
            self._in_use = [i for i in self._in_use if i != index]
            self._waiting.discard(index)
            if self._in_use:
                self._log[index] = self._empty_log()  # nothing to come back to
                warnings.warn(f"{what}: {error!r}. Dropping it.", RuntimeWarning, stacklevel=4)
                return
            what += ". No environment is left"
        if restart:
            what += f". It was restarted {_MAX_RESTARTS} times within an hour already"
        if isinstance(error, ValueError) and len(error.args) == 1:
            error.args = (f"{what}: {error}",)
        else:
            _add_note(error, what)
        _add_note(error, self._how_to_replay(index, action))
        if fault.trace:
            _add_note(error, f"In the worker process:\n{fault.trace}")
        raise error

    def _describe(self, index: int, action: Any) -> str:
        step = 0 if action is None else len(self._log[index]) + 1
        doing = "at reset" if action is None else f"on action {self._env_action(action)}"
        return (
            f"{self.name}, environment {index}, episode {self._episode[index]} "
            f"(seed {self.episode_seed(index)}), step {step}, {doing}"
        )

    def _how_to_replay(self, index: int, action: Any) -> str:
        actions = [self._env_action(a) for a in self._log[index]]
        actions += [] if action is None else [self._env_action(action)]
        shown = str(actions) if len(actions) <= 100 else f"({len(actions)}; get_state() has them)"
        return f"To replay: env.reset(seed={self.episode_seed(index)}), then the actions {shown}"

    def _empty_log(self) -> Any:
        """Returns what takes the actions of an episode; Discrete ones take little memory."""
        if isinstance(self.spec.action, Box):
            return []
        return array.array("B" if self.spec.num_actions <= 256 else "L")

    def _may_restart(self, index: int) -> bool:
        now = time.monotonic()
        restarts = self._restarts[index]
        while restarts and now - restarts[0] > _RESTART_WINDOW:
            restarts.popleft()
        if len(restarts) >= _MAX_RESTARTS:
            return False
        if restarts:
            self._rest_until[index] = now + _BACK_OFF * 2 ** (len(restarts) - 1)
        restarts.append(now)
        return True


def _all_finite(obs: Any) -> bool:
    return all(in_float32(x).all() for x in leaves(obs) if x.dtype.kind == "f")


def _add_note(error: Exception, note: str) -> None:
    """`BaseException.add_note`, which Python 3.10 has not."""
    error.__notes__ = [*getattr(error, "__notes__", []), note]  # type: ignore[attr-defined]
