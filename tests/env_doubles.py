"""Environments that tests can predict or break. Importable in worker processes."""

import ctypes
import faulthandler
import os
import pathlib
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class CountingEnv(gymnasium.Env):
    """Its observation says which episode and step it shows, so transitions can be audited.

    Observation: [tag, step, last action + 1] as float64, where `tag` is the reset seed and so
    names the episode. The reward of a step is its number. Episode lengths vary with the seed
    between 1 and `max_length`; odd seeds terminate, even ones truncate.
    """

    def __init__(self, max_length: int = 9, num_actions: int = 3):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = spaces.Discrete(num_actions)
        self.max_length = max_length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tag = seed if seed is not None else 0
        self.time = 0
        self.length = self.tag % self.max_length + 1
        self.buffer = np.array([self.tag, 0, 0], np.float64)
        return self.buffer, {}

    def step(self, action):
        self.time += 1
        self.buffer[1:] = self.time, action + 1  # the same array again, as careless ones do
        over = self.time == self.length
        return (
            self.buffer,
            float(self.time),
            over and self.tag % 2 == 1,
            over and self.tag % 2 == 0,
            {},
        )


def false_transitions(obs, action, step, lost=()) -> int:
    """Returns how many of N transitions of `CountingEnv` are not as it made them.

    Args:
        obs: [N, 3] what was acted on.
        action: [N] what was done.
        step: the TimeStep that came back.
        lost: which rows hold none.
    """
    wrong = 0
    for i in range(len(obs)):
        if i in lost:
            continue
        tag, time = obs[i][:2]
        over = time + 1 == tag % 9 + 1
        ended = bool(step.terminated[i] or step.truncated[i])
        right = (
            np.array_equal(step.final_obs[i], [tag, time + 1, action[i] + 1])
            and step.reward[i] == time + 1
            and bool(step.terminated[i]) == (over and tag % 2 == 1)
            and bool(step.truncated[i]) == (over and tag % 2 == 0)
        )
        if ended:
            right &= step.obs[i][0] != tag and step.obs[i][1] == 0
        else:
            right &= np.array_equal(step.obs[i], step.final_obs[i])
        wrong += not right
    return wrong


class DyingEnv(CountingEnv):
    """Its process ends, or it does not answer, at one step of its life.

    Args:
        at: the step, by the seed of its first episode. One that takes a dead one's place begins
            with another episode, and lives.
        how: "kill", "segfault", "exit" or "hang"; "hang in c" lets no other Python code run.
        notes: a file for the process id of a program that it then starts.
    """

    def __init__(self, at=None, how="kill", notes=None):
        super().__init__()
        self.at, self.how, self.notes = at or {}, how, notes
        self.born, self.age = None, 0

    def reset(self, *, seed=None, options=None):
        self.born = self.born or seed
        return super().reset(seed=seed)

    def step(self, action):
        self.age += 1
        if self.at.get(self.born) == self.age:
            if self.notes:
                tool = subprocess.Popen(["sleep", "60"])
                pathlib.Path(self.notes).write_text(str(tool.pid))
            if self.how == "exit":
                os._exit(7)
            if self.how == "hang":
                time.sleep(60)
            if self.how == "hang in c":
                ctypes.PyDLL(None).sleep(60)
            faulthandler.disable()  # of pytest, in a fork: its trace looks like a failure
            os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGSEGV)
        return super().step(action)


class EnvBrokeError(Exception):
    """What `FaultyEnv` raises; it takes two arguments, so plain pickling fails."""

    def __init__(self, kind, when):
        super().__init__(f"{kind} at {when}")
        self.kind = kind


class FaultyEnv(gymnasium.Env):
    """Counts its steps and fails in a given way at a given one.

    Args:
        kind: "raise", "raise_reset", "nan_obs", "inf_obs", "nan_reward", "inf_reward",
            "nan_reset", "sys_exit", "exit_reset", "broken_pipe", "bad_flag", "bad_info",
            "bad_reward" or "none".
        at: the step of the episode, from 1, that fails.
        times: how many episodes may fail in one instance, None for all.
        only_seed: fail only in the episode reset with this seed, None for any.
        length: steps in an episode.
    """

    def __init__(self, kind="raise", at=3, times=None, only_seed=None, length=10):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2, start=5)
        self.kind, self.at, self.left = kind, at, times
        self.only_seed, self.length = only_seed, length

    def _fails(self, now):
        seed_fits = self.only_seed is None or self.only_seed == self.tag
        if self.kind == "none" or not now or not seed_fits or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tag, self.time = seed, 0
        if self.kind.endswith("_reset") and self._fails(True):
            if self.kind == "raise_reset":
                raise EnvBrokeError(self.kind, 0)
            if self.kind == "exit_reset":
                sys.exit(0)
            return np.full(2, np.nan, np.float32), {}
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        obs = np.array([self.time, action], np.float32)
        reward = 1.0
        if not self.kind.endswith("reset") and self._fails(self.time == self.at):
            if self.kind == "raise":
                raise EnvBrokeError(self.kind, self.time)
            if self.kind == "sys_exit":
                sys.exit(0)
            if self.kind == "broken_pipe":
                raise BrokenPipeError(32, "Broken pipe")
            if self.kind == "bad_flag":
                return obs, reward, "no", False, {}
            if self.kind == "bad_info":
                return obs, reward, False, False, None
            if self.kind == "bad_reward":
                return obs, "1", False, False, {}
            bad = np.nan if self.kind.startswith("nan") else np.inf
            if self.kind.endswith("obs"):
                obs[1] = bad
            else:
                reward = bad
        return obs, reward, self.time == self.length, False, {}


class ChainEnv(gymnasium.Env):
    """Reward 1 for every step; ends after `time_limit` steps. Its values are known exactly.

    Args:
        time_limit: steps in an episode.
        end: "terminate", so that the value of the step t is the sum of what is left, or
            "truncate", so that it is 1 / (1 - discount) at every step.
        num_states: the observation is the step modulo this, a `Discrete`; None gives
            a constant `Box` observation of shape (1,).
        start: of the action space.
    """

    def __init__(self, time_limit=10, end="terminate", num_states=None, start=0):
        if end not in ("terminate", "truncate"):
            raise ValueError(f"end must be 'terminate' or 'truncate', got {end!r}")
        self.time_limit, self.end, self.num_states = time_limit, end, num_states
        box = spaces.Box(0, 1, (1,), np.float32)
        self.observation_space = spaces.Discrete(num_states) if num_states else box
        self.action_space = spaces.Discrete(2, start=start)

    def _obs(self):
        if self.num_states:
            return self.time % self.num_states
        return np.ones(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"illegal action {action!r} for {self.action_space}")
        self.time += 1
        over = self.time >= self.time_limit
        return (
            self._obs(),
            1.0,
            over and self.end == "terminate",
            over and self.end == "truncate",
            {},
        )


if "Faulty-v0" not in gymnasium.registry:
    gymnasium.register("Faulty-v0", "tests.env_doubles:FaultyEnv")
