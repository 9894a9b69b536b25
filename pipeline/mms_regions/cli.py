"""Words on the command line, no logic. Rooms are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.errors import EnvironmentProblem, Interrupted, MMSRegionsError, UsageProblem

if TYPE_CHECKING:
    from mms_regions.observe import Display
    from mms_regions.run import Summary

_TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="mms-regions",
    help="Label where an MMS spacecraft is in a magnetic-reconnection region, sample by sample.",
    epilog="Any command takes --debug, which shows the trace behind an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="Models: which there are, getting their weights, checking them.", no_args_is_help=True)
catalogues = typer.Typer(
    help="Event lists: which are built in, what is in one, whether one is sound.", no_args_is_help=True
)
app.add_typer(models, name="model")
app.add_typer(catalogues, name="catalogue")

CatalogueArgument = Annotated[str, typer.Argument(metavar="[CATALOGUE]", help="A built-in name or a CSV file.")]


def _named(store: Path) -> Path:
    """A store has a name, because its run folder lies beside it under that name: `.` becomes what it stands for."""
    whole = store if store.name not in ("", "..") else store.resolve()
    if not whole.name:
        raise UsageProblem(f"{store} cannot be a store, which has a name and a folder beside it; name another path")
    return whole


StoreArgument = Annotated[Path, typer.Argument(help="The zarr store of a run.", callback=_named)]
StoreOption = Annotated[
    Path, typer.Option("--store", help="The zarr store to make, or to go on with.", callback=_named)
]
EventsOption = Annotated[str | None, typer.Option("--events", help="Events, e.g. A,C-F. Default: all.")]
ProbesOption = Annotated[str | None, typer.Option("--probes", help="Spacecraft, e.g. 1-4 or 1,3. Default: all.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="A model's name or folder. Default: waters2025.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Processes; 0: run in this one.")]
ProfileOption = Annotated[Path | None, typer.Option("--profile", help="A TOML file of settings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]


def main() -> None:
    """The console script: errors become one sentence and an exit code."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        _run_app()
    except MMSRegionsError as problem:
        if debug:
            raise
        print(f"mms-regions: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
    except OSError as problem:
        if debug:
            raise
        where, what = problem.filename or "the system", problem.strerror or problem
        print(f"mms-regions: {where}: {what}; make room there, or name another place, and run again", file=sys.stderr)
        sys.exit(EnvironmentProblem.exit_code)


def _run_app() -> None:
    try:
        app()
    except SystemExit as end:
        if end.code == _TYPER_INTERRUPTED:
            raise Interrupted("interrupted; run the same command again to go on") from None
        raise


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        from mms_regions import __version__

        print(f"mms-regions {__version__}")
        raise typer.Exit


@app.command(rich_help_panel="Runs")
def run(
    catalogue: CatalogueArgument = "rogers2023",
    *,
    store: StoreOption,
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="CDF files in the SDC's layout. Default: $MMS_DATA_DIR.")
    ] = None,
    offline: Annotated[bool | None, typer.Option("--offline", help="Use only files that are there.")] = None,
    convention: Annotated[str | None, typer.Option("--convention", help="corrected (default) or published.")] = None,
    model: ModelOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a store from CDF files: features, physics, labels and probabilities of each sample.

    Running the same command again makes what is missing and nothing else.
    Example: mms-regions run --events A --probes 4 --data-dir ~/mms --store a.zarr
    """
    from mms_regions.card import find_model
    from mms_regions.catalogue import read_catalogue
    from mms_regions.cluster import local_pool
    from mms_regions.run import run as run_segments
    from mms_regions.settings import resolve_settings

    flags = {
        "data_dir": data_dir,
        "offline": offline,
        "convention": convention,
        "model": model,
        "workers": workers,
        "device": device,
    }
    settings = resolve_settings(flags, os.environ, profile)
    chosen = read_catalogue(catalogue)
    segments = chosen.segments(events, probes)
    installed = find_model(settings.model, os.environ)
    with _display(as_json) as observe:
        summary = run_segments(chosen, segments, store, settings, installed, local_pool, observe)
    _report(summary, store, as_json)


@app.command(rich_help_panel="Runs")
def label(
    store: StoreArgument,
    *,
    model: ModelOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label what a store holds with another model; its features stay as they are.

    Example: mms-regions label a.zarr --model my-models/second
    """
    from mms_regions.card import find_model
    from mms_regions.cluster import local_pool
    from mms_regions.run import relabel
    from mms_regions.settings import resolve_settings

    settings = resolve_settings({"model": model, "workers": workers, "device": device}, os.environ, profile)
    installed = find_model(settings.model, os.environ)
    with _display(as_json) as observe:
        summary = relabel(store, installed, settings, local_pool, observe)
    _report(summary, store, as_json)


@app.command(rich_help_panel="Runs")
def status(store: StoreArgument, *, as_json: JsonOption = False) -> None:
    """Say of each segment of a store whether it is complete, prepared, failed (and why) or missing."""
    from mms_regions.store import segment_status

    rows = segment_status(store)
    counts = {
        word: sum(row["status"] == word for row in rows) for word in ("complete", "prepared", "failed", "missing")
    }
    if as_json:
        print(json.dumps({"store": str(store), "counts": counts, "segments": rows}))
        return
    for row in rows:
        print(f"{row['segment']:<24}{row['status']:<10}{row['reason']}".rstrip())
    print(", ".join(f"{n} {word}" for word, n in counts.items() if n))


@app.command(rich_help_panel="Results")
def export(
    store: StoreArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")],
    form: Annotated[str, typer.Option("--format", help="csv: the folders and files of the published code.")] = "csv",
    events: EventsOption = None,
    probes: ProbesOption = None,
) -> None:
    """Write what a store holds to other formats.

    Example: mms-regions export a.zarr --format csv --out data
    """
    from mms_regions.export import export_csv
    from mms_regions.store import complete_segments

    if form != "csv":
        raise UsageProblem(f"There is no export format {form!r}: choose csv")
    for folder in export_csv(store, complete_segments(store, events, probes), out):
        print(folder)


@models.command("list")
def model_list(as_json: JsonOption = False) -> None:
    """List the models that are installed here, and whether their weights are there."""
    from mms_regions.card import list_models

    found = list_models(os.environ)
    if as_json:
        rows = [{"name": m.card.name, "title": m.card.title, "weights": m.weights is not None} for m in found]
        print(json.dumps({"models": rows}))
        return
    for m in found:
        print(f"{m.card.name:<20}{'weights there' if m.weights else 'no weights':<16}{m.card.title}")


@models.command("show")
def model_show(name: Annotated[str, typer.Argument(help="A model's name or folder.")] = "waters2025") -> None:
    """Print a model's card: its regions, how far each is trusted, features, scaling, training data, licence."""
    from mms_regions.card import find_model

    print(find_model(name, os.environ).card.model_dump_json(indent=2))


@models.command("check")
def model_check(name: Annotated[str, typer.Argument(help="A model's name or folder.")] = "waters2025") -> None:
    """Load a model and check its checksum, names, shapes and numbers."""
    from mms_regions.card import find_model
    from mms_regions.model import load_model

    installed = find_model(name, os.environ)
    load_model(installed)
    print(f"{installed.card.name}: sound, sha256 {installed.card.weights_sha256}, in {installed.folder}")


@models.command("import")
def model_import(
    path: Annotated[Path, typer.Argument(help="The authors' weights file, best_model.")],
    name: Annotated[str, typer.Option("--name", help="The card of the model.")] = "waters2025",
) -> None:
    """Check a published weights file against its card and convert it to safetensors in your model folder."""
    from mms_regions.model import import_published

    installed = import_published(path, os.environ, name)
    print(f"{installed.card.name}: weights are in {installed.folder}")
    print(f"Licence: {installed.card.license}")


@catalogues.command("list")
def catalogue_list() -> None:
    """List the built-in event lists."""
    from mms_regions.catalogue import builtin_catalogues, read_catalogue

    for name in builtin_catalogues():
        print(f"{name:<20}{len(read_catalogue(name).events)} events")


@catalogues.command("show")
def catalogue_show(
    catalogue: CatalogueArgument = "rogers2023", events: EventsOption = None, probes: ProbesOption = None
) -> None:
    """Print the events of a list as they were understood."""
    from mms_regions.catalogue import read_catalogue

    chosen = read_catalogue(catalogue)
    wanted = {segment.event.name for segment in chosen.segments(events, probes)}
    print(f"{'event':<16}{'t_start (UTC)':<32}{'t_end (UTC)':<32}{'B0 / nT':>10}{'n0 / cm-3':>12}  probes")
    for event in chosen.events:
        if event.name in wanted:
            start, end = str(event.t_start), str(event.t_end)
            spacecraft = ",".join(map(str, event.probes))
            print(f"{event.name:<16}{start:<32}{end:<32}{event.B0:>10.4f}{event.n0:>12.5f}  {spacecraft}")


@catalogues.command("check")
def catalogue_check(catalogue: CatalogueArgument = "rogers2023") -> None:
    """Check an event list; all its bad rows are reported at once."""
    from mms_regions.catalogue import read_catalogue

    chosen = read_catalogue(catalogue)
    print(f"{chosen.name}: {len(chosen.events)} events, {len(chosen.segments())} segments, sha256 {chosen.sha256[:12]}")


def _display(as_json: bool) -> Display:
    """Bars on a terminal, lines elsewhere; always on stderr, so that stdout is for results."""
    from rich.console import Console

    from mms_regions.observe import PlainLines, ProgressBar

    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        return ProgressBar(console)
    return PlainLines(lambda line: print(line, file=sys.stderr, flush=True))


def _report(summary: Summary, store: Path, as_json: bool) -> None:
    """Say what a store holds now; failures make the exit code 4."""
    result: dict[str, Any] = {
        "store": str(store),
        "complete": list(summary.complete),
        "failed": dict(summary.failed),
    }
    if as_json:
        print(json.dumps(result))
    else:
        hint = f"; `mms-regions status {store}` says why" if summary.failed else ""
        print(f"{store}: {len(summary.complete)} segments complete, {len(summary.failed)} failed{hint}")
    if summary.failed:
        raise typer.Exit(4)


if __name__ == "__main__":
    main()
