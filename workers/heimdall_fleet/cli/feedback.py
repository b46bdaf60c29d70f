"""`heimdall feedback`: what an answer was worth, for the next classifier."""

import asyncio
from typing import Literal

import click

from heimdall_fleet.bootstrap.edges import client_for
from heimdall_fleet.cli.common import configuration
from heimdall_fleet.cli.exits import CommandError, Exit
from heimdall_fleet.cli.globals import Globals
from heimdall_fleet.cli.output import data, note
from heimdall_fleet.client import CallerError, Unreachable


@click.command()
@click.argument("request_id")
@click.option("--score", type=click.FloatRange(0, 1), help="0 useless to 1 perfect.")
@click.option("--accepted/--rejected", default=None, help="Whether the answer was used.")
@click.option("--label", type=click.Choice(["cheap", "mid", "hard"]), help="The bucket it should have had.")
@click.option("--comment", help="For people; the learning loop does not read it.")
@click.pass_obj
def feedback(
    options: Globals,
    request_id: str,
    score: float | None,
    accepted: bool | None,
    label: Literal["cheap", "mid", "hard"] | None,
    comment: str | None,
) -> None:
    """Say what the answer to a request was worth, at any time after it. Of contradicting words the latest counts.

    \b
    Example:
      heimdall feedback 0192f0c1-… --score 0.8 --accepted
      heimdall feedback 0192f0c1-… --label hard
    """
    if score is None and accepted is None and label is None:
        raise CommandError(Exit.USAGE, "say something: --score, --accepted, --rejected or --label")
    client = client_for(configuration(options).config)

    async def send() -> None:
        async with client:
            await client.feedback(request_id, score=score, accepted=accepted, label=label, comment=comment)

    try:
        asyncio.run(send())
    except Unreachable as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from error
    except CallerError as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    note(f"feedback on {request_id} is in the topic; the next replay joins it")
    if options.output == "json":
        data({"request_id": request_id, "sent": True})
