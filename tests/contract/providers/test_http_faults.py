"""The HTTP module against servers that misbehave: a classified error, in bounded time, with bounded bytes."""

import asyncio
import gzip
import resource
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from tests.contract.providers.exchanges import (
    OK,
    QUICK,
    Connect,
    Handler,
    Serve,
    failure_of,
    read_head_and_body,
    request,
)

from heimdall_fleet.providers.dialect import Action, AttemptError, WireRequest
from heimdall_fleet.providers.http import CallLimits
from heimdall_fleet.providers.transport import Network
from heimdall_schemas.failure import FailureCode as Code


def answering(*pieces: bytes, pause_s: float = 0.0, hang: bool = False) -> Handler:
    """Read one request, send the pieces, then hang or close."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head_and_body(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hang:
            await reader.read()

    return handler


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head_and_body(reader)
    writer.write(OK + b"\r\n")
    while True:
        writer.write(b"x" * 4096)
        await writer.drain()


async def byte_by_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head_and_body(reader)
    writer.write(OK + b"content-length: 5000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


BOMB = gzip.compress(b"0" * 50_000_000)

TIMEOUT = Code.PROVIDER_TIMEOUT, Action.OTHER_PROVIDER
CLOSED = Code.PROVIDER_UNREACHABLE, Action.SAME_KEY
TRUNCATED = Code.PROVIDER_TRUNCATED, Action.OTHER_PROVIDER
MALFORMED = Code.PROVIDER_MALFORMED, Action.OTHER_PROVIDER
TOO_LARGE = Code.PROVIDER_TOO_LARGE, Action.OTHER_PROVIDER
NOT_GZIP = OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd"

FAULTS: list[tuple[str, Handler, tuple[Code, Action]]] = [
    ("hangs after the request", answering(hang=True), TIMEOUT),
    ("hangs in the head", answering(b"HTTP/1.1 200", hang=True), TIMEOUT),
    ("hangs in the body", answering(OK + b"content-length: 9\r\n\r\nab", hang=True), TIMEOUT),
    ("sends a byte now and then", byte_by_byte, TIMEOUT),
    ("closes without a word", answering(), CLOSED),
    ("closes in the head", answering(b"HTTP/1.1 200 OK\r\nx"), CLOSED),
    ("truncates the body", answering(OK + b'content-length: 99\r\n\r\n{"a'), TRUNCATED),
    ("cuts a chunked body", answering(OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"), TRUNCATED),
    ("is no HTTP server", answering(b"SSH-2.0-OpenSSH_9.6\r\n"), MALFORMED),
    ("sends garbage as gzip", answering(NOT_GZIP), MALFORMED),
    ("sends an endless head", answering(OK + b"x-long: " + b"a" * 100_000, hang=True), MALFORMED),
    ("never ends its answer", endless, TOO_LARGE),
    ("announces 100 MiB", answering(OK + b"content-length: 104857600\r\n\r\n", hang=True), TOO_LARGE),
]


@pytest.mark.parametrize(("handler", "expected"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
async def test_a_server_that(handler: Handler, expected: tuple[Code, Action], serve: Serve, connect: Connect) -> None:
    started = time.monotonic()
    limits = CallLimits(total_timeout_ms=500, connect_timeout_ms=300, idle_timeout_ms=200, max_bytes=10_000)
    failure = await failure_of(connect(), request(await serve(handler)), limits)
    assert (failure.code, failure.action) == expected
    assert failure.counts_for_breaker
    assert not failure.connection_only
    assert time.monotonic() - started < 1.5


async def test_a_bomb_is_cut_and_does_not_fill_the_memory(serve: Serve, connect: Connect) -> None:
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB)
    url = await serve(answering(head + BOMB, hang=True))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = CallLimits(2_000, max_bytes=1_000_000, max_decompressed_bytes=1_000_000)
    failure = await failure_of(connect(), request(url), limits)
    assert failure.code is Code.PROVIDER_TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 10_000


async def test_the_cause_is_an_error_of_httpx(serve: Serve, connect: Connect) -> None:
    url = await serve(answering(OK + b"content-length: 9\r\n\r\nab"))
    with pytest.raises(AttemptError) as caught:
        await connect().post(request(url), QUICK)
    assert isinstance(caught.value.__cause__, httpx.ReadError)


async def test_a_refused_connection_cannot_have_been_billed(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    failure = await failure_of(connect(), request(url))
    assert (failure.code, failure.action) == (Code.PROVIDER_UNREACHABLE, Action.SAME_KEY)
    assert failure.connection_only
    assert failure.counts_for_breaker


async def test_a_name_without_an_address_is_unreachable(connect: Connect) -> None:
    failure = await failure_of(connect(), request("http://no-such-host.invalid"))
    assert (failure.code, failure.connection_only) == (Code.PROVIDER_UNREACHABLE, True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense", "http://"])
async def test_an_unusable_url_is_a_configuration_error(url: str, connect: Connect) -> None:
    failure = await failure_of(connect(), request(url))
    assert (failure.code, failure.connection_only) == (Code.HEIMDALL_CONFIG, True)


async def test_a_header_with_a_line_break_is_not_sent(serve: Serve, connect: Connect) -> None:
    failure = await failure_of(connect(), request(await serve(answering(hang=True)), evil="a\r\nb: c"))
    assert (failure.code, failure.connection_only) == (Code.HEIMDALL_CONFIG, True)


async def test_a_redirect_is_not_followed(serve: Serve, connect: Connect) -> None:
    target = answering(OK + b"content-length: 2\r\n\r\n{}")
    location = (await serve(target)).encode()
    url = await serve(answering(b"HTTP/1.1 307 x\r\nlocation: " + location + b"/\r\ncontent-length: 0\r\n\r\n"))
    answer = await connect().post(request(url), QUICK)
    assert answer.status == 307


async def test_a_slow_head_is_no_silence_but_a_gap_in_the_body_is(serve: Serve, connect: Connect) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head_and_body(reader)
        await asyncio.sleep(0.4)
        writer.write(OK + b"content-length: 2\r\n\r\n{}")
        await writer.drain()

    assert (await connect().post(request(await serve(slow)), QUICK)).body == b"{}"


async def test_the_path_is_sent_exactly_as_it_was_signed(serve: Serve, connect: Connect) -> None:
    heads: list[bytes] = []

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head_and_body(reader))
        writer.write(OK + b"content-length: 2\r\n\r\n{}")
        await writer.drain()

    url = await serve(noting)
    wire = WireRequest("POST", f"{url}/model/a.b-v1%3A0/converse?x=%2F", {"x-extra": "1"}, b"{}")
    await connect().post(wire, QUICK)
    assert heads[0].startswith(b"POST /model/a.b-v1%3A0/converse?x=%2F HTTP/1.1\r\n")
    lower = heads[0].lower()
    assert b"x-extra: 1" in lower
    assert b"accept-encoding: identity" in lower
    assert b"user-agent: heimdall-fleet/" in lower
    assert b"cookie" not in lower


async def test_a_large_request_is_sent_whole(serve: Serve, connect: Connect) -> None:
    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5000000" in head.lower()
        assert b"chunked" not in head.lower()
        body = await reader.readexactly(5_000_000)
        writer.write(OK + b"content-length: 7\r\n\r\n%d" % len(body))
        await writer.drain()

    answer = await connect().post(request(await serve(counting), b"x" * 5_000_000), CallLimits(5_000))
    assert answer.body == b"5000000"


async def test_the_credential_is_masked_where_an_error_repeats_it(serve: Serve, connect: Connect) -> None:
    echo = b'{"error":"bad key sk-canary-0123456789"}'
    url = await serve(answering(b"HTTP/1.1 401 x\r\ncontent-length: %d\r\n\r\n" % len(echo) + echo))
    answer = await connect().post(request(url), QUICK)
    assert answer.body == b'{"error":"bad key [secret]"}'


async def test_the_configured_proxy_is_used_and_the_environments_is_not(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    heads: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head_and_body(reader))
        writer.write(OK + b"content-length: 2\r\n\r\n{}")
        await writer.drain()

    direct = await connect().post(request(await serve(proxy)), QUICK)
    assert direct.status == 200
    await connect(Network(proxy=await serve(proxy))).post(request("http://provider.invalid"), QUICK)
    assert heads[0].startswith(b"POST /v1/x ")
    assert heads[1].startswith(b"POST http://provider.invalid/v1/x ")


async def test_an_address_where_nobody_is_over_tls_is_told_in_words_that_stay_the_same(connect: Connect) -> None:
    failure = await failure_of(connect(), request("https://127.0.0.1:9"))
    assert failure.code is Code.PROVIDER_UNREACHABLE
    assert failure.message.startswith("ConnectError: Cannot connect to host 127.0.0.1:9 [Connect call failed")


async def test_a_proxy_that_is_gone_is_unreachable(connect: Connect) -> None:
    client = connect(Network(proxy="http://127.0.0.1:9"))
    failure = await failure_of(client, request("http://provider.invalid"))
    assert (failure.code, failure.connection_only) == (Code.PROVIDER_UNREACHABLE, True)


async def test_leaving_a_stream_early_closes_the_connection(serve: Serve, connect: Connect) -> None:
    gone = asyncio.Event()

    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head_and_body(reader)
        writer.write(OK + b"\r\n" + b"data: 1\n\n")
        await reader.read()
        gone.set()

    client = connect()
    async with client.stream(request(await serve(dripping)), QUICK) as answer:
        assert await anext(aiter(answer)) == b"data: 1\n\n"
    await asyncio.wait_for(gone.wait(), 1)


async def test_a_cancelled_call_closes_the_connection(serve: Serve, connect: Connect) -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head_and_body(reader)
        began.set()
        await reader.read()
        gone.set()

    task = asyncio.create_task(connect().post(request(await serve(hanging)), QUICK))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone.wait(), 1)


async def test_a_stream_that_falls_silent_is_given_up(serve: Serve, connect: Connect) -> None:
    url = await serve(answering(OK + b"\r\n", b"data: 1\n\n", hang=True))
    async with connect().stream(request(url), QUICK) as answer:
        assert await anext(answer) == b"data: 1\n\n"
        with pytest.raises(AttemptError) as caught:
            await anext(answer)
    assert caught.value.failure.code is Code.PROVIDER_TIMEOUT
    assert "in the middle" in caught.value.failure.message


async def test_the_readers_own_time_is_no_silence_of_the_provider(serve: Serve, connect: Connect) -> None:
    url = await serve(answering(OK + b"\r\n", b"data: 1\n\n", b"data: 2\n\n"))
    pieces = []
    async with connect().stream(request(url), QUICK) as answer:
        async for piece in answer:
            await asyncio.sleep(0.3)
            pieces.append(piece)
    assert b"".join(pieces) == b"data: 1\n\ndata: 2\n\n"


def certificate(folder: Path, *, expired: bool = False) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1 and the file of its own root."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=127.0.0.1"
    subprocess.run([*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    if expired:
        again = f"openssl x509 -in {cert} -signkey {key} -days -1 -out {cert}"
        subprocess.run(again.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


async def test_a_certificate_is_verified(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    tls, root = certificate(tmp_path)
    url = await serve(answering(OK + b"content-length: 2\r\n\r\n{}"), tls)
    assert (await connect(Network(ca_file=str(root))).post(request(url), QUICK)).body == b"{}"
    failure = await failure_of(connect(), request(url))
    assert (failure.code, failure.connection_only) == (Code.PROVIDER_UNREACHABLE, True)
    assert "certificate" in failure.message.lower()
    assert failure.message.endswith("network.ca_file")


async def test_a_file_without_certificates_is_named(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    tls, _ = certificate(tmp_path)
    url = await serve(answering(OK + b"content-length: 2\r\n\r\n{}"), tls)
    failure = await failure_of(connect(Network(ca_file="/nowhere/ca.pem")), request(url))
    assert (failure.code, failure.connection_only) == (Code.HEIMDALL_CONFIG, True)
    assert "network.ca_file /nowhere/ca.pem" in failure.message


async def test_a_rotated_authority_is_trusted_from_the_next_connection_on(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    answer = answering(OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}")
    old, root = certificate(tmp_path)
    client = connect(Network(ca_file=str(root)))
    before = await serve(answer, old)
    assert (await client.post(request(before), QUICK)).body == b"{}"
    root.write_bytes(b"half a certifi")
    assert (await client.post(request(before), QUICK)).body == b"{}"
    root.unlink()
    assert (await client.post(request(before), QUICK)).body == b"{}"
    new, _ = certificate(tmp_path)
    assert (await client.post(request(await serve(answer, new)), QUICK)).body == b"{}"
    failure = await failure_of(client, request(before))
    assert "certificate" in failure.message.lower()


async def test_an_expired_certificate_is_refused(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    tls, root = certificate(tmp_path, expired=True)
    url = await serve(answering(OK + b"content-length: 2\r\n\r\n{}"), tls)
    failure = await failure_of(connect(Network(ca_file=str(root))), request(url))
    assert failure.code is Code.PROVIDER_UNREACHABLE
    assert "expired" in failure.message


async def test_nothing_is_left_after_many_failures(serve: Serve, connect: Connect) -> None:
    url, client = await serve(answering(hang=True)), connect()
    limits = CallLimits(total_timeout_ms=100)
    before = len(asyncio.all_tasks())
    failures = await asyncio.gather(*(failure_of(client, request(url), limits) for _ in range(100)))
    assert {failure.code for failure in failures} == {Code.PROVIDER_TIMEOUT}
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= before
