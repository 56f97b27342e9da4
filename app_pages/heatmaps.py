"""Heatmaps: which regions speak for a class, by several methods, for several classes, on one scale."""

import streamlit as st

from app_pages import common, takeaway, views
from vizcore.cam import CAM_METHODS, cam
from vizcore.images import Scale, overlay, to_jpeg
from vizcore.occlusion import BASELINES, SCORES, count_windows, occlusion
from vizcore.records import Heatmap, LensError

here = common.chosen()
model = here.model
SIGNED = "Red speaks for the class, blue against it."
TITLES = {**{name: method.title for name, method in CAM_METHODS.items()}, "occlusion": "Occlusion"}


def choose_methods() -> list[str]:
    return st.pills(
        "Methods",
        list(TITLES),
        selection_mode="multi",
        default=["grad_cam", "layer_cam"],
        format_func=TITLES.get,
        key="methods",
        bind="query-params",
        help="Several may be chosen. Score-CAM, Ablation-CAM and occlusion take many passes, and start from a button.",
    )


def choose_classes() -> list[int]:
    ranking = here.ranking
    runner_up = int(ranking[1] if ranking[0] == here.target else ranking[0]) if len(ranking) > 1 else here.target
    common.follow("classes", [here.label(k) for k in dict.fromkeys((here.target, runner_up))])
    labels = st.multiselect(
        "Classes",
        list(model.labels),
        key="classes",
        bind="query-params",
        max_selections=6,
        help="Type to search. At first: the class of the sidebar, and its strongest rival.",
    )
    return [model.labels.index(label) for label in labels]


def choose_layer() -> str:
    layers = {layer.name: layer for layer in views.layers_of(here)}
    default = model.layers["cam"]
    return st.selectbox(
        "Layer of the CAM methods",
        list(layers),
        index=list(layers).index(default),
        format_func=lambda name: f"{name}   {layers[name].size}" + ("   (advised)" if name == default else ""),
        key="cam_layer",
        bind="query-params",
        help="Advised: the last maps before they are averaged away or flattened. They know most about classes, and still "
        "where. Earlier layers are sharper and know less.",
    )


def choose_occlusion() -> dict[str, object]:
    """Window, stride, baseline and score of the occlusion row."""
    shorter = min(model.input_size)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    window = row.number_input(
        "Window",
        1,
        shorter,
        max(2, shorter // 5),
        key=f"window {model.name}",
        help="Side of the hidden square, in pixels that the network sees.",
        width=140,
    )
    stride = row.number_input(
        "Stride",
        1,
        shorter,
        max(1, shorter // 10),
        key=f"stride {model.name}",
        help="Step from one place of the square to the next, in pixels.",
        width=140,
    )
    baseline = row.segmented_control(
        "Hidden behind",
        BASELINES,
        default="mean",
        required=True,
        key="baseline",
        bind="query-params",
        format_func={"mean": "mean colour", "black": "black", "white": "white", "blur": "blur"}.get,
    )
    score = row.segmented_control("Score", SCORES, default="logit", required=True, key="score", bind="query-params")
    return {"window": int(window), "stride": int(stride), "baseline": baseline, "score": score}


def key_of(method: str, target: int, layer: str, options: dict[str, object]) -> tuple[object, ...]:
    if method == "occlusion":
        return views.heat_key(here, method, target, None, *options.values())
    return views.heat_key(here, method, target, layer)


def passes_of(method: str, layer: str, options: dict[str, object]) -> int:
    if method == "occlusion":
        return count_windows(model.input_size, options["window"], options["stride"])
    return next(known for known in views.layers_of(here) if known.name == layer).shape[0]


def is_costly(method: str) -> bool:
    return method == "occlusion" or CAM_METHODS[method].needs == "passes"


def compute_costly(missing: list[tuple[str, int]], layer: str, options: dict[str, object]) -> None:
    """Show the price of what takes many passes, and compute it when asked."""
    passes = sum(passes_of(method, layer, options) for method, _ in missing)
    names = ", ".join(dict.fromkeys(TITLES[method] for method, _ in missing))
    cost = common.price(passes, passes * views.seconds_a_pass(here))
    place = st.empty()
    row = place.container(horizontal=True, vertical_alignment="center")
    asked = row.button(f"Compute {names}", type="primary", icon=":material/play_arrow:", key="compute")
    row.caption(f"{cost}, eight pictures at a time.")
    if not asked:
        return
    place.empty()
    for number, (method, target) in enumerate(missing, 1):
        what = f"{TITLES[method]} of {common.plain(here.label(target))} ({number} of {len(missing)})"
        with common.running(what) as progress:
            compute(method, target, layer, options, progress)


def compute(method: str, target: int, layer: str, options: dict[str, object], progress: object) -> None:
    key = key_of(method, target, layer, options)
    if method != "occlusion":
        common.known(key, lambda: cam(model, here.view.pixels, target, method, layer, progress=progress))
        return
    so_far = st.empty()
    shown = [0]

    def show(heat: Heatmap) -> None:
        shown[0] += 1
        if shown[0] % 4 == 1:
            so_far.image(to_jpeg(overlay(here.photo, heat, here.view.box)), width=360, alt="The map so far")

    try:
        common.known(
            key, lambda: occlusion(model, here.view.pixels, target, **options, progress=progress, partial=show)
        )
    finally:
        so_far.empty()


def show_reading(method: str) -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:", key=f"read {method}"):
        if method == "occlusion":
            st.latex(r"\text{drop} = s(x) - s(x \text{ with the window hidden})")
            st.markdown(
                "Each pixel shows the mean drop of the windows that cover it, in units of the score. "
                f"{SIGNED} **Weakness:** a hidden square is itself something that the network never saw, and "
                "evidence that is doubled elsewhere in the picture does not show."
            )
            st.caption("Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014")
            return
        row = CAM_METHODS[method]
        st.latex(row.formula)
        st.markdown(f"{row.reading} **Weakness:** {row.weakness[0].lower()}{row.weakness[1:]}")
        st.caption(row.reference)


def show_row(
    method: str,
    targets: list[int],
    layer: str,
    options: dict[str, object],
    scaling: str,
    blend: float,
    shared: Scale | None,
) -> None:
    head = st.container(horizontal=True, vertical_alignment="center")
    head.subheader(TITLES[method], anchor=False, width="content")
    with head:
        show_reading(method)
    heats: dict[int, Heatmap] = {}
    for target in targets:
        try:
            heat = find(method, target, layer, options)
        except LensError as refusal:
            st.info(common.plain(str(refusal)), icon=":material/block:")
            return
        if heat is None:
            st.caption("Not computed yet: the button above starts it.")
            return
        heats[target] = heat
    row_scale = Scale.of(*heats.values())
    for place, (target, heat) in zip(st.columns(len(targets), gap="small"), heats.items(), strict=True):
        scale = {"each": Scale.of(heat), "row": row_scale, "all": shared or row_scale}[scaling]
        with place:
            show_cell(method, target, heat, scale, layer, options, blend, scaling)
    if scaling == "row":
        with st.container(width=420):
            views.show_scale(row_scale, unit_of(method, options))


def show_cell(
    method: str,
    target: int,
    heat: Heatmap,
    scale: Scale,
    layer: str,
    options: dict[str, object],
    blend: float,
    scaling: str,
) -> None:
    label = here.label(target)
    st.markdown(f"{common.plain(label)} · {100 * float(here.chances[target]):.1f} %")
    picture = overlay(here.photo, heat, here.view.box, scale=scale, alpha=blend)
    st.image(to_jpeg(picture), width="stretch", alt=f"{TITLES[method]} of {label} laid over the photo")
    if scaling == "each":
        views.show_scale(scale, unit_of(method, options))
    size = " × ".join(map(str, heat.values.shape))
    where = f"{heat.layer}, {size}" if heat.layer else f"{size} pixels"
    seconds = common.results().seconds(key_of(method, target, layer, options))
    st.caption(
        common.plain(
            f"{where} · {seconds:.2f} s · sum of evidence {views.number(float(heat.values.sum()))} · score {views.number(heat.score)}"
        )
    )
    for note in heat.notes:
        st.caption(common.plain(note))
    takeaway.offer_heatmap(
        here, heat, picture, scale, unit_of(method, options), options if method == "occlusion" else {}
    )


def find(method: str, target: int, layer: str, options: dict[str, object]) -> Heatmap | None:
    """The map where it is known, or cheap; None where it waits for the button."""
    if is_costly(method):
        return common.results().get(key_of(method, target, layer, options))
    return views.heat_of(here, method, target, layer)


def unit_of(method: str, options: dict[str, object]) -> str:
    if method == "occlusion":
        return "drop of the logit" if options["score"] == "logit" else "drop of the probability"
    return f"{TITLES[method]}, raw"


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
    key="scaling",
    format_func={"row": "one for each method", "all": "one for all", "each": "each its own"}.get,
    bind="query-params",
    help="On one scale a rejected class looks faint. Methods have different units, so one scale for all of them is for methods of one unit.",
)
blend = row.slider(
    "Blend",
    0.0,
    1.0,
    0.6,
    0.05,
    key="blend",
    bind="query-params",
    help="How much of the photo the colours cover.",
    width=240,
)
options = choose_occlusion() if "occlusion" in methods else {}

if not methods:
    st.info("Choose a method above to see its map.")
elif not targets:
    st.info("Choose a class above to see the evidence for it.")
else:
    missing = [
        (method, target)
        for method in methods
        for target in targets
        if is_costly(method) and find(method, target, layer, options) is None
    ]
    if missing:
        compute_costly(missing, layer, options)
    shared = None
    if scaling == "all":
        heats = []
        for method in methods:
            for target in targets:
                try:
                    heats.append(find(method, target, layer, options))
                except LensError:
                    continue
        found = [heat for heat in heats if heat is not None]
        shared = Scale.of(*found) if found else None
        if shared:
            with st.container(width=420):
                views.show_scale(shared, "all maps")
    for method in methods:
        show_row(method, targets, layer, options, scaling, blend, shared)
