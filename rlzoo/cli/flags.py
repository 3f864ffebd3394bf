"""The flags that commands of the command line share, and what they take."""

import argparse
from typing import Any

from rlzoo import tables
from rlzoo.cli import help

_MOST_SEEDS = 1_000


FILE = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # what completes, as shtab has it
FOLDER = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/"}


Container = argparse._ActionsContainer  # a parser, or a group of its flags

# The options of a run with a flag of their own, and what --help says of each. What one takes, its
# field in `rlzoo.config.record.RunConfig` says.
OF_RUN = {
    "steps": "environment steps in all (default: as tuned, or 100,000)",
    "until_return": "stop when an evaluation's mean return reaches X",
    "loop": "graph trains in one compiled program, where the environment has a port in TensorFlow "
    "ops; host steps any in Python (default auto: graph where it can be)",
}
OF_ENVIRONMENTS = {
    "num_envs": "how many are stepped together (default: as the agent needs)",
    "vector": "step them in this process, or in one process each (default sync)",
    "max_episode_steps": "cut episodes after N steps (default: where the environment says)",
    "eval_env": "evaluate in environments made for that (default), in those of training, or "
    "nowhere",
    "eval_mode": "how it acts in evaluation: by the best action; by a draw from the policy, where "
    "it learns one (then the default); or so, but 1 action in 20 at random",
}


class Suggested(tuple):
    """Names that a shell completes; others are taken too."""

    def __contains__(self, name):
        """Tells that any name will do."""
        return True


class Agents(tuple):
    """Names of agents; module:Class of the user's own is taken too."""

    def __contains__(self, name):
        """Tells whether it is one of these names, or may be imported."""
        return ":" in name or super().__contains__(name)


def add_option(parser: Container, name: str, about: str = "", metavar: str = "") -> None:
    """Adds the flag of an option of a run, which takes what the field of that name takes."""
    kinds = {"int": (count, "N"), "float": (float, "X")}
    known = help.kind(name)
    takes, shown = kinds.get(known[0], (None, "|".join(known)))
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        type=takes or str,
        choices=None if takes else known,
        metavar=metavar or shown,
        help=about or {**OF_RUN, **OF_ENVIRONMENTS}[name],
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, the folder of a run."""
    action = parser.add_argument("run", metavar="RUN", help="the folder of a run")
    action.complete = FOLDER  # pyright: ignore[reportAttributeAccessIssue]


def add_file(parser: Container, name: str, **settings: Any) -> None:
    """Adds an argument that is a file, which a shell completes."""
    action = parser.add_argument(name, **settings)
    action.complete = FILE  # pyright: ignore[reportAttributeAccessIssue]


def add_env(parser: Container, name: str, **settings: Any) -> None:
    """Adds an argument that is an environment, whose ids a shell completes."""
    parser.add_argument(name, metavar="ENV", choices=Suggested(tables.ENVS), **settings)


def add_agent(parser: Container, name: str, **settings: Any) -> None:
    """Adds an argument that is an agent: one of ours, or module:Class."""
    known = Agents((*tables.AGENTS, *tables.BRIDGED))
    parser.add_argument(name, metavar="AGENT", choices=known, **settings)


def add_torso(parser: Container) -> None:
    """Adds --torso."""
    parser.add_argument(
        "--torso",
        metavar="NAME",
        choices=tuple(tables.TORSOS),
        help=f"{', '.join(tables.TORSOS)}: the network from observations to features",
    )


def add_config(parser: Container) -> None:
    """Adds --config."""
    add_file(parser, "--config", metavar="FILE", help="a config.yaml, or the folder of a run")


def add_run_dir(parser: Container, default: str) -> None:
    """Adds --run-dir."""
    action = parser.add_argument("--run-dir", metavar="DIR", help=f"default: {default}")
    action.complete = FOLDER  # pyright: ignore[reportAttributeAccessIssue]


def add_set(parser: Container) -> None:
    """Adds --set."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="change one setting; may be repeated",
    )


def add_wrapper(parser: Container, what: str) -> None:
    """Adds --wrapper."""
    parser.add_argument(
        "--wrapper",
        action="append",
        dest="wrappers",
        metavar="NAME",
        help=f"{what}; may be repeated, the first is the inmost",
    )


def add_hooks(parser: Container) -> None:
    """Adds --callback and --logger."""
    parser.add_argument(
        "--callback",
        action="append",
        default=[],
        dest="callbacks",
        metavar="MODULE:NAME",
        help="a class of yours to be called on the way; may be repeated",
    )
    parser.add_argument(
        "--logger",
        action="append",
        default=[],
        dest="loggers",
        metavar="NAME",
        help="wandb, mlflow, trackio or module:Name: log there too; may be repeated",
    )


def add_quiet(parser: Container) -> None:
    """Adds --quiet."""
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def add_json(parser: Container) -> None:
    """Adds --json."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON object, all else on standard error",
    )


def count(text: str) -> int:
    """Returns a whole number, also one written like 5e4 or 50_000."""
    try:
        number = float(text)
        if number.is_integer():
            return int(text) if text.lstrip("+-").isdigit() else int(number)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"expected a whole number, received {text!r}")


def seeds(text: str) -> list[int]:
    """Returns the numbers in a list such as 0-4, 0,3,7 or 0-2,5."""
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = (number.strip() for number in part.partition("-"))
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal() and 0 <= int(high) - int(low) < _MOST_SEEDS):
            raise argparse.ArgumentTypeError(
                f"expected seeds such as 0-4, 0,3,7 or 0-2,5 (at most {_MOST_SEEDS:,}), "
                f"received {text!r}"
            )
        seeds += range(int(low), int(high) + 1)
    return seeds
