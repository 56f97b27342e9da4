"""The app's server as its own process shows it: memory, threads, files, processor, and the journal of its work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser import ROOT, serve

TICK = os.sysconf("SC_CLK_TCK")
KEPT = 5  # seconds for which the server keeps the visit of somebody who left; two minutes by default


@dataclass(frozen=True)
class Held:
    """What the server holds at a time. Memory in MB."""

    memory: float
    threads: int
    files: int
    temporary: int


@dataclass(frozen=True)
class Server:
    address: str
    process: Path  # its folder in /proc
    home: Path

    def held(self) -> Held:
        status = dict(line.split(":", 1) for line in (self.process / "status").read_text().splitlines())
        return Held(
            memory=int(status["VmRSS"].split()[0]) / 1024,
            threads=int(status["Threads"]),
            files=len(list((self.process / "fd").iterdir())),
            temporary=sum(1 for _ in (self.home / "tmp").rglob("*")),
        )

    def processor(self) -> float:
        """Seconds of all its threads so far."""
        behind_name = (self.process / "stat").read_text().rpartition(")")[2].split()
        return (int(behind_name[11]) + int(behind_name[12])) / TICK

    def journal(self, since: int = 0) -> list[dict[str, Any]]:
        """The lines of work that ended, behind the first ``since`` ones."""
        lines = (self.home / "server.log").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"time"')][since:]

    def complaints(self) -> list[str]:
        """What it printed of errors."""
        lines = (self.home / "server.log").read_text(errors="replace").splitlines()
        return [line for line in lines if "Error" in line or "Traceback" in line]

    def seconds_until_idle(self, most: float = 60.0) -> float:
        """Until a second comes in which the server takes less than a twentieth of one processor."""
        start = time.monotonic()
        while time.monotonic() - start < most:
            before, since = self.processor(), time.monotonic()
            time.sleep(1.0)
            if self.processor() - before < 0.05 * (time.monotonic() - since):
                return since - start
        return float("inf")


@contextmanager
def running_server(home: Path) -> Iterator[Server]:
    """The real server, with a home and a folder for temporary files of its own."""
    (home / "tmp").mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(home / "tmp")
    try:
        with serve(ROOT / "app.py", home, "--server.disconnectedSessionTTL", str(KEPT)) as address:
            yield Server(address, _process_of(address.rpartition(":")[2]), home)
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _process_of(port: str) -> Path:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--server.port" in words and port.encode() in words:
            return process
    raise RuntimeError(f"No process serves port {port}.")
