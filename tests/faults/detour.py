"""The network between workers and broker: a proxy that knows where Kafka's frames begin, and can hold, delay and cut them."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.brokers.clusters import Detour

PRODUCE = 0
_SIZE_BYTES = 4
_READ_BYTES = 1 << 20


@dataclass(eq=False, slots=True)
class Link:
    """One connection of a worker. `deaf`: nothing is forwarded any more, in neither direction, and nobody is told."""

    inside: asyncio.StreamWriter
    outside: asyncio.StreamWriter
    deaf: bool = False
    unanswered: set[int] = field(default_factory=set)
    """Correlation ids of requests whose answer is to be lost, and the connection with it."""

    def reset(self) -> None:
        """RST to the worker; the broker sees an end."""
        self.inside.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.inside.transport.abort()
        self.outside.transport.abort()


class Network:
    """Made by `network`; what it does to connections is what its methods and `delay_s` say."""

    def __init__(self, detour: Detour, seed: int) -> None:
        self.delay_s = 0.0
        self.lose_answers = 0
        """Of so many produce requests to come the broker's answer is lost, though it has appended the records."""
        self.lost = 0
        self.cut = 0
        self._detour = detour
        self._random = random.Random(seed)
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._detour.advertised}"

    def deafen(self) -> int:
        """Every connection that there is now stays open and carries nothing any more; new ones work. How many."""
        for link in self._links:
            link.deaf = True
        return len(self._links)

    async def resets(self, share: float, every_s: float) -> None:
        """Reset this share of the connections, again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for link in [each for each in self._links if self._random.random() < share]:
                link.reset()
                self.cut += 1

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, inside: asyncio.StreamWriter) -> None:
        try:
            answers, outside = await asyncio.open_connection("127.0.0.1", self._detour.port, limit=_READ_BYTES)
        except OSError:
            inside.close()
            return
        link = Link(inside, outside)
        self._links.add(link)
        ways = [self._carry(link, reader, outside, self._asked), self._carry(link, answers, inside, self._answered)]
        try:
            async with asyncio.TaskGroup() as both:
                for way in ways:
                    both.create_task(way)
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, and so the other one goes
        finally:
            self._links.discard(link)
            inside.close()
            outside.close()

    async def _carry(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: Callable[[Link, bytes], bool],
    ) -> None:
        """Frames one after the other, each after the delay of the moment at which it came."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)

        async def deliver() -> None:
            while True:
                due, frame = await under_way.get()
                await asyncio.sleep(due - loop.time())
                if not link.deaf and passes(link, frame):
                    writer.write(frame)
                    await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while True:
                head = await reader.readexactly(_SIZE_BYTES)
                frame = head + await reader.readexactly(struct.unpack(">i", head)[0])
                await under_way.put((loop.time() + self.delay_s, frame))
        finally:
            delivering.cancel()
            await asyncio.wait({delivering})

    def _asked(self, link: Link, frame: bytes) -> bool:
        key, _, correlation_id = struct.unpack_from(">hhi", frame, _SIZE_BYTES)
        if key == PRODUCE and self.lose_answers > 0:
            self.lose_answers -= 1
            link.unanswered.add(correlation_id)
        return True

    def _answered(self, link: Link, frame: bytes) -> bool:
        """Whether the worker is to see it. That an answer came shows that the records are in the log."""
        if struct.unpack_from(">i", frame, _SIZE_BYTES)[0] not in link.unanswered:
            return True
        self.lost += 1
        link.reset()
        return False

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def network(detour: Detour, seed: int) -> AsyncIterator[Network]:
    """Running where the broker's second listener says that it stands."""
    running = Network(detour, seed)
    server = await asyncio.start_server(running.accept, "127.0.0.1", detour.advertised)
    try:
        yield running
    finally:
        server.close()
        await running.close()
