"""`python -m rlzoo.cli` is `rlzoo`."""

import sys

from rlzoo.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
