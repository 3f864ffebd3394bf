"""The pace of a run: when it does what, where it ends, and what it shows on the way."""

import math
from typing import Any

from rlzoo.agents import Agent
from rlzoo.config.record import RunConfig
from rlzoo.loops.base import Report, is_learned


def end_of_run(agent: Agent, config: RunConfig, start: int = 0) -> tuple[int, str]:
    """Returns the step at which a run ends, and why that is not the one asked for, if it is not.

    A run learns from whole chunks to its end, so that one that goes on later is the same as one
    that was longer from the start.

    Args:
        agent: the learner.
        config: of the run.
        start: the step it goes on from.
    """
    if agent.traits.whole_episodes:
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


class Every:
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


class Means:
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


def shown(metrics: dict[str, float]) -> dict[str, float | None]:
    """Returns what of a chunk's metrics is shown on the screen: the loss, and each rate."""
    rates = {
        tag.removeprefix("exploration/"): value
        for tag, value in metrics.items()
        if tag.startswith("exploration/")
        and tag not in ("exploration/entropy", "exploration/greedy_fraction")
    }
    losses = [value for tag, value in metrics.items() if tag.startswith("loss/")]
    loss = losses[-1] if losses and metrics["updates"] else None
    return {"loss": loss, **rates}


def named(config: RunConfig) -> str:
    """Returns the agent, and its torso where it is another than dense layers."""
    parts = [config.torso.get("name", "dense"), config.torso.get("variant")]
    torso = " ".join(str(part).rpartition(".")[2] for part in parts if part)
    return config.agent if torso == "dense" else f"{config.agent} ({torso} torso)"
