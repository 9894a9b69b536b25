"""Which CDF files a segment needs, and where they lie: the folder layout of the MMS Science Data Center.

pyspedas keeps the same layout on disk, so a cache can be shared with it (`$MMS_DATA_DIR`). The names of the files are
described in the MMS CDF file format guide; versions are X.Y.Z and compare as numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mms_regions.core.catalogue import Segment
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.types import DAY, SECOND


@dataclass(frozen=True)
class Product:
    """One kind of file in the archive, e.g. the burst moments of the electron spectrometer."""

    key: str
    instrument: str
    mode: str
    descriptor: str
    longest: int  # ns: no file of this kind covers more than this

    @property
    def words(self) -> str:
        """How the archive writes it: `fpi_brst_l2_des-moms`."""
        return "_".join(word for word in (self.instrument, self.mode, "l2", self.descriptor) if word)

    def folder(self, probe: int, time: int) -> Path:
        """The folder, below the data folder, of the files that begin on the day of `time` (ns UTC)."""
        year, month, day = str(np.datetime64(time, "ns").astype("datetime64[D]")).split("-")
        parts = [f"mms{probe}", self.instrument, self.mode, "l2", self.descriptor, year, month]
        return Path(*[part for part in parts if part], *([day] if self.mode == "brst" else []))


# Burst files cover 1 to 5 minutes, fast-mode files a day; an hour more than that is room to spare.
DIS = Product("dis", "fpi", "brst", "dis-moms", SECOND * 3600)
DES = Product("des", "fpi", "brst", "des-moms", SECOND * 3600)
FGM = Product("fgm", "fgm", "brst", "", SECOND * 3600)
EDP_BURST = Product("edp_brst", "edp", "brst", "dce", SECOND * 3600)
EDP_FAST = Product("edp_fast", "edp", "fast", "dce", DAY + SECOND * 3600)
PRODUCTS = (DIS, DES, FGM, EDP_BURST, EDP_FAST)

# Files follow each other, so the last one that begins before an interval may reach it; two more allow for overlaps.
_BEFORE = 3


_NAME = re.compile(
    r"mms(?P<probe>[1-4])_(?P<words>[a-z]+_(?:brst|fast)_l2(?:_[a-z-]+)?)_(?P<start>\d{8}(?:\d{6})?)"
    r"_v(?P<version>\d{1,4}\.\d{1,4}\.\d{1,4})\.cdf",
    re.ASCII,
)


@dataclass(frozen=True)
class CdfFile:
    """A file of the archive, as its name describes it."""

    path: Path
    probe: int
    words: str  # product, as in Product.words
    start: int  # ns UTC
    version: tuple[int, int, int]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def parse_name(path: Path) -> CdfFile | None:
    """What the name of a file says, or None where it is not the name of an MMS file used here."""
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    try:
        start = _time_tag(match["start"])
    except ValueError:
        return None
    x, y, z = map(int, match["version"].split("."))
    return CdfFile(path, int(match["probe"]), match["words"], start, (x, y, z))


def file_named(name: str, data_dir: Path) -> CdfFile | None:
    """A file of this name, as it lies or would lie below `data_dir`; None where it is not one that is used here."""
    file = parse_name(Path(name))
    if file is None or file.name != name or (product := product_of(file)) is None:
        return None
    return replace(file, path=data_dir / product.folder(file.probe, file.start) / name)


def product_of(file: CdfFile) -> Product | None:
    """What kind of file it is, by its name; None for kinds that are not used here."""
    return next((product for product in PRODUCTS if product.words == file.words), None)


def find_files(
    segment: Segment, products: Iterable[Product], data_dir: Path, margin: float = 0.0
) -> dict[str, tuple[CdfFile, ...]]:
    """The files of a segment in a folder of the archive's layout, by product key, each in order of start.

    margin: seconds around the interval that are wanted too. A name tells when a file begins, not when it ends, so the
    last few files that begin before the interval are given too; a reader skips those that do not reach it. Of several
    versions of a file the highest is given. Raises SegmentProblem that names the products without any such file.
    """
    begin, end = segment.event.trange
    begin, end = begin - round(margin * SECOND), end + round(margin * SECOND)
    found = {product.key: tuple(_candidates(product, segment.probe, begin, end, data_dir)) for product in products}
    missing = [product.words for product in products if not found[product.key]]
    if missing:
        raise SegmentProblem(
            f"{segment.key}: no file of {', '.join(missing)} for {segment.event.interval} "
            f"under {data_dir}; fetch it, or point --data-dir to the folder that holds mms{segment.probe}/"
        )
    return found


def has_files(segment: Segment, products: Iterable[Product], data_dir: Path, margin: float = 0.0) -> bool:
    """Whether a folder has any file that may be of a segment."""
    begin, end = segment.event.trange
    around = round(margin * SECOND)
    return any(
        True
        for product in products
        for _ in _candidates(product, segment.probe, begin - around, end + around, data_dir)
    )


def _candidates(product: Product, probe: int, begin: int, end: int, data_dir: Path) -> Iterator[CdfFile]:
    """Highest version of each file that begins between `begin` and `end`, and of the last few before."""
    newest: dict[int, CdfFile] = {}
    for folder in _folders(product, probe, begin - product.longest, end):
        for path in _listing(data_dir / folder):
            file = parse_name(path)
            if file is None or file.probe != probe or file.words != product.words:
                continue
            if not begin - product.longest < file.start <= end:
                continue
            if not path.is_file():
                continue
            if file.start not in newest or file.version > newest[file.start].version:
                newest[file.start] = file
    starts = sorted(newest)
    first = max(bisect_right(starts, begin) - _BEFORE, 0)
    yield from (newest[start] for start in starts[first:])


def _folders(product: Product, probe: int, begin: int, end: int) -> list[Path]:
    """The folders of all days from `begin` to `end`, each once, in order."""
    days = range(begin // DAY, end // DAY + 1)
    return list(dict.fromkeys(product.folder(probe, day * DAY) for day in days))


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".cdf")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise SegmentProblem(f"{folder}: cannot be listed ({problem.strerror}); correct its permissions") from problem


def _time_tag(text: str) -> int:
    """ns UTC of a name's time tag, YYYYMMDD or YYYYMMDDhhmmss; of a leap second the ns before it, of its day."""
    digits = text.ljust(14, "0")
    second = "59.999999999" if digits[8:] == "235960" else digits[12:]
    iso = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{second}"
    return int(np.datetime64(iso, "ns").astype(np.int64))
