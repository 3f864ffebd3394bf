"""The streams of randomness that derive from a run's seed, each by its number.

Checkpoints, and the repeating of any run, depend on these numbers: they never change. Those of one
line belong together, and differ.
"""

import numpy as np

# Of tensors, `rng.fold_in(rng.from_int(seed), ACT)`: what a loop draws, call by call.
ACT, UPDATE, ENV_STEP, ENV_RESET = range(4)

# Of whole numbers, `derived(seed, EVAL)`. Evaluation: to choose the best, to judge it; weights.
EVAL, FINAL, TORSO, AGENT = range(1, 5)

# The same, of a run that pretrains.
DATA, PRETRAINED_TORSO, HEAD, LAYERS, ORDER = range(5)


def derived(seed: int, *numbers: int) -> int:
    """Returns the seed, 0 to 2**32 - 1, of the stream that some numbers name.

    Args:
        seed: 0 or more, of any size.
        numbers: of the stream, or what counts in it, such as an environment and its episode.
    """
    return int(np.random.SeedSequence((seed, *numbers)).generate_state(1)[0])
