"""Maps of a set of pictures: by the network's features and by raw pixels, t-SNE or another view, known or drawn now."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app_pages import common
from app_pages.picture_map import COLOURS, Atlas, atlas_of
from app_pages.picture_sets import PictureChoice
from vizcore.embedding import NEIGHBOURS, chance, extract_features, neighbour_accuracy, pixel_features
from vizcore.other_maps import pca_map, umap_map
from vizcore.records import Embedding, Progress
from vizcore.tsne import EXAGGERATED_ITERATIONS, TsneRun, tsne

PERPLEXITY, SEED, ITERATIONS = 30.0, 0, 750
MARKERS = "oD^svP"  # as many as the map's shapes: with seven colours, 42 classes are told apart
WAYS: dict[str, Callable[..., Embedding]] = {"tsne": tsne, "pca": pca_map, "umap": umap_map}
FUNCTIONS = {
    "tsne": "from vizcore.embedding import tsne",
    "pca": "from vizcore.other_maps import pca_map",
    "umap": "from vizcore.other_maps import umap_map",
}


@dataclass(frozen=True)
class Way:
    """How a set is laid on a plane: ``method``, one of MAP_METHODS, and its ``options`` by name, but for progress."""

    method: str = "tsne"
    options: tuple[tuple[str, Any], ...] = (("perplexity", PERPLEXITY), ("seed", SEED), ("iterations", ITERATIONS))

    def __getitem__(self, name: str) -> Any:
        return dict(self.options)[name]

    @property
    def metric(self) -> str:
        return str(dict(self.options).get("metric", "euclidean"))

    def but(self, **changes: Any) -> Way:
        return Way(self.method, tuple((dict(self.options) | changes).items()))

    def settled(self) -> Way:
        """The same with no fewer iterations than `tsne` makes, where a map was stopped early."""
        if self.method != "tsne":
            return self
        return self.but(iterations=max(self["iterations"], EXAGGERATED_ITERATIONS))

    def draw(self, rows: np.ndarray, progress: Progress | None = None) -> Embedding:
        if self.method != "tsne":
            return WAYS[self.method](rows, **dict(self.options))
        return tsne(rows, **dict(self.options), progress=progress)

    def run(self, rows: np.ndarray) -> TsneRun:
        """The map of t-SNE before its first iteration."""
        return TsneRun(rows, **{name: value for name, value in self.options if name != "iterations"})

    def python(self, rows: str, iterations: int | None = None) -> str:
        """The call that makes ``embedding``; ``iterations`` are those of a map that was stopped early."""
        options = "".join(f", {name}={value!r}" for name, value in self.options if name != "iterations")
        if self.method != "tsne":
            return f"embedding = {WAYS[self.method].__name__}({rows}{options})  # .points (n, 2)"
        if iterations is None or iterations >= EXAGGERATED_ITERATIONS:
            return f"embedding = tsne({rows}{options}, iterations={iterations or self['iterations']})  # .points (n, 2)"
        return f"run = TsneRun({rows}{options})\nrun.advance({iterations})\nembedding = run.finish()  # .points (n, 2)"


@dataclass(frozen=True)
class Votes:
    """How often the nearest pictures name the right class: shares from 0 to 1. ``chance``: always the largest."""

    features: float
    pixels: float
    chance: float
    neighbours: int


@dataclass(frozen=True, eq=False)
class Rows:
    """What is mapped: ``features`` (n, d) and ``pixels`` (n, p) of a set, and how well each knows the classes (None
    where there is one class only)."""

    features: np.ndarray
    pixels: np.ndarray
    votes: Votes | None
    labels: tuple[str, ...]
    names: tuple[str, ...]
    atlas: Atlas

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Maps:
    """Both maps of one set."""

    by_features: Embedding
    by_pixels: Embedding


def rows_key(here: common.Chosen, pictures: PictureChoice, layer: str) -> tuple[object, ...]:
    return ("features", here.model.title, pictures.key, layer)


def maps_key(here: common.Chosen, pictures: PictureChoice, layer: str, way: Way) -> tuple[object, ...]:
    return ("embedding", here.model.title, pictures.key, layer, way)


def seconds_of_rows(here: common.Chosen, pictures: PictureChoice) -> float:
    return len(pictures) * common.seconds_a_pass(here.model.name, here.model.weights is None)


def seconds_of_maps(pictures: PictureChoice, way: Way) -> float:
    """Of both maps, on two cores: t-SNE's as measured, 0.3 s and 5 ms a picture for 750 iterations; UMAP compiles."""
    count = len(pictures)
    if way.method == "tsne":
        return 2 * (0.3 + 0.005 * count * way["iterations"] / ITERATIONS)
    return 20 + 0.01 * count if way.method == "umap" else 0.5 + 0.0005 * count


def price_of(here: common.Chosen, pictures: PictureChoice, layer: str, way: Way) -> str:
    """Passes and seconds of what is not known yet."""
    seconds = seconds_of_maps(pictures, way)
    if common.recall(rows_key(here, pictures, layer)) is not None:
        return f"about {common.duration(seconds)}, without another pass"
    return common.price(len(pictures), seconds_of_rows(here, pictures) + seconds)


def rows_of(here: common.Chosen, chosen: PictureChoice, layer: str) -> Rows:
    """Known, or computed now with a bar for each step."""

    def compute() -> Rows:
        with common.running("Gathering the pictures") as progress:
            pictures = chosen.load(progress)
        with common.running("Showing the pictures to the network") as progress:
            features = extract_features(here.model, pictures, layer, progress=progress)
        with common.running("Reading the pixels") as progress:
            pixels = pixel_features(here.model, pictures, progress=progress)
        votes = take_votes(features, pixels, chosen.labels)
        return Rows(features, pixels, votes, chosen.labels, chosen.names, atlas_of(pictures))

    return common.known(rows_key(here, chosen, layer), compute, seconds_of_rows(here, chosen))


def maps_of(here: common.Chosen, chosen: PictureChoice, layer: str, way: Way) -> Maps:
    """Both maps at once, known or drawn now with a bar for each."""
    rows = rows_of(here, chosen, layer)

    def compute() -> Maps:
        with common.running("Mapping the features") as progress:
            by_features = way.draw(rows.features, progress)
        with common.running("Mapping the pixels") as progress:
            by_pixels = way.draw(rows.pixels, progress)
        return Maps(by_features, by_pixels)

    return common.known(maps_key(here, chosen, layer, way), compute, seconds_of_maps(chosen, way))


def take_votes(features: np.ndarray, pixels: np.ndarray, labels: Sequence[str]) -> Votes | None:
    if len(set(labels)) == 1:
        return None
    k = min(NEIGHBOURS, len(labels) - 1)
    return Votes(neighbour_accuracy(features, labels, k), neighbour_accuracy(pixels, labels, k), chance(labels), k)


def python_of(
    name: str, pictures: PictureChoice, layer: str, way: Way, embedding: Embedding
) -> tuple[tuple[str, ...], str]:
    """Imports and Python that make one of the maps again."""
    rows = f"extract_features(model, pictures, {layer!r})" if name == "features" else "pixel_features(model, pictures)"
    iterations = embedding.params.get("iterations")
    call = f"{pictures.script}\nrows = {rows}\n{way.python('rows', iterations)}"
    early = ("from vizcore.tsne import TsneRun",) if "TsneRun" in call else (FUNCTIONS[way.method],)
    return ("from vizcore.embedding import extract_features, pixel_features", *early, *pictures.imports), call


def title_of(embedding: Embedding) -> str:
    return str(embedding.params.get("method", "Map"))


def dots(embedding: Embedding, labels: Sequence[str], small: bool = False) -> bytes:
    """The map as a PNG, colours by class; a ``small`` one without words."""
    return sheet(
        [embedding], labels, [f"{title_of(embedding)}, trustworthiness {embedding.trustworthiness:.2f}"], small
    )


def sheet(
    embeddings: Sequence[Embedding],
    labels: Sequence[str],
    titles: Sequence[str],
    small: bool = False,
    columns: int = 1,
) -> bytes:
    """Several maps of the same pictures beside each other, as one PNG."""
    from matplotlib.figure import Figure

    several = len(embeddings) > 1
    rows = -(-len(embeddings) // columns)
    size = (3 * columns, 3.2 * rows) if several else (3, 3) if small else (7, 6)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    classes = sorted(set(labels))  # as on the map: a class has one colour
    members = [[row for row, other in enumerate(labels) if other == label] for label in classes]
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, embedding, title in zip(every, embeddings, titles, strict=False):
        drawn = []
        for number, own in enumerate(members):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            x, y = embedding.points[own].T
            drawn.append(axes.scatter(x, y, s=4 if several else 12, color=colour, marker=marker, linewidths=0))
        axes.set_aspect("equal", adjustable="datalim")
        if not small:
            axes.set_title(title.replace("$", r"\$"), fontsize=10 if several else 12)  # no formulas
        if not small and not several and len(classes) <= 20:
            names = [label.replace("$", r"\$") for label in classes]
            axes.legend(drawn, names, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for axes in every:
        axes.set(xticks=[], yticks=[])
    for axes in every[len(embeddings) :]:
        axes.set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
