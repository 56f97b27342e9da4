"""What a spatial transformer does to the picture before the net reads it: before, after, and the numbers between."""

import streamlit as st

from app_pages import common, takeaway, views
from vizcore.images import to_png
from vizcore.warp import Warp, as_picture, outlined, warping_layer


def show_warp(here: common.Chosen) -> None:
    """The picture before and after the warp that the net learnt; nothing for a net that has none."""
    if warping_layer(here.model) is None:
        return
    warp = views.warp_of(here)
    st.subheader("It warps the picture first", anchor=False)
    before, after, words = st.columns([4, 4, 5], gap="medium")
    with before:
        views.show_picture(to_png(outlined(warp)), "The picture before, with an outline of what is read")
        st.caption(
            f"**Before**, {size_of(warp.before)} pixels. Only what lies in the outline is read; its orange edge "
            "becomes the upper one."
        )
    with after:
        views.show_picture(to_png(as_picture(warp.after)), "The picture after the warp")
        st.caption(f"**After**, {size_of(warp.after)} pixels. This is what the rest of the network sees.")
    with words:
        st.markdown(common.plain(sentence_of(warp)))
        st.caption("A small network looks at the whole picture and answers with six numbers, the matrix in")
        st.latex(formula_of(warp))
        st.caption(
            "where places run from −1 to 1 between the edges, to the right and down: the place (x, y) of the picture "
            "after is read at (x', y') of the one before. Nobody told it where the digit is; the classes taught it."
        )
        st.caption(
            common.plain(
                f"Layers behind “{warp.layer}” see the picture after the warp alone. Their maps, and the heatmaps made "
                "of them, are taken back to the one before wherever they are laid over it."
            )
        )
        takeaway.offer(
            here,
            "warp",
            warp,
            lambda: to_png(outlined(warp)),
            ("from vizcore.warp import as_picture, learned_warp, outlined", "from vizcore.images import to_png"),
            "warp = learned_warp(model, view.pixels)  # .matrix (2, 3), .before, .after, .corners\n"
            'open("before.png", "wb").write(to_png(outlined(warp)))\n'
            'open("after.png", "wb").write(to_png(as_picture(warp.after)))',
        )


def size_of(picture: object) -> str:
    height, width = picture.shape[1:]  # type: ignore[attr-defined]
    return f"{width} × {height}"


def sentence_of(warp: Warp) -> str:
    """What the warp does, in words."""
    side = "clockwise" if warp.degrees > 0 else "anticlockwise"
    turned = f"turned by {abs(warp.degrees):.0f}° {side}" if abs(warp.degrees) >= 0.5 else "not turned"
    mirrored = ", mirrored" if warp.mirrors else ""
    x, y = (warp.corners.mean(0) / (warp.before.shape[2], warp.before.shape[1])).tolist()
    return (
        f"For the rest of the network this picture is {turned}{mirrored}, and made {warp.zoom:.2f} times as large. Its "
        f"new middle is {x:.0%} of the way from the left and {y:.0%} from the top."
    )


def formula_of(warp: Warp) -> str:
    """(x', y') of the picture before, from (x, y) of the one after, as LaTeX."""
    rows = r" \\ ".join(" & ".join(f"{value:.2f}" for value in row) for row in warp.matrix)
    return (
        rf"\begin{{pmatrix}} x' \\ y' \end{{pmatrix}} = \begin{{pmatrix}} {rows} \end{{pmatrix}}"
        r"\begin{pmatrix} x \\ y \\ 1 \end{pmatrix}"
    )
