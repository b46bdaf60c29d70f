"""The bundles that the arms of an experiment name: looked at again and again, like the one that serves."""

from collections.abc import Mapping
from typing import NamedTuple

from heimdall_fleet.triage.sources import Source
from heimdall_models.bundle import Bundle


class Held(NamedTuple):
    """A bundle and the marker of the offer that it came from."""

    marker: str
    bundle: Bundle


class ArmBundles:
    """One bundle for each address that an arm names. `held` is replaced as a whole, so that a look can be taken back."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        """Loads all of them. Raises SourceError or BundleError."""
        self._sources = sources
        self.held: Mapping[str, Held] = {}
        self.look()

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        """By address."""
        return {url: held.bundle for url, held in self.held.items()}

    def look(self) -> bool:
        """Load what is another one by now; whether anything was. Raises SourceError or BundleError and changes nothing."""
        offers = {url: source.offer() for url, source in self._sources.items()}
        others = [url for url, offer in offers.items() if url not in self.held or offer.marker != self.held[url].marker]
        self.held = {**self.held, **{url: Held(offers[url].marker, offers[url].load()) for url in others}}
        return bool(others)
