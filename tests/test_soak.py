"""Eight threads, three networks, every method, in any order, some stopped in the middle: answers as from one thread.

Fifteen seconds of it here; `SOAK_SECONDS=3600 python -m pytest tests/test_soak.py` for a night.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import nets
import numpy as np
import torch
from test_contract import IN_BATCHES, METHODS, Cancelled, allowed, fresh, unchanged

from app_pages import memory

SECONDS = float(os.environ.get("SOAK_SECONDS", "15"))
NETS = ("gap", "branching", "photonet")
PICTURES = 3
GROWTH = 100 * memory.MB  # more would be a leak; caches of torch and of the C library are filled by then


def test_eight_threads_in_any_order_give_the_answers_of_one_for_as_long_as_it_takes() -> None:  # P15
    cases = {name: fresh(name) for name in NETS}
    pixels = {
        name: [nets.picture(seed, case.size, torch.float32) for seed in range(PICTURES)] for name, case in cases.items()
    }
    jobs = [(name, method, k) for name in NETS for method in METHODS if allowed(name, method) for k in range(PICTURES)]
    expected = {(name, method, k): METHODS[method](cases[name], pixels[name][k]) for name, method, k in jobs}
    threads, until, taken = threading.active_count(), time.monotonic() + SECONDS, []

    def work(seed: int) -> Counter[str]:
        """Any jobs one after another; a mistake ends all."""
        dice, done = random.Random(seed), Counter[str]()
        while time.monotonic() < until and len(taken) < 10**6:
            name, method, k = dice.choice(jobs)
            if method in IN_BATCHES and dice.random() < 0.3:
                done[_stopped(name, method, pixels[name][k], dice.randrange(4))] += 1
                continue
            found = METHODS[method](cases[name], pixels[name][k])
            np.testing.assert_allclose(
                found, expected[name, method, k], rtol=1e-4, atol=1e-6, err_msg=f"{name} {method}"
            )
            done["answered"] += 1
            if seed == 0:
                taken.append(memory.resident())
        return done

    def _stopped(name: str, method: str, picture: torch.Tensor, steps: int) -> str:
        def cancel(done: int, total: int) -> None:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise Cancelled

        try:
            METHODS[method](cases[name], picture, progress=cancel, batch_size=2)
        except Cancelled:
            return "stopped"
        return "ended before it was stopped"

    with ExitStack() as models, ThreadPoolExecutor(8) as workers:
        for case in cases.values():
            models.enter_context(unchanged(case.model))
        outcomes = sum(workers.map(work, range(8)), Counter[str]())
    assert outcomes["answered"] > 100
    assert outcomes["stopped"] > 10
    assert threading.active_count() == threads
    assert taken[-1] - taken[len(taken) // 3] < GROWTH
