"""The evaluations of a run: on the way, of the best agent so far, and of both at the end."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.agents import Agent, acting_variables
from rlzoo.agents.base import ACTOR
from rlzoo.config.record import RunConfig
from rlzoo.envs import make_envs
from rlzoo.envs.base import Envs
from rlzoo.envs.making import RAISED
from rlzoo.envs.ports import PortedEnvs
from rlzoo.envs.slot import Probe
from rlzoo.loops.base import Loop
from rlzoo.loops.evaluate import Evaluation, Evaluator, num_envs
from rlzoo.loops.host import HostLoop
from rlzoo.ops.streams import EVAL, FINAL, derived
from rlzoo.reports import log as logs
from rlzoo.runs.build import assign, read_checkpoint, template_of
from rlzoo.storage import checkpoint

_LAST_ROWS = 10  # of the log: the training that stands for evaluations where there are none


class Evaluations:
    """Plays a run's evaluations and remembers how good the best agent was.

    Args:
        agent: as it learns.
        loop: that it learns in; tells how old its environments are, and lends them.
        envs: to play in, the loop's own if they are lent; None for no evaluation.
        config: of the run.
        run_dir: where the best agent is saved, by the session.
    """

    def __init__(
        self,
        agent: Agent,
        loop: Loop,
        envs: Envs | None,
        config: RunConfig,
        run_dir: Path,
    ):
        self.step = -1  # of the last one
        self.best = -np.inf  # mean return of the best one
        self.solved_at: int | None = None  # the step at which `until_return` was reached
        self._agent = agent
        self._loop = loop
        self._config = config
        self._run_dir = run_dir
        self._evaluator = None
        if envs is not None:
            self._evaluator = Evaluator(agent, envs, config.eval_episodes, config.eval_mode)

    def run(self, step: int, on_step: Callable[[], None]) -> tuple[Evaluation | None, bool]:
        """Evaluates the agent as it is at a step.

        Args:
            step: of the run.
            on_step: called at each step of the episodes; may raise, and nothing is changed then.

        Returns:
            The outcome, None where there are no evaluations; and whether none was better.
        """
        if (evaluator := self._evaluator) is None:
            return None, False
        seed = derived(self._config.seed, EVAL)
        result, best = self._play(evaluator, seed, on_step), self.best
        if self._loop.lifetime_steps() and best > -np.inf:
            # What the best was judged in is gone: how good is it now?
            best = self._play(evaluator, seed, on_step, self.read_best()[0]).mean_return
        goal = self._config.until_return
        if self.solved_at is None and goal is not None and result.mean_return >= goal:
            self.solved_at = step
        self.step, self.best = step, max(best, result.mean_return)
        return result, result.mean_return >= best

    def outcome(self, step: int, on_step: Callable[[], None]) -> dict[str, Any]:
        """Returns how good the best and the last agent are on fresh seeds, for the summary."""
        if (evaluator := self._evaluator) is None:  # what is known is how training went
            series = logs.series(self._run_dir, "episode/return")
            returns = series[-_LAST_ROWS:, 1]
            mean = float(returns.mean()) if returns.size else None
            return {
                "episodes": 0,
                "mean_return": mean,
                "std_return": None,
                "best_step": step,
                "last_mean_return": mean,
                "last_std_return": None,
                "area": logs.mean_height(series),
            }
        seed = derived(self._config.seed, FINAL)
        last = self._play(evaluator, seed, on_step)
        weights, path = self.read_best()
        best = self._play(evaluator, seed, on_step, weights)
        return {
            "episodes": best.episodes,
            "mean_return": best.mean_return,
            "std_return": best.std_return,
            "best_step": checkpoint.step_of(path),
            "last_mean_return": last.mean_return,
            "last_std_return": last.std_return,
            "area": logs.mean_height(logs.series(self._run_dir, "eval/return")),
        }

    def read_best(self) -> tuple[dict[str, np.ndarray], Path]:
        """Returns the weights of the best agent, or the newest where those are damaged."""
        template = template_of(acting_variables(self._agent))
        arrays, _, path = read_checkpoint(
            self._run_dir,
            self._config,
            self._agent.spec,
            lambda meta: template,
            best=True,
            only=f"{ACTOR}/",
        )
        return arrays, path

    def _play(
        self,
        evaluator: Evaluator,
        seed: int,
        on_step: Callable[[], None],
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> Evaluation:
        """Plays the episodes of a seed with the agent as it is, or with other weights."""
        if weights is not None:
            ours = acting_variables(self._agent)
            own = {name: variable.numpy() for name, variable in ours.items()}
            assign(ours, weights)
            try:
                return self._play(evaluator, seed, on_step)
            finally:
                assign(ours, own)
        lent: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self._config.eval_env == "training" and isinstance(self._loop, HostLoop):
            lent = self._loop.lend_envs()
        with lent:
            return evaluator.run(seed, self._loop.lifetime_steps(), on_step)


def evaluation_envs(
    config: RunConfig,
    env: Any,
    training: Envs | PortedEnvs,
    probe: Probe,
    tell: Callable[[str], None],
) -> tuple[Envs | None, RunConfig]:
    """Returns the environments to evaluate in, and the configuration with where that is.

    They are those of training where no others can be had beside them.
    """
    made = None
    if config.eval_env == "separate":
        count = num_envs(config, config.eval_episodes)
        made = make_envs(env, count, 0, probe=probe, **config.env_settings)
        try:
            made.open()
        except RAISED as error:
            made.close()
            if not isinstance(training, Envs):
                raise
            made = None
            config = dataclasses.replace(config, eval_env="training")
            tell(
                f"No environment can be made beside those in training ({error!r}): evaluating "
                "in these. Choose that with --eval-env training, or --eval-env none."
            )
    if config.eval_env == "training" and isinstance(training, Envs):
        made = training
    where = f"in {made.num_envs} others" if made else "nowhere: the last agent is the best"
    where = "in the same" if made is training else where
    tell(f"Environments: {config.num_envs} to train in; evaluating {where}.")
    return made, config
