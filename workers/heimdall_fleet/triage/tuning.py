"""The judge that serves: made from bundle, catalogue and rules, and made again when one of them changes."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from heimdall_models.bundle import MANIFEST, Bundle, BundleError, load_bundle
from heimdall_models.judge import Judge
from heimdall_models.quality import QualityError
from heimdall_schemas.failure import Failure, FailureCode

log = logging.getLogger(__name__)

MakeJudge = Callable[[Bundle], Judge]


@dataclass(frozen=True, slots=True)
class Refused:
    """The bundle that could not be used, by the hash of its manifest where it has one, and why."""

    manifest: str | None
    why: str


class Tuning:
    """Holds the bundle and the judge that serve. A bad bundle leaves them as they are and is told once.

    `make` turns a bundle into a judge with the present catalogue and rules; `poll` looks whether the directory holds
    another bundle than the one that serves.
    """

    def __init__(self, directory: Path, make: MakeJudge) -> None:
        """Raises Failure `heimdall_bundle`: a worker does not start without a bundle it can use."""
        self._directory = directory
        self._make = make
        try:
            self.bundle = load_bundle(directory)
            self.judge = make(self.bundle)
        except (BundleError, QualityError) as error:
            raise Failure(
                FailureCode.HEIMDALL_BUNDLE, f"{error} (tuning.artifact_url)", detail_code="ARTIFACT_LOAD_FAILED"
            ) from error
        self.loaded_at = datetime.now(UTC)
        self.refused: Refused | None = None
        self._say_left_out()

    def poll(self) -> bool | None:
        """True: another bundle serves now. False: another one is there and was refused. None: nothing new."""
        manifest = self._manifest_hash()
        if manifest == self.bundle.hash:
            self.refused = None
            return None
        if self.refused is not None and self.refused.manifest == manifest:
            return None
        try:
            bundle = load_bundle(self._directory)
            judge = self._make(bundle)
        except (BundleError, QualityError) as error:
            self.refused = Refused(manifest, str(error))
            log.error(
                "a new bundle was refused, %s still serves: %s", self.bundle.hash[:12], error,
                extra={"action": "bundle_refused"},
            )  # fmt: skip
            return False
        log.info("bundle %s replaces %s", bundle.hash[:12], self.bundle.hash[:12], extra={"action": "bundle_swapped"})
        self.bundle, self.judge, self.refused = bundle, judge, None
        self.loaded_at = datetime.now(UTC)
        return True

    def remake(self, make: MakeJudge) -> None:
        """The catalogue or the rules have changed. Raises QualityError and keeps the judge when they do not fit."""
        self.judge = make(self.bundle)
        self._make = make
        self._say_left_out()

    def _manifest_hash(self) -> str | None:
        try:
            return hashlib.sha256((self._directory / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            return None

    def _say_left_out(self) -> None:
        for model, why in self.judge.left_out.items():
            log.warning("%s is no candidate: %s", model, why, extra={"action": "candidate_left_out"})
