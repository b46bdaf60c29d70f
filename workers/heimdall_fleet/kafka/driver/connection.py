"""How every aiokafka client is connected, waited for and closed, and what one knows of a partition."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from aiokafka import TopicPartition, errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.helpers import create_ssl_context

from heimdall_fleet.kafka.errors import BrokerUnavailable, KafkaFailure, NotAMember, UnknownTopic
from heimdall_fleet.kafka.records import Partition
from heimdall_fleet.kafka.settings import STOP_TIMEOUT_S, KafkaSettings

T = TypeVar("T")


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Give aiokafka's errors our names, with the cause kept."""
    try:
        yield
    except (errors.CommitFailedError, errors.IllegalStateError, errors.UnknownMemberIdError) as error:
        raise NotAMember(f"{what}: {error!r}") from error
    except (errors.IllegalGenerationError, errors.RebalanceInProgressError) as error:
        raise NotAMember(f"{what}: {error!r}") from error
    except errors.UnknownTopicOrPartitionError as error:
        raise UnknownTopic(f"{what}: no such topic in the cluster; `heimdall topics check` lists them") from error
    except (errors.KafkaError, TimeoutError, OSError) as error:
        raise BrokerUnavailable(f"{what}: {error!r}") from error


def state_of(partition: Partition, consumer: Any) -> Any:
    """aiokafka's own of a partition that this consumer has: `position`, `highwater` …; None for one that it has not."""
    return consumer._subscription.subscription.assignment.state_value(TopicPartition(*partition))


async def bounded(work: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
    """Await `work` no longer than `timeout_s`.

    In a task of its own, because aiokafka's stop can raise CancelledError without anybody having cancelled us.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        if task.done() and not task.cancelled():
            task.exception()  # seen, also when it is us who are cancelled and nobody will ask for it
    if not task.done() or task.cancelled():
        raise BrokerUnavailable(f"{what}: no answer within {timeout_s:g} s")
    with translated(what):
        return task.result()


async def abandon(client: Any, tasks: Sequence[asyncio.Task[Any] | None], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Close a client whose graceful stop hangs: end its tasks first, then its sockets."""
    alive = {task for task in tasks if task is not None and not task.done()}
    for task in alive:
        task.cancel()
    if alive:
        await asyncio.wait(alive, timeout=1.0)
    if client._md_update_fut is not None and not client._md_update_fut.done():
        client._md_update_fut.set_result(False)  # a retry that waits for metadata would never end
    closing = asyncio.ensure_future(client.close())
    await asyncio.wait({closing}, timeout=timeout_s)
    closing.cancel()


async def stop_consumer(aio: Any, timeout_s: float) -> None:
    """Leave the group, if any, and close; never raises. `timeout_s` 0 does not wait for a broker at all."""
    if timeout_s > 0:
        with contextlib.suppress(KafkaFailure):
            await bounded(aio.stop(), timeout_s, "stop a consumer")
            return
    aio._closed = True
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task", "_fetch_task")
    owners = [owner for owner in (aio._coordinator, aio._fetcher) if owner is not None]
    tasks = [getattr(owner, name, None) for owner in owners for name in names]
    if aio._fetcher is not None:
        tasks += aio._fetcher._pending_tasks
    await abandon(aio._client, tasks)


def connection_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments every aiokafka client shares. Raises `BrokerUnavailable` where the files of TLS cannot be used."""
    return {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
        "ssl_context": _tls(settings) if settings.security_protocol in {"SSL", "SASL_SSL"} else None,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_plain_username,
        "sasl_plain_password": settings.sasl_plain_password,
        "metadata_max_age_ms": settings.metadata_max_age_ms,
    }


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    files = {name: getattr(settings, name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.ssl_cafile,
            certfile=settings.ssl_certfile,
            keyfile=settings.ssl_keyfile,
            password=settings.ssl_password or "",  # without one, OpenSSL would ask the terminal
        )
    except OSError as error:  # an unreadable file, and all that OpenSSL finds wrong inside
        named = ", ".join(f"kafka.{name} {file}" for name, file in files.items() if file)
        hint = (
            "; is kafka.ssl_password that of the key?"
            if isinstance(error, ssl.SSLError) and settings.ssl_keyfile
            else ""
        )
        raise BrokerUnavailable(f"no TLS with {named}: {error}{hint}") from error
    context.check_hostname = settings.ssl_check_hostname
    return context


async def preflight(settings: KafkaSettings, timeout_s: float = 5.0) -> None:
    """Connect once to each bootstrap server and raise `BrokerUnavailable` with the real cause.

    A client only says "unable to bootstrap" for a wrong password, a wrong authority and a refused port alike.
    """
    arguments = connection_arguments(settings)
    del arguments["bootstrap_servers"], arguments["metadata_max_age_ms"]
    causes = []
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            connection = await bounded(
                create_conn(host, port, request_timeout_ms=int(timeout_s * 1000), **arguments),
                timeout_s,
                f"{host}:{port}",
            )
        except KafkaFailure as error:
            causes.append(str(error))
        else:
            connection.close()
            return
    raise BrokerUnavailable("; ".join(causes))


async def awaiting(waiting: Awaitable[T]) -> T:
    """A future as a coroutine, which is what `bounded` takes."""
    return await waiting
