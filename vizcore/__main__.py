"""``python -m vizcore``: the command line, which stands on top of `vizcore` and `models` as app.py does."""

import sys

from commands import main

if __name__ == "__main__":
    sys.exit(main())
