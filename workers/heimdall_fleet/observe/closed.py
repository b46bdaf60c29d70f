"""The closed sets behind the labels `model` and `provider`."""

from collections.abc import Iterable

OTHER = "other"


class ClosedSets:
    """Names that may become label values. Callers can pin any model name, so names are checked before they are used."""

    def __init__(self) -> None:
        self._models: frozenset[str] = frozenset()
        self._providers: frozenset[str] = frozenset()

    def allow(self, models: Iterable[str], providers: Iterable[str]) -> None:
        self._models, self._providers = frozenset(models), frozenset(providers)

    def model(self, name: str) -> str:
        return name if name in self._models else OTHER

    def provider(self, name: str) -> str:
        return name if name in self._providers else OTHER
