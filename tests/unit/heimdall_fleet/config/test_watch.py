import asyncio
import os
from functools import partial
from pathlib import Path

import pytest

from heimdall_fleet.config import Reload, Watcher, load


class Fleet:
    """A file, the watcher of it, and what was reported."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "heimdall.yaml"
        self.seconds = 1_000
        self.write("router: {alpha: 0.7}\n")
        self.reports: list[Reload] = []
        self.read = partial(load, self.path, {"ENVIRONMENT": "staging"})
        self.watcher = Watcher(self.read(), self.read, self.reports.append)

    def write(self, text: str, name: str = "heimdall.yaml") -> None:
        path = self.path.with_name(name)
        path.write_text(text)
        self.seconds += 1
        os.utime(path, (self.seconds, self.seconds))

    @property
    def alpha(self) -> float:
        return self.watcher.loaded.config.router.alpha


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_an_unchanged_file_is_not_read(fleet: Fleet) -> None:
    assert fleet.watcher.poll() is None
    assert fleet.reports == []


def test_a_changed_file_is_swapped_in(fleet: Fleet) -> None:
    fleet.write("router: {alpha: 0.5}\n")
    reload = fleet.watcher.poll()
    assert reload is not None
    assert (reload.outcome, fleet.alpha) == ("swapped", 0.5)
    assert [str(change) for change in reload.changes] == ["router.alpha: 0.7 → 0.5"]
    assert fleet.watcher.poll() is None


def test_a_bad_file_leaves_the_last_good_one_and_is_read_once(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    fleet.write("router: {alpha: 5}\n")
    reload = fleet.watcher.poll()
    assert reload is not None
    assert (reload.outcome, fleet.alpha) == ("refused", 0.7)
    assert f"{fleet.path}:1:17" in caplog.text
    assert fleet.watcher.poll() is None
    fleet.write("router: {alpha: 0.6}\n")
    assert fleet.watcher.poll() == fleet.reports[-1]
    assert fleet.alpha == 0.6


def test_a_deleted_file_leaves_the_last_good_one(fleet: Fleet) -> None:
    fleet.path.unlink()
    reload = fleet.watcher.poll()
    assert reload is not None
    assert (reload.outcome, fleet.alpha) == ("refused", 0.7)


def test_an_overlay_that_appears_is_noticed(fleet: Fleet) -> None:
    fleet.write("router: {alpha: 0.4}\n", "heimdall.staging.yaml")
    fleet.watcher.poll()
    assert fleet.alpha == 0.4


def test_a_rotated_secret_file_is_noticed(fleet: Fleet) -> None:
    fleet.write("one-secret", "key")
    fleet.write("providers: {a: {type: openai, keys: [{name: k, value: '${file:key}'}]}}\n")
    fleet.watcher.poll()
    fleet.write("two-secret", "key")
    fleet.watcher.poll()
    assert fleet.watcher.loaded.config.providers["a"].keys[0].value.get_secret_value() == "two-secret"


def test_a_reload_on_request_tells_when_nothing_changed(fleet: Fleet) -> None:
    assert fleet.watcher.reload().outcome == "unchanged"


async def test_it_polls_until_it_is_cancelled(fleet: Fleet) -> None:
    reported = asyncio.Event()
    watcher = Watcher(fleet.watcher.loaded, fleet.read, lambda _: reported.set())
    fleet.write("router: {alpha: 0.5}\n")
    polling = asyncio.create_task(watcher.run(0.001))
    await reported.wait()
    polling.cancel()
    assert watcher.loaded.config.router.alpha == 0.5
