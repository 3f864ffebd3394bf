"""`rlzoo`: parses the arguments, runs a command, and turns its end into an exit code.

0 done; 2 bad input (one line); 130 interrupted, 143 terminated (after saving); 1 a failure, with
the user's part of its traceback.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlzoo import frames
from rlzoo.cli.parser import parse
from rlzoo.cli.streams import outliving_readers
from rlzoo.quiet import redirected

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep

_LONGEST = 10_000  # characters of a line about a failure


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # ± where a terminal knows ASCII only
    args = parse(argv)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from rlzoo.cli import commands

    command = commands.COMMANDS[args.command]
    as_json = getattr(args, "json", False)
    with outliving_readers(), _warnings_in_a_line():
        try:
            if as_json:
                from rlzoo.config.values import json_value

                with redirected(1, 2), contextlib.redirect_stdout(sys.stderr):
                    result = command(args)
                print(json.dumps(json_value(result), allow_nan=False))
            else:
                result = command(args)
                commands.show(args.command, result)
            sys.stdout.flush()
        except BaseException as error:
            return _report(error)
    return 0 if result.get("ok", True) else 2


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Shows each warning once, and not the line of code that it comes from."""
    told = set()

    def show(message: Any, *_: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _report(error: BaseException) -> int:
    """Tells what went wrong and returns the exit code."""
    interrupted = 130 if isinstance(error, KeyboardInterrupt) else None
    code = getattr(error, "exit_code", interrupted)
    if isinstance(code, int):
        _say(str(error) or "interrupted.")
        return code
    if isinstance(error, ValueError) and _is_ours(error):
        _say(f"error: {error}")
        return 2
    notes = getattr(error, "__notes__", [])
    traces = [note for note in notes if "\n" in note]  # of a worker process, for one
    shown = "".join([frames.of_user(error), *(f"{trace}\n" for trace in traces)])
    heading = "" if frames.all_wanted() else "Traceback (RLZOO_TRACEBACK=1 shows all of it):\n"
    sys.stderr.write(heading + shown if shown else "")
    told = [f"failed: {type(error).__name__}: {error}", *(n for n in notes if n not in traces)]
    if not shown:
        told.append("RLZOO_TRACEBACK=1 shows where")
    _say(". ".join(part.rstrip(".") for part in told) + ".")
    return 1


def _is_ours(error: BaseException) -> bool:
    """Tells whether rlzoo itself refused the input, and no environment or library failed."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    raised_here = frame is not None and frame.tb_frame.f_code.co_filename.startswith(_PACKAGE)
    return raised_here and not getattr(error, "__notes__", None)


def _say(text: str) -> None:
    """Prints one line on standard error."""
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    print(f"rlzoo: {line}", file=sys.stderr)
