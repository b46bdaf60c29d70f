"""`heimdall triage` and `heimdall dispatch`: one worker of a fleet."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, Protocol, TypeVar

import click

from heimdall_fleet import __version__
from heimdall_fleet.bootstrap.edges import closed_labels
from heimdall_fleet.cli.common import read_configuration, valid_configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.config import ConfigError, Loaded, Reload, Watcher, render
from heimdall_fleet.config.change import secrets_of
from heimdall_fleet.config.watch import tell
from heimdall_fleet.observe import log
from heimdall_fleet.observe.health import Health
from heimdall_fleet.observe.metrics import Metrics
from heimdall_fleet.observe.server import ObserveServer, ServerSettings
from heimdall_fleet.service import Service, serve
from heimdall_schemas.failure import Failure

METRICS_PORT = click.option("--metrics-port", type=click.IntRange(0, 65_535), help="Over observe.metrics.port.")


class Worker(Service, Protocol):
    def check_into(self, health: Health) -> None: ...


W = TypeVar("W", bound=Worker)


@dataclass(frozen=True, slots=True)
class Role(Generic[W]):
    """How a worker of this name is built, how it takes up a changed configuration, and what it looks at under the same one."""

    name: str
    build: Callable[[Loaded, Metrics], W]
    configure: Callable[[W, Loaded], None]
    look: Callable[[W], None] | None = None


@click.command()
@METRICS_PORT
@click.pass_obj
def triage(options: Globals, metrics_port: int | None) -> None:
    """Decide requests: bucket, model, chain. SIGTERM stops gracefully, SIGHUP reads the configuration again and looks for
    another bundle.

    \b
    Example:
      heimdall --config heimdall.yaml triage --metrics-port 9090
    """
    from heimdall_fleet.bootstrap.triage import reconfigure_triage, triage_service
    from heimdall_fleet.triage.service import TriageService

    _run(Role("triage", triage_service, reconfigure_triage, TriageService.look_now), options, metrics_port)


@click.command()
@METRICS_PORT
@click.pass_obj
def dispatch(options: Globals, metrics_port: int | None) -> None:
    """Answer orders: call providers, fail over, reply. SIGTERM finishes the calls in flight, SIGHUP reloads.

    \b
    Example:
      heimdall --config heimdall.yaml dispatch --metrics-port 9091
    """
    from heimdall_fleet.bootstrap.dispatch import dispatch_service, reconfigure_dispatch

    _run(Role("dispatch", dispatch_service, reconfigure_dispatch), options, metrics_port)


def _run(role: Role[W], options: Globals, metrics_port: int | None) -> None:
    flags = {"observe.metrics.port": metrics_port}
    loaded = with_log(options, flags)
    metrics = Metrics(role.name, __version__)
    metrics.allow(**closed_labels(loaded.config))
    health = Health(__version__, lambda: datetime.now(UTC))
    try:
        asyncio.run(_serve(role, loaded, partial(read_configuration, options, flags), metrics, health))
    except ConfigError as error:
        raise CommandError(Exit.USAGE, "\n".join(render(issue) for issue in error.issues)) from error
    except Failure as failure:
        raise CommandError(Exit.USAGE, failure.message) from failure


def with_log(options: Globals, flags: Mapping[str, object]) -> Loaded:
    """The configuration of a worker, whose log is set up from it and begins with its warnings."""
    loaded = valid_configuration(options, flags)
    log.configure(loaded.config.observe.log, secrets=secrets_of(loaded.config))
    tell(loaded.warnings)
    return loaded


async def _serve(role: Role[W], loaded: Loaded, read: Callable[[], Loaded], metrics: Metrics, health: Health) -> None:
    service = role.build(loaded, metrics)
    service.check_into(health)

    observe = loaded.config.observe.metrics
    settings = ServerSettings(
        host=observe.host,
        port=observe.port,
        path=observe.path,
        labels=observe.labels,
        metrics_enabled=loaded.config.enable_observability,
    )
    await serve(
        service,
        ObserveServer(metrics, health, settings),
        Watcher(loaded, read, partial(take_up, role, service, metrics)),
    )


def take_up(role: Role[W], service: W, metrics: Metrics, reload: Reload) -> None:
    """What a worker does with a configuration that was read again. One that says the same as before was asked for (SIGHUP)."""
    if reload.outcome == "swapped":
        log.keep_out(secrets_of(reload.loaded.config))
        metrics.allow(**closed_labels(reload.loaded.config))
        role.configure(service, reload.loaded)
    elif reload.outcome == "unchanged" and role.look is not None:
        role.look(service)
    metrics.worker.config_reloaded(reload.outcome)
