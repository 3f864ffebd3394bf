"""TensorFlow without the notices that it prints at its start, whatever its log level is."""

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from rlzoo import compile_cache


@contextlib.contextmanager
def redirected(source: int, target: int) -> Iterator[None]:
    """Sends one file descriptor (1 is standard output, 2 standard error) where another goes."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(source)
    os.dup2(target, source)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved, source)
        os.close(saved)


@contextlib.contextmanager
def notices() -> Iterator[None]:
    """Keeps standard error to itself, and shows it only if the block fails.

    It does nothing if the user asked for the notices: TF_CPP_MIN_LOG_LEVEL=0.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    with tempfile.TemporaryFile() as kept:
        try:
            with redirected(2, kept.fileno()):
                yield
        except BaseException:
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Leaves out of standard error what XLA says of each program that it finds on disk.

    It takes the processor's preferences, which are in no program's way, for features that it lacks.
    What else is written meanwhile comes afterwards. It does nothing if the user asked for all.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    with tempfile.TemporaryFile() as kept:
        try:
            with redirected(2, kept.fileno()):
                yield
        finally:
            kept.seek(0)
            for line in kept:
                if b" cpu_aot_loader.cc:" not in line and b" text_format.cc:" not in line:
                    os.write(2, line)


class _FirstImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Is asked once for `tensorflow`, by whichever module imports it first."""

    _loader: Any

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        with notices():
            self._loader.exec_module(module)
            _start(module)


def _start(tensorflow: Any) -> None:
    with compile_cache.flags(tensorflow.__version__):
        tensorflow.config.list_physical_devices()  # reads flags; looks for a GPU, and says so


def import_quietly() -> None:
    """Sees to it that TensorFlow, if it is not there yet, is imported without its notices.

    Either way it keeps compiled programs, unless it has read its flags already.
    """
    if tensorflow := sys.modules.get("tensorflow"):
        _start(tensorflow)
    else:
        sys.meta_path.insert(0, _FirstImport())
