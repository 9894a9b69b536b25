"""Which CDF files a segment needs, and where they lie: the folder layout of the MMS Science Data Center.

pyspedas keeps the same layout on disk, so a cache can be shared with it (`$MMS_DATA_DIR`); the mirror at SPDF, and
pyspedas with `spdf=True`, have burst files one folder higher. The names of the files are described in the MMS CDF file
format guide; versions are X.Y.Z and compare as numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Segment
from mms_regions.core.outcomes import Cause
from mms_regions.core.types import DAY, SECOND


@dataclass(frozen=True)
class Product:
    """One kind of file in the archive, e.g. the burst moments of the electron spectrometer."""

    key: str
    instrument: str
    mode: str
    descriptor: str
    longest: int  # ns: no file of this kind covers more than this
    reads: tuple[str, ...]  # the variables that are read, `{}` for the number of the spacecraft; no other is checked

    @property
    def name(self) -> str:
        """How the archive writes it: `fpi_brst_l2_des-moms`."""
        return "_".join(part for part in (self.instrument, self.mode, "l2", self.descriptor) if part)

    def folder(self, probe: int, time: int) -> Path:
        """The folder, below the data folder, of the files that begin on the day of `time` (ns UTC)."""
        day = str(np.datetime64(time, "ns").astype("datetime64[D]")).split("-")[2]
        month = self.month_folder(probe, time)
        return month / day if self.mode == "brst" else month

    def month_folder(self, probe: int, time: int) -> Path:
        """The folder of the month of `time` (ns UTC): where the mirror at SPDF has all files that begin in it."""
        year, month, _ = str(np.datetime64(time, "ns").astype("datetime64[D]")).split("-")
        parts = [f"mms{probe}", self.instrument, self.mode, "l2", self.descriptor, year, month]
        return Path(*[part for part in parts if part])


def _moments(species: str, *more: str) -> tuple[str, ...]:
    names = ("numberdensity", "numberdensity_err", "bulkv_gse", "prestensor_gse", "heatq_gse", "temppara", "tempperp")
    flags_and_spectra = ("errorflags", "energy", "energyspectr_omni", *more)
    return ("Epoch", "Epoch_plus_var", *(f"mms{{}}_{species}_{name}_brst" for name in (*names, *flags_and_spectra)))


def _field(mode: str) -> tuple[str, ...]:
    return tuple(f"mms{{}}_edp_{name}_{mode}_l2" for name in ("epoch", "dce_gse", "quality", "bitmask"))


_DIS_READS = _moments("dis", "numberdensity_bg", "pres_bg")
_DES_READS = _moments("des", "energyspectr_par", "energyspectr_perp", "energyspectr_anti")
_FGM_READS = ("Epoch", "Epoch_state", *(f"mms{{}}_fgm_{name}_brst_l2" for name in ("b_gse", "flag", "r_gse")))

# Burst files cover 1 to 5 minutes, fast-mode files a day; an hour more than that is a safe bound.
DIS = Product("dis", "fpi", "brst", "dis-moms", SECOND * 3600, _DIS_READS)
DES = Product("des", "fpi", "brst", "des-moms", SECOND * 3600, _DES_READS)
FGM = Product("fgm", "fgm", "brst", "", SECOND * 3600, _FGM_READS)
EDP_BURST = Product("edp_brst", "edp", "brst", "dce", SECOND * 3600, _field("brst"))
EDP_FAST = Product("edp_fast", "edp", "fast", "dce", DAY + SECOND * 3600, _field("fast"))
PRODUCTS = (DIS, DES, FGM, EDP_BURST, EDP_FAST)

_MOST_EARLIER = 3
_MMS4_LOST_HEADS = int(np.datetime64("2018-06-07", "ns").astype(np.int64))

_NAME = re.compile(
    r"mms(?P<probe>[1-4])_(?P<product>[a-z]+_(?:brst|fast)_l2(?:_[a-z-]+)?)_(?P<start>\d{8}(?:\d{6})?)"
    r"_v(?P<version>\d{1,4}\.\d{1,4}\.\d{1,4})\.cdf",
    re.ASCII,
)


@dataclass(frozen=True)
class CdfFile:
    """A file of the archive, as its name describes it."""

    path: Path
    probe: int
    product: str  # as in Product.name
    start: int  # ns UTC
    version: tuple[int, int, int]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def source(self) -> str:
        """What its `Logical_source` should be."""
        return f"mms{self.probe}_{self.product}"

    @property
    def epoch(self) -> str:
        """The variable that has the times of its samples."""
        instrument, mode, *_ = self.product.split("_")
        return f"mms{self.probe}_edp_epoch_{mode}_l2" if instrument == "edp" else "Epoch"

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the variables that are read of it, that of the times of its samples first."""
        product = product_of(self)
        return tuple(name.format(self.probe) for name in product.reads) if product else ()

    @property
    def longest(self) -> int:
        """ns: it covers no more than this."""
        product = product_of(self)
        return product.longest if product else 2 * DAY


class Named(Protocol):
    """What has the name of a file of the archive."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)
M = TypeVar("M", bound=Named)


@dataclass(frozen=True)
class Query:
    """The files that are asked for: those of a product and spacecraft that may reach into [begin, end] (ns UTC)."""

    product: Product
    probe: int
    begin: int
    end: int

    @classmethod
    def of(cls, segment: Segment, product: Product, margin: float) -> Query:
        """What a segment needs of a product, with `margin` seconds around its interval."""
        begin, end = segment.event.trange
        around = round(margin * SECOND)
        return cls(product, segment.probe, begin - around, end + around)

    def __str__(self) -> str:
        """Such as `mms4_fpi_brst_l2_des-moms around 2017-07-11`."""
        return f"mms{self.probe}_{self.product.name} around {np.datetime64(self.begin, 'ns').astype('datetime64[D]')}"


@dataclass(frozen=True)
class Reaching(Generic[N]):
    """The files that may reach into an interval, the highest version of each.

    inside: those that begin in it, in order of start. earlier: the last few that begin before it, the latest first.
    Files follow each other and no name says when a file ends, so only the first of `earlier` may reach into the
    interval; the others take its place where it cannot be used.
    """

    inside: tuple[N, ...] = ()
    earlier: tuple[N, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.inside or self.earlier)

    @property
    def needed(self) -> tuple[N, ...]:
        """Those to take where all of them can be used, in order of start."""
        return (*self.earlier[:1], *self.inside)

    def each(self, function: Callable[[N], M]) -> Reaching[M]:
        """What a function gives of each of the files, in their places."""
        return Reaching(tuple(map(function, self.inside)), tuple(map(function, self.earlier)))


def reaching(named: Iterable[N], query: Query) -> Reaching[N]:
    """Those of the files that may reach into the interval of a query; names of anything else are ignored.

    This is the one rule, for listings of servers, for manifests and for folders.
    """
    newest: dict[int, tuple[tuple[int, int, int], N]] = {}
    for item in named:
        file = parse_name(Path(item.name))
        if file is None or file.name != item.name or (file.probe, file.product) != (query.probe, query.product.name):
            continue
        if not query.begin - query.product.longest < file.start <= query.end:
            continue
        if file.start not in newest or file.version > newest[file.start][0]:
            newest[file.start] = (file.version, item)
    starts = sorted(newest)
    first = bisect_right(starts, query.begin - SECOND)  # a name gives the second in which the file begins
    inside = tuple(newest[start][1] for start in starts[first:])
    earlier = tuple(newest[start][1] for start in reversed(starts[max(first - _MOST_EARLIER, 0) : first]))
    return Reaching(inside, earlier)


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
    return CdfFile(path, int(match["probe"]), match["product"], start, (x, y, z))


def file_named(name: str, data_dir: Path) -> CdfFile | None:
    """A file of this name, where it lies, or would lie, below `data_dir`; None for one that is not used here."""
    file = parse_name(Path(name))
    if file is None or file.name != name or (product := product_of(file)) is None:
        return None
    usual = data_dir / product.folder(file.probe, file.start) / name
    mirrored = data_dir / product.month_folder(file.probe, file.start) / name
    is_mirrored = mirrored != usual and not _is_file(usual) and _is_file(mirrored)
    return replace(file, path=mirrored if is_mirrored else usual)


def product_of(file: CdfFile) -> Product | None:
    """What kind of file it is, by its name; None for kinds that are not used here."""
    return next((product for product in PRODUCTS if product.name == file.product), None)


def files_in(data_dir: Path, query: Query) -> Reaching[CdfFile]:
    """The files in a folder of the archive's layout that may reach into the interval of a query.

    Raises SegmentProblem for a folder that cannot be listed.
    """
    folders = _folders(query.product, query.probe, query.begin - query.product.longest, query.end)
    paths = (path for folder in folders for path in _listing(data_dir / folder))
    return reaching((file for path in paths if (file := parse_name(path)) and _is_file(path)), query)


def find_files(
    segment: Segment, products: Iterable[Product], data_dir: Path, margin: float = 0.0
) -> dict[str, tuple[CdfFile, ...]]:
    """The files of a segment in a folder of the archive's layout, by product key, each in order of start.

    margin: seconds around the interval that are needed too. A name says when a file begins, not when it ends, so the
    last file that begins before the interval is given too; a reader skips one that does not reach it. Of several
    versions of a file the highest is given. Raises SegmentProblem that names the products without any such file.
    """
    found = {product.key: files_in(data_dir, Query.of(segment, product, margin)).needed for product in products}
    refuse_no_file([product for product in products if not found[product.key]], segment, data_dir)
    return found


def refuse_no_file(missing: Sequence[Product], segment: Segment, data_dir: Path) -> None:
    """Raise SegmentProblem that names these products, if there are any."""
    if names := ", ".join(product.name for product in missing):
        raise SegmentProblem(
            f"{segment.key}: no file of {names} for {segment.event.interval} under {data_dir}; fetch it, or point "
            f"--data-dir to the folder that holds mms{segment.probe}/{known_loss(segment, missing)}",
            Cause.NO_FILES,
        )


def known_loss(segment: Segment, missing: Iterable[Product]) -> str:
    """What is known to explain that products are missing, as the end of a sentence; empty where nothing is."""
    lost = segment.probe == 4 and segment.event.trange[0] >= _MMS4_LOST_HEADS and DES in missing
    return "; mms4 has lost heads of its electron spectrometer in June and July 2018" if lost else ""


def has_files(segment: Segment, products: Iterable[Product], data_dir: Path, margin: float = 0.0) -> bool:
    """Whether a folder has any file that may be of a segment."""
    return any(files_in(data_dir, Query.of(segment, product, margin)) for product in products)


def _folders(product: Product, probe: int, begin: int, end: int) -> list[Path]:
    """The folders of all days from `begin` to `end` and of their months, each once, those of days first."""
    times = [day * DAY for day in range(begin // DAY, end // DAY + 1)]
    days = [product.folder(probe, time) for time in times]
    return list(dict.fromkeys([*days, *(product.month_folder(probe, time) for time in times)]))


def _listing(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.suffix == ".cdf")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as problem:
        raise SegmentProblem(f"{folder}: cannot be listed ({problem.strerror}); correct its permissions") from problem


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _time_tag(text: str) -> int:
    """ns UTC of a name's time tag, YYYYMMDD or YYYYMMDDhhmmss; of a leap second the ns before it, of its day."""
    digits = text.ljust(14, "0")
    second = "59.999999999" if digits[8:] == "235960" else digits[12:]
    iso = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{second}"
    return int(np.datetime64(iso, "ns").astype(np.int64))
