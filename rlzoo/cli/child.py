"""`python -m rlzoo.cli.child` is `rlzoo` in a process that ends with its parent.

The parent holds the other end of standard input and writes nothing. However it dies, that end is
closed with it: then the run saves and ends, as if SIGTERM had asked it to.
"""

import os
import signal
import sys
import threading

from rlzoo.cli.app import main


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
