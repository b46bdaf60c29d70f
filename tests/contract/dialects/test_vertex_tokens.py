"""Access tokens of a service account, from a token endpoint on loopback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from tests.contract.dialects.google_account import Endpoint, new_key, service_account, token_endpoint

from heimdall_fleet.providers.dialect import Action, AttemptError, Target
from heimdall_fleet.providers.vertex_tokens import GoogleTokens
from heimdall_schemas.failure import FailureCode as Code


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with token_endpoint() as made:
        yield made


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return new_key()


@pytest.fixture
def account(endpoint: Endpoint, private_key: rsa.RSAPrivateKey) -> str:
    return service_account(endpoint.url, private_key)


def vertex(credentials: str | None, family: str = "vertex") -> Target:
    return Target("v", family, "", "gemini", "a/m", {}, {"auth_credentials": credentials}, None, {})


async def test_a_service_account_signs_for_a_token(
    endpoint: Endpoint, account: str, private_key: rsa.RSAPrivateKey
) -> None:
    assert await GoogleTokens().secret_for(vertex(account), "") == "ya29.1"
    (grant,) = endpoint.grants
    assert grant["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    public = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    decode: Any = jwt.decode
    claims = decode(grant["assertion"], certs=public, audience="https://oauth2.googleapis.com/token")
    assert claims["iss"] == "robot@my-project.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"


async def test_the_account_may_be_a_file_or_the_key_itself(endpoint: Endpoint, account: str, tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    file.write_text(account)
    tokens = GoogleTokens()
    assert await tokens.secret_for(vertex(str(file)), "") == "ya29.1"
    assert await tokens.secret_for(vertex(None), account) == "ya29.2"


async def test_a_token_is_fetched_once_and_again_before_it_ends() -> None:
    fetched: list[str | None] = []
    now_s = [1000.0]

    def fetch(account: str | None) -> tuple[str, float]:
        fetched.append(account)
        return f"ya29.{len(fetched)}", now_s[0] + 3600

    tokens = GoogleTokens(fetch, lambda: now_s[0])
    calls = (tokens.secret_for(vertex('{"a":1}'), "") for _ in range(5))
    assert await asyncio.gather(*calls) == ["ya29.1"] * 5
    now_s[0] += 3299
    assert await tokens.secret_for(vertex('{"a":1}'), "") == "ya29.1"
    now_s[0] += 2
    assert await tokens.secret_for(vertex('{"a":1}'), "") == "ya29.2"
    assert await tokens.secret_for(vertex(None), "") == "ya29.3"
    assert fetched == ['{"a":1}', '{"a":1}', None]


@pytest.mark.parametrize(
    ("target", "secret"), [(vertex("{}"), "ya29.given"), (vertex("{}"), "AIzaX"), (vertex("{}", "openai"), "")]
)
async def test_what_can_be_sent_is_left_alone(target: Target, secret: str) -> None:
    def fetch(account: str | None) -> tuple[str, float]:
        raise AssertionError("no token is needed")

    assert await GoogleTokens(fetch).secret_for(target, secret) == secret


async def test_a_refused_account_takes_the_call_to_another_provider(endpoint: Endpoint, account: str) -> None:
    endpoint.refuses = True
    with pytest.raises(AttemptError) as caught:
        await GoogleTokens().secret_for(vertex(account), "")
    failure = caught.value.failure
    assert (failure.code, failure.action) == (Code.PROVIDER_AUTH, Action.OTHER_PROVIDER)
    assert "PRIVATE KEY" not in failure.message
    assert "meta.auth_credentials" in failure.message


@pytest.mark.parametrize("credentials", ["/no/such/file.json", "{", '{"type":"never_heard_of"}', "{}"])
async def test_an_unreadable_account_says_so(credentials: str) -> None:
    with pytest.raises(AttemptError, match="no Google access token"):
        await GoogleTokens().secret_for(vertex(credentials), "")
