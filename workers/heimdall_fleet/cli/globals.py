"""The options that stand before every command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Globals:
    """`config` None: heimdall.yaml where it exists, else defaults. `bootstrap` overrides kafka.bootstrap_servers."""

    config: Path | None = None
    bootstrap: str | None = None
    output: Literal["text", "json"] = "text"
    log_format: str | None = None
