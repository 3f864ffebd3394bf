"""One stretch of training: the loop with its evaluations, checkpoints, logs and signals."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo import networks
from rlzoo.agents import acting_variables, variables
from rlzoo.config.describe import describe, settings
from rlzoo.config.opening import Opened, opened
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.envs import make_envs
from rlzoo.envs.base import Envs
from rlzoo.envs.making import RAISED
from rlzoo.envs.ports import PortedEnvs
from rlzoo.exploration import Exploration, check_strategy
from rlzoo.loops.base import Loop
from rlzoo.loops.graph import GraphLoop
from rlzoo.loops.host import HostLoop
from rlzoo.reports import curves, hparams
from rlzoo.reports import log as logs
from rlzoo.runs import meta as metas
from rlzoo.runs.build import (
    Source,
    build_agent,
    environment,
    open_log,
    read_checkpoint,
    variable_bytes,
)
from rlzoo.runs.callbacks import Callbacks
from rlzoo.runs.evaluations import Evaluations, evaluation_envs
from rlzoo.runs.pace import Every, Means, end_of_run, named, shown
from rlzoo.runs.stop import Interrupted, Stop
from rlzoo.storage import checkpoint, manifest

_RESULTS = {  # in the HParams tab: names, and where they are in the summary
    "final/best_return": "mean_return",
    "final/last_return": "last_mean_return",
    "final/area": "area",
    "final/seconds": "seconds",
}
_CALL_SECONDS = 1.0  # of training at a time, so that signals are heard and progress is shown
_LONG_REPLAY = 1_000  # steps of the environments; more are told of
_TELL_SECONDS = 5.0


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
        known: Opened | None = None,
    ):
        self.callbacks = Callbacks(callbacks)  # first: what is wrong there is known at once
        self.run_dir = run_dir
        self.config = config
        self.env = environment(config, source)
        self.step = 0
        self.seconds = 0.0  # of training, also in earlier sessions
        self._started = time.perf_counter()
        self._saved = time.monotonic()  # when the newest checkpoint was written
        self._means = Means()
        self._stop = stop
        with contextlib.ExitStack() as closing:  # closed at once if the rest fails
            envs: Envs | PortedEnvs
            probe, ported = known or opened(config, self.env)
            if ported is not None:
                envs = ported(config.num_envs)
            else:
                envs = make_envs(
                    self.env,
                    config.num_envs,
                    config.seed,
                    mode=config.vector,
                    on_env_error=config.on_env_error,
                    step_timeout=config.env_step_timeout,
                    probe=probe,
                    **config.env_settings,
                )
                closing.callback(envs.close)
                with contextlib.suppress(*RAISED):  # said at the first reset
                    envs.open()
            fresh = not checkpoint.checkpoints(run_dir / "checkpoints")
            self.agent = build_agent(config, envs.spec, source, fresh=fresh)
            self.loop: Loop
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
            closing.callback(self.log.close)
            stop.message = self.log.message
            size = sum(map(variable_bytes, variables(self.agent).values())) / 2**20
            self.log.message(
                f"Compiling {named(config)} for {config.env}, {config.loop} loop; its weights and "
                f"replay take {size:,.1f} MiB ..."
            )
            if note:
                self.log.message(note)
            evaluated_in, self.config = evaluation_envs(
                config, self.env, envs, probe, self.log.message
            )
            if evaluated_in is not None:
                closing.callback(evaluated_in.close)
            self.evaluations = Evaluations(
                self.agent, self.loop, evaluated_in, self.config, run_dir
            )
            if found is not None:
                self._restore(*found)
            self.close = closing.pop_all().close

    def run(self) -> dict[str, Any]:
        """Trains to the end, saving on the way; returns the summary."""
        config = self.config
        evaluations = Every(config.eval_every, max(self.evaluations.step, 0))
        saves = Every(config.checkpoint_every, self.step)
        rows = Every(config.log_every, self.step)
        thaw = self._thaw()
        self._compile()
        if self.step == 0:
            self._save()
        # An evaluation that was broken off, or whose outcome, the best agent, is lost.
        if evaluations.due(self.step) or (
            self.evaluations.step > 0 and self.evaluations.best == -np.inf
        ):
            self._evaluate()
        while self.step < config.steps and not self._stopped_by():
            until = min(config.steps, rows.next, evaluations.next, saves.next, thaw)
            report = self.loop.run(until, _CALL_SECONDS)
            self.step += report.steps
            if self.step >= thaw:
                thaw = self._thaw()
            self._means.add(report)
            for episodes in report.episodes:
                self.log.episode(self.step, *episodes)
            self.log.progress(self.step, partial(shown, report.metrics))
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
        if self.evaluations.step < self.step and self.callbacks.error is None:
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
        made_of = {"env": config.env, "wrappers": config.wrappers, "agent": config.agent}
        return Interrupted(self.run_dir, where, self._stop.signal, **made_of, **told)

    def _is_unsaved_long(self) -> bool:
        minutes = self.config.checkpoint_minutes
        return bool(minutes) and time.monotonic() - self._saved >= 60.0 * minutes

    def _stopped_by(self) -> str | None:
        """Returns what ends the run before its last step: a callback's name or the return."""
        return self.callbacks.stopped_by or (
            "until_return" if self.evaluations.solved_at is not None else None
        )

    def _compile(self) -> None:
        started = time.perf_counter()
        self.loop.compile()
        episodes = self.config.eval_episodes
        spread = f"mean return ± standard deviation over {episodes} episodes"
        shown = spread if episodes > 1 else "return of 1 episode"
        self.log.message(f"Compiled in {time.perf_counter() - started:.1f} s. eval: {shown}.")

    def _thaw(self) -> float:
        """Lets a pretrained torso learn if its time has come; returns when it will."""
        rate = networks.changing_rate(self.agent.actor.variables().values())
        if rate is None:
            return math.inf
        transfer = Transfer(**self.config.transfer)
        if self.step < transfer.unfreeze_after:
            return transfer.unfreeze_after
        rate.assign(transfer.lr_scale)
        return math.inf

    def follow(self, exploration: Exploration) -> None:
        """Explores by another strategy from now on."""
        check_strategy(exploration, self.agent.spec)
        self.agent.actor.exploration = exploration
        self.config = dataclasses.replace(self.config, exploration=describe(exploration))
        self._save()  # the checkpoint before holds the state of another strategy

    def _evaluate(self) -> None:
        again = self.evaluations.step == self.step  # for the best agent's sake
        try:
            result, is_best = self.evaluations.run(self.step, self._break_off)
        except _BrokenOff:
            self._check_stop()
            raise
        if result is None:
            return
        if not again:
            self.log.evaluation(self.step, result.mean_return, result.std_return, result.episodes)
        if is_best:
            acting = acting_variables(self.agent)
            arrays = {name: value.numpy() for name, value in acting.items()}
            self._write_checkpoint(arrays, {}, best=True)
        self.callbacks.call("on_evaluation", self.step, result, is_best)

    def _save(self) -> None:
        arrays, state = self.loop.get_state()
        self._write_checkpoint(arrays, state, best=False)
        self._saved = time.monotonic()

    def _write_checkpoint(self, arrays: dict, state: dict, best: bool) -> None:
        evaluated = self.evaluations
        meta = {
            "agent": self.config.agent,
            "spec": self.agent.spec.plain(),
            "config": dataclasses.asdict(self.config),
            "loop": {
                **state,
                "step": self.step,
                "lifetime_steps": self.loop.lifetime_steps(),
                "best": None if np.isinf(evaluated.best) else evaluated.best,
                "evaluated": max(evaluated.step, 0),
                "solved_at": evaluated.solved_at,
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
        groups = ("state", *(name.split("/")[0] for name in variables(self.agent)))
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
        if {self.step} != {found.step, self.loop.step}:
            raise ValueError(
                f"This checkpoint is not as rlzoo writes it: {path.name} holds the step "
                f"{found.step}, and an agent of step {self.loop.step}."
            )
        self.seconds = found.seconds
        self.evaluations.best = -np.inf if found.best is None else found.best
        self.evaluations.step = self.step if found.evaluated is None else found.evaluated
        self._means = Means(found.means)
        config = meta.get("config")
        if isinstance(config, dict) and config.get("until_return") == self.config.until_return:
            self.evaluations.solved_at = found.solved_at
        if self.evaluations.solved_at is not None:
            self.log.message(
                f"This run is finished: an evaluation reached {self.config.until_return:g} at step "
                f"{self.evaluations.solved_at:,}. Go on with --until-return or --steps."
            )
        elif self.step >= self.config.steps:
            self.log.message(
                f"This run is finished: it is at step {self.step:,} of {self.config.steps:,}. Go "
                "on with a new total: --steps N."
            )
        else:
            self.log.message(f"Going on from step {self.step:,}.")
        if self.evaluations.best > -np.inf:
            found_best = self.evaluations.read_best()[1]
            if found_best not in checkpoint.checkpoints(found_best.parent, best=True):
                self.evaluations.best = -np.inf  # it is damaged: one is chosen anew

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

    def _finish(self) -> dict[str, Any]:
        """Evaluates the last and the best agent on fresh seeds; writes summary and curve."""
        self.seconds += time.perf_counter() - self._started
        self._started = time.perf_counter()
        outcome = self.evaluations.outcome(self.step, self._leave_at_once)
        summary = {
            "run_dir": str(self.run_dir),
            "agent": self.config.agent,
            "env": self.config.env,
            "wrappers": list(self.config.wrappers),
            "seed": self.config.seed,
            "steps": self.step,
            "stopped_by": self._stopped_by() if self.step < self.config.steps else None,
            "until_return": self.config.until_return,
            "solved_at": self.evaluations.solved_at,
            "seconds": round(self.seconds, 3),
            "steps_per_second": round(self.step / self.seconds, 1),
            **outcome,
            "versions": manifest.versions(),
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

    def _break_off(self) -> None:
        if self._stop.signal:
            raise _BrokenOff

    def _leave_at_once(self) -> None:
        if self._stop.signal:
            raise self._interrupted("in the last evaluation")


class _BrokenOff(Exception):
    """A signal has ended an evaluation; the run is saved when all is as it was before."""
