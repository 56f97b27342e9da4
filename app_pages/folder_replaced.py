"""The counter-test to a suspicion: does a class go when one part of its pictures is replaced, and nowhere else?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st
import torch

from app_pages import common, takeaway, views
from app_pages.folder_set import Folders
from vizcore.replaced import MOST, Replaced, evenly, mean_of, replace_part
from vizcore.shares import Area, areas
from vizcore.shortcuts import Suspected

IMPORTS = ("import numpy as np", "from vizcore.replaced import mean_of, replace_part")


def show(folders: Folders, targets: Mapping[str, int], folder: str, result: Suspected) -> None:
    parts = {area.name: area for area in areas() if not area.outside}
    suspicion = result.of_class.get(folder)
    first = suspicion.area.name if suspicion and suspicion.area.name in parts else next(iter(parts))
    st.markdown(
        "Heatmaps only point. Here one part of each picture of the folder is replaced, and then every other place of "
        "the same size: if the class goes with this part and with no other, the network knows it by what is there."
    )
    name: str = st.selectbox(
        "The part", list(parts), index=list(parts).index(first), key="replaced_part", bind="query-params"
    )
    target, others = targets[folder], others_of(folders, targets, folder)
    found = replaced(folders, target, folder, parts[name], others)
    if found is None:
        return
    words = st.warning if found.stands_out else st.info
    words(common.plain(f"{name.capitalize()} of “{folder}”. {found.sentence}"), icon=":material/content_cut:")
    st.caption(
        f"The probability of {common.plain(folders.label(target))} falls by "
        f"{views.number(100 * float(found.drops[0].mean()))} points on average there, elsewhere by "
        f"{views.number(100 * float(found.drops[1:].mean()))}. In its place stands {_words_for(others)}."
    )
    takeaway.offer(
        folders.here, f"replaced {name} {target}", found, lambda: _figure(found, folders, folder, name), *script(
            folders, found, folder, parts[name], others
        )
    )  # fmt: skip


def _words_for(others: list[int]) -> str:
    return "the mean of pictures of other classes" if others else "the picture itself, blurred"


def places_of(area: Area, size: tuple[int, int]) -> int:
    """How many places of a picture of ``size`` (H, W) are asked, at most: they lie half a part apart."""
    left, top, right, bottom = area.part
    count = 1
    for share, length in ((bottom - top, size[0]), (right - left, size[1])):
        side = max(1, round(share * length))
        count *= (length - side) // max(1, side // 2) + 1
    return count


def replaced_key(folders: Folders, folder: str, target: int, area: Area, others: list[int]) -> tuple[object, ...]:
    return "replaced part", *folders.key, folder, target, area.part, tuple(others)


def replaced(folders: Folders, target: int, folder: str, area: Area, others: list[int]) -> Replaced | None:
    """Known, or after price and button."""
    key = replaced_key(folders, folder, target, area, others)
    found: Replaced | None = common.recall(key)
    if found is not None:
        return found
    count = min(len(folders.rows(folder)), MOST)
    passes = count * (1 + places_of(area, folders.here.model.input_size))
    seconds = passes * views.seconds_a_pass(folders.here)
    price = f"{common.counted(count, ('picture', 'pictures'))}: {common.price(passes, seconds, bound=True)}"
    if not views.asked("Replace it", "replaced", price):
        return None

    def compute() -> Replaced:
        pictures = [folders.pictures.picture(row).photo.pixels for row in rows_asked(folders, folder)]
        baseline = stand_in(folders, others)
        with common.running("Replacing parts", "pictures") as progress:
            return replace_part(
                folders.here.model, pictures, target, area.part, baseline=baseline, batch_size=4, progress=progress
            )

    return common.known(key, compute, seconds)


def rows_asked(folders: Folders, folder: str) -> list[int]:
    return evenly(folders.rows(folder).tolist())


def others_of(folders: Folders, targets: Mapping[str, int], folder: str) -> list[int]:
    """Pictures of folders of other classes, evenly over the set."""
    labels = folders.pictures.labels
    return evenly([row for row, label in enumerate(labels) if targets[label] != targets[folder]])


def stand_in(folders: Folders, others: list[int]) -> str | torch.Tensor:
    """The mean of these pictures, (1, 3, H, W); where there are none, a blur."""
    if not others:
        return "blur"
    return mean_of(folders.here.model, [folders.pictures.picture(row).photo.pixels for row in others])


def script(folders: Folders, found: Replaced, folder: str, area: Area, rows: list[int]) -> tuple[tuple[str, ...], str]:
    lines = [
        folders.pictures.script,
        f"inside = [pictures[row] for row in {rows_asked(folders, folder)}]",
    ]
    baseline = "'blur'"
    if rows:
        lines += [f"others = [pictures[row] for row in {rows}]"]
        baseline = "mean_of(model, others)"
    lines += [
        f"found = replace_part(model, inside, {found.target}, {area.part!r}, baseline={baseline}, batch_size=4)",
        "print(found.sentence)",
    ]
    return (*IMPORTS, *folders.imports), "\n".join(lines)


def _figure(found: Replaced, folders: Folders, folder: str, name: str) -> bytes:
    """How many pictures lose the class at each place."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    lost = np.nan_to_num(100 * found.lost_shares)
    order = np.argsort(-lost[1:], kind="stable")
    axes.bar(range(len(order)), lost[1:][order], color="#0072B2", label="other places, the worst first")
    axes.bar([-2], lost[:1], color="#D55E00", label=name)
    axes.set(xticks=[], ylabel="% of the pictures lose the class", ylim=(0, 100))
    axes.set_title(f"{folders.here.model.title}: {folder}", parse_math=False)
    axes.legend(frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
