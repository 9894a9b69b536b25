"""Words on the command line, no logic. Rooms are imported where they are used, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.config import config
from mms_regions.cli.demo import demo, synthesise, train
from mms_regions.cli.doctor import doctor
from mms_regions.cli.fetch import fetch, serve_archive
from mms_regions.cli.models import catalogues, models
from mms_regions.cli.options import (
    ArchiveUrlOption,
    CatalogueArgument,
    ConventionOption,
    DataDirOption,
    DeviceOption,
    EventsOption,
    FormatOption,
    JsonOption,
    ManifestOption,
    MinDurationOption,
    ModelOption,
    OfflineOption,
    PerturbOption,
    ProbesOption,
    ProfileOption,
    RedoOption,
    SourceOption,
    StoreArgument,
    StoreOption,
    WorkersOption,
    display,
)
from mms_regions.cli.report import report
from mms_regions.cli.simulate import simulate
from mms_regions.cli.status import status, verify
from mms_regions.core.errors import EnvironmentProblem, Interrupted, MMSRegionsError, UsageProblem

if TYPE_CHECKING:
    from mms_regions.export.csv import Exported
    from mms_regions.run.dry_run import PlannedRun
    from mms_regions.run.run import Summary

_TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C
_SETTINGS = "Settings: a flag beats the environment, that beats the profile, that beats the default; see `config show`."

app = typer.Typer(
    name="mms-regions",
    help="Label where an MMS spacecraft is in a magnetic-reconnection region, sample by sample.",
    epilog=f"{_SETTINGS} Any command takes --debug, which shows the trace behind an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="model", rich_help_panel="What there is")
app.add_typer(catalogues, name="catalogue", rich_help_panel="What there is")
app.add_typer(config, name="config", rich_help_panel="What there is")


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
    """Run the command; words that are off are one sentence, as all other errors are."""
    try:
        code = app(prog_name="mms-regions", standalone_mode=False) or 0
    except typer.TyperException as problem:
        said = problem.format_message().strip()
        if not said or said.startswith("Usage:"):  # a group without a command, of which the help is shown
            print(said, end="\n" if said else "", file=sys.stderr)
            sys.exit(UsageProblem.exit_code)
        context = getattr(problem, "ctx", None)
        command = context.command_path if context else "mms-regions"
        raise UsageProblem(f"{said.removesuffix('.')}; `{command} --help` tells the words it takes") from problem
    except typer.Abort:
        code = _TYPER_INTERRUPTED
    if code == _TYPER_INTERRUPTED:
        raise Interrupted("interrupted; run the same command again to go on")
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from mms_regions.core.version import __version__

        print(f"mms-regions {__version__}")
        raise typer.Exit


@app.command(rich_help_panel="Runs")
def run(
    catalogue: CatalogueArgument = "rogers2023",
    *,
    store: StoreOption,
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    offline: OfflineOption = None,
    source: SourceOption = None,
    archive_url: ArchiveUrlOption = None,
    manifest: ManifestOption = None,
    convention: ConventionOption = None,
    model: ModelOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    perturb: PerturbOption = None,
    redo: RedoOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and how large it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a store from CDF files: features, physics, labels and probabilities of each sample.

    Files that are not in the data folder are fetched first, unless --offline.
    Running the same command again makes what is missing and nothing else; other events are added.
    Ctrl-C, SIGTERM and SIGUSR1 end it when what is being written is whole; twice, and it ends now.

    Example: mms-regions run --events A --probes 4 --data-dir ~/mms --store a.zarr
    Example: mms-regions run --data-dir ~/mms --offline --model analytic-layer --store all.zarr --dry-run
    """
    from mms_regions.core.catalogue import read_catalogue
    from mms_regions.core.cluster_settings import read_cluster
    from mms_regions.core.settings import resolve_settings
    from mms_regions.core.stop import heard_signals
    from mms_regions.model.card import find_model
    from mms_regions.run.begin import RunRequest
    from mms_regions.run.dry_run import plan_run
    from mms_regions.run.run import run as run_segments
    from mms_regions.store.paths import run_folder
    from mms_regions.workers.open import pool_for

    flags = {
        "data_dir": data_dir,
        "offline": offline,
        "source": source,
        "archive_url": archive_url,
        "manifest": manifest,
        "convention": convention,
        "model": model,
        "workers": workers,
        "device": device,
        "perturb": perturb,
    }
    with pool_for(read_cluster(profile), run_folder(store)) as pool:
        settings = resolve_settings(flags, os.environ, profile)
        chosen = read_catalogue(catalogue)
        segments = chosen.segments(events, probes)
        installed = find_model(settings.model, os.environ)
        request = RunRequest(chosen, segments, store, settings, installed, redo or "")
        if dry_run:
            _say_planned(plan_run(request), store, as_json)
            return
        with display(as_json) as observe, heard_signals() as stop:
            summary = run_segments(request, pool, observe, stop)
    _report(summary, store, as_json)


@app.command(rich_help_panel="Runs")
def label(
    store: StoreArgument,
    *,
    model: ModelOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    perturb: PerturbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label what a store holds with another model; its features stay as they are.

    Example: mms-regions label a.zarr --model analytic-layer
    """
    from mms_regions.core.cluster_settings import read_cluster
    from mms_regions.core.settings import resolve_settings
    from mms_regions.core.stop import heard_signals
    from mms_regions.model.card import find_model
    from mms_regions.run.run import relabel
    from mms_regions.store.paths import run_folder
    from mms_regions.workers.open import pool_for

    with pool_for(read_cluster(profile), run_folder(store)) as pool:
        flags = {"model": model, "workers": workers, "device": device, "perturb": perturb}
        settings = resolve_settings(flags, os.environ, profile)
        installed = find_model(settings.model, os.environ)
        with display(as_json) as observe, heard_signals() as stop:
            summary = relabel(store, installed, settings, pool, observe, stop)
    _report(summary, store, as_json)


@app.command(rich_help_panel="Results")
def export(
    store: StoreArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")],
    form: FormatOption = "csv",
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    min_duration: MinDurationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a store holds to other formats. Only tplot needs the CDF files (--data-dir) once more.

    Example: mms-regions export a.zarr --format csv --out data

    Example: mms-regions export a.zarr --format segments --min-duration 0.3 --out paper
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.export import csv as export
    from mms_regions.run.inputs import require_data_dir
    from mms_regions.run.status import complete_segments

    export.check_format(form, min_duration)
    segments = complete_segments(store, events, probes)
    match form:
        case "tplot":
            where = require_data_dir(resolve_settings({"data_dir": data_dir}, os.environ))
            done = export.export_tplot(store, segments, out, where)
        case "netcdf":
            done = export.export_netcdf(store, segments, out)
        case "segments":
            done = export.export_segments(store, segments, out, min_duration or 0.0)
        case _:
            done = export.export_csv(store, segments, out)
    _say_exported(done, store, form, as_json)


def _say_exported(done: Exported, store: Path, form: str, as_json: bool) -> None:
    """Say what was written; what could not be makes the exit code 4."""
    written = [str(path) for path in done.written]
    if as_json:
        print(json.dumps({"store": str(store), "format": form, "written": written, "failed": dict(done.failed)}))
    elif written:
        print("\n".join(written))
    for reason in done.failed.values():
        print(f"mms-regions: {reason}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(4)


def _say_planned(planned: PlannedRun, store: Path, as_json: bool) -> None:
    """Say what a run would make; what it lacks room for makes the exit code 5."""
    from rich.filesize import decimal

    if as_json:
        print(json.dumps({"store": str(store), **asdict(planned)}))
    else:
        print(f"{store}: {planned.segments} segments, {planned.to_prepare} of them to prepare")
        print(f"{planned.to_write} shards to write, {planned.to_label} to label with {planned.model}")
        print(f"about {decimal(planned.needed.bytes)} in {planned.needed.files} files at most; ", end="")
        files = "" if planned.free.files is None else f" and {planned.free.files} files"
        print(f"{decimal(planned.free.bytes)}{files} are free there")
        print(f"{planned.without_files} of the segments to prepare have no file in the data folder")
    if planned.shortages:
        raise EnvironmentProblem(f"{store}: {'; '.join(planned.shortages)}; make room, or choose another --store")


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


app.command(rich_help_panel="Results")(report)
app.command(rich_help_panel="Runs")(fetch)
app.command(rich_help_panel="Runs")(status)
app.command(rich_help_panel="Runs")(verify)
app.command(rich_help_panel="Runs")(doctor)
app.command("serve-archive", rich_help_panel="Without MMS data")(serve_archive)
for command in (demo, synthesise, simulate, train):
    app.command(rich_help_panel="Without MMS data")(command)


if __name__ == "__main__":
    main()
