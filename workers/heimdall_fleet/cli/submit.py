"""`heimdall submit`: requests as JSON lines in, replies as JSON lines out."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from heimdall_fleet.bootstrap.edges import client_for
from heimdall_fleet.cli.common import configuration, input_lines, json_object
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.cli.values import DURATION
from heimdall_fleet.client import Expired, Handle, HeimdallClient, HeimdallError, Unreachable


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--no-wait", is_flag=True, help="Print the request ids and leave; the replies stay in their topic.")
@click.option("--stream", is_flag=True, help="Print each chunk as it comes, then the whole reply.")
@click.option("--deadline", type=DURATION, metavar="30s", help="For requests that name none. Default: 10m.")
@click.pass_obj
def submit(options: Globals, file: Path | None, no_wait: bool, stream: bool, deadline: timedelta | None) -> None:
    """Send Chat Completions bodies, one JSON object a line, from FILE or standard input; print the replies as lines.

    Replies come in the order of the requests. Exit code 1 when a request ended without an answer, 5 when a deadline
    passed.

    \b
    Example:
      echo '{"messages": [{"role": "user", "content": "hi"}]}' | heimdall submit
    """
    bodies = [json_object(number, line) for number, line in input_lines(file)]
    client = client_for(configuration(options).config)
    worst = asyncio.run(send_all(client, bodies, deadline, "ids" if no_wait else "chunks" if stream else "replies"))
    if worst is not Exit.OK:
        raise CommandError(worst, "not every request was answered; the error lines above say why")


async def send_all(client: HeimdallClient, bodies: list[dict[str, Any]], deadline: timedelta | None, want: str) -> Exit:
    """Send all, then wait for all; `want` is what is printed: replies, chunks or ids."""
    try:
        async with client:
            if want == "chunks":
                return max([await _print_stream(client, body, deadline) for body in bodies], default=Exit.OK)
            begun = [await _begin(client, body, deadline) for body in bodies]
            show = _print_id if want == "ids" else _print_reply
            return max([await show(each) for each in begun], default=Exit.OK)
    except Unreachable as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from error


async def _begin(client: HeimdallClient, body: dict[str, Any], deadline: timedelta | None) -> Handle | HeimdallError:
    """The request on its way, or why the client did not send it: one bad body must not cost the others their replies."""
    try:
        return await client.submit(body, deadline=deadline)
    except Unreachable:
        raise
    except HeimdallError as error:
        return error


async def _print_id(begun: Handle | HeimdallError) -> Exit:
    if isinstance(begun, HeimdallError):
        return _print_error(None, begun)
    data({"request_id": begun.request_id})
    return Exit.OK


async def _print_reply(handle: Handle | HeimdallError) -> Exit:
    if isinstance(handle, HeimdallError):
        return _print_error(None, handle)
    try:
        reply = await handle.result()
    except HeimdallError as error:
        return _print_error(handle.request_id, error)
    data(reply.model_dump(mode="json", exclude_unset=True))
    return Exit.OK


async def _print_stream(client: HeimdallClient, body: dict[str, Any], deadline: timedelta | None) -> Exit:
    stream = client.stream(body, deadline=deadline)
    try:
        async for chunk in stream:
            data(chunk.model_dump(mode="json", exclude_unset=True))
    except HeimdallError as error:
        return _print_error(stream.request_id, error)
    if stream.final is not None:
        data(stream.final.model_dump(mode="json", exclude_unset=True))
    return Exit.OK


def _print_error(request_id: str | None, error: HeimdallError) -> Exit:
    facts = error.heimdall.model_dump(mode="json", exclude_unset=True) if error.heimdall else {"request_id": request_id}
    data({"error": {"code": error.code, "message": error.message, "retryable": error.retryable}, "heimdall": facts})
    note(f"{request_id or 'not sent'}: {error}")
    return Exit.DEADLINE if isinstance(error, Expired) else Exit.CHECK_FAILED
