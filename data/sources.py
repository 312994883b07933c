"""Where the data sets come from: their files, licences, checksums and addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from data import named_images, named_signals
from data.readers.opening import GZIP_MAGIC, read_bytes
from models.exceptions import UserMistake

CHUNK = 1 << 20
LISTS = ("SHA256SUMS", "SHA256SUMS.txt")
"""Lists of checksums that may lie in a folder, as ``sha256sum`` writes them; the second is PhysioNet's name."""


@dataclass(frozen=True)
class Download:
    """A file to download.

    Attributes:
        name: what it is called in the folder of its source.
        addresses: tried one after the other.
        sha256: of what is downloaded.
        unpack: names inside a tar archive that are taken out into the folder; empty for a plain file.
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str
    unpack: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A list of checksums on a server, and which of its files are wanted.

    Attributes:
        base: address that the names in the list continue, with a slash at its end.
        list_name: name of the list below ``base``: lines of a SHA-256 and a name.
        wanted: regular expression of the whole name of a wanted file; its last group, or all of it, is its name in the
            folder of the source.
    """

    base: str
    list_name: str
    wanted: str


@dataclass(frozen=True)
class Source:
    """One body of data as somebody publishes it.

    Attributes:
        name: as the user calls it.
        about: one line.
        licence: as its publisher states it.
        home: page that describes it.
        folders: where it may lie below the folder of data sets; the first is where it is downloaded to.
        patterns: globs of its files in there.
        checksums: SHA-256 of the content, unpacked where a file is gzipped, by file name without ``.gz``.
        downloads: its files, or an archive of them.
        listing: instead, a list of them on the server.
    """

    name: str
    about: str
    licence: str
    home: str
    folders: tuple[str, ...]
    patterns: tuple[str, ...]
    checksums: Mapping[str, str] = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()
    listing: Listing | None = None

    def place(self, root: Path) -> Path | None:
        """The folder below ``root`` that holds files of it, or None."""
        for folder in self.folders:
            if any(next((root / folder).glob(pattern), None) is not None for pattern in self.patterns):
                return root / folder
        return None

    def files(self, root: Path) -> list[Path]:
        """Its files below ``root``, sorted; empty where there are none."""
        place = self.place(root)
        if place is None:
            return []
        return sorted({path for pattern in self.patterns for path in place.glob(pattern) if path.is_file()})


class State(Enum):
    """What a checksum says of a file."""

    INTACT = "intact"
    AS_LISTED = "as listed in the folder, not as published"
    DIFFERS = "differs"
    UNREADABLE = "damaged or closed to us"
    UNKNOWN = "no checksum known"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies there.

    Raises:
        UserMistake: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise UserMistake(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def verify(source: Source, root: Path) -> Iterator[tuple[Path, State]]:
    """Check each file of a source below ``root`` against its published checksum, or one in a list that lies there.

    A gzipped file is intact where its content is, however it was packed. Lists (:data:`LISTS`) are looked for in
    ``root`` and in the folder of the source.

    Raises:
        UserMistake: a list cannot be read.
    """
    listed = _listed(source, root)
    for path in source.files(root):
        try:
            state = _state(path, source.checksums.get(path.name.removesuffix(".gz")), listed.get(path))
        except UserMistake:
            state = State.UNREADABLE  # what is wrong with one file says nothing of the others
        yield path, state


def _state(path: Path, published: str | None, listed: str | None) -> State:
    if published is None and listed is None:
        return State.UNKNOWN
    if published is not None and _content_sha256(path) == published:
        return State.INTACT
    if listed is not None and sha256_of(path) == listed:
        return State.INTACT if published is None else State.AS_LISTED
    return State.DIFFERS


def _content_sha256(path: Path) -> str:
    """As :func:`sha256_of`, of what a gzipped file holds."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return hashlib.sha256(read_bytes(path)).hexdigest() if packed else sha256_of(path)


def _listed(source: Source, root: Path) -> dict[Path, str]:
    place = source.place(root)
    found: dict[Path, str] = {}
    for folder in (root,) if place is None else (root, place):
        for name in LISTS:
            path = folder / name
            if path.is_file():
                found.update({folder / file: digest for file, digest in read_checksums(path).items()})
    return found


def read_checksums(path: Path) -> dict[str, str]:
    """Read lines of a SHA-256 and a file name, as ``sha256sum`` writes them: checksum by name.

    Raises:
        UserMistake: it cannot be read, or a line is something else.
    """
    try:
        return parse_checksums(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserMistake(f"cannot read the checksums {path}: {error}") from error


def parse_checksums(text: str, where: str) -> dict[str, str]:
    """As :func:`read_checksums`, from a text that came from ``where``."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        digest, _, name = line.partition(" ")
        name = name.removeprefix(" ").removeprefix("*").strip()
        if len(digest) != 64 or not set(digest.lower()) <= set("0123456789abcdef") or not name:
            raise UserMistake(f"{where}, line {number}: {line[:60]!r} is no SHA-256 with a file name")
        found[name] = digest.lower()
    return found


def need_source(name: str) -> Source:
    """The source of that name.

    Raises:
        UserMistake: there is none; the text lists those there are.
    """
    if name not in SOURCES:
        raise UserMistake(f"no source of data is called {name!r}; there are: {', '.join(SOURCES)}")
    return SOURCES[name]


def _idx(addresses: tuple[str, ...], packed: Mapping[str, str]) -> tuple[Download, ...]:
    return tuple(
        Download(f"{name}.gz", tuple(f"{address}{name}.gz" for address in addresses), digest)
        for name, digest in packed.items()
    )


_MNIST = Source(
    "mnist",
    "handwritten digits, 28 x 28 pixels, 60000 + 10000",
    "CC BY-SA 3.0",
    "http://yann.lecun.com/exdb/mnist/",
    named_images.MNIST_FOLDERS,
    ("*-ubyte", "*-ubyte.gz"),
    MappingProxyType(
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        }
    ),
    _idx(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
)
_FASHION_MNIST = Source(
    "fashion-mnist",
    "garments, 28 x 28 pixels, 60000 + 10000",
    "MIT",
    "https://github.com/zalandoresearch/fashion-mnist",
    named_images.FASHION_MNIST_FOLDERS,
    ("*-ubyte", "*-ubyte.gz"),
    MappingProxyType(
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        }
    ),
    _idx(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        {
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
)
_CIFAR10_BATCHES = MappingProxyType(
    {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    }
)
_CIFAR10 = Source(
    "cifar10",
    "colour images of ten things, 32 x 32 pixels, 50000 + 10000",
    "no licence stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    named_images.CIFAR10_FOLDERS,
    ("data_batch_*", "test_batch*"),
    _CIFAR10_BATCHES,
    (
        Download(
            "cifar-10-binary.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            tuple(f"cifar-10-batches-bin/{name}" for name in _CIFAR10_BATCHES),
        ),
    ),
)
_ECG = Source(
    "ecg",
    "PhysioNet / CinC Challenge 2011, set A: twelve-lead records of 10 s (data sets ecg, ecg-quality)",
    "Open Data Commons Attribution 1.0 (PhysioNet)",
    "https://physionet.org/content/challenge-2011/1.0.0/",
    named_signals.CINC2011_FOLDERS,
    ("*.txt", "REFERENCE.csv", "RECORDS-*acceptable"),
    listing=Listing(
        "https://physionet.org/files/challenge-2011/1.0.0/",
        "SHA256SUMS.txt",
        r"set-a/(\d+\.txt|RECORDS-(?:un)?acceptable)",
    ),
)
_MIT_BIH = Source(
    "mit-bih",
    "MIT-BIH arrhythmia database: 48 half-hour records with every beat annotated",
    "Open Data Commons Attribution 1.0 (PhysioNet)",
    "https://physionet.org/content/mitdb/1.0.0/",
    named_signals.MIT_BIH_FOLDERS,
    ("*.hea", "*.dat", "*.atr"),
    listing=Listing("https://physionet.org/files/mitdb/1.0.0/", "SHA256SUMS.txt", r"\d{3}\.(?:hea|dat|atr)"),
)
_PTB = Source(
    "ptb",
    "PTB diagnostic database: 549 records of 12 leads at 1000 Hz",
    "Open Data Commons Attribution 1.0 (PhysioNet)",
    "https://physionet.org/content/ptbdb/1.0.0/",
    named_signals.PTB_FOLDERS,
    ("*.hea", "*.dat", "*.xyz", "patient*/*.hea", "patient*/*.dat", "patient*/*.xyz"),
    listing=Listing(
        "https://physionet.org/files/ptbdb/1.0.0/", "SHA256SUMS.txt", r"patient\d+/s\w+_re\.(?:hea|dat|xyz)"
    ),
)
_EEG = Source(
    "eeg",
    "PhysioNet EEG motor movement and imagery: runs 4, 8 and 12 of 109 subjects",
    "Open Data Commons Attribution 1.0 (PhysioNet)",
    "https://physionet.org/content/eegmmidb/1.0.0/",
    named_signals.EEG_FOLDERS,
    ("S*/S*R*.edf",),
    listing=Listing(
        "https://physionet.org/files/eegmmidb/1.0.0/", "SHA256SUMS.txt", r"S\d{3}/S\d{3}R(?:04|08|12)\.edf"
    ),
)
SOURCES: Mapping[str, Source] = MappingProxyType(
    {source.name: source for source in (_MNIST, _FASHION_MNIST, _CIFAR10, _ECG, _MIT_BIH, _PTB, _EEG)}
)
"""The bodies of data that can be looked for, downloaded and checked."""
