"""How much memory the server may take, and what it is for.

CNN_LENS_MEMORY_MB says how much the whole process may take; without it, what a server of 2 GB can spare. Of that, some
is Python, torch and Streamlit themselves, some is kept free for a long run, shares hold the latest results and the
latest pictures that were drawn of them, and what is left holds networks.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path

MB = 10**6
DEFAULT_MB = 1800
PROGRAM_MB = 450  # Python with torch and Streamlit, before any network is loaded
# That a turn may need: bounds that hold for every method, with any network and with a small one; a pass with its
# gradient.
LONG_MB, LONG_OF_SMALL_MB, SHORT_MB = 600, 400, 100
SMALL_MB = 40  # of the parameters of a small network
RESULTS_SHARE, PICTURES_SHARE = 0.05, 0.04
STATM = Path("/proc/self/statm")
ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def budget() -> int:
    """Bytes that the process may take."""
    return (DEFAULT_MB if complaint() or not _setting() else int(_setting())) * MB


def complaint() -> str:
    """What is wrong with the setting, or nothing."""
    setting, least = _setting(), 2 * PROGRAM_MB
    if not setting or (setting.isascii() and setting.isdigit() and int(setting) >= least):
        return ""
    return f"CNN_LENS_MEMORY_MB is {setting!r}; it must be a whole number from {least}. {DEFAULT_MB} is taken."


def _setting() -> str:
    return os.environ.get("CNN_LENS_MEMORY_MB", "").strip()


def for_turn(network: int | None) -> int:
    """Bytes that a turn may take for a while: a long one with a network of so many bytes, or a short one."""
    if network is None:
        return SHORT_MB * MB
    return (LONG_OF_SMALL_MB if network <= SMALL_MB * MB else LONG_MB) * MB


def for_results(whole: int) -> int:
    return int(RESULTS_SHARE * whole)


def for_pictures(whole: int) -> int:
    return int(PICTURES_SHARE * whole)


def for_networks(whole: int) -> int:
    return max(whole - for_results(whole) - for_pictures(whole) - (PROGRAM_MB + LONG_MB) * MB, 100 * MB)


def resident() -> int:
    """Bytes that the process takes now; 0 where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def use_few_arenas() -> None:
    """Have threads share two heaps: with one for each, what many short threads free stays with the process."""
    _libc("mallopt", ARENA_MAX, 2)


def freeze() -> None:
    """Let the garbage collector pass over all that is there now: the libraries, which stay.

    It takes a quarter of a second to go through them, in which no other thread can do anything. After each run of a
    page, which is Streamlit's default, that was five sixths of what Python did under a crowd of thirty.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # now it knows that little is left; it waits until a quarter more has come


def give_back() -> None:
    """Give what was freed back to the system, as far as the C library does that."""
    gc.collect()
    _libc("malloc_trim", 0)


def _libc(name: str, *arguments: int) -> None:
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*arguments)
