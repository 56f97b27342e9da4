"""A fooled network: a change too small to see, what the network answers then, and what becomes of the heatmap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
import torch

from app_pages import before_after, common, takeaway, views
from app_pages.explained import Explained
from vizcore.adversarial import ATTACKS, Adversarial, attack
from vizcore.heatmaps import scale_of, unit_of
from vizcore.images import Scale, View, to_png
from vizcore.ranks import rank_correlation
from vizcore.records import Heatmap, probabilities

ANY = "any other class"
STEPS, SEED = 10, 0  # of projected gradient descent
LARGEST, USUAL = 16, 2  # in steps of eight bits
SHARE = 3  # passes that one forth and back costs
CLOSE, LOOSE = 0.9, 0.5  # rank correlations above which a map points at the same places, or partly
WHEN = ("the photo", "changed")
LEAST = 224  # pixels of the shorter side of a picture on the page


@dataclass(frozen=True)
class Question:
    """``method`` of ATTACKS changes the picture by ``size`` of 255 at most, so that it is not what it is now, or is
    class ``towards``."""

    here: common.Chosen
    method: str
    size: int
    towards: int | None

    @property
    def answer(self) -> int:
        """The class to get away from: what the network says of the photo."""
        return int(self.here.ranking[0])

    @property
    def key(self) -> tuple[object, ...]:
        return "attack", self.here.model.title, self.here.digest, self.method, self.size, self.towards, STEPS, SEED

    @property
    def passes(self) -> int:
        """Those forth and back count as SHARE."""
        return 3 + SHARE * (STEPS if self.method == "pgd" else 1)

    @property
    def options(self) -> str:
        """As they stand in Python."""
        words = f"{self.answer}, method={self.method!r}, epsilon={self.size} / 255, towards={self.towards}"
        return f"{words}, steps={STEPS}, seed={SEED}" if self.method == "pgd" else words


@dataclass(frozen=True, eq=False)
class Fooling:
    """What came of it: ``chances`` (K,) before, after, and of the changed picture as a file of eight bits holds it."""

    found: Adversarial
    before: np.ndarray
    after: np.ndarray
    as_file: np.ndarray


def show(explained: Explained) -> None:
    here = explained.here
    st.markdown(
        "A small change of each pixel, along the gradient, can turn the answer into another. Does the heatmap notice?"
    )
    if len(here.model.labels) < 2:
        st.info("This network knows one class only: there is no other answer.")
        return
    question = _choose(here)
    seconds = (question.passes + 4 * SHARE) * views.seconds_a_pass(here)
    made = common.recall(question.key)
    if made is None:
        price = common.price(question.passes + 4 * SHARE, seconds)
        if seconds > common.AT_ONCE and not views.asked("Change the picture", "attack", price):
            return
        with common.running("Changing the picture", "steps") as progress:
            made = common.known(question.key, lambda: _fool(question, progress), seconds)
        if seconds > common.AT_ONCE:
            st.rerun()
    _say(question, made)
    changed = _as_chosen(question, made)
    _show_pictures(question, made, changed)
    st.markdown("**Classes before and after**")
    before_after.show(here, made.before, made.after, WHEN)
    if explained.is_costly:
        st.info(
            f"The maps of {common.plain(explained.title)} before and after would take about "
            f"{common.duration(3 * explained.seconds)}. Choose a method that costs about a pass, above, to see its "
            "maps."
        )
    else:
        _show_heatmaps(explained, question, made, changed)
    _take_away(explained, question, made, changed)
    _how_to_read()


def _choose(here: common.Chosen) -> Question:
    method = st.segmented_control(
        "Attack",
        list(ATTACKS),
        default="pgd",
        required=True,
        format_func=ATTACKS.__getitem__,
        key="attack",
        bind="query-params",
        wrap=True,
        help="The fast gradient sign method takes one step, projected gradient descent many small ones.",
    )
    left, right = st.columns(2)
    with left:
        size = st.slider(
            "Largest change of a colour, of 255",
            1,
            LARGEST,
            USUAL,
            key="attack_size",
            bind="query-params",
            help="A file holds a colour as a whole number from 0 to 255.",
        )
    with right:
        labels = list(here.model.labels)
        towards = st.selectbox(
            "Towards",
            [ANY, *(label for label in labels if label != here.label(int(here.ranking[0])))],
            key=f"attack_towards of {here.loaded.name}",
            bind="query-params",
            help="Any class but the answer, or one of your choice. Type to search.",
        )
    return Question(here, method, size, None if towards == ANY else labels.index(towards))


def _fool(question: Question, progress: object) -> Fooling:
    here, size = question.here, question.size / 255
    found = attack(
        here.model,
        here.view.pixels,
        question.answer,
        method=question.method,
        epsilon=size,
        steps=STEPS,
        towards=question.towards,
        seed=SEED,
        progress=progress,  # type: ignore[arg-type]
    )
    rounded = torch.from_numpy(_eight_bits(found.pixels)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        logits = here.model.logits(rounded)[0].float().cpu()
    before, after, as_file = (
        probabilities(torch.as_tensor(each)[None])[0].numpy() for each in (found.before, found.after, logits)
    )
    return Fooling(found, before, after, as_file)


def _eight_bits(pixels: torch.Tensor) -> np.ndarray:
    return np.rint(255 * pixels[0].permute(1, 2, 0).double().cpu().numpy()).astype(np.uint8)


def _say(question: Question, made: Fooling) -> None:
    here = question.here
    before, after = question.answer, int(made.after.argmax())
    names = common.plain(here.label(before)), common.plain(here.label(after))
    size = f"at most {question.size}/255 of each colour"
    sure = [before_after.chance(float(chances[k])) for chances, k in ((made.before, before), (made.after, after))]
    if made.found.fooled:
        filed = int(made.as_file.argmax())
        fails = filed == before or (question.towards is not None and filed != after)
        called = f"The file that you take away is **{common.plain(here.label(filed))}** to it as well."
        file = "Rounded to a file of eight bits it fails." if fails else called
        st.success(
            f"**{names[0]}** ({sure[0]}) has become **{names[1]}** ({sure[1]}) by a change of {size}. {file}",
            icon=":material/check:",
        )
        return
    still = f"still says **{names[1]}**" if before == after else f"now says **{names[1]}**, which was not asked,"
    tries = []
    if question.size < LARGEST:
        tries.append("a larger change")
    if question.method == "fgsm":
        tries.append("projected gradient descent")
    if question.towards is not None:
        tries.append("any other class")
    advice = f"Try {' or '.join(tries)}." if tries else "This network withstands it on this picture."
    notes = " ".join(common.plain(note) for note in made.found.notes)
    st.warning(
        f"It did not work: by a change of {size} the network {still} ({sure[1]}). {notes} {advice}",
        icon=":material/close:",
    )


def _as_chosen(question: Question, made: Fooling | None) -> common.Chosen:
    """The changed picture, or with None the photo, as the network sees it: what maps are asked of and laid over."""
    here, pixels = question.here, made.found.pixels if made else question.here.view.pixels
    photo = _eight_bits(pixels)
    photo = photo.repeat(factor := -(-LEAST // min(photo.shape[:2])), 0).repeat(factor, 1)
    view = View(pixels.float(), (0, 0, photo.shape[1], photo.shape[0]))
    if made is None:
        return replace(here, photo=photo, view=view, digest=f"{here.digest} as seen")
    name = f"{here.digest} changed by {question.key[3:]}"
    title = f"{here.title}, changed"
    return replace(here, photo=photo, view=view, digest=name, title=title, scores=made.found.after, chances=made.after)


def _magnified(made: Fooling) -> tuple[np.ndarray, float]:
    """What was added, uint8 (H, W, 3): mid-grey where nothing was, the largest change allowed at black and white; and
    how many times it is magnified."""
    size = made.found.params["epsilon"]
    change = made.found.perturbation.transpose(1, 2, 0).astype(np.float64)  # (H, W, 3)
    return np.rint(255 * np.clip(0.5 + change / (2 * size), 0, 1)).astype(np.uint8), 1 / (2 * size)


def _show_pictures(question: Question, made: Fooling, changed: common.Chosen) -> None:
    here, (added, times) = question.here, _magnified(made)
    factor = -(-LEAST // min(added.shape[:2]))
    before, after = common.plain(here.label(question.answer)), common.plain(here.label(int(made.after.argmax())))
    scale = Scale(-question.size, question.size)
    one, two, three = st.columns(3)
    with one:
        views.show_picture(to_png(_as_chosen(question, None).photo), f"{here.title}, as the network sees it")
        st.caption(f"The photo, as the network sees it: **{before}**")
    with two:
        views.show_picture(
            to_png(added.repeat(factor, 0).repeat(factor, 1)), f"What is added to {here.title}, magnified {times:.0f} ×"
        )
        views.show_scale(scale, "of 255, by colour", "gray")
        st.caption(f"What is added, magnified {times:.0f} ×. Mid-grey: nothing. Each colour by itself.")
    with three:
        views.show_picture(to_png(changed.photo), f"{changed.title}")
        st.caption(f"Photo and change together, not magnified: **{after}**")


def _show_heatmaps(explained: Explained, question: Question, made: Fooling, changed: common.Chosen) -> None:
    here, seen = question.here, _as_chosen(question, None)
    targets = list(dict.fromkeys((question.answer, int(made.after.argmax()))))
    of_changed = replace(explained, here=changed)
    maps = {target: (explained.heat(target), of_changed.heat(target)) for target in targets}
    scale = scale_of(*(heat for pair in maps.values() for heat in pair))
    st.markdown(f"**{common.plain(explained.title)} before and after**, on one scale")
    for target, pair in maps.items():
        name = here.label(target)
        left, right = st.columns(2)
        for place, place_of, heat, when in zip((left, right), (seen, changed), pair, WHEN, strict=True):
            with place:
                picture = views.laid(place_of, heat, scale)
                views.show_picture(picture, f"{explained.title} of {name} on {place_of.title}: {when}")
                st.caption(f"**{common.plain(name)}**, {when}")
        st.markdown(_in_words(name, *pair))
    with st.container(width=420):
        views.show_scale(scale, unit_of(maps[targets[0]][0]))


def _in_words(name: str, before: Heatmap, after: Heatmap) -> str:
    rank = rank_correlation(before.values, after.values)
    label = common.plain(name)
    if np.isnan(rank):
        return f"One of the two maps of {label} is the same everywhere: there is nothing to compare."
    where = "the same places" if rank > CLOSE else "partly the same places" if rank > LOOSE else "other places"
    strength = float(np.abs(after.values).max()) / float(np.abs(before.values).max())
    words = f"the map of {label} points at {where}, and is {views.number(strength)} times as strong"
    return f"Their rank correlation is **{rank:.2f}**: ".replace("-", "−") + f"{words}."


def _take_away(explained: Explained, question: Question, made: Fooling, changed: common.Chosen) -> None:
    after = int(made.after.argmax())
    lines = [
        f"found = attack(model, view.pixels, {question.options})",
        "picture = (255 * found.pixels[0].permute(1, 2, 0)).round().byte().cpu().numpy()",
        'open("changed.png", "wb").write(to_png(picture))',
        f"print(found.fooled)  # class {after} is {question.here.label(after)!r}",
    ]
    imports: tuple[str, ...] = ()
    if not explained.is_costly:
        imports, call = explained.script(after)
        lines += [f"{call}\nbefore = heat", f"{call.replace('view.pixels', 'found.pixels')}\nafter = heat"]
    takeaway.offer_picture(
        question.here,
        f"{question.method} {question.size} {'any' if question.towards is None else question.towards}",
        to_png(_eight_bits(made.found.pixels)),
        (*imports, "from vizcore.adversarial import attack", "from vizcore.images import to_png"),
        "\n".join(lines),
    )


def _how_to_read() -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.latex(r"x' = x + \varepsilon\,\mathrm{sign}\,\partial L/\partial x")
        st.markdown(
            "x is the picture, L the cross-entropy of the answer, ε the largest change of a colour. One such step is "
            f"the fast gradient sign method; projected gradient descent takes {STEPS} small ones from a random start, "
            "each brought back to within ε. Towards a class, one goes down the L of that class instead. A map that "
            "moves with the answer explains this network, fooled as it is. **Weakness:** one that does not fail says "
            "little of what a stronger attack would do."
        )
        st.caption(
            "Goodfellow, Shlens & Szegedy, Explaining and Harnessing Adversarial Examples, ICLR 2015. Madry et al., "
            "Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018."
        )
