"""Hide: what the network answers when a part of the picture is hidden, by hand and by the fewest cells."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from app_pages import before_after, common, painting, takeaway, views
from app_pages.before_after import chance, percent
from vizcore.baselines import BASELINES
from vizcore.hiding import CELLS, CellGrid, Hiding, SmallestHiding, covered, hide, smallest_hiding
from vizcore.images import View, to_jpeg, to_png
from vizcore.incremental import Variants
from vizcore.records import LensError, Progress

here = common.chosen()
model = here.model
size = (here.view.pixels.shape[2], here.view.pixels.shape[3])
grid = CellGrid(size, min(CELLS, *size))
count = grid.count**2
BEHIND = {"mean": "its mean colour", "black": "black", "white": "white", "blur": "a blur of itself"}
PAINT, SMALLEST = "paint", "smallest"
SHOWN_APART = 11  # steps that stand side by side; of more, one is shown at a time


@dataclass(frozen=True, eq=False)
class Kept:
    """The maps of a picture, ready for any part of it to be hidden; ``nbytes`` with the packed numbers of the net."""

    variants: Variants
    nbytes: int


def key_of_variants() -> tuple[object, ...]:
    return ("variants", model.title, here.digest)


def variants() -> Variants:
    def make() -> Kept:
        made = Variants(model, here.view.pixels)
        middle = (grid.count // 2, grid.count // 2)
        hide(model, here.view.pixels, grid.mask([middle]), variants=made)  # a first time takes longer than all others
        return Kept(made, made.nbytes)

    return common.known(key_of_variants(), make).variants


def name(target: int) -> str:
    return common.plain(here.label(target))


# -- pictures ----------------------------------------------------------------------------------------------------------


def picture_without(mask: np.ndarray) -> np.ndarray:
    """What the net is shown with ``mask`` (H, W) hidden, uint8."""
    pixels = covered(here.view.pixels, mask, baseline)
    return views.as_seen(replace(here, view=View(pixels, here.view.box)))


def as_file(picture: np.ndarray) -> bytes:
    return to_png(picture) if max(grid.size) < 64 else to_jpeg(picture)


# -- by hand ---------------------------------------------------------------------------------------------------------


@st.fragment
def show_painting() -> None:
    paint = painting.painting_of(here)
    left, middle, right = st.columns([440, 400, 220], gap="medium")
    with left:
        show_tools(paint)
    mask = paint.now.mask(grid)
    try:
        kept = variants()
        with common.turn([("hide", model.title, here.digest, mask.tobytes())]):
            common.make_room(common.room_for(0))
            start = time.perf_counter()
            found = hide(model, here.view.pixels, mask, baseline=baseline, variants=kept)
            seconds = time.perf_counter() - start
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    before, after = found.whole_chances, found.chances[0]
    with middle:
        show_change(before, after, hidden=bool(mask.any()))
        before_after.show(here, before, after)
    with right:
        show_seen(found, seconds)


def show_tools(paint: painting.Painting) -> None:
    """What to hide with, and the picture to hide it on."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    tool = row.segmented_control(
        "Hide with",
        ["brush", "cells"],
        default="brush",
        required=True,
        format_func={"brush": "Brush", "cells": "Cells"}.__getitem__,
        key="hide_with",
        bind="query-params",
        help="The brush paints freely. In the grid a click hides a cell, and a second click shows it again.",
    )
    width = 12
    if tool == "brush":
        width = row.slider(
            "Brush",
            2,
            40,
            width,
            format="%d %%",
            key="brush",
            persist_state="session",
            width=150,
            help="How wide a stroke is, in % of the side of the picture.",
        )
    painting.board(here, paint, grid, tool, width / 100)
    row = st.container(horizontal=True)
    row.button("Undo", icon=":material/undo:", on_click=paint.undo, disabled=not paint.before, key="undo the paint")
    row.button(
        "Clear", icon=":material/delete:", on_click=paint.clear, disabled=paint.now.is_empty, key="clear the paint"
    )
    st.caption("Paint over what the network is not to see." if tool == "brush" else "Click the cells to be hidden.")


def show_change(before: np.ndarray, after: np.ndarray, *, hidden: bool) -> None:
    """The answer, and what became of it, in words."""
    was, now = int(before.argmax()), int(after.argmax())
    if not hidden:
        st.markdown(f"**{name(was)}**, {chance(before[was])}. Nothing is hidden yet.")
    elif was == now:
        st.markdown(f"Still **{name(was)}**: {chance(before[was])} → {chance(after[was])}.")
    else:
        st.markdown(f"Now **{name(now)}**, {chance(after[now])}; it was {name(was)}, {chance(before[was])}.")


def show_seen(found: Hiding, seconds: float) -> None:
    """The picture that the network was shown, how much of it is hidden, what it took, and the files."""
    mask = found.mask[0]
    seen = picture_without(mask)
    share = percent(float(found.shares[0]))
    views.show_picture(as_file(seen), f"What the network was shown: {share} of the picture is hidden")
    st.caption(f"What the network was shown. **{share}** of the picture is hidden.")
    st.caption(f"Answered in {seconds:.2f} s{saved(mask)}." if mask.any() else "Each stroke is answered as it ends.")
    st.caption(f"Hidden behind {BEHIND[baseline]}. None is neutral: to a network a patch is an object as well.")
    # Offered from the beginning: the browser would fetch its parts with the first stroke, and keep the classes waiting.
    paint = painting.painting_of(here).now
    takeaway.offer(here, "hidden", found, lambda: to_png(seen), *python_of(paint))


def saved(mask: np.ndarray) -> str:
    """What was not computed, because the paint cannot change it."""
    from vizcore.hiding import region_of

    kept = variants()
    if not kept.whole_work:
        return ""
    return f", with {percent(max(0.0, 1 - kept.work(region_of(mask[None])) / kept.whole_work))} of the work saved"


def python_of(paint: painting.Paint) -> tuple[tuple[str, ...], str]:
    """The imports and the lines that hide the same: cells by place, strokes by the mask in the file of numbers."""
    if paint.strokes:
        imports: tuple[str, ...] = ("import numpy as np",)
        file = f"{model.name.replace('_', '-')}-hidden.npz"
        mask = f'mask = np.load("{file}")["mask"]  # the strokes: the file of numbers, put beside this one'
    else:
        imports = ()
        mask = f"mask = CellGrid({grid.size}, {grid.count}).mask({list(paint.cells)})"
    lines = (
        mask,
        f"hidden = hide(model, view.pixels, mask, baseline={baseline!r})  # .logits (1, K)",
        f"seen = covered(view.pixels, mask, {baseline!r})[0]  # (3, h, w) in [0, 1]",
        'open("hidden.png", "wb").write(to_png((seen.permute(1, 2, 0) * 255).round().byte().numpy()))',
    )
    functions = "CellGrid, covered, hide" if not imports else "covered, hide"
    return (*imports, f"from vizcore.hiding import {functions}", "from vizcore.images import to_png"), "\n".join(lines)


# -- the smallest hiding ---------------------------------------------------------------------------------------------


def key_of_smallest() -> tuple[object, ...]:
    return ("smallest hiding", model.title, here.digest, baseline)


def show_smallest() -> None:
    st.markdown(
        f"The fewest cells of a {grid.count} × {grid.count} grid whose hiding changes the answer, "
        f"**{name(int(here.ranking[0]))}**, looked for step by step: each step hides the one cell that brings the "
        "answer nearest to its strongest rival."
    )
    try:
        found = common.recall(key_of_smallest()) or search()
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    if found:
        show_result(found)


def search() -> SmallestHiding | None:
    """The price, and the search when it is asked for; then the page is drawn anew."""
    place = st.empty()
    row = place.container(horizontal=True, vertical_alignment="center")
    asked = row.button("Find the smallest hiding", type="primary", icon=":material/play_arrow:", key="find_smallest")
    row.caption(price())
    if not asked:
        return None
    place.empty()
    with common.running("Until the answer changes, at the longest", "tries") as progress:
        common.known(key_of_smallest(), lambda: find(progress), most_seconds())
    st.rerun()


def find(progress: Progress) -> SmallestHiding:
    place, kept = st.empty(), common.recall(key_of_variants())

    def show(so_far: SmallestHiding) -> None:
        with place.container(width=336):
            st.image(painting.address(picture_without(so_far.mask())), width="stretch", alt="The picture so far")
            steps = common.counted(so_far.steps, ("step", "steps"))
            st.caption(f"After {steps}: {caption_of(so_far, so_far.steps)}")

    try:
        return smallest_hiding(
            model,
            here.view.pixels,
            cells=grid.count,
            baseline=baseline,
            variants=kept.variants if kept else None,  # none that the search itself cannot let go
            progress=progress,
            partial=show,
        )
    finally:
        place.empty()


def price() -> str:
    """Of a step, and of all that there can be."""
    return (
        f"A step: {common.price(passes_a_step(), passes_a_step() * views.seconds_a_pass(here))}. It ends with the "
        f"first change, after {count} steps and about {common.duration(most_seconds())} at the latest."
    )


def passes_a_step() -> int:
    kept = common.recall(key_of_variants())
    share = 1.0
    if kept and kept.variants.whole_work:
        share = kept.variants.work(grid.region) / (count * kept.variants.whole_work)
    return round(2 + share * count)


def most_seconds() -> float:
    """Of all steps; each has fewer cells to try than the one before."""
    return count * passes_a_step() * views.seconds_a_pass(here) / 2


def caption_of(found: SmallestHiding, step: int) -> str:
    """The answer after a step."""
    answer = int(found.answers[step])
    words = f"**{name(answer)}**, {chance(found.chances[step][answer])}"
    if answer != found.target:
        words += f" ({name(found.target)}: {chance(found.chances[step][found.target])})"
    return words


def show_result(found: SmallestHiding) -> None:
    st.subheader(sentence_of(found), anchor=False)
    greedy = "Greedy: each step hides what looks best at that moment, so fewer cells may exist that do it too."
    if found.changed:
        greedy += f" But each of these is needed: were it shown again, {name(found.target)} would be the answer again."
    st.caption(greedy)
    st.caption(f"{common.results().seconds(key_of_smallest()):.1f} s. Hidden behind {BEHIND[baseline]}.")
    if found.steps <= SHOWN_APART:
        places = st.grid(5, min_column_width=150)
        for step in range(found.steps + 1):
            with places.cell():
                show_step(found, step)
    else:
        step = st.slider("Step", 0, found.steps, found.steps, key=f"step of {here.digest} {baseline}")
        with st.container(width=360):
            show_step(found, step)
    row = st.container(horizontal=True)
    with row:
        offer_result(found)
    row.button("Open these cells under Paint", icon=":material/brush:", on_click=open_in_paint, args=(found,))
    with st.container(width=480):
        before_after.show(here, found.chances[0], found.chances[-1])


def open_in_paint(found: SmallestHiding) -> None:
    painting.painting_of(here).hide_cells(found.cells())
    st.session_state["hide_by"] = PAINT


def sentence_of(found: SmallestHiding) -> str:
    hidden = len(found.cells())
    share = percent(float(found.mask().mean()))
    was = name(found.target)
    if not found.changed:
        return f"Nothing changes the answer: with all {count} cells hidden, it is still {was}."
    return f"Hiding {hidden} of {count} cells ({share} of the picture) turns {was} into {name(int(found.answers[-1]))}."


def show_step(found: SmallestHiding, step: int) -> None:
    picture = as_file(picture_without(found.mask(step)))
    if step == 0:
        what = "The whole picture"
    else:
        row, column = found.moves[step - 1].tolist()
        what = f"{step}. Row {row + 1}, column {column + 1}" + ("" if found.hides[step - 1] else ", shown again")
    answer = int(found.answers[step])
    views.show_picture(picture, f"{what}: {here.label(answer)} {chance(found.chances[step][answer])}")
    st.caption(f"{common.plain(what)}: {caption_of(found, step)}")


def offer_result(found: SmallestHiding) -> None:
    lines = (
        f"found = smallest_hiding(model, view.pixels, cells={grid.count}, baseline={baseline!r})",
        "print([model.labels[k] for k in found.answers], found.cells())",
        f"seen = covered(view.pixels, found.mask(), {baseline!r})[0]  # (3, h, w) in [0, 1]",
        'open("hidden.png", "wb").write(to_png((seen.permute(1, 2, 0) * 255).round().byte().numpy()))',
    )
    imports = ("from vizcore.hiding import covered, smallest_hiding", "from vizcore.images import to_png")
    seen = picture_without(found.mask())
    takeaway.offer(here, "smallest hiding", found, lambda: to_png(seen), imports, "\n".join(lines))


st.title("Hide", anchor=False)
st.caption("Hide parts of the picture from the network, and see what it makes of the rest.")
common.warn_untrained(here)
row = st.container(horizontal=True, vertical_alignment="bottom")
way = row.segmented_control(
    "By",
    [PAINT, SMALLEST],
    default=PAINT,
    required=True,
    format_func={PAINT: "Paint", SMALLEST: "Smallest hiding"}.__getitem__,
    key="hide_by",
    bind="query-params",
)
baseline = row.segmented_control(
    "Hidden behind",
    BASELINES,
    default="mean",
    required=True,
    format_func=lambda name: "mean colour" if name == "mean" else name,
    key="hide_behind",
    bind="query-params",
    help="What is shown in its place: the mean colour of the picture, black, white, or the picture blurred.",
)
if way == PAINT:
    show_painting()
else:
    show_smallest()
