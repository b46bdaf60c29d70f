"""Where providers and their credentials come from, and reading them again while the worker runs."""

import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from heimdall_fleet.dispatch.pool import Pool
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings

log = logging.getLogger(__name__)


class Account(Protocol):
    """Where providers and their keys come from; read again every few minutes, so that a rotated key is taken up.

    The configuration is the default one; a class of your own may ask a vault. Raise
    `AccountUnavailable` to say "no answer now": the keys that are known stay in use.
    """

    async def providers(self) -> Sequence[str]:
        """Names of the configured providers."""
        ...

    async def keys(self, provider: str) -> Sequence[KeySettings]:
        """The keys of one provider, secrets included. Raises KeyError naming a provider that is not configured."""
        ...

    async def settings(self, provider: str) -> ProviderSettings:
        """Everything else about one provider. Raises KeyError naming a provider that is not configured."""
        ...


class AccountUnavailable(Exception):
    """The source of the keys gives no answer now."""


class ConfiguredAccount:
    """The account that the configuration describes; made anew when the configuration is read again."""

    def __init__(self, providers: Iterable[ProviderSettings]) -> None:
        self._providers = {settings.name: settings for settings in providers}

    async def providers(self) -> Sequence[str]:
        return tuple(self._providers)

    async def keys(self, provider: str) -> Sequence[KeySettings]:
        return (await self.settings(provider)).keys

    async def settings(self, provider: str) -> ProviderSettings:
        if provider not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            raise KeyError(f"no provider is configured as {provider!r}; configured: {known}")
        return self._providers[provider]


async def reread(account: Account, pool: Pool) -> bool:
    """Take up the keys that the account has now; false when it gave no answer, which leaves the known ones in use."""
    try:
        for provider in await account.providers():
            if provider in pool:
                pool.replace_keys(provider, await account.keys(provider))
    except AccountUnavailable as error:
        log.warning("the keys cannot be read again: %s", error, extra={"action": "keys_not_reread"})
        return False
    return True
