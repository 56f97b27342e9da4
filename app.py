"""CNN Lens in the browser: page set-up, the sidebar, and the way to the pages.

Streamlit runs this file from the top for every view. The server imports it once before that, and begins to load the
default network while nobody is looking yet.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import streamlit as st
from starlette.middleware import Middleware

from app_pages.gate import Gate

# Threads of torch that wait by spinning take the cores from one another as soon as two people compute: on two busy
# cores a pass took 167 ms so, and 57 ms with threads that sleep. Read when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Seconds after which a thread that computes in Python has to let another go on. A pass through a net lets go of
# Python's lock in each of its hundreds of operations, and waited so long each time to have it again: beside a page
# that was being drawn, 17 passes a second became 0.8 at Python's own 0.005 s. Shorter still, and the threads that wait
# for the lock do little but wake up.
SWITCH = 0.0005

PAGES = (
    ("app_pages/overview.py", "Overview", ":material/visibility:", True),
    ("app_pages/layers.py", "Layers", ":material/layers:", False),
    ("app_pages/anatomy.py", "Anatomy", ":material/account_tree:", False),
    ("app_pages/heatmaps.py", "Heatmaps", ":material/local_fire_department:", False),
    ("app_pages/evidence.py", "Evidence", ":material/fact_check:", False),
    ("app_pages/compare.py", "Compare", ":material/compare:", False),
    ("app_pages/hiding.py", "Hide", ":material/ink_eraser:", False),
    ("app_pages/arithmetic.py", "Arithmetic", ":material/calculate:", False),
    ("app_pages/embedding.py", "Embedding", ":material/scatter_plot:", False),
    ("app_pages/folder.py", "Set", ":material/folder_open:", False),
    ("app_pages/report.py", "Report", ":material/description:", False),
    ("app_pages/own_network.py", "Your network", ":material/upload_file:", False),
)


def main() -> None:
    from app_pages import common

    with common.at_the_desk():
        show()


def show() -> None:
    st.set_page_config(page_title="CNN Lens", page_icon="app_pages/icon.png", layout="wide", initial_sidebar_state=340)
    page = st.navigation(
        [st.Page(path, title=title, icon=icon, default=first) for path, title, icon, first in PAGES], position="top"
    )
    with st.sidebar:
        from app_pages import common, sidebar

        refusal = sidebar.choose()
    if refusal:
        st.error(common.plain(refusal), icon=":material/block:")
        if page.url_path != "own_network":  # where weights that are missing may be brought
            return
    if notice := st.session_state["notice"]:
        st.info(common.plain(notice), icon=":material/info:")
    if stopped := st.session_state.pop("stopped", None):
        st.toast(f"Stopped: {common.plain(stopped)}. What was finished before is kept.", icon=":material/stop_circle:")
    page.run()


@asynccontextmanager
async def warm_up(server: object) -> AsyncIterator[None]:
    """Load the default network in a thread of its own, while the server goes on to start; then tidy up now and then."""
    from app_pages import common, housekeeping, journal, memory

    journal.begin()
    sys.setswitchinterval(SWITCH)
    if common.is_public():
        st.set_option("client.showErrorDetails", "none")  # not even the kind of an unforeseen error
    memory.use_few_arenas()
    if complaint := memory.complaint():
        print(complaint, file=sys.stderr)
    Thread(target=common.warm_up, name="warm-up", daemon=True).start()
    tidying = asyncio.create_task(housekeeping.keep_house())
    try:
        yield
    finally:
        tidying.cancel()


if __name__ == "__main__":
    main()
else:
    app = st.App(__file__, lifespan=warm_up, middleware=[Middleware(Gate)])
