"""What goes out on a connection and when the connection is used again, against servers on raw sockets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from heimdall_fleet.providers.dialect import AttemptError, WireRequest
from heimdall_fleet.providers.http import CallLimits, HttpClient
from heimdall_fleet.providers.transport import Network
from heimdall_schemas.failure import FailureCode as Code

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., Awaitable[str]]
Connect = Callable[..., HttpClient]

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
LIMITS = CallLimits(total_timeout_ms=20_000)


def noting(answer: bytes = ANSWER) -> tuple[Handler, list[bytes]]:
    """Answer each request of a connection; keeps the heads."""
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
            await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
            heads.append(head)
            writer.write(answer)

    return handler, heads


def request(url: str, **headers: str) -> WireRequest:
    return WireRequest("POST", f"{url}/v1/x", headers, b"{}")


async def test_a_header_of_the_call_takes_the_place_of_our_own_whatever_its_case(
    serve: Serve, connect: Connect
) -> None:
    handler, heads = noting()
    wire = request(await serve(handler), **{"User-Agent": "theirs", "Content-Length": "99", "Host": "name.of.theirs"})
    assert (await connect().post(wire, LIMITS)).body == b"{}"
    lines = heads[0].lower().split(b"\r\n")
    assert [line for line in lines if line.startswith((b"user-agent", b"content-length", b"host"))] == [
        b"host: name.of.theirs",
        b"user-agent: theirs",
        b"content-length: 2",
    ]


async def test_requests_with_the_same_headers_keep_their_own_id_and_length(serve: Serve, connect: Connect) -> None:
    handler, heads = noting()
    alike = request(await serve(handler), **{"X-Request-Id": "theirs", "x-one": "1"})
    client = connect()
    for request_id, body in (("r1", b"{}"), ("r2", b'{"a":1}')):
        await client.post(alike._replace(body=body, request_id=request_id), LIMITS)
    told = [
        line for head in heads for line in head.lower().split(b"\r\n") if line.startswith((b"x-", b"content-length"))
    ]
    assert told == [
        b"x-one: 1",
        b"x-request-id: r1",
        b"content-length: 2",
        b"x-one: 1",
        b"x-request-id: r2",
        b"content-length: 7",
    ]


@pytest.mark.parametrize("unsendable", ["a\r\nb: c", "a\nb", "a\0"])
async def test_a_header_of_several_lines_is_not_sent(unsendable: str, serve: Serve, connect: Connect) -> None:
    handler, heads = noting()
    url = await serve(handler)
    for wire in (request(url, x=unsendable), request(url)._replace(request_id=unsendable)):
        with pytest.raises(AttemptError) as caught:
            await connect().post(wire, LIMITS)
        assert caught.value.failure.code is Code.HEIMDALL_CONFIG
    assert heads == []


async def test_a_request_without_a_body_announces_none(serve: Serve, connect: Connect) -> None:
    handler, heads = noting()
    url = await serve(handler)
    client = connect()
    await client.post(WireRequest("GET", url, {}, b""), LIMITS)
    await client.post(WireRequest("POST", url, {}, b""), LIMITS)
    assert heads[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"content-length" not in heads[0]
    assert b"content-length: 0" in heads[1]


@pytest.mark.parametrize("early", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"])
async def test_what_only_announces_an_answer_is_none(early: bytes, serve: Serve, connect: Connect) -> None:
    handler, _ = noting(early + ANSWER)
    answer = await connect().post(request(await serve(handler)), LIMITS)
    assert (answer.status, answer.body) == (200, b"{}")


async def test_a_change_of_protocol_is_no_answer_to_wait_for(serve: Serve, connect: Connect) -> None:
    handler, _ = noting(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
    assert (await asyncio.wait_for(connect().post(request(await serve(handler)), LIMITS), 15)).status == 101


async def test_credentials_in_the_addresses_are_sent_as_headers(serve: Serve, connect: Connect) -> None:
    handler, heads = noting()
    proxy = (await serve(handler)).replace("http://", "http://user:secret@")
    await connect(Network(proxy=proxy)).post(request("http://me:mine@provider.invalid"), LIMITS)
    head = heads[0].lower()
    assert head.startswith(b"post http://")
    assert b"proxy-authorization: basic dxnlcjpzzwnyzxq=" in head
    assert b"authorization: basic bwu6bwluzq==" in head
    assert b"\r\nhost: provider.invalid\r\n" in head


async def test_a_connection_that_answered_before_it_had_the_request_is_not_used_again(
    serve: Serve, connect: Connect
) -> None:
    connections = []

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ANSWER)
        await writer.drain()
        await asyncio.Event().wait()

    url, client = await serve(refusing), connect()
    wire = WireRequest("POST", url, {}, b"x" * 50_000_000)
    for number in (1, 2):
        assert (await client.post(wire, LIMITS)).body == b"{}"
        assert len(connections) == number


async def test_an_answer_that_nobody_asked_for_is_not_the_answer_to_the_next_request(
    serve: Serve, connect: Connect
) -> None:
    unasked = asyncio.Event()

    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(ANSWER)
        await writer.drain()
        await unasked.wait()
        writer.write(ANSWER.replace(b"{}", b"[]"))
        await asyncio.Event().wait()

    url, client = await serve(chatty), connect()
    assert (await client.post(request(url), LIMITS)).body == b"{}"
    unasked.set()
    for _ in range(1_000):  # until what was not asked for has come through the socket
        await asyncio.sleep(0)
    with pytest.raises(AttemptError) as caught:
        await client.post(request(url), LIMITS)
    assert (caught.value.failure.connection_only, caught.value.failure.retry_after_ms) == (True, 0)
    assert (await client.post(request(url), LIMITS)).body == b"{}"


async def test_a_proxy_that_refuses_the_tunnel_is_unreachable(serve: Serve, connect: Connect) -> None:
    handler, heads = noting(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
    with pytest.raises(AttemptError) as caught:
        await connect(Network(proxy=await serve(handler))).post(request("https://provider.invalid"), LIMITS)
    assert heads[0].startswith(b"CONNECT provider.invalid:443 ")
    assert caught.value.failure.code is Code.PROVIDER_UNREACHABLE
    assert caught.value.failure.connection_only


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
ZERO = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"


async def test_one_connection_takes_answers_of_every_kind_after_each_other(serve: Serve, connect: Connect) -> None:
    kinds = [ANSWER, CHUNKED, NOTHING, ZERO, b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER, CHUNKED, ANSWER]
    connections: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        for kind in kinds:
            await reader.readuntil(b"\r\n\r\n{}")
            connections[-1] += 1
            writer.write(kind)
        await reader.read()

    wire, client = request(await serve(handler)), connect()
    answers = [await client.post(wire, LIMITS) for _ in kinds]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"{}"),
        (200, b"{}"),
        (204, b""),
        (429, b""),
        (200, b"{}"),
        (200, b"{}"),
        (200, b"{}"),
    ]
    assert [answer.headers.get("retry-after") for answer in answers[2:5]] == [None, "1", None]
    assert connections == [len(kinds)]
