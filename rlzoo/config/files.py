"""Configurations in files, which are data: nothing that one names is imported."""

import dataclasses
import importlib.resources
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rlzoo.config.advice import again_flags
from rlzoo.config.choices import filled, known_torsos
from rlzoo.config.plain_yaml import load_yaml, read_text
from rlzoo.config.record import RunConfig
from rlzoo.config.values import CALLABLE, typed
from rlzoo.config.wrappers import describe as describe_wrappers
from rlzoo.config.wrappers import imports
from rlzoo.storage import checkpoint
from rlzoo.storage.files import one_of_seeds, run_path
from rlzoo.tables import agent_name, check_agent
from rlzoo.text import nearest, short

_FIELDS = tuple(RunConfig.__dataclass_fields__)


def to_yaml(config: RunConfig) -> str:
    """Returns the text of `config.yaml`, which `rlzoo train --config` takes."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def from_yaml(
    text: str,
    *,
    env: str | Callable | None = None,
    wrappers: Iterable[Any] | None = None,
    where: str = "",
) -> RunConfig:
    """Returns the configuration that `to_yaml` wrote.

    Args:
        text: of the file. It is data: nothing in it is executed or imported.
        env: what the caller gave for the environment. Needed where the text names one that would
            import a module, or that was a callable in Python.
        wrappers: likewise; all of them, as they were.
        where: the name of the file, for messages.

    Raises:
        ValueError: for anything that is no complete configuration.
    """
    where = where or "the configuration"
    values = _checked(load_yaml(text, where), where)
    for key in ("agent", "env"):
        if key not in values:
            raise ValueError(f"{where} has no {key!r}; expected a config.yaml that rlzoo wrote.")
    check_trusted(values, env, wrappers, where)
    config = RunConfig(**values)
    if wrappers is not None and (given := describe_wrappers(wrappers)) != config.wrappers:
        raise ValueError(
            f"{where}: expected the wrappers {short(config.wrappers)}, received {short(given)}. "
            "Give those that the run was trained with."
        )
    return config


def load_run(
    run_dir: str | Path,
    *,
    env: str | Callable | None = None,
    wrappers: Iterable[Any] | None = None,
    agent: str | type | None = None,
) -> RunConfig:
    """Returns the configuration of a run folder.

    Args:
        run_dir: the folder.
        env: as in `from_yaml`.
        wrappers: as in `from_yaml`.
        agent: needed where the run's is the user's own.

    Raises:
        ValueError: it cannot be read, or the agent is another or unknown.
    """
    path = _config_path(run_dir)
    config = from_yaml(read_text(path), env=env, wrappers=wrappers, where=str(path))
    if agent is not None and (name := agent_name(agent)) != config.agent:
        raise ValueError(f"agent: this run's is {config.agent!r}, received {name!r}.")
    check_agent(config.agent)
    return config


def torso_of(run_dir: str | Path) -> dict[str, Any]:
    """Returns the torso of a run, of training or pretraining, as its configuration has it.

    No weights are read, and nothing is imported.

    Raises:
        ValueError: the folder holds no run that has saved, or one without a torso.
    """
    run_dir = run_path(run_dir)
    folder = run_dir / "checkpoints"
    if not any(checkpoint.checkpoints(folder, best=best) for best in (True, False)):
        raise ValueError(
            f"{run_dir} is no folder of a run that has saved a checkpoint: expected one that "
            f"`rlzoo pretrain` or `rlzoo train` has made.{one_of_seeds(run_dir)}"
        )
    path = run_dir / "config.yaml"
    values = load_yaml(read_text(path), str(path))
    choice = values.get("torso") if isinstance(values, dict) else None
    if not choice or not isinstance(choice, dict) or str(choice.get("name")).startswith(CALLABLE):
        raise ValueError(f"The run in {run_dir} has no torso that a file describes.")
    return filled(choice, known_torsos(), "torso")


def _config_path(file: str | Path) -> Path:
    path = Path(file)
    return path / "config.yaml" if os.path.isdir(path) else path


def read_settings(file: str | Path) -> dict[str, Any]:
    """Returns the settings in a configuration file, or in that of a run folder."""
    path = _config_path(file)
    return _checked(load_yaml(read_text(path), str(path)), str(path))


def _checked(values: Any, where: str) -> dict[str, Any]:
    """Returns the content of a file, its top-level keys known and its sections mappings."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected settings like 'agent: dqn', received {short(values)}.")
    if "task" in values:
        folder, name = os.path.split(where)
        run = shlex.quote(folder or ".") if name == "config.yaml" else "RUN"
        raise ValueError(
            f"{where} is of a pretraining run, which has a torso, but no agent. Train one that "
            f"starts from it: rlzoo train AGENT ENV --torso-from {run}"
        )
    for key, value in values.items():
        if key not in _FIELDS:
            raise ValueError(f"{where}: unknown setting {key!r}. {nearest(str(key), _FIELDS)}")
        field = RunConfig.__dataclass_fields__[key]
        values[key] = typed(value, field.type, f"{where}: {key}")
    return values


def check_trusted(
    values: Mapping[str, Any],
    env: str | Callable | None,
    wrappers: Iterable[Any] | None,
    where: str,
    flag: str = "--env",
) -> None:
    """Refuses a file that would import code by name which the caller did not name."""
    name = values.get("env", "")
    choices = describe_wrappers(values.get("wrappers", ())) if wrappers is None else ()
    again = shlex.join(again_flags(name if env is None else "", choices, flag))
    if env is None and name.startswith(CALLABLE):
        raise ValueError(
            f"{where}: the environment was the Python callable {name.removeprefix(CALLABLE)}, "
            "which no file can bring back: pass it from Python (env=...)."
        )
    if env is None and ":" in name:
        raise ValueError(
            f"{where} names the environment {name!r}, which would import a module. If you trust "
            f"it, give the environment yourself as well: {again} (in Python: env={name!r})."
        )
    if names := imports(choices):
        how = "" if any(name.startswith(CALLABLE) for name in names) else f"{again}, or "
        raise ValueError(
            f"{where} names the wrapper {names[0]!r}, which would import a module or was made in "
            f"Python. If you trust it, give all wrappers yourself as well: {how}wrappers=[...]."
        )
    if env is None or env == name:
        for text in _texts(values.get("env_kwargs", {})):
            if re.fullmatch(r"[\w.]+:[\w./-]+", text):
                raise ValueError(
                    f"{where} passes {text!r} to the environment, which might import a module. If "
                    "you trust it, take it out of the file and give it with --set env.KEY=VALUE."
                )


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def preset_for(agent: str, env: str) -> dict[str, Any]:
    """Returns the part of a configuration that ships for this agent and environment, or {}."""
    return _presets().get(agent, {}).get(env, {})


def presets() -> dict[str, tuple[str, ...]]:
    """Returns, for each agent, the environments that a preset ships for."""
    return {agent: tuple(envs) for agent, envs in _presets().items()}


def _presets() -> dict[str, dict[str, dict[str, Any]]]:
    folder = importlib.resources.files("rlzoo") / "presets"
    files = {file.name: file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return {name[:-5]: load_yaml(files[name].read_text("utf-8"), name) for name in sorted(files)}
