import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from heimdall_fleet.dispatch.capacity.account import (
    ENTRY_POINT_GROUP,
    AccountUnavailable,
    ConfiguredAccount,
    load_account,
    reread,
)
from heimdall_fleet.dispatch.capacity.pool import Pool
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings
from heimdall_schemas.failure import Failure, FailureCode

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


class Mistaken(ConfiguredAccount):
    async def providers(self) -> Sequence[str]:
        raise LookupError("a bug of its own")


async def test_known_keys_stay_when_an_account_of_ones_own_fails() -> None:
    pool = Pool([OPENAI])
    assert not await reread(Mistaken([OPENAI]), pool)
    assert [key.settings.secret for key in pool.provider("openai").keys] == ["old"]


async def test_a_provider_that_is_not_configured_is_named() -> None:
    account = ConfiguredAccount([OPENAI])
    assert await account.providers() == ("openai",)
    assert (await account.keys("openai"))[0].name == "a"
    with pytest.raises(KeyError, match=r"no provider is configured as 'groq'; configured: openai"):
        await account.settings("groq")


class Silent(Vault):
    def __init__(self) -> None:
        raise OSError("the vault has no address")


@pytest.fixture
def package(tmp_path: Path) -> Iterator[None]:
    """An installed package that registers accounts."""
    info = tmp_path / "vault-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vault\nVersion: 1.0\n")
    lines = [f"{name} = {Vault.__module__}:{kind.__name__}" for name, kind in (("vault", Vault), ("silent", Silent))]
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *lines]))
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))


@pytest.mark.usefixtures("package")
def test_an_account_of_an_installed_package_is_found_by_its_name() -> None:
    assert type(load_account("vault")).__name__ == "Vault"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "said"),
    [("vualt", "no account 'vualt' .*; installed: silent, vault"), ("silent", "OSError: the vault has no address")],
)
def test_an_account_that_is_not_there_or_cannot_be_made_is_a_configuration_error(name: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as caught:
        load_account(name)
    assert caught.value.code is FailureCode.HEIMDALL_CONFIG
