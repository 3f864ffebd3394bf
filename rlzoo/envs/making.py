"""From an id or a callable to an environment, with errors that say how to go on."""

import contextlib
import dataclasses
import difflib
import functools
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Union

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rlzoo.tables import ENVS, import_module, import_users

EnvSource = Union[str, Callable[..., gymnasium.Env], "Wrapped"]
RAISED = (Exception, SystemExit)  # what an environment may raise; Ctrl-C is the user's

_SHIPPED = frozenset(gymnasium.registry)  # ids that need no module of the user's

# Parts of an environment's entry point, and what brings the package it needs.
_PIP_LINES = {
    "box2d": "pip install box2d",
    "mujoco": "pip install mujoco",
    "ale_py": "pip install ale-py",
    "opencv": "pip install opencv-python-headless",  # of Gymnasium's AtariPreprocessing
    "minatar": "pip install minatar",
    "minigrid": "pip install minigrid",
    "popgym": "pip install popgym",
    "phys2d": "pip install jax",
    "tabular": "pip install jax",
    "classic_control": "pip install pygame",
    "toy_text": "pip install pygame",
}


class Wrapped(NamedTuple):
    """An environment with wrappers around it."""

    env: EnvSource
    wrappers: tuple[Callable[..., gymnasium.Env], ...]  # the first is the inmost

    def __str__(self) -> str:
        return str(self.env)


def make_env(
    env: EnvSource, env_kwargs: dict[str, Any] | None = None, max_episode_steps: int = 0
) -> gymnasium.Env:
    """Makes one Gymnasium environment, as the user wrote it: spaces are not mapped.

    Args:
        env: a registered id, "module:Env-v0" (the module is imported first), or a callable
            that makes an environment.
        env_kwargs: passed on to it, such as `render_mode="rgb_array"`.
        max_episode_steps: where an episode is cut, by Gymnasium's TimeLimit; 0 leaves that to the
            environment. It replaces the limit that an id is registered with.

    Raises:
        ValueError: nobody registered the id, a package is missing, or the arguments are
            refused.
    """
    return env_factory(env, env_kwargs, max_episode_steps)()


def env_factory(
    env: EnvSource, env_kwargs: dict[str, Any] | None = None, max_episode_steps: int = 0
) -> Callable[[], gymnasium.Env]:
    """Returns a function without arguments that makes an environment.

    The function can be sent to another process: it carries what Gymnasium's registry says,
    so an id registered in the user's own script is known there too.
    """
    if isinstance(env, Wrapped):
        make = env_factory(env.env, env_kwargs, max_episode_steps)
        return functools.partial(_wrap, make, env.wrappers)
    kwargs = dict(env_kwargs or {})
    if callable(env) and not isinstance(env, gymnasium.Env):
        name = getattr(env, "__qualname__", type(env).__qualname__)
        make = functools.partial(_limited, env, max_episode_steps) if max_episode_steps else env
        return functools.partial(_make, name, make, kwargs)
    if not isinstance(env, str):
        raise ValueError(
            f"env: expected an environment id or a callable that makes an environment, received "
            f"{env!r}. Give what makes one, such as: lambda: MyEnv()."
        )
    spec = dataclasses.replace(_find(env), order_enforce=False, disable_env_checker=True)
    if max_episode_steps:
        kwargs["max_episode_steps"] = max_episode_steps
    return functools.partial(_make, spec.id, functools.partial(gymnasium.make, spec), kwargs)


def _wrap(make: Callable[[], gymnasium.Env], wrappers: tuple[Callable, ...]) -> gymnasium.Env:
    env = make()
    for wrapper in wrappers:
        function = wrapper.func if isinstance(wrapper, functools.partial) else wrapper
        name = getattr(function, "__qualname__", type(function).__qualname__)
        try:
            around = wrapper(env)
        except RAISED as error:
            close_env(env)
            raise ValueError(f"wrapper {name}: {_refusal(error)}") from error
        if not isinstance(around, gymnasium.Env):
            raise ValueError(
                f"wrapper {name}: expected it to return an environment, received {around!r}."
            )
        env = around
    return env


def _refusal(error: BaseException) -> str:
    """Returns why a wrapper takes no environment, and what to type where it does not say."""
    said = str(error) or traceback.extract_tb(error.__traceback__)[-1].line  # of a bare assert
    text = f"{type(error).__name__}: {said}"
    if isinstance(error, (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError)):
        return f"a package is missing: {_pip_line(text)} ({text})"
    if "Disable frame-skipping" in text:  # AtariPreprocessing's
        return f"{text}. Give --set env.frameskip=1 (in Python env_kwargs={{'frameskip': 1}})"
    return text


def _limited(
    make: Callable[..., gymnasium.Env], max_episode_steps: int, **kwargs: Any
) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(make(**kwargs), max_episode_steps)


def _make(name: str, make: Callable[..., gymnasium.Env], kwargs: dict[str, Any]) -> gymnasium.Env:
    try:
        return make(**kwargs)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        entry_point = str(getattr(_registered(name), "entry_point", ""))
        how = _pip_line(f"{entry_point} {error}")
        raise ValueError(f"{name} needs a package that is missing: {how} ({error})") from error
    except TypeError as error:
        refused = ("unexpected keyword", "takes no arguments")
        if not kwargs or not any(text in str(error) for text in refused):
            raise
        raise ValueError(f"{name} does not take all of env_kwargs {kwargs}: {error}") from error
    except SystemExit as error:
        raise gave_up(error) from error


def _pip_line(text: str) -> str:
    lines = [line for part, line in _PIP_LINES.items() if part in text]
    return f"run `{lines[0]}`" if lines else "install what it names"


def gave_up(error: SystemExit) -> RuntimeError:
    """Returns what is raised in place of an exit that an environment asked for.

    Some leave when their window is closed. Training is not theirs to end, with a code of success.
    """
    return RuntimeError(f"the environment called sys.exit({error.code!r})")


def close_env(env: Any) -> None:
    """Closes an environment; a broken one may not close either."""
    with contextlib.suppress(*RAISED):
        env.close()


def _find(env_id: str) -> EnvSpec:
    """Returns Gymnasium's entry for an id, after importing what registers it."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_users(module, name, "env")
    if name.startswith("ALE/"):
        try:
            gymnasium.register_envs(import_module("ale_py"))
        except ImportError as error:
            how = _pip_line("ale_py")
            raise ValueError(f"env {env_id!r} needs a package: {how} ({error})") from error
    if spec := _registered(name):
        return spec
    raise ValueError(f"unknown env {env_id!r}.{_nearest_ids(name, module)}")


def _registered(name: str) -> EnvSpec | None:
    return gymnasium.registry.get(name)


def _nearest_ids(name: str, module: str) -> str:
    """Returns a hint of up to three registered ids, newest versions first among equals.

    The registry is too long to list. Case and a missing version do not count. What a module that
    was named registers needs its name again.
    """
    known = {}
    for env_id in sorted(gymnasium.registry, key=_version):  # a newer version overwrites
        bare = env_id.lower()
        known[bare] = known[bare.rpartition("-v")[0] or bare] = env_id
        known.setdefault(bare.rpartition("/")[2], env_id)
    near = difflib.get_close_matches(name.lower(), known, n=12, cutoff=0.5)
    ids = list(dict.fromkeys(known[key] for key in near))
    if module:
        ids = [f"{module}:{env_id}" for env_id in ids if _may_be_of(module, env_id)] or ids
    if not ids:
        return " See gymnasium.registry, or name the module that registers it: 'module:Env-v0'."
    return f" Did you mean {', '.join(map(repr, ids[:3]))}?"


def _may_be_of(module: str, env_id: str) -> bool:
    """Returns whether it may be the user's module that has registered an id."""
    if env_id in _SHIPPED or env_id in ENVS:
        return False
    package = str(gymnasium.registry[env_id].entry_point).partition(".")[0]
    return package != "ale_py" or module.startswith("ale_py")


def _version(env_id: str) -> int:
    version = env_id.rpartition("-v")[2]
    return int(version) if version.isdigit() else 0
