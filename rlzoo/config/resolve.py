"""What a run is told to do: one frozen record, resolved from presets, files and flags.

Lowest to highest: the defaults of the dataclasses, the preset of the agent and environment, the
`--config` file, the flags, `--set`. Files are read with a YAML loader that knows plain values
only; whatever they name is looked up in rlzoo's own tables, never imported.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlzoo.config.choices import choice_of, filled, known_torsos
from rlzoo.config.describe import describe, env_name
from rlzoo.config.files import check_trusted, preset_for, read_settings, torso_of
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.config.sizing import default_capacity, default_torso
from rlzoo.config.values import assignments, fill, merge
from rlzoo.config.wrappers import describe as describe_wrappers
from rlzoo.config.wrappers import wrapped
from rlzoo.spaces import EnvSpec
from rlzoo.tables import EXPLORATIONS, TORSOS, agent_name, check_agent
from rlzoo.text import nearest

if TYPE_CHECKING:
    from rlzoo.envs.making import EnvSource


WHOLE_EPISODE = 1_000  # steps, where an agent learns from whole ones that have no other end
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
    agent: str | type | None = None,
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
        agent: a name in `rlzoo.tables.AGENTS`, "module:Class" or a class; may come from `file`.
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
    from_file = read_settings(file) if file is not None else {}
    agent = agent_name(agent) if agent else None
    if agent and from_file.get("agent", agent) != agent:
        raise ValueError(
            f"{file} configures the agent {from_file['agent']!r}, received {agent!r}. "
            "Leave the agent out, or take its own configuration."
        )
    agent = str(agent or from_file.get("agent") or "")
    name = env_name(env) if env is not None else from_file.get("env")
    if not agent or not name:
        missing = "an environment" if agent else "an agent"
        raise ValueError(
            f"{missing.capitalize()} is missing. Expected an agent and an environment such as "
            "'dqn CartPole-v1', or a configuration file that has them."
        )
    if from_file:
        check_trusted(from_file, env, wrappers, str(file), f"train {agent}")
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
        "exploration": None if exploration is None else choice_of(exploration, "exploration"),
        "torso": None if torso is None else choice_of(torso, "torso"),
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
        torso=filled(torso, known_torsos(), "torso") if torso else {},
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
    wanted = {} if torso is None else choice_of(torso, "torso")
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


def _probe(config: RunConfig, env: "EnvSource") -> tuple[Any, EnvSpec]:
    """Returns the class that learns on the kind of observations that `env` has, and its spec."""
    check_agent(config.agent)
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


def _assign(key: str, value: Any) -> dict[str, Any]:
    head, *path = key.split(".")
    if not path:
        if key in ("exploration", "torso"):
            return {key: choice_of(value, key)}
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
