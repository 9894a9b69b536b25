"""The commands `run`, `label` and `export`, and the console script. Imports are local: `--help` must answer at once."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mms_regions.cli.config import config, jobs
from mms_regions.cli.demo import demo, synthesise
from mms_regions.cli.doctor import doctor
from mms_regions.cli.estimate import estimate
from mms_regions.cli.fetch import fetch, serve_archive
from mms_regions.cli.models import catalogues, models
from mms_regions.cli.options import (
    ArchiveUrlOption,
    B0Option,
    CatalogueOrNone,
    ConventionOption,
    DataDirOption,
    DeviceOption,
    DrawsOption,
    EventsOption,
    FormatOption,
    IntervalOption,
    JsonOption,
    ManifestOption,
    MinDurationOption,
    ModelOption,
    N0Option,
    OfflineOption,
    PerturbOption,
    ProbesOption,
    ProfileOption,
    RedoOption,
    SourceOption,
    StoreArgument,
    StoreOption,
    WorkersOption,
    announce,
    at_home,
    chosen_events,
    display,
)
from mms_regions.cli.report import report
from mms_regions.cli.simulate import simulate, train
from mms_regions.cli.status import show, status, verify
from mms_regions.cli.streams import protect_streams, stdout_problem
from mms_regions.cli.summary import print_summary
from mms_regions.core.errors import EnvironmentProblem, Interrupted, UsageProblem, sentence
from mms_regions.core.isolated import collect_rarely, safe_path

if TYPE_CHECKING:
    from mms_regions.export.export import Exported
    from mms_regions.run.dry_run import PlannedRun

_TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C
_DEBUG = "--debug: show the traceback of an error."
_SETTINGS = "Precedence of settings: flag, environment, profile, default; see `config show`."

app = typer.Typer(
    name="mms-regions",
    help="Label where an MMS spacecraft is in a magnetic-reconnection region, sample by sample.",
    epilog=f"{_SETTINGS} All commands accept --debug, which shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="model", rich_help_panel="Models, catalogues, settings")
app.add_typer(catalogues, name="catalogue", rich_help_panel="Models, catalogues, settings")
app.add_typer(config, name="config", rich_help_panel="Models, catalogues, settings")
app.add_typer(jobs, name="jobs", rich_help_panel="Models, catalogues, settings")


def main() -> None:
    """The console script: every failure becomes one sentence and an exit code of docs/command-line.md."""
    collect_rarely()
    protect_streams()
    _take_away_variables()
    debug = "--debug" in sys.argv
    sys.argv = [arg for arg in sys.argv if arg != "--debug"]
    code = 0
    try:
        code = _run_app()
        if problem := stdout_problem():
            raise EnvironmentProblem(f"stdout cannot be written: {problem.strerror}; redirect it to another place")
    except Exception as problem:
        if debug:
            raise
        print(f"mms-regions: {sentence(problem)}", file=sys.stderr)
        code = code or getattr(problem, "exit_code", EnvironmentProblem.exit_code)
    sys.exit(code)


def _take_away_variables() -> None:
    """Of this process and its children: what names modules of the working folder, and the user's settings of zarr.

    With these a store is written in another way, or what is in it cannot be read and seems not to be there.
    """
    os.environ.update(safe_path(os.environ))
    for name in [name for name in os.environ if name.startswith("ZARR_")]:
        del os.environ[name]


def _run_app() -> int:
    """The exit code of a command; a usage error is one sentence, as all other errors are."""
    try:
        code = int(app(prog_name="mms-regions", standalone_mode=False) or 0)
    except typer.TyperException as problem:
        said = problem.format_message().strip()
        if not said or said.startswith("Usage:"):  # a group without a command, whose help is shown
            print(said, end="\n" if said else "", file=sys.stderr)
            return UsageProblem.exit_code
        context = getattr(problem, "ctx", None)
        command = context.command_path if context else "mms-regions"
        raise UsageProblem(f"{said.removesuffix('.')}; run `{command} --help` for usage") from problem
    except typer.Abort:
        code = _TYPER_INTERRUPTED
    if code == _TYPER_INTERRUPTED:
        raise Interrupted("interrupted; run the same command again to continue")
    return code


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from mms_regions.core.version import __version__

        print(f"mms-regions {__version__}")
        raise typer.Exit


@app.command(rich_help_panel="Runs")
def run(
    catalogue: CatalogueOrNone = None,
    *,
    store: StoreOption,
    interval: IntervalOption = None,
    b0: B0Option = None,
    n0: N0Option = None,
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
    draws: DrawsOption = None,
    redo: RedoOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be made and its size, without a run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a store from CDF files: features, physics, labels and probabilities of every sample.

    Files that are not in the data folder are fetched first, unless --offline is set.
    The same command again makes only what is missing; other events are added to the store.
    Ctrl-C, SIGTERM and SIGUSR1 stop it after pending writes finish; press again to stop at once.

    Example: mms-regions run --events A --probes 4 --data-dir ~/mms --store a.zarr
    Example: mms-regions run --data-dir ~/mms --offline --model open --store all.zarr --dry-run
    Example: mms-regions run --interval 2017-05-28T03:58:30/2017-05-28T03:59:15 --b0 21 --n0 0.1 --data-dir ~/mms --store x.zarr
    """  # noqa: E501
    announce(f"reading settings, events and {store}")
    from mms_regions.core.cluster_settings import resolve_run
    from mms_regions.core.stop import heard_signals
    from mms_regions.run.begin import RunRequest
    from mms_regions.run.dry_run import plan_run
    from mms_regions.run.run import run as run_segments
    from mms_regions.store.paths import run_folder
    from mms_regions.store.relabel import choose_model
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
        "draws": draws,
    }
    settings, cluster = resolve_run(flags, os.environ, profile)
    with pool_for(cluster, run_folder(store)) as pool:
        chosen = chosen_events(catalogue, interval, b0, n0)
        segments = chosen.segments(events, probes)
        labelled = choose_model(settings, store, os.environ)
        request = RunRequest(
            chosen, segments, store, labelled.settings, labelled.model, redo or "", remarks=labelled.remarks
        )
        if dry_run:
            _print_planned(plan_run(request), store, as_json)
            return
        with display(as_json) as observe, heard_signals() as stop:
            summary = run_segments(request, pool, observe, stop)
    print_summary(summary, store, as_json)


@app.command(rich_help_panel="Runs")
def label(
    store: StoreArgument,
    *,
    model: ModelOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    perturb: PerturbOption = None,
    draws: DrawsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label a store with another model; its features do not change.

    Example: mms-regions label a.zarr --model open
    """
    from mms_regions.core.cluster_settings import resolve_run
    from mms_regions.core.messages import Remark
    from mms_regions.core.stop import heard_signals
    from mms_regions.run.run import relabel
    from mms_regions.store.paths import run_folder
    from mms_regions.store.relabel import choose_model
    from mms_regions.workers.open import pool_for

    flags = {"model": model, "workers": workers, "device": device, "perturb": perturb, "draws": draws}
    settings, cluster = resolve_run(flags, os.environ, profile)
    with pool_for(cluster, run_folder(store)) as pool:
        labelled = choose_model(settings, store, os.environ)
        with display(as_json) as observe, heard_signals() as stop:
            for remark in labelled.remarks:
                observe(Remark(remark))
            summary = relabel(store, labelled.model, labelled.settings, pool, observe, stop)
    print_summary(summary, store, as_json)


@app.command(rich_help_panel="Results")
def export(
    store: StoreArgument,
    *,
    out: Annotated[Path, typer.Option("--out", callback=at_home, help="The output folder.")],
    form: FormatOption = "csv",
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    min_duration: MinDurationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a store to other formats. Only tplot needs the CDF files (--data-dir).

    Example: mms-regions export a.zarr --format csv --out data
    Example: mms-regions export a.zarr --format segments --out paper
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.export.export import check_format
    from mms_regions.export.export import export as export_segments
    from mms_regions.run.inputs import require_data_dir
    from mms_regions.run.status import complete_segments

    check_format(form, min_duration)
    segments = complete_segments(store, events, probes)
    cdf = require_data_dir(resolve_settings({"data_dir": data_dir}, os.environ)) if form == "tplot" else None
    done = export_segments(store, segments, out, form, data_dir=cdf, min_duration=min_duration)
    _print_exported(done, store, form, as_json)


def _print_exported(done: Exported, store: Path, form: str, as_json: bool) -> None:
    """Print the files that were written; exit code 4 if something could not be exported."""
    written = [str(path) for path in done.written]
    if as_json:
        print(json.dumps({"store": str(store), "format": form, "written": written, "failed": dict(done.failed)}))
    elif written:
        print("\n".join(written))
    for reason in done.failed.values():
        print(f"mms-regions: {reason}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(4)


def _print_planned(planned: PlannedRun, store: Path, as_json: bool) -> None:
    """Print what a run would make; exit code 5 if the disk is too small for it."""
    from rich.filesize import decimal

    from mms_regions.core.messages import counted

    if as_json:
        print(json.dumps({"store": str(store), **asdict(planned)}))
    else:
        if planned.is_complete:
            print(f"{store}: {counted(planned.segments, 'segment')}, all complete; nothing to do")
            return
        print(f"{store}: {counted(planned.segments, 'segment')}, {planned.to_prepare:,} to prepare")
        print(f"{counted(planned.to_write, 'shard')} to write, {planned.to_label:,} to label with {planned.model}")
        print(f"at most about {decimal(planned.needed.bytes)} in {counted(planned.needed.files, 'file')}; ", end="")
        files = "" if planned.free.files is None else f" and {counted(planned.free.files, 'file')}"
        print(f"{decimal(planned.free.bytes)}{files} free")
        print(f"{counted(planned.without_files, 'segment')} to prepare without any file in the data folder")
    if planned.shortages:
        raise EnvironmentProblem(f"{store}: {'; '.join(planned.shortages)}; free some space, or choose another --store")


app.command(rich_help_panel="Results")(show)
app.command(rich_help_panel="Results")(report)
app.command(rich_help_panel="Runs")(fetch)
app.command(rich_help_panel="Runs")(estimate)
app.command(rich_help_panel="Runs")(status)
app.command(rich_help_panel="Runs")(verify)
app.command(rich_help_panel="Runs")(doctor)
app.command("serve-archive", rich_help_panel="Synthetic data")(serve_archive)
for command in (demo, synthesise, simulate, train):
    app.command(rich_help_panel="Synthetic data")(command)
for group in (app, models, catalogues, config, jobs):
    for entry in group.registered_commands:
        entry.epilog = _DEBUG


if __name__ == "__main__":
    main()
