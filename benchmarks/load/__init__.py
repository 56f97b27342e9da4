"""Many people at one small server: what they see, how long they wait, and what they leave behind.

Run with `make load`. `client` speaks with the server as a browser does, `person` does what people do, `answers` knows
what each of them ought to see, `server` watches the process, `shapes` lets them come in crowds, and `witness` looks on
in real browsers.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))  # where `browser` starts the server
