"""What a person does: looks at a page for a while, then changes something; now and then in the middle of a run.

The mix is that of a lesson: layers, channels and classes are turned most, each uploads photos of its own, some run the
costly methods, and one in twenty changes its mind while a run goes on. Pauses are log-normal, 3 to 12 s.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.load.answers import OwnPhoto, Page
from benchmarks.load.client import Client, Lost

PAUSE = (3.0, 12.0)  # seconds: nineteen in twenty lie between, the others are cut
MIX = {  # of a hundred things that a person does
    "open a page": 5,
    "change the model": 5,
    "change the layer": 20,
    "next channel": 15,
    "heatmaps of a class": 20,
    "run occlusion": 10,
    "upload a photo": 10,
    "see the embedding": 10,
    "change one's mind": 5,
}
PAGES = ("Overview", "Layers", "Heatmaps", "Anatomy", "Arithmetic", "Embedding")
MODELS = ("EfficientNet-Lite0", "EfficientNet-Lite1")
CLASSES = ("tiger cat", "velvet", "screen", "goldfish", "espresso", "missile", "balloon", "mosque", "jigsaw puzzle")
METHODS = ("Grad-CAM", "HiResCAM", "LayerCAM", "XGrad-CAM")
RUNS = ("run occlusion", "see the embedding")  # what computes, though the page before showed the same pictures
OWN_HEATMAP = "Grad-CAM of a photo of one's own"


class TurnedAway(Exception):
    """The line was full, or something went wrong: what depends on it is left alone. The deed is written down."""


@dataclass(frozen=True)
class Deed:
    """One thing that was done: how it ended ("done", "cancelled", "refused", "lost", "failed") and how long it took.

    ``titled``: seconds until the title of another page stood there, where one was opened; ``known``: the same question
    was answered for this person before.
    """

    what: str
    outcome: str
    seconds: float
    titled: float | None = None
    known: bool = False
    why: str = ""


@dataclass
class Person:
    """Somebody at the app. ``number`` tells people apart, over all runs, and makes their photos."""

    number: int
    client: Client
    photo: OwnPhoto
    deeds: list[Deed] = field(default_factory=list)
    seen: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.number)
        self._photos = 0
        self._model = MODELS[0]
        self._asked: set[object] = set()

    @classmethod
    async def arrive(cls, address: str, number: int) -> Person:
        start = time.monotonic()
        person = cls(number, await Client.open(address), OwnPhoto.sample())
        person.deeds.append(Deed("arrive", "done", time.monotonic() - start))
        await person._look()
        return person

    async def stay(self, until: float) -> None:
        """Do things, with pauses, until that second of `time.monotonic`."""
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "open a page": lambda: self._go(self._random.choice(PAGES)),
            "change the model": self._change_model,
            "change the layer": self._change_layer,
            "next channel": self._next_channel,
            "heatmaps of a class": self._heatmaps,
            "run occlusion": self._occlusion,
            "upload a photo": self.upload,
            "see the embedding": self._embedding,
            "change one's mind": self._change_mind,
        }
        first = True  # everybody brings a photo of their own before anything else
        while time.monotonic() + (pause := self.pause()) < until:
            await asyncio.sleep(pause)
            what = "upload a photo" if first else self._random.choices(list(MIX), list(MIX.values()))[0]
            first = False
            try:
                if self.client.refusal and self.client.has("Try again"):
                    await self._do("try again", self.client.press("Try again"))
                else:
                    await acts[what]()
            except TurnedAway:
                continue
            except Lost as lost:
                self.deeds.append(Deed(what, "lost", 0.0, why=str(lost)))
                return
            except (KeyError, ValueError) as missing:  # a page that was refused, or shows less than it should
                self.deeds.append(Deed(what, "failed", 0.0, why=repr(missing)))

    def pause(self) -> float:
        low, high = map(math.log, PAUSE)
        middle, spread = (low + high) / 2, (high - low) / 4
        return min(max(self._random.lognormvariate(middle, spread), PAUSE[0]), PAUSE[1])

    # ---- deeds -------------------------------------------------------------------------------------------

    async def upload(self) -> None:
        """A new photo, and its heatmap."""
        if self.client.title != "Heatmaps":
            await self._go("Heatmaps")
        if not self.client.has("upload"):
            await self._do("choose to upload", self.client.choose("source", ["Upload"]))
        await self.upload_now()

    async def upload_now(self) -> None:
        self._photos += 1
        photo = self.photo = OwnPhoto.of(self.number, self._photos)
        await self._do(OWN_HEATMAP, self.client.upload("upload", photo.title, photo.data))

    async def run_occlusion(self) -> None:
        await self._do("run occlusion", self.client.press("compute occlusion"))

    async def prepare_occlusion(self) -> None:
        """The page of heatmaps with the button that hides windows."""
        if self.client.title != "Heatmaps":
            await self._go("Heatmaps")
        if "Occlusion" not in self.client.values("methods"):
            await self._do("choose occlusion", self.client.choose("methods", ["Grad-CAM", "Occlusion"]))

    async def _change_model(self) -> None:
        self._model = MODELS[1 - MODELS.index(self._model)]
        await self._do("change the model", self.client.choose("model", self._model))

    async def _change_layer(self) -> None:
        await self._there("Layers")
        options = list(self.client.widget("layer").options)
        await self._do("change the layer", self.client.choose("layer", self._random.choice(options)))

    async def _next_channel(self) -> None:
        await self._there("Layers")
        channel = self.client.widget("channel")
        number = self._random.randrange(int(channel.max) + 1)
        await self._do("next channel", self.client.choose("channel", float(number)))

    async def _heatmaps(self) -> None:
        await self._there("Heatmaps")
        if self._random.random() < 0.3:
            methods = self._random.sample(METHODS, 2)
            await self._do("heatmaps of a class", self.client.choose("methods", methods))
        else:
            classes = self._random.sample(CLASSES, 2)
            await self._do("heatmaps of a class", self.client.choose("classes", classes))

    async def _occlusion(self) -> None:
        await self.prepare_occlusion()
        if self.client.has("compute occlusion"):
            await self.run_occlusion()

    async def _embedding(self) -> None:
        await self._there("Embedding")
        if self.client.has("draw_map"):
            await self.client.choose("watch", False)  # a browser asks for look after look, which a protocol does not
            await self._do("see the embedding", self.client.press("draw_map"))

    async def _change_mind(self) -> None:
        """Begin to hide windows, and press the button that cancels it a moment later."""
        await self.prepare_occlusion()
        if not self.client.has("compute occlusion"):
            return
        run = await self.client.begin(self.client.press_of("compute occlusion"))
        await asyncio.sleep(self._random.uniform(0.5, 2.0))
        if not self.client.has("Cancel"):  # over already, or not begun yet
            await self._do("run occlusion", run)
            return
        run.close()  # nobody waits for its end any more
        start = time.monotonic()
        await self.client.press("Cancel")
        self.deeds.append(Deed("change one's mind", "cancelled", time.monotonic() - start))
        await self._look()

    async def _there(self, title: str) -> None:
        if self.client.title != title:
            await self._go(title)

    async def _go(self, title: str) -> None:
        await self._do(f"open {title}", self.client.go(title), opens=True)

    async def _do(self, what: str, asking: Awaitable[None], opens: bool = False) -> None:
        start = time.monotonic()
        await asking
        outcome, why = self._outcome()
        titled = max(self.client.titled_at - start, 0.0) if opens and outcome == "done" else None
        seconds = time.monotonic() - start
        await self._look()
        question = (self.client.title, self._model, self.photo.title, tuple(self.client.pictures()), self._layer())
        known = question in self._asked and what not in RUNS
        self.deeds.append(Deed(what, outcome, seconds, titled, known, why))
        self._asked.add(question)
        if outcome != "done":
            raise TurnedAway(why)

    # ---- what is seen ------------------------------------------------------------------------------------

    def _outcome(self) -> tuple[str, str]:
        if why := self.client.exception:
            return "failed", why
        if why := self.client.refusal:
            return "refused", why
        return "done", ""

    async def _look(self) -> None:
        """Fetch what the page shows, and keep it for the judge."""
        shown = [(alt, await self.client.fetch(url)) for alt, url in self.client.pictures().items()]
        stopped = self.client.says("stopped early")
        self.seen.append(Page(self.number, self.photo, self._model, self._layer(), tuple(shown), stopped))

    def _layer(self) -> str:
        key = {"Heatmaps": "cam_layer", "Layers": "layer"}.get(self.client.title)
        return self.client.value(key) if key and self.client.has(key) else ""
