"""The memory that the server may take: what it is for, who goes first, and what is refused."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from app_pages import memory
from app_pages.memory import MB
from app_pages.networks import Networks, NoRoom

ROOT = Path(__file__).resolve().parent.parent


class Net:
    pass


@dataclass(frozen=True, eq=False)
class Loaded:
    net: Net


def take(networks: Networks, name: str, size: int = 40) -> Loaded:
    return networks.get(name, name, size * MB, lambda: Loaded(Net()))


def test_the_parts_of_the_budget_add_up_to_it() -> None:
    whole = 3000 * MB
    shares = memory.for_results(whole) + memory.for_pictures(whole) + memory.for_networks(whole)
    assert shares + (memory.PROGRAM_MB + memory.LONG_MB) * MB == pytest.approx(whole, abs=MB)


def test_a_long_turn_needs_less_room_with_a_small_network_and_a_short_one_least() -> None:
    sizes = [memory.for_turn(network) // MB for network in (None, 0, 40 * MB, 40 * MB + 1)]
    assert sizes == [memory.SHORT_MB, memory.LONG_OF_SMALL_MB, memory.LONG_OF_SMALL_MB, memory.LONG_MB]


def test_by_default_a_server_of_2_gb_holds_the_largest_network_of_the_catalogue() -> None:
    from models import list_models

    largest = 4 * max(card.parameters for card in list_models())
    assert memory.for_networks(memory.DEFAULT_MB * MB) >= largest


@pytest.mark.parametrize(
    ("setting", "expected"), [("3000", 3000), ("", 1800), ("much", 1800), ("-5", 1800), ("12", 1800)]
)
def test_the_environment_says_how_much(setting: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_LENS_MEMORY_MB", setting)
    assert memory.budget() == expected * MB
    assert ("must be a whole number" in memory.complaint()) == (setting not in ("3000", ""))


def test_after_the_start_the_garbage_collector_has_next_to_nothing_to_look_at() -> None:
    lines = (
        "import gc",
        "from app_pages import common",
        "common.warm_up()",
        "print(gc.get_freeze_count(), len(gc.get_objects()))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    frozen, left = map(int, done.stdout.split())
    assert frozen > 200_000  # objects: torch and Streamlit
    assert left < 0.01 * frozen


def test_a_network_is_loaded_once_and_kept() -> None:
    networks = Networks(100 * MB)
    assert take(networks, "a") is take(networks, "a")


def test_eight_who_ask_at_once_get_one() -> None:
    networks, loads, got = Networks(100 * MB), [], []

    def load() -> Loaded:
        time.sleep(0.1)
        loads.append(1)
        return Loaded(Net())

    threads = [threading.Thread(target=lambda: got.append(networks.get("a", "a", MB, load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(set(map(id, got))) == 1


def test_the_least_recently_used_goes_first() -> None:
    networks = Networks(100 * MB)
    first, second = id(take(networks, "a")), id(take(networks, "b"))
    take(networks, "a")
    take(networks, "c")
    assert id(take(networks, "a")) == first
    assert networks.held() == 80 * MB
    assert id(take(networks, "b")) != second or networks.held() == 80 * MB


def test_what_a_visit_still_holds_counts_and_another_is_refused_until_it_lets_go() -> None:
    networks = Networks(100 * MB)
    mine = [take(networks, "a", 70)]
    with pytest.raises(NoRoom, match=r"b takes 60 MB.*others look at now take 70 of the 100 MB"):
        take(networks, "b", 60)
    mine.clear()
    gc.collect()
    take(networks, "b", 60)
    assert networks.held() == 60 * MB


def test_one_that_somebody_holds_is_found_again_after_another_was_refused() -> None:
    networks = Networks(100 * MB)
    mine = take(networks, "a", 70)
    for size in (60, 500):
        with pytest.raises(NoRoom):
            take(networks, "b", size)
        assert networks.find("a") is mine
        assert take(networks, "a", 70) is mine
    assert networks.held() == 70 * MB


def test_let_go_of_are_those_that_nobody_holds() -> None:
    networks = Networks(100 * MB)
    mine, _ = take(networks, "mine"), take(networks, "nobody's").net.__class__
    networks.let_go()
    gc.collect()
    assert networks.find("nobody's") is None
    assert networks.find("mine") is mine
    assert networks.held() == 40 * MB


def test_one_that_never_fits_is_refused_with_what_to_do() -> None:
    with pytest.raises(NoRoom, match=r"a takes 500 MB; this server has 100 MB.*CNN_LENS_MEMORY_MB"):
        take(Networks(100 * MB), "a", 500)


def test_networks_that_visits_brought_count_as_well() -> None:
    networks, brought = Networks(100 * MB), Loaded(Net())
    networks.take_in(brought, "mine", 80 * MB)
    with pytest.raises(NoRoom):
        networks.take_in(Loaded(Net()), "yours", 30 * MB)
    del brought
    gc.collect()
    networks.take_in(Loaded(Net()), "yours", 30 * MB)


def test_a_load_that_fails_leaves_no_trace() -> None:
    networks = Networks(100 * MB)
    with pytest.raises(OSError, match="gone"):
        networks.get("a", "a", MB, lambda: (_ for _ in ()).throw(OSError("gone")))
    assert networks.held() == 0
    take(networks, "a")


def test_what_the_process_takes_is_read_and_given_back() -> None:
    lines = (  # apart from this process, which has freed memory to take from
        "import numpy as np",
        "from app_pages import memory",
        "before = memory.resident()",
        "block = np.ones(100 * memory.MB // 8)",
        "taken = memory.resident()",
        "del block",
        "memory.give_back()",
        "print(before, taken, memory.resident())",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    before, taken, after = map(int, done.stdout.split())
    assert before > 10 * MB
    assert taken - before > 80 * MB
    assert after - before < 40 * MB
