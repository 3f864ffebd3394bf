"""One stretch of training: the loop with its evaluations, checkpoints, logs and signals."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo import networks
from rlzoo.agents import Agent
from rlzoo.config.describe import describe, settings
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.envs import make_envs
from rlzoo.envs.base import Envs
from rlzoo.envs.making import RAISED
from rlzoo.envs.ports import PortedEnvs, make_ported_envs
from rlzoo.exploration import Exploration, check_log_probs
from rlzoo.loops import evaluate as evaluation
from rlzoo.loops.compiled import Report, is_learned
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.reports import curves, hparams
from rlzoo.reports import log as logs
from rlzoo.runs import meta as metas
from rlzoo.runs.build import (
    EVAL,
    FINAL,
    Source,
    assign,
    build_agent,
    environment,
    read_checkpoint,
    stream,
    template_of,
    variable_bytes,
)
from rlzoo.runs.callbacks import Callbacks
from rlzoo.runs.stop import Interrupted, Stop
from rlzoo.storage import checkpoint

_RESULTS = {  # in the HParams tab: names, and where they are in the summary
    "final/best_return": "mean_return",
    "final/last_return": "last_mean_return",
    "final/area": "area",
    "final/seconds": "seconds",
}
_CALL_SECONDS = 1.0  # of the graph loop at most, so that signals are heard and progress is shown
_LONG_REPLAY = 1_000  # steps of the environments; more are told of
_TELL_SECONDS = 5.0
_LAST_ROWS = 10  # of the log: the training that stands for evaluations where there are none


class Session:
    """One stretch of training, from a start or a checkpoint to the end or an interruption."""

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        source: Source,
        stop: Stop,
        quiet: bool,
        callbacks: Iterable[Any] = (),
        loggers: Iterable[Any] = (),
    ):
        self.callbacks = Callbacks(callbacks)  # first: what is wrong there is known at once
        self.run_dir = run_dir
        self.config = config
        self.env = environment(config, source)
        self.step = 0
        self.seconds = 0.0  # of training, also in earlier sessions
        self.best = -np.inf  # mean return of the best evaluation
        self.evaluated = -1  # step of the last evaluation
        self.solved_at: int | None = None  # the step whose evaluation reached `until_return`
        self._started = time.perf_counter()
        self._saved = time.monotonic()  # when the newest checkpoint was written
        self._means = _Means()
        self._stop = stop
        with contextlib.ExitStack() as opened:  # closed at once if the rest fails
            envs: Envs | PortedEnvs
            if config.loop == "graph":
                envs = make_ported_envs(self.env, config.num_envs, **config.env_settings)
            else:
                envs = make_envs(
                    self.env,
                    config.num_envs,
                    config.seed,
                    mode=config.vector,
                    on_env_error=config.on_env_error,
                    step_timeout=config.env_step_timeout,
                    **config.env_settings,
                )
                opened.callback(envs.close)
                with contextlib.suppress(*RAISED):  # said at the first reset
                    envs.open()
            fresh = not checkpoint.checkpoints(run_dir / "checkpoints")
            self.agent = build_agent(config, envs.spec, source, fresh=fresh)
            self.loop: HostLoop | GraphLoop
            if isinstance(envs, PortedEnvs):
                self.loop = GraphLoop(self.agent, envs, config.seed)
            else:
                self.loop = HostLoop(self.agent, envs, config.seed)
            found = None if fresh else self._read()
            start = checkpoint.step_of(found[2]) if found else 0
            total, note = end_of_run(self.agent, config, start)
            self.log = open_log(
                run_dir,
                total,
                quiet,
                found and found[1:],
                loggers=loggers,
                settings={**settings(dataclasses.asdict(config)), "seed": config.seed},
            )
            opened.callback(self.log.close)
            stop.message = self.log.message
            size = sum(map(variable_bytes, self.agent.variables().values())) / 2**20
            self.log.message(
                f"Compiling {_named(config)} for {config.env}, {config.loop} loop; its weights and "
                f"replay take {size:,.1f} MiB ..."
            )
            if note:
                self.log.message(note)
            self.evaluator = None
            if evaluated_in := self._evaluation_envs(envs):
                opened.callback(evaluated_in.close)
                self.evaluator = evaluation.Evaluator(
                    self.agent, evaluated_in, config.eval_episodes, config.eval_mode
                )
            if found is not None:
                self._restore(*found)
            self.close = opened.pop_all().close

    def run(self) -> dict[str, Any]:
        """Trains to the end, saving on the way; returns the summary."""
        config = self.config
        evaluations = _Every(config.eval_every, max(self.evaluated, 0))
        saves = _Every(config.checkpoint_every, self.step)
        rows = _Every(config.log_every, self.step)
        thaw = self._thaw()
        self._compile()
        if self.step == 0:
            self._save()
        # An evaluation that was broken off, or whose outcome, the best agent, is lost.
        if evaluations.due(self.step) or (self.evaluated > 0 and self.best == -np.inf):
            self._evaluate()
        while self.step < config.steps and not self._stopped_by():
            if isinstance(self.loop, GraphLoop):
                until = min(config.steps, rows.next, evaluations.next, saves.next, thaw)
                report = self.loop.run(until, _CALL_SECONDS)
            else:
                report = self.loop.run_chunk()
            self.step += report.steps
            if self.step >= thaw:
                thaw = self._thaw()
            self._means.add(report)
            for episodes in report.episodes:
                self.log.episode(self.step, *episodes)
            self.log.progress(self.step, partial(self._shown, report.metrics))
            if rows.due(self.step):
                self.log.scalars(self.step, self._means.take())
            if self.callbacks and report.chunks:  # else the report is yet to come
                self.callbacks.call("on_step", self.step, report.metrics, report.episodes)
            if evaluations.due(self.step) and self.step < config.steps:
                self._evaluate()
            if self.callbacks.error is not None:
                break
            self._check_stop()
            if (saves.due(self.step) or self._is_unsaved_long()) and self.step < config.steps:
                self._save()
        if self.evaluated < self.step and self.callbacks.error is None:
            self._evaluate()
        if self.callbacks.error is None and self._means:
            self.log.scalars(self.step, self._means.take())
        self._save()
        if self.callbacks.error is not None:
            raise self.callbacks.error
        return self._finish()

    def _check_stop(self) -> None:
        """Saves and ends the run if a signal has asked for it. Only where a chunk has ended."""
        if self._stop.signal:
            self._save()
            raise self._interrupted(f"at step {self.step:,}")

    def _interrupted(self, where: str, **told: str) -> Interrupted:
        config = self.config
        made_of = {"env": config.env, "wrappers": config.wrappers}
        return Interrupted(self.run_dir, where, self._stop.signal, **made_of, **told)

    def _is_unsaved_long(self) -> bool:
        minutes = self.config.checkpoint_minutes
        return bool(minutes) and time.monotonic() - self._saved >= 60.0 * minutes

    def _stopped_by(self) -> str | None:
        """Returns what ends the run before its last step: a callback's name or the return."""
        return self.callbacks.stopped_by or ("until_return" if self.solved_at is not None else None)

    def _evaluation_envs(self, envs: Envs | PortedEnvs) -> Envs | None:
        """Returns the environments to evaluate in, those of training where no others can be had."""
        config, made = self.config, None
        if config.eval_env == "separate":
            count = evaluation.num_envs(config, config.eval_episodes)
            known = envs.probe if isinstance(envs, Envs) else None
            made = make_envs(self.env, count, 0, check=False, probe=known, **config.env_settings)
            try:
                made.open()
            except RAISED as error:
                made.close()
                if not isinstance(envs, Envs):
                    raise
                made = None
                self.config = dataclasses.replace(config, eval_env="training")
                self.log.message(
                    f"No environment can be made beside those in training ({error!r}): evaluating "
                    "in these. Choose that with --eval-env training, or --eval-env none."
                )
        if self.config.eval_env == "training" and isinstance(envs, Envs):
            made = envs
        where = f"in {made.num_envs} others" if made else "nowhere: the last agent is the best"
        where = "in the same" if made is envs else where
        self.log.message(f"Environments: {config.num_envs} to train in; evaluating {where}.")
        return made

    def _compile(self) -> None:
        started = time.perf_counter()
        self.loop.compile()
        episodes = self.config.eval_episodes
        spread = f"mean return ± standard deviation over {episodes} episodes"
        shown = spread if episodes > 1 else "return of 1 episode"
        self.log.message(f"Compiled in {time.perf_counter() - started:.1f} s. eval: {shown}.")

    def _thaw(self) -> float:
        """Lets a pretrained torso learn if its time has come; returns when it will."""
        rate = networks.changing_rate(self.agent.network)
        if rate is None:
            return math.inf
        transfer = Transfer(**self.config.transfer)
        if self.step < transfer.unfreeze_after:
            return transfer.unfreeze_after
        rate.assign(transfer.lr_scale)
        return math.inf

    def follow(self, exploration: Exploration) -> None:
        """Explores by another strategy from now on."""
        check_log_probs(exploration, self.agent.spec.num_actions)
        self.agent.exploration = exploration
        self.config = dataclasses.replace(self.config, exploration=describe(exploration))
        self._save()  # the checkpoint before holds the state of another strategy

    def _evaluate(self) -> None:
        if (evaluator := self.evaluator) is None:
            return
        seed = stream(self.config.seed, EVAL)
        try:
            result = self._play(evaluator, seed, self._break_off)
            if self.loop.lifetime_steps() and self.best > -np.inf:
                # What the best was judged in is gone: how good is it now?
                best, _ = self._read_best()
                self.best = self._play(evaluator, seed, self._break_off, best).mean_return
        except _BrokenOff:
            self._check_stop()
            raise
        if self.evaluated < self.step:  # else it is done again, for the best agent's sake
            self.log.evaluation(self.step, result.mean_return, result.std_return, result.episodes)
        self.evaluated = self.step
        goal = self.config.until_return
        if self.solved_at is None and goal is not None and result.mean_return >= goal:
            self.solved_at = self.step
        is_best = result.mean_return >= self.best
        if is_best:
            self.best = result.mean_return
            network = {name: value.numpy() for name, value in self._network().items()}
            self._write_checkpoint(network, {}, best=True)
        self.callbacks.call("on_evaluation", self.step, result, is_best)

    def _play(
        self,
        evaluator: evaluation.Evaluator,
        seed: int,
        on_step: Callable[[], None],
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> evaluation.Evaluation:
        """Plays the episodes of a seed with the agent as it is, or with other weights."""
        if weights is not None:
            network = self._network()
            own = {name: variable.numpy() for name, variable in network.items()}
            assign(network, weights)
            try:
                return self._play(evaluator, seed, on_step)
            finally:
                assign(network, own)
        lent: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.config.eval_env == "training" and isinstance(self.loop, HostLoop):
            lent = self.loop.lend_envs()
        with lent:
            return evaluator.run(seed, self.loop.lifetime_steps(), on_step)

    def _save(self) -> None:
        arrays, state = self.loop.get_state()
        self._write_checkpoint(arrays, state, best=False)
        self._saved = time.monotonic()

    def _write_checkpoint(self, arrays: dict, state: dict, best: bool) -> None:
        meta = {
            "agent": self.config.agent,
            "spec": self.agent.spec.plain(),
            "config": dataclasses.asdict(self.config),
            "loop": {
                **state,
                "step": self.step,
                "lifetime_steps": self.loop.lifetime_steps(),
                "best": None if np.isinf(self.best) else self.best,
                "evaluated": max(self.evaluated, 0),
                "solved_at": self.solved_at,
                "means": self._means.get_state(),
                "seconds": self.seconds + time.perf_counter() - self._started,
            },
            "log": self.log.get_state(),
        }
        keep = self.config.keep_checkpoints
        folder = self.run_dir / "checkpoints"
        path = checkpoint.save(folder, self.step, arrays, meta, keep=keep, best=best)
        self.callbacks.call("on_checkpoint", path, self.step)

    def _read(self) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
        """Reads the newest good checkpoint: arrays and meta, which fit and are checked."""

        def template(meta: dict[str, Any]) -> Any:
            progress = metas.read(metas.Progress, meta.get("loop"), "loop")
            if others is not None:
                return self.loop.template_to_adopt(others)
            return self.loop.template(vars(progress))

        others = self._other_num_envs(
            checkpoint.load(self.run_dir / "checkpoints", only="none/")[1]
        )
        groups = ("state", *(name.split("/")[0] for name in self.agent.variables()))
        only = "" if others is None else tuple(f"{group}/" for group in groups)
        found = read_checkpoint(self.run_dir, self.config, self.agent.spec, template, only=only)
        metas.warn_of_other_versions(found[1]["versions"])
        return found

    def _other_num_envs(self, meta: dict[str, Any]) -> int | None:
        """Returns how many environments a checkpoint is of, None if as many as now."""
        config = meta.get("config")
        found = config.get("num_envs") if isinstance(config, dict) else None
        known = type(found) is int and 0 < found <= 2**16 and found != self.config.num_envs
        return found if known else None

    def _restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], path: Path) -> None:
        found = metas.read(metas.Progress, meta["loop"], "loop")
        if (others := self._other_num_envs(meta)) is not None:
            self.loop.adopt(arrays, vars(found))
            self.log.message(
                f"Going on with num_envs {self.config.num_envs} after {others}: the episodes "
                "begin anew, so this is not what either number would have come to alone."
            )
        else:
            self.loop.set_state(arrays, vars(found), self._watch_replay(found.envs))
        self.step = checkpoint.step_of(path)
        if {self.step} != {found.step, self.loop.agent_step}:
            raise ValueError(
                f"This checkpoint is not as rlzoo writes it: {path.name} holds the step "
                f"{found.step}, and an agent of step {self.loop.agent_step}."
            )
        self.seconds = found.seconds
        self.best = -np.inf if found.best is None else found.best
        self.evaluated = self.step if found.evaluated is None else found.evaluated
        self._means = _Means(found.means)
        config = meta.get("config")
        if isinstance(config, dict) and config.get("until_return") == self.config.until_return:
            self.solved_at = found.solved_at
        if self.solved_at is not None:
            self.log.message(
                f"This run is finished: an evaluation reached {self.config.until_return:g} at step "
                f"{self.solved_at:,}. Go on with --until-return or --steps."
            )
        elif self.step >= self.config.steps:
            self.log.message(
                f"This run is finished: it is at step {self.step:,} of {self.config.steps:,}. Go "
                "on with a new total: --steps N."
            )
        else:
            self.log.message(f"Going on from step {self.step:,}.")
        folder = self.run_dir / "checkpoints"
        if self.best > -np.inf and self._read_best()[1] not in checkpoint.checkpoints(
            folder, best=True
        ):
            self.best = -np.inf  # it is damaged: one is chosen anew

    def _read_best(self) -> tuple[dict[str, np.ndarray], Path]:
        """Returns the weights of the best agent, or the newest where those are damaged."""
        template = template_of(self._network())
        arrays, _, path = read_checkpoint(
            self.run_dir,
            self.config,
            self.agent.spec,
            lambda meta: template,
            best=True,
            only="network/",
        )
        return arrays, path

    def _network(self) -> dict[str, Any]:
        """Returns the variables that the best checkpoint holds."""
        variables = self.agent.variables()
        return {name: v for name, v in variables.items() if name.startswith("network/")}

    def _watch_replay(self, envs: dict[str, Any]) -> Callable[[int], None]:
        """Returns what is to be called at each step that is replayed; tells of a long replay."""
        lengths = envs.get("lengths") or [len(row) for row in envs.get("actions", ())] or [0]
        if max(lengths) >= _LONG_REPLAY:
            self.log.message(
                f"Replaying the actions of the running episodes, {sum(lengths):,} steps: their "
                "environments come back to where they were only so ..."
            )
        shown = time.monotonic()

        def on_step(t: int) -> None:
            nonlocal shown
            if self._stop.signal:
                raise self._interrupted("amid a replay", saved="nothing is lost")
            if time.monotonic() - shown >= _TELL_SECONDS:
                shown = time.monotonic()
                self.log.message(f"Replayed {t:,} of {max(lengths):,} steps of each.")

        return on_step

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
        outcome = self._outcome()
        summary = {
            "run_dir": str(self.run_dir),
            "agent": self.config.agent,
            "env": self.config.env,
            "wrappers": list(self.config.wrappers),
            "seed": self.config.seed,
            "steps": self.step,
            "stopped_by": self._stopped_by() if self.step < self.config.steps else None,
            "until_return": self.config.until_return,
            "solved_at": self.solved_at,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(self.step / self.seconds, 1),
            **outcome,
        }
        known = {name: summary[key] for name, key in _RESULTS.items()}
        results = {name: value for name, value in known.items() if value is not None}
        name = f"{self.config.agent} on {self.config.env}"
        matters = settings(dataclasses.asdict(self.config))
        hparams.write(self.run_dir, name, matters, results, self.step)
        self.log.close()
        logs.write_summary(self.run_dir, summary)
        curves.draw_returns(self.run_dir)
        return summary

    def _outcome(self) -> dict[str, Any]:
        """Returns how good the best and the last agent are, as the summary has it."""
        if (evaluator := self.evaluator) is None:  # what is known is how training went
            returns = logs.series(self.run_dir, "episode/return")[-_LAST_ROWS:, 1]
            mean = float(returns.mean()) if returns.size else None
            return {
                "episodes": 0,
                "mean_return": mean,
                "std_return": None,
                "best_step": self.step,
                "last_mean_return": mean,
                "last_std_return": None,
                "area": logs.mean_height(logs.series(self.run_dir, "episode/return")),
                "versions": checkpoint.versions(),
            }
        seed = stream(self.config.seed, FINAL)
        last = self._play(evaluator, seed, self._leave_at_once)
        weights, path = self._read_best()
        best = self._play(evaluator, seed, self._leave_at_once, weights)
        return {
            "episodes": best.episodes,
            "mean_return": best.mean_return,
            "std_return": best.std_return,
            "best_step": checkpoint.step_of(path),
            "last_mean_return": last.mean_return,
            "last_std_return": last.std_return,
            "area": logs.mean_height(logs.series(self.run_dir, "eval/return")),
            "versions": checkpoint.versions(),
        }

    def _break_off(self) -> None:
        if self._stop.signal:
            raise _BrokenOff

    def _leave_at_once(self) -> None:
        if self._stop.signal:
            raise self._interrupted("in the last evaluation")


class _BrokenOff(Exception):
    """A signal has ended an evaluation; the run is saved when all is as it was before."""


def end_of_run(agent: Agent, config: RunConfig, start: int = 0) -> tuple[int, str]:
    """Returns the step at which a run ends, and why that is not the one asked for, if it is not.

    A run learns from whole chunks to its end, so that one that goes on later is the same as one
    that was longer from the start.

    Args:
        agent: the learner.
        config: of the run.
        start: the step it goes on from.
    """
    if agent.whole_episodes:
        note = f"{config.agent} plays whole episodes: it may end some steps after {config.steps:,}."
        return config.steps, note if start < config.steps else ""
    chunk = agent.chunk_length * config.num_envs
    total = start + -(-max(0, config.steps - start) // chunk) * chunk
    if total == max(start, config.steps):
        return total, ""
    envs = f" of {config.num_envs} environments" if config.num_envs > 1 else ""
    return total, (
        f"{total:,} steps, not {config.steps:,}: {config.agent} learns from {agent.chunk_length} "
        f"steps{envs} at a time."
    )


def _named(config: RunConfig) -> str:
    """Returns the agent, and its torso where it is another than dense layers."""
    parts = [config.torso.get("name", "dense"), config.torso.get("variant")]
    torso = " ".join(str(part).rpartition(".")[2] for part in parts if part)
    return config.agent if torso == "dense" else f"{config.agent} ({torso} torso)"


class _Every:
    """Tells when a counter has passed a multiple of a period; never for period 0."""

    def __init__(self, period: int, start: int):
        self._period = period
        self._passed = start // period if period else 0

    @property
    def next(self) -> float:
        """The multiple to be passed next."""
        return (self._passed + 1) * self._period if self._period else math.inf

    def due(self, step: int) -> bool:
        """Returns whether a multiple was passed since the last time."""
        passed = step // self._period if self._period else 0
        due, self._passed = passed > self._passed, passed
        return due


class _Means:
    """Means of metrics over chunks; what was learned counts once per gradient step."""

    def __init__(self, state: dict[str, Any] | None = None):
        self._sums = {tag: float(total) for tag, (total, _) in (state or {}).items()}
        self._weights = {tag: float(weight) for tag, (_, weight) in (state or {}).items()}

    def get_state(self) -> dict[str, tuple[float, float]]:
        """Returns sum and weight of every metric, to go on with."""
        return {tag: (total, self._weights[tag]) for tag, total in self._sums.items()}

    def add(self, report: Report) -> None:
        """Takes the metrics of some chunks into account."""
        for tag, value in report.metrics.items():
            weight = report.metrics["updates"] if is_learned(tag) else report.chunks
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
