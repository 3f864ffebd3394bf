"""What holds at every way into rlzoo from Python: the caller's randomness stays as it was."""

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras.src.backend.common import global_state  # there is no public way to read these
from tensorflow.python.eager import context

_KERAS = ("global_random_seed", "global_seed_generator")

_forked = False  # from a process in which TensorFlow had run


@contextlib.contextmanager
def entry() -> Iterator[None]:
    """Gives `random`, `np.random`, Keras's and TensorFlow's global generators back as they were.

    A run seeds them all, for layers and environments that draw from them: so it depends on its own
    seed alone. A search that trains in a loop must not draw the same trial for ever. It decorates
    functions: `@entry()`.

    Raises:
        ValueError: in a forked process (see `check_process`).
    """
    check_process()
    tf: Any = context.context()
    python, numpy = random.getstate(), np.random.get_state()
    seed, generator = tf._seed, getattr(tf, "_rng", None)
    drawn = generator.getstate() if generator else None
    seeds = {name: global_state.get_global_attribute(name) for name in _KERAS}
    keras_generator = seeds["global_seed_generator"]
    state = None if keras_generator is None else keras_generator.state.numpy()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        tf._seed = seed
        if generator is None:
            vars(tf).pop("_rng", None)
        else:
            generator.setstate(drawn)
            tf._rng = generator
        for name, value in seeds.items():
            global_state.set_global_attribute(name, value)
        if keras_generator is not None:
            keras_generator.state.assign(state)


def check_process() -> None:
    """Refuses to go on where TensorFlow would wait for ever.

    Raises:
        ValueError: this process was forked from one in which TensorFlow had run. Its threads were
            not copied.
    """
    if _forked:
        raise ValueError(
            "This process was forked from one in which TensorFlow had run already, and would hang: "
            "a fork copies no threads. Start it by multiprocessing.get_context('spawn'), or fork "
            "before TensorFlow is first used."
        )


def _after_fork() -> None:
    global _forked
    _forked = _forked or bool(getattr(context.context_safe(), "_initialized", False))


os.register_at_fork(after_in_child=_after_fork)
