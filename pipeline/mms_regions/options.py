"""What commands have in common: their options, and what shows a run while it goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mms_regions.errors import UsageProblem

if TYPE_CHECKING:
    from mms_regions.observe import Display

CatalogueArgument = Annotated[str, typer.Argument(metavar="[CATALOGUE]", help="A built-in name or a CSV file.")]


def named_store(store: Path) -> Path:
    """A store has a name, because its run folder lies beside it under that name: `.` becomes what it stands for."""
    whole = store if store.name not in ("", "..") else store.resolve()
    if not whole.name:
        raise UsageProblem(f"{store} cannot be a store, which has a name and a folder beside it; name another path")
    return whole


def _named_profile(profile: Path | None) -> Path | None:
    if profile is None:
        return None
    from mms_regions.settings import find_profile

    return find_profile(profile)


StoreArgument = Annotated[Path, typer.Argument(help="The zarr store of a run.", callback=named_store)]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The zarr store to make, or to go on with.", callback=named_store)
]
EventsOption = Annotated[str | None, typer.Option("--events", help="Events, e.g. A,C-F. Default: all.")]
ProbesOption = Annotated[str | None, typer.Option("--probes", help="Spacecraft, e.g. 1-4 or 1,3. Default: all.")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="CDF files in the SDC's layout. Default: $MMS_DATA_DIR.")
]
ConventionOption = Annotated[str | None, typer.Option("--convention", help="corrected (default) or published.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="sdc (default) or spdf.")]
ArchiveUrlOption = Annotated[
    str | None, typer.Option("--archive-url", help="A mirror: what stands before /file_info/science or /mms1/.")
]
ManifestOption = Annotated[Path | None, typer.Option("--manifest", help="A manifest.json; exactly its files are used.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="A model's name or folder. Default: waters2025.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Processes; 0: run in this one.")]
ProfileOption = Annotated[
    Path | None,
    typer.Option("--profile", help="A shipped profile (laptop, slurm-cpu...) or a TOML file.", callback=_named_profile),
]
RedoOption = Annotated[
    str | None,
    typer.Option("--redo", help="Make anew though it is there: A,C-F, B/mms4, changed (its files have) or all."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def display(as_json: bool) -> Display:
    """Bars on a terminal, lines elsewhere; always on stderr, so that stdout is for results."""
    from rich.console import Console

    from mms_regions.observe import PlainLines, ProgressBar

    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        return ProgressBar(console)
    return PlainLines(lambda line: print(line, file=sys.stderr, flush=True))
