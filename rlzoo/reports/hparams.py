"""TensorBoard's HParams tab: a row for each run, the seeds of one configuration as one group.

The plugin shows what its first event file declares, or, where none declares anything, all that it
finds beside the settings. So a run's row lies in a folder of its own, `hparams`, where there is
nothing but the settings that matter and the results: whatever else is in the log directory (other
agents, pretraining), the columns are right.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf


def write(
    run_dir: Path,
    name: str,
    settings: Mapping[str, bool | int | float | str],
    results: Mapping[str, float],
    step: int,
) -> None:
    """Writes a finished run's row; it takes the place of an earlier one.

    Args:
        run_dir: the run's folder, whose name the row has.
        name: of the group, such as "dqn on CartPole-v1". Runs with the same settings are one.
        settings: those that decide how it learns, so without the seed.
        results: such as `final/best_return`.
        step: of the results.
    """
    from tensorboard.plugins.hparams import api_pb2, summary

    text = json.dumps(settings, sort_keys=True)
    group = f"{name}, {hashlib.sha256(text.encode()).hexdigest()[:6]}"
    folder = run_dir / "hparams"
    folder.mkdir(exist_ok=True)
    earlier = sorted(folder.glob("events.out.tfevents.*.rlzoo"))
    newest = int(earlier[-1].name.split(".")[3]) if earlier else 0
    path = folder / f"events.out.tfevents.{max(int(time.time()), newest + 1):010d}.rlzoo"
    Event, Summary = tf.compat.v1.Event, tf.compat.v1.Summary
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in results.items()]
    # By way of bytes: TensorBoard's class for a summary may not be TensorFlow's.
    start = summary.session_start_pb(dict(settings), group_name=group).SerializeToString()
    status = api_pb2.STATUS_SUCCESS  # pyright: ignore[reportAttributeAccessIssue]
    end = summary.session_end_pb(status).SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for part in (Summary.FromString(start), Summary(value=scalars), Summary.FromString(end)):
            file.write(Event(wall_time=time.time(), step=step, summary=part).SerializeToString())
    for path in earlier:
        path.unlink()
