"""Access tokens of a service account, from a token endpoint on loopback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from heimdall_fleet.providers.dialect import Action, AttemptError, Target
from heimdall_fleet.providers.vertex_tokens import GoogleTokens
from heimdall_schemas.failure import FailureCode as Code


class Endpoint:
    """Google's token endpoint: one answer for each grant."""

    def __init__(self) -> None:
        self.grants: list[dict[str, str]] = []
        self.refuses = False
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        form = parse_qs((await reader.readexactly(length)).decode())
        self.grants.append({name: values[0] for name, values in form.items()})
        body = orjson.dumps({"access_token": f"ya29.{len(self.grants)}", "expires_in": 3600, "token_type": "Bearer"})
        status = b"200 OK"
        if self.refuses:
            status, body = b"400 Bad Request", b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    yield made
    server.close()


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def account(endpoint: Endpoint, private_key: rsa.RSAPrivateKey) -> str:
    plain = serialization.NoEncryption()
    pem = private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    fields = {
        "type": "service_account",
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "project_id": "my-project",
        "token_uri": endpoint.url,
    }
    return orjson.dumps(fields).decode()


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
