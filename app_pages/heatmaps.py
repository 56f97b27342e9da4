"""Heatmaps: which regions speak for a class, by several methods, for several classes, on one scale."""

from contextlib import nullcontext, suppress
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app_pages import common, views
from app_pages.heatmap_cells import Known, Look, places_for, show_maps
from app_pages.occlusion_runs import Occlusion, words_of
from app_pages.parts import UNITS, Parts
from app_pages.pixelwise import Pixelwise, choose_view
from vizcore.cam import CAM_METHODS, cam, cam_grid
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, scale_of
from vizcore.images import Scale
from vizcore.occlusion import BASELINES, SCORES, Unfinished
from vizcore.records import Heatmap, LensError, Progress

here = common.chosen()
model = here.model
TITLES = {name: row.title for name, row in HEATMAP_METHODS.items()}
GRADIENT = 0.3  # of a forward pass: what the gradients for a class take at most, measured


@dataclass(frozen=True)
class Grid:
    """What the controls ask for: methods down, classes across. ``cells`` are those of the CAM methods."""

    methods: list[str]
    targets: list[int]
    layer: str
    occlusion: Occlusion
    pixelwise: Pixelwise
    parts: Parts

    @property
    def cells(self) -> list[tuple[str, int]]:
        return [(method, target) for method in self.methods if method != "occlusion" for target in self.targets]

    def key(self, method: str, target: int) -> tuple[object, ...]:
        if method in BY_PIXEL:
            return self.pixelwise.key(method, target)
        if method in views.PARTS_TITLES:
            return self.parts.key(method, target)
        return views.heat_key(here, method, target, self.layer)

    def is_quick(self, method: str) -> bool:
        if method in views.PARTS_TITLES:
            return False
        return self.pixelwise.is_quick(method) if method in BY_PIXEL else CAM_METHODS[method].needs != "passes"

    def passes(self, method: str) -> int:
        """Forward passes of a CAM method for one class."""
        channels = next(known.shape[0] for known in views.layers_of(here) if known.name == self.layer)
        return channels if CAM_METHODS[method].needs == "passes" else 1

    def missing(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """The cells that are not known yet: those that are computed at once, and those that wait for the button."""
        unknown = [cell for cell in self.cells if common.results().get(self.key(*cell)) is None]
        quick = [cell for cell in unknown if self.is_quick(cell[0])]
        if self.seconds_of(quick) > common.AT_ONCE:
            return [], unknown
        return quick, [cell for cell in unknown if cell not in quick]

    def to_estimate(self, quick: list[tuple[str, int]]) -> list[int]:
        """The classes whose occlusion is estimated at once, beside the ``quick`` cells."""
        targets = self.targets if "occlusion" in self.methods else []
        return self.occlusion.to_estimate(targets, besides=self.seconds_of(quick))

    def seconds_of(self, quick: list[tuple[str, int]]) -> float:
        """How long quick maps take on this machine, together."""
        by_pixel = [method for method, _ in quick if method in BY_PIXEL]
        targets = {target for method, target in quick if method in CAM_METHODS}
        together = (1 + GRADIENT * len(targets)) * views.seconds_a_pass(here) if targets else 0.0
        return together + sum(map(self.pixelwise.seconds, by_pixel))

    def price(self, method: str, classes: int) -> str:
        """Of a method that is not quick, for so many classes."""
        if method in BY_PIXEL:
            return self.pixelwise.price(method, classes)
        if method in views.PARTS_TITLES:
            return self.parts.price(method)
        passes = self.passes(method) * classes
        return common.price(passes, passes * views.seconds_a_pass(here))

    def known(self, method: str, target: int) -> Known:
        heat = self.compute(method, target)
        seconds = common.results().seconds(self.key(method, target))
        return Known(heat, f"{seconds:.2f} s" if seconds >= 0.005 else "less than 0.01 s")

    def compute(self, method: str, target: int, progress: Progress | None = None) -> Heatmap:
        """The map of any method but occlusion, known from now on."""
        if method in BY_PIXEL:
            return self.pixelwise.compute(method, target, progress)
        if method in views.PARTS_TITLES:
            return self.parts.compute(method, [target], progress)[0]
        return common.known(
            self.key(method, target),
            lambda: cam(here.model, here.view.pixels, target, method, self.layer, progress=progress),
            None if self.passes(method) == 1 else self.passes(method) * views.seconds_a_pass(here),
        )

    def compute_together(self, cells: list[tuple[str, int]]) -> None:
        """The CAM maps of ``cells`` that take about a pass, in one for all, known from now on; raises refusals."""

        def maps_of(unknown: list[tuple[str, int]]) -> list[Heatmap | LensError]:
            methods, targets = (list(dict.fromkeys(each)) for each in zip(*unknown, strict=True))
            found = cam_grid(here.model, here.view.pixels, targets, methods, self.layer)
            return [found[cell] for cell in unknown]

        if cells := [cell for cell in cells if cell[0] in CAM_METHODS]:
            common.known_each({cell: self.key(*cell) for cell in cells}, maps_of, self.seconds_of(cells))


def choose_methods() -> list[str]:
    by_region = st.pills(
        "Methods",
        list(views.METHOD_TITLES),
        selection_mode="multi",
        default=["grad_cam", "hires_cam"],
        format_func=views.METHOD_TITLES.__getitem__,
        key="methods",
        bind="query-params",
        help="Several may be chosen. Score-CAM, Ablation-CAM, super-pixels and RISE take many passes, and wait "
        "for a button; so does occlusion, which shows an estimate until then.",
    )
    by_pixel = st.pills(
        "Methods by pixel",
        list(views.PIXELWISE_TITLES),
        selection_mode="multi",
        format_func=views.PIXELWISE_TITLES.__getitem__,
        key="methods_by_pixel",
        bind="query-params",
        help="Gradients of the score by each pixel: finer than any layer's maps, and noisier. Integrated gradients and "
        "SmoothGrad take many passes, and wait for a button.",
    )
    return [*by_region, *by_pixel]


def choose_classes() -> list[int]:
    runner_up = next((int(k) for k in here.ranking if k != here.target), here.target)
    usual = [here.label(k) for k in dict.fromkeys((here.target, runner_up))]
    common.follow("classes", usual, model.labels)
    labels = st.multiselect(
        "Classes",
        list(model.labels),
        key="classes",
        bind="query-params",
        max_selections=views.MOST_CLASSES,
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


def choose_hiding(shown: bool) -> Occlusion:
    usual = Occlusion.usual(here)
    if not shown:
        return usual
    row = st.container(horizontal=True, vertical_alignment="bottom")
    sizes = {"min_value": 1, "max_value": min(model.input_size), "step": 1, "width": 150, "bind": "query-params"}
    return Occlusion(
        here,
        window=row.number_input(
            "Window",
            value=usual.window,
            key=f"window of {model.name}",
            help="Side of the hidden square, in pixels that the network sees.",
            **sizes,
        ),
        stride=row.number_input(
            "Stride",
            value=usual.stride,
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


def compute_quick(grid: Grid, cells: list[tuple[str, int]], to_estimate: list[int]) -> None:
    """What costs about a pass each; where that is a large net, with a bar."""
    slow = grid.seconds_of(cells) + grid.occlusion.seconds_to_estimate(to_estimate) > 0.5
    place = st.container()  # there without a bar as well: what stands below keeps its place from run to run
    with place, common.running("Computing the maps") if slow else nullcontext(lambda done, total: None) as progress:
        with suppress(LensError):  # its row says why
            grid.compute_together(cells)
        for done, cell in enumerate(cells, 1):
            with suppress(LensError):
                grid.compute(*cell)
            progress(done, len(cells) + len(to_estimate))
        with suppress(LensError):
            grid.occlusion.estimates(to_estimate)


def compute_row(grid: Grid, cells: list[tuple[str, int]]) -> None:
    """The price of a row that takes its time, and its computing when asked; then the page is drawn anew."""
    method = cells[0][0]
    title = TITLES[method]
    if not views.asked(f"Compute {title}", method, grid.price(method, len(cells))):
        return
    if method in views.PARTS_TITLES:
        with suppress(LensError), common.running(title, UNITS[method][1]) as progress:
            grid.parts.compute(method, [target for _, target in cells], progress)
        st.rerun()
    for number, (_, target) in enumerate(cells, 1):
        what = f"{title} of {common.plain(here.label(target))} ({number} of {len(cells)})"
        with suppress(LensError), common.running(what) as progress:  # the row says why
            grid.compute(method, target, progress)
    st.rerun()


def show_reading(method: str) -> None:
    row = HEATMAP_METHODS[method]
    with st.popover("How to read this", type="tertiary", icon=":material/help:", key=f"read {method}"):
        st.latex(row.formula)
        st.caption(row.symbols)
        st.markdown(f"{row.reading} **Weakness:** {row.weakness[0].lower()}{row.weakness[1:]}")
        if method == "occlusion":
            st.markdown(
                "The values are exact, and come fast because only what a window can change is computed again "
                "(Nakandala et al., 2019). While they come, a pixel is exact once every window over it was hidden; "
                "before that it shows the mean of those that were. The **estimate** at first takes the score for a "
                "straight line: it multiplies what hiding would change by the gradient. Good for a first look, and no "
                "more."
            )
        st.caption(row.reference)


def show_row(grid: Grid, method: str, waiting: list[tuple[str, int]], look: Look) -> None:
    """A method: its name, how to read it, its maps or the button that makes them."""
    head = st.container(horizontal=True, vertical_alignment="center")
    head.subheader(TITLES[method], anchor=False, width="content")
    with head:
        show_reading(method)
    try:
        if method == "occlusion":
            show_occlusion(grid, look)
        elif cells := [cell for cell in waiting if cell[0] == method]:
            compute_row(grid, cells)
        else:
            show_maps(here, [grid.known(method, target) for target in grid.targets], look)
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")


def show_occlusion(grid: Grid, look: Look) -> None:
    """The best that is known of each class; where a map is not exact yet, the button that makes it so."""
    question = grid.occlusion
    maps = [known for target in grid.targets if (known := question.best(target))]
    # What a run draws has places of its own: in the same ones, what stood there before would show through, pale.
    button, bar, live, place = st.empty(), st.container(), st.empty(), st.empty()
    if missing := question.missing(grid.targets):
        begun = any(question.stopped(target) for target in missing)
        label = "Compute all windows" if begun else "Compute Occlusion"
        if views.asked(label, "occlusion", question.price(), button):
            place.empty()
            with bar, suppress(LensError):  # said where the page is drawn anew
                hide_windows(grid, missing, look, live)
            st.rerun()
    if maps:
        with place.container():
            show_maps(here, maps, look)


def hide_windows(grid: Grid, missing: list[int], look: Look, live: DeltaGenerator) -> None:
    """The exact maps of the classes that miss theirs, in one run, drawn into ``live`` as they become known."""
    question = grid.occlusion
    with common.running("Occlusion", "windows") as progress:
        words = st.empty()
        words.caption("First it is worked out how far a window reaches in this network.")
        known = dict(zip(missing, question.estimates(missing), strict=True))
        known |= {target: exact for target in grid.targets if (exact := question.exact(target))}
        with live.container():
            draw = places_for(here, grid.targets, look)
        draw(known)

        def show(so_far: Unfinished) -> None:
            words.caption(common.plain(words_of(so_far)))
            draw(known | question.over_estimates(so_far))

        question.compute(missing, progress, common.sparing(show))


def scale_for_all(grid: Grid, waiting: list[tuple[str, int]]) -> Scale | None:
    """One scale for every map that is shown, or None where there is none."""
    heats = []
    for cell in grid.cells:
        if cell not in waiting:
            with suppress(LensError):  # its row says why
                heats.append(grid.compute(*cell))
    if "occlusion" in grid.methods:
        with suppress(LensError):
            heats += [known.heat for target in grid.targets if (known := grid.occlusion.best(target))]
    return scale_of(*heats) if heats else None


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
    help="How far the colours cover the photo. Methods by pixel stand alone: they cannot be read through one.",
    width=240,
)
with row:
    view = choose_view(not BY_PIXEL.keys().isdisjoint(methods))
grid = Grid(methods, targets, layer, choose_hiding("occlusion" in methods), Pixelwise(here, layer, view), Parts(here))

if not methods:
    st.info("Choose a method above to see its map.")
else:
    if "occlusion" in methods:
        common.wait_for_stopped()
    quick, waiting = grid.missing()
    compute_quick(grid, quick, grid.to_estimate(quick))
    look = Look(scaling, scale_for_all(grid, waiting) if scaling == "all" else None, blend)
    with st.container(width=420):
        if look.for_all:
            views.show_scale(look.for_all, "all maps, raw")
    for method in methods:
        with st.container():
            show_row(grid, method, waiting, look)
