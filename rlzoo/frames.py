"""The part of a traceback that is the user's: of an environment, a callback, a wrapper."""

import os
import traceback

# Packages, of ours and of those between us and the user, whose frames say nothing about a failure.
_BETWEEN = (
    "rlzoo",
    "gymnasium",
    "keras",
    "tensorflow",
    "contextlib",
    "importlib",
    "multiprocessing",
)


def all_wanted() -> bool:
    """Tells whether whole tracebacks are asked for: RLZOO_TRACEBACK=1."""
    return os.environ.get("RLZOO_TRACEBACK", "0") not in ("", "0")


def of_user(error: BaseException) -> str:
    """Returns the lines of a traceback that lie in the user's files, "" if none do.

    Those of the errors that led to this one come first, each with its message.
    """
    if all_wanted():
        return "".join(traceback.format_exception(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = of_user(earlier) if earlier else ""
    if before:
        before += "".join(traceback.format_exception_only(earlier))
    frames = (
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _BETWEEN
    )
    return before + "".join(traceback.StackSummary.extract(frames).format())
