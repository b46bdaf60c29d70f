"""A changed file is read, checked and swapped in; a bad one leaves the last good one serving."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heimdall_fleet.config.change import Change, diff
from heimdall_fleet.config.issues import ConfigError, Issue
from heimdall_fleet.config.load import Loaded
from heimdall_fleet.stamps import Stamp, stamp_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reload:
    """How a reload ended: with a new configuration, with the same one, or refused with the reasons."""

    outcome: Literal["swapped", "unchanged", "refused"]
    loaded: Loaded
    changes: tuple[Change, ...] = ()
    issues: tuple[Issue, ...] = ()


class Watcher:
    """Holds the configuration that serves.

    `read` loads it anew (a partial of `load`); `report` hears of every reload, to count it and to hand the new
    configuration on; it is called in the thread that polls, which for `run` is the event loop's.
    """

    def __init__(self, loaded: Loaded, read: Callable[[], Loaded], report: Callable[[Reload], None]) -> None:
        self._loaded = loaded
        self._read = read
        self._report = report
        self._stamp = _stamps(loaded.files)

    @property
    def loaded(self) -> Loaded:
        """The last good configuration."""
        return self._loaded

    def poll(self) -> Reload | None:
        """Reload if one of the files changed since they were last read. None when nothing did."""
        return self.reload() if self.changed() else None

    def changed(self) -> bool:
        return _stamps(self._loaded.files) != self._stamp

    def reload(self) -> Reload:
        """Read now, whatever the files look like (SIGHUP). Never raises ConfigError: a refusal is an outcome."""
        # The stamp is taken before reading: a file written meanwhile is seen as changed at the next poll.
        self._stamp = _stamps(self._loaded.files)
        try:
            loaded = self._read()
        except ConfigError as error:
            return self._told(Reload("refused", self._loaded, issues=error.issues))
        changes = diff(self._loaded.config, loaded.config)
        if loaded.files != self._loaded.files:
            self._stamp = _stamps(loaded.files)
        self._loaded = loaded
        return self._told(Reload("swapped" if changes else "unchanged", loaded, changes, loaded.warnings))

    async def run(self, interval_seconds: float) -> None:
        """Poll until cancelled. Only a changed file is read, which takes the loop some ten milliseconds."""
        while True:
            await asyncio.sleep(interval_seconds)
            self.poll()

    def _told(self, reload: Reload) -> Reload:
        tell(reload.issues)
        if reload.outcome == "refused":
            _log.error(
                "the changed configuration is refused; the last good one goes on serving",
                extra={"action": "config_refused"},
            )
        for change in reload.changes:
            _log.info("%s", change, extra={"action": "config_changed"})
        self._report(reload)
        return reload


def tell(issues: tuple[Issue, ...]) -> None:
    """One line of the log for each."""
    for issue in issues:
        level = logging.ERROR if issue.severity == "error" else logging.WARNING
        _log.log(level, "%s", issue, extra={"action": "config_issue"})


def _stamps(files: tuple[Path, ...]) -> tuple[Stamp | None, ...]:
    return tuple(map(stamp_of, files))
