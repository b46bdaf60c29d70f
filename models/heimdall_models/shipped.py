"""Where the shipped bundle and catalogue lie: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of `bundles/default`, `catalogue/models.json` …; whether it exists is for the reader to say."""
    # In a wheel the catalogue's folder has another name, since heimdall_models.catalogue is a module.
    inside = _PACKAGE / name.replace("catalogue/", "catalogue_data/", 1)
    return inside if inside.exists() else _PACKAGE.parent / name
