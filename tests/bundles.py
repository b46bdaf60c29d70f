"""Bundles without training: copies of the shipped one that differ from it."""

from pathlib import Path

import orjson

from heimdall_models.bundle import MANIFEST
from heimdall_models.shipped import shipped


def dated(folder: Path, day: int) -> Path:
    """The shipped bundle with another creation date in `folder`, so that its hash differs."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in shipped("bundles/default").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = {**orjson.loads((folder / MANIFEST).read_bytes()), "created": f"2026-11-{day:02}T00:00:00+00:00"}
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))
    return folder
