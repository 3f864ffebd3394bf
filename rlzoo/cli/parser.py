"""What the command line takes, and its help. Imports the standard library only."""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from rlzoo import tables
from rlzoo.cli import flags, help
from rlzoo.cli.completion import Completion
from rlzoo.cli.flags import (
    FOLDER,
    Suggested,
    add_agent,
    add_config,
    add_env,
    add_file,
    add_hooks,
    add_json,
    add_option,
    add_quiet,
    add_run,
    add_run_dir,
    add_set,
    add_torso,
    add_wrapper,
    count,
    seeds,
)
from rlzoo.text import ALIASES, nearest

_EXAMPLES = """\
examples:
  rlzoo train dqn CartPole-v1
  rlzoo train dqn CartPole-v1 --exploration softmax --run-dir runs/softmax
  rlzoo train reinforce rlzoo/Memory-v0 --torso lstm --seeds 0-4
  rlzoo evaluate runs/softmax
  rlzoo resume runs/softmax --steps 60000
  rlzoo pretrain mnist --run-dir runs/digits
  rlzoo train dqn rlzoo/DigitBandit-v0 --torso-from runs/digits --freeze
  rlzoo list dqn
  tensorboard --logdir runs
"""
_TRAIN_EXAMPLES = """\
examples:
  rlzoo train dqn CartPole-v1
  rlzoo train dqn CartPole-v1 --steps 20000 --set learning_rate=1e-3
  rlzoo train dqn CartPole-v1 --exploration softmax --set torso.sizes=[128,128]
  rlzoo train dyna_q FrozenLake-v1 --set env.is_slippery=false --seeds 0-4
"""


class _Parser(argparse.ArgumentParser):
    """Answers a bad command line with one line."""

    def error(self, message):
        """Prints what is wrong and leaves with exit code 2."""
        sys.stderr.write(f"rlzoo: error: {message} (see {self.prog} --help)\n")
        self.exit(2)

    def flags(self):
        """Returns every flag."""
        return list(self._option_string_actions)

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"unknown {value!r}. {nearest(value, action.choices)}"
            )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the parsed arguments; leaves with exit code 2 if they make no sense."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    # argparse takes optional positionals in one go: `train dqn --seed 1 CartPole-v1` leaves ENV.
    if args.command == "train" and len(rest) == 1 and rest[0][:1] != "-" and args.env is None:
        args.env, rest = rest[0], []
    if args.command is None:
        parser.print_help()
        parser.exit()
    if rest:
        args.parser.error(_unknown(rest, args))
    return args


def _unknown(rest: Sequence[str], args: argparse.Namespace) -> str:
    """Says what to do about arguments that nobody knows."""
    flag = next((text.partition("=")[0] for text in rest if text[:2] == "--"), None)
    if flag is None:
        return f"unknown {' '.join(rest)!r}"
    key = flag[2:].replace("-", "_")
    key = ALIASES.get(key.lower(), key)
    flags = [known for known in args.parser.flags() if known[:2] == "--"]
    if (own := f"--{key.replace('_', '-')}") in flags:
        return f"unknown {flag!r}. It is called {own} here."
    name = getattr(args, "agent", None) or getattr(args, "task", None)
    if name and ("." in key or key in (*help.keys(name), *help.keys(help.RUN))):
        return f"unknown {flag!r}. That is a setting: --set {key}=VALUE"
    return f"unknown {flag!r}. {nearest(flag, flags)}"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `rlzoo`, with one sub-command each in `commands`."""
    parser = _Parser(
        prog="rlzoo",
        description="Reinforcement learning for people who live in TensorFlow and Keras.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, default=argparse.SUPPRESS)
    parser.add_argument("--print-completion", action=Completion, default=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, summary: str, more: str = "", **settings) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}\n\n{textwrap.dedent(more)}".strip(),
            **settings,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(parser=made)
        return made

    train = command(
        "train",
        "Train an agent on a Gymnasium environment.",
        """\
        Starts from the tuned preset for this agent and environment where one ships
        (`rlzoo list agents` names them). Over it go the --config file, then the
        flags, then --set:
          --set learning_rate=1e-3             a hyperparameter of the agent
          --set eval_every=5000                an option of the run
          --set exploration.epsilon.end=0.01   part of the exploration strategy
          --set torso.sizes=[256,256]          part of the torso
          --set env.is_slippery=false          an argument of the environment
        `rlzoo list dqn` (or run, softmax, dense, ...) shows every setting.
        """,
        usage="rlzoo train AGENT ENV [options]",
        epilog=_TRAIN_EXAMPLES,
    )
    ours = ", ".join(tables.AGENTS)
    add_agent(
        train,
        "agent",
        nargs="?",
        help=f"{ours}, one of TF-Agents (`rlzoo list agents`), or module:Class",
    )
    add_env(train, "env", nargs="?", help="a Gymnasium id, or module:Env-v0 to import it from")
    run = train.add_argument_group("the run")
    for name in flags.OF_RUN:
        add_option(run, name)
    seed = run.add_mutually_exclusive_group()
    add_option(seed, "seed", "seed of the run (default 0)", "S")
    seed.add_argument(
        "--seeds", type=seeds, metavar="LIST", help="such as 0-4 or 0,3,7: a run for each, and all"
    )
    add_set(run)
    add_config(run)
    run.add_argument(
        "--no-preset",
        action="store_false",
        dest="preset",
        help="start from the defaults, not from what was tuned",
    )
    envs = train.add_argument_group("the environments")
    for name in flags.OF_ENVIRONMENTS:
        add_option(envs, name)
    add_wrapper(envs, "a name in gymnasium.wrappers, module:Class, or '{name: ..., ...}'")
    learner = train.add_argument_group("the learner")
    learner.add_argument(
        "--exploration",
        metavar="NAME",
        choices=tuple(tables.EXPLORATIONS),
        help=f"{', '.join(tables.EXPLORATIONS)}: how it tries actions",
    )
    add_torso(learner)
    learner.add_argument(
        "--torso-from", metavar="RUN", help="start from the torso of this run, as pretrain makes"
    ).complete = FOLDER  # pyright: ignore[reportAttributeAccessIssue]
    learner.add_argument("--freeze", action="store_true", help="keep the weights of that torso")
    learner.add_argument(
        "--unfreeze-after", type=count, metavar="N", help="keep them for this many steps"
    )
    learner.add_argument(
        "--torso-lr-scale", type=float, metavar="X", help="their share of the learning rate"
    )
    results = train.add_argument_group("the results")
    add_run_dir(results, "runs/ENV/AGENT/DATE-TIME-sSEED")
    add_hooks(results)
    add_quiet(results)
    add_json(results)

    pretrain = command(
        "pretrain",
        "Train a torso on a supervised task, for agents to start from.",
        """\
        Its settings go by --set, and `rlzoo list TASK` shows them all:
          --set batch_size=32             of the training
          --set delay=100                 of the task (recall)
          --set torso.units=128           of the torso
        """,
        usage="rlzoo pretrain TASK [options]",
    )
    pretrain.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        choices=tuple(tables.TASKS),
        help=f"{', '.join(tables.TASKS)}: `rlzoo list tasks`",
    )
    add_torso(pretrain)
    pretrain.add_argument("--epochs", type=count, metavar="N", help="epochs at most")
    add_option(pretrain, "seed", "seed of the run (default 0)", "S")
    add_file(pretrain, "--data", metavar="FILE", help="your data, where the task takes any")
    pretrain.add_argument(
        "--download",
        action="store_true",
        default=None,
        help="fetch the whole data set (mnist, by Keras)",
    )
    add_env(pretrain, "--env", help="where reconstruct and predict gather observations")
    add_set(pretrain)
    add_config(pretrain)
    add_run_dir(pretrain, "runs/pretrain/TASK/DATE-TIME-sSEED")
    add_quiet(pretrain)
    add_json(pretrain)

    predict = command(
        "predict",
        "Tell what images show, by a network that `rlzoo pretrain mnist` has trained.",
        "Pictures of any size, in colour or grey, dark on light or light on dark.",
    )
    add_run(predict)
    add_file(predict, "files", nargs="+", metavar="FILE", help="a picture: PNG, JPEG, GIF or BMP")
    add_json(predict)

    resume = command(
        "resume",
        "Go on with a run that was stopped, exactly where it was.",
        """\
        The steps that follow are those of a run that never stopped. Of a folder
        that --seeds has made, the seeds that are not finished go on.
        """,
    )
    add_run(resume)
    add_option(resume, "steps", "a new total of environment steps")
    add_option(resume, "num_envs", "another number of environments from now on")
    resume.add_argument(
        "--epochs", type=count, metavar="N", help="a new total of epochs, of pretraining"
    )
    add_option(resume, "until_return")
    add_hooks(resume)
    add_agent(resume, "--agent", help="needed if the run's agent is module:Class")
    add_env(resume, "--env", help="needed if the run's environment is module:Env-v0")
    add_wrapper(resume, "needed if one of the run's is module:Class: all of them")
    add_quiet(resume)
    add_json(resume)

    evaluate = command("evaluate", "Evaluate a run's best agent on fresh environments.")
    add_run(evaluate)
    add_agent(evaluate, "--agent", help="needed if the run's is module:Class")
    add_env(evaluate, "--env", help="another environment to evaluate in")
    add_wrapper(evaluate, "needed if one of the run's is module:Class: all of them")
    evaluate.add_argument(
        "--episodes", type=count, default=20, metavar="N", help="how many are played (default 20)"
    )
    add_option(evaluate, "seed", "seed of the episodes", "S")
    evaluate.add_argument(
        "--last", action="store_true", help="take the newest agent, not the best of its evaluations"
    )
    add_option(evaluate, "max_episode_steps")
    add_option(evaluate, "eval_mode")
    add_json(evaluate)

    record = command("record", "Record an evaluation episode as a GIF or MP4.")
    add_run(record)
    record.add_argument(
        "-o", "--output", metavar="FILE", help="FILE.gif or FILE.mp4 (default RUN/episode.gif)"
    )
    add_agent(record, "--agent", help="needed if the run's is module:Class")
    add_env(record, "--env", help="another environment to record")
    add_wrapper(record, "needed if one of the run's is module:Class: all of them")
    add_option(record, "seed", "seed of the episode", "S")
    add_option(record, "max_episode_steps")
    add_option(record, "eval_mode")
    add_json(record)

    plot = command(
        "plot",
        "Draw several runs in one picture.",
        """\
        Those that differ in their seed only are one curve: interquartile mean,
        95 % bootstrap interval, and a thin line for each. The figures are printed
        too.
        """,
    )
    plot.add_argument(
        "runs", nargs="+", metavar="RUN", help="folders of runs, or that hold such"
    ).complete = FOLDER  # pyright: ignore[reportAttributeAccessIssue]
    plot.add_argument(
        "-o", "--output", default="plot.png", metavar="FILE.png", help="default plot.png"
    )
    plot.add_argument(
        "--x",
        default="steps",
        metavar="steps|seconds",
        choices=("steps", "seconds"),
        help="what to draw over (default steps)",
    )
    plot.add_argument(
        "--profile",
        metavar="best|last",
        choices=("best", "last"),
        help="draw instead which share of the runs ended above each return",
    )
    add_json(plot)

    listing = command(
        "list",
        "List what can be trained, and with what; or every setting of one of them.",
        """\
          rlzoo list           everything, with a line about each
          rlzoo list torsos    one kind: agents, envs, torsos, explorations,
                               schedules or tasks
          rlzoo list dqn       every setting of one thing: default, meaning, range
          rlzoo list run       every option of a run
        """,
    )
    listing.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        choices=Suggested((*help.TABLES, *help.names())),
        help="a kind, one thing of it, or run",
    )
    add_json(listing)

    check = command(
        "check-env",
        "Check that an environment keeps Gymnasium's rules.",
        "Its settings are given as to train: --set env.KEY=VALUE.",
    )
    add_env(check, "env", help="a Gymnasium id, or module:Env-v0")
    add_set(check)
    add_wrapper(check, "as train takes it")
    add_option(check, "max_episode_steps")
    add_json(check)
    return parser


class _Version(argparse.Action):
    """Prints the version; it is looked up only then."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(option_strings, dest, nargs=0, help="print the version", **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        from importlib.metadata import version

        print(f"rlzoo {version('rlzoo-tf')}")
        parser.exit()
