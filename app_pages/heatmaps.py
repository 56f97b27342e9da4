"""Heatmaps: which regions speak for a class, by several methods, for several classes, on one scale."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

import streamlit as st

from app_pages import common, takeaway, views
from vizcore.cam import CAM_METHODS, cam
from vizcore.images import Scale
from vizcore.occlusion import BASELINES, SCORES, count_windows, occlusion
from vizcore.records import Heatmap, LensError, Progress

here = common.chosen()
model = here.model
FAINT = 0.05  # of a scale: hardly to be seen
AT_ONCE = 3.0  # seconds of computing that need no button


@dataclass(frozen=True)
class Hiding:
    """The options of occlusion, as `vizcore.occlusion.occlusion` takes them."""

    window: int
    stride: int
    baseline: str
    score: str


@dataclass(frozen=True)
class Grid:
    """What the controls ask for: methods down, classes across."""

    methods: list[str]
    targets: list[int]
    layer: str
    hiding: Hiding

    @property
    def cells(self) -> list[tuple[str, int]]:
        return [(method, target) for method in self.methods for target in self.targets]

    def key(self, method: str, target: int) -> tuple[object, ...]:
        if method == "occlusion":
            return views.heat_key(here, method, target, None, *asdict(self.hiding).values())
        return views.heat_key(here, method, target, self.layer)

    def passes(self, method: str) -> int:
        """Forward passes of a method for one class."""
        if method == "occlusion":
            return count_windows(model.input_size, self.hiding.window, self.hiding.stride)
        channels = next(known.shape[0] for known in views.layers_of(here) if known.name == self.layer)
        return channels if CAM_METHODS[method].needs == "passes" else 1

    def missing(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """The cells that are not known yet: those that are computed at once, and those that wait for the button."""
        unknown = [cell for cell in self.cells if common.results().get(self.key(*cell)) is None]
        quick = [cell for cell in unknown if self.passes(cell[0]) == 1]
        # A gradient method takes up to 1.3 passes.
        if 1.3 * len(quick) * views.seconds_a_pass(here) > AT_ONCE:
            return [], unknown
        return quick, [cell for cell in unknown if cell not in quick]

    def compute(self, method: str, target: int, progress: Progress | None = None) -> Heatmap:
        """The map, known from now on."""

        def run() -> Heatmap:
            if method == "occlusion":
                return self.compute_occlusion(target, progress)
            return cam(model, here.view.pixels, target, method, self.layer, progress=progress)

        return common.known(self.key(method, target), run)

    def compute_occlusion(self, target: int, progress: Progress | None) -> Heatmap:
        place, calls = st.empty(), [0]

        def show(so_far: Heatmap) -> None:
            calls[0] += 1
            if calls[0] % 4 == 1:  # a picture costs as much as a pass or two
                place.image(views.laid(here, so_far), width=360, alt="The map so far")

        options = asdict(self.hiding)
        try:
            return occlusion(model, here.view.pixels, target, **options, progress=progress, partial=show)
        finally:
            place.empty()


def choose_methods() -> list[str]:
    return st.pills(
        "Methods",
        list(views.METHOD_TITLES),
        selection_mode="multi",
        default=["grad_cam", "hires_cam"],
        format_func=views.METHOD_TITLES.__getitem__,
        key="methods",
        bind="query-params",
        help="Several may be chosen. Score-CAM, Ablation-CAM and occlusion take many passes, and wait for a button.",
    )


def choose_classes() -> list[int]:
    runner_up = next((int(k) for k in here.ranking if k != here.target), here.target)
    usual = [here.label(k) for k in dict.fromkeys((here.target, runner_up))]
    common.follow("classes", usual, model.labels)
    labels = st.multiselect(
        "Classes",
        list(model.labels),
        key="classes",
        bind="query-params",
        max_selections=6,
        placeholder=", ".join(usual),  # a step back in the browser leaves nothing chosen
        help="Type to search. Where none is chosen: the class of the sidebar, and its strongest rival.",
    )
    return [model.labels.index(label) for label in labels or usual]


def choose_layer() -> str:
    layers = {layer.name: layer for layer in views.layers_of(here)}
    advised = model.layers["cam"]
    layer = st.selectbox(
        "Layer of the CAM methods",
        list(layers),
        index=list(layers).index(advised),
        key="cam_layer",
        bind="query-params",
        help="Advised: the last maps before they are averaged away or flattened. They know most about classes, and "
        "still where. Earlier layers are sharper and know less.",
    )
    advice = "advised" if layer == advised else f"advised is {advised}, {layers[advised].size}"
    st.caption(common.plain(f"{layers[layer].size} ({advice})"))
    return layer


def choose_hiding(shown: bool) -> Hiding:
    shorter = min(model.input_size)
    window, stride = max(2, shorter // 7), max(1, shorter // 14)  # 32 and 16 of 224
    if not shown:
        return Hiding(window, stride, "mean", "logit")
    row = st.container(horizontal=True, vertical_alignment="bottom")
    sizes = {"min_value": 1, "max_value": shorter, "step": 1, "width": 150, "persist_state": "session"}
    return Hiding(
        window=row.number_input(
            "Window",
            value=window,
            key=f"window of {model.name}",
            help="Side of the hidden square, in pixels that the network sees.",
            **sizes,
        ),
        stride=row.number_input(
            "Stride",
            value=stride,
            key=f"stride of {model.name}",
            help="Step from one place of the square to the next, in pixels that the network sees.",
            **sizes,
        ),
        baseline=row.segmented_control(
            "Hidden behind",
            BASELINES,
            default="mean",
            required=True,
            format_func=lambda name: "mean colour" if name == "mean" else name,
            key="baseline",
            bind="query-params",
        ),
        score=row.segmented_control("Score", SCORES, default="logit", required=True, key="score", bind="query-params"),
    )


def compute_quick(grid: Grid, cells: list[tuple[str, int]]) -> None:
    """What costs about a pass each; where that is a large net, with a bar."""
    if len(cells) * views.seconds_a_pass(here) < 0.5:
        return  # each row computes its own
    with common.running("Computing the maps") as progress:
        for done, cell in enumerate(cells, 1):
            with suppress(LensError):  # its row says why
                grid.compute(*cell)
            progress(done, len(cells))


def compute_row(grid: Grid, cells: list[tuple[str, int]]) -> None:
    """The price of a row that takes its time, and its computing when asked; then the page is drawn anew."""
    (method, _), passes = cells[0], sum(grid.passes(method) for method, _ in cells)
    title = views.METHOD_TITLES[method]
    place = st.empty()
    line = place.container(horizontal=True, vertical_alignment="center")
    asked = line.button(f"Compute {title}", type="primary", icon=":material/play_arrow:", key=f"compute {method}")
    line.caption(f"{common.price(passes, passes * views.seconds_a_pass(here))}.")
    if not asked:
        return
    place.empty()
    for number, (_, target) in enumerate(cells, 1):
        what = f"{title} of {common.plain(here.label(target))} ({number} of {len(cells)})"
        with suppress(LensError), common.running(what) as progress:  # the row says why
            grid.compute(method, target, progress)
    st.rerun()


def show_reading(method: str) -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:", key=f"read {method}"):
        if method == "occlusion":
            st.latex(r"\text{drop} = s(x) - s(x \text{ with the window hidden})")
            st.markdown(
                "Each pixel shows the mean drop of the windows that cover it, in units of the score. Red: hiding it "
                "lowers the score, so it speaks for the class; blue: against it. **Weakness:** a hidden square is "
                "itself something that the network never saw, and evidence that stands in two places does not show."
            )
            st.caption("Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014")
            return
        row = CAM_METHODS[method]
        st.latex(row.formula)
        st.caption("A: the layer's maps, c: channel, s: the logit of the class, x: the picture.")
        st.markdown(f"{row.reading} **Weakness:** {row.weakness[0].lower()}{row.weakness[1:]}")
        st.caption(row.reference)


def show_row(
    grid: Grid, method: str, waiting: list[tuple[str, int]], scaling: str, for_all: Scale | None, blend: float
) -> None:
    head = st.container(horizontal=True, vertical_alignment="center")
    head.subheader(views.METHOD_TITLES[method], anchor=False, width="content")
    with head:
        show_reading(method)
    if cells := [cell for cell in waiting if cell[0] == method]:
        compute_row(grid, cells)
        return
    try:
        heats = [grid.compute(method, target) for target in grid.targets]
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    for_row = Scale.of(*heats)
    for place, heat in zip(st.columns(max(2, len(heats)), gap="small"), heats, strict=False):
        scale = {"each": Scale.of(heat), "row": for_row}.get(scaling, for_all or for_row)
        with place:
            show_cell(grid, heat, scale, blend, with_scale=scaling == "each")
    if scaling == "row":
        with st.container(width=420):
            views.show_scale(for_row, takeaway.unit_of(heats[0]))


def show_cell(grid: Grid, heat: Heatmap, scale: Scale, blend: float, *, with_scale: bool) -> None:
    label = here.label(heat.target)
    st.markdown(f"{common.plain(label)} · {100 * float(here.chances[heat.target]):.1f} %")
    title = views.METHOD_TITLES[heat.method]
    st.image(views.laid(here, heat, scale, blend), width="stretch", alt=f"{title} of {label} laid over {here.title}")
    if with_scale:
        views.show_scale(scale, takeaway.unit_of(heat))
    size = " × ".join(map(str, heat.values.shape))
    facts = (
        f"{heat.layer}, {size}" if heat.layer else f"{size} pixels",
        f"{common.results().seconds(grid.key(heat.method, heat.target)):.2f} s",
        f"sum of evidence {views.number(float(heat.values.sum()))}",
        f"score {views.number(heat.score)}",
    )
    st.caption(common.plain(" · ".join(facts)))
    for note in (*heat.notes, *remarks(heat, scale)):
        st.caption(common.plain(note))
    takeaway.offer_heatmap(here, heat, scale, blend)


def remarks(heat: Heatmap, scale: Scale) -> Iterator[str]:
    if heat.method == "eigen_cam":
        yield "Eigen-CAM does not know the class: this map is the same for each."
    if 0 < float(abs(heat.values).max()) < FAINT * scale.high:
        yield f"Faint: less than {FAINT:.0%} of this scale. Choose “one for each method” to see it."


def scale_for_all(grid: Grid, waiting: list[tuple[str, int]]) -> Scale | None:
    """One scale for every map that is known, or None where there is none."""
    heats = []
    for cell in grid.cells:
        if cell not in waiting:
            with suppress(LensError):  # its row says why
                heats.append(grid.compute(*cell))
    return Scale.of(*heats) if heats else None


st.title("Heatmaps", anchor=False)
common.warn_untrained(here)
methods = choose_methods()
left, right = st.columns(2)
with left:
    targets = choose_classes()
with right:
    layer = choose_layer()
row = st.container(horizontal=True, gap="large", vertical_alignment="bottom")
scaling = row.segmented_control(
    "Colour scale",
    ["row", "all", "each"],
    default="row",
    required=True,
    format_func={"row": "one for each method", "all": "one for all", "each": "each its own"}.__getitem__,
    key="scaling",
    bind="query-params",
    help="On one scale a rejected class looks faint. Methods have different units: one scale for all of them "
    "compares only methods of one unit.",
)
blend = row.slider(
    "Blend",
    0.0,
    1.0,
    0.6,
    0.05,
    key="blend",
    bind="query-params",
    help="How far the colours cover the photo.",
    width=240,
)
grid = Grid(methods, targets, layer, choose_hiding("occlusion" in methods))

if not methods:
    st.info("Choose a method above to see its map.")
else:
    quick, waiting = grid.missing()
    compute_quick(grid, quick)
    for_all = scale_for_all(grid, waiting) if scaling == "all" else None
    if for_all:
        with st.container(width=420):
            views.show_scale(for_all, "all maps, raw")
    for method in methods:
        show_row(grid, method, waiting, scaling, for_all, blend)
