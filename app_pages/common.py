"""What the pages share: the loaded nets, what is chosen now, bounded results, and long runs that can be stopped.

The only file with ``st.cache_*`` and with the adapter between vizcore's ``progress`` and the screen.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import StopException, get_script_run_ctx

from app_pages import journal, memory
from app_pages.line import LONG, Busy, Line, Wait
from models import Card, list_models

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from app_pages.networks import Networks
    from vizcore.doctor import Report

DEFAULT_MODEL = "efficientnet_lite0"
PHOTO_SIDE = 1600  # larger photos are reduced: no net here looks closer, and a page of them stays light
AT_ONCE = 3.0  # seconds of computing that need no button
DRAWN_AT_ONCE = 3  # pages: a spare one or two for those that wait for a disk
LAST_STEP = 5.0  # seconds: more than a run takes from one call of ``progress`` to the next
DRAWING = 0.25  # of the time of a run, for the pictures of what is known so far

MOST_MB = {"photo": (15, 6), "zip": (100, 30)}  # of a file; and in public
LARGE = 100_000  # bytes of a result
LATER = ("torch._dynamo", "matplotlib.figure", "pandas", "sklearn.manifold")  # that pages ask for when they need them
WORTH_SAYING = 0.4  # seconds of waiting that are

Question = TypeVar("Question", bound=Hashable)
Result = TypeVar("Result")

_here = threading.local()  # of a run of a page: what shows that it waits
_twins: WeakKeyDictionary[Any, dict[int, Any]] = WeakKeyDictionary()  # of a model, by place in the line
_twins_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Chosen:
    """What the sidebar says: it holds on every page.

    ``loaded`` is the model, which all share; ``model``, inside of a turn, is one that nobody else runs meanwhile.
    ``photo`` is uint8 (H, W, 3); ``digest`` names its pixels; ``origin`` is the Python expression that reads it.
    ``scores`` are the logits (K,), ``chances`` the probabilities (K,); ``target`` is the class looked at. ``loaded_by``
    is the Python that loads the model, where it is not `call_of` it.
    """

    loaded: Any
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
    def model(self) -> Any:
        return at_this_place(self.loaded)

    @property
    def ranking(self) -> np.ndarray:
        """Class indices, most probable first."""
        return np.argsort(-self.scores, kind="stable")

    def label(self, target: int) -> str:
        return self.model.labels[target]


class Results:
    """The latest results of everyone, by question, within a fixed number of bytes; safe between threads.

    A key names everything that the answer depends on: pictures by the digest of their pixels, models by name. One
    result that is larger than all of that is kept besides, the latest.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._held = capacity, 0
        self._items: OrderedDict[Hashable, tuple[Any, int, float]] = OrderedDict()
        self._besides: dict[Hashable, tuple[Any, int, float]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._find(key)[0]

    def seconds(self, key: Hashable) -> float:
        """How long the result took to compute; where several were computed in one go, its share."""
        with self._lock:
            return self._find(key)[2]

    def _find(self, key: Hashable) -> tuple[Any, int, float]:
        return self._items.get(key) or self._besides.get(key) or (None, 0, 0.0)

    def put(self, key: Hashable, result: Any, seconds: float) -> None:
        size = weight_of(result)
        with self._lock:
            self._held -= self._items.pop(key, (None, 0, 0.0))[1]
            if size > self._capacity:
                self._besides = {key: (result, size, seconds)}
                return
            self._items[key] = (result, size, seconds)
            self._held += size
            while self._held > self._capacity:
                self._held -= self._items.popitem(last=False)[1][1]

    def drop_large(self, least: int = LARGE, *, cheaper_than: float = math.inf) -> None:
        """Let go of results of so many bytes and more that took fewer seconds: smaller ones free nothing, and every
        page asks for them."""

        def stays(item: tuple[Any, int, float]) -> bool:
            return item[1] < least or item[2] >= cheaper_than

        with self._lock:
            self._items = OrderedDict((key, item) for key, item in self._items.items() if stays(item))
            self._besides = {key: item for key, item in self._besides.items() if stays(item)}
            self._held = sum(size for _, size, _ in self._items.values())

    def clear(self) -> None:
        self.drop_large(0)


def weight_of(result: Any) -> int:
    """Bytes of the arrays and tensors in a result, a record of them, or a tuple or list of such."""
    if isinstance(size := getattr(result, "nbytes", None), int):
        return size
    if isinstance(result, (bytes, str)):
        return len(result)
    if isinstance(result, (tuple, list)):
        return sum(map(weight_of, result))
    return sum(map(weight_of, vars(result).values())) if hasattr(result, "__dict__") else 64


@cache  # not Streamlit's: any visitor may have that emptied for all
def results() -> Results:
    return Results(memory.for_results(memory.budget()))


@cache
def pictures() -> Results:
    return Results(memory.for_pictures(memory.budget()))


def drawn(draw: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """What ``draw`` makes of its arguments, kept for whoever asks for the same: arrays count by their content.

    Drawing needs no turn: it takes hundredths of a second, but a page has a dozen pictures, and is drawn anew whenever
    something on it changes. Streamlit's ``cache_data`` looks at a sample of a large array only, and counts no bytes.
    """
    key = draw.__module__, draw.__qualname__, _content(arguments), _content(options)
    return kept(key, lambda: draw(*arguments, **options))


def kept(key: Hashable, draw: Callable[[], Result]) -> Result:
    """`drawn`, where a key that names all of it is known and shorter."""
    found: Result | None = pictures().get(key)
    if found is None:
        found = draw()
        pictures().put(key, found, 0.0)
    return found


def _content(argument: Any) -> Hashable:
    if isinstance(argument, np.ndarray):
        return argument.shape, argument.dtype.str, sha256(np.ascontiguousarray(argument).data).digest()
    if is_dataclass(argument):
        return type(argument), _content(vars(argument))
    if isinstance(argument, Mapping):
        return _content(tuple(argument.items()))
    return tuple(map(_content, argument)) if isinstance(argument, (list, tuple)) else argument


@cache
def line() -> Line:
    return Line()


class Desk:
    """So many places, for whoever comes first: of a semaphore's waiters each newcomer may get ahead."""

    def __init__(self, places: int) -> None:
        self._free, self._waiting, self._lock = places, deque[threading.Event](), threading.Lock()

    def acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


@cache
def _desk() -> Desk:
    return Desk(DRAWN_AT_ONCE)


@contextmanager
def at_the_desk() -> Iterator[None]:
    """Draw a page: few at a time, in the order in which they come. Python draws one at a time anyway; thirty that take
    turns every moment are all finished last, and their threads keep each other and torch from working. Parts of a page
    that Streamlit draws anew by themselves do not wait here."""
    _desk().acquire()
    _here.at_the_desk = True
    try:
        yield
    finally:
        _here.at_the_desk = False
        _desk().release()


@contextmanager
def away_from_the_desk() -> Iterator[None]:
    """Wait or compute in the middle of a page, while others draw theirs."""
    if not getattr(_here, "at_the_desk", False):
        yield
        return
    _here.at_the_desk = False
    _desk().release()
    try:
        yield
    finally:
        _desk().acquire()
        _here.at_the_desk = True


def known(key: Hashable, compute: Callable[[], Result], seconds: float | None = None, need: int = 0) -> Result:
    """The answer to a question: from the store, or computed now and kept. A refusal is an answer, and raised again.

    What is computed waits for its turn in the `line`; ``seconds`` is what it will take, where that is known better than
    from the last question of its kind, which is the first word of the key, and the net; ``need`` the bytes, where these
    are known better than by `room_for`.
    """
    return known_each({key: key}, lambda _: [compute()], seconds, need)[0]


def known_each(
    keys: Mapping[Question, Hashable],
    compute: Callable[[list[Question]], Sequence[Result]],
    seconds: float | None = None,
    need: int = 0,
) -> tuple[Result, ...]:
    """`known` for several questions, of which ``compute`` answers in one go those that are open."""
    answers = {question: results().get(key) for question, key in keys.items()}
    if still_open := [question for question, answer in answers.items() if answer is None]:
        with turn([keys[question] for question in still_open], seconds):
            for question in still_open:  # somebody may have asked the same, and been served first
                answers[question] = results().get(keys[question])
            if still_open := [question for question in still_open if answers[question] is None]:
                usual = line().usual(kind_of(keys[still_open[0]]))
                make_room(need or room_for(usual if seconds is None else seconds))
                answers |= _computed(keys, still_open, compute)
    return tuple(_answer_or_refusal(answer) for answer in answers.values())


def room_for(seconds: float) -> int:
    """Bytes that a turn of so many seconds may take."""
    return memory.for_turn(_bytes_of_net() if seconds >= LONG else None)


def make_room(need: int) -> None:
    """Keep a turn that needs so many bytes from taking the process beyond its budget; raises Busy where it would."""
    for let_something_go in (memory.give_back, let_cheap_ones_go, let_unused_networks_go, let_go):
        if memory.resident() + need <= memory.budget():
            return
        let_something_go()
    if (taken := memory.resident()) + need > memory.budget():
        raise Busy(
            f"The server has no memory for this now: {taken / memory.MB:,.0f} of {memory.budget() / memory.MB:,.0f} MB "
            "are taken. Try again when others have gone, or choose a smaller network; nothing that you chose is lost."
        )


@contextmanager
def looking_at(here: Chosen) -> Iterator[None]:
    """Reckon what a turn takes by the net of ``here``, where that is another than the sidebar's."""
    before, _here.looked_at = getattr(_here, "looked_at", None), here
    try:
        yield
    finally:
        _here.looked_at = before


def _bytes_of_net() -> int:
    """Of the net that is looked at."""
    here: Chosen | None = getattr(_here, "looked_at", None)
    if not here and get_script_run_ctx(suppress_warning=True):
        here = st.session_state.get("chosen")
    return sum(tensor.nbytes for tensor in here.loaded.net.parameters()) if here else 0


def let_cheap_ones_go() -> None:
    """Give back what can be computed and drawn again in no time."""
    results().drop_large(cheaper_than=LONG)
    pictures().clear()
    memory.give_back()


def let_unused_networks_go() -> None:
    networks().let_go()
    memory.give_back()


def let_go() -> None:
    """Give back what can be computed and drawn again."""
    results().drop_large()
    pictures().clear()
    memory.give_back()


def person() -> str:
    """Who asks: the visit, or the thread where there is none."""
    run = get_script_run_ctx(suppress_warning=True)
    return run.session_id if run else threading.current_thread().name


def words_of(wait: Wait) -> str:
    """ "Third in line, about 8 s"."""
    if wait.shared:
        return f"The same is being computed for somebody else, about {duration(wait.seconds)}"
    ordinals = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth")
    place = ordinals[wait.place - 1] if wait.place <= len(ordinals) else f"Number {wait.place}"
    return f"{place} in line, about {duration(wait.seconds)}"


def _computed(
    keys: Mapping[Question, Hashable],
    still_open: list[Question],
    compute: Callable[[list[Question]], Sequence[Result]],
) -> dict[Question, Any]:
    from vizcore.records import LensError

    start = time.perf_counter()
    found: Sequence[Any]
    try:
        found = compute(still_open)
    except LensError as refusal:
        found = [refusal.with_traceback(None)] * len(still_open)  # that would hold all that was computed
    seconds = time.perf_counter() - start
    line().learn(kind_of(keys[still_open[0]]), seconds)
    for question, answer in zip(still_open, found, strict=True):
        results().put(keys[question], answer, seconds / len(still_open))
    return dict(zip(still_open, found, strict=True))


def kind_of(key: Hashable) -> Hashable:
    return key[:2] if isinstance(key, tuple) else key


@contextmanager
def turn(questions: Sequence[Hashable], seconds: float | None = None) -> Iterator[None]:
    """A turn in the `line` for what is named, as `known` has it. Who has to wait is told so; where there is no place,
    that is said, and the run of the page ends here."""
    from vizcore.records import LensError

    if line().has_turn():
        yield
        return
    kind = kind_of(questions[0])
    seconds = line().usual(kind) if seconds is None else seconds
    waiting, asked, begun, outcome = _Waiting(), time.monotonic(), None, "cancelled"
    try:
        with away_from_the_desk(), line().turn(person(), questions, seconds, waiting.tell):
            begun = time.monotonic()
            waiting.end()
            share_the_cores()
            yield
        outcome = "done"
    except Busy as refusal:
        outcome = "refused"
        waiting.end()
        say_no(str(refusal), kind)
    except LensError:  # an answer
        outcome = "done"
        raise
    except Exception as error:  # written down, and raised again unless it is one of memory
        outcome = "failed"
        if not is_out_of_memory(error):
            raise
        let_go()
        say_no(
            "This is too large for this server's memory. Choose a smaller network or picture, or try again later.", kind
        )
    finally:
        now = time.monotonic()
        begun = now if begun is None else begun
        journal.write(outcome, kind, person(), begun - asked, now - begun)


def at_this_place(model: Any) -> Any:
    """The model itself, or at another place of the `line` than the first its twin of that place: two turns with one net
    would wait for its lock in turn, each with half of the cores."""
    if not (place := line().place()):
        return model
    with _twins_lock:
        twins = _twins.setdefault(model, {})
        if place not in twins:
            twins[place] = model.twin()
        return twins[place]


def share_the_cores() -> None:
    """Have torch compute this turn, which is a thread, with all cores where it is the only one, else with its share.

    Threads of several turns get in each other's way: on two cores and beside a page that was being drawn, two turns of
    one thread each made 8.4 passes a second together, and 5.6 with two threads each.
    """
    import torch

    torch.set_num_threads(max(_cores() // max(line().running(), 1), 1))


@cache
def _cores() -> int:
    import torch

    return torch.get_num_threads()  # as torch was set up, by OMP_NUM_THREADS as well


def say_no(sentence: str, kind: Hashable) -> NoReturn:
    """Say why nothing was computed, with a button to try again; the run of the page ends here."""
    st.warning(sentence, icon=":material/hourglass_disabled:")
    st.button("Try again", key=f"again {kind!r}", icon=":material/refresh:")
    raise StopException  # not st.stop(): behind that, a bar could no longer be taken away


def is_out_of_memory(error: Exception) -> bool:
    """NumPy and Python raise MemoryError, torch a RuntimeError that says it in words."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "bad_alloc")
    )


class _Waiting:
    """Says to a person who waits for a turn how long it will be: in the bar of `running`, or where the page is now."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._place: DeltaGenerator | None = None

    def tell(self, wait: Wait) -> None:
        if time.monotonic() - self._start < WORTH_SAYING:
            return
        if show := getattr(_here, "show_wait", None):
            show(words_of(wait))
            return
        self._place = self._place or st.empty()
        self._place.info(f"{words_of(wait)}. Whatever you change takes its place.", icon=":material/hourglass_top:")

    def end(self) -> None:
        if self._place:
            self._place.empty()


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
    sentences about what was done to its file; ``guessed`` is as `vizcore.doctor.examine` has it; ``report`` is that of
    the doctor, on the picture called ``examined_on``, which has the ``digest``."""

    model: Any
    card: Card
    call: str
    notes: tuple[str, ...]
    guessed: tuple[str, ...]
    report: Report
    examined_on: str
    digest: str


def brought() -> Brought | None:
    """The network that was brought in this visit."""
    return st.session_state.get("brought")


@cache
def networks() -> Networks:
    from app_pages.networks import Networks

    return Networks(memory.for_networks(memory.budget()))


def model_named(name: str, untrained: bool = False) -> Any:
    """A loaded net: the one that this visit brought, or one of the catalogue, which all share. Raises the LensError
    that says why there is none."""
    own = brought()
    if own and own.model.name == name:
        return own.model
    card = card_of(name)

    def load() -> Any:
        from models import load_model

        with st.spinner("Loading the network …"):
            return load_model(name, weights=None if untrained else "default")

    if found := networks().find((name, untrained)):
        return found
    with away_from_the_desk():
        return networks().get((name, untrained), card.title, 4 * card.parameters, load)


def is_public() -> bool:
    """Whether CNN_LENS_PUBLIC says that a proxy shows the server to the world."""
    return os.environ.get("CNN_LENS_PUBLIC", "").strip().lower() not in ("", "0", "off", "no", "false")


def most_mb(kind: str) -> int:
    """Megabytes that a file of that kind may have here; the browser is told, and whoever reads it looks again."""
    return MOST_MB[kind][is_public()]


def uploads_allowed() -> bool:
    """Whether weights may be brought here: CNN_LENS_CHECKPOINTS says it, "on" or "off". Where it says nothing, they may
    on a server that only its own machine reaches, unless it `is_public`."""
    setting = os.environ.get("CNN_LENS_CHECKPOINTS", "").strip().lower()
    if setting:
        return setting == "on"
    return not is_public() and st.get_option("server.address") in ("localhost", "127.0.0.1", "::1")


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


def layers_of(name: str, untrained: bool) -> tuple[Any, ...]:
    """The layers of a net that run once a pass, in order of execution."""
    from vizcore.hooks import list_layers

    model = model_named(name, untrained)
    return known(("layers", model.title), lambda: list_layers(at_this_place(model)))


def seconds_a_pass(name: str, untrained: bool) -> float:
    """How long one picture takes this net on this machine, measured on a pass of eight."""
    model = model_named(name, untrained)

    def measure() -> float:
        import torch

        pixels = torch.full((8, 3, *model.input_size), 0.5)
        with torch.no_grad():
            mine = at_this_place(model)
            mine.logits(pixels[:1])
            start = time.perf_counter()
            mine.logits(pixels)
        return (time.perf_counter() - start) / len(pixels)

    return known(("seconds a pass", model.title), measure)


def photo_from(data: bytes) -> Any:
    """The photo in an uploaded file. Raises the BadImage that says why there is none."""
    from vizcore.images import open_photo
    from vizcore.photos import bytes_to_open
    from vizcore.records import BadImage

    if len(data) > most_mb("photo") * memory.MB:
        raise BadImage(
            f"The picture takes {len(data) / memory.MB:.1f} MB; here a photo may take {most_mb('photo')}. Export it "
            "smaller."
        )
    need = bytes_to_open(data)
    return known(
        ("photo", None, sha256(data).hexdigest()),
        lambda: open_photo(data, max_side=PHOTO_SIDE),
        *((LONG, need) if need > memory.for_turn(None) else ()),
    )


def card_of(name: str) -> Card:
    return next(card for card in list_models() if card.name == name)


def scores_of(model: Any, photo: Any) -> tuple[Any, np.ndarray]:
    """What the net sees of a photo, and its logits (K,)."""

    def compute() -> tuple[Any, np.ndarray]:
        import torch

        from vizcore.images import prepare

        view = prepare(photo.pixels, model)
        with torch.no_grad():
            return view, at_this_place(model).logits(view.pixels)[0].float().numpy()

    return known(("scores", model.title, photo.digest), compute)


def chances_of(scores: np.ndarray) -> np.ndarray:
    """The probabilities (K,) of logits (K,)."""
    import torch

    from vizcore.records import probabilities

    return probabilities(torch.from_numpy(scores)[None])[0].numpy()


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
    memory.freeze()  # visitors may be there already
    for library in LATER:
        import_module(library)
    memory.freeze()


def chosen() -> Chosen:
    """What the sidebar says now."""
    return st.session_state["chosen"]


# -- words -----------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text that Markdown shows as it is: class and file names may hold anything."""
    text = re.sub(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", " ", text)
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&\"'=/@])", r"\\\1", text)


def price(
    count: int, seconds: float, *, of: tuple[str, str] = ("pass", "passes"), bound: bool = False, besides: int = 0
) -> str:
    """What a run costs, in words; ``bound``: it takes at most these ``seconds``, not about so many.

    The memory is a bound that holds for every method here, and is tested; ``besides`` are bytes for a copy of the net.
    """
    how = "at most" if bound else "about"
    size = 0.6 + math.ceil(besides / 10**8) / 10
    return f"{counted(count, of)}, {how} {duration(seconds)} and less than {size:.1f} GB of memory on this machine"


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
        if line().has_turn():
            share_the_cores()  # others may have begun or ended since
        left = (now - start) / done * (total - done) if done else 0.0
        count = f"{done:,} of {total:,} {unit}".rstrip()
        bar.progress(min(done / total, 1.0), text=f"{what}: {count}, about {duration(left)} left")

    def show_wait(words: str) -> None:
        nonlocal start
        start = time.monotonic()  # waiting says nothing of how fast it goes
        bar.progress(0.0, text=f"{what}: {words[0].lower()}{words[1:]}")

    ended = st.session_state["ended"] = threading.Event()
    outer, _here.show_wait = getattr(_here, "show_wait", None), show_wait
    try:
        with away_from_the_desk():
            try:
                yield progress
            finally:
                ended.set()  # before this one waits for the desk: the run that follows it waits for this
    finally:
        _here.show_wait = outer
        place.empty()


def wait_for_stopped() -> None:
    """Streamlit begins to draw a page anew while the run that it stops is still on its way to its next ``progress``:
    wait until that has put away what it came to."""
    if ended := st.session_state.get("ended"):
        with away_from_the_desk():
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
