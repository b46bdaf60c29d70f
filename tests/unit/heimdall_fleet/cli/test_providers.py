"""Providers and keys as commands show them: names, and never a credential."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner, Result

from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.providers import keys, providers

SECRET = "sk-example-0123456789"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A server with a list of models for the one right key."""

    async def models(request: web.Request) -> web.Response:
        right = request.headers.get("authorization") == f"Bearer {SECRET}"
        return web.json_response({"data": []}, status=200 if right else 401)

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/v1/models", models)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        started.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    ports: list[int] = []
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield f"http://127.0.0.1:{ports[0]}/v1"
    stop.set()
    thread.join(10)


@pytest.fixture
def config(tmp_path: Path, upstream: str) -> Path:
    pair = [{"name": "good", "value": SECRET, "rpm": 500}, {"name": "bad", "value": "sk-example-wrong-key"}]
    found = {
        "version": 1,
        "providers": {
            "mine": {"type": "custom", "base_url": upstream, "keys": pair},
            "gone": {"type": "custom", "base_url": "http://127.0.0.1:9/v1", "keys": pair[:1]},
        },
    }
    file = tmp_path / "heimdall.yaml"
    file.write_text(yaml.safe_dump(found, sort_keys=False))
    return file


def run(group: Any, config: Path, *arguments: str) -> tuple[Any, Result]:
    result = CliRunner().invoke(group, arguments, obj=Globals(config=config, output="json"))
    assert SECRET not in result.output
    return (orjson.loads(result.stdout) if result.stdout.startswith("{") else None), result


def test_providers_and_keys_are_listed_by_name(config: Path) -> None:
    listed, _ = run(providers, config, "list")
    assert [(each["name"], each["keys"]) for each in listed["providers"]] == [
        ("mine", ["good", "bad"]),
        ("gone", ["good"]),
    ]
    listed, _ = run(keys, config, "list")
    assert [(each["provider"], each["name"], each["rpm"], each["set"]) for each in listed["keys"]] == [
        ("mine", "good", 500, True),
        ("mine", "bad", None, True),
        ("gone", "good", 500, True),
    ]


def test_a_ping_tells_the_good_key_from_the_bad_one_and_from_silence(config: Path) -> None:
    found, result = run(providers, config, "ping", "--timeout", "2")
    answers = {(each["provider"], each["key"]): (each["ok"], each["answer"]) for each in found["pings"]}
    assert answers["mine", "good"] == (True, 200)
    assert answers["mine", "bad"] == (False, 401)
    assert answers["gone", "good"][0] is False
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.UNREACHABLE


def test_a_provider_that_is_not_configured_is_not_found(config: Path) -> None:
    _, result = run(providers, config, "ping", "nobody")
    assert isinstance(result.exception, CommandError)
    assert result.exception.code is Exit.NOT_FOUND
