"""What is tidied up between visits: what the server keeps for people who have gone.

By itself Streamlit forgets a visit that is over only when the next person comes; and what the visit held, and the last
results that nobody asks for any more, would stay in memory over night.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

from streamlit.runtime import Runtime

from app_pages import common

EVERY = 5.0  # seconds


async def keep_house() -> None:
    """Tidy up behind visits that have ended, for as long as the server runs."""
    before: set[str] = set()
    while True:
        await asyncio.sleep(EVERY)
        try:
            now = visits()
            if before - now:
                await asyncio.to_thread(tidy_up, nobody_left=not now)
            before = now
        except Exception:  # written down; the next time may do better
            logging.getLogger(__name__).exception("Tidying up failed.")


def visits() -> set[str]:
    """Those that last, with those whose connection broke and who may still come back; others are forgotten."""
    sessions: Any = Runtime.instance()._session_mgr
    sessions._session_storage._cache.expire()
    return {visit.session.id for visit in sessions.list_sessions()}


def tidy_up(*, nobody_left: bool) -> None:
    """Free what visits held that have ended, and when nobody is left also what can be computed again."""
    if nobody_left:
        common.let_go()
    else:
        gc.collect()
