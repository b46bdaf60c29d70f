"""The configuration of a fleet: `heimdall.yaml`, its overlays, the environment.

Start with `model.py` (what there is) and `load.py` (how it is read).
"""

from heimdall_fleet.config.change import Change, config_hash, diff
from heimdall_fleet.config.issues import ConfigError, Issue, render
from heimdall_fleet.config.load import Loaded, find_file, load, require_providers
from heimdall_fleet.config.model import Config
from heimdall_fleet.config.watch import Reload, Watcher

__all__ = [
    "Change",
    "Config",
    "ConfigError",
    "Issue",
    "Loaded",
    "Reload",
    "Watcher",
    "config_hash",
    "diff",
    "find_file",
    "load",
    "render",
    "require_providers",
]
