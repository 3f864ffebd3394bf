"""Several seeds of one configuration: a process and a run folder each, and one aggregate.

A child runs `rlzoo resume FOLDER/s3` on a folder that at first holds nothing but a `config.yaml`.
So to start and to go on are the same, and no object crosses from one process to another.
"""

import dataclasses
import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rlzoo.config.advice import advice
from rlzoo.config.describe import flatten
from rlzoo.config.files import from_yaml, load_run, to_yaml
from rlzoo.config.record import RunConfig
from rlzoo.config.resolve import resolve_and_open
from rlzoo.config.values import CALLABLE, typed
from rlzoo.config.wrappers import describe
from rlzoo.reports import aggregate
from rlzoo.reports import log as logs
from rlzoo.reports.loggers import LOGGERS, adapter
from rlzoo.runs.build import Source, build_agent
from rlzoo.runs.claim import claim
from rlzoo.runs.entry import entry
from rlzoo.runs.run import further, new_run_dir, train
from rlzoo.runs.stop import Interrupted, Stop
from rlzoo.spaces import EnvSpec
from rlzoo.storage import files
from rlzoo.tables import import_named
from rlzoo.text import short

_RLZOO = [sys.executable, "-m", "rlzoo.cli.child"]
_SHARED = {  # of one machine, among several processes
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}


# What a run takes by name, which goes below the overrides; all else goes beside them.
_FLAGS = inspect.signature(train).parameters.keys() - {"seed", "hyperparameters"}


class SeedsFailed(Exception):
    """Some seeds failed; the others are finished. `exit_code` is 1."""

    exit_code = 1


@entry()
def train_seeds(
    agent: str | None = None,
    env: str | None = None,
    *,
    seeds: Iterable[int],
    config: str | Path | None = None,
    run_dir: str | Path | None = None,
    callbacks: Iterable[str] = (),
    loggers: Iterable[str] = (),
    quiet: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Trains several seeds, as many at a time as there are cores, and returns their summary.

    `run_dir` then holds an ordinary run in `s0`, `s1`, ... for each seed, and `curve.png`,
    `curve.csv` and `summary.json` of them all.

    Args:
        agent: a name, as for `rlzoo.train`.
        env: an id; "module:Env-v0" imports the module in every process.
        seeds: such as range(5).
        config: a YAML file, as for `rlzoo.train`.
        run_dir: the folder for results; by default runs/<env>/<agent>/<date-time>-seeds.
        callbacks: "module:Name" of each, for no object reaches the processes of the seeds.
        loggers: names, likewise.
        quiet: show nothing but errors.
        **settings: whatever else `rlzoo.train` takes: `steps`, `exploration`, `torso`, `overrides`,
            `learning_rate`, ...

    Raises:
        ValueError: what was asked for is wrong, or is an object that no configuration file holds.
        Interrupted: Ctrl-C or SIGTERM, after every seed has saved.
        SeedsFailed: at the end, if some failed.
    """
    unique = _numbers(seeds)
    flags = {name: settings.pop(name) for name in _FLAGS & settings.keys()}
    first, known = resolve_and_open(
        agent, env, file=config, seed=unique[0], **flags, hyperparameters=settings
    )
    if first.seed != unique[0]:
        raise ValueError("seed: expected either seeds or the setting seed, received both.")
    configs = {seed: dataclasses.replace(first, seed=seed) for seed in unique}
    _check(first, known.probe.spec, env, flags.get("wrappers"))
    options = _options(first.agent, env, flags.get("wrappers"), callbacks, loggers, quiet)
    path = files.run_path(run_dir) if run_dir is not None else new_run_dir(first, "seeds")
    with files.lock(path):
        go_on = advice("resume", path, first.env, first.wrappers, first.agent)
        claim(path, go_on, files.seed_dirs(path).values())
        _write(path, configs)
        return _train(path, configs, options, quiet)


@entry()
def resume_seeds(
    run_dir: str | Path,
    *,
    steps: int | None = None,
    until_return: float | None = None,
    agent: str | None = None,
    env: str | None = None,
    wrappers: Sequence[Any] | None = None,
    callbacks: Iterable[str] = (),
    loggers: Iterable[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Goes on with the seeds that are not finished, and returns the summary of all.

    Args:
        run_dir: the folder that `train_seeds` made.
        steps: a new total of environment steps for each seed.
        until_return: another return that ends each, as for `rlzoo.resume`.
        agent: needed where the agent is the caller's own: "module:Class".
        env: needed where the environment is an id that imports a module.
        wrappers: needed where one of them is "module:Class": all of them.
        callbacks: as for `train_seeds`.
        loggers: as for `train_seeds`.
        quiet: show nothing but errors.
    """
    path = files.run_path(run_dir)
    found = files.seed_dirs(path)
    if not found:
        raise ValueError(f"{path} holds no seeds; expected a folder that --seeds has made.")
    options = _options(agent or "", env, wrappers, callbacks, loggers, quiet)
    with files.lock(path):
        configs = {
            seed: load_run(folder, env=env, wrappers=wrappers, agent=agent)
            for seed, folder in found.items()
        }
        if steps is not None:
            done = {seed: logs.read_summary(folder) for seed, folder in found.items()}
            configs = {s: further(c, steps, done[s]) for s, c in configs.items()}
        if until_return is not None:
            replace = partial(dataclasses.replace, until_return=until_return)
            configs = {seed: replace(c) for seed, c in configs.items()}
        _write(path, configs)
        return _train(path, configs, options, quiet)


def _numbers(seeds: Iterable[int]) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise ValueError(f"seeds: expected several, such as range(5), received {short(seeds)}.")
    numbers = sorted({typed(seed, int, "seeds") for seed in seeds})
    if not numbers:
        raise ValueError("seeds: expected at least one, such as range(5), received none.")
    return numbers


def _check(
    config: RunConfig, spec: EnvSpec, env: str | None, wrappers: Sequence[Any] | None
) -> None:
    """Refuses what every seed would fail of."""
    for key, value in flatten(dataclasses.asdict(config)).items():
        if CALLABLE in str(value):
            raise ValueError(
                f"{key}: {str(value).replace(CALLABLE, '')} is an object of this process, and each "
                "seed trains in another. Give it by name, or call rlzoo.train once for each seed."
            )
    if config.torso.get("trained"):
        raise ValueError(
            "torso: its weights are in this process, and each seed trains in another. Start from a "
            "run's torso (torso_from=RUN), or call rlzoo.train once for each seed."
        )
    from_yaml(to_yaml(config), env=env, wrappers=wrappers)
    build_agent(config, spec, Source())


def _options(
    agent: str,
    env: str | None,
    wrappers: Iterable[Any] | None,
    callbacks: Iterable[str],
    loggers: Iterable[str],
    quiet: bool,
) -> list[str]:
    """Returns what each child is told beside its folder."""
    options = ["--agent", agent] if ":" in agent else []
    options += ["--env", env] if env else []
    for choice in describe(wrappers or ()):
        options += ["--wrapper", json.dumps(choice)]
    for what, names in (("callback", list(callbacks)), ("logger", list(loggers))):
        for name in names:
            if not isinstance(name, str):
                raise ValueError(
                    f"{what}s: expected 'module:Name', for each seed trains in a process of its "
                    f"own, which no object reaches; received {name!r}."
                )
            if what == "logger" and name in LOGGERS:
                adapter(name)
            else:
                import_named(name, what)
            options += [f"--{what}", name]
    return [*options, "--quiet"] if quiet else options


def _write(path: Path, configs: Mapping[int, RunConfig]) -> None:
    for seed, config in configs.items():
        folder = path / f"s{seed}"
        folder.mkdir(exist_ok=True)
        with files.replacing(folder / "config.yaml") as file:
            file.write(to_yaml(config))


def _train(
    path: Path, configs: Mapping[int, RunConfig], options: list[str], quiet: bool
) -> dict[str, Any]:
    """Trains the seeds that are not finished, and writes the aggregate of those that are."""
    first = next(iter(configs.values()))
    made_of = {"env": first.env, "wrappers": first.wrappers, "agent": first.agent}

    def unfinished() -> list[int]:
        return [s for s, c in configs.items() if not _is_finished(path / f"s{s}", c)]

    waiting = unfinished()
    jobs = min(len(waiting), _cores())
    if not waiting and not quiet:
        sys.stderr.write("Every seed is finished. Go on with a new total: --steps N.\n")
    failed: dict[int, str] = {}
    stop = _Relay()

    def train(seed: int) -> None:
        command = [*_RLZOO, "resume", str(path / f"s{seed}"), *options]
        if stop.signal:
            return
        if reason := _run(command, f"s{seed}", stop, jobs > 1):
            failed[seed] = reason
        elif not quiet:
            sys.stderr.write(f"s{seed} | Finished.\n")

    if waiting:
        with stop, ThreadPoolExecutor(jobs) as pool:
            list(pool.map(train, waiting))
        if stop.signal and (left := unfinished()):
            where = f"with {len(configs) - len(left)} of {len(configs)} seeds finished"
            raise Interrupted(path, where, stop.signal, **made_of)
    finished = {seed: path / f"s{seed}" for seed in configs if seed not in failed}
    summary = aggregate.write(path, finished) if finished else {}
    if failed:
        reasons = "; ".join(f"s{seed}: {failed[seed]}" for seed in sorted(failed))
        raise SeedsFailed(
            f"{len(failed)} of {len(configs)} seeds failed: {reasons.rstrip('.')}. "
            f"Try these again with: {advice('resume', path, **made_of)}"
        )
    return summary


class _Relay(Stop):
    """Passes Ctrl-C and SIGTERM on to the children, which save and end."""

    def __init__(self):
        super().__init__()
        self.children: list[subprocess.Popen] = []
        self._heard.set()  # they see to themselves

    def _catch(self, number: int, _: Any) -> None:
        self._signal = number
        for child in list(self.children):
            child.send_signal(number)


def _run(command: list[str], name: str, stop: _Relay, shared: bool) -> str | None:
    """Runs a child, its lines behind its name; returns why it failed, None if it did not."""
    environment = {
        **(_SHARED if shared else {}),
        **os.environ,
        # What this process can import, the child can: no more, and in the same order.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
        "PYTHONSAFEPATH": "1",
    }
    reason = None
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,  # the child ends when it is closed, as it is when this process dies
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches it through `stop`, and only once
    ) as child:
        stop.children.append(child)
        if stop.signal:  # it came while the child started
            child.send_signal(stop.signal)
        for line in child.stderr or ():
            sys.stderr.write(f"{name} | {line.rstrip()}\n")  # at once: threads share the screen
            if line.startswith("rlzoo: "):
                reason = line.removeprefix("rlzoo: ").strip()
    if child.returncode < 0:
        return f"killed by {signal.Signals(-child.returncode).name}"
    return (reason or f"exit code {child.returncode}") if child.returncode else None


def _is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Tells whether a run came to its end, by its steps or by the return it was to reach."""
    done = logs.read_summary(run_dir)
    solved = done.get("solved_at") is not None and done["until_return"] == config.until_return
    return bool(done) and (done["steps"] >= config.steps or solved)


def _cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
