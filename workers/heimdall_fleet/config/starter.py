"""The files that `heimdall config init` writes."""

from importlib.resources import files
from pathlib import Path

from heimdall_fleet.config.model import Environment


def starter_file(environment: Environment | None = None) -> tuple[str, str]:
    """Name and text of a file to start from: the configuration itself, or the overlay of an environment."""
    name = f"heimdall.{environment}.yaml" if environment else "heimdall.yaml"
    return name, (files("heimdall_fleet.config") / "examples" / name).read_text(encoding="utf-8")


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet. Raises FileExistsError."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
