"""Runs: train, stop, resume, load, evaluate. What ties agent, environments, loop and files."""

import contextlib
import dataclasses
import datetime
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlzoo import exploration as explorations
from rlzoo.agents import Agent, agent_class
from rlzoo.envs import make_envs
from rlzoo.train import checkpoint, files, logs
from rlzoo.train import evaluate as evaluation
from rlzoo.train.config import (
    RunConfig,
    describe,
    flatten,
    load_run,
    make_exploration,
    make_torso,
    resolve,
    to_yaml,
)
from rlzoo.train.host import Compiled, HostLoop, compile_act, initial_state
from rlzoo.train.plain import CALLABLE, fill
from rlzoo.types import EnvSpec

_EVAL, _FINAL = 1, 2  # streams of evaluation seeds: to choose the best, to judge it


class Interrupted(Exception):
    """Ctrl-C or SIGTERM ended a run after it was saved; `exit_code` is 130 or 143."""

    def __init__(self, run_dir: Path, step: int, signal_number: int):
        super().__init__(
            f"Interrupted at step {step}; everything is saved. Go on with: rlzoo resume {run_dir}"
        )
        self.run_dir = run_dir
        self.exit_code = 128 + signal_number


class Source(NamedTuple):
    """What a run is made of that a file cannot hold, None where its configuration names it."""

    env: str | Callable | None = None
    torso: keras.Layer | None = None
    exploration: explorations.Exploration | None = None


class Run:
    """A run that has ended, and can go on.

    Attributes:
        dir: its folder.
        agent: the agent as it was at the end (the best one is what `evaluate` and `load` use).
        config: what the run was told to do.
        summary: what `summary.json` holds.
    """

    def __init__(self, run_dir: Path, agent: Agent, config: RunConfig, summary: dict, source):
        self.dir = run_dir
        self.agent = agent
        self.config = config
        self.summary = summary
        self._source: Source = source

    def evaluate(self, episodes: int = 20, seed: int | None = None) -> evaluation.Evaluation:
        """Plays greedy episodes with the best agent, on environments of their own."""
        return evaluate(self.dir, episodes=episodes, seed=seed, **self._source._asdict())

    def train(self, steps: int, exploration: Any = None, *, quiet: bool = False) -> "Run":
        """Goes on for `steps` more, from now on with another exploration strategy if given."""
        config = dataclasses.replace(self.config, steps=self.summary["steps"] + steps)
        source = self._source
        if exploration is not None:
            config, source = _swap_exploration(config, source, exploration)
        with files.lock(self.dir):
            run = _train(self.dir, config, source, quiet)
        self.__dict__.update(run.__dict__)
        return self


class Policy:
    """A trained agent that acts: from `rlzoo.load`.

    Attributes:
        network: the Keras model from observations to scores.
        spec: the environment it was trained on.
    """

    def __init__(self, agent: Agent, first_action: int, first_obs: int):
        self.agent = agent
        self.network = agent.network
        self.spec: EnvSpec = agent.spec
        self._first_action = first_action
        self._first_obs = first_obs
        self._act: dict[int, Compiled] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets what a recurrent network remembers: call it where an episode starts."""
        self._count = 0  # size of the batch that is remembered
        self._tensors: list[tf.Tensor] = []

    def predict(self, obs: Any) -> Any:
        """Returns the greedy action, as the environment counts actions.

        Args:
            obs: one observation as the environment gives it, or a batch [B, ...]. A recurrent
                network remembers from call to call; another batch size starts anew.

        Returns:
            An int for one observation, else [B] int64.

        Raises:
            ValueError: an observation of another shape.
        """
        obs = np.asarray(obs)
        shape = self.spec.obs_shape
        if obs.shape[obs.ndim - len(shape) :] != shape or obs.ndim - len(shape) > 1:
            raise ValueError(
                f"Expected one observation of shape {shape} or a batch of them, received shape "
                f"{obs.shape}."
            )
        batch = (obs[None] if obs.ndim == len(shape) else obs) - self._first_obs
        count = len(batch)
        if count not in self._act:
            self._act[count] = compile_act(self.agent, count, 0, explore=False)
        first = tf.fill([count], count != self._count)
        if count != self._count:
            self._count = count
            self._tensors = tf.nest.flatten(initial_state(self.agent, count))
        batch = tf.constant(batch.astype(self.spec.obs_dtype))
        action, _, *self._tensors = self._act[count](*self._tensors, batch, first)
        action = action.numpy().astype(np.int64) + self._first_action
        return int(action[0]) if obs.ndim == len(shape) else action


def train(
    agent: str | None = None,
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
    preset: bool = True,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    quiet: bool = False,
) -> Run:
    """Trains an agent on a Gymnasium environment and returns the finished run.

    What is not given comes from the preset that ships for this agent and environment, else from
    the defaults in the agent's `Config`.

    Args:
        agent: "dqn", "reinforce" or "dyna_q".
        env: an id, or a callable that makes a `gymnasium.Env`.
        steps: environment steps, summed over environments.
        seed: of everything random; 0 by default.
        exploration: a name such as "softmax", or a strategy.
        torso: a name such as "dense", or any Keras layer, model or RNN cell.
        num_envs: environments stepped together.
        config: a YAML file, for example the `config.yaml` of another run.
        run_dir: the folder for results; by default runs/<env>/<agent>/<date-time>-s<seed>.
        loop: "auto" or "host".
        vector: "sync" or "async": environments in this process or in processes of their own.
        preset: whether to start from the preset.
        overrides: settings such as {"learning_rate": 1e-3, "exploration.epsilon": 0.1}.
        quiet: show nothing.

    Raises:
        ValueError: what was asked for is unknown, wrong or does not fit together.
        Interrupted: Ctrl-C or SIGTERM, after saving.
    """
    resolved = resolve(
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
        exploration=exploration,
        torso=torso,
    )
    source = Source(
        env=env,
        torso=torso if isinstance(torso, keras.Layer) else None,
        exploration=exploration if isinstance(exploration, explorations.Exploration) else None,
    )
    path = Path(run_dir) if run_dir is not None else _new_run_dir(resolved)
    with files.lock(path):
        if (path / "config.yaml").exists():
            raise ValueError(
                f"{path} holds a run already. Take another --run-dir, or go on with it: "
                f"rlzoo resume {path}"
            )
        return _train(path, resolved, source, quiet)


def resume(
    run_dir: str | Path,
    *,
    steps: int | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: explorations.Exploration | None = None,
    quiet: bool = False,
) -> Run:
    """Goes on with a run that was stopped or killed, exactly from its newest checkpoint.

    Args:
        run_dir: the folder of the run.
        steps: a new total of environment steps; by default the run's own.
        env: needed where the run's environment was a callable, or an id that imports a module.
        torso: needed where the run's torso was a Keras layer of yours: the same, anew.
        exploration: needed where the run's strategy was one of yours.
        quiet: show nothing.
    """
    path = Path(run_dir)
    with files.lock(path):
        config = load_run(path, env=env)
        if steps is not None:
            config = dataclasses.replace(config, steps=steps)
        return _train(path, config, Source(env, torso, exploration), quiet)


def load(
    run_dir: str | Path,
    *,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: explorations.Exploration | None = None,
    last: bool = False,
) -> Policy:
    """Returns the best agent of a run (or the last one), ready to `predict`.

    The other arguments are those of `resume`.
    """
    agent, config, source = _load_agent(Path(run_dir), Source(env, torso, exploration), last)
    probe = make_envs(source.env or config.env, 1, 0, env_kwargs=config.env_kwargs, check=False)
    probe.close()
    starts = (int(getattr(space, "start", 0)) for space in (probe.action_space, probe.obs_space))
    return Policy(agent, *starts)


def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 20,
    seed: int | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: explorations.Exploration | None = None,
    last: bool = False,
) -> evaluation.Evaluation:
    """Plays greedy episodes with the best agent of a run (or the last one).

    Args:
        run_dir: the folder of the run.
        episodes: how many.
        seed: of the episodes; by default those of the run's own final evaluation.
        env: another environment with the same spaces, or as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        last: take the newest checkpoint, not the best.
    """
    agent, config, source = _load_agent(Path(run_dir), Source(env, torso, exploration), last)
    seed = _stream(config.seed, _FINAL) if seed is None else seed
    evaluator = evaluation.Evaluator(agent, source.env or config.env, config.env_kwargs, episodes)
    return evaluator.run(seed)


def record(
    run_dir: str | Path,
    path: str | Path,
    *,
    seed: int | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: explorations.Exploration | None = None,
) -> evaluation.Evaluation:
    """Writes a greedy episode of the best agent to a .gif or .mp4 file; returns its outcome."""
    agent, config, source = _load_agent(Path(run_dir), Source(env, torso, exploration), False)
    seed = _stream(config.seed, _FINAL) if seed is None else seed
    where = source.env or config.env
    return evaluation.record(agent, where, config.env_kwargs, Path(path), seed)


class _Session:
    """One stretch of training, from a start or a checkpoint to the end or an interruption."""

    def __init__(
        self, run_dir: Path, config: RunConfig, source: Source, stop: "_Stop", quiet: bool
    ):
        self.run_dir = run_dir
        self.config = config
        self.env = source.env or config.env
        self.step = 0
        self.seconds = 0.0  # of training, also in earlier sessions
        self.best = -np.inf  # mean return of the best evaluation
        self._started = time.perf_counter()
        self._means = _Means()
        self._stop = stop
        with contextlib.ExitStack() as opened:  # closed at once if the rest fails
            self.envs = make_envs(
                self.env,
                config.num_envs,
                config.seed,
                mode=config.vector,
                env_kwargs=config.env_kwargs,
                on_env_error=config.on_env_error,
            )
            opened.callback(self.envs.close)
            self.agent = _build(config, self.envs.spec, source)
            found = _newest_meta(run_dir)
            start = 0 if found is None else int(found["loop"]["step"])
            self.log = logs.RunLog(run_dir, config.steps, quiet=quiet, start_step=start)
            opened.callback(self.log.close)
            stop.message = self.log.message
            self.log.message(f"Compiling {config.agent} for {config.env} ...")
            self.loop = HostLoop(self.agent, self.envs, config.seed)
            self.evaluator = evaluation.Evaluator(
                self.agent, self.env, config.env_kwargs, config.eval_episodes
            )
            if found is not None:
                self._restore()
            self.close = opened.pop_all().close

    def run(self) -> dict[str, Any]:
        """Trains to the end, saving on the way; returns the summary."""
        config = self.config
        evaluations = _Every(config.eval_every, self.step)
        saves = _Every(config.checkpoint_every, self.step)
        rows = _Every(config.log_every, self.step)
        if self.step == 0:
            self._save()
        while self.step < config.steps:
            report = self.loop.run_chunk()
            self.step += report.steps
            self._means.add(report.metrics)
            for episode_return, length in report.episodes:
                self.log.episode(self.step, episode_return, length)
            self.log.progress(self.step, **self._shown(report.metrics))
            if rows.due(self.step):
                self.log.scalars(self.step, self._means.take())
            if evaluations.due(self.step) and self.step < config.steps:
                self._evaluate()
            if self._stop.signal:
                self._save()
                raise Interrupted(self.run_dir, self.step, self._stop.signal)
            if saves.due(self.step) and self.step < config.steps:
                self._save()
        self._evaluate()
        self._save()
        return self._finish()

    def _evaluate(self) -> None:
        result = self.evaluator.run(_stream(self.config.seed, _EVAL))
        self.log.evaluation(self.step, result.mean_return, result.std_return, result.episodes)
        if result.mean_return >= self.best:
            self.best = result.mean_return
            network = {
                name: value.numpy()
                for name, value in self.agent.variables().items()
                if name.startswith("network/")
            }
            self._write_checkpoint(network, {}, best=True)

    def _save(self) -> None:
        if self._means:  # what a resumed run would lack
            self.log.scalars(self.step, self._means.take())
        self.log.flush()
        arrays, state = self.loop.get_state()
        self._write_checkpoint(arrays, state, best=False)

    def _write_checkpoint(self, arrays: dict, state: dict, best: bool) -> None:
        meta = {
            "agent": self.config.agent,
            "spec": self.agent.spec._asdict(),
            "config": dataclasses.asdict(self.config),
            "loop": {
                **state,
                "step": self.step,
                "best": None if np.isinf(self.best) else self.best,
                "seconds": self.seconds + time.perf_counter() - self._started,
            },
        }
        keep = self.config.keep_checkpoints
        checkpoint.save(self.run_dir / "checkpoints", self.step, arrays, meta, keep=keep, best=best)

    def _restore(self) -> None:
        arrays = self.loop.get_state()[0]
        template = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        arrays, meta = _read_checkpoint(self.run_dir, self.config, self.agent.spec, template)
        self.loop.set_state(arrays, meta["loop"])
        self.step = int(meta["loop"]["step"])
        self.seconds = float(meta["loop"]["seconds"])
        best = meta["loop"]["best"]
        self.best = -np.inf if best is None else float(best)
        self.log.message(f"Going on from step {self.step:,}.")

    def _shown(self, metrics: dict[str, float]) -> dict[str, float | None]:
        rates = {
            tag.removeprefix("exploration/"): value
            for tag, value in metrics.items()
            if tag.startswith("exploration/")
            and tag not in ("exploration/entropy", "exploration/greedy_fraction")
        }
        losses = [value for tag, value in metrics.items() if tag.startswith("loss/")]
        loss = losses[-1] if losses and metrics["updates"] else None
        return {"loss": loss, **rates}

    def _finish(self) -> dict[str, Any]:
        """Evaluates the last and the best agent on fresh seeds; writes summary and curve."""
        self.seconds += time.perf_counter() - self._started
        self._started = time.perf_counter()
        fresh = _stream(self.config.seed, _FINAL)
        last = self.evaluator.run(fresh)
        variables = {
            name: value
            for name, value in self.agent.variables().items()
            if name.startswith("network/")
        }
        last_weights = {name: value.numpy() for name, value in variables.items()}
        best_weights, meta, _ = checkpoint.load(self.run_dir / "checkpoints", best=True)
        _assign(variables, best_weights)
        best = self.evaluator.run(fresh)
        _assign(variables, last_weights)
        summary = {
            "run_dir": str(self.run_dir),
            "agent": self.config.agent,
            "env": self.config.env,
            "seed": self.config.seed,
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(self.step / self.seconds, 1),
            "episodes": best.episodes,
            "mean_return": best.mean_return,
            "std_return": best.std_return,
            "best_step": int(meta["loop"]["step"]),
            "last_mean_return": last.mean_return,
            "last_std_return": last.std_return,
            "versions": meta["versions"],
        }
        self.log.hparams(
            flatten(self.config),
            {"final/best_return": best.mean_return, "final/last_return": last.mean_return},
        )
        self.log.close()
        logs.write_summary(self.run_dir, summary)
        logs.draw_curve(self.run_dir)
        return summary


class _Stop:
    """Ctrl-C or SIGTERM asks for a stop after the chunk at hand; a second one stops at once."""

    def __init__(self):
        self.signal = 0  # the number of the one that came
        self.message: Callable[[str], None] = lambda text: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Stop":
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, _: Any) -> None:
        if self.signal:
            sys.exit(128 + number)
        self.signal = number
        self.message("Stopping after this update; once more to stop at once ...")


class _Every:
    """Tells when a counter has passed a multiple of a period; never for period 0."""

    def __init__(self, period: int, start: int):
        self._period = period
        self._passed = start // period if period else 0

    def due(self, step: int) -> bool:
        """Returns whether a multiple was passed since the last time."""
        passed = step // self._period if self._period else 0
        due, self._passed = passed > self._passed, passed
        return due


class _Means:
    """Means of metrics over chunks; what was learned counts once per gradient step."""

    _LEARNED = ("loss/", "value/", "grad/", "model/")

    def __init__(self):
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, metrics: dict[str, float]) -> None:
        """Takes the metrics of a chunk into account."""
        for tag, value in metrics.items():
            weight = metrics["updates"] if tag.startswith(self._LEARNED) else 1.0
            self._sums[tag] = self._sums.get(tag, 0.0) + weight * value
            self._weights[tag] = self._weights.get(tag, 0.0) + weight

    def __bool__(self) -> bool:
        return bool(self._sums)

    def take(self) -> dict[str, float]:
        """Returns the means, without those that nothing was learned for, and starts anew."""
        means = {
            tag: total / self._weights[tag]
            for tag, total in self._sums.items()
            if self._weights[tag] and tag != "updates"
        }
        self.__init__()
        return means


def _train(run_dir: Path, config: RunConfig, source: Source, quiet: bool) -> Run:
    with _Stop() as stop:
        session = _Session(run_dir, config, source, stop, quiet)
        with contextlib.closing(session):
            with files.replacing(run_dir / "config.yaml") as file:
                file.write(to_yaml(config))
            summary = session.run()
    return Run(run_dir, session.agent, config, summary, source)


def _build(config: RunConfig, spec: EnvSpec, source: Source) -> Agent:
    """Returns the agent that a configuration describes."""
    _choose_threads(spec)
    keras.utils.set_random_seed(config.seed % 2**32)  # for layers of the user's own
    cls = agent_class(config.agent, spec)
    torso, strategy = source.torso, source.exploration
    if torso is None:
        _check_named(config.torso, "torso")
        torso = make_torso(config.torso, _stream(config.seed, 3) % 2**31)
    if strategy is None:
        _check_named(config.exploration, "exploration")
        strategy = make_exploration(config.exploration)
    hyperparameters = cls.Config(**fill(cls.Config, config.agent_params))
    return cls(spec, hyperparameters, strategy, torso, _stream(config.seed, 4) % 2**31)


def _check_named(choice: dict, what: str) -> None:
    if str(choice.get("name", "")).startswith(CALLABLE):
        raise ValueError(
            f"This run's {what} was {choice['name'].removeprefix(CALLABLE)}, made in Python, which "
            f"no file can bring back: pass it again ({what}=...)."
        )


def _choose_threads(spec: EnvSpec) -> None:
    """Small networks run faster on one thread: handing over costs more than it saves."""
    if len(spec.obs_shape) >= 2:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # TensorFlow runs already: its threads stay as the program has them


def _load_agent(run_dir: Path, source: Source, last: bool) -> tuple[Agent, RunConfig, Source]:
    config = load_run(run_dir, env=source.env)
    env = source.env or config.env
    envs = make_envs(env, 1, 0, env_kwargs=config.env_kwargs, check=False)
    envs.close()
    agent = _build(config, envs.spec, source)
    variables = {k: v for k, v in agent.variables().items() if k.startswith("network/")}
    template = {name: (tuple(v.shape), str(v.numpy().dtype)) for name, v in variables.items()}
    best = not last and bool(checkpoint.checkpoints(run_dir / "checkpoints", best=True))
    arrays, _ = _read_checkpoint(
        run_dir, config, envs.spec, template, best=best, only="network/", any_limit=True
    )
    _assign(variables, arrays)
    return agent, config, source


def _read_checkpoint(
    run_dir: Path,
    config: RunConfig,
    spec: EnvSpec,
    template: Mapping[str, Any],
    *,
    best: bool = False,
    only: str = "",
    any_limit: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a checkpoint that fits the agent and the environment, or says how it does not."""

    def fitting(meta: dict[str, Any]) -> Mapping[str, Any]:
        expected = {"agent": config.agent, "spec": {**spec._asdict()}}
        expected["spec"]["obs_shape"] = list(spec.obs_shape)
        found = {"agent": meta.get("agent"), "spec": dict(meta.get("spec") or {})}
        if any_limit:  # acting does not depend on the time limit
            expected["spec"].pop("max_episode_steps")
            found["spec"].pop("max_episode_steps", None)
        if differing := checkpoint.describe_mismatch(expected, found):
            raise ValueError(f"The checkpoint in {run_dir} does not fit: {'; '.join(differing)}.")
        return template

    arrays, meta, _ = checkpoint.load(run_dir / "checkpoints", fitting, best=best, only=only)
    return arrays, meta


def _newest_meta(run_dir: Path) -> dict[str, Any] | None:
    """Returns what the newest good checkpoint says of itself, None before the first."""
    if not checkpoint.checkpoints(run_dir / "checkpoints"):
        return None
    return checkpoint.load(run_dir / "checkpoints", only="state/")[1]


def _assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _swap_exploration(config: RunConfig, source: Source, strategy: Any) -> tuple[RunConfig, Source]:
    if isinstance(strategy, str):
        strategy = make_exploration({"name": strategy})
    config = dataclasses.replace(config, exploration=describe(strategy))
    return config, source._replace(exploration=strategy)


def _new_run_dir(config: RunConfig) -> Path:
    name = re.sub(r"[^\w.-]+", "_", config.env.removeprefix(CALLABLE))
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / name / config.agent
    path = folder / f"{now}-s{config.seed}"
    for count in range(2, 1000):
        if not path.exists():
            break
        path = folder / f"{now}-s{config.seed}-{count}"
    return path


def _stream(seed: int, number: int) -> int:
    """Returns the seed of one of a run's streams of randomness."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
