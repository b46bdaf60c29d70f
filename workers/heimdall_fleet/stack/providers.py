"""The scripted providers of a local stack: which there are, how they behave, and the configuration that names them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from heimdall_fleet.stack import processes
from heimdall_fleet.stack.errors import StackError
from heimdall_fleet.stack.processes import Child

PLAIN_PLAN: Mapping[str, Any] = {
    "seed": 7,
    "behaviours": {"*": {"latency_ms": {"median": 250, "sigma": 0.5}, "output_tokens": {"median": 180, "sigma": 0.8}}},
}
"""Answers after a quarter of a second, and nothing goes wrong."""


@dataclass(frozen=True, slots=True)
class Scripted:
    """The running process of scripted providers; each provider has a path of its own under `url`."""

    url: str
    child: Child

    def entries(self, authors: Iterable[str]) -> dict[str, Any]:
        """The `providers` section that sends every author's models here, with two keys each."""
        return {
            author: {
                "type": "custom",
                "base_url": f"{self.url}/{author}/v1",
                "keys": [{"name": f"{author}-{n}", "value": f"scripted-{author}-{n}"} for n in (1, 2)],
                "key_strategy": "round_robin",
            }
            for author in authors
        }


async def start_scripted(plan: Mapping[str, Any], log_dir: Path, calls: Path | None) -> Scripted:
    """Start the process and wait until it answers."""
    plan_file = log_dir / "plan.json"
    plan_file.write_bytes(orjson.dumps(plan, option=orjson.OPT_INDENT_2))
    port = processes.free_port()
    arguments = ["-m", "heimdall_fleet.providers.scripted", "--port", str(port), "--plan", str(plan_file)]
    child = await processes.start("providers", [*arguments, *(["--calls", str(calls)] if calls else [])], log_dir, {})
    await processes.until_ready(child, port, "/_plan")
    return Scripted(f"http://127.0.0.1:{port}", child)


def authors(models: Iterable[str]) -> list[str]:
    """The authors of the models, each once, in order. Raises StackError for an id without one."""
    found: dict[str, None] = {}
    for model in models:
        author, slash, _ = model.partition("/")
        if not slash:
            raise StackError(f"{model!r} is no model id; write author/model")
        found[author] = None
    return list(found)
