"""A worker whose disk is full: `python -m tests.faults.cramped BYTES ARGUMENTS…` is `heimdall ARGUMENTS…`.

No file grows beyond BYTES, whichever it is: the limit is the kernel's, so the writes themselves fail, with an OSError.
"""

import resource
import sys

from heimdall_fleet.cli import main as heimdall


def main() -> None:
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["heimdall", *sys.argv[2:]]
    heimdall()


if __name__ == "__main__":
    main()
