"""Several people at one server: each sees their own pictures, and nothing that was asked for is lost.

The short form of `make load`, and the truths that its measuring stands on.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.load import shapes
from benchmarks.load.answers import CLOSE, OwnPhoto, Page, Verdict, chosen, judge, judge_all, right_picture
from benchmarks.load.client import Client
from benchmarks.load.person import MIX, PAUSE, Deed, Person
from benchmarks.load.server import Server, running_server

NET = "EfficientNet-Lite0"
SEEN = "The pixels that the network received"
PEOPLE = 5
STAY = 20.0  # seconds


# ---- five people at the real server ----------------------------------------------------------------------


@pytest.mark.slow
def test_five_people_see_their_own_pictures_and_nothing_is_lost(tmp_path: Path) -> None:
    # In a thread of its own: the browser tests leave a running event loop in this one.
    with running_server(tmp_path) as server, ThreadPoolExecutor(1) as crowd_thread:
        steady, same, computations, uploads = crowd_thread.submit(asyncio.run, five_people(server)).result()
        complaints = server.complaints()

    with ThreadPoolExecutor(1) as judges:
        verdict = judge_all([page for crowd in (steady, same, uploads) for page in crowd.pages], judges)
    assert verdict.wrong == ()
    assert verdict.compared > 100
    assert computations == 1
    for crowd in (steady, same, uploads):
        assert crowd.unaccounted() == []
        assert crowd.journal
        assert {line["outcome"] for line in crowd.journal} <= set(shapes.ENDINGS)
    assert same.outcomes() == Counter(done=PEOPLE)
    assert uploads.outcomes() == Counter(done=PEOPLE)
    assert complaints == []


async def five_people(server: Server) -> tuple[shapes.Crowd, shapes.Crowd, int, shapes.Crowd]:
    steady = await shapes.steady(server, PEOPLE, STAY, first=100)
    same, computations = await shapes.everyone_runs(server, PEOPLE, 200, ["tiger cat", "velvet"])
    uploads = await shapes.everyone_uploads(server, PEOPLE, 300)
    return steady, same, computations, uploads


# ---- the judge -------------------------------------------------------------------------------------------


def heatmaps(photo: OwnPhoto, of: OwnPhoto, label: str = "velvet") -> Page:
    """A page that says it shows ``photo``, drawn from ``of``."""
    layer = chosen(NET, of).model.layers["cam"]
    right = f"Grad-CAM of {label} laid over {of.title}"
    data = right_picture(chosen(NET, of), right, layer, (right,))
    assert data is not None
    return Page(1, photo, NET, layer, ((f"Grad-CAM of velvet laid over {photo.title}", data),))


def test_the_judge_accepts_the_right_picture_as_png_and_as_jpeg() -> None:
    photo = OwnPhoto.of(1, 1)
    page = heatmaps(photo, photo)
    ((alt, data),) = page.pictures
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "JPEG", quality=90)
    assert judge(page) == Verdict(1)
    assert judge(Page(1, photo, NET, page.layer, ((alt, file.getvalue()),))) == Verdict(1)


def test_the_judge_finds_another_persons_picture() -> None:
    mine, theirs = OwnPhoto.of(1, 1), OwnPhoto.of(2, 1)
    assert len(judge(heatmaps(mine, theirs)).wrong) == 1
    seen = right_picture(chosen(NET, theirs), SEEN, "", (SEEN,))
    assert seen is not None
    assert len(judge(Page(1, mine, NET, "", ((SEEN, seen),))).wrong) == 1


def test_the_judge_finds_the_map_of_another_class_and_the_title_of_another_photo() -> None:
    mine, before = OwnPhoto.of(1, 2), OwnPhoto.of(1, 1)
    assert len(judge(heatmaps(mine, mine, label="goldfish")).wrong) == 1
    right = heatmaps(mine, mine)
    ((_, data),) = right.pictures
    page = Page(1, mine, NET, right.layer, ((f"Grad-CAM of velvet laid over {before.title}", data),))
    assert len(judge(page).wrong) == 1


def test_no_two_people_have_photos_that_the_judge_could_take_for_one_another() -> None:
    pixels = [np.array(Image.open(io.BytesIO(OwnPhoto.of(person, 1).data)), float) for person in range(45)]
    assert min(np.abs(one - other).mean() for one, other in combinations(pixels, 2)) > 20 * CLOSE


# ---- the client ------------------------------------------------------------------------------------------


def run(client: Client, name: str, *texts: str, finished: bool = True) -> None:
    """The messages of a run that draws these texts, one below the other."""
    begins = ForwardMsg()
    begins.new_session.name = "app"
    begins.metadata.run.script_run_id = name
    client._take(begins)
    for place, text in enumerate(texts):
        draws = ForwardMsg()
        draws.metadata.delta_path.extend([0, place])
        draws.delta.new_element.heading.tag = "h1"
        draws.delta.new_element.heading.body = text
        client._take(draws)
    if finished:
        ends = ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY)
        ends.metadata.run.script_run_id = name
        client._take(ends)


def test_what_a_run_did_not_draw_again_is_gone_when_it_has_finished() -> None:
    client = Client("http://localhost:1")
    run(client, "first", "Layers", "Channel 3")
    run(client, "second", "Heatmaps", finished=False)
    assert [head.body for head in client._of("heading")] == ["Channel 3", "Heatmaps"]
    run(client, "third", "Heatmaps")
    assert [head.body for head in client._of("heading")] == ["Heatmaps"]


# ---- what people do, and how it is counted ---------------------------------------------------------------


def test_the_mix_is_a_hundred_and_pauses_lie_between_their_bounds() -> None:
    person = Person(1, Client("http://localhost:1"), OwnPhoto.of(1, 1))
    pauses = [person.pause() for _ in range(500)]
    assert sum(MIX.values()) == 100
    assert min(pauses) >= PAUSE[0]
    assert max(pauses) <= PAUSE[1]
    assert np.median(pauses) == pytest.approx(6.0, rel=0.1)  # the geometric middle of 3 and 12


def test_equal_waits_are_fair_and_one_who_waits_for_all_is_not() -> None:
    assert shapes.jain([2.0, 2.0, 2.0, 2.0]) == pytest.approx(1)
    assert shapes.jain([8.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 4)
    assert shapes.jain([0.0, 0.0]) == 1  # nobody waited


def test_waits_are_compared_with_those_of_others_for_the_same() -> None:
    def deeds(**seconds: float) -> list[Deed]:
        return [Deed(what, "done", float(value)) for what, value in seconds.items()]

    even = [deeds(look=1, run=60), deeds(look=1), deeds(run=60), []]  # who asks for more waits for more
    assert shapes.relative_waits(even) == pytest.approx([1, 1, 1])
    assert shapes.relative_waits([deeds(look=1), deeds(look=3)]) == pytest.approx([0.5, 1.5])
    given_up = [Deed("look", "cancelled", 100.0)]
    assert shapes.relative_waits([given_up, deeds(look=2)]) == pytest.approx([1])
