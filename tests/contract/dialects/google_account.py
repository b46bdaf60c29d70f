"""A Google service account of a test's own, and the token endpoint that it names, on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


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


@asynccontextmanager
async def token_endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    try:
        yield made
    finally:
        server.close()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account(token_uri: str, key: rsa.RSAPrivateKey) -> str:
    """The JSON that Google hands out for a service account."""
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    fields = {
        "type": "service_account",
        "client_email": "robot@my-project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "project_id": "my-project",
        "token_uri": token_uri,
    }
    return orjson.dumps(fields).decode()
