"""What the server says of its work: a line of JSON a turn, on standard error; never a picture or a file's name."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Hashable
from datetime import UTC, datetime
from hashlib import sha256

LOG = logging.getLogger("cnn_lens")


def begin() -> None:
    """Have the lines written; without this, they go nowhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def write(outcome: str, kind: Hashable, person: str, waited: float, seconds: float) -> None:
    """A turn ended: ``kind`` is the method and the net; ``person`` is shortened to what tells visits apart."""
    method, net = kind if isinstance(kind, tuple) else (kind, None)
    facts = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "visit": sha256(person.encode()).hexdigest()[:8],
        "method": str(method),
        "net": str(net or "").partition(" of ")[0],  # behind it is the name of the file that somebody brought
        "waited": round(waited, 3),
        "seconds": round(seconds, 3),
        "outcome": outcome,
    }
    LOG.info(json.dumps(facts))
