"""Where providers and their credentials come from, and reading them again while the worker runs."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import Protocol

from heimdall_fleet.dispatch.capacity.pool import Pool
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings
from heimdall_schemas.failure import Failure, FailureCode

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "heimdall_fleet.accounts"
LONGEST_READ_S = 30.0


class Account(Protocol):
    """Where providers and their keys come from; read again every few minutes, so that a rotated key is taken up.

    The configuration is the default one; a class of your own (`dispatch.account`) may ask a vault. Raise
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


def load_account(name: str) -> Account:
    """The account that an installed package registered. Raises Failure `heimdall_config` when there is none, or when it
    cannot be made."""
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        known = ", ".join(sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP))) or "none"
        raise Failure(
            FailureCode.HEIMDALL_CONFIG,
            f"dispatch.account: no account {name!r} under the entry-point group {ENTRY_POINT_GROUP}; installed: {known}. "
            "Install the package that brings it, or leave the setting out to use the configured keys",
        )
    try:
        account: Account = next(iter(found)).load()()
    except Exception as error:  # code from outside may raise anything
        raise Failure(
            FailureCode.HEIMDALL_CONFIG,
            f"dispatch.account: {name!r} cannot be made, {type(error).__name__}: {error}",
        ) from error
    return account


async def reread(account: Account, pool: Pool) -> bool:
    """Take up the keys that the account has now; false when it gave no answer, which leaves the known ones in use.

    Whatever an account of one's own raises is no answer.
    """
    try:
        async with asyncio.timeout(LONGEST_READ_S):
            for provider in await account.providers():
                if provider in pool:
                    pool.replace_keys(provider, await account.keys(provider))
    except (AccountUnavailable, TimeoutError) as error:
        log.warning("the keys cannot be read again: %s", error, extra={"action": "keys_not_reread"})
        return False
    except Exception as error:  # code from outside may raise anything
        log.error("the account failed, the known keys stay in use", exc_info=error, extra={"action": "keys_not_reread"})
        return False
    return True
