"""What the page on deployment, the Dockerfile and the settings say is so."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

import pytest
import streamlit as st
from streamlit import config

import app
from app_pages import common, gate, journal, line, memory
from models import checkpoints
from vizcore import archives, photos

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "deployment.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FOLDERS = ("app_pages", "models", "vizcore")
SOURCES = [ROOT / "app.py", *(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))]
NEEDED = ("app.py", "app_pages", "models", "vizcore", "requirements.txt", "LICENSE", ".streamlit/config.toml")


def test_every_switch_that_the_code_reads_is_explained_and_no_other() -> None:
    read = {name for path in SOURCES for name in re.findall(r"CNN_LENS_[A-Z_]+", path.read_text())}
    assert read == set(re.findall(r"^\| `(CNN_LENS_[A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert len(read) >= 3


def test_every_setting_of_streamlit_that_is_named_exists() -> None:
    known = {option.env_var for option in config._config_options_template.values()}
    named = set(re.findall(r"STREAMLIT_[A-Z_]+", PAGE + DOCKERFILE))
    assert named <= known
    assert len(named) >= 5


@pytest.mark.parametrize(
    "limit",
    [
        f"{photos.MAX_BYTES // 10**6} MB, {photos.MAX_PIXELS // 10**6} megapixels",
        f"a network's weights | {checkpoints.MOST_BYTES // 10**6} MB",
        f"{archives.MAX_ARCHIVE // archives.MEGABYTE} MB, {archives.MAX_ENTRIES:,} entries",
        f"{archives.MAX_PICTURES:,} pictures, {archives.MAX_UNPACKED // archives.MEGABYTE} MB unpacked",
        f"{gate.MOST_FILES} files and {gate.MOST_MB} MB; {gate.MOST_MB_WITH_NETWORKS} MB where networks",
        f"{line.MOST_OF_ONE} of one visit, {line.MOST_WAITING} of all",
        f"Of the {memory.DEFAULT_MB:,} MB, Python, torch and Streamlit take about {memory.PROGRAM_MB}, a costly run "
        f"up to {memory.LONG_MB} ({memory.LONG_OF_SMALL_MB} with a network of\nat most {memory.SMALL_MB} MB), "
        f"results of all visits {memory.RESULTS_SHARE * 100:.0f} %, the pictures drawn of them "
        f"{memory.PICTURES_SHARE * 100:.0f} %,",
        f"about {memory.for_networks(memory.DEFAULT_MB * memory.MB) // memory.MB // 10 * 10} MB, so that VGG-16",
        f"{2 * memory.PROGRAM_MB} is the least",
    ],
)
def test_every_limit_that_is_named_is_the_one_that_holds(limit: str) -> None:
    assert limit in PAGE


@pytest.mark.parametrize(("setting", "shown"), [("1", "none"), ("", "type")])
def test_who_is_in_public_is_shown_nothing_of_an_error(
    setting: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNN_LENS_PUBLIC", setting)
    for part, name in ((common, "warm_up"), (journal, "begin"), (memory, "use_few_arenas")):
        monkeypatch.setattr(part, name, lambda: None)  # what this process is not to be

    async def start() -> None:
        async with app.warm_up(None):
            assert st.get_option("client.showErrorDetails") == shown

    try:
        with ThreadPoolExecutor(1) as apart:  # this thread may have a loop already, that of the browser
            apart.submit(lambda: asyncio.run(start())).result()
    finally:
        st.set_option("client.showErrorDetails", "type")


def test_the_line_of_the_log_that_is_shown_has_the_fields_that_are_written() -> None:
    shown = set(re.findall(r'"(\w+)": ', PAGE))
    written = set(re.findall(r'^        "(\w+)": ', (ROOT / "app_pages" / "journal.py").read_text(), re.MULTILINE))
    assert shown == written


def test_the_container_gets_what_the_app_runs_on_and_nothing_else() -> None:
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().splitlines() if rule and not rule.startswith("#")]
    taken = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*", "what is not named stays out"
    assert taken == set(NEEDED)
    assert not any(fnmatch(".streamlit/secrets.toml", rule) for rule in taken)


def test_the_container_takes_its_versions_from_the_requirements_and_runs_without_root() -> None:
    (pattern,) = re.findall(r"grep -oE '(.+?)' requirements.txt", DOCKERFILE)
    found = re.findall(pattern, (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(found) == 2
    assert not re.findall(r"[a-z]==\d", DOCKERFILE)
    assert re.search(r"^USER lens$", DOCKERFILE, re.MULTILINE)
    assert "/_stcore/health" in DOCKERFILE
