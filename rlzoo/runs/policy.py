"""A trained agent that acts: loading, evaluating and recording the best agent of a run."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent, Mode, acting_variables
from rlzoo.agents.base import ACTOR
from rlzoo.config.files import load_run
from rlzoo.config.record import RunConfig
from rlzoo.config.values import typed
from rlzoo.envs import make_envs
from rlzoo.envs.base import Envs
from rlzoo.envs.slot import Probe, env_action
from rlzoo.envs.spaces import name_of, parts_of
from rlzoo.exploration import Exploration
from rlzoo.loops import evaluate as evaluation
from rlzoo.loops.base import initial_acting
from rlzoo.loops.compiled import Compiled, compile_act
from rlzoo.ops.streams import FINAL, derived
from rlzoo.runs import meta as metas
from rlzoo.runs import record as film
from rlzoo.runs.build import (
    Source,
    assign,
    build_agent,
    environment,
    read_checkpoint,
    template_of,
)
from rlzoo.runs.entry import check_process, entry
from rlzoo.spaces import BARE, MASK, Box, Discrete, EnvSpec, describe, leaves, map_leaves, unmasked
from rlzoo.storage import checkpoint
from rlzoo.storage.files import run_path
from rlzoo.text import short


class Policy:
    """A trained agent that acts: from `rlzoo.load`.

    Attributes:
        network: the Keras model from observations to scores.
        spec: the environment it was trained on.
    """

    def __init__(
        self,
        agent: Agent,
        env: Probe,
        eval_mode: Mode = "greedy",
    ):
        self.agent = agent
        self.network = agent.actor.network
        self.spec: EnvSpec = agent.spec
        self._env_action = env_action(env.action_space)
        self._obs_space = env.obs_space
        self._beside = env.masked
        self._bare = env.bare_obs
        self._judged = evaluation.judged(agent, eval_mode)
        self._mode: Mode = eval_mode
        self._act: dict[int, Compiled] = {}
        self._acts = 0  # how often it has acted
        self._step = tf.zeros([], tf.int64)  # of training, which no rate goes by here
        self.reset()

    def __repr__(self) -> str:
        """Returns who acts, on what observations, with which actions."""
        obs, action = unmasked(self.spec.obs), self.spec.action
        seen = f"{obs.dtype} {list(obs.shape)}" if isinstance(obs, Box) else describe(obs)
        actions = f"actions {action.dtype} {list(action.shape)}"
        if isinstance(action, Discrete):
            actions = f"{action.n} actions"
        return f"<Policy of {type(self.agent).__name__}: observations {seen}, {actions}>"

    def reset(self) -> None:
        """Forgets what a recurrent network remembers: call it where an episode starts."""
        self._count = 0  # size of the batch that is remembered
        self._tensors: list[tf.Tensor] = []

    def predict(self, obs: Any, action_mask: Any = None) -> Any:
        """Returns what to do, as the environment counts actions.

        Args:
            obs: one observation as the environment gives it, or a batch [B, ...]. A recurrent
                network remembers from call to call; another batch size starts anew.
            action_mask: which actions are valid, [A] or [B, A], where the environment tells it
                beside the observation, as in `info["action_mask"]`. By default all.

        Returns:
            An int for one observation, else [B] int64; an array if the actions are a Box.

        Raises:
            ValueError: an observation of another shape.
        """
        check_process()
        rows = _rows(obs, self._bare, self._obs_space)
        batched = {axes for _, axes in leaves(rows)}
        batch = map_leaves(lambda row: row[0] if row[1] else row[0][None], rows)
        counts = {len(x) for x in leaves(batch)}
        if len(batched) > 1 or len(counts) > 1:
            raise ValueError(
                "Expected all parts of one observation, or of a batch of them, received "
                f"{sorted(counts)} of the parts."
            )
        [count], [one] = counts, [not axes for axes in batched]
        if self._beside:
            given = True if action_mask is None else action_mask
            mask = np.broadcast_to(np.asarray(given, bool), (count, self.spec.num_actions))
            batch = {**(batch if isinstance(batch, dict) else {BARE: batch}), MASK: mask}
        if count not in self._act:
            self._act[count] = compile_act(self._judged, count, 0, self._mode)
        first = tf.fill([count], count != self._count)
        if count != self._count:
            self._count = count
            acting = initial_acting(self._judged, count)
            acts = tf.constant(self._acts, tf.int64)  # another draw in each episode
            self._tensors = tf.nest.flatten(acting._replace(acts=acts))
        self._acts += 1
        pairs = zip(leaves(self.spec.obs), leaves(batch), strict=True)
        tensors = [tf.constant(x.astype(leaf.dtype)) for leaf, x in pairs]
        action, *self._tensors = self._act[count](*self._tensors, self._step, *tensors, first)
        discrete = isinstance(self.spec.action, Discrete)
        action = self._env_action(action.numpy().astype(np.int64 if discrete else np.float32))
        if not one:
            return action
        return int(action[0]) if discrete else action[0]


def _rows(obs: Any, space: Any, original: Any, name: str = "observation") -> Any:
    """Returns the array of each part of an observation, or of a batch, counted from 0.

    With it, how many axes it has beyond those of one observation.
    """
    if isinstance(space, dict):
        parts = parts_of(original)
        missing = [key for key, _ in parts if not _has(obs, key)]
        if missing:
            raise ValueError(
                f"Expected {name} with the parts {[k for k, _ in parts]}, received {short(obs)}."
            )
        return {
            name_of(key): _rows(obs[key], space[name_of(key)], part, f"{name}[{key!r}]")
            for key, part in parts
        }
    rows, shape = np.asarray(obs), space.shape
    beyond = rows.ndim - len(shape)
    if beyond not in (0, 1) or rows.shape[beyond:] != shape:
        raise ValueError(
            f"Expected one {name} of shape {shape} or a batch of them, received shape {rows.shape}."
        )
    first = getattr(original, "start", 0)
    return (rows - first if np.any(first) else rows), beyond


def _has(obs: Any, key: Any) -> bool:
    return key in obs if isinstance(obs, dict) else isinstance(obs, tuple | list) and len(obs) > key


@entry()
def load(
    run_dir: str | Path,
    *,
    agent: str | type | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    eval_mode: str | None = None,
    last: bool = False,
) -> Policy:
    """Returns the best agent of a run (or the last one), ready to `predict`.

    Args:
        run_dir: the folder of the run.
        agent: as in `resume`.
        env: as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        wrappers: as in `resume`.
        eval_mode: how it acts, as for `rlzoo.train`; by default as the run was evaluated.
        last: take the newest checkpoint, not the best.
    """
    source = Source.of(env, torso, exploration, wrappers)
    found = _load(run_path(run_dir), source, agent, last=last, eval_mode=eval_mode)
    return Policy(found.agent, found.envs.probe, found.config.eval_mode)


@entry()
def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 20,
    seed: int | None = None,
    agent: str | type | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
    last: bool = False,
) -> evaluation.Evaluation:
    """Plays episodes with the best agent of a run (or the last one).

    An environment that changes over its life is as old as training has left it.

    Args:
        run_dir: the folder of the run.
        episodes: how many.
        seed: of the episodes; by default those of the run's own final evaluation.
        agent: as in `resume`.
        env: another environment with the same spaces, or as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        wrappers: as in `resume`.
        max_episode_steps: where an episode is cut; by default where it was in the run.
        eval_mode: how it acts, as for `rlzoo.train`; by default as the run was evaluated.
        last: take the newest checkpoint, not the best.
    """
    episodes = _whole(episodes, "episodes", 1)
    seed = None if seed is None else _whole(seed, "seed", 0)
    acting, config, envs, lifetime_steps = _load(
        run_path(run_dir),
        Source.of(env, torso, exploration, wrappers),
        agent,
        episodes=episodes,
        last=last,
        max_episode_steps=max_episode_steps,
        eval_mode=eval_mode,
    )
    chosen = derived(config.seed, FINAL) if seed is None else seed
    with contextlib.closing(envs):
        evaluator = evaluation.Evaluator(acting, envs, episodes, config.eval_mode)
        return evaluator.run(chosen, lifetime_steps)


@entry()
def record(
    run_dir: str | Path,
    path: str | Path,
    *,
    seed: int | None = None,
    agent: str | type | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
) -> evaluation.Evaluation:
    """Writes an episode of the best agent to a .gif or .mp4 file; returns its outcome.

    The other arguments are those of `evaluate`.
    """
    seed = None if seed is None else _whole(seed, "seed", 0)
    source = Source.of(env, torso, exploration, wrappers)
    acting, config, envs, lifetime_steps = _load(
        run_path(run_dir), source, agent, max_episode_steps=max_episode_steps, eval_mode=eval_mode
    )
    chosen = derived(config.seed, FINAL) if seed is None else seed
    where = environment(config, source)
    settings = config.env_settings
    return film.record(
        acting, where, settings, envs.probe, Path(path), chosen, config.eval_mode, lifetime_steps
    )


def _whole(value: Any, name: str, least: int) -> int:
    """Returns a whole number; refuses a smaller one before an environment is made."""
    number: int = typed(value, int, name)
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, received {number}.")
    return number


class _Loaded(NamedTuple):
    """What a run left, ready to act."""

    agent: Agent
    config: RunConfig
    envs: Envs  # none of which is made before its first reset
    lifetime_steps: list[int]  # how old training left those that change over their life


def _load(
    run_dir: Path,
    source: Source,
    brought: str | type | None,
    *,
    episodes: int = 1,
    last: bool = False,
    **settings: Any,
) -> _Loaded:
    """Loads the best agent, or the last one; `settings` that are not None replace the run's."""
    config = load_run(run_dir, env=source.env, wrappers=source.wrappers, agent=brought)
    given = {name: value for name, value in settings.items() if value is not None}
    config = dataclasses.replace(config, **given)
    num_envs = evaluation.num_envs(config, episodes)
    envs = make_envs(environment(config, source), num_envs, 0, check=False, **config.env_settings)
    agent = build_agent(config, envs.spec, source)
    variables = acting_variables(agent)
    template = template_of(variables)
    arrays, *_ = read_checkpoint(
        run_dir,
        config,
        envs.spec,
        lambda meta: template,
        best=not last,
        only=f"{ACTOR}/",
        any_limit=True,
    )
    assign(variables, arrays)
    return _Loaded(agent, config, envs, _lifetime_steps(run_dir) if envs.probe.changes else [])


def _lifetime_steps(run_dir: Path) -> list[int]:
    """Returns how old training left the environments; [] if nothing says so."""
    _, meta, _ = checkpoint.load(run_dir / "checkpoints", only="state/")
    return list(metas.read(metas.Progress, meta.get("loop"), "loop").lifetime_steps)
