"""What a run is told to do: one frozen record, resolved from presets, files and flags.

Lowest to highest: the defaults of the dataclasses, the preset of the agent and environment, the
`--config` file, the flags, `--set`. Files are read with a YAML loader that knows plain values
only; whatever they name is looked up in rlzoo's own tables, never imported.
"""

import dataclasses
import hashlib
import importlib.resources
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from rlzoo.config.sizing import default_capacity, default_torso
from rlzoo.config.values import (
    CALLABLE,
    again_flags,
    assignments,
    fill,
    load_yaml,
    lookup,
    mark,
    merge,
    read_text,
    short,
    typed,
)
from rlzoo.config.wrappers import describe as describe_wrappers
from rlzoo.config.wrappers import imports, wrapped
from rlzoo.spaces import EnvSpec
from rlzoo.storage import checkpoint
from rlzoo.storage.files import one_of_seeds, run_path
from rlzoo.tables import AGENTS, BRIDGED, EXPLORATIONS, SCHEDULES, TORSOS, Table
from rlzoo.types import nearest

if TYPE_CHECKING:
    from rlzoo.envs.making import EnvSource


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How a pretrained torso is put to work: `transfer` in a configuration."""

    run: str  # folder of the run that trained it; read once, when training starts
    part: Literal["torso", "encoder"] = "torso"  # what it becomes: all, or a recurrent's encoder
    lr_scale: float = 1.0  # of the learning rate, for its weights; 0 freezes them; 0..1000
    unfreeze_after: int = 0  # environment steps before its weights begin to change

    def __post_init__(self):
        """Checks ranges."""
        if not 0.0 <= self.lr_scale <= 1e3:
            raise ValueError(f"transfer.lr_scale: expected 0 to 1000, received {self.lr_scale}.")
        if self.unfreeze_after < 0:
            raise ValueError(
                f"transfer.unfreeze_after: expected 0 or more, received {self.unfreeze_after}."
            )
        if self.unfreeze_after and not self.lr_scale:
            raise ValueError(
                "transfer.unfreeze_after: the weights would stay frozen at a learning rate of 0; "
                "expected transfer.lr_scale above 0."
            )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does, except what lives in the user's own Python code."""

    agent: str  # a name in rlzoo.agents.AGENTS
    env: str  # a Gymnasium id, "module:Env-v0" to import a module first
    steps: int = 100_000  # environment steps in all, summed over the environments; >= 1
    seed: int = 0  # 0..2**62-1; every random stream of the run derives from it
    num_envs: int = 1  # by default the agent's own or 1; environments stepped together; 1..65536
    vector: Literal["sync", "async"] = "sync"  # in this process, or one process each
    loop: Literal["auto", "host", "graph"] = "auto"  # auto: graph where the env has a port
    env_kwargs: dict = dataclasses.field(default_factory=dict)  # to the environment; JSON values
    wrappers: tuple = ()  # around each environment: names or {name: ..., ...}, the inmost first
    max_episode_steps: int = 0  # where episodes are cut; 0: where the environment says
    on_env_error: Literal["raise", "restart", "drop"] = "raise"  # what to do when one fails
    env_step_timeout: float = 60.0  # seconds for a step in an async process; 0: any; 0..86400
    eval_every: int = 5_000  # by default steps / 20, 1,000 to 1,000,000; steps; 0: only at the end
    eval_episodes: int = 20  # episodes in each evaluation; >= 1
    eval_mode: Literal["greedy", "policy", "explore"] = "greedy"  # by default by agent; how to act
    eval_env: Literal["separate", "training", "none"] = "separate"  # made for it, or training's
    checkpoint_every: int = 5_000  # by default eval_every; steps; 0: only at the end
    checkpoint_minutes: float = 10.0  # minutes without a checkpoint at most; 0: any
    keep_checkpoints: int = 2  # latest checkpoints kept, beside the best; >= 1
    log_every: int = 1_000  # by default steps / 1,000, 1,000 to 100,000; steps between rows, >= 1
    until_return: float | None = None  # stop when an evaluation's mean return reaches this
    agent_params: dict = dataclasses.field(default_factory=dict)  # hyperparameters: agent's Config
    torso: dict = dataclasses.field(default_factory=dict)  # a name in TORSOS, and its settings
    exploration: dict = dataclasses.field(default_factory=dict)  # the same, in EXPLORATIONS
    transfer: dict = dataclasses.field(default_factory=dict)  # see Transfer; {}: a torso of its own

    def __post_init__(self):
        """Checks types and ranges."""
        for field in dataclasses.fields(self):
            value = typed(getattr(self, field.name), field.type, field.name)
            object.__setattr__(self, field.name, value)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, received {value}.")
        if self.until_return is not None and not self.eval_every:
            raise ValueError(
                f"until_return: {self.until_return:g} can be reached in an evaluation only, and "
                "eval_every is 0. Expected eval_every above 0."
            )
        if self.until_return is not None and self.eval_env == "none":
            raise ValueError(
                f"until_return: {self.until_return:g} can be reached in an evaluation only, and "
                "eval_env is none. Expected separate or training."
            )
        _check_json(self.env_kwargs, "env_kwargs")
        object.__setattr__(self, "wrappers", describe_wrappers(self.wrappers))
        _check_json(self.wrappers, "wrappers")

    @property
    def env_settings(self) -> dict[str, Any]:
        """How the environment is made: keyword arguments of `make_env` and its like."""
        return {"env_kwargs": self.env_kwargs, "max_episode_steps": self.max_episode_steps}


WHOLE_EPISODE = 1_000  # steps, where an agent learns from whole ones that have no other end

_RANGES = {
    "steps": (1, 10**15),
    "seed": (0, 2**62 - 1),
    "num_envs": (1, 2**16),
    "max_episode_steps": (0, 2**31 - 1),
    "eval_every": (0, 10**15),
    "eval_episodes": (1, 10**6),
    "checkpoint_every": (0, 10**15),
    "checkpoint_minutes": (0, 10**6),
    "keep_checkpoints": (1, 10**6),
    "log_every": (1, 10**15),
    "env_step_timeout": (0, 86_400),
}
_UPKEEP = (  # how a run is kept and judged, not what it learns; beginnings of fields' names
    "seed", "eval_", "until_", "checkpoint_", "keep_", "log_", "vector", "on_env_error",
    "env_step_",
)  # fmt: skip
_LONGEST = 100  # characters of a setting in a table
_FIELDS = tuple(field.name for field in dataclasses.fields(RunConfig))
_SECTIONS = {
    "exploration": "exploration",
    "torso": "torso",
    "env": "env_kwargs",
    "transfer": "transfer",
}
_OPTIONS = tuple(  # what --set takes without a dot, beside hyperparameters
    name for name in _FIELDS if name not in ("agent", "env", "agent_params")
)


def resolve(
    agent: str | None = None,
    env: str | Callable | None = None,
    *,
    preset: bool = True,
    file: str | Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    steps: int | None = None,
    seed: int | None = None,
    num_envs: int | None = None,
    vector: str | None = None,
    loop: str | None = None,
    until_return: float | None = None,
    wrappers: Iterable[Any] | None = None,
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
    eval_env: str | None = None,
    exploration: Any = None,
    torso: Any = None,
    torso_from: str | Path | None = None,
    freeze: bool = False,
    unfreeze_after: int | None = None,
    torso_lr_scale: float | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Returns the complete configuration of a run; `None` leaves a choice to the layer below.

    Args:
        agent: a name in `rlzoo.agents.AGENTS`; may come from `file` instead.
        env: a Gymnasium id, or a callable that makes an environment; may come from `file`.
        preset: whether to start from the preset that ships for this agent and environment.
        file: a configuration file, or a run folder that holds one.
        overrides: `key=value` texts, or a mapping of such keys: hyperparameters, run options,
            and dotted keys that begin with `exploration.`, `torso.` or `env.`.
        steps: environment steps in all.
        seed: the seed of the run.
        num_envs: environments stepped together.
        vector: "sync" or "async".
        loop: "auto", "host" or "graph".
        until_return: stop when an evaluation's mean return reaches it.
        wrappers: around each environment: names, `{"name": ...}` mappings, classes.
        max_episode_steps: where an episode is cut; 0 leaves that to the environment.
        eval_mode: "greedy", "policy" or "explore".
        eval_env: "separate", "training" or "none".
        exploration: a name, a `{"name": ...}` mapping, or a strategy.
        torso: a name, a `{"name": ...}` mapping, or a Keras layer.
        torso_from: the folder of a run whose torso to start from.
        freeze: keep its weights as they are.
        unfreeze_after: keep them so for this many environment steps.
        torso_lr_scale: what to multiply the learning rate by for its weights.
        hyperparameters: more overrides, given as keywords of Python.

    Raises:
        ValueError: for anything unknown, of the wrong type or out of range.
    """
    from_file = _read(_config_path(file)) if file is not None else {}
    if agent and from_file.get("agent", agent) != agent:
        raise ValueError(
            f"{file} configures the agent {from_file['agent']!r}, received {agent!r}. "
            "Leave the agent out, or take its own configuration."
        )
    agent = agent or from_file.get("agent")
    name = env_name(env) if env is not None else from_file.get("env")
    if not agent or not name:
        missing = "an environment" if agent else "an agent"
        raise ValueError(
            f"{missing.capitalize()} is missing. Expected an agent and an environment such as "
            "'dqn CartPole-v1', or a configuration file that has them."
        )
    if from_file:
        _check_trusted(from_file, env, wrappers, str(file), f"train {agent}")
        if from_file.get("env") != name:
            from_file = {key: from_file[key] for key in from_file if key != "env_kwargs"}
    flags = {
        "steps": steps,
        "seed": seed,
        "num_envs": num_envs,
        "vector": vector,
        "loop": loop,
        "until_return": until_return,
        "wrappers": None if wrappers is None else describe_wrappers(wrappers),
        "max_episode_steps": max_episode_steps,
        "eval_mode": eval_mode,
        "eval_env": eval_env,
        "exploration": None if exploration is None else _choice(exploration, "exploration"),
        "torso": None if torso is None else _choice(torso, "torso"),
    }

    if torso_from is not None:
        torso, part = _pretrained(torso_from, torso)
        flags |= {"torso": torso, "transfer": {"run": str(torso_from), "part": part}}
    if freeze and (unfreeze_after is not None or torso_lr_scale is not None):
        raise ValueError(
            "freeze: leave out unfreeze_after and torso_lr_scale, or leave out freeze."
        )
    rates = {"lr_scale": 0.0 if freeze else torso_lr_scale, "unfreeze_after": unfreeze_after}
    rates = {key: value for key, value in rates.items() if value is not None}
    if rates:
        flags["transfer"] = {**(flags.get("transfer") or {}), **rates}

    layers = [preset_for(agent, name) if preset else {}, from_file]
    layers.append({key: value for key, value in flags.items() if value is not None})
    layers += [_assign(key, value) for key, value in assignments(overrides, hyperparameters)]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer if callable(env) else _with_limit(layer))
    config = RunConfig(**{**merged, "agent": agent, "env": name})
    where = wrapped(name if env is None else env, config.wrappers if wrappers is None else wrappers)
    cls, spec = _probe(config, where)
    if getattr(cls, "whole_episodes", False) and spec.max_episode_steps is None:
        config = dataclasses.replace(config, max_episode_steps=WHOLE_EPISODE)
        warnings.warn(
            f"{config.env} states no time limit, and {agent} learns from whole episodes: they are "
            f"cut after {WHOLE_EPISODE:,} steps. Choose another limit with --max-episode-steps N.",
            stacklevel=2,
        )
    eval_every = merged.get("eval_every", min(max(1_000, config.steps // 20), 1_000_000))
    config = dataclasses.replace(
        config,
        num_envs=merged.get("num_envs", getattr(cls.Config, "num_envs", 1)),
        # Where different states look the same, the best policy draws its actions; the most
        # probable ones are another policy, which nothing has trained.
        eval_mode=merged.get(
            "eval_mode", "policy" if getattr(cls, "policy_scores", False) else "greedy"
        ),
        eval_every=eval_every,
        checkpoint_every=merged.get("checkpoint_every", eval_every),
        log_every=merged.get("log_every", min(max(1_000, config.steps // 1_000), 100_000)),
    )
    return complete(config, where, (cls, spec))


def env_settings(
    overrides: Iterable[str] | Mapping[str, Any], max_episode_steps: int | None = None
) -> dict[str, Any]:
    """Returns what a run with these settings would give `make_env`, as `RunConfig.env_settings`.

    Raises:
        ValueError: a setting is none of the environment's.
    """
    merged: dict[str, Any] = {"env_kwargs": {}, "max_episode_steps": max_episode_steps or 0}
    for key, value in assignments(overrides):
        layer = _with_limit(_assign(key, value))
        if layer.keys() - merged.keys():
            raise ValueError(
                f"--set: expected what the environment takes, env.KEY=VALUE, received {key!r}."
            )
        merged = merge(merged, layer)
    return merged


def complete(
    config: RunConfig, env: "EnvSource", probed: tuple[Any, EnvSpec] | None = None
) -> RunConfig:
    """Returns `config` with every hyperparameter filled in and checked against its class.

    Args:
        config: the run's configuration, its three open sections possibly partial.
        env: the environment's id, or what makes it, its wrappers around it.
        probed: the agent's class and what the environment is like, where they are known already.
    """
    cls, spec = probed or _probe(config, env)
    decided = cls.Config(**fill(cls.Config, config.agent_params, also=_OPTIONS))
    params = describe(vars(decided))
    # Which torso and strategy an agent takes by default, and how many environments, are
    # hyperparameters of its own; which ones a run takes is up to the run.
    params.pop("num_envs", None)
    strategy = params.pop("exploration", None)
    if strategy is None and config.exploration:
        raise ValueError(
            f"{config.agent} explores in its own way and takes no strategy, received "
            f"{config.exploration.get('name')!r}. Leave the exploration out."
        )
    own: dict[str, Any] = {"name": strategy}
    if strategy == "epsilon_greedy":  # a constant one would find little on the way to learning
        falling = {"name": "linear", "start": 1.0, "end": 0.05}
        own["epsilon"] = {**falling, "steps": max(1, config.steps // 5)}
    exploration = merge(own, config.exploration) if strategy else {}
    default = params.pop("torso", None)
    if default is None and config.torso:
        raise ValueError(
            f"{config.agent} keeps a table for the Discrete observations of {config.env} and "
            f"takes no torso, received {config.torso.get('name')!r}. Leave the torso out."
        )
    torso = merge(default_torso(default, spec), config.torso) if default else {}
    if "replay_capacity" in params and "replay_capacity" not in config.agent_params:
        params["replay_capacity"] = default_capacity(spec, params)
    return dataclasses.replace(
        config,
        loop=_loop(config, env, getattr(cls, "loops", ("host", "graph"))),
        agent_params=params,
        exploration=filled(exploration, EXPLORATIONS, "exploration") if exploration else {},
        torso=filled(torso, _torsos(), "torso") if torso else {},
        transfer=_transfer(config.transfer, torso),
    )


def _transfer(transfer: Mapping[str, Any], torso: Mapping[str, Any]) -> dict[str, Any]:
    if not transfer:
        return {}
    if not torso:
        raise ValueError("transfer: this agent keeps a table, and no torso to start from.")
    if "run" not in transfer:
        raise ValueError(
            "transfer: freeze, unfreeze_after, torso_lr_scale say how a pretrained torso learns; "
            "name its run too: --torso-from RUN."
        )
    return dataclasses.asdict(Transfer(**fill(Transfer, transfer, "transfer.")))


def _pretrained(run: str | Path, torso: Any) -> tuple[dict[str, Any], str]:
    """Returns the torso that starts from a run's, and which part of it that one becomes."""
    saved = torso_of(run)
    wanted = {} if torso is None else _choice(torso, "torso")
    name = wanted.get("name", saved["name"])
    if name == saved["name"]:
        return merge(saved, wanted), "torso"
    recurrent = [known for known in TORSOS if "encoder" in signature(TORSOS[known]).parameters]
    if name in recurrent and saved["name"] not in recurrent:
        return {**wanted, "encoder": saved}, "encoder"
    raise ValueError(
        f"The torso in {run} is {saved['name']!r}, received torso {name!r}. Leave the "
        f"torso out{', or take lstm, gru or rnn' if saved['name'] not in recurrent else ''}."
    )


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
    return filled(choice, _torsos(), "torso")


def _probe(config: RunConfig, env: "EnvSource") -> tuple[Any, EnvSpec]:
    """Returns the class that learns on the kind of observations that `env` has, and its spec."""
    agent = config.agent
    if agent not in AGENTS:
        raise ValueError(f"Unknown agent {agent!r}. {nearest(agent, [*AGENTS, *BRIDGED])}")
    from rlzoo import agents
    from rlzoo.envs import make_envs

    probe = make_envs(env, 1, 0, **config.env_settings)
    probe.close()
    return agents.agent_class(config.agent, probe.spec), probe.spec


def _loop(config: RunConfig, env: "EnvSource", known: tuple[str, ...]) -> str:
    """Returns the loop that `auto` stands for; checks that the graph loop can be had."""
    from rlzoo.envs import make_env
    from rlzoo.envs.ports import make_port

    if config.loop == "graph" and "graph" not in known:
        raise ValueError(f"{config.agent} runs in the host loop only. Leave --loop out.")
    if config.loop == "graph" and config.wrappers:
        raise ValueError(
            "wrappers: the graph loop has environments of its own, which take none. Leave --loop "
            "out, or the wrappers."
        )
    if config.loop == "host" or "graph" not in known:
        return "host"
    in_envs = config.eval_env == "training"
    if config.loop == "auto" and (config.vector == "async" or in_envs or not isinstance(env, str)):
        return "host"
    if config.vector == "async":
        raise ValueError(
            "vector: 'async' steps environments in processes, which the graph loop has none of: "
            "use --loop host, or --set vector=sync."
        )
    if in_envs:
        raise ValueError(
            "eval_env: 'training' evaluates in the environments that the host loop trains in, "
            "and the graph loop has none: use --loop host, or eval_env separate or none."
        )
    original = make_env(env, **config.env_settings)
    try:
        make_port(original)
    except ValueError:
        if config.loop == "graph":
            raise
        return "host"
    finally:
        original.close()
    return "graph"


def make_exploration(choice: Mapping[str, Any]) -> Any:
    """Returns the exploration strategy that a `{"name": ..., **parameters}` mapping describes.

    An empty mapping is none: the agent explores in its own way.
    """
    if not choice:
        return None
    strategy, params = lookup(choice, EXPLORATIONS, "exploration")
    return strategy(**fill(strategy, params, "exploration."))


def make_torso(choice: Mapping[str, Any], seed: int | None = None) -> Any:
    """Returns the Keras torso that a `{"name": ..., **parameters}` mapping describes.

    An empty mapping is no torso: the agent keeps a table.
    """
    if not choice:
        return None
    torso, params = lookup(choice, _torsos(), "torso")
    return torso(**fill(torso, params, "torso."), seed=seed)


def preset_for(agent: str, env: str) -> dict[str, Any]:
    """Returns the part of a configuration that ships for this agent and environment, or {}."""
    return _presets().get(agent, {}).get(env, {})


def presets() -> dict[str, tuple[str, ...]]:
    """Returns, for each agent, the environments that a preset ships for."""
    return {agent: tuple(envs) for agent, envs in _presets().items()}


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
    _check_trusted(values, env, wrappers, where)
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
) -> RunConfig:
    """Returns the configuration of a run folder. `env` and `wrappers` are as in `from_yaml`."""
    path = _config_path(run_dir)
    return from_yaml(read_text(path), env=env, wrappers=wrappers, where=str(path))


def flatten(values: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Returns nested settings as one level of dotted keys and plain values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in flatten(value).items()}
        else:
            flat[str(key)] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def settings(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Returns what decides how a run learns, but for its seed, named as `--set` takes it.

    Args:
        config: of the run, as config.yaml holds it.
    """
    flat = {}
    for key, value in flatten(config).items():
        section, dot, rest = key.partition(".")
        if not section.startswith(_UPKEEP) and value not in ("None", "[]"):
            name = {"agent_params": "", "env_kwargs": "env."}.get(section, section + dot)
            flat[name + rest] = _brief(value) if isinstance(value, str) else value
    return flat


def _brief(text: str) -> str:
    """Returns a text, such as of a Keras model, that fits a column and differs from others."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 10]}... {hashlib.sha256(text.encode()).hexdigest()[:6]}"


def env_name(env: str | Callable) -> str:
    """Returns how a configuration names an environment: its id, or a mark for a callable."""
    return env if isinstance(env, str) else mark(env)


def describe(value: Any) -> Any:
    """Returns strategies, schedules and their values as plain mappings, lists and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"name": _registered_name(value), **describe(fields)}
    if isinstance(value, Mapping):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if callable(value):
        return {"name": mark(value)}
    return value


def filled(choice: Mapping[str, Any], table: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns a `{"name": ..., **parameters}` choice with every parameter, type-checked."""
    if str(choice.get("name")).startswith(CALLABLE):
        return dict(choice)
    target, params = lookup(choice, table, what)
    params = fill(target, params, f"{what}.")
    if isinstance(params.get("encoder"), Mapping):
        from rlzoo.networks import ENCODERS

        params["encoder"] = filled(params["encoder"], ENCODERS, f"{what}.encoder")
    if isinstance(target, type):
        target(**params)  # its own checks of ranges
    return {"name": choice["name"], **describe(params)}


def _registered_name(value: Any) -> str:
    """Returns the name of a strategy's or schedule's class in its table, or a mark."""
    for name, registered in (*EXPLORATIONS.items(), *SCHEDULES.items()):
        if type(value) is registered:
            return name
    return mark(value)


def _choice(given: Any, what: str) -> dict[str, Any]:
    """Returns a strategy or torso given as a name, a mapping or an object as a mapping."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return describe(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return describe(given)
    if isinstance(given, (bool, int, float, list, tuple)) or given is None:
        raise ValueError(f"{what}: expected a name, a mapping or an object, received {given!r}.")
    if what == "torso" and callable(getattr(given, "get_config", None)):
        from rlzoo.networks.described import describe_torso, first_unknown

        return describe_torso(given) or {"name": mark(first_unknown(given))}
    return {"name": mark(given)}


def _torsos() -> Table:
    """Returns the torsos that a configuration may name: also one of Keras's own layers."""
    return Table({**TORSOS.data, "keras": "rlzoo.networks.described:described"})


# Layers: presets, files and assignments.


def _assign(key: str, value: Any) -> dict[str, Any]:
    head, *path = key.split(".")
    if not path:
        if key in ("exploration", "torso"):
            return {key: _choice(value, key)}
        return {key: value} if key in _OPTIONS else {"agent_params": {key: value}}
    if head not in _SECTIONS:
        options = [f"{section}." for section in _SECTIONS]
        raise ValueError(f"Unknown setting {key}. {nearest(head + '.', options)}")
    for part in reversed(path):
        value = {part: value}
    return {_SECTIONS[head]: value}


def _with_limit(layer: dict[str, Any]) -> dict[str, Any]:
    """Returns the layer with a time limit for `gymnasium.make` as the setting that it is."""
    kwargs = dict(layer.get("env_kwargs", {}))
    limit = kwargs.pop("max_episode_steps", None)
    if not isinstance(limit, int) or limit < 1:  # -1 is Gymnasium's way to have none
        return layer
    return {**layer, "env_kwargs": kwargs, "max_episode_steps": limit}


def _presets() -> dict[str, dict[str, dict[str, Any]]]:
    folder = importlib.resources.files("rlzoo") / "presets"
    files = {file.name: file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return {name[:-5]: load_yaml(files[name].read_text("utf-8"), name) for name in sorted(files)}


def _config_path(file: str | Path) -> Path:
    path = Path(file)
    return path / "config.yaml" if os.path.isdir(path) else path


def _read(path: Path) -> dict[str, Any]:
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


def _check_trusted(
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


def _check_json(value: Any, name: str) -> None:
    """Refuses what a configuration file cannot hold."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_json(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(item, f"{name}[{i}]")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(
            f"{name}: expected plain values (numbers, texts, lists, mappings), received "
            f"{short(value)}. Pass the environment as a callable instead."
        )
