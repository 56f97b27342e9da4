"""The sidebar: which network, which picture, which class. Chosen once, it holds on every page and lives in the URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app_pages import common
from models import Card, list_models
from vizcore.images import Photo, to_png

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from models.samples import Sample

UPLOAD_TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]
TOP = "the top class"
OWN = "A photo of your own"  # to compare with
LAYERS = ("layer", "cam_layer", "evidence_layer", "compare_layer", "report_layer", "set_layer")  # what links call them
GROUPS = ("package", "shipped", "loader", "hub", "untrained")  # of the models, in the order in which they are offered


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo and where it came from: ``origin`` is the Python expression that reads its pixels again, ``file`` is
    Streamlit's name for what was uploaded."""

    photo: Photo
    title: str
    origin: str
    imports: tuple[str, ...]
    file: str | None = None


def choose() -> str | None:
    """Draw the sidebar and keep what it says in ``st.session_state["chosen"]``; or the sentence why nothing can be."""
    from vizcore.records import LensError

    st.title("CNN Lens", anchor=False)
    st.session_state["notice"] = None
    asked = {} if "arrived" in st.session_state else st.query_params.to_dict()
    st.session_state["arrived"] = True
    card = _choose_card()
    try:
        model = _load(card)
        picture = _invert(_choose_picture(card), card)
        before: common.Chosen | None = st.session_state.get("chosen")
        if before and before.loaded is model and before.digest == picture.photo.digest:
            view, scores = before.view, before.scores
        else:
            view, scores = common.scores_of(model, picture.photo)
    except LensError as refusal:
        st.session_state.pop("chosen", None)
        return str(refusal)
    target = _choose_class(model, scores)
    _say_what_is_missing(asked, model)
    st.session_state["chosen"] = common.Chosen(
        loaded=model,
        photo=picture.photo.pixels,
        digest=picture.photo.digest,
        title=picture.title,
        origin=picture.origin,
        imports=picture.imports,
        view=view,
        scores=scores,
        chances=common.chances_of(scores),
        target=target,
    )
    return None


def _choose_card() -> Card:
    cards = {card.name: card for card in sorted(list_models(), key=lambda card: GROUPS.index(card.origin))}
    if own := common.brought():
        cards = {own.card.name: own.card} | cards
    if name := st.session_state.pop("model to be", None):  # a page made a network the current one
        st.session_state["model"] = name
    name = st.selectbox(
        "Model",
        list(cards),
        format_func=lambda name: cards[name].title,
        key="model",
        bind="query-params",
        help="The network that looks at the picture. Those that bring their weights come first, then those whose "
        "weights are fetched once, then those that nobody has trained. Type to search.",
    )
    card = cards[name]
    if own and card is own.card:
        st.caption(f"{card.classes} · {card.parameters:,} parameters · yours, for this visit")
        return card
    missing = "" if card.ready() else " · untrained" if card.origin == "untrained" else " · weights not here"
    st.caption(f"{card.classes} · {card.parameters:,} parameters · {card.year}{missing}")
    return card


def _say_what_is_missing(asked: dict[str, str], model: Any) -> None:
    """A link may ask for what is not here, or no longer: the default is shown, and that is said."""
    from models.samples import list_samples

    samples = [sample.title for sample in list_samples()]
    there = {"model": [known.title for known in list_models()], "picture": samples, "digit": samples}
    there["class"] = [TOP, *model.labels]
    if "compare_model" in asked:
        own = [own.card.title] if (own := common.brought()) else []
        there["compare_model"] = own + [known.title for known in list_models() if known.ready()]
    there["compare_picture"] = [*samples, OWN]
    if any(what in asked for what in LAYERS):
        layers = common.layers_of(model.name, model.weights is None)
        with_maps = [layer.name for layer in layers if len(layer.shape) == 3]
        for what in LAYERS:
            there[what] = with_maps
    for what, names in there.items():
        if what in asked and asked[what] not in names:
            st.session_state["notice"] = (
                f"The link asks for the {what.split('_')[-1]} “{asked[what][:80]}”, which is not here. Another "
                "one is shown."
            )


def _load(card: Card) -> object:
    """The net of the card; where its weights are nowhere to be had, the structure alone is offered."""
    from vizcore.records import BadWeights

    own = common.brought()
    if own and card is own.card:
        return own.model
    if card.origin == "untrained":  # no file of weights to offer: the page says what the structure is worth
        return common.model_named(card.name, True)
    refusal = ""
    if card.ready():
        try:
            return common.model_named(card.name)
        except BadWeights as damaged:
            refusal = str(damaged)
    if st.toggle(
        "Random weights (untrained)",
        key="untrained",
        bind="query-params",
        help="Shows the structure of the network. Its answers mean nothing.",
    ):
        return common.model_named(card.name, True)
    size = f"about {card.parameters * 4 / 1e6:,.0f} MB"
    fetchable = card.origin == "loader"
    if fetchable and st.button("Fetch the weights", icon=":material/download:", help=f"{size}, kept for next time."):
        from models.fetching import fetch

        with common.running(f"Fetching {card.title}") as progress:
            fetch(card, progress)
        return common.model_named(card.name)
    if not refusal:
        fetch_them = f"Fetch them ({size}) with the button on the left, or put" if fetchable else "Put"
        refusal = (
            f"The weights of {card.title} are not on this machine. {fetch_them} the file {card.file} into the folder "
            f"{card.folder}."
        )
    raise BadWeights(f"{refusal} Or switch on “Random weights (untrained)” to look at the structure.")


def _choose_picture(card: Card) -> Picture:
    if "pending" in st.session_state:  # a page made a picture the current one
        picked = st.session_state["picked"] = st.session_state.pop("pending")
        st.session_state["source"] = "Picked"
        st.toast(f"{common.plain(picked.title)} is now the current picture.", icon=":material/check:")
    grey = len(card.mean) == 1
    sources = ["Samples", "Upload", "Camera"] + ["Draw"] * grey + ["Picked"] * ("picked" in st.session_state)
    if st.session_state.get("source", "Samples") not in sources:
        st.session_state["source"] = "Samples"  # no drawing for a net of photos
    source = st.segmented_control(
        "Picture", sources, default="Samples", required=True, key="source", bind="query-params", width="stretch"
    )
    st.session_state.setdefault("own", {})
    if source == "Upload":
        most = common.most_mb("photo")
        file = st.file_uploader("Photo", UPLOAD_TYPES, key="upload", max_upload_size=most, label_visibility="collapsed")
        _take(source, file, file.name if file else "")
    elif source == "Camera":
        shot = st.camera_input("Photo", key="camera", label_visibility="collapsed")
        _take(source, shot, "camera.jpg")
        if shot:
            st.download_button("Save the photo", shot.getvalue(), "camera.jpg", shot.type, on_click="ignore")
    elif source == "Draw":
        _draw()
    elif source == "Picked":
        st.caption(common.plain(f"Picked: {st.session_state['picked'].title}"))
        return st.session_state["picked"]
    own = st.session_state["own"].get(source)
    if own:
        return own
    if source != "Samples":
        st.session_state["notice"] = (
            "No picture of your own yet, and a link or a reload does not carry one: a sample is shown."
        )
    return _choose_sample(grey, others=source != "Samples")


def _choose_sample(grey: bool, others: bool) -> Picture:
    from models.samples import list_samples

    samples = {sample.key: sample for sample in list_samples() if sample.grey == grey}
    key = st.selectbox(
        "Until then, the sample" if others else "Sample",
        list(samples),
        format_func=lambda key: samples[key].title,
        key="digit" if grey else "picture",
        bind="query-params",
        label_visibility="visible" if others else "collapsed",
    )
    st.caption(common.plain(samples[key].credit))
    return picture_of(samples[key])


def picture_of(sample: Sample) -> Picture:
    return Picture(
        common.photo_from(sample.read()),
        sample.title,
        f"read_image(read_sample({sample.key!r}))",
        ("from models.samples import read_sample", "from vizcore.images import read_image"),
    )


def picture_in(file: UploadedFile, name: str, before: Picture | None) -> Picture:
    """The photo in an uploaded file called ``name``, where it is not that of ``before``. Raises BadImage."""
    # The visit holds its photo anyway; among thirty, those of others have taken its place in the results by now.
    photo = before.photo if before and before.file == file.file_id else common.photo_from(file.getvalue())
    return Picture(
        photo,
        name,
        f"open_photo({name!r}, max_side={common.PHOTO_SIDE}).pixels",
        ("from vizcore.images import open_photo",),
        file.file_id,
    )


def _take(source: str, file: UploadedFile | None, name: str) -> None:
    """Keep an uploaded or photographed picture for the visit; a refusal is said here and the last picture stays."""
    from vizcore.records import BadImage

    if file is None:
        return
    before: Picture | None = st.session_state["own"].get(source)
    try:
        picture = picture_in(file, name, before)
    except BadImage as refusal:
        st.error(common.plain(str(refusal)), icon=":material/block:")
        st.session_state["notice"] = f"{name} could not be read; the picture before it is still shown."
        return
    for note in picture.photo.notes:
        st.caption(common.plain(note))
    st.session_state["own"][source] = picture


def _draw() -> None:
    """A blackboard for a digit: white on black, as the net was trained."""
    try:
        from streamlit_drawable_canvas import st_canvas
    except ImportError:
        st.info("Drawing needs the package streamlit-drawable-canvas: pip install streamlit-drawable-canvas")
        return
    drawing = st_canvas(
        stroke_width=20,
        stroke_color="#ffffff",
        background_color="#000000",
        height=252,
        width=252,
        drawing_mode="freedraw",
        return_image_data=True,
        key="canvas",
    )
    if drawing is None or drawing.image_data is None or not np.any(drawing.image_data[..., :3]):
        st.caption("Draw a digit, large and in the middle.")
        st.session_state["own"].pop("Draw", None)
        return
    photo = Photo.of(drawing.image_data[..., :3].astype(np.uint8))
    st.download_button("Save the drawing", to_png(photo.pixels), "drawing.png", "image/png", on_click="ignore")
    st.session_state["own"]["Draw"] = Picture(
        photo, "your drawing", "read_image('drawing.png')", ("from vizcore.images import read_image",)
    )


def _invert(picture: Picture, card: Card) -> Picture:
    """MNIST is white ink on black; a photo of paper is the other way round, and only a person can tell."""
    if len(card.mean) != 1 or not st.toggle(
        "Dark ink on light paper",
        key="inverted",
        bind="query-params",
        help="LeNet-5 has seen white digits on black only. This turns the picture around before the network sees it.",
    ):
        return picture
    return inverted(picture)


def inverted(picture: Picture) -> Picture:
    photo = Photo.of(255 - picture.photo.pixels)
    return Picture(photo, f"{picture.title}, inverted", f"255 - {picture.origin}", picture.imports)


def _choose_class(model: object, scores: np.ndarray) -> int:
    labels = list(model.labels)  # type: ignore[attr-defined]
    top = int(np.argmax(scores))
    if (wanted := st.session_state.pop("class to be", None)) in labels:  # a page made a class the current one
        st.session_state["class"] = wanted
    chosen = st.selectbox(
        "Class",
        [TOP, *labels],
        key="class",
        bind="query-params",
        help="The class that the heatmaps explain. Type to search.",
    )
    if chosen not in (TOP, None):
        return labels.index(chosen)
    st.caption(common.plain(f"It is {labels[top]}."))
    return top
