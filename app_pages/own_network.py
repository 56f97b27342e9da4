"""Your network: weights that somebody brings, opened safely and examined; a model like any for this visit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app_pages import common
from models import WEIGHTS_FILES, Card, list_models
from vizcore.doctor import FAULT, GOOD, NORMALISATION, NOTICE, SIZE, Finding, Report, examine
from vizcore.images import prepare
from vizcore.records import BadParameter, LensError

if TYPE_CHECKING:
    from models.checkpoints import Checkpoint
    from vizcore.records import Model

MOST_MB = 300
EXAMINING = 2.0  # seconds: forty passes
OPENING = 3.0  # seconds: as long as it takes to start a process that reads a pickle
MOST_SIDE = 512  # pixels: with larger pictures a turn needs more memory than is kept free for it
MOST_PARAMETERS = 150_000_000  # of a network of timm: the largest of the catalogue has 144 million
USUAL = "as usual for the architecture (a guess)"
NORMALISED = {
    "mean and deviation of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "to −1 … 1": ((0.5,), (0.5,)),
    "not at all, 0 … 1": ((0.0,), (1.0,)),
}
ICONS = {GOOD: ":material/check_circle:", NOTICE: ":material/info:", FAULT: ":material/error:"}
WORDS = {GOOD: "fine", NOTICE: "worth knowing", FAULT: "a fault"}


# ---- what was brought ------------------------------------------------------------------------------------------


def take_weights() -> Checkpoint | None:
    """The uploader, and what was read last; a refusal is said, and what was there before stays."""
    file = st.file_uploader(
        "Weights file",
        [ending.lstrip(".") for ending in WEIGHTS_FILES],
        key="weights",
        max_upload_size=MOST_MB,
        help="A .safetensors file, or a state dict that torch.save wrote (also Lightning's, half precision, and with "
        "the prefixes of DataParallel). It stays in memory, for this visit only, and is never run: a pickle is "
        "opened in a process of its own that may only read numbers.",
    )
    if file is not None and st.session_state.get("file of the weights") != file.file_id:
        from models.checkpoints import read_bytes

        st.session_state["file of the weights"], st.session_state["refusal of the weights"] = file.file_id, None
        try:
            with st.spinner("Opening the file; a pickle takes about three seconds", show_time=True):
                with common.turn([("opening", None, file.file_id)], seconds=OPENING):
                    common.make_room(common.room_for(OPENING))
                    checkpoint = read_bytes(file.getvalue(), file.name)
                    st.session_state["checkpoint"] = (checkpoint, ranking_of(checkpoint))
                st.session_state.pop("labels", None)  # they belong to the file before
        except LensError as refused:
            st.session_state["refusal of the weights"] = str(refused)
    if refusal := st.session_state.get("refusal of the weights"):
        st.error(common.plain(refusal), icon=":material/block:")
    if "checkpoint" not in st.session_state:
        st.caption(f"Up to {MOST_MB} MB: .safetensors, .pth, .pt, .ckpt or .bin.")
        return None
    return st.session_state["checkpoint"][0]


def ranking_of(checkpoint: Checkpoint) -> dict[str, float]:
    """How far each network of the catalogue agrees with the tensors, 0 to 1, the best first; before them those of timm
    that have the same kernels, where none of the catalogue agrees in all."""
    from models.matching import matches, matches_of_timm

    shares = {match.card.name: match.share for match in matches(checkpoint.tensors)}
    if max(shares.values()) == 1:
        return shares
    return dict.fromkeys(matches_of_timm(checkpoint.tensors), 1.0) | shares


def choose_architecture(checkpoint: Checkpoint) -> str:
    shares: dict[str, float] = st.session_state["checkpoint"][1]
    titles = {card.name: card.title for card in list_models()}
    count = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    st.caption(common.plain(f"{checkpoint.name}: {len(checkpoint.tensors):,} tensors, {count:,} numbers."))

    def words(name: str) -> str:
        if name in titles:
            return f"{titles[name]} · {100 * shares[name]:.0f} % of the tensors agree"
        return f"{name} · the same kernels" if name in shares else name

    architecture = st.selectbox(
        "Architecture",
        list(shares),
        format_func=words,
        key=f"architecture of {checkpoint.digest}",
        accept_new_options=True,
        help="The networks of the catalogue, the best match first, by the names and shapes of the tensors. Any other "
        "convolutional network of timm can be typed by its name, such as mobilenetv3_small_100.",
    )
    if shares[next(iter(shares))] == 0:
        st.info("No network of the catalogue has such tensors. Type the name that timm has for it.")
    return architecture or next(iter(shares))


def choose_labels() -> tuple[bytes | None, str]:
    """The bytes and the name of the file of class names, if there is one."""

    def keep() -> None:
        file = st.session_state["class names"]
        st.session_state["labels"] = (file.getvalue(), file.name) if file else (None, "")

    st.file_uploader(
        "Class names (optional)",
        ["txt", "csv"],
        key="class names",
        max_upload_size=1,
        on_change=keep,
        help="A text file with one class a line, in the order in which the network was trained.",
    )
    labels: tuple[bytes | None, str] = st.session_state.get("labels", (None, ""))
    st.caption(
        common.plain(f"The names of {labels[1]} are used.") if labels[1] else "Without names: class 0, class 1, …."
    )
    return labels


def choose_preparation(checkpoint: Checkpoint, architecture: str) -> dict[str, Any]:
    """``input_size``, ``mean`` and ``std`` for `open_network`, without those that are to be guessed."""
    from models.catalogue import find_card
    from models.matching import channels_read
    from models.own import LEAST_SIDE

    card, options = find_card(architecture), dict[str, Any]()
    side = st.number_input(
        "It reads pictures of so many pixels a side",
        LEAST_SIDE,
        MOST_SIDE,
        value=None,
        step=1,
        key=f"side for {architecture}",
        placeholder=f"{card.input_size[0]}, {USUAL}",
        help="The side of the square that pictures were cut to when the network was trained. Many networks read any "
        "size; one that this network cannot read is refused.",
    )
    if side:
        options["input_size"] = side
    how = st.selectbox(
        "Its pixels were normalised",
        [USUAL, *NORMALISED],
        key="normalised",
        help="A weights file does not say how its pictures were prepared. The examination shows how much a wrong guess "
        "would change.",
    )
    if how != USUAL:
        channels = channels_read(checkpoint.tensors, card)
        options["mean"], options["std"] = (
            numbers * channels if len(numbers) == 1 else numbers[:1] if channels == 1 else numbers
            for numbers in NORMALISED[how]
        )
    return options


def open_it(checkpoint: Checkpoint, architecture: str, labels: tuple[bytes | None, str]) -> None:
    """Make the network of this visit; where it answers, the current one."""
    from models.own import open_network

    options = choose_preparation(checkpoint, architecture)
    if not st.button("Open and examine it", type="primary", icon=":material/stethoscope:"):
        return
    with st.spinner("Opening and examining it: about forty passes of one picture", show_time=True):
        with common.turn([("opening", None, checkpoint.digest)], OPENING):
            common.make_room(common.room_for(OPENING))
            size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
            common.networks().make_room(checkpoint.name, size)
            own = open_network(checkpoint, architecture, labels[0], **options)
            common.networks().take_in(own.model, own.card.title, size)
        words = [repr(checkpoint.name), f"architecture={architecture!r}"]
        words += [f"labels={labels[1]!r}"] * (labels[0] is not None) + [f"{k}={v}" for k, v in options.items()]
        call = f"load_model({', '.join(words)})"
        guessed = (SIZE,) * ("input_size" not in options) + (NORMALISATION,) * ("mean" not in options)
        take(own.model, own.card, call, own.notes, guessed)


def take(model: Model, card: Card, call: str, notes: tuple[str, ...] = (), guessed: tuple[str, ...] = ()) -> None:
    """Examine a network and make it that of this visit; unless it cannot answer, every page looks at it from now."""
    report, title, digest = examined(model, guessed)
    st.session_state["brought"] = common.Brought(model, card, call, notes, guessed, report, title, digest)
    st.session_state["just brought"] = True
    if all(finding.state != FAULT for finding in report.findings):
        st.session_state["model to be"] = card.name
        st.toast(f"{common.plain(card.title)} is now the current network.", icon=":material/check:")
    st.rerun()


# ---- or one of timm --------------------------------------------------------------------------------------------


def take_by_name() -> None:
    """Any convolutional network of timm, with its own weights or random ones, as the network of this visit."""
    name = st.text_input(
        "Name in timm",
        key="timm name",
        placeholder="resnet26, mobilenetv3_small_100, convnext_atto, …",
        max_chars=100,
        help="timm is a library of more than a thousand networks. Those without convolutions are refused.",
    ).strip()
    untrained = st.toggle(
        "Random weights",
        key="timm untrained",
        help="Nothing is fetched. Shows the structure of the network; its answers mean nothing.",
    )
    if not st.button("Take and examine it", icon=":material/stethoscope:", disabled=not name):
        return
    from models import load_model
    from models.catalogue import find_card

    with st.spinner("Looking it up, fetching and examining it", show_time=True):
        card = find_card(f"timm/{name.removeprefix('timm/')}")
        if card.parameters > MOST_PARAMETERS:
            raise BadParameter(
                f"{card.title} has {card.parameters:,} parameters; up to {MOST_PARAMETERS:,} fit here. Choose a "
                f"smaller one, or use Python: load_model({card.name!r})."
            )
        common.networks().make_room(card.title, 4 * card.parameters)
        with common.away_from_the_desk():
            model = load_model(card.name, weights=None if untrained or card.origin == "untrained" else "default")
        common.networks().take_in(model, card.title, 4 * card.parameters)
        take(model, card, f"load_model({card.name!r}{'' if model.weights else ', weights=None'})")


# ---- the doctor's report -------------------------------------------------------------------------------------------


def examined(model: Model, guessed: tuple[str, ...]) -> tuple[Report, str, str]:
    """The examination of a net on the current picture, its title and its digest."""
    pixels, title, digest = current_photo()
    with common.running("The examination", "methods") as progress:
        report = common.known(
            ("doctor", model.title, digest, guessed),
            lambda: examine(model, prepare(pixels, model).pixels, guessed=guessed, progress=progress),
            EXAMINING,
        )
    return report, title, digest


def current_photo() -> tuple[np.ndarray, str, str]:
    """Pixels, title and digest of the picture that is chosen, or of the first sample where there is none."""
    if "chosen" in st.session_state:
        return common.chosen().photo, common.chosen().title, common.chosen().digest
    from models.samples import list_samples

    sample = list_samples()[0]
    photo = common.photo_from(sample.read())
    return photo.pixels, sample.title, photo.digest


def examine_anew(own: common.Brought) -> None:
    """The way to a report on another picture, where that is chosen now: forty passes are not made unasked, unless
    the sidebar turned to other samples, such as digits, for the sake of the network that was just brought."""
    _, title, digest = current_photo()
    is_new = st.session_state.pop("just brought", False)
    if digest == own.digest:
        return
    words = f"Examine it on “{common.plain(title)}”"
    if st.button(words, key="examine anew", icon=":material/stethoscope:") or is_new:
        with st.spinner("About forty passes of one picture", show_time=True):
            report, title, digest = examined(own.model, own.guessed)
        st.session_state["brought"] = replace(own, report=report, examined_on=title, digest=digest)
        st.rerun()


def show_report(own: common.Brought) -> None:
    report = own.report
    st.subheader("The doctor's report", anchor=False)
    faults = [finding for finding in report.findings if finding.state == FAULT]
    if faults:
        st.error(
            f"{common.plain(own.card.title)} cannot be looked into: {common.plain(faults[0].sentence)}",
            icon=":material/error:",
        )
    else:
        st.markdown(
            f"{common.plain(own.card.title)}, examined on “{common.plain(own.examined_on)}”. It is in the list of "
            "models."
        )
        st.page_link("app_pages/heatmaps.py", label="See its heatmaps", icon=":material/local_fire_department:")
    for note in own.notes:
        st.caption(common.plain(note))
    examine_anew(own)
    left, right = st.columns([3, 2], gap="large")
    with left:
        for finding in report.findings:
            show_finding(finding)
    with right:
        show_verdicts(report)
        show_normalisations(own, report)
    show_proof(report)


def show_finding(finding: Finding) -> None:
    st.markdown(
        f"{ICONS[finding.state]} **{finding.subject}**: {WORDS[finding.state]}. {common.plain(finding.sentence)}"
    )


def show_verdicts(report: Report) -> None:
    st.markdown("**Which methods work on it**")
    working = [verdict.title for verdict in report.verdicts if verdict.works]
    st.markdown(f"{ICONS[GOOD]} {common.plain(', '.join(working) or 'None')}.")
    reasons: dict[str, list[str]] = {}
    for verdict in report.verdicts:
        if not verdict.works:
            reasons.setdefault(verdict.reason, []).append(verdict.title)
    for reason, titles in reasons.items():
        st.markdown(f"{ICONS[NOTICE]} Not {common.plain(', '.join(titles))}: {common.plain(reason)}")


def show_normalisations(own: common.Brought, report: Report) -> None:
    if not report.normalisations:
        return
    label = common.plain(own.model.labels[report.normalisations[0].top])
    st.markdown(f"**The probability of {label}, if pixels are normalised…**")
    for one in report.normalisations:
        top = common.plain(own.model.labels[one.top])
        answer = "the top class" if one.top == report.normalisations[0].top else f"the top class would be {top}"
        st.progress(one.chance_of_first, text=f"{common.plain(one.title)}: {100 * one.chance_of_first:.1f} %, {answer}")
    st.caption(
        "The bars are probabilities, 0 to 100 %, of one and the same class. The more they differ, the more depends on "
        "normalising as the network was trained."
    )


def show_proof(report: Report) -> None:
    if report.unchanged:
        st.success(
            "Nothing was changed. A digest of all its numbers, modes, flags and hooks is the same before and after: "
            f"SHA-256 {report.before[:16]}…",
            icon=":material/verified:",
        )
    else:
        st.error(f"The examination changed the network: {report.before[:16]}… became {report.after[:16]}….")


def main() -> None:
    st.title("Your network", anchor=False)
    if not common.uploads_allowed():
        st.info(
            "Bringing a network, or one of timm, is switched off on this server, as it should be where strangers meet. "
            "On a machine of your own it is on; whoever runs this server can switch it on with "
            "CNN_LENS_CHECKPOINTS=on. In Python: "
            '`load_model("weights.pth", architecture="resnet18", labels="classes.txt")`.',
            icon=":material/lock:",
        )
        return
    st.markdown(
        "Bring the weights of a convolutional network that you trained. It is examined, and for this visit it is then "
        "in the list of models, on every page; nobody else sees it."
    )
    left, right = st.columns(2, gap="large")
    with left:
        checkpoint = take_weights()
    with right:
        labels = choose_labels() if checkpoint else (None, "")
    if checkpoint:
        with left:
            architecture = choose_architecture(checkpoint)
        try:
            with right:
                open_it(checkpoint, architecture, labels)
        except LensError as refusal:
            st.error(common.plain(str(refusal)), icon=":material/block:")
    with st.expander("No file at hand? Any network of timm, by its name", icon=":material/travel_explore:"):
        try:
            take_by_name()
        except LensError as refusal:
            st.error(common.plain(str(refusal)), icon=":material/block:")
    if own := common.brought():
        st.divider()
        show_report(own)


main()
