"""Child processes of a local stack: started, watched until they answer, stopped in order."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from heimdall_fleet.stack.errors import StackError


@dataclass(slots=True)
class Child:
    """A running part of the stack. `log` is the file that its standard error goes to."""

    name: str
    process: Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def last_lines(self, count: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


async def start(name: str, arguments: Sequence[str], log_dir: Path, environment: Mapping[str, str]) -> Child:
    """Start `python ARGUMENTS…`, its output in `log_dir`/NAME.log, in a session of its own: ^C is ours to pass on."""
    log = log_dir / f"{name}.log"
    stream: IO[bytes] = log.open("ab")
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    finally:
        stream.close()
    return Child(name, process, log)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_ready(child: Child, port: int, path: str, patience_s: float = 30) -> None:
    """Wait until `path` on `port` answers 200. Raises StackError when the child ends or the patience does."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while asyncio.get_running_loop().time() < deadline:
        if not child.running:
            raise StackError(
                f"{child.name} ended with code {child.process.returncode} while starting:\n{child.last_lines()}",
            )
        if await answers(port, path):
            return
        await asyncio.sleep(0.05)
    raise StackError(f"{child.name} was not ready within {patience_s:.0f} s; its log:\n{child.last_lines()}")


async def answers(port: int, path: str) -> bool:
    """True when GET `path` on the loopback `port` gives status 200."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        status = await asyncio.wait_for(reader.readline(), 5)
        return b" 200 " in status
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


async def stop(children: Sequence[Child], grace_s: float = 35) -> None:
    """SIGTERM to all at once; SIGKILL to those that outlive the grace."""
    for child in children:
        if child.running:
            child.process.send_signal(signal.SIGTERM)
    waits = [asyncio.create_task(child.process.wait()) for child in children]
    if waits:
        await asyncio.wait(waits, timeout=grace_s)
    for child in children:
        if child.running:
            child.process.kill()
            await child.process.wait()
