"""Links, from friends and from strangers. U1 to U14 are rows of the list of bad inputs.

Held elsewhere: numbers that are none (U3), files and addresses in place of a name (U6), markup (U8), and a key given
twice or empty (U5) in test_app; the same link for somebody else in a browser (U9), and back and forward (U14) in
test_browser; what HTTP or the WebSocket alone show (U4, U7, U10 to U13) in test_server; clocks in test_faults.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import IDLE, WAIT, images, wait_until_idle
from playwright.sync_api import Browser, Page, expect
from test_app import as_markdown_shows, chosen, saying, visit
from visitor import Visitor

Person = Callable[..., Page]


# ---- names that are none ------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{"model": "does-not-exist"}, {"picture": "nowhere"}, {"class": "nothing"}])
def test_a_link_that_asks_for_what_is_not_there_shows_the_default_and_says_so(query: dict[str, str]) -> None:  # U1
    app = visit(**query)
    assert not app.exception
    saying(app, "The link")


@pytest.mark.parametrize(("model", "layer"), [("LeNet-5", "blocks.3"), ("EfficientNet-Lite0", "conv2")])
def test_a_layer_of_another_network_in_a_link_gives_way_to_one_that_is_there(model: str, layer: str) -> None:  # U2
    app = visit(model=model, layer=layer)
    assert f"asks for the layer “{layer}”, which is not here" in as_markdown_shows(saying(app, "The link asks"))
    app.switch_page("app_pages/layers.py").run()
    assert not app.exception
    assert not app.error
    assert chosen(app).model.title == model
    assert app.selectbox(key="layer").value in dict(chosen(app).model.net.named_modules())


def test_a_layer_of_another_network_in_a_link_to_the_evidence_is_said_too() -> None:  # U2
    app = visit(model="LeNet-5", evidence_layer="blocks.3")
    assert "asks for the layer “blocks.3”, which is not here" in as_markdown_shows(saying(app, "The link asks"))
    app.switch_page("app_pages/evidence.py").run()
    assert not app.exception
    assert app.selectbox(key="evidence_layer").value == chosen(app).model.layers["cam"]


def test_a_link_that_names_what_is_there_says_nothing() -> None:  # U1
    app = visit(model="LeNet-5", digit="Digit 7", layer="conv2", cam_layer="conv1")
    assert not app.info
    assert not app.exception


# ---- the same link, for others and again --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("", "picture=Coffee"),
        ("layers", "model=LeNet-5&digit=Digit+4&layer=conv2"),
        ("heatmaps", "picture=Rocket&methods=Grad-CAM&methods=LayerCAM&blend=0.3"),
        ("arithmetic", "model=LeNet-5&digit=Digit+7"),
    ],
)
def test_a_link_shows_everybody_the_same_pictures_to_the_last_bit(server: str, page: str, link: str) -> None:  # U9
    with Visitor(server) as mine, Visitor(server) as yours, Visitor(server) as other:
        seen = mine.visit(link, page).pictures()
        assert seen
        assert yours.visit(link, page).pictures() == seen
        assert other.visit("", page).pictures() != seen


def test_two_tabs_are_two_visits(server: str) -> None:  # U14
    with Visitor(server) as one, Visitor(server) as two:
        digit = one.visit("model=LeNet-5&digit=Digit+4").pictures()
        cat = two.visit().pictures()
        assert not set(digit) & set(cat)
        one.ask(one.query)
        assert one.until_drawn().pictures() == digit
        two.ask()
        assert two.until_drawn().pictures() == cat


# ---- in a browser -------------------------------------------------------------------------------------------


def test_a_path_that_leads_nowhere_says_so_and_shows_the_first_page(browser: Browser, server: str) -> None:  # U7
    page = browser.new_page(base_url=server)
    try:
        page.goto("/nowhere?page=../admin", timeout=WAIT)
        expect(page.get_by_text("Page not found")).to_be_visible(timeout=WAIT)
        expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible(timeout=WAIT)
    finally:
        page.close()


def test_a_page_reloaded_in_the_middle_of_its_work_begins_clean(person: Person) -> None:  # U14
    page = person(path="heatmaps?model=AlexNet&untrained=true&methods=Occlusion&window=16&stride=4")
    page.get_by_role("button", name="Compute Occlusion").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=WAIT)
    page.reload()
    page.wait_for_selector(IDLE, timeout=WAIT)
    wait_until_idle(page)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(images(page).first).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("button", name="Compute").first).to_be_visible()
