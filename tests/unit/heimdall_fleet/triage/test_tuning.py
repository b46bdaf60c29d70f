"""Another bundle is taken up, a bad one leaves what serves, and both are said."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from heimdall_fleet.triage.download import DownloadError
from heimdall_fleet.triage.sources import Archives, Directory, Offer, PointerFile, SourceError
from heimdall_fleet.triage.tuning import Tuning, try_out
from heimdall_models.bundle import MANIFEST, MAX_FILE_BYTES, ONNX, QUALITY, Bundle, load_bundle
from heimdall_models.classify import Verdicts
from heimdall_models.embed import CheckedEmbedder, EmbeddingCache
from heimdall_models.judge import Judge
from heimdall_schemas.control import Pointer
from heimdall_schemas.failure import Failure, FailureCode

Make = Callable[[Bundle], Judge]
BundleCopy = Callable[[int], Path]


def nothing(url: str, limit_bytes: int) -> bytes:
    raise DownloadError(f"{url} is not there")


NO_ARCHIVES = Archives(None, nothing)


def replace_with(place: Path, by: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(by, place)


def truncated(folder: Path) -> None:
    (folder / ONNX).write_bytes((folder / ONNX).read_bytes()[:1000])


def of_another_feature_version(folder: Path) -> None:
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(orjson.dumps({**manifest, "feature_version": "0"}))


def too_large(folder: Path) -> None:
    (folder / "quality.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))


def not_json(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"{")


def without_its_quality_table(folder: Path) -> None:
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    del manifest["files"]["quality.json"]
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))


def with_a_quality_table_of_nothing(folder: Path) -> None:
    table = orjson.dumps({**orjson.loads((folder / QUALITY).read_bytes()), "models": []})
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    manifest["files"][QUALITY] = hashlib.sha256(table).hexdigest()
    (folder / QUALITY).write_bytes(table)
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))


async def test_a_new_bundle_in_the_directory_is_taken_up_by_the_next_look(make: Make, bundle_copy: BundleCopy) -> None:
    place = bundle_copy(1)
    tuning = Tuning(Directory(place), NO_ARCHIVES, make)
    before = tuning.judge
    assert await tuning.poll() is None
    replace_with(place, bundle_copy(2))
    assert await tuning.poll() is True
    assert tuning.judge is not before
    assert tuning.bundle.hash == load_bundle(bundle_copy(2)).hash


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (truncated, "hash differs"),
        (of_another_feature_version, "feature version '0'"),
        (too_large, "larger than"),
        (not_json, "not JSON"),
        (without_its_quality_table, "no quality.json"),
        (with_a_quality_table_of_nothing, "quality.json of bundle "),
    ],
)
async def test_a_bad_bundle_changes_nothing_and_is_told_once(
    make: Make, bundle_copy: BundleCopy, spoil: Callable[[Path], None], why: str
) -> None:
    place = bundle_copy(1)
    tuning = Tuning(Directory(place), NO_ARCHIVES, make)
    judge, good = tuning.judge, bundle_copy(2)
    replace_with(place, good)
    spoil(place)
    assert [await tuning.poll() for _ in range(3)] == [False, None, None]
    assert tuning.judge is judge
    assert tuning.refused is not None
    assert why in tuning.refused
    replace_with(place, good)
    assert await tuning.poll() is True
    assert tuning.refused is None


async def test_a_file_spoiled_under_the_old_manifest_is_told_and_its_return_ends_that(
    make: Make, bundle_copy: BundleCopy
) -> None:
    place = bundle_copy(1)
    tuning = Tuning(Directory(place), NO_ARCHIVES, make)
    before, whole = tuning.judge, (place / ONNX).read_bytes()
    truncated(place)
    assert await tuning.poll() is False
    assert tuning.judge is before
    assert ONNX in (tuning.refused or "")
    (place / ONNX).write_bytes(whole)
    assert await tuning.poll() is None
    assert (tuning.refused, tuning.judge) == (None, before)


@pytest.mark.parametrize("name", [MANIFEST, ONNX])
async def test_a_pipe_and_a_device_in_the_place_of_a_file_hold_no_look_up(
    make: Make, bundle_copy: BundleCopy, name: str
) -> None:
    place = bundle_copy(1)
    tuning = Tuning(Directory(place), NO_ARCHIVES, make)
    whole = (place / name).read_bytes()
    for put in (os.mkfifo, partial(os.symlink, "/dev/zero")):
        (place / name).unlink()
        put(place / name)
        assert await tuning.poll() is False
        assert "no plain file" in (tuning.refused or "")
        (place / name).unlink()
        (place / name).write_bytes(whole)
        assert await tuning.poll() is None


async def test_the_old_bundle_coming_back_ends_the_complaint(make: Make, bundle_copy: BundleCopy) -> None:
    place = bundle_copy(1)
    tuning = Tuning(Directory(place), NO_ARCHIVES, make)
    manifest = (place / MANIFEST).read_bytes()
    not_json(place)
    assert await tuning.poll() is False
    (place / MANIFEST).write_bytes(manifest)
    assert await tuning.poll() is None
    assert tuning.refused is None


@dataclass(frozen=True)
class Silent:
    """A classifier whose trees give NaN."""

    def predict(self, numeric: NDArray[np.float32]) -> Verdicts:
        nan = np.full(len(numeric), np.nan)
        return Verdicts(nan, nan, nan, nan, np.zeros(len(numeric), np.bool_))


@dataclass(frozen=True)
class Broken:
    """A classifier that fails in a way which no check foresaw."""

    def predict(self, numeric: NDArray[np.float32]) -> Verdicts:
        raise IndexError("tuple index out of range")


async def test_a_bundle_that_cannot_decide_is_refused_whatever_the_reason(make: Make, bundle_copy: BundleCopy) -> None:
    classifier: Any = Broken()
    broken = replace(load_bundle(bundle_copy(1)), classifier=classifier, hash="broken")
    with pytest.raises(SourceError, match=r"bundle broken is refused: .*IndexError: tuple index out of range"):
        try_out(make(broken))


async def test_a_classifier_that_gives_nan_is_refused(make: Make, bundle_copy: BundleCopy) -> None:
    classifier: Any = Silent()
    silent = replace(load_bundle(bundle_copy(2)), classifier=classifier, hash="silent")
    with pytest.raises(SourceError, match="NaN"):
        try_out(make(silent))

    @dataclass
    class Turns:
        bundles: list[Bundle]

        def offer(self) -> Offer:
            bundle = self.bundles.pop(0)
            return Offer(bundle.hash, lambda: bundle)

    good = load_bundle(bundle_copy(1))
    tuning = Tuning(Turns([good, silent]), NO_ARCHIVES, make)
    assert await tuning.poll() is False
    assert tuning.bundle is good


async def test_a_pointer_on_the_control_topic_goes_first_and_its_removal_goes_back(
    make: Make,
    bundle_copy: BundleCopy,
    archive_of: Callable[[Path], bytes],
    pointer_to: Callable[[str, bytes], bytes],
) -> None:
    archive = archive_of(bundle_copy(2))
    archives = Archives(None, lambda url, limit: archive)
    tuning = Tuning(Directory(bundle_copy(1)), archives, make)
    first = tuning.bundle.hash
    tuning.point_at(Pointer.model_validate_json(pointer_to("https://x/a", archive)))
    assert await tuning.poll() is True
    assert tuning.bundle.hash == load_bundle(bundle_copy(2)).hash
    tuning.point_at(None)
    assert await tuning.poll() is True
    assert tuning.bundle.hash == first


async def test_what_could_not_be_fetched_is_tried_again(
    make: Make, bundle_copy: BundleCopy, archive_of: Callable[[Path], bytes], pointer_to: Callable[[str, bytes], bytes]
) -> None:
    web: dict[str, bytes] = {}

    def fetch(url: str, limit_bytes: int) -> bytes:
        if url not in web:
            raise DownloadError(f"{url} is not there")
        return web[url]

    one, two = archive_of(bundle_copy(1)), archive_of(bundle_copy(2))
    web |= {"https://x/p": pointer_to("https://x/one", one), "https://x/one": one}
    tuning = Tuning(PointerFile("https://x/p", Archives(None, fetch)), NO_ARCHIVES, make)
    web["https://x/p"] = pointer_to("https://x/two", two)
    assert [await tuning.poll(), await tuning.poll()] == [False, None]
    web["https://x/two"] = two
    assert await tuning.poll() is True


async def test_rules_that_change_while_a_bundle_loads_are_not_lost(make: Make, bundle_copy: BundleCopy) -> None:
    place = bundle_copy(1)
    source = Directory(place)
    made: list[str] = []
    tuning = Tuning(source, NO_ARCHIVES, make)

    def older(bundle: Bundle) -> Judge:
        tuning.remake(newer, source)
        return make(bundle)

    def newer(bundle: Bundle) -> Judge:
        made.append(bundle.hash)
        return make(bundle)

    tuning._make = older
    replace_with(place, bundle_copy(2))
    assert await tuning.poll() is True
    assert made[-1] == tuning.bundle.hash


def test_a_worker_does_not_start_with_an_embedder_of_another_width(make: Make, bundle_copy: BundleCopy) -> None:
    def narrow(bundle: Bundle) -> Judge:
        judge = make(bundle)
        plugin = CheckedEmbedder("narrow", lambda texts: np.zeros((len(texts), 3), np.float32))
        return replace(judge, reader=replace(judge.reader, embedder=EmbeddingCache(plugin, 8)))

    with pytest.raises(Failure, match="must return"):
        Tuning(Directory(bundle_copy(1)), NO_ARCHIVES, narrow)


def test_a_worker_does_not_start_without_a_bundle(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        Tuning(Directory(tmp_path / "nowhere"), NO_ARCHIVES, make)
    assert caught.value.code is FailureCode.HEIMDALL_BUNDLE
    assert "tuning.artifact_url" in caught.value.message


async def test_a_challenger_that_is_refused_decides_nothing_and_leaves_the_champion_healthy(
    make: Make, bundle_copy: BundleCopy, archive_of: Callable[[Path], bytes], pointer_to: Callable[[str, bytes], bytes]
) -> None:
    archive = archive_of(bundle_copy(2))
    tuning = Tuning(Directory(bundle_copy(1)), Archives(None, lambda _url, _limit: archive), make)
    tuning.challenge_with(Pointer.model_validate_json(pointer_to("https://x/a", archive)))
    assert await tuning.poll() is None
    first = tuning.challenger
    assert first is not None
    assert first.bundle.hash == load_bundle(bundle_copy(2)).hash
    tuning.challenge_with(Pointer.model_validate_json(pointer_to("https://x/b", b"something else")))
    assert [await tuning.poll(), await tuning.poll()] == [False, None]
    assert tuning.challenger is None
    assert "sha-256" in (tuning.challenger_refused or "")
    assert tuning.refused is None
    tuning.challenge_with(None)
    await tuning.poll()
    assert tuning.challenger_refused is None
