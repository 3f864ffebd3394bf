"""N environments stepped together, reset by us: every episode has a seed of its own.

`SyncEnvs` steps them one after the other in this process, `AsyncEnvs` each in a process of
its own. Nothing that is not finite gets out, and no transition is made up.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import gymnasium

from rlzoo.envs import slot
from rlzoo.envs.check import check_env
from rlzoo.envs.making import EnvSource, close_env, env_factory
from rlzoo.envs.slot import Probe
from rlzoo.envs.sync import SyncEnvs
from rlzoo.envs.workers import AsyncEnvs
from rlzoo.text import nearest

_MODES = ("sync", "async")
_POLICIES = ("raise", "restart", "drop")


def make_envs(
    env: EnvSource,
    num_envs: int,
    seed: int,
    *,
    mode: str = "sync",
    env_kwargs: dict[str, Any] | None = None,
    max_episode_steps: int = 0,
    on_env_error: str = "raise",
    step_timeout: float = 60.0,
    check: bool = True,
    probe: Probe | None = None,
) -> SyncEnvs | AsyncEnvs:
    """Makes N environments that are stepped together.

    Args:
        env: a registered id, "module:Env-v0", or a callable `(**env_kwargs) -> gymnasium.Env`.
        num_envs: N, at least 1.
        seed: of the run, 0 or more. Each episode of each environment is reset with a seed of
            its own, drawn from this one.
        mode: "sync" steps them in this process, "async" each in a process of its own.
        env_kwargs: passed on to the environment.
        max_episode_steps: where an episode is cut; 0 leaves that to the environment.
        on_env_error: what to do when an environment raises, or returns a reward or an
            observation that is not finite. "raise": stop with that error. "restart": make it
            anew and go on with its next episode, at most 3 times an hour. "drop": go on
            without it. No transition of a failed step is returned, see `lost`. A process that
            dies or hangs has raised nothing: it is restarted with "raise", too.
        step_timeout: seconds that a step or a reset may take in a process of its own before it
            counts as hung and is killed; 0: any time.
        check: run one short episode first to see that the environment keeps to the rules.
        probe: what others of these environments told (`Envs.probe`): saves making one to ask.

    Raises:
        ValueError: an unknown id, a missing package, a space rlzoo does not work with, an
            environment that breaks the rules, or a bad argument.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    if on_env_error not in _POLICIES:
        raise ValueError(
            f"unknown on_env_error {on_env_error!r}. {nearest(on_env_error, _POLICIES)}"
        )
    if mode not in _MODES:
        raise ValueError(f"unknown mode {mode!r}. {nearest(mode, _MODES)}")
    if probe is None:
        with asked(env, env_kwargs, max_episode_steps, check=check) as (_, probe):
            pass
    make = env_factory(env, env_kwargs, max_episode_steps)
    kind = functools.partial(AsyncEnvs, step_timeout=step_timeout)
    return (kind if mode == "async" else SyncEnvs)(make, num_envs, seed, on_env_error, probe)


@contextlib.contextmanager
def asked(
    env: EnvSource,
    env_kwargs: dict[str, Any] | None = None,
    max_episode_steps: int = 0,
    *,
    check: bool = True,
) -> Iterator[tuple[gymnasium.Env, Probe]]:
    """Makes one environment to see what it is like, and closes it afterwards.

    Yields the environment, after an episode of the check, and what it tells of all that are made
    like it. Arguments and errors are those of `make_envs`.
    """
    made = env_factory(env, env_kwargs, max_episode_steps)()
    try:
        if check and (problems := check_env(made, faults=False)):
            raise ValueError(f"rlzoo cannot work with {env}: {' '.join(problems)}")
        yield made, slot.probe(made)
    finally:
        close_env(made)
