"""The sets of pictures that pages look at: digits, copies of the sample photos, a zip of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app_pages import common, memory
from app_pages.line import LONG
from app_pages.sidebar import Picture
from models.samples import Sample, digits, list_samples
from vizcore.archives import PictureSet, read_zip
from vizcore.augment import variant, variants
from vizcore.images import Photo, check_photo, thumbnail
from vizcore.records import BadImage, Progress

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

DIGITS, COPIES, ZIP = "MNIST digits", "Copies of the sample photos", "A zip of mine"
COPY_SIDE = 384  # pixels of the longer side of a photo that is copied: the net looks at 256 of the shorter
SEED = 0


@dataclass(frozen=True, eq=False)
class PictureChoice:
    """A set that can be made again from its ``key``. ``script`` is Python that makes ``pictures``, and ``folders`` what
    then says the folder of each."""

    key: tuple[object, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    load: Callable[[Progress], Sequence[np.ndarray]]
    one: Callable[[int], np.ndarray]
    origin: Callable[[int], str]
    imports: tuple[str, ...]
    script: str
    folders: str
    failures: tuple[tuple[str, str], ...] = ()  # files that could not be used, and why
    copies: bool = False  # of a few pictures: nothing follows for others

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, row: int) -> Picture:
        return Picture(Photo.of(self.one(row)), self.names[row], self.origin(row), self.imports)


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
        folders="[str(digits()[1][row]) for row in rows]",
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
        folders=f"[sample.title for sample in list_samples() if not sample.grey for _ in range({count})]",
        copies=True,
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
        folders=f"list(read_zip({name!r}).labels)",
        failures=tuple(found.failures),
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
