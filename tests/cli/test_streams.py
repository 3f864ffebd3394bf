import io
import os
import subprocess
import sys

from rlzoo.cli.streams import _Outliving


def test_a_stream_outlives_its_reader():
    reader, writer = os.pipe()
    with io.TextIOWrapper(io.BufferedWriter(_Outliving(writer, BrokenPipeError))) as stream:
        print("read", file=stream, flush=True)
        assert os.read(reader, 100) == b"read\n"
        os.close(reader)
        print("lost" * 10_000, file=stream, flush=True)
        os.write(writer, b"a library of C prints to nowhere, too")
        print("lost", file=stream, flush=True)
    os.close(writer)


def test_head_leaves_and_nothing_is_said():
    """Of a long list, and of what goes wrong."""
    for line in ("list envs", "resume no/such/run"):
        program = "import sys; from rlzoo.cli import main; sys.exit(main())"
        reader, writer = os.pipe()
        os.close(reader)
        ended = subprocess.run(
            [sys.executable, "-c", program, *line.split()], stdout=writer, stderr=writer
        )
        os.close(writer)
        assert ended.returncode == (0 if line.startswith("list") else 2)
