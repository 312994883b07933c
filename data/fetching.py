"""Downloading data sets from those who publish them: resumed where it was cut off, and checked before it counts."""

from __future__ import annotations

import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from data.atomic import replacing, write_atomically
from data.sources import CHUNK, LISTS, Download, Source, parse_checksums, read_checksums, sha256_of
from models.exceptions import BenchFailure, UserMistake

TIMEOUT_S = 30.0
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416
LARGEST_LIST = 64 << 20
Told = Callable[[str, int, int], None]
"""Called with the name of a file, the bytes that are there, and those there will be (0 where that is not known)."""


@dataclass(frozen=True)
class Fetched:
    """What a download came to.

    Attributes:
        folder: where the files are.
        downloaded, already_there: numbers of files.
    """

    folder: Path
    downloaded: int
    already_there: int


def fetch(source: Source, root: Path, told: Told = lambda name, done, total: None) -> Fetched:
    """Download a source into its folder below ``root``: where files of it lie already, else one that is made.

    A file whose checksum is right is left alone. What was cut off stays as ``NAME.part`` and is continued the next
    time. A file gets its name only when its checksum is right.

    Raises:
        UserMistake: the folder cannot be written to.
        BenchFailure: no address can be reached, or what it sends is not what was published.
    """
    place = source.place(root)
    folder = root / source.folders[0] if place is None else place
    _make(folder)
    downloads = source.downloads
    if source.listing is not None:
        downloads = _listed(source)
        _keep_checksums(downloads, folder / LISTS[0])
    done = 0
    for download in downloads:
        path = folder / download.name
        if _is_there(download, path, source):
            continue
        _make(path.parent)
        _download(download, path, told)
        if download.unpack:
            _unpack(path, download.unpack, folder)
            path.unlink()
        done += 1
    return Fetched(folder, done, len(downloads) - done)


def _is_there(download: Download, path: Path, source: Source) -> bool:
    if not download.unpack:
        return path.is_file() and sha256_of(path) == download.sha256
    members = [path.parent / Path(member).name for member in download.unpack]
    return all(member.is_file() and sha256_of(member) == source.checksums.get(member.name) for member in members)


def _keep_checksums(downloads: tuple[Download, ...], path: Path) -> None:
    """Write the server's checksums beside the files, so that they can be verified later, without a network."""
    known = read_checksums(path) if path.is_file() else {}
    known.update({download.name: download.sha256 for download in downloads})
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(known.items()))
    write_atomically(path, text.encode(), "list of checksums")


def _listed(source: Source) -> tuple[Download, ...]:
    listing = source.listing
    assert listing is not None
    address = listing.base + listing.list_name
    with _opened(address, 0) as reply:
        text = reply.read(LARGEST_LIST).decode("utf-8", errors="replace")
    found = []
    for name, digest in parse_checksums(text, address).items():
        wanted = re.fullmatch(listing.wanted, name)
        if wanted is not None:
            found.append(Download(wanted[wanted.re.groups], (listing.base + name,), digest))
    if not found:
        raise BenchFailure(f"{address} lists none of the files of {source.name}; see {source.home}")
    return tuple(found)


def _download(download: Download, path: Path, told: Told) -> None:
    """Try each address in turn; the last one's failure is the one that counts."""
    *others, last = download.addresses
    for address in others:
        try:
            return _download_from(address, download, path, told)
        except BenchFailure:
            continue  # a mirror that is gone is no news while there are others
    return _download_from(last, download, path, told)


def _download_from(address: str, download: Download, path: Path, told: Told) -> None:
    partial = path.with_name(f"{path.name}.part")
    have = partial.stat().st_size if partial.is_file() else 0
    try:
        with _opened(address, have) as reply:
            if have and reply.status != PARTIAL_CONTENT:
                have = 0  # the server sends it from the start
            length = reply.headers.get("Content-Length")
            total = have + int(length) if length is not None and length.isdecimal() else 0
            with partial.open("ab" if have else "wb") as file:
                while block := reply.read(CHUNK):
                    file.write(block)
                    have += len(block)
                    told(download.name, have, total)
    except (TimeoutError, HTTPException, ConnectionError) as error:
        raise BenchFailure(
            f"{address}: the connection broke after {have} bytes ({error}); fetch again to go on"
        ) from error
    except OSError as error:
        raise UserMistake(f"cannot write {partial}: {error.strerror}") from error
    if total > have:
        raise BenchFailure(f"{address}: the connection ended after {have} of {total} bytes; fetch again to go on")
    found = sha256_of(partial)
    if found != download.sha256:
        partial.unlink()
        raise BenchFailure(
            f"{address}: what was sent is not what was published (SHA-256 {found[:12]}..., expected "
            f"{download.sha256[:12]}...); nothing was kept"
        )
    partial.replace(path)


@contextmanager
def _opened(address: str, begin: int) -> Iterator[HTTPResponse]:
    """The reply of a server to a request for a file, from its byte ``begin`` on.

    Raises:
        BenchFailure: there is no network, or the server refuses; one line that says what to do instead.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise BenchFailure(f"{address}: only http and https addresses are downloaded from")
    request = urllib.request.Request(address, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == RANGE_NOT_SATISFIABLE and begin:
            with _opened(address, 0) as whole:  # the part is as long as the file, or longer: from the start
                yield whole
            return
        raise BenchFailure(f"{address}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise BenchFailure(
            f"{urlsplit(address).hostname} cannot be reached ({reason}): is there a network? Files that were "
            "downloaded elsewhere can be put into the folder of data sets, see 'rram-bench data list'"
        ) from error
    with reply:
        yield reply


def _unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Take named plain files out of a tar archive, without the paths they have in there."""
    try:
        with tarfile.open(archive) as tar:
            for name in members:
                content = tar.extractfile(name)
                if content is None:
                    raise BenchFailure(f"{archive}: {name} is no plain file in it")
                with content, replacing(folder / Path(name).name, "file") as partial, partial.open("wb") as file:
                    while block := content.read(CHUNK):
                        file.write(block)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise BenchFailure(f"{archive}: cannot be unpacked ({error})") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserMistake(f"cannot make the folder {folder}: {error.strerror}") from error
