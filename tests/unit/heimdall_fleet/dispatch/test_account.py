from collections.abc import Sequence

import pytest

from heimdall_fleet.dispatch.account import AccountUnavailable, ConfiguredAccount, reread
from heimdall_fleet.dispatch.pool import Pool
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings

OPENAI = ProviderSettings("openai", "openai", "", (KeySettings("a", "old"),))


class Vault(ConfiguredAccount):
    """A user's own account class."""

    def __init__(self, *keys: KeySettings, up: bool = True) -> None:
        super().__init__([OPENAI])
        self._keys = keys
        self._up = up

    async def keys(self, provider: str) -> Sequence[KeySettings]:
        if not self._up:
            raise AccountUnavailable("the vault is sealed")
        return self._keys


async def test_a_rotated_key_of_a_custom_account_is_taken_up() -> None:
    pool = Pool([OPENAI])
    assert await reread(Vault(KeySettings("a", "new"), KeySettings("b", "more")), pool)
    assert [key.settings.secret for key in pool.provider("openai").keys] == ["new", "more"]


async def test_known_keys_stay_while_the_account_gives_no_answer() -> None:
    pool = Pool([OPENAI])
    assert not await reread(Vault(up=False), pool)
    assert [key.settings.secret for key in pool.provider("openai").keys] == ["old"]


async def test_a_provider_that_is_not_configured_is_named() -> None:
    account = ConfiguredAccount([OPENAI])
    assert await account.providers() == ("openai",)
    assert (await account.keys("openai"))[0].name == "a"
    with pytest.raises(KeyError, match=r"no provider is configured as 'groq'; configured: openai"):
        await account.settings("groq")
