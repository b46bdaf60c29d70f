"""The command `heimdall`. Nothing is imported before it is known which command runs."""

import sys

from heimdall_fleet.system.threads import pin_threads


def main() -> None:
    """Entry point. The bare install is the client only; without the extra it says how to get the commands."""
    pin_threads()
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
