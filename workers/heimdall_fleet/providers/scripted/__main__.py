"""`python -m heimdall_fleet.providers.scripted`: the scripted providers as a process of their own."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import orjson

from heimdall_fleet.providers.scripted.plan import Plan, read_plan
from heimdall_fleet.providers.scripted.server import ScriptedProviders


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m heimdall_fleet.providers.scripted", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container, so that the others reach it")
    parser.add_argument("--plan", type=Path, help="a plan as JSON; without it every call is answered at once")
    parser.add_argument("--calls", type=Path, help="append one JSON line for each ended call")
    arguments = parser.parse_args()
    plan = read_plan(arguments.plan.read_bytes()) if arguments.plan else Plan()
    asyncio.run(_serve(ScriptedProviders(plan, arguments.calls, arguments.port, arguments.host)))


async def _serve(providers: ScriptedProviders) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with providers:
        sys.stdout.write(orjson.dumps({"base_url": providers.url, "pid": os.getpid()}).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    main()
