"""What runs: the client, the triage and dispatch workers, and the commands around them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("heimdall-fleet")
except PackageNotFoundError:  # a checkout on the path, never installed
    __version__ = "0+unknown"
