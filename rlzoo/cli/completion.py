"""Shell completion, which shtab makes of the parser."""

import argparse
import re


class Completion(argparse.Action):
    """Prints what a shell is to run so that it completes what is typed."""

    def __init__(self, option_strings, dest, **kwargs):
        shells = ("bash", "zsh")
        about = 'print completion for a shell; in bash: eval "$(rlzoo --print-completion bash)"'
        super().__init__(
            option_strings, dest, choices=shells, metavar="bash|zsh", help=about, **kwargs
        )

    def __call__(self, parser, namespace, values, option_string=None):
        """Prints the script and leaves."""
        import shtab

        script = shtab.complete(parser, str(values))
        print(_mended(script) if values == "zsh" else script)
        parser.exit()


def _mended(script: str) -> str:
    """Returns a script for zsh in which each argument is completed as often as it may be given.

    shtab 1.8.1 lists one that has choices twice, and completes one of many (`nargs="+"`) only once.
    """

    def mend(arguments: re.Match[str]) -> str:
        lines = arguments[0].replace('"(*):', '"*:').split("\n")
        return "\n".join(dict.fromkeys(lines))

    return re.sub(r"(?<=_options=\(\n).*?(?=\n\))", mend, script, flags=re.DOTALL)
