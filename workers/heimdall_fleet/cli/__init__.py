"""The command `heimdall`. Nothing is imported before it is known which command runs."""

import sys


def main() -> None:
    """Entry point. The bare install is the client only; without the extra it says how to get the commands."""
    try:
        from heimdall_fleet.cli.main import run
    except ModuleNotFoundError as missing:
        print(
            f"heimdall: the commands need the package {missing.name!r}, which this install does not have.\n"
            "  pip install 'heimdall-fleet[fleet]'",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run())
