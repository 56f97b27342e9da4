"""Fetching a weights file into torch's cache, where torchvision and timm look for it."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from models.catalogue import Card
from models.torchvision_guard import guarded_import
from vizcore.records import BadWeights, Progress

CONNECT_SECONDS = 5.0  # for the whole of name look-up and connection: offline, a person waits no longer than this
SLOWEST = 20_000  # bytes a second; below it, after ten seconds, the fetch is given up
CHUNK = 1 << 20


def fetch(card: Card, progress: Progress | None = None) -> Path:
    """Fetch the weights file of ``card`` into torch's cache and return its path.

    A file of its own beside the target is written and renamed once its digest is right: two at once do no harm, and no
    half file is left. Raises BadWeights in one sentence where the network does not allow it.
    """
    folder = card.folder
    assert folder is not None
    try:
        response = _connect(_address(card))
        folder.mkdir(parents=True, exist_ok=True)
        return _save(response, card, folder, progress)
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        raise BadWeights(
            f"The weights of {card.title} are not on this machine and could not be fetched ({reason(error)}): put the "
            f"file {card.file} into the folder {folder}, or take the structure untrained with "
            f'load_model("{card.name}", weights=None).'
        ) from error


def reach(address: str) -> None:
    """Return if something answers at ``address``; raise OSError or HTTPException, within CONNECT_SECONDS."""
    _connect(address).close()


def _address(card: Card) -> str:
    """Where torchvision or timm fetches this very file from."""
    source, _, name = card.builder.rpartition(".")
    if source == "timm":
        addresses = [guarded_import("timm").get_pretrained_cfg(name).url]
    else:
        addresses = [weights.url for weights in guarded_import(source).get_model_weights(name)]
    return next(address for address in addresses if address.endswith("/" + card.file))


def _connect(address: str) -> HTTPResponse:
    """Open ``address``. In a thread, for a look-up of the name has no timeout, and each of a host's many does."""
    outcome: list[HTTPResponse | Exception] = []

    def work() -> None:
        try:
            outcome.append(urllib.request.urlopen(address, timeout=CONNECT_SECONDS))
        except Exception as error:  # handed to the waiting caller
            outcome.append(error)

    thread = threading.Thread(target=work, name="fetch-weights", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS:.0f} seconds")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _save(response: HTTPResponse, card: Card, folder: Path, progress: Progress | None) -> Path:
    total = int(response.headers.get("Content-Length") or 0)
    digest, done, start = hashlib.sha256(), 0, time.monotonic()
    part = folder / f"{card.file}.{uuid.uuid4().hex}.part"
    try:
        with response, part.open("xb") as file:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                seconds = time.monotonic() - start
                if seconds > 10 and done < SLOWEST * seconds:
                    raise TimeoutError(f"only {done / seconds / 1000:.0f} kB a second")
                if progress:
                    progress(done, max(total, done))
        if not digest.hexdigest().startswith(card.sha256):
            raise OSError("what came is not that file")
        part.replace(folder / card.file)
    finally:
        part.unlink(missing_ok=True)
    return folder / card.file


def reason(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (getattr(cause, "strerror", None) or str(cause) or type(error).__name__).rstrip(".")
