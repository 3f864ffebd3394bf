"""The command line. Parsing imports nothing heavy; a command imports what it needs when it runs."""

from rlzoo.cli.app import main

__all__ = ["main"]
