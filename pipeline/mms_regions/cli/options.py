"""Options that commands share, and the display of a run."""

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
    from mms_regions.core.catalogue import Catalogue

_PACKAGE = Path(__file__).parents[1]
_WHICH, _FILES, _HOW = "Segments", "Input files", "Execution"


# Completion takes names from file names, so that pressing <tab> imports next to nothing.


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


def _one_of(*values: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, values)

    return complete


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    """The names that begin like this; the shell offers files where there are none."""
    return sorted({name for name in names if name.startswith(incomplete)})


_CATALOGUE_HELP = "A built-in name, a CSV file, or - for stdin."
CatalogueArgument = Annotated[
    str,
    typer.Argument(metavar="CATALOGUE", help=_CATALOGUE_HELP, autocompletion=_catalogue_names),
]
CatalogueOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="CATALOGUE", help=_CATALOGUE_HELP, show_default="rogers2023", autocompletion=_catalogue_names
    ),
]
IntervalOption = Annotated[
    str | None,
    typer.Option(
        "--interval",
        help="In place of a catalogue: START/END in UTC, e.g. 2017-07-11T22:33:30/2017-07-11T22:34:30.",
        rich_help_panel=_WHICH,
    ),
]
B0Option = Annotated[
    float | None,
    typer.Option("--b0", help="The lobe field of --interval, nT. Default: estimated.", rich_help_panel=_WHICH),
]
N0Option = Annotated[
    float | None,
    typer.Option("--n0", help="The sheet density of --interval, cm^-3. Default: estimated.", rich_help_panel=_WHICH),
]
ModelArgument = Annotated[str, typer.Argument(help="A model's name or folder.", autocompletion=_model_names)]


def at_home(path: Path | None) -> Path | None:
    """The callback of all options that are paths: shells leave `~` as it is in `--out=~/x`."""
    if path is None:
        return None
    from mms_regions.core.files import expanded

    return expanded(path)


def named_store(store: Path) -> Path:
    """A store has a name, because its run folder lies beside it under that name; `.` is resolved to one."""
    path = at_home(store) or store
    path = path if path.name not in ("", "..") else path.resolve()
    if not path.name:
        raise UsageProblem(f"{store} cannot be a store: it needs a name, and a folder beside it; give another path")
    return path


def _named_profile(profile: Path | None) -> Path | None:
    if profile is None:
        return None
    from mms_regions.core.settings import find_profile

    return find_profile(at_home(profile) or profile)


StoreArgument = Annotated[Path, typer.Argument(help="A zarr store made by `run`.", callback=named_store)]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The zarr store to create or to continue.", callback=named_store)
]
EventsOption = Annotated[
    str | None, typer.Option("--events", help="Events, e.g. A,C-F. Default: all.", rich_help_panel=_WHICH)
]
ProbesOption = Annotated[
    str | None,
    typer.Option("--probes", help="Spacecraft, e.g. 1-4, 1,3, mms4. Default: all.", rich_help_panel=_WHICH),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        callback=at_home,
        help="Folder of CDF files, in the layout of the SDC. Default: $MMS_DATA_DIR.",
        rich_help_panel=_FILES,
    ),
]
OfflineOption = Annotated[
    bool | None,
    typer.Option(
        "--offline/--no-offline",
        help="Use only files of the data folder, or fetch missing ones. Default: fetch.",
        rich_help_panel=_FILES,
    ),
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
        "--archive-url",
        help="Base URL of a mirror (the part before /file_info/science or /mms1/).",
        rich_help_panel=_FILES,
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest", callback=at_home, help="A manifest.json: use exactly these files.", rich_help_panel=_FILES
    ),
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
        help="A model's name or folder. Default: the store's; else waters2025 where installed, else open.",
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
    int | None,
    typer.Option(
        "--workers",
        help="Number of worker processes; 0: none, run in this process, which is the default for one segment.",
        rich_help_panel=_HOW,
    ),
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
        "--perturb",
        help="Estimate label stability by varying B0 and n0 by this fraction, such as 0.1. 0: off. "
        "Default: keep the store's setting.",
    ),
]
DrawsOption = Annotated[
    int | None,
    typer.Option(
        "--draws",
        help="Marginal probabilities: mean over so many draws of B0 and n0, where their errors are known. 0: off. "
        "Default: keep the store's setting, else 16.",
    ),
]
RedoOption = Annotated[
    str | None,
    typer.Option(
        "--redo",
        help="Recompute existing segments: a list (A,C-F or B/mms4), `changed` (inputs differ) or `all`.",
        rich_help_panel=_HOW,
    ),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="csv, tplot: as the published code writes them; netcdf: a CF file per segment; segments: a table of "
        "intervals of equal labels.",
        autocompletion=_one_of("csv", "netcdf", "segments", "tplot"),
    ),
]
MinDurationOption = Annotated[
    float | None,
    typer.Option(
        "--min-duration",
        help="With segments: merge stretches shorter than this many seconds into others. 0: keep all. Default: 0.3.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]


def chosen_events(
    catalogue: str | None, interval: str | None = None, b0: float | None = None, n0: float | None = None
) -> Catalogue:
    """The events that a command line names; what is to be remarked of their list goes to stderr."""
    from mms_regions.core.catalogue import DEFAULT_CATALOGUE, one_interval, read_catalogue

    if interval is None and not (b0 is None and n0 is None):
        raise UsageProblem("--b0 and --n0 go with --interval; a catalogue has columns B0 and n0")
    if interval is not None and catalogue is not None:
        raise UsageProblem(f"--interval and the catalogue {catalogue} exclude each other; give one of them")
    if interval is not None:
        return one_interval(interval, b0, n0)
    chosen = read_catalogue(catalogue or DEFAULT_CATALOGUE)
    for remark in chosen.remarks:
        print(f"mms-regions: warning: {remark}", file=sys.stderr)
    return chosen


def announce(text: str) -> None:
    """A line on a terminal, before imports that take a second; nothing in logs and pipes."""
    if sys.stderr.isatty():
        print(f"mms-regions: {text}", file=sys.stderr, flush=True)


def notify(line: str) -> None:
    """A line of progress, also in logs; on stderr, because stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def display(as_json: bool) -> Display:
    """Bars on a terminal, lines elsewhere; on stderr, because stdout is for results."""
    from rich.console import Console

    from mms_regions.cli.progress import PlainLines, ProgressBar

    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        return ProgressBar(console)
    return PlainLines(notify)
