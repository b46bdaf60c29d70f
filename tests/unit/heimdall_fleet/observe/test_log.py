import gzip
import io
import logging
import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from heimdall_fleet.config.running import Log as LogSettings
from heimdall_fleet.observe.log import configure, keep_out

CANARY = "canary-secret-0123456789"


pytestmark = pytest.mark.usefixtures("logging_is_put_back")


def start(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure(LogSettings.model_validate(settings), secrets=[CANARY], stream=stream)
    return stream


class Part:
    """One part of the fleet, writing as all of it does: standard logging, the facts in `extra`."""

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(f"heimdall_fleet.{name}")

    def write(self, level: int, action: str, message: str, error: BaseException | None, fields: dict[str, Any]) -> None:
        self._log.log(level, message, exc_info=error, extra={"action": action, **fields})

    def debug(self, action: str, message: str, **fields: Any) -> None:
        self.write(logging.DEBUG, action, message, None, fields)

    def info(self, action: str, message: str, **fields: Any) -> None:
        self.write(logging.INFO, action, message, None, fields)

    def warn(self, action: str, message: str, **fields: Any) -> None:
        self.write(logging.WARNING, action, message, None, fields)

    def error(self, action: str, message: str, error: BaseException | None = None, **fields: Any) -> None:
        self.write(logging.ERROR, action, message, error, fields)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_documented_keys() -> None:
    stream = start()
    Part("dispatch").info(
        "answered",
        "provider answered",
        provider="openai",
        model="openai/gpt-5",
        request_id="r1",
        latency_ms=812.5,
        tokens=30,
        cost_usd_micros=1500,
    )
    (line,) = lines(stream)
    assert {key: line[key] for key in line if key != "timestamp"} == {
        "level": "info",
        "action": "answered",
        "message": "provider answered",
        "logger": "heimdall_fleet.dispatch",
        "request_id": "r1",
        "model": "openai/gpt-5",
        "provider": "openai",
        "latency_ms": 812.5,
        "tokens": 30,
        "cost": 0.0015,
        "cost_usd_micros": 1500,
    }
    assert line["timestamp"].endswith("Z")


def test_a_text_line_is_time_level_message_id_and_pairs() -> None:
    stream = start(format="text")
    Part("dispatch").warn("attempt_failed", "provider failed", model="a/b", request_id="r1", reason="two words")
    time_, rest = stream.getvalue().rstrip("\n").split(" ", 1)
    assert time_.endswith("Z")
    assert rest == '[WARN] provider failed r1 model=a/b reason="two words"'


@pytest.mark.parametrize("output", ["json", "text"])
def test_hostile_values_make_one_bounded_line(output: str) -> None:
    stream = start(format=output)
    hostile = 'x"\r\n{"level":"error"}\x1b[31m\x00\u2028\x85\u202e\ud800'
    Part("triage").info("admitted", hostile, tenant=hostile + "y" * 1_000_000, model=hostile, reply_topic=hostile)
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert len(written.splitlines()) == 1
    assert len(written) < 4_000
    assert not set(written[:-1]) & set("\r\x1b\x00\u2028\x85\u202e")
    if output == "json":
        assert lines(stream)[0]["tenant"].startswith('x"\\u000d\\u000a')


def test_a_field_outside_of_the_list_is_dropped_and_named() -> None:
    stream = start()
    Part("triage").info("decided", "decided", prompt="secret text", request_id="r1")
    (line,) = lines(stream)
    assert line["dropped"] == ["prompt"]
    assert "secret text" not in stream.getvalue()


def test_an_error_brings_its_type_place_and_scrubbed_text_but_no_values() -> None:
    stream = start()
    prompt = "text of a request"
    try:
        raise ValueError(f"key {CANARY} and sk-abcdefgh12345678 refused")
    except ValueError as error:
        Part("dispatch").error("crashed", "a bug", error)
    (line,) = lines(stream)
    assert (line["level"], line["error_type"], line["error"]) == ("error", "ValueError", "key *** and *** refused")
    assert "test_log.py" in line["trace"][-1]
    assert not [leak for leak in (CANARY, prompt) if leak in stream.getvalue()]


def test_what_libraries_log_takes_the_same_form() -> None:
    stream = start()
    logging.getLogger("aiokafka").warning("cannot connect with %s", CANARY)
    logging.getLogger("aiokafka").info("chatter")
    assert [(line["action"], line["message"]) for line in lines(stream)] == [("library", "cannot connect with ***")]


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_the_level_is_obeyed(level: str, written: int) -> None:
    stream = start(level=level)
    part = Part("x")
    for write in (part.debug, part.info, part.warn, part.error):
        write("a", "m")
    assert len(lines(stream)) == written


def test_configuring_again_replaces_the_first() -> None:
    first, second = start(), start()
    Part("x").info("a", "m")
    assert (len(lines(first)), len(lines(second))) == (0, 1)


def test_a_credential_that_comes_with_a_changed_configuration_is_taken_out_too() -> None:
    stream = start()
    keep_out(["brand-new-credential"])
    Part("dispatch").warn("attempt_failed", "wrong key brand-new-credential")
    assert lines(stream)[0]["message"] == "wrong key ***"


def test_values_json_cannot_hold_still_make_a_line() -> None:
    stream = start()
    Part("x").info("a", "m", count=2**70, latency_ms=float("nan"), attempts=["a"] * 100)
    (line,) = lines(stream)
    assert line["count"] == str(2**70)
    assert line["latency_ms"] is None
    assert len(line["attempts"]) == 20


def test_a_file_is_put_aside_compressed_and_deleted_when_old(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "heimdall.log"
    settings = {"output": "file", "file": {"path": str(path), "max_size": 2048, "max_age": "1d"}}
    configure(LogSettings.model_validate(settings))
    old = path.with_name("heimdall.log.9.gz")
    old.write_bytes(b"")
    os.utime(old, (time.time() - 100_000,) * 2)
    for index in range(30):
        Part("x").info("a", "m" * 200, request_id=str(index))
    aside = sorted(path.parent.glob("heimdall.log.*"))
    assert len(aside) >= 2
    assert old not in aside
    written = [*(line for file in reversed(aside) for line in gzip.decompress(file.read_bytes()).splitlines())]
    written += path.read_bytes().splitlines()
    assert [orjson.loads(line)["request_id"] for line in written] == [str(index) for index in range(30)]
