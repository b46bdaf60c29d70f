"""Bundles from a directory, from a pointer, and what is refused of an archive."""

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from heimdall_fleet.triage import sources
from heimdall_fleet.triage.download import DownloadError
from heimdall_fleet.triage.sources import Archives, Directory, PointerFile, SourceError, read_pointer, unpacked
from heimdall_models.bundle import MAX_FILE_BYTES, ONNX, load_bundle

BundleCopy = Callable[[int], Path]
ArchiveOf = Callable[[Path], bytes]
PointerTo = Callable[[str, bytes], bytes]


class Web:
    """Files by address. Counts what was asked for; an address that is not there cannot be fetched."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, url: str, limit_bytes: int) -> bytes:
        self.asked.append(url)
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise DownloadError(f"{url} is not there")
        if len(self.files[name]) > limit_bytes:
            raise DownloadError(f"{url} is larger than {limit_bytes:,} bytes")
        return self.files[name]


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(name: str, data: bytes, mode: int = 0o644 | stat.S_IFREG, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data, method)
    return stream.getvalue()


def test_a_directory_is_marked_by_its_manifest_and_its_files(bundle_copy: BundleCopy) -> None:
    place, other = bundle_copy(1), bundle_copy(2)
    marker = Directory(place).offer().marker
    assert marker == Directory(place).offer().marker != Directory(other).offer().marker
    (place / ONNX).write_bytes((place / ONNX).read_bytes()[:1000])
    spoiled = Directory(place).offer().marker
    (place / ONNX).unlink()
    assert len({marker, spoiled, Directory(place).offer().marker}) == 3


def test_a_directory_without_a_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"manifest\.json cannot be read"):
        Directory(tmp_path).offer()


def test_a_pointer_leads_to_the_bundle_and_its_archive_is_fetched_once(
    bundle_copy: BundleCopy, archive_of: ArchiveOf, pointer_to: PointerTo, tmp_path: Path
) -> None:
    archive = archive_of(bundle_copy(1))
    files = {"latest.json": pointer_to("one.tar.gz", archive), "one.tar.gz": archive}
    web = Web(**files)
    source = PointerFile("https://artifacts.example.com/latest.json", Archives(tmp_path / "cache", web))
    expected = load_bundle(bundle_copy(1)).hash
    assert [source.offer().load().hash for _ in range(2)] == [expected, expected]
    assert web.asked.count("https://artifacts.example.com/one.tar.gz") == 1


def test_an_archive_that_was_spoiled_on_the_disk_is_fetched_again(
    bundle_copy: BundleCopy, archive_of: ArchiveOf, pointer_to: PointerTo, tmp_path: Path
) -> None:
    archive = archive_of(bundle_copy(1))
    web = Web(**{"p.json": pointer_to("https://x/a.tar.gz", archive), "a.tar.gz": archive})
    source = PointerFile("https://x/p.json", Archives(tmp_path, web))
    source.offer().load()
    next(tmp_path.glob("*.archive")).write_bytes(b"spoiled")
    assert source.offer().load().hash
    assert web.asked.count("https://x/a.tar.gz") == 2


def test_an_archive_that_cannot_be_kept_is_used_all_the_same_and_leaves_nothing_half_written(
    bundle_copy: BundleCopy, archive_of: ArchiveOf, pointer_to: PointerTo, tmp_path: Path
) -> None:
    archive = archive_of(bundle_copy(1))
    web = Web(**{"p.json": pointer_to("https://x/a.tar.gz", archive), "a.tar.gz": archive})
    in_the_way = tmp_path / "cache" / f"{hashlib.sha256(archive).hexdigest()}.archive"
    in_the_way.mkdir(parents=True)
    assert PointerFile("https://x/p.json", Archives(in_the_way.parent, web)).offer().load().hash
    assert list(in_the_way.parent.iterdir()) == [in_the_way]


def test_an_archive_that_cannot_be_unpacked_is_refused_and_not_an_accident() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("n" * 300, b"longer than any disk lets a name be")
    with (
        pytest.raises(SourceError, match=r"the archive cannot be unpacked in .*name too long"),
        unpacked(stream.getvalue(), "the archive"),
    ):
        pass


def test_only_the_newest_archives_are_kept(bundle_copy: BundleCopy, archive_of: ArchiveOf, tmp_path: Path) -> None:
    for number in range(1, sources.KEPT_ARCHIVES + 3):
        archive = archive_of(bundle_copy(number))
        found = read_pointer(
            f'{{"name":"bundle","url":"https://x/a","sha256":"{hashlib.sha256(archive).hexdigest()}"}}'.encode(), "here"
        )
        Archives(tmp_path / "cache", Web(a=archive)).load(found)
    assert len(list((tmp_path / "cache").iterdir())) == sources.KEPT_ARCHIVES


def test_another_archive_than_the_pointer_names_is_not_used(
    bundle_copy: BundleCopy, archive_of: ArchiveOf, pointer_to: PointerTo
) -> None:
    one, other = archive_of(bundle_copy(1)), archive_of(bundle_copy(2))
    web = Web(**{"p.json": pointer_to("https://x/a.tar.gz", one), "a.tar.gz": other})
    with pytest.raises(SourceError, match="has the sha-256"):
        PointerFile("https://x/p.json", Archives(None, web)).offer().load()


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"name": "bundle"}', b'{"name":"b","url":"u","sha256":"ABC"}', b"\xff"])
def test_what_is_no_pointer_is_refused(raw: bytes) -> None:
    with pytest.raises(SourceError, match="is no pointer"):
        read_pointer(raw, "somewhere")


def test_a_pointer_to_what_is_no_address_is_refused(pointer_to: PointerTo) -> None:
    web = Web(**{"latest.json": pointer_to("https://[nowhere", b"")})
    with pytest.raises(SourceError, match=r"latest\.json points at 'https://\[nowhere', which is no address"):
        PointerFile("https://x/latest.json", Archives(None, web)).offer()


@pytest.mark.parametrize(
    "archive", ["https://x/a.tar.gz?sig=SECRET", "https://x/b.tar.gz?sig=SECRET", "https://[x?SECRET"]
)
def test_the_query_of_an_address_is_used_and_shown_nowhere(
    archive: str, bundle_copy: BundleCopy, archive_of: ArchiveOf, pointer_to: PointerTo
) -> None:
    one, other = archive_of(bundle_copy(1)), archive_of(bundle_copy(2))
    web = Web(
        **{"p.json?sig=SECRET": pointer_to(archive, one), "a.tar.gz?sig=SECRET": other, "b.tar.gz?sig=SECRET": b""}
    )
    with pytest.raises(SourceError, match=r"https://x/(a|b|p)\.\S+\?\*\*\*") as caught:
        PointerFile("https://x/p.json?sig=SECRET", Archives(None, web)).offer().load()
    assert "SECRET" not in str(caught.value)
    with pytest.raises(SourceError, match="is no pointer") as caught:
        PointerFile("https://x/b.tar.gz?sig=SECRET", Archives(None, web)).offer()
    assert "SECRET" not in str(caught.value)


UNSAFE: dict[str, tuple[Callable[[], bytes], str]] = {
    "an absolute path": (lambda: tarred((member("/etc/passwd"), b"x")), "in one folder"),
    "a path above": (lambda: tarred((member("../manifest.json"), b"x")), "in one folder"),
    "a path that climbs": (lambda: tarred((member("a/../../manifest.json"), b"x")), "in one folder"),
    "two folders": (lambda: tarred((member("a/b/manifest.json"), b"x")), "in one folder"),
    "a symbolic link": (lambda: tarred((member("m.json", tarfile.SYMTYPE, "/etc/passwd"), b"")), "a link or a device"),
    "a hard link": (lambda: tarred((member("m.json", tarfile.LNKTYPE, "other"), b"")), "a link or a device"),
    "a pipe": (lambda: tarred((member("m.json", tarfile.FIFOTYPE), b"")), "a link or a device"),
    "a large file": (lambda: tarred((member("m.json"), b"\0" * (MAX_FILE_BYTES + 1))), "is larger than"),
    "many files": (
        lambda: tarred(*((member(f"{number}.npy"), b"x") for number in range(sources.MAX_MEMBERS + 1))),
        "more than 64 files",
    ),
    "much in all": (
        lambda: tarred(*((member(f"{n}.npy"), b"\0" * MAX_FILE_BYTES) for n in range(5))),
        "more than 64 files or",
    ),
    "a zip above": (lambda: zipped("../manifest.json", b"x"), "in one folder"),
    "a zip with backslashes": (lambda: zipped("..\\manifest.json", b"x"), "in one folder"),
    "a zip with a link": (lambda: zipped("m.json", b"/etc/passwd", 0o777 | stat.S_IFLNK), "a link or a device"),
    "a zip with a large file": (lambda: zipped("m.json", b"\0" * (MAX_FILE_BYTES + 1)), "is larger than"),
    "a zip that needs much memory": (
        lambda: zipped("m.json", b"x", method=zipfile.ZIP_LZMA),
        "neither stored nor deflated",
    ),
    "no archive": (lambda: b"no archive at all", "neither a .tar.gz nor a .zip"),
    "half a tar": (lambda: tarred((member("m.json"), b"x" * 4000))[:60], "neither a .tar.gz nor a .zip"),
    "half a zip": (lambda: zipped("m.json", b"x" * 4000)[:60], "neither a .tar.gz nor a .zip"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_or_broken_archive_is_refused_before_anything_is_written(name: str) -> None:
    archive, why = UNSAFE[name]
    with pytest.raises(SourceError, match=why), unpacked(archive(), "the archive"):
        pytest.fail("it was unpacked")


TEXT = " ".join(f"{number} {number**3:x}" for number in range(60)).encode()


@pytest.mark.parametrize("whole", [zipped("m.json", TEXT), tarred((member("m.json"), TEXT))], ids=["zip", "tar"])
def test_an_archive_with_a_changed_byte_is_unpacked_or_refused_and_no_accident(whole: bytes) -> None:
    outcomes = set()
    for place in range(0, len(whole), 3):
        archive = whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        try:
            with unpacked(archive, "the archive"):
                outcomes.add("unpacked")
        except SourceError:
            outcomes.add("refused")
    assert outcomes == {"unpacked", "refused"}


def test_a_zip_is_as_good_as_a_tar(bundle_copy: BundleCopy) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file in bundle_copy(1).iterdir():
            archive.write(file, file.name)
    with unpacked(stream.getvalue(), "the archive") as folder:
        assert load_bundle(folder).hash == load_bundle(bundle_copy(1)).hash
    assert not folder.exists()
