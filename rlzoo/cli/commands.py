"""The commands: each takes the parsed arguments and returns what `--json` prints.

The heavy imports are inside, so that every command pays only for what it uses.
"""

import argparse
import os
import shlex
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlzoo.cli import help
from rlzoo.cli.streams import import_tensorflow
from rlzoo.interop import extras
from rlzoo.text import nearest


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains, and returns the run's summary."""
    if args.config is None and (args.agent is None or args.env is None):
        raise ValueError(
            "train expects an agent and an environment, such as: rlzoo train dqn CartPole-v1 "
            "(or --config FILE)."
        )
    _check_keys(args.overrides, args.agent)
    _import_for(args.agent or _configured_agent(args.config))
    from rlzoo.runs import run, seeds

    settings = _settings(args, but=("agent", "env", "seed", "seeds"))
    if args.seeds is not None:
        return seeds.train_seeds(args.agent, args.env, seeds=args.seeds, **settings)
    return run.train(args.agent, args.env, seed=args.seed, **settings).summary


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Trains a torso on a supervised task, and returns the run's summary."""
    _check_keys(args.overrides, args.task)
    import_tensorflow()
    from rlzoo.pretraining import run as pretrain

    return pretrain.pretrain(args.task, **_settings(args, but=("task",))).summary


def predict(args: argparse.Namespace) -> dict[str, Any]:
    """Tells what images show."""
    _check_run(args.run)
    import_tensorflow()
    from rlzoo.pretraining.predict import predict_images

    return {"run_dir": args.run, "predictions": predict_images(args.run, args.files)}


def resume(args: argparse.Namespace) -> dict[str, Any]:
    """Goes on with a run, or with every seed in a folder, and returns the summary."""
    from rlzoo.storage.files import seed_dirs

    several = list(seed_dirs(Path(args.run)).values())
    if not several:
        _check_run(args.run)
    _import_for(_configured_agent(several[0] if several else args.run))
    from rlzoo.pretraining import run as pretrain
    from rlzoo.runs import run, seeds

    if pretrain.is_pretraining(args.run):
        for flag in (
            "steps",
            "num_envs",
            "until_return",
            "agent",
            "wrappers",
            "callbacks",
            "loggers",
        ):
            if getattr(args, flag) not in (None, []):
                flag = flag if flag in ("steps", "num_envs", "agent") else flag.rstrip("s")
                flag = flag.replace("_", "-")
                raise ValueError(f"This is a pretraining run: it takes --epochs, not --{flag}.")
        return pretrain.resume_pretraining(
            args.run, epochs=args.epochs, env=args.env, quiet=args.quiet
        ).summary
    if args.epochs is not None:
        raise ValueError("--epochs is for pretraining runs; this one takes --steps.")
    options = _settings(args, but=("run", "epochs", "num_envs"))
    if several and args.num_envs is not None:
        raise ValueError(f"--num-envs is for one run: {several[0]}, for example.")
    if several:
        return seeds.resume_seeds(args.run, **options)
    return run.resume(args.run, num_envs=args.num_envs, **options).summary


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a run's best agent, or its last."""
    _check_run(args.run)
    if args.episodes < 1:
        raise ValueError(f"--episodes: expected at least 1, received {args.episodes}.")
    _import_for(_configured_agent(args.run))
    from rlzoo.runs import policy

    started = time.perf_counter()
    result = policy.evaluate(args.run, **_settings(args, but=("run",)))
    return {
        "run_dir": args.run,
        **_outcome(result),
        "seconds": round(time.perf_counter() - started, 3),
    }


def record(args: argparse.Namespace) -> dict[str, Any]:
    """Records an episode of a run's best agent."""
    _check_run(args.run)
    output = Path(args.output) if args.output else Path(args.run) / "episode.gif"
    if output.suffix not in (".gif", ".mp4"):
        raise ValueError(f"-o: expected FILE.gif or FILE.mp4, received {str(output)!r}.")
    _import_for(_configured_agent(args.run))
    from rlzoo.runs import policy

    result = policy.record(args.run, output, **_settings(args, but=("run", "output")))
    return {"run_dir": args.run, "file": str(output), **_outcome(result)}


def list_tables(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the tables, each name with a line about it; or every setting of one thing."""
    name = args.name
    if settings := help.entries(name or ""):
        rows = {key: [s._asdict() for s in found] for key, found in settings.items()}
        return {"name": name, "settings": rows}
    if name is not None and name not in help.TABLES:
        raise ValueError(f"Unknown name {name!r}. {nearest(name, [*help.TABLES, *help.names()])}")
    return {kind: _listed(kind) for kind in ([name] if name else help.TABLES)}


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Checks an environment against Gymnasium's rules and ours."""
    from rlzoo.config.resolve import env_settings
    from rlzoo.config.wrappers import wrapped
    from rlzoo.envs import check_env

    settings = env_settings(args.overrides, args.max_episode_steps)
    problems = check_env(wrapped(args.env, args.wrappers or ()), **settings)
    return {"env": args.env, "ok": not problems, "problems": problems}


def plot(args: argparse.Namespace) -> dict[str, Any]:
    """Draws runs together, and returns the figures of each group."""
    from rlzoo.reports.plot import plot

    return plot(args.runs, args.output, x=args.x, profile=args.profile)


COMMANDS = {
    "train": train,
    "pretrain": pretrain,
    "predict": predict,
    "resume": resume,
    "evaluate": evaluate,
    "record": record,
    "plot": plot,
    "list": list_tables,
    "check-env": check,
}


def show(command: str, result: dict[str, Any]) -> None:
    """Prints a command's result for people, on standard output."""
    if command in ("train", "resume") and "seeds" in result:
        _show_seeds(result)
    elif "task" in result:
        _show_pretrained(result)
    elif command == "predict":
        for found in result["predictions"]:
            print(f"{found['file']}: {found['class']} ({100 * found['probability']:.1f} %)")
    elif command in ("train", "resume"):
        from rlzoo.config.advice import advice

        run_dir = Path(result["run_dir"])
        if not result["episodes"]:
            mean = result["mean_return"]
            shown = "no episode has ended" if mean is None else f"mean return {mean:.2f}"
            print(f"Not evaluated. At the end of training: {shown}.")
        else:
            for name, prefix, step in (("best", "", "best_step"), ("last", "last_", "steps")):
                if f"{prefix}mean_return" in result:
                    print(f"{name}: {_mean(result, prefix)} at step {result[step]:,}")
            print(f"(± is the standard deviation over {_episodes(result)}.)")
        if stopped_by := result.get("stopped_by"):
            print(f"Stopped by {stopped_by} at step {result['steps']:,}.")
        print(f"Results in {run_dir}. See how it went, and evaluate it again:")
        print(f"  tensorboard --logdir {shlex.quote(str(_runs_dir(run_dir)))}")
        print(
            f"  {advice('evaluate', run_dir, result['env'], result['wrappers'], result['agent'])}"
        )
    elif command == "evaluate":
        print(_returns(result))
    elif command == "record":
        print(f"Wrote {result['file']}: {_returns(result)}")
    elif command == "plot":
        _show_groups(result)
    elif command == "check-env":
        count = len(result["problems"]) or "no"
        heading = f"{result['env']}: {count} problem{'s' if count != 1 else ''}"
        print("\n- ".join([heading, *result["problems"]]))
    elif "settings" in result:
        for heading, rows in result["settings"].items():
            print(heading)
            print(help.table(help.Setting(**row) for row in rows) or "  no settings")
    else:
        for kind, table in result.items():
            print(f"{kind}:")
            print(help.table(help.Setting(name, "", about) for name, about in table.items()))
        print("Every setting of one of them, or of a run: rlzoo list NAME, rlzoo list run")


def _show_seeds(result: dict[str, Any]) -> None:
    print("seed  best mean return  last mean return")
    for run in result["runs"]:
        print(f"{run['seed']:>4}  {run['mean_return']:>16.2f}  {run['last_mean_return']:>16.2f}")
    for name in ("best", "last"):
        figures = "{iqm:.2f}, 95 % bootstrap interval {low:.2f} to {high:.2f}"
        print(f"{name}: interquartile mean {figures.format(**result[name])}")
    print(f"Results in {result['run_dir']}; the curve of all seeds is curve.png there. See each:")
    print(f"  tensorboard --logdir {shlex.quote(result['run_dir'])}")


def _show_groups(result: dict[str, Any]) -> None:
    print("Interquartile means of the final evaluations, and of all (area), with 95 % intervals:")
    for group in result["groups"]:
        told = []
        for name in ("best", "last", "area"):
            iqm, low, high = (group[name][key] for key in ("iqm", "low", "high"))
            told.append(f"{name} -" if iqm is None else f"{name} {iqm:.2f} [{low:.2f}, {high:.2f}]")
        runs = len(group["runs"])
        print(f"  {group['label']} ({runs} run{'s' * (runs != 1)}): {', '.join(told)}")
    print(f"Wrote {result['file']}.")


def _show_pretrained(result: dict[str, Any]) -> None:
    run_dir = result["run_dir"]
    figures = {name: v for name, v in result.items() if name.startswith("test_")}
    shown = ", ".join(f"{name[5:].replace('_', ' ')} {v:.4g}" for name, v in figures.items())
    print(f"test set, with the weights of epoch {result['best_epoch']}: {shown}")
    print(f"Results in {run_dir}. Put the torso to work:")
    print(f"  rlzoo train AGENT ENV --torso-from {shlex.quote(run_dir)}")


def _returns(result: dict[str, Any]) -> str:
    if result["episodes"] == 1:
        return f"return {result['mean_return']:.2f}"
    return f"{_mean(result)} (standard deviation) over {_episodes(result)}"


def _mean(result: dict[str, Any], prefix: str = "") -> str:
    mean, std = result[f"{prefix}mean_return"], result[f"{prefix}std_return"]
    return f"mean return {mean:.2f} ± {std:.2f}"


def _episodes(result: dict[str, Any]) -> str:
    return "1 episode" if result["episodes"] == 1 else f"{result['episodes']:,} episodes"


def _runs_dir(run_dir: Path) -> Path:
    """Returns the folder that holds all runs if `run_dir` is in its usual place, else itself."""
    for parent in run_dir.parents:
        if parent.name == "runs":
            return parent
    return run_dir


def _outcome(result: Any) -> dict[str, Any]:
    """Returns what an `Evaluation` holds."""
    names = ("mean_return", "std_return", "episodes", "returns", "lengths")
    return {name: getattr(result, name) for name in names}


def _settings(args: argparse.Namespace, but: Iterable[str]) -> dict[str, Any]:
    """Returns what the flags say, by the names that Python's functions have for it."""
    handled = {"command", "parser", "json", *but}
    return {name: value for name, value in vars(args).items() if name not in handled}


def _check_run(run: str) -> None:
    """Refuses what is no run folder, before anything heavy is imported."""
    if not os.path.isfile(Path(run, "config.yaml")):
        from rlzoo.storage.files import one_of_seeds

        runs = sorted(Path("runs").glob("**/config.yaml"), key=lambda path: path.stat().st_mtime)
        newest = f" The newest in ./runs is {runs[-1].parent}." if runs else ""
        hint = one_of_seeds(Path(run)) or newest
        raise ValueError(f"{run} is not the folder of a run: it has no config.yaml.{hint}")


def _check_keys(overrides: Sequence[str], name: str | None) -> None:
    """Refuses a --set of what no agent or task of this name has, before anything heavy."""
    known = help.keys(name) if name else []
    for text in overrides if known else ():
        key = text.partition("=")[0].strip()
        if "." not in key and key not in (also := [*known, "seed", *help.keys(help.RUN)]):
            raise ValueError(f"Unknown setting {key}. {nearest(key, also)}")


def _configured_agent(run: str | Path | None) -> str | None:
    """Returns the agent that a run folder or its configuration names, if that can be read."""
    from rlzoo.config.plain_yaml import load_yaml, read_text

    if run is None:
        return None
    path = Path(run)
    values = load_yaml(read_text(path / "config.yaml" if os.path.isdir(path) else path), str(path))
    return values.get("agent") if isinstance(values, dict) else None


def _import_for(agent: Any) -> None:
    """Imports TensorFlow, and TF-Agents where the agent is one of theirs."""
    bridged = isinstance(agent, str) and agent.startswith(extras.PREFIX)
    if bridged:
        extras.prepare()
    import_tensorflow(bridged)
    if bridged:
        from rlzoo.interop import tf_agents

        tf_agents.register()


def _listed(kind: str) -> dict[str, str]:
    """Returns the names of a table with a line about each, and what is tuned."""
    from rlzoo.config.files import presets

    tuned = presets()
    lines = {name: help.about(kind, name) for name in help.TABLES[kind]}
    if kind == "agents":
        return {
            name: f"{line} Presets: {', '.join(tuned[name])}." if name in tuned else line
            for name, line in lines.items()
        }
    if kind == "envs":
        lines |= {env: "" for envs in tuned.values() for env in envs if env not in lines}
        for env, line in lines.items():
            agents = [agent for agent, envs in tuned.items() if env in envs]
            lines[env] = f"{line} Preset for {', '.join(agents)}.".strip() if agents else line
        lines["..."] = "Any Gymnasium id, or module:Env-v0."
    return lines
