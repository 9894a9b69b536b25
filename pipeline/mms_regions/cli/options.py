"""What commands have in common: their options, and what shows a run while it goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_data_path

from mms_regions.core.errors import UsageProblem

if TYPE_CHECKING:
    from mms_regions.cli.progress import Display

_PACKAGE = Path(__file__).parents[1]
_WHICH, _FILES, _HOW = "Which segments", "Where files come from", "How it is done"


# Completion: names alone, from the names of files, so that pressing <tab> imports next to nothing.


def _catalogue_names(incomplete: str) -> list[str]:
    return _beginning(incomplete, (path.stem for path in (_PACKAGE / "core" / "catalogues").glob("*.csv")))


def _profile_names(incomplete: str) -> list[str]:
    return _beginning(incomplete, (path.stem for path in (_PACKAGE / "core" / "profiles").glob("*.toml")))


def _model_names(incomplete: str) -> list[str]:
    shipped = _PACKAGE / "model" / "models"
    own = os.environ.get("MMS_REGIONS_MODEL_DIR") or user_data_path("mms-regions", appauthor=False) / "models"
    return _beginning(
        incomplete, (card.parent.name for folder in (shipped, Path(own)) for card in folder.glob("*/card.json"))
    )


def _one_of(*words: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, words)

    return complete


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    """The names that begin so; else nothing, and the shell offers files."""
    return sorted({name for name in names if name.startswith(incomplete)})


CatalogueArgument = Annotated[
    str,
    typer.Argument(metavar="CATALOGUE", help="A built-in name or a CSV file.", autocompletion=_catalogue_names),
]
ModelArgument = Annotated[str, typer.Argument(help="A model's name or folder.", autocompletion=_model_names)]


def named_store(store: Path) -> Path:
    """A store has a name, because its run folder lies beside it under that name: `.` becomes what it stands for."""
    whole = store if store.name not in ("", "..") else store.resolve()
    if not whole.name:
        raise UsageProblem(f"{store} cannot be a store, which has a name and a folder beside it; name another path")
    return whole


def _named_profile(profile: Path | None) -> Path | None:
    if profile is None:
        return None
    from mms_regions.core.settings import find_profile

    return find_profile(profile)


StoreArgument = Annotated[Path, typer.Argument(help="The zarr store of a run.", callback=named_store)]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The zarr store to make, or to go on with.", callback=named_store)
]
EventsOption = Annotated[
    str | None, typer.Option("--events", help="Events, e.g. A,C-F. Default: all.", rich_help_panel=_WHICH)
]
ProbesOption = Annotated[
    str | None, typer.Option("--probes", help="Spacecraft, e.g. 1-4 or 1,3. Default: all.", rich_help_panel=_WHICH)
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="CDF files in the SDC's layout. Default: $MMS_DATA_DIR.", rich_help_panel=_FILES),
]
OfflineOption = Annotated[
    bool | None, typer.Option("--offline", help="Use only files that are there.", rich_help_panel=_FILES)
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source", help="sdc (default) or spdf.", autocompletion=_one_of("sdc", "spdf"), rich_help_panel=_FILES
    ),
]
ArchiveUrlOption = Annotated[
    str | None,
    typer.Option(
        "--archive-url", help="A mirror: what stands before /file_info/science or /mms1/.", rich_help_panel=_FILES
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option("--manifest", help="A manifest.json; exactly its files are used.", rich_help_panel=_FILES),
]
ConventionOption = Annotated[
    str | None,
    typer.Option(
        "--convention",
        help="corrected (default) or published.",
        autocompletion=_one_of("corrected", "published"),
        rich_help_panel=_HOW,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model's name or folder. Default: waters2025.",
        autocompletion=_model_names,
        rich_help_panel=_HOW,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help="auto, cpu or cuda.", autocompletion=_one_of("auto", "cpu", "cuda"), rich_help_panel=_HOW
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Processes; 0: run in this one.", rich_help_panel=_HOW)
]
ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        help="A shipped profile (laptop, slurm-cpu...) or a TOML file.",
        callback=_named_profile,
        autocompletion=_profile_names,
        rich_help_panel=_HOW,
    ),
]
PerturbOption = Annotated[
    float | None,
    typer.Option(
        "--perturb", help="E.g. 0.1: how far labels hang on B0, n0 and window phase. 0: off. Default: as the store is."
    ),
]
RedoOption = Annotated[
    str | None,
    typer.Option(
        "--redo",
        help="Make anew though it is there: A,C-F, B/mms4, changed (its files have) or all.",
        rich_help_panel=_HOW,
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="csv, tplot: the folders and files of the published code; netcdf: a CF file per segment; segments: a "
        "table of the stretches of equal labels.",
        autocompletion=_one_of("csv", "netcdf", "segments", "tplot"),
    ),
]
MinDurationOption = Annotated[
    float | None,
    typer.Option("--min-duration", help="With segments: join stretches shorter than this many seconds to others."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def display(as_json: bool) -> Display:
    """Bars on a terminal, lines elsewhere; always on stderr, so that stdout is for results."""
    from rich.console import Console

    from mms_regions.cli.progress import PlainLines, ProgressBar

    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        return ProgressBar(console)
    return PlainLines(lambda line: print(line, file=sys.stderr, flush=True))
