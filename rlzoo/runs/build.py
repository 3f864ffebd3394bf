"""What training and acting share: building an agent from its configuration, reading it back."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, agent_class
from rlzoo.config.choices import make_exploration, make_torso
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.config.values import CALLABLE, fill
from rlzoo.config.wrappers import wrapped
from rlzoo.envs.making import EnvSource
from rlzoo.exploration import Exploration, check_strategy
from rlzoo.ops.streams import AGENT, TORSO, derived
from rlzoo.reports import log as logs
from rlzoo.runs import meta as metas
from rlzoo.runs.transfer import put_to_work
from rlzoo.spaces import Discrete, EnvSpec, Normalization, leaves, unmasked
from rlzoo.storage import checkpoint
from rlzoo.text import short


class Source(NamedTuple):
    """What a run is made of that a file cannot hold, None where its configuration names it."""

    env: str | Callable | None = None
    torso: keras.Layer | None = None
    exploration: Exploration | None = None
    wrappers: Sequence[Any] | None = None

    @classmethod
    def of(cls, env: Any, torso: Any, exploration: Any, wrappers: Any) -> "Source":
        """Returns what a caller gave, who may have given a class in place of an object.

        Raises:
            ValueError: the torso is no Keras layer, or the strategy is none.
        """
        check_object(torso, keras.Layer, "torso", "a Keras layer")
        check_object(exploration, Exploration, "exploration", "an Exploration")
        return cls(env, torso, exploration, wrappers)


def check_object(given: Any, kind: type, what: str, expected: str) -> None:
    """Refuses what is neither None nor an object of a kind; a strategy's fields must be known."""
    if isinstance(given, type):
        raise ValueError(
            f"{what}: expected {expected}, received the class {given.__name__}. Make one of it: "
            f"{given.__name__}(...)."
        )
    if given is not None and not isinstance(given, kind):
        raise ValueError(f"{what}: expected {expected}, received {short(given)}.")
    if isinstance(given, Exploration) and not dataclasses.is_dataclass(given):
        raise ValueError(
            f"{what}: {type(given).__name__} is no dataclass, so what it is made of is unknown. "
            "Write @dataclasses.dataclass(frozen=True) above its class."
        )


def environment(config: RunConfig, source: Source) -> EnvSource:
    """Returns what makes a run's environments, its wrappers around them."""
    wrappers = config.wrappers if source.wrappers is None else source.wrappers
    return wrapped(source.env or config.env, wrappers)


def build_agent(config: RunConfig, spec: EnvSpec, source: Source, *, fresh: bool = False) -> Agent:
    """Returns the agent that a configuration describes.

    Args:
        config: of the run.
        spec: of the environment.
        source: what a file cannot hold.
        fresh: whether weights must be found now; else a checkpoint will bring them.
    """
    _choose_threads(spec)
    spec = spec._replace(frames=config.frame_stack, normalize=Normalization(**config.normalize))
    cls = agent_class(config.agent, spec)
    torso, strategy = source.torso, source.exploration
    if torso is None:
        _check_named(config.torso, "torso")
        if fresh and config.torso.get("trained"):
            raise ValueError(
                "This run's torso began with weights of its own, which no configuration holds: "
                "pass it again (torso=...)."
            )
        torso = make_torso(config.torso, derived(config.seed, TORSO) % 2**31)
    if config.transfer:
        load = fresh and source.torso is None
        torso = put_to_work(torso, Transfer(**config.transfer), spec, load)
    if strategy is None:
        _check_named(config.exploration, "exploration")
        strategy = make_exploration(config.exploration)
    if strategy is not None:
        check_strategy(strategy, spec)
    hyperparameters = cls.Config(**fill(cls.Config, config.agent_params))
    # For layers without seeds; here, so that it does not matter where the torso came from.
    keras.utils.set_random_seed(config.seed % 2**32)
    return cls(spec, hyperparameters, strategy, torso, derived(config.seed, AGENT) % 2**31)


def read_checkpoint(
    run_dir: Path,
    config: RunConfig,
    spec: EnvSpec,
    template: Callable[[dict[str, Any]], Mapping[str, Any]],
    *,
    best: bool = False,
    only: str | tuple[str, ...] = "",
    any_limit: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
    """Reads a checkpoint that fits the agent and the environment, or says how it does not.

    Args:
        run_dir: the folder of the run.
        config: of the run.
        spec: of the environment.
        template: from the checkpoint's meta to the shape and dtype of every array.
        best: as in `checkpoint.load`.
        only: as in `checkpoint.load`.
        any_limit: whether the environment's time limit may differ.
    """

    def fitting(meta: dict[str, Any]) -> Mapping[str, Any]:
        expected = {"agent": config.agent, "spec": spec.plain()}
        spec_found = meta.get("spec")
        spec_found = dict(spec_found) if isinstance(spec_found, dict) else {}
        found = {"agent": meta.get("agent"), "spec": spec_found}
        if any_limit:  # acting does not depend on the time limit
            expected["spec"].pop("max_episode_steps")
            found["spec"].pop("max_episode_steps", None)
        if differing := checkpoint.describe_mismatch(expected, found):
            raise ValueError(f"The checkpoint in {run_dir} does not fit: {'; '.join(differing)}.")
        return template(meta)

    return checkpoint.load(run_dir / "checkpoints", fitting, best=best, only=only)


def template_of(variables: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns the shape and dtype of each variable, as a checkpoint holds it."""
    return {
        name: (tuple(v.shape), keras.backend.standardize_dtype(v.dtype))
        for name, v in variables.items()
    }


def assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Gives each variable the array of its name."""
    for name, variable in variables.items():
        variable.assign(arrays[name])


def variable_bytes(variable: Any) -> int:
    """Returns the memory in bytes that a variable takes."""
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def _check_named(choice: dict, what: str) -> None:
    if str(choice.get("name", "")).startswith(CALLABLE):
        raise ValueError(
            f"This run's {what} was {choice['name'].removeprefix(CALLABLE)}, made in Python, which "
            f"no file can bring back: pass it again ({what}=...)."
        )


def _choose_threads(spec: EnvSpec) -> None:
    """Small networks keep one or two threads busy: more would cost more than they save.

    TensorFlow's own variables, where they are set, decide instead.
    """
    given = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} & os.environ.keys()
    if given or any(len(leaf.shape) >= 2 for leaf in leaves(spec.obs)):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    tabular = isinstance(unmasked(spec.obs), Discrete)
    threads = 1 if tabular or cores == 1 else 2  # a table needs one
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # TensorFlow runs already: its threads stay as the program has them


def open_log(
    run_dir: Path, steps: int, quiet: bool, found: tuple[Any, Path] | None, **settings: Any
) -> logs.RunLog:
    """Opens a run's log where a checkpoint, given as its meta and its path, was written.

    Without one it begins anew.
    """
    if found is None:
        return logs.RunLog(run_dir, steps, quiet=quiet, state=metas.LogState({}), **settings)
    meta, path = found
    state = metas.read(metas.LogState, meta["log"], "log") if "log" in meta else None
    start = checkpoint.step_of(path)
    return logs.RunLog(run_dir, steps, quiet=quiet, start_step=start, state=state, **settings)
