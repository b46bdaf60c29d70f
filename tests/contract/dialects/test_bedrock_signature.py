"""What Bedrock checks: the signature fits the path and the body that arrive, byte for byte."""

import asyncio
from datetime import UTC, datetime

from heimdall_fleet.providers.dialect import Call, Target
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.registry import dialect_for
from heimdall_fleet.providers.signing import AwsKey, signed_headers
from heimdall_fleet.providers.transport import Network

KEY = AwsKey("AKIAIOSFODNN7EXAMPLE", "the-secret-access-key", "the-session-token")
META = {"region": "eu-west-1", "secret_access_key": KEY.secret_key, "session_token": KEY.session_token}


async def test_the_signature_holds_for_what_arrives() -> None:
    arrived: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        arrived.append((line.split(" ")[1], headers, body))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    model = "anthropic.claude-3-5-sonnet-20241022-v2:0"
    target = Target("b", "bedrock", f"http://{host}", model, "a/m", {}, META, None, {})
    call = Call(
        {"messages": [{"role": "user", "content": "hé"}]}, target, KEY.access_key, {}, stream=False, request_id="r1"
    )
    client = HttpClient.over(Network())
    wire = dialect_for("bedrock").to_wire(call)
    await client.post(wire, CallLimits(total_timeout_ms=2000))
    await client.aclose()
    server.close()

    ((path, headers, body),) = arrived
    assert path == "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse"
    assert headers["host"] == host
    signed_at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    expected = signed_headers(KEY, "eu-west-1", f"http://{host}{path}", body, signed_at.timestamp())
    assert {name: headers[name] for name in expected} == expected
