"""`heimdall providers list | ping` and `heimdall keys list`: who may be asked, and whether they answer. Names only."""

import asyncio
import time
from typing import Any

import click

from heimdall_fleet.bootstrap.dispatch import client_of, providers_of
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.config import Config
from heimdall_fleet.dispatch.capacity.probe import ask, models_request
from heimdall_fleet.dispatch.settings import KeySettings, ProviderSettings
from heimdall_fleet.providers.registry import dialect_for

_OK = 200


@click.group()
def providers() -> None:
    """Who is configured to answer.

    \b
    Example:
      heimdall providers ping
    """


@providers.command(name="list")
@click.pass_obj
def list_providers(options: Globals) -> None:
    """Every provider: its family, address, keys and models."""
    found = [_provider(settings) for settings in providers_of(configuration(options).config).values()]
    if options.output == "json":
        data({"providers": found})
        return
    for each in found:
        click.echo(f"{each['name']}  {each['type']}  {each['base_url']}  keys: {', '.join(each['keys'])}")


@providers.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--timeout", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, help="Seconds for each.")
@click.pass_obj
def ping(options: Globals, names: tuple[str, ...], timeout: float) -> None:
    """Ask each provider for its list of models with each key, which costs nothing. Exit code 3 when one does not answer."""
    config = configuration(options).config
    known = providers_of(config)
    if unknown := sorted(set(names) - known.keys()):
        raise CommandError(
            Exit.NOT_FOUND, f"no provider {', '.join(unknown)}; configured: {', '.join(known) or 'none'}"
        )
    chosen = [known[name] for name in names or known]
    found = asyncio.run(_ping(config, chosen, round(timeout * 1_000)))
    if options.output == "json":
        data({"pings": found})
    for each in found:
        note(f"  {each['provider']} {each['key']}: {each['answer']} ({each['latency_ms']:.0f} ms)")
    bad = [each for each in found if each["ok"] is False]
    if bad:
        raise CommandError(Exit.UNREACHABLE, f"{len(bad)} of {len(found)} did not answer as they should")


@click.group()
def keys() -> None:
    """The credentials of the providers, by name.

    \b
    Example:
      heimdall keys list
    """


@keys.command(name="list")
@click.pass_obj
def list_keys(options: Globals) -> None:
    """Every key: whose it is, what it may serve, its limits; never the key itself."""
    found = [
        {"provider": settings.name, **_key(key)}
        for settings in providers_of(configuration(options).config).values()
        for key in settings.keys
    ]
    if options.output == "json":
        data({"keys": found})
        return
    for each in found:
        limits = f"rpm {each['rpm'] or '-'}  tpm {each['tpm'] or '-'}"
        click.echo(
            f"{each['provider']}  {each['name']}  weight {each['weight']:g}  {limits}  {', '.join(each['models'])}"
        )


def _provider(settings: ProviderSettings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "type": settings.type,
        "base_url": settings.base_url,
        "keys": [key.name for key in settings.keys],
        "models": list(settings.models),
        "key_strategy": settings.strategy.value,
        "concurrency": settings.concurrency,
    }


def _key(key: KeySettings) -> dict[str, Any]:
    return {
        "name": key.name,
        "weight": key.weight,
        "models": list(key.models),
        "rpm": key.rpm,
        "tpm": key.tpm,
        "quota_group": key.quota_group,
        "set": bool(key.secret),
    }


async def _ping(config: Config, chosen: list[ProviderSettings], timeout_ms: int) -> list[dict[str, Any]]:
    pings = [_one(config, settings, key, timeout_ms) for settings in chosen for key in settings.keys]
    return list(await asyncio.gather(*pings))


async def _one(config: Config, settings: ProviderSettings, key: KeySettings, timeout_ms: int) -> dict[str, Any]:
    request = models_request(settings, key, dialect_for(settings.type))
    started = time.monotonic()
    answer: int | str = "has no free list of models; not asked"
    if request is not None:
        client = client_of(settings)
        try:
            answer = await ask(client, request, timeout_ms)
        finally:
            await client.aclose()
    return {
        "provider": settings.name,
        "key": key.name,
        "ok": None if request is None else answer == _OK,
        "answer": answer,
        "latency_ms": round((time.monotonic() - started) * 1_000, 1),
    }
