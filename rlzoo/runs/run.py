"""Runs: train, stop, go on."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from rlzoo.agents import Agent
from rlzoo.config.advice import advice
from rlzoo.config.choices import make_exploration
from rlzoo.config.files import load_run, to_yaml
from rlzoo.config.opening import Opened
from rlzoo.config.record import RunConfig
from rlzoo.config.resolve import resolve_and_open
from rlzoo.config.values import CALLABLE, typed
from rlzoo.exploration import Exploration
from rlzoo.loops.evaluate import Evaluation
from rlzoo.reports import log as logs
from rlzoo.runs.build import Source, check_object
from rlzoo.runs.claim import claim, unused
from rlzoo.runs.entry import entry
from rlzoo.runs.policy import evaluate
from rlzoo.runs.session import Session
from rlzoo.runs.stop import Stop
from rlzoo.storage import files


class Run:
    """A run that has ended, and can go on.

    Attributes:
        dir: its folder.
        agent: the agent as it was at the end (the best one is what `evaluate` and `load` use).
        config: what the run was told to do.
        summary: what `summary.json` holds.
    """

    def __init__(
        self,
        run_dir: Path,
        agent: Agent,
        config: RunConfig,
        summary: dict[str, Any],
        source: Source,
        quiet: bool = False,
    ):
        self.dir = run_dir
        self.agent = agent
        self.config = config
        self.summary = summary
        self._source = source
        self._quiet = quiet

    def __repr__(self) -> str:
        """Returns what it is, how well it ended, and where it lies."""
        found = self.summary
        return (
            f"<Run of {found['agent']} on {found['env']}, seed {found['seed']}: {found['steps']:,} "
            f"steps, best {_mean(found['mean_return'])}, last {_mean(found['last_mean_return'])}; "
            f"{self.dir}>"
        )

    def evaluate(self, episodes: int = 20, seed: int | None = None) -> Evaluation:
        """Plays episodes with the best agent, on environments of their own."""
        return evaluate(self.dir, episodes=episodes, seed=seed, **self._source._asdict())

    @entry()
    def train(
        self,
        steps: int,
        exploration: Any = None,
        *,
        callbacks: Iterable[Any] = (),
        loggers: Iterable[Any] = (),
        quiet: bool | None = None,
    ) -> "Run":
        """Goes on for `steps` more, from now on with another exploration strategy if given.

        It is as quiet as the call before, unless `quiet` says otherwise.
        """
        total = self.summary["steps"] + typed(steps, int, "steps")
        config = further(self.config, total, self.summary)
        if isinstance(exploration, str):
            exploration = make_exploration({"name": exploration})
        check_object(exploration, Exploration, "exploration", "an Exploration")
        quiet = self._quiet if quiet is None else quiet
        with files.lock(self.dir):
            run = _train(self.dir, config, self._source, quiet, callbacks, loggers, exploration)
        self.__dict__.update(run.__dict__)
        return self


@entry()
def train(
    agent: str | type | None = None,
    env: str | Callable | None = None,
    *,
    steps: int | None = None,
    seed: int | None = None,
    exploration: Any = None,
    torso: Any = None,
    num_envs: int | None = None,
    config: str | Path | None = None,
    run_dir: str | Path | None = None,
    loop: str | None = None,
    vector: str | None = None,
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
    eval_env: str | None = None,
    preset: bool = True,
    torso_from: str | Path | None = None,
    freeze: bool = False,
    unfreeze_after: int | None = None,
    torso_lr_scale: float | None = None,
    until_return: float | None = None,
    wrappers: Sequence[Any] | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    callbacks: Iterable[Any] = (),
    loggers: Iterable[Any] = (),
    quiet: bool = False,
    **hyperparameters: Any,
) -> Run:
    """Trains an agent on a Gymnasium environment and returns the finished run.

    What is not given comes from the preset that ships for this agent and environment, else from
    the defaults in the agent's `Config`.

    Args:
        agent: "dqn", "reinforce", "dyna_q", or your own: "module:Class", or the class.
        env: an id, or a callable that makes a `gymnasium.Env`.
        steps: environment steps, summed over environments.
        seed: of everything random; 0 by default.
        exploration: a name such as "softmax", or a strategy.
        torso: a name such as "dense", or any Keras layer, model or RNN cell.
        num_envs: environments stepped together.
        config: a YAML file, for example the `config.yaml` of another run.
        run_dir: the folder for results; by default runs/<env>/<agent>/<date-time>-s<seed>.
        loop: "auto", "host" or "graph".
        vector: "sync" or "async": environments in this process or in processes of their own.
        max_episode_steps: where an episode is cut, in training and evaluation; by default as the
            environment says.
        eval_mode: how the agent acts in evaluation, by which the best one is chosen: "greedy", by
            the best action; "policy", by drawing from the policy of an agent that learns one, as
            reinforce does (its default); "explore", the same with 1 action in 20 random.
        eval_env: where: "separate", in environments made for that; "training", in those that it
            trains in, whose episodes go on afterwards; "none", nowhere: then the last is the best.
        preset: whether to start from the preset.
        torso_from: the folder of a run (of `rlzoo pretrain`, or another agent's) whose torso to
            start from. With torso="lstm" (or "gru", "rnn") one that is not recurrent becomes the
            encoder before it.
        freeze: keep the weights of that torso as they are.
        unfreeze_after: keep them so for this many environment steps.
        torso_lr_scale: what to multiply the learning rate by for them.
        until_return: stop when an evaluation's mean return reaches it.
        wrappers: around each environment, the first inmost: names in `gymnasium.wrappers`,
            "module:Class", {"name": "FrameStackObservation", "stack_size": 4}, or classes.
        overrides: settings whose names are no keywords, such as {"exploration.epsilon": 0.1}; or
            `key=value` texts, as after --set.
        callbacks: objects that the run calls on its way, see `rlzoo.runs.callbacks.Callback`, or
            "module:Name" of such a class.
        loggers: where else the metrics go: "wandb", "mlflow", "trackio", "module:Name", or
            objects, see `rlzoo.reports.loggers.Logger`.
        quiet: show nothing.
        **hyperparameters: every other setting of the agent or the run, such as
            `learning_rate=1e-3` or `eval_every=2_000`: `rlzoo list dqn`, `rlzoo list run`.

    Raises:
        ValueError: what was asked for is unknown, wrong or does not fit together.
        Interrupted: Ctrl-C or SIGTERM, after saving.
    """
    source = Source.of(
        env,
        None if isinstance(torso, (str, Mapping)) else torso,
        None if isinstance(exploration, (str, Mapping)) else exploration,
        wrappers,
    )
    resolved, known = resolve_and_open(
        agent,
        env,
        preset=preset,
        file=config,
        overrides=overrides,
        steps=steps,
        seed=seed,
        num_envs=num_envs,
        vector=vector,
        loop=loop,
        until_return=until_return,
        wrappers=wrappers,
        max_episode_steps=max_episode_steps,
        eval_mode=eval_mode,
        eval_env=eval_env,
        exploration=exploration,
        torso=torso,
        torso_from=torso_from,
        freeze=freeze,
        unfreeze_after=unfreeze_after,
        torso_lr_scale=torso_lr_scale,
        hyperparameters=hyperparameters,
    )
    made_up = new_run_dir(resolved, f"s{resolved.seed}")
    path = made_up if run_dir is None else files.run_path(run_dir)
    try:
        with files.lock(path):
            made_of = resolved.env, resolved.wrappers, resolved.agent
            claim(path, advice("resume", path, *made_of))
            return _train(path, resolved, source, quiet, callbacks, loggers, known=known)
    finally:  # a run that could not start leaves no folders behind
        files.remove_empty(path, parents=0 if run_dir is not None else 3)


@entry()
def resume(
    run_dir: str | Path,
    *,
    steps: int | None = None,
    until_return: float | None = None,
    num_envs: int | None = None,
    agent: str | type | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    callbacks: Iterable[Any] = (),
    loggers: Iterable[Any] = (),
    quiet: bool = False,
) -> Run:
    """Goes on with a run that was stopped or killed, exactly from its newest checkpoint.

    Args:
        run_dir: the folder of the run.
        steps: a new total of environment steps; by default the run's own.
        until_return: another return that ends it. One that was reached is no goal any more where
            `steps` is given.
        num_envs: another number of environments from now on. What was learned stays; their
            episodes begin anew.
        agent: needed where the run's agent was yours: "module:Class", or the class.
        env: needed where the run's environment was a callable, or an id that imports a module.
        torso: needed where the run's torso was a Keras layer of yours: the same, anew.
        exploration: needed where the run's strategy was one of yours.
        wrappers: needed where one of them was "module:Class" or made in Python: all of them.
        callbacks: as for `train`; those of the run before are not remembered.
        loggers: likewise.
        quiet: show nothing.
    """
    path = files.run_path(run_dir)
    source = Source.of(env, torso, exploration, wrappers)
    # What is wrong is said before the lock makes a folder.
    load_run(path, env=env, wrappers=wrappers, agent=agent)
    with files.lock(path):
        config = load_run(path, env=env, wrappers=wrappers)
        if steps is not None:
            config = further(config, steps, logs.read_summary(path))
        if num_envs is not None:
            config = dataclasses.replace(config, num_envs=num_envs)
        if until_return is not None:
            config = dataclasses.replace(config, until_return=until_return)
        return _train(path, config, source, quiet, callbacks, loggers)


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def further(config: RunConfig, steps: int, summary: Mapping[str, Any]) -> RunConfig:
    """Returns the configuration for a new total of steps, without a goal that was reached."""
    goal = config.until_return
    if summary.get("solved_at") is not None and summary.get("until_return") == goal:
        goal = None
    return dataclasses.replace(config, steps=steps, until_return=goal)


def _train(
    run_dir: Path,
    config: RunConfig,
    source: Source,
    quiet: bool,
    callbacks: Iterable[Any],
    loggers: Iterable[Any],
    exploration: Exploration | None = None,
    known: Opened | None = None,
) -> Run:
    """Trains from the newest checkpoint, if there is one, to the end of `config.steps`."""
    with Stop() as stop:
        session = Session(run_dir, config, source, stop, quiet, callbacks, loggers, known)
        with contextlib.closing(session):
            if exploration is not None:  # from now on; the checkpoint was read with the one before
                session.follow(exploration)
                source = source._replace(exploration=exploration)
            with files.replacing(run_dir / "config.yaml") as file:
                file.write(to_yaml(session.config))
            summary = session.run()
    return Run(run_dir, session.agent, session.config, summary, source, quiet)


def new_run_dir(config: RunConfig, suffix: str) -> Path:
    """Returns an unused folder in the usual place."""
    name = re.sub(r"[^\w.-]+", "_", config.env.removeprefix(CALLABLE))
    return unused(Path("runs", name, config.agent), suffix)
