"""What `mms-regions export` does: segments of a store as files, each segment by itself, or one table of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import xarray as xr

from mms_regions.core.errors import DamagedStore, SegmentProblem, UsageProblem
from mms_regions.core.events import Segment, is_safe_name
from mms_regions.core.files import make_folder, remove_folder, rename, sync_folder, write_whole
from mms_regions.core.version import SOFTWARE
from mms_regions.export.csv import write_csv
from mms_regions.store.read import load_segment
from mms_regions.store.stretches import shortest_of, stretches_table
from mms_regions.workers.scratch import PREFIX, scratch_folder

FORMATS = ("csv", "tplot", "netcdf", "segments")


@dataclass(frozen=True)
class Exported:
    """What was written: a folder or file for each segment, or one file; and why a segment could not be, by its key."""

    written: tuple[Path, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


def check_format(form: str, min_duration: float | None) -> None:
    """Raises UsageProblem for an unknown format, and for a shortest stretch that the format has no use for."""
    if form not in FORMATS:
        raise UsageProblem(f"There is no export format {form!r}: choose {', '.join(FORMATS)}")
    if min_duration is not None and form != "segments":
        raise UsageProblem(f"--min-duration is for --format segments; {form} has every sample as it is")
    if min_duration is not None and not (0 <= min_duration < float("inf")):
        raise UsageProblem(f"--min-duration {min_duration} is not a number of seconds; give 0 or more, such as 0.3")


def export(
    store: Path,
    segments: Iterable[Segment],
    out: Path,
    form: str,
    *,
    data_dir: Path | None = None,
    min_duration: float | None = None,
) -> Exported:
    """Write segments of a store into the folder `out`, and nowhere else, whatever the store calls them.

    form: csv, a folder `A_mms4` with the published files for each segment (`csv.write_csv`); netcdf, a file `A_mms4.nc`
    (`netcdf.write_netcdf`); tplot, a folder (`tplot.write_tplot`); segments, one table `segments.csv` of stretches of
    equal labels (`stretches.stretches_table`). data_dir: of the CDF files, for tplot. min_duration: s, for segments;
    None: the default of `stretches.shortest_of`.
    A segment that cannot be read, or whose CDF files are missing, fails alone. Raises UsageProblem for an unknown
    format, OSError or EnvironmentProblem where files cannot be written.
    """
    check_format(form, None)
    failed: dict[str, str] = {}
    with _staging(out) as staging:
        if form == "segments":
            table = _write_table(
                (data for _, data in _read(store, segments, failed)), staging, shortest_of(min_duration)
            )
            return Exported(tuple(_publish(path, out) for path in table), failed)
        write, written = _writer(form, staging, data_dir), []
        for segment, data in _read(store, segments, failed):
            try:
                written.append(_publish(write(segment, data), out))
            except SegmentProblem as problem:
                failed[segment.key] = str(problem)
        return Exported(tuple(written), failed)


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A hidden folder in `out` to write in; those of killed exports go first. An `out` that it makes stays if used."""
    staging, is_new = out, not out.exists()
    try:
        make_folder(out)
        with scratch_folder(out, f".{PREFIX}") as staging:
            yield staging
    except OSError as problem:  # is named by what was to be written
        named = str(problem.filename or out).replace(str(staging), str(out))
        raise OSError(problem.errno, problem.strerror or str(problem), named) from problem
    finally:
        if is_new:
            with suppress(OSError):  # it holds what was exported
                remove_folder(out)


def _publish(staged: Path, out: Path) -> Path:
    """Give a file, or the files of a folder, their place in `out`."""
    for path in sorted(staged.iterdir()) if staged.is_dir() else [staged]:
        target = out / path.relative_to(staged.parent)
        make_folder(target.parent)
        rename(path, target)
        sync_folder(target.parent)
    return out / staged.name


def _read(store: Path, segments: Iterable[Segment], failed: dict[str, str]) -> Iterator[tuple[Segment, xr.Dataset]]:
    """Those that can be read; `failed` gets the reason of each of the others."""
    for segment in segments:
        if not is_safe_name(segment.event.name):
            failed[segment.key] = (
                f"{store} has an event {segment.event.name!r}, which can be no file name: it was not exported. "
                "Somebody changed the store; make it again from its catalogue"
            )
            continue
        try:
            yield segment, load_segment(store, segment.event.name, segment.probe)
        except DamagedStore as problem:
            failed[segment.key] = str(problem)


def _writer(form: str, out: Path, data_dir: Path | None) -> Callable[[Segment, xr.Dataset], Path]:
    """What writes one segment and gives the path of what it wrote. Libraries are imported only for their format."""

    def csv(segment: Segment, data: xr.Dataset) -> Path:
        write_csv(segment, data, out / segment.folder)
        return out / segment.folder

    def netcdf(segment: Segment, data: xr.Dataset) -> Path:
        from mms_regions.export.netcdf import write_netcdf

        path = out / f"{segment.folder}.nc"
        write_netcdf(data, path, SOFTWARE, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} exported by {SOFTWARE}")
        return path

    def tplot(segment: Segment, data: xr.Dataset) -> Path:
        from mms_regions.export.tplot import write_tplot

        if data_dir is None:
            raise UsageProblem("--format tplot needs the CDF files; name their folder in --data-dir")
        write_tplot(segment, data, data_dir, out / segment.folder)
        return out / segment.folder

    if form == "tplot":
        from mms_regions.export.tplot import require_pyspedas

        require_pyspedas()  # before any segment is read
    return {"csv": csv, "netcdf": netcdf, "tplot": tplot}[form]


def _write_table(opened: Iterator[xr.Dataset], out: Path, shortest: float) -> tuple[Path, ...]:
    """One file; none where no segment can be read."""
    first = next(opened, None)
    if first is None:
        return ()
    write_whole(out / "segments.csv", stretches_table(chain([first], opened), SOFTWARE, shortest))
    return (out / "segments.csv",)
