"""Access tokens for Vertex, of a service account or of the machine, by google-auth.

The one place where a provider's credential needs I/O before a call: dispatch awaits `secret_for` and puts the result
into `Call.secret`. google-auth is imported at the first token: it is 13 MiB that only workers with Vertex need. It
blocks, so it runs in a thread; that is once an hour for each credential.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any, Protocol

import orjson

from heimdall_fleet.providers.bedrock import revealed
from heimdall_fleet.providers.dialect import Action, AttemptError, AttemptFailure, Target
from heimdall_fleet.providers.failures import scrub
from heimdall_schemas.failure import FailureCode

_FAMILY = "vertex"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
# A token is replaced this long before it ends: longer than the longest call.
_EARLY_S = 300.0
FETCH_WITHIN_S = 10.0


class TokenSource(Protocol):
    """What turns a configured credential into one that can be sent."""

    async def secret_for(self, target: Target, secret: str) -> str:
        """The value for `Call.secret`. Raises AttemptError (`provider_auth`) when no token can be had."""
        ...


Fetch = Callable[[str | None], tuple[str, float]]
"""From a service account's JSON, or None for the machine's own, to a token and its end (Unix seconds). Blocks."""


def fetch_token(account: str | None) -> tuple[str, float]:
    """Raises ValueError or OSError, saying what is wrong with the credential."""
    import google.auth  # noqa: PLC0415  see above
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from google.auth.transport import urllib3 as transport  # noqa: PLC0415
    from google.oauth2 import service_account  # noqa: PLC0415
    from urllib3 import PoolManager  # noqa: PLC0415

    # Its functions have no annotations.
    auth: Any = google.auth
    accounts: Any = service_account.Credentials
    requests: Any = transport.Request
    try:
        if account is None:
            credentials, _ = auth.default(scopes=_SCOPES)
        else:
            credentials = accounts.from_service_account_info(orjson.loads(account), scopes=_SCOPES)
        with PoolManager() as pool:
            credentials.refresh(requests(pool))
    except GoogleAuthError as error:
        raise ValueError(str(error)) from error
    # The expiry is a naive time in UTC.
    return str(credentials.token), credentials.expiry.replace(tzinfo=UTC).timestamp()


class GoogleTokens:
    """Tokens by credential, each fetched once however many calls wait for it."""

    def __init__(self, fetch: Fetch = fetch_token, clock: Callable[[], float] = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._tokens: dict[str | None, tuple[str, float]] = {}
        self._locks: dict[str | None, asyncio.Lock] = {}

    async def secret_for(self, target: Target, secret: str) -> str:
        """Other providers' secrets, tokens and API keys are returned as they are."""
        if target.type != _FAMILY:
            return secret
        account = secret if secret.lstrip().startswith("{") else None
        if secret and account is None:
            return secret
        account = account or revealed(target.meta.get("auth_credentials"))
        async with self._locks.setdefault(account, asyncio.Lock()):
            token, end_s = self._tokens.get(account, ("", 0.0))
            if end_s - _EARLY_S <= self._clock():
                token, end_s = await self._fetched(account)
                self._tokens[account] = token, end_s
        return token

    async def _fetched(self, account: str | None) -> tuple[str, float]:
        try:
            async with asyncio.timeout(FETCH_WITHIN_S):
                return await asyncio.to_thread(self._read_and_fetch, account)
        except TimeoutError as error:
            raise _refused(f"nothing came within {FETCH_WITHIN_S:g} s") from error
        except (OSError, ValueError) as error:
            raise _refused(str(error)) from error

    def _read_and_fetch(self, account: str | None) -> tuple[str, float]:
        """The account is JSON, or the path of a file with it."""
        if account is not None and not account.lstrip().startswith("{"):
            account = Path(account).read_text("utf-8")
        return self._fetch(account)


def _refused(why: str) -> AttemptError:
    message = f"no Google access token: {why}; check meta.auth_credentials of this provider"
    return AttemptError(
        AttemptFailure(FailureCode.PROVIDER_AUTH, Action.OTHER_PROVIDER, scrub(message), connection_only=True)
    )
