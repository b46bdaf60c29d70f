"""Files and addresses as they are: a server on this machine, and what is never asked."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from heimdall_fleet.triage.download import DownloadError, download, refuse_unsafe


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://bundles.example.com/latest.json?{query}")
            self.end_headers()
        elif path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/latest.json")
            self.end_headers()
        elif path == "/latest.json":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 1000)
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's own name
        """Keep quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_and_an_address_give_their_bytes(address: str, tmp_path: Path) -> None:
    (tmp_path / "a b.json").write_bytes(b"here")
    assert download((tmp_path / "a b.json").as_uri(), 10) == b"here"
    assert download(f"{address}/latest.json", 1000) == b"x" * 1000
    assert download(f"{address}/moved", 1000) == b"x" * 1000


def test_what_is_larger_than_allowed_is_not_taken(address: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    for url, limit in (((tmp_path / "large").as_uri(), 10), (f"{address}/latest.json", 999)):
        with pytest.raises(DownloadError, match="is larger than"):
            download(url, limit)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DownloadError, match="no plain file"):
        download((tmp_path / "pipe").as_uri(), 10)


def test_what_is_not_there_says_why(address: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="404"):
        download(f"{address}/nothing", 10)
    with pytest.raises(DownloadError, match="No such file"):
        download((tmp_path / "nothing").as_uri(), 10)


@pytest.mark.parametrize(
    ("path", "limit"), [("/nothing", 10), ("/latest.json", 999), ("/elsewhere", 10), ("/a\x07b", 10), ("/", 10)]
)
def test_a_query_is_never_told(address: str, path: str, limit: int) -> None:
    for url in (f"{address}{path}?token=SECRET", f"http://example.com{path}?token=SECRET", f"https://[{path}?SECRET"):
        with pytest.raises(DownloadError) as caught:
            download(url, limit)
        assert "SECRET" not in str(caught.value)


def test_a_redirect_leads_nowhere_that_is_not_safe(address: str) -> None:
    with pytest.raises(DownloadError, match="is not safe"):
        download(f"{address}/elsewhere", 1000)


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "ftp://example.com/x", "//example.com/x", "http://127.0.0.1.x/"]
)
def test_what_anyone_on_the_way_could_change_is_never_asked(url: str) -> None:
    with pytest.raises(DownloadError, match="is not safe"):
        refuse_unsafe(url)


@pytest.mark.parametrize(
    "url",
    ["https://[x/latest.json", "https://host:port/x", "https://../x", f"https://{'a' * 64}.example/", "file:///a%00b"],
)
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(DownloadError):
        download(url, 10)


def test_credentials_in_an_address_are_neither_sent_nor_told() -> None:
    with pytest.raises(DownloadError, match="holds credentials") as caught:
        download("https://robot:s3cret@artifacts.example.com/latest.json", 10)
    assert "s3cret" not in str(caught.value)
