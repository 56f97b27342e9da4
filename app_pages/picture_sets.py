"""The sets of pictures that the Embedding page maps: digits, copies of the sample photos, a zip of one's own."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app_pages import common, memory
from app_pages.embedding_chart import COLOURS, data_uri
from app_pages.line import LONG
from app_pages.sidebar import Picture
from models.samples import Sample, digits, list_samples
from vizcore.archives import PictureSet, read_zip
from vizcore.augment import variant, variants
from vizcore.embedding import NEIGHBOURS, chance, extract_features, neighbour_accuracy, pixel_features, tsne
from vizcore.images import Photo, check_photo, thumbnail
from vizcore.records import BadImage, Embedding, Progress

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

DIGITS, COPIES, ZIP = "MNIST digits", "Copies of the sample photos", "A zip of mine"
MARKERS = "oD^svP"  # as many as the chart's shapes: with seven colours, 42 classes are told apart
COPY_SIDE = 384  # pixels of the longer side of a photo that is copied: the net looks at 256 of the shorter
PERPLEXITY, SEED = 30.0, 0


@dataclass(frozen=True, eq=False)
class PictureChoice:
    """A set that can be made again from its ``key``. ``script`` is Python that makes ``pictures``."""

    key: tuple[object, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    load: Callable[[Progress], Sequence[np.ndarray]]
    one: Callable[[int], np.ndarray]
    origin: Callable[[int], str]
    imports: tuple[str, ...]
    script: str

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, row: int) -> Picture:
        return Picture(Photo.of(self.one(row)), self.names[row], self.origin(row), self.imports)


@dataclass(frozen=True)
class Votes:
    """How often the nearest pictures name the right class: shares from 0 to 1. ``chance``: always the largest."""

    features: float
    pixels: float
    chance: float
    neighbours: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """Two maps of one set, and how well each knows the classes (None where there is one class only)."""

    feature_map: Embedding
    pixel_map: Embedding
    votes: Votes | None
    labels: tuple[str, ...]
    names: tuple[str, ...]
    thumbnails: tuple[str, ...]


def choose(here: common.Chosen) -> PictureChoice | None:
    """The controls of the set; None where there is none yet."""
    grey = len(here.model.mean) == 1
    kind = st.segmented_control(
        "Pictures",
        [DIGITS if grey else COPIES, ZIP],
        default=DIGITS if grey else COPIES,
        required=True,
        key="set of digits" if grey else "set",
        persist_state="session",
    )
    if kind == DIGITS:
        return of_digits(st.slider("How many", 200, 5000, 1000, 100, key="digits", bind="query-params"))
    if kind == COPIES:
        return of_copies(
            st.slider(
                "Copies of each photo",
                5,
                60,
                20,
                5,
                key="copies",
                bind="query-params",
                help="Random cuts, mirror images and changes of colour. A network that knows what it sees keeps the "
                "copies of a photo together.",
            )
        )
    return of_zip()


def of_digits(count: int) -> PictureChoice:
    images, labels = digits()
    rows = np.random.default_rng(SEED).permutation(len(images))[:count]
    return PictureChoice(
        key=(DIGITS, count),
        labels=tuple(str(labels[row]) for row in rows),
        names=tuple(f"digit {labels[row]}, number {row}" for row in rows),
        load=lambda progress: [check_photo(images[row]) for row in rows],
        one=lambda place: images[rows[place]],
        origin=lambda place: f"check_photo(digits()[0][{rows[place]}])",
        imports=("from models.samples import digits", "from vizcore.images import check_photo", "import numpy as np"),
        script=f"rows = np.random.default_rng({SEED}).permutation(5000)[:{count}]\n"
        "pictures = [check_photo(digits()[0][row]) for row in rows]",
    )


def of_copies(count: int) -> PictureChoice:
    samples = [sample for sample in list_samples() if not sample.grey]

    def photo_of(sample: Sample) -> np.ndarray:
        return thumbnail(common.photo_from(sample.read()).pixels, COPY_SIDE)

    def load(progress: Progress) -> list[np.ndarray]:
        pictures = []
        for done, sample in enumerate(samples, 1):
            pictures += variants(photo_of(sample), count, SEED)
            progress(done, len(samples))
        return pictures

    return PictureChoice(
        key=(COPIES, count),
        labels=tuple(sample.title for sample in samples for _ in range(count)),
        names=tuple(f"{sample.title}, copy {n + 1}" for sample in samples for n in range(count)),
        load=load,
        one=lambda place: variant(photo_of(samples[place // count]), place % count, SEED),
        origin=lambda place: (
            f"variant(thumbnail(read_image(read_sample({samples[place // count].key!r})), {COPY_SIDE}), "
            f"{place % count}, {SEED})"
        ),
        imports=(
            "from models.samples import list_samples, read_sample",
            "from vizcore.augment import variant, variants",
            "from vizcore.images import read_image, thumbnail",
        ),
        script="photos = [read_image(sample.read()) for sample in list_samples() if not sample.grey]\n"
        f"pictures = [copy for photo in photos for copy in variants(thumbnail(photo, {COPY_SIDE}), {count}, {SEED})]",
    )


def of_zip() -> PictureChoice | None:
    file = st.file_uploader(
        "A zip of pictures",
        "zip",
        key="zip",
        max_upload_size=common.most_mb("zip"),
        help="Its folders are taken as the classes.",
    )
    if file is not None and st.session_state.get("file of the zip") != file.file_id:
        take_zip(file)
        st.session_state["file of the zip"] = file.file_id  # a refused one too: it is read once
    if refusal := st.session_state.get("refusal of the zip"):
        st.error(common.plain(refusal), icon=":material/block:")
    if "pictures of the zip" not in st.session_state:
        st.caption(f"Up to {common.most_mb('zip')} MB. Its folders are taken as the classes.")
        return None
    name, found, digest = st.session_state["pictures of the zip"]
    show_zip(name, found)
    return PictureChoice(
        key=(ZIP, digest),
        labels=found.labels,
        names=found.names,
        load=lambda progress: found.pictures,
        one=lambda place: found.pictures[place],
        origin=lambda place: f"read_zip({name!r}).pictures[{place}]",
        imports=("from vizcore.archives import read_zip",),
        script=f"pictures = read_zip({name!r}).pictures",
    )


def take_zip(file: UploadedFile) -> None:
    """Keep the pictures of a zip for the visit; a refusal is kept as well, and the last pictures stay."""
    try:
        if file.size > common.most_mb("zip") * memory.MB:
            raise BadImage(
                f"The zip takes {file.size / memory.MB:.0f} MB; here it may take {common.most_mb('zip')}. Take fewer "
                "or smaller pictures."
            )
        with common.running("Reading the zip") as progress, common.turn([("zip", None, common.person())], LONG):
            common.make_room(common.room_for(LONG))
            found = read_zip(file, progress=progress)
    except BadImage as refusal:
        st.session_state["refusal of the zip"] = str(refusal)
        return
    # Everything that a map of it shows: the same pictures in other folders are another set.
    shapes = [picture.shape for picture in found.pictures]
    digest = hashlib.sha256(repr((found.labels, found.names, shapes)).encode())
    for picture in found.pictures:
        digest.update(np.ascontiguousarray(picture).data)
    st.session_state["refusal of the zip"] = None
    st.session_state["pictures of the zip"] = (file.name, found, digest.hexdigest())


def show_zip(name: str, found: PictureSet) -> None:
    classes = len(set(found.labels))
    st.caption(common.plain(f"{name}: {len(found.pictures)} pictures in {classes} classes."))
    for note in found.notes:
        st.caption(common.plain(note))
    if found.failures:
        with st.expander(f"{len(found.failures)} files could not be used"):
            for failed, reason in found.failures[:200]:
                st.text(f"{failed}: {reason}")


def usual(here: common.Chosen) -> PictureChoice:
    """The set that the page begins with."""
    return of_digits(1000) if len(here.model.mean) == 1 else of_copies(20)


def key_of(
    here: common.Chosen, pictures: PictureChoice, layer: str, perplexity: float = PERPLEXITY, seed: int = SEED
) -> tuple[object, ...]:
    return ("embedding", here.model.title, pictures.key, layer, perplexity, seed)


def price_of(here: common.Chosen, pictures: PictureChoice) -> str:
    """Passes and seconds of both maps."""
    return common.price(len(pictures), seconds_of(here, pictures))


def seconds_of(here: common.Chosen, pictures: PictureChoice) -> float:
    """Of both maps; t-SNE's as measured on two cores: a third of a second and 4 ms a picture."""
    count = len(pictures)
    seconds = count * common.seconds_a_pass(here.model.name, here.model.weights is None)
    return seconds + 2 * (0.3 + 0.004 * count)


def draw(
    here: common.Chosen, chosen: PictureChoice, layer: str, perplexity: float = PERPLEXITY, seed: int = SEED
) -> Drawn:
    """Both maps, with a bar for each step; kept, so that they are drawn once."""
    key = key_of(here, chosen, layer, perplexity, seed)

    def compute() -> Drawn:
        with common.running("Gathering the pictures") as progress:
            pictures = chosen.load(progress)
        with common.running("Showing the pictures to the network") as progress:
            features = extract_features(here.model, pictures, layer, progress=progress)
        with common.running("Reading the pixels") as progress:
            pixels = pixel_features(here.model, pictures, progress=progress)
        with common.running("Mapping the features") as progress:
            feature_map = tsne(features, perplexity=perplexity, seed=seed, progress=progress)
        with common.running("Mapping the pixels") as progress:
            pixel_map = tsne(pixels, perplexity=perplexity, seed=seed, progress=progress)
        return Drawn(
            feature_map=feature_map,
            pixel_map=pixel_map,
            votes=take_votes(features, pixels, chosen.labels),
            labels=chosen.labels,
            names=chosen.names,
            thumbnails=tuple(data_uri(picture) for picture in pictures),
        )

    return common.known(key, compute, seconds_of(here, chosen))


def take_votes(features: np.ndarray, pixels: np.ndarray, labels: Sequence[str]) -> Votes | None:
    if len(set(labels)) == 1:
        return None
    k = min(NEIGHBOURS, len(labels) - 1)
    return Votes(neighbour_accuracy(features, labels, k), neighbour_accuracy(pixels, labels, k), chance(labels), k)


def call_of(name: str, pictures: PictureChoice, layer: str, drawn: Drawn) -> str:
    """The Python that makes one of the maps again."""
    params = drawn.feature_map.params
    rows = f"extract_features(model, pictures, {layer!r})" if name == "features" else "pixel_features(model, pictures)"
    return (
        f"{pictures.script}\nrows = {rows}\n"
        f"embedding = tsne(rows, perplexity={params['perplexity']:g}, seed={params['seed']})  # .points (n, 2)"
    )


def dots(embedding: Embedding, labels: Sequence[str], small: bool = False) -> bytes:
    """The map as a PNG, colours by class; a ``small`` one without words."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3) if small else (7, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    classes = sorted(set(labels))  # as in the chart: a class has one colour
    drawn = []
    for number, label in enumerate(classes):
        x, y = embedding.points[[row for row, other in enumerate(labels) if other == label]].T
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        drawn.append(axes.scatter(x, y, s=12, color=colour, marker=marker))
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    if not small:
        axes.set_title(f"t-SNE, trustworthiness {embedding.trustworthiness:.2f}")
    if not small and len(classes) <= 20:
        names = [label.replace("$", r"\$") for label in classes]  # no formulas in a legend
        axes.legend(drawn, names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
