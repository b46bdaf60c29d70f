"""The judge that serves: made from bundle, catalogue and rules, and made again when one of them changes."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from heimdall_fleet.shown import shown_address
from heimdall_fleet.triage.arms import ArmBundles
from heimdall_fleet.triage.sources import Archives, Offer, Source, SourceError
from heimdall_models.asked import DecisionInput
from heimdall_models.bundle import Bundle, BundleError
from heimdall_models.cache import Memory
from heimdall_models.decide import decide
from heimdall_models.embed import EmbedderError
from heimdall_models.judge import Judge
from heimdall_models.quality import QualityError
from heimdall_models.record import MODEL_PREDICT_FAILED, Decided
from heimdall_schemas.control import Pointer
from heimdall_schemas.failure import Failure, FailureCode
from heimdall_schemas.request import NO_OPTIONS

log = logging.getLogger(__name__)

MakeJudge = Callable[[Bundle], Judge]

REFUSALS = (BundleError, QualityError, SourceError, EmbedderError)

UNFORESEEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What deciding raises over a bundle with a fault that its checks do not know: the bundle's fault, not the worker's end."""

PROBES = ("hi", "Prove that there are infinitely many primes.", "def add(a, b):\n    return a - b  # fix this")


@dataclass(frozen=True, slots=True)
class Serving:
    """The bundle that decides, where it came from, and its judge."""

    marker: str
    bundle: Bundle
    judge: Judge
    loaded_at: datetime


class Tuning:
    """Holds the bundle and the judge that serve. A bad bundle leaves them as they are and is told once.

    `make` turns a bundle into a judge with the present catalogue and rules. `source` is what the configuration names; a
    pointer on the control topic goes before it for as long as it stands there. `refused`: why not the newest one.
    `challenger` is the bundle that decides silently, where there is a pointer to one that can be used. `arms` are the bundles
    of an experiment, which `make` reads; `arms_refused`: why not the newest of them.
    """

    def __init__(self, source: Source, archives: Archives, make: MakeJudge, arms: ArmBundles | None = None) -> None:
        """Raises Failure `heimdall_bundle`: a worker does not start without a bundle it can use."""
        self._source = source
        self._archives = archives
        self._pointer: Pointer | None = None
        self._make = make
        self._arms = arms
        try:
            self.serving = _load(source.offer(), make)
        except REFUSALS as error:
            raise Failure(
                FailureCode.HEIMDALL_BUNDLE, f"{error} (tuning.artifact_url)", detail_code="ARTIFACT_LOAD_FAILED"
            ) from error
        self.refused: str | None = None
        self.arms_refused: str | None = None
        self.challenger: Serving | None = None
        self.challenger_refused: str | None = None
        self._challenger_pointer: Pointer | None = None
        self._polling = asyncio.Lock()
        self._say_left_out()

    @property
    def bundle(self) -> Bundle:
        return self.serving.bundle

    @property
    def arm_bundles(self) -> dict[str, str]:
        """The hash of each bundle that an arm of the experiment has, by its address."""
        return (
            {}
            if self._arms is None
            else {shown_address(url): bundle.hash for url, bundle in self._arms.bundles.items()}
        )

    @property
    def judge(self) -> Judge:
        return self.serving.judge

    def point_at(self, pointer: Pointer | None) -> None:
        """Follow the control topic's pointer from the next poll on; None: the configured source again."""
        self._pointer = pointer

    def challenge_with(self, pointer: Pointer | None) -> None:
        """Let the bundle of this pointer decide silently from the next poll on; None: no bundle."""
        self._challenger_pointer = pointer

    async def poll(self) -> bool | None:
        """True: another bundle serves now. False: another one is there and was refused. None: nothing new.

        Files, network and loading are a thread's work: the event loop goes on deciding.
        """
        async with self._polling:
            found = (await self._poll(), await self._poll_arms(), await self._poll_challenger())
            return False if False in found else found[0] or found[1]

    async def _poll(self) -> bool | None:
        make = self._make
        try:
            offer = await asyncio.to_thread(self._offer)
            if offer.marker == self.serving.marker:
                self.refused = None
                return None
            serving = await asyncio.to_thread(_load, offer, make)
            if make is not self._make:
                serving = _rejudged(serving, self._make)
        except REFUSALS as error:
            said = f"a new bundle was refused, {self.bundle.hash[:12]} still serves: {error}"
            known, self.refused = self.refused, str(error)
            return _refuse(known, error, said, "bundle_refused")
        before = self.bundle.hash
        self.serving, self.refused = serving, None
        log.info("bundle %s replaces %s", self.bundle.hash[:12], before[:12], extra={"action": "bundle_swapped"})
        self._say_left_out()
        return True

    async def _poll_arms(self) -> bool | None:
        """As `_poll`, for the bundles of an experiment: a bad one leaves all of them as they are."""
        arms, make = self._arms, self._make
        if arms is None:
            return None
        before = arms.held
        try:
            if not await asyncio.to_thread(arms.look):
                self.arms_refused = None
                return None
            serving = await asyncio.to_thread(_rejudged, self.serving, make)
        except REFUSALS as error:
            arms.held = before
            known, self.arms_refused = self.arms_refused, str(error)
            return _refuse(known, error, f"an arm's new bundle was refused: {error}", "arm_refused")
        if make is self._make:
            self.serving = serving
        self.arms_refused = None
        log.info("an arm of the experiment has another bundle", extra={"action": "arm_swapped"})
        return True

    async def _poll_challenger(self) -> bool | None:
        """As `_poll`. One that cannot be used decides nothing, and the champion does not notice."""
        pointer, make = self._challenger_pointer, self._make
        if pointer is None or (self.challenger is not None and pointer.sha256 != self.challenger.marker):
            self.challenger = None
        if pointer is None or self.challenger is not None:
            self.challenger_refused = None
            return None
        try:
            challenger = await asyncio.to_thread(_load, self._archives.offer(pointer), make)
            self.challenger = challenger if make is self._make else _rejudged(challenger, self._make)
        except REFUSALS as error:
            known, self.challenger_refused = self.challenger_refused, str(error)
            return _refuse(known, error, f"a challenger was refused: {error}", "challenger_refused")
        log.info("challenger %s decides silently", self.challenger.bundle.hash[:12], extra={"action": "challenged"})
        return True

    def remake(self, make: MakeJudge, source: Source, arms: ArmBundles | None = None) -> None:
        """Catalogue, rules or addresses have changed. Raises one of `REFUSALS`, and keeps what served."""
        self.serving = _rejudged(self.serving, make)
        self.challenger = self.challenger and _rejudged(self.challenger, make)
        self._make = make
        self._source = source
        self._arms = arms
        self._say_left_out()

    def _offer(self) -> Offer:
        return self._source.offer() if self._pointer is None else self._archives.offer(self._pointer)

    def _say_left_out(self) -> None:
        for model, why in self.judge.left_out.items():
            log.warning("%s is no candidate: %s", model, why, extra={"action": "candidate_left_out"})


def _refuse(known: str | None, error: Exception, said: str, action: str) -> bool | None:
    """Each look tries again, since a copy may not have been whole yet; a reason that is `known` is not told again."""
    if known == str(error):
        return None
    log.error("%s", said, extra={"action": action})
    return False


def _rejudged(serving: Serving, make: MakeJudge) -> Serving:
    judge = make(serving.bundle)
    try_out(judge)
    return replace(serving, judge=judge)


def _load(offer: Offer, make: MakeJudge) -> Serving:
    bundle = offer.load()
    judge = make(bundle)
    try_out(judge)
    return Serving(offer.marker, bundle, judge, datetime.now(UTC))


def try_out(judge: Judge) -> None:
    """Decide a few requests before a judge serves, which warms it up, and its arms with it.

    Raises SourceError when one of them cannot decide or classify, EmbedderError for an embedder of another width.
    """
    bodies = [{"messages": [{"role": "user", "content": probe}]} for probe in PROBES]
    batch = [DecisionInput(f"probe-{at}", NO_OPTIONS, body) for at, body in enumerate(bodies)]
    if judge.reader.embedder is not None:
        with suppress(OSError, RuntimeError):  # a service that is away now may be back for the first request
            judge.reader.embedder(PROBES)
    for one in (replace(judge, arms={}), *judge.arms.values()):
        try:
            answers = decide(batch, one, Memory(decisions=None), lambda: 0.0)
        except UNFORESEEN as error:
            raise SourceError(
                f"bundle {one.bundle.hash[:12]} is refused: deciding with it fails ({type(error).__name__}: {error}); "
                "train it again"
            ) from error
        if any(isinstance(answer, Decided) and answer.fallback_reason == MODEL_PREDICT_FAILED for answer in answers):
            raise SourceError(
                f"bundle {one.bundle.hash[:12]} is refused: its classifier gives NaN or infinity for ordinary requests; "
                "train it again"
            )
