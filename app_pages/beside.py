"""The other side of a comparison: another network, another picture or another layer beside what the sidebar says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from app_pages import common, views
from app_pages.explained import Explained
from app_pages.sidebar import OWN, UPLOAD_TYPES, Picture, inverted, picture_in, picture_of
from models import Card, list_models
from models.samples import list_samples
from vizcore.agreement import Agreement, agreement, shared_part
from vizcore.images import Box, Photo
from vizcore.records import BadImage


@dataclass(frozen=True)
class Side:
    """One half of the page: ``name`` is "left" or "right"."""

    name: str
    explained: Explained

    @property
    def here(self) -> common.Chosen:
        return self.explained.here


def networks_beside(here: common.Chosen) -> dict[str, Card]:
    """By name, the networks whose weights are at hand and that of this visit, but for the one looked at; those of the
    same classes first, then those that see as many colours."""
    cards = {card.name: card for card in list_models() if card.ready()}
    if own := common.brought():
        cards[own.card.name] = own.card
    if here.loaded.weights is not None:  # beside random weights stand the trained ones
        cards.pop(here.loaded.name, None)
    classes = next((card.classes for card in list_models() if card.name == here.loaded.name), "")
    colours = len(here.loaded.mean)
    return dict(sorted(cards.items(), key=lambda card: (card[1].classes != classes, len(card[1].mean) != colours)))


def by_network(here: common.Chosen, name: str) -> common.Chosen:
    """The same photo as the network called ``name`` sees it. Raises the LensError that says why it does not."""
    model = common.model_named(name)
    view, scores = common.scores_of(model, Photo(here.photo, here.digest))
    target = class_beside(here, model.labels, scores)
    return replace(
        here,
        loaded=model,
        view=view,
        scores=scores,
        chances=common.chances_of(scores),
        target=target,
        loaded_by=None,
    )


def class_beside(here: common.Chosen, labels: Sequence[str], scores: np.ndarray) -> int:
    """The class of the same name in ``labels``, the only one or at the same place; else that of the highest score."""
    name = here.label(here.target)
    if here.target < len(labels) and labels[here.target] == name:  # of ImageNet's classes two are called "crane"
        return here.target
    return list(labels).index(name) if name in labels else int(np.argmax(scores))


def by_picture(here: common.Chosen, picture: Picture) -> common.Chosen:
    """What the same network sees in another picture, and says of the same class."""
    view, scores = common.scores_of(here.loaded, picture.photo)
    return replace(
        here,
        photo=picture.photo.pixels,
        digest=picture.photo.digest,
        title=picture.title,
        origin=picture.origin,
        imports=picture.imports,
        view=view,
        scores=scores,
        chances=common.chances_of(scores),
    )


def choose_picture(here: common.Chosen) -> Picture | None:
    """A sample of the kind that the network was trained on, or a photo of one's own; None before there is one."""
    grey = len(here.model.mean) == 1
    samples = {sample.key: sample for sample in list_samples() if sample.grey == grey and sample.title != here.title}
    key = st.selectbox(
        "Picture on the right",
        [*samples, OWN],
        format_func=lambda key: samples[key].title if key in samples else key,
        key="compare_picture",
        bind="query-params",
    )
    picture = picture_of(samples[key]) if key in samples else _brought()
    turned = grey and st.session_state.get("inverted")  # as the sidebar turns the other
    return inverted(picture) if picture and turned else picture


def _brought() -> Picture | None:
    """The picture uploaded here, for this visit; a refusal is said, and the one before it stays."""
    most = common.most_mb("photo")
    file = st.file_uploader("Photo on the right", UPLOAD_TYPES, key="compare_upload", max_upload_size=most)
    before: Picture | None = st.session_state.get("compared")
    if file is None:
        return before
    try:
        picture = st.session_state["compared"] = picture_in(file, file.name, before)
    except BadImage as refusal:
        st.error(common.plain(str(refusal)), icon=":material/block:")
        return before
    for note in picture.photo.notes:
        st.caption(common.plain(note))
    return picture


def agreement_of(left: Side, right: Side) -> Agreement:
    """How far the maps of two sides of one photo agree, over the part of it that both networks see."""
    maps = {side.name: side.explained.in_place() for side in (left, right)}
    boxes = {side.name: _box_of(side) for side in (left, right)}
    parts = shared_part(maps, boxes)
    return agreement(parts, next(iter(parts.values())).shape)  # type: ignore[arg-type]


def _box_of(side: Side) -> Box:
    """Where the map lies in the photo at the size of the page, which is the same on both sides."""
    return views.shown(side.here)[1]
