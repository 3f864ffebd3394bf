"""The streams of randomness: numbers that no change of rlzoo may move."""

import numpy as np

from rlzoo.ops import streams


def test_the_numbers_are_those_that_saved_runs_were_made_with():
    loops = {"ACT": 0, "UPDATE": 1, "ENV_STEP": 2, "ENV_RESET": 3}
    runs = {"EVAL": 1, "FINAL": 2, "TORSO": 3, "AGENT": 4}
    pretraining = {"DATA": 0, "PRETRAINED_TORSO": 1, "HEAD": 2, "LAYERS": 3, "ORDER": 4}
    every = {name: value for name, value in vars(streams).items() if name.isupper()}
    assert every == {**loops, **runs, **pretraining}
    for kind in (loops, runs, pretraining):
        assert len(set(kind.values())) == len(kind)


def test_a_stream_is_the_seed_that_numpy_derives():
    for seed, *numbers in ((7, streams.EVAL), (2**62 - 1, streams.AGENT), (0, 3, 2)):
        expected = np.random.SeedSequence([seed, *numbers]).generate_state(1)[0]
        assert streams.derived(seed, *numbers) == expected
    assert streams.derived(7, streams.EVAL) == 369571992
