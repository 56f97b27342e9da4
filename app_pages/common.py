"""What the pages share: the loaded nets, what is chosen now, bounded results, and long runs that can be stopped.

The only file with ``st.cache_*`` and with the adapter between vizcore's ``progress`` and the screen.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import streamlit as st

from models import Card, list_models

DEFAULT_MODEL = "efficientnet_lite0"
PHOTO_SIDE = 1600  # larger photos are reduced: no net here looks closer, and a page of them stays light
RESULTS_BYTES = 256 * 2**20
AT_ONCE = 3.0  # seconds of computing that need no button
LAST_STEP = 5.0  # seconds: more than a run takes from one call of ``progress`` to the next
DRAWING = 0.25  # of the time of a run, for the pictures of what is known so far

Question = TypeVar("Question", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Chosen:
    """What the sidebar says: it holds on every page.

    ``photo`` is uint8 (H, W, 3); ``digest`` names its pixels; ``origin`` is the Python expression that reads it.
    ``scores`` are the logits (K,), ``chances`` the probabilities (K,); ``target`` is the class looked at. ``loaded_by``
    is the Python that loads the model, where it is not `call_of` it.
    """

    model: Any
    photo: np.ndarray
    digest: str
    title: str
    origin: str
    imports: tuple[str, ...]
    view: Any
    scores: np.ndarray
    chances: np.ndarray
    target: int
    loaded_by: str | None = None

    @property
    def ranking(self) -> np.ndarray:
        """Class indices, most probable first."""
        return np.argsort(-self.scores, kind="stable")

    def label(self, target: int) -> str:
        return self.model.labels[target]


class Results:
    """The latest results of everyone, by question, within a fixed number of bytes; safe between threads.

    A key names everything that the answer depends on: pictures by the digest of their pixels, models by name.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._held = capacity, 0
        self._items: OrderedDict[Hashable, tuple[Any, int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any | None:
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def seconds(self, key: Hashable) -> float:
        """How long the result took to compute."""
        with self._lock:
            return self._items[key][2] if key in self._items else 0.0

    def put(self, key: Hashable, result: Any, seconds: float) -> None:
        size = weight_of(result)
        with self._lock:
            self._held -= self._items.pop(key, (None, 0, 0.0))[1]
            self._items[key] = (result, size, seconds)
            self._held += size
            while self._held > self._capacity and len(self._items) > 1:
                self._held -= self._items.popitem(last=False)[1][1]


def weight_of(result: Any) -> int:
    """Bytes of the arrays and tensors in a result, a record of them, or a tuple or list of such."""
    if isinstance(size := getattr(result, "nbytes", None), int):
        return size
    if isinstance(result, (bytes, str)):
        return len(result)
    if isinstance(result, (tuple, list)):
        return sum(map(weight_of, result))
    return sum(map(weight_of, vars(result).values())) if hasattr(result, "__dict__") else 64


@st.cache_resource(show_spinner=False)
def results() -> Results:
    return Results(RESULTS_BYTES)


def known(key: Hashable, compute: Callable[[], Result]) -> Result:
    """The answer to a question: from the store, or computed now and kept. A refusal is an answer, and raised again."""
    return known_each({key: key}, lambda _: [compute()])[0]


def known_each(
    keys: Mapping[Question, Hashable], compute: Callable[[list[Question]], Sequence[Result]]
) -> tuple[Result, ...]:
    """`known` for several questions, of which ``compute`` answers in one go those that are open."""
    from vizcore.records import LensError

    answers = {question: results().get(key) for question, key in keys.items()}
    if still_open := [question for question, answer in answers.items() if answer is None]:
        start = time.perf_counter()
        found: Sequence[Any]
        try:
            found = compute(still_open)
        except LensError as refusal:
            found = [refusal] * len(still_open)
        seconds = time.perf_counter() - start
        for question, answer in zip(still_open, found, strict=True):
            results().put(keys[question], answer, seconds)
            answers[question] = answer
    return tuple(_answer_or_refusal(answer) for answer in answers.values())


def recall(key: Hashable) -> Any | None:
    """What is `known` already, or None."""
    return _answer_or_refusal(results().get(key))


def _answer_or_refusal(found: Any) -> Any:
    from vizcore.records import LensError

    if isinstance(found, LensError):
        raise type(found)(str(found))  # a new one: an exception collects where it has been
    return found


@dataclass(frozen=True, eq=False)
class Brought:
    """A network that somebody brought, for this visit only. ``call`` is the Python that loads it; ``notes`` are
    sentences about what was done to its file; ``guessed``: mean and standard deviation are the architecture's."""

    model: Any
    card: Card
    call: str
    notes: tuple[str, ...]
    guessed: bool


def brought() -> Brought | None:
    """The network that was brought in this visit."""
    return st.session_state.get("brought")


def model_named(name: str, untrained: bool = False) -> Any:
    """A loaded net: the one that this visit brought, or one of the catalogue. Raises the LensError that says why there
    is none."""
    own = brought()
    return own.model if own and own.model.name == name else _model_of_all(name, untrained)


@st.cache_resource(show_spinner="Loading the network …", max_entries=3)
def _model_of_all(name: str, untrained: bool) -> Any:
    """A net shared by all; the latest three are kept for whoever comes next."""
    from models import load_model

    return load_model(name, weights=None if untrained else "default")


def uploads_allowed() -> bool:
    """Whether weights may be brought here: CNN_LENS_CHECKPOINTS says it, "on" or "off". Where it says nothing, they may
    on a server that only its own machine reaches, unless CNN_LENS_PUBLIC says that a proxy shows it to the world."""
    setting = os.environ.get("CNN_LENS_CHECKPOINTS", "").strip().lower()
    if setting:
        return setting == "on"
    public = os.environ.get("CNN_LENS_PUBLIC", "").strip().lower() not in ("", "0", "off", "no", "false")
    return not public and st.get_option("server.address") in ("localhost", "127.0.0.1", "::1")


@st.cache_resource(show_spinner=False, max_entries=16)
def state_of(name: str, epoch: int) -> Any:
    """A net as it was along its training. These are small."""
    from models.states import state_model

    return state_model(name, epoch)


def call_of(model: Any) -> str:
    """The Python that loads a net."""
    own = brought()
    if own and own.model.name == model.name:
        return own.call
    return f"load_model({model.name!r}{'' if model.weights else ', weights=None'})"


@st.cache_data(show_spinner=False, max_entries=20)
def layers_of(name: str, untrained: bool) -> tuple[Any, ...]:
    """The layers of a net that run once a pass, in order of execution."""
    from vizcore.hooks import list_layers

    return list_layers(model_named(name, untrained))


@st.cache_data(show_spinner=False, max_entries=20)
def seconds_a_pass(name: str, untrained: bool) -> float:
    """How long one picture takes this net on this machine, measured on a pass of eight."""
    import torch

    model = model_named(name, untrained)
    pixels = torch.full((8, 3, *model.input_size), 0.5)
    with torch.no_grad():
        model.logits(pixels[:1])
        start = time.perf_counter()
        model.logits(pixels)
    return (time.perf_counter() - start) / len(pixels)


def photo_from(data: bytes) -> Any:
    """The photo in an uploaded file. Raises the BadImage that says why there is none."""
    from vizcore.records import BadImage

    photo, refusal = _photo_or_refusal(data)
    if refusal:
        raise BadImage(refusal)
    return photo


@st.cache_data(show_spinner=False, max_entries=32, max_size="256MB")
def _photo_or_refusal(data: bytes) -> tuple[Any, str]:
    from vizcore.images import open_photo
    from vizcore.records import BadImage

    try:
        return open_photo(data, max_side=PHOTO_SIDE), ""
    except BadImage as refusal:  # kept as well: a file is read once, not at every click
        return None, str(refusal)


def card_of(name: str) -> Card:
    return next(card for card in list_models() if card.name == name)


def scores_of(model: Any, photo: Any) -> tuple[Any, np.ndarray]:
    """What the net sees of a photo, and its logits (K,)."""

    def compute() -> tuple[Any, np.ndarray]:
        import torch

        from vizcore.images import prepare

        view = prepare(photo.pixels, model)
        with torch.no_grad():
            return view, model.logits(view.pixels)[0].float().numpy()

    return known(("scores", model.title, photo.digest), compute)


def warm_up() -> None:
    """Load the default net and answer the first question before it is asked. Runs before any visit."""
    from importlib import import_module

    from models.samples import list_samples
    from vizcore.records import LensError

    # Streamlit's caches wonder aloud at a thread without a visitor.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    try:
        model = model_named(DEFAULT_MODEL)
        photo = photo_from(list_samples()[0].read())
        scores_of(model, photo)
    except LensError:
        pass  # the first visitor is told, in the page
    import_module("torch._dynamo")  # takes seconds: torch asks for it when somebody first hides a window


def chosen() -> Chosen:
    """What the sidebar says now."""
    return st.session_state["chosen"]


# -- words -----------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text that Markdown shows as it is: class and file names may hold anything."""
    text = re.sub(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", " ", text)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&\"'=/@])", r"\\\1", text)


def price(count: int, seconds: float, *, of: tuple[str, str] = ("pass", "passes"), bound: bool = False) -> str:
    """What a run costs, in words; ``bound``: it takes at most these ``seconds``, not about so many.

    The memory is a bound that holds for every method here, and is tested.
    """
    how = "at most" if bound else "about"
    return f"{counted(count, of)}, {how} {duration(seconds)} and less than 0.6 GB of memory on this machine"


def counted(count: int, of: tuple[str, str]) -> str:
    """A number of things: ``of`` is the word for one and for several."""
    return f"{count:,} {of[count != 1]}"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{max(round(seconds, 1), 0.1):.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


# -- long runs -------------------------------------------------------------------------------------------------------


@contextmanager
def running(what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar with a way out, and the ``progress`` that moves it; ``unit`` is the word for what it counts.

    Any change on the page, the button "Cancel" too, makes Streamlit stop this run at the next call of ``progress``,
    with an exception that is no Exception: what is computed so far is dropped (unless the caller keeps it), and the net
    is left as it was.
    """
    place = st.empty()
    row = place.container(horizontal=True, vertical_alignment="center")
    bar = row.progress(0.0, text=what)
    row.button("Cancel", key=f"cancel {what}", icon=":material/close:", on_click=_say_stopped, args=(what,))
    start, shown = time.monotonic(), 0.0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < 0.1 and done < total:
            return
        shown = now
        left = (now - start) / done * (total - done) if done else 0.0
        count = f"{done:,} of {total:,} {unit}".rstrip()
        bar.progress(min(done / total, 1.0), text=f"{what}: {count}, about {duration(left)} left")

    ended = st.session_state["ended"] = threading.Event()
    try:
        yield progress
    finally:
        ended.set()
        place.empty()


def wait_for_stopped() -> None:
    """Streamlit begins to draw a page anew while the run that it stops is still on its way to its next ``progress``:
    wait until that has put away what it came to."""
    if ended := st.session_state.get("ended"):
        ended.wait(LAST_STEP)


def sparing(draw: Callable[[Result], None]) -> Callable[[Result], None]:
    """``draw``, but called so seldom that it takes no more than DRAWING of the time."""
    after = 0.0

    def draw_now_and_then(what: Result) -> None:
        nonlocal after
        start = time.monotonic()
        if start < after:
            return
        draw(what)
        end = time.monotonic()
        after = end + (end - start) * (1 / DRAWING - 1)

    return draw_now_and_then


def _say_stopped(what: str) -> None:
    st.session_state["stopped"] = what


def warn_untrained(here: Chosen) -> None:
    if here.model.weights is None:
        st.warning(
            "This network is untrained: its weights are random, and its answers mean nothing.",
            icon=":material/warning:",
        )


def follow(key: str, default: list[str], options: Sequence[str]) -> None:
    """Let a multiple choice follow its default until somebody changes it: Streamlit alone keeps the first one.

    What is no option (any more: the model may have changed) is dropped.
    """
    remembered = f"default of {key}"
    current = st.session_state.get(key)
    if current is None and key in st.query_params:
        return  # a link says what to show
    kept = [value for value in current or () if value in options]
    if kept != current or current == st.session_state.get(remembered):
        st.session_state[key] = kept if kept and kept != st.session_state.get(remembered) else default
    st.session_state[remembered] = default
