"""Report: pictures, maps and evidence in one file to take away, and the way back from such a file into the app."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, replace

import streamlit as st

from app_pages import common, reopening, views
from app_pages.pixelwise import VIEW
from models import list_models
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS
from vizcore.photos import Photo
from vizcore.records import VIEWS, LensError
from vizcore.report import EVIDENCE, MOST_MAPS, Wish, gather, needs_layer, passes_to_gather
from vizcore.report_file import to_html
from vizcore.scripts import Origin

here = common.chosen()
model = here.model

METHODS = {name: row.title for name, row in HEATMAP_METHODS.items()}
EVIDENCE_TITLES = {"removal": "Remove pixels", "randomisation": "Randomise weights", "agreement": "Other methods"}
HEIGHT = 700  # pixels of the page shown


@dataclass(frozen=True)
class Made:
    """A finished ``page``, and what its reader should beware of."""

    page: bytes
    cautions: tuple[str, ...]


def choose() -> Wish:
    methods = st.pills(
        "Methods",
        list(METHODS),
        selection_mode="multi",
        default=["grad_cam", "hires_cam"],
        format_func=METHODS.__getitem__,
        key="report_methods",
        bind="query-params",
    )
    left, middle, right, last = st.columns((3, 3, 2, 1))
    with left:
        labels = st.multiselect(
            "Classes besides",
            [label for k, label in enumerate(model.labels) if k != here.target],
            key="report_classes",
            bind="query-params",
            max_selections=views.MOST_CLASSES - 1,
            placeholder="none",
            help=f"Beside {here.label(here.target)}, which the sidebar says. Evidence is gathered for that one only.",
        )
    with middle:
        layers = [layer.name for layer in views.layers_of(here)]
        layer = st.selectbox(
            "Layer of the CAM methods",
            layers,
            index=layers.index(model.layers["cam"]),
            key="report_layer",
            bind="query-params",
        )
    with right:
        view = st.segmented_control(
            "Numbers by pixel", VIEWS, default=VIEW, required=True, key="report_view", bind="query-params"
        )
    with last:
        seed = st.number_input(
            "Seed",
            0,
            reopening.MOST_SEED,
            0,
            key="report_seed",
            bind="query-params",
            help="Of all that is drawn by chance: controls, noise, masks, random weights.",
        )
    evidence = st.pills(
        "Evidence for each map",
        EVIDENCE,
        selection_mode="multi",
        default=["removal"],
        format_func=EVIDENCE_TITLES.__getitem__,
        key="report_evidence",
        bind="query-params",
        help="The questions of the page Evidence. Removing pixels blurs them; randomising asks for each map 22 times.",
    )
    others = dict.fromkeys(model.labels.index(label) for label in labels if label in model.labels)
    asked = tuple(one for one in EVIDENCE if one in evidence)
    wish = Wish((here.target, *others), tuple(methods), layer, view, asked, int(seed))
    return wish if needs_layer(wish) else replace(wish, layer=None)


def make(wish: Wish) -> Made | None:
    """The report of a wish: the one that is known, or behind its price and a button a new one."""
    key = ("report", here.model.title, here.digest, here.title, here.origin, wish)
    if found := common.recall(key):
        return found  # type: ignore[no-any-return]
    passes = passes_to_gather(model, wish)
    copy = sum(tensor.nbytes for tensor in here.loaded.net.parameters()) if "randomisation" in wish.evidence else 0
    seconds = passes * views.seconds_a_pass(here)
    if not views.asked("Make the report", "report", common.price(passes, seconds, bound=True, besides=copy)):
        return None
    origin = Origin(here.loaded_by or common.call_of(here.model), here.origin, here.imports)

    def gathered() -> Made:
        photo = Photo(here.photo, here.digest)
        found = gather(here.model, photo, wish, title=here.title, origin=origin, progress=progress)
        return Made(to_html(found, made=f"Made on {datetime.date.today()}."), (*found.cautions, *found.refused))

    with common.running("The report", "passes") as progress:
        common.known(key, gathered, seconds, common.room_for(seconds) + copy)
    st.rerun()


def show(made: Made) -> None:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{model.name}-{here.title}").strip("-").lower()[:80]
    row = st.container(horizontal=True, vertical_alignment="center")
    row.download_button(
        "Download the report",
        made.page,
        f"{stem}-report.html",
        "text/html",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
    )
    row.caption(f"{len(made.page) / 1e6:.1f} MB, one file: it opens in any browser without a network, and here again.")
    if made.cautions:
        st.markdown("**Beware**, as the report says:")
        st.markdown("\n".join(f"- {common.plain(sentence)}" for sentence in made.cautions))
    if st.toggle("Look at it here", key="look_at_report"):
        st.iframe(made.page.decode(), height=HEIGHT)


def show_command(wish: Wish) -> None:
    """The same from a command line, where the network is one that it knows by name."""
    if here.model.name not in {card.name for card in list_models()}:
        return
    options = [f"--model {here.model.name}", *(["--untrained"] if here.model.weights is None else [])]
    options += [f"--class {target}" for target in wish.targets]
    options += [f"--methods {','.join(wish.methods)}", *([f"--layer {wish.layer}"] if wish.layer else [])]
    options += [f"--view {wish.view}"] if not BY_PIXEL.keys().isdisjoint(wish.methods) else []
    options += [f"--evidence {','.join(wish.evidence) or 'none'}", f"--seed {wish.seed}"]
    with st.popover("From the command line", type="tertiary", icon=":material/terminal:"):
        st.code(f"python -m vizcore report PHOTO {' '.join(options)} -o report.html", wrap_lines=True)


st.title("Report", anchor=False)
st.markdown(
    "The picture, what the network says, its maps in colours and in words, the evidence for them and what to beware "
    "of, in one file."
)
common.warn_untrained(here)
reopening.offer()
wish = choose()
if not wish.methods:
    st.info("Choose a method: a report has one map at least.", icon=":material/info:")
elif len(wish.methods) * len(wish.targets) > MOST_MAPS:
    st.info(f"A report has {MOST_MAPS} maps at most: fewer methods or classes, please.", icon=":material/info:")
else:
    try:
        show_command(wish)
        if made := make(wish):
            show(made)
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
