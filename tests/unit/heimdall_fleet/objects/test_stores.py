"""Object stores keep what they are given; the S3 one is held against a server that speaks the least of S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from obstore.store import S3Store

from heimdall_fleet.bootstrap.edges import open_store
from heimdall_fleet.objects.base import ObjectStore, ObjectStoreError
from heimdall_fleet.objects.files import FileStore
from heimdall_fleet.objects.s3 import S3Objects


@asynccontextmanager
async def bucket(status: int = 200) -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """A server that keeps what is put, or refuses it; its address, and what it keeps by path."""
    kept: dict[str, bytes] = {}

    async def put(request: web.Request) -> web.Response:
        body = await request.read()
        if status == 200:
            kept[request.path] = body
        return web.Response(status=status, headers={"etag": '"1"'})

    app = web.Application()
    app.router.add_put("/{path:.*}", put)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", kept
    await runner.cleanup()


def s3(endpoint: str) -> ObjectStore:
    store = S3Store.from_url(
        "s3://replies/fleet",
        endpoint=endpoint,
        region="eu-central-1",
        access_key_id="AKIAEXAMPLE",
        secret_access_key="example",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    return S3Objects("s3://replies/fleet", store)


async def test_a_file_is_found_at_its_url_and_putting_twice_is_safe(tmp_path: Path) -> None:
    store = open_store((tmp_path / "new").as_uri())
    for value in (b"one", b"two"):
        url = await store.put("a.json", value)
    assert Path(urlsplit(url).path).read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(ObjectStoreError, match="taken"):
        await FileStore(tmp_path / "taken").put("a.json", b"")


async def test_what_cannot_be_written_whole_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ObjectStoreError, match="cannot be written"):
        await FileStore(tmp_path).put("a.json", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


async def test_an_object_on_s3_is_found_at_its_url() -> None:
    async with bucket() as (endpoint, kept):
        assert await s3(endpoint).put("a.json", b"{}") == "s3://replies/fleet/a.json"
    assert kept == {"/replies/fleet/a.json": b"{}"}


async def test_a_bucket_that_refuses_is_an_error_that_names_the_object() -> None:
    async with bucket(status=403) as (endpoint, _):
        with pytest.raises(ObjectStoreError, match="s3://replies/fleet/a"):
            await s3(endpoint).put("a.json", b"{}")
