"""`python -m heimdall_fleet.cli`: the same as `heimdall`, for processes that start processes."""

from heimdall_fleet.cli import main

main()
