"""Server-sent events from bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.providers.dialect import AttemptError
from heimdall_fleet.providers.sse import Event, SseParser
from heimdall_schemas.failure import FailureCode


def events_of(*pieces: bytes, max_event_bytes: int = 1000) -> list[Event]:
    parser = SseParser(max_event_bytes)
    found = [event for piece in pieces for event in parser.feed(piece)]
    return found + parser.close()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [Event("", b"a")]),
        (b"data: a\r\n\r\n", [Event("", b"a")]),
        (b"data: a\r\r", [Event("", b"a")]),
        (b"data:a\n\n", [Event("", b"a")]),
        (b"data:  a\n\n", [Event("", b" a")]),
        (b"data: a\ndata: b\n\n", [Event("", b"a\nb")]),
        (b"data\n\n", [Event("", b"")]),
        (b": keep-alive\n\ndata: a\n\n", [Event("", b"a")]),
        (b"event: ping\ndata: a\nid: 7\nretry: 10\nother: x\n\n", [Event("ping", b"a")]),
        (b"event: lonely\n\ndata: a\n\n", [Event("", b"a")]),
        (b"data: a\n\ndata: last", [Event("", b"a"), Event("", b"last")]),
        (b"data: a\n\ndata: last\n", [Event("", b"a"), Event("", b"last")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("", b"a")]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_an_event_is_read_as_the_standard_says(stream: bytes, expected: list[Event]) -> None:
    assert events_of(stream) == expected


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_unicode_line_separator_does_not_cut_an_event(separator: str) -> None:
    text = f'{{"text":"a{separator}b"}}'.encode()
    assert events_of(b"data: " + text + b"\n\n") == [Event("", text)]


LINES = st.sampled_from(
    [b"data: a", b"data:", b"data: \xc2\x85x", b"event: e", b": note", b"", b"", b"data: {}", b"id: 1", b"\xef\xbb\xbf"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda parts: b"".join(a + b for a, b in parts))


@given(STREAMS, st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert events_of(*pieces) == events_of(stream)


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert events_of(*(bytes([byte]) for byte in stream)) == events_of(stream)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"x" * 60, b"x" * 60],
        [b"data: " + b"x" * 40 + b"\n"] * 3,
        [b"\n" + b"x" * 200],
        [b": " + b"x" * 200 + b"\n"],
    ],
)
def test_an_event_over_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(AttemptError) as caught:
        events_of(*pieces, max_event_bytes=100)
    assert caught.value.failure.code is FailureCode.PROVIDER_TOO_LARGE


def test_many_small_events_are_no_large_event() -> None:
    assert len(events_of(b"data: 0123456789\n\n" * 50, max_event_bytes=100)) == 50
