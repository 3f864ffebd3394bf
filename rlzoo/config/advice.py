"""Commands that a message advises, as they can be pasted."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from rlzoo.config.values import CALLABLE


def advice(
    verb: str,
    run_dir: Any,
    env: str = "",
    wrappers: Sequence[Mapping[str, Any]] = (),
    agent: str = "",
) -> str:
    """Returns the command that does this with a run, as it can be pasted.

    What a module has, or Python made, must be given again.

    Args:
        verb: what to do, as a command and as a function of rlzoo.
        run_dir: the folder of the run.
        env: its environment.
        wrappers: around it, as its configuration has them.
        agent: its name.
    """
    made = {"env": env, "wrappers": " ".join(str(choice["name"]) for choice in wrappers)}
    if CALLABLE in "".join(made.values()):
        again = [f"{name}=..." for name, names in made.items() if ":" in names]
        return f"rlzoo.{verb}({', '.join([repr(str(run_dir)), *again])}) in Python"
    again = [*(["--agent", agent] if ":" in agent else []), *again_flags(env, wrappers)]
    return shlex.join(["rlzoo", verb, str(run_dir), *again])


def again_flags(env: str, wrappers: Sequence[Mapping[str, Any]], flag: str = "--env") -> list[str]:
    """Returns the flags that name again what would import a module. `flag` is what `env` follows.

    Wrappers are given all or none.
    """
    flags = [*flag.split(), env] if ":" in env else []
    if any(":" in str(choice["name"]) for choice in wrappers):
        for choice in wrappers:
            text = yaml.safe_dump(choice, default_flow_style=True, sort_keys=False, width=math.inf)
            flags += ["--wrapper", str(choice["name"]) if len(choice) == 1 else text.strip()]
    return flags
