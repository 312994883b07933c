from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data.fetching import fetch
from data.sources import SOURCES, Download, Listing, Source, State, verify
from models.exceptions import BenchFailure, UserMistake
from tests.data import formats

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves ``files`` by path, honours ranges, and remembers what was asked; ``cut`` ends each reply early."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                begin = 0 if wanted is None else int(wanted.removeprefix("bytes=").removesuffix("-"))
                if begin >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                self.wfile.write(content[begin : None if outer.cut is None else begin + outer.cut])

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()
    thread.join()


def source_of(*addresses: str, sha256: str = DIGEST) -> Source:
    downloads = (Download("one.bin", addresses, sha256),)
    return Source("ours", "about", "licence", "home", ("ours",), ("*.bin",), {"one.bin": sha256}, downloads)


def test_a_file_is_fetched_once_and_verified(server, tmp_path):
    server.files["/one.bin"] = CONTENT
    source = source_of(f"{server.address}one.bin")
    told = []
    came = fetch(source, tmp_path / "new", lambda *what: told.append(what))
    assert (came.downloaded, came.already_there) == (1, 0)
    assert (came.folder / "one.bin").read_bytes() == CONTENT
    assert told[-1] == ("one.bin", len(CONTENT), len(CONTENT))
    assert fetch(source, tmp_path / "new").already_there == 1
    assert len(server.asked) == 1
    assert list(verify(source, tmp_path / "new")) == [(came.folder / "one.bin", State.INTACT)]


def test_a_download_that_was_cut_off_goes_on_where_it_was(server, tmp_path):
    server.files["/one.bin"] = CONTENT
    source = source_of(f"{server.address}one.bin")
    server.cut = 1000
    with pytest.raises(BenchFailure, match="fetch again to go on"):
        fetch(source, tmp_path)
    assert not (tmp_path / "ours" / "one.bin").exists()
    assert (tmp_path / "ours" / "one.bin.part").stat().st_size == 1000
    server.cut = None
    fetch(source, tmp_path)
    assert server.asked[-1] == ("/one.bin", "bytes=1000-")
    assert (tmp_path / "ours" / "one.bin").read_bytes() == CONTENT
    assert not (tmp_path / "ours" / "one.bin.part").exists()


def test_a_part_that_is_already_whole_or_too_long_does_no_harm(server, tmp_path):
    server.files["/one.bin"] = CONTENT
    part = tmp_path / "ours" / "one.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + b"more")
    fetch(source_of(f"{server.address}one.bin"), tmp_path)
    assert (tmp_path / "ours" / "one.bin").read_bytes() == CONTENT


def test_what_is_not_as_published_is_not_kept(server, tmp_path):
    server.files["/one.bin"] = CONTENT[:-1] + b"!"
    with pytest.raises(BenchFailure, match="what was sent is not what was published .SHA-256") as caught:
        fetch(source_of(f"{server.address}one.bin"), tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "ours").iterdir()) == []


def test_the_next_address_is_tried_and_the_last_failure_told(server, tmp_path):
    server.files["/there/one.bin"] = CONTENT
    gone = f"{server.address}gone/one.bin"
    fetch(source_of(gone, f"{server.address}there/one.bin"), tmp_path)
    assert (tmp_path / "ours" / "one.bin").read_bytes() == CONTENT
    with pytest.raises(BenchFailure, match="gone/one.bin: the server answers 404"):
        fetch(source_of(gone), tmp_path / "other")


def test_without_a_network_one_line_says_so(server, tmp_path):
    server.http.server_close()
    with pytest.raises(BenchFailure, match=r"127\.0\.0\.1 cannot be reached .*: is there a network\?") as caught:
        fetch(source_of(f"{server.address}one.bin"), tmp_path)
    assert "\n" not in str(caught.value)


def test_files_other_than_those_of_the_web_are_not_fetched(tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(BenchFailure, match="only http and https"):
        fetch(source_of(f"file://{tmp_path}/secret"), tmp_path)


def test_of_an_archive_only_the_named_files_are_unpacked_and_nothing_lands_elsewhere(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("deep/one.bin", "../evil.bin", "deep/more.html"):
            member = tarfile.TarInfo(name)
            member.size = len(CONTENT)
            tar.addfile(member, io.BytesIO(CONTENT))
    server.files["/all.tar.gz"] = packed.getvalue()
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    downloads = (Download("all.tar.gz", (f"{server.address}all.tar.gz",), digest, ("deep/one.bin",)),)
    source = Source("ours", "about", "licence", "home", ("ours",), ("*.bin",), {"one.bin": DIGEST}, downloads)
    fetch(source, tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["one.bin"]
    assert fetch(source, tmp_path).already_there == 1
    assert len(server.asked) == 1


def test_the_wanted_files_of_a_server_s_list_are_fetched_and_can_be_verified_later(server, tmp_path):
    names = {"S001/S001R04.edf": b"four", "S001/S001R03.edf": b"three", "notes.txt": b"notes"}
    lines = [f"{hashlib.sha256(content).hexdigest()} {name}" for name, content in names.items()]
    server.files = {f"/{name}": content for name, content in names.items()}
    server.files["/SHA256SUMS.txt"] = "\n".join(lines).encode()
    listing = Listing(server.address, "SHA256SUMS.txt", r"S\d{3}/S\d{3}R04\.edf")
    source = Source("waves", "about", "licence", "home", ("waves",), ("S*/*.edf",), listing=listing)
    came = fetch(source, tmp_path)
    path = came.folder / "S001" / "S001R04.edf"
    assert list(came.folder.rglob("*.edf")) == [path]
    assert list(verify(source, tmp_path)) == [(path, State.INTACT)]
    path.write_bytes(b"5")
    assert list(verify(source, tmp_path)) == [(path, State.DIFFERS)]
    assert fetch(source, tmp_path).downloaded == 1
    assert path.read_bytes() == b"four"


def test_a_list_that_is_none_is_refused(server, tmp_path):
    server.files["/SHA256SUMS.txt"] = b"<html>log in first</html>"
    source = Source("w", "a", "l", "h", ("w",), ("*",), listing=Listing(server.address, "SHA256SUMS.txt", r".*"))
    with pytest.raises(UserMistake, match=r"SHA256SUMS\.txt, line 1: '<html>log in first</html>' is no SHA-256"):
        fetch(source, tmp_path)


def test_a_checksum_holds_for_the_content_however_it_is_packed(tmp_path):
    folder = tmp_path / "ours"
    folder.mkdir()
    source = source_of("http://nowhere/one.bin")
    packed = Source(source.name, "", "", "", source.folders, ("*.bin", "*.gz"), source.checksums)
    (folder / "one.bin.gz").write_bytes(gzip.compress(CONTENT, 1))
    (folder / "two.bin").write_bytes(b"2")
    states = {path.name: state for path, state in verify(packed, tmp_path)}
    assert states == {"one.bin.gz": State.INTACT, "two.bin": State.UNKNOWN}


def test_a_local_list_does_not_pass_for_what_was_published(tmp_path):
    formats.write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte"
    listed = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  mnist/{path.name}\n"
    (tmp_path / "SHA256SUMS").write_text(listed)
    states = dict(verify(SOURCES["mnist"], tmp_path))
    assert states.pop(path) is State.AS_LISTED
    assert set(states.values()) == {State.DIFFERS}


def test_every_source_can_be_fetched_and_says_under_which_licence():
    for source in SOURCES.values():
        assert source.licence
        assert source.home.startswith("http")
        assert bool(source.downloads) != (source.listing is not None)
        for download in source.downloads:
            assert len(download.sha256) == 64
            assert all(address.startswith("http") for address in download.addresses)
