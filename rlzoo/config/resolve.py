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
from rlzoo.config.opening import Opened
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.config.sizing import default_capacity, default_torso
from rlzoo.config.values import assignments, fill, merge
from rlzoo.config.wrappers import describe as describe_wrappers
from rlzoo.config.wrappers import wrapped
from rlzoo.spaces import EnvSpec, Normalization, numbers
from rlzoo.spaces import describe as describe_space
from rlzoo.tables import AGENTS, EXPLORATIONS, TORSOS, agent_name, check_agent
from rlzoo.text import nearest

if TYPE_CHECKING:
    from rlzoo.envs.ports import PortedEnvs


WHOLE_EPISODE = 1_000  # steps, where an agent learns from whole ones that have no other end
_FIELDS = tuple(field.name for field in dataclasses.fields(RunConfig))
_SECTIONS = {
    "exploration": "exploration",
    "torso": "torso",
    "env": "env_kwargs",
    "transfer": "transfer",
    "normalize": "normalize",
}
_OPTIONS = tuple(  # what --set takes without a dot, beside hyperparameters
    name for name in _FIELDS if name not in ("agent", "env", "agent_params")
)


def resolve(
    agent: str | type | None = None, env: str | Callable | None = None, **given: Any
) -> RunConfig:
    """Returns the complete configuration of a run. See `resolve_and_open`."""
    return resolve_and_open(agent, env, **given)[0]


def resolve_and_open(
    agent: str | type | None = None,
    env: str | Callable | None = None,
    *,
    preset: bool = True,
    file: str | Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    wrappers: Iterable[Any] | None = None,
    torso_from: str | Path | None = None,
    freeze: bool = False,
    unfreeze_after: int | None = None,
    torso_lr_scale: float | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[RunConfig, Opened]:
    """Returns the complete configuration of a run, and what its environment told.

    `None` leaves a choice to the layer below. The environment is opened once, after all has been
    checked that does not depend on it.

    Args:
        agent: a name in `rlzoo.tables.AGENTS`, "module:Class" or a class; may come from `file`.
        env: a Gymnasium id, or a callable that makes an environment; may come from `file`.
        preset: whether to start from the preset that ships for this agent and environment.
        file: a configuration file, or a run folder that holds one.
        overrides: `key=value` texts, or a mapping of such keys: hyperparameters, run options,
            and dotted keys that begin with `exploration.`, `torso.` or `env.`.
        wrappers: around each environment: names, `{"name": ...}` mappings, classes.
        torso_from: the folder of a run whose torso to start from.
        freeze: keep its weights as they are.
        unfreeze_after: keep them so for this many environment steps.
        torso_lr_scale: what to multiply the learning rate by for its weights.
        hyperparameters: more overrides, given as keywords of Python.
        **options: fields of `RunConfig`, such as `steps` or `eval_every`, below the overrides.
            `exploration` and `torso` may be a name, a `{"name": ...}` mapping or an object.

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
    flags: dict[str, Any] = {} if wrappers is None else {"wrappers": describe_wrappers(wrappers)}
    for key, value in options.items():
        flags |= {} if value is None else _assign(key, value)
    if torso_from is not None:
        torso, part = _pretrained(torso_from, options.get("torso"))
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
    layers.append(flags)
    layers += [_assign(key, value) for key, value in assignments(overrides, hyperparameters)]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer if callable(env) else _with_limit(layer))
    config = RunConfig(**{**merged, "agent": agent, "env": name})
    where = wrapped(name if env is None else env, config.wrappers if wrappers is None else wrappers)
    decided = _decide(config, merged, isinstance(where, str))
    from rlzoo.agents import agent_class
    from rlzoo.envs.vector import asked

    with asked(where, **config.env_settings) as (original, probe):
        cls = agent_class(config.agent, probe.spec)
        if isinstance(found := decided[cls], ValueError):
            raise found
        config, torso = found
        if cls.traits.whole_episodes and probe.max_episode_steps is None:
            config = dataclasses.replace(config, max_episode_steps=WHOLE_EPISODE)
            probe = probe._replace(max_episode_steps=WHOLE_EPISODE)
            warnings.warn(
                f"{config.env} states no time limit, and {agent} learns from whole episodes: they "
                f"are cut after {WHOLE_EPISODE:,} steps. Choose another limit with "
                "--max-episode-steps N.",
                stacklevel=2,
            )
        if config.normalize.get("obs") and not numbers(probe.spec.obs):
            raise ValueError(
                f"normalize.obs: {config.env} shows no numbers to normalise, but "
                f"{describe_space(probe.spec.obs)}. Leave it out."
            )
        if torso is not None:
            choice = merge(default_torso(torso, probe.spec), config.torso)
            config = dataclasses.replace(config, torso=filled(choice, known_torsos(), "torso"))
        params = config.agent_params
        if "replay_capacity" in params and "replay_capacity" not in merged.get("agent_params", {}):
            capacity = default_capacity(probe.spec, params)
            params = {**params, "replay_capacity": capacity}
            config = dataclasses.replace(config, agent_params=params)
        ported = None if config.loop == "host" else _ported(original, probe.spec, config.loop)
        loop = "host" if ported is None else "graph"
        return dataclasses.replace(config, loop=loop), Opened(probe, ported)


def _ported(original: Any, spec: EnvSpec, loop: str) -> "Callable[[int], PortedEnvs] | None":
    """Returns what makes copies of an environment's port; None if there is none, nor need be."""
    from rlzoo.envs.ports import ported

    try:
        return ported(original, spec)
    except ValueError:
        if loop == "graph":
            raise
        return None


def _decide(
    config: RunConfig, given: Mapping[str, Any], has_id: bool
) -> dict[Any, tuple[RunConfig, str | None] | ValueError]:
    """Returns by each class that the agent may be what no environment has a say in.

    It is the configuration with every setting filled in and checked, and the name of a torso that
    is still to be fitted to the observations; or why this class refuses it.

    Args:
        config: of the run, its open sections partial.
        given: the layers merged.
        has_id: whether an id alone makes the environments.

    Raises:
        ValueError: every class refuses it, and for the same reason.
    """
    check_agent(config.agent)
    entry = AGENTS[config.agent]
    decided: dict[Any, tuple[RunConfig, str | None] | ValueError] = {}
    for cls in entry.values() if isinstance(entry, dict) else [entry]:
        try:
            decided[cls] = _complete(_with_defaults(config, given, cls), cls, has_id)
        except ValueError as error:
            decided[cls] = error
    refused = [error for error in decided.values() if isinstance(error, ValueError)]
    if len(refused) == len(decided) and len({str(error) for error in refused}) == 1:
        raise refused[0]
    return decided


def _with_defaults(config: RunConfig, given: Mapping[str, Any], cls: Any) -> RunConfig:
    """Returns the configuration with the options that depend on others where they are not given."""
    eval_every = given.get("eval_every", min(max(1_000, config.steps // 20), 1_000_000))
    # Where different states look the same, the best policy draws its actions; the most probable
    # ones are another policy, which nothing has trained.
    mode = "policy" if cls.traits.policy else "greedy"
    return dataclasses.replace(
        config,
        num_envs=given.get("num_envs", getattr(cls.Config, "num_envs", 1)),
        eval_mode=given.get("eval_mode", mode),
        eval_every=eval_every,
        checkpoint_every=given.get("checkpoint_every", eval_every),
        log_every=given.get("log_every", min(max(1_000, config.steps // 1_000), 100_000)),
    )


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


def _complete(config: RunConfig, cls: Any, has_id: bool) -> tuple[RunConfig, str | None]:
    """Returns `config` with every hyperparameter filled in and checked against its class.

    With it comes the name of the torso that the class takes where none is named, else None.
    """
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
    named = "name" in config.torso
    config = dataclasses.replace(
        config,
        loop=_loop(config, cls, has_id),
        agent_params=params,
        exploration=filled(exploration, EXPLORATIONS, "exploration") if exploration else {},
        torso=filled(config.torso, known_torsos(), "torso") if named else config.torso,
        transfer=_transfer(config.transfer, default),
        normalize=_normalize(config, cls),
    )
    return config, None if named else default


def _normalize(config: RunConfig, cls: Any) -> dict[str, Any]:
    if config.frame_stack > 1 and not cls.traits.adapts_input:
        raise ValueError(
            f"frame_stack: {config.agent} sees one observation at a time, received "
            f"{config.frame_stack}. Leave it out, or wrap: --wrapper "
            f"'{{name: FrameStackObservation, stack_size: {config.frame_stack}}}'."
        )
    chosen = Normalization(**fill(Normalization, config.normalize, "normalize."))
    if chosen.obs and not cls.traits.adapts_input:
        raise ValueError(
            f"normalize.obs: {config.agent} does not normalise what it observes. Leave it out."
        )
    if chosen.reward and "discount" not in {f.name for f in dataclasses.fields(cls.Config)}:
        raise ValueError(
            f"normalize.reward: {config.agent} has no discount, by which returns are summed. Leave "
            "it out."
        )
    return dataclasses.asdict(chosen) if chosen != Normalization() else {}


def _transfer(transfer: Mapping[str, Any], torso: str | None) -> dict[str, Any]:
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


def _loop(config: RunConfig, cls: Any, has_id: bool) -> str:
    """Returns the loop as far as no environment has a say in it: auto where a port decides.

    Args:
        config: of the run.
        cls: the agent's class.
        has_id: whether an id alone makes the environments: what a callable makes may be anything.

    Raises:
        ValueError: the graph loop is asked for and cannot be had.
    """
    known = cls.traits.loops
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
    if config.loop == "auto" and (config.vector == "async" or in_envs or not has_id):
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
    return config.loop


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
