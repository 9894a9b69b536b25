"""The commands `model ...` and `catalogue ...`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from mms_regions.cli.options import (
    CatalogueArgument,
    EventsOption,
    JsonOption,
    ModelArgument,
    ProbesOption,
    at_home,
    chosen_events,
)

models = typer.Typer(help="Models: list, show, get weights, check.", no_args_is_help=True)
catalogues = typer.Typer(help="Event lists: list, show, check, schema.", no_args_is_help=True)


@models.command("list")
def model_list(as_json: JsonOption = False) -> None:
    """List the installed models, and whether their weights are installed.

    Example: mms-regions model list
    """
    from mms_regions.cli.tables import print_table
    from mms_regions.model.card import list_models

    found = list_models(os.environ)
    if as_json:
        rows = [{"name": m.card.name, "title": m.card.title, "weights": m.weights is not None} for m in found]
        print(json.dumps({"models": rows}))
        return
    print_table(
        ("model", "weights", "title"),
        [(m.card.name, "installed" if m.weights else "missing", m.card.title) for m in found],
    )


@models.command("show")
def model_show(name: ModelArgument = "auto", *, as_json: JsonOption = False) -> None:
    """Print a model's card: regions and how reliable each is, features, training data, licence. JSON: all of it.

    Example: mms-regions model show open
    Example: mms-regions model show waters2025 --json
    """
    from mms_regions.cli.tables import print_table
    from mms_regions.model.card import find_model

    installed = find_model(name, os.environ)
    card = installed.card
    if as_json:
        print(card.model_dump_json(indent=2))
        return
    shown = {key: value for key, value in card.model_dump(mode="json").items() if isinstance(value, str) and value}
    shown["weights"] = str(installed.weights or f"missing: {card.how_to_get_weights}")
    print_table(("", card.name), [(key.replace("_", " "), text) for key, text in shown.items() if key != "name"])
    print()
    print_table(("region", "trust", "evidence"), [(one.long_name, one.trust, one.evidence) for one in card.regions])
    for caution in card.cautions:
        print(f"caution: {caution}")


@models.command("check")
def model_check(name: ModelArgument = "auto") -> None:
    """Load a model and verify its checksum, names, shapes and numbers.

    Example: mms-regions model check open
    """
    from mms_regions.model.card import find_model
    from mms_regions.model.weights import load_model

    installed = find_model(name, os.environ)
    load_model(installed)
    print(f"{installed.card.name}: valid, sha256 {installed.card.weights_sha256}, in {installed.folder}")


@models.command("import")
def model_import(
    path: Annotated[Path, typer.Argument(callback=at_home, help="The authors' weights file, best_model.")],
    name: Annotated[str, typer.Option("--name", help="The card of the model.")] = "waters2025",
) -> None:
    """Check a published weights file against its card and convert it to safetensors in your model folder.

    Example: mms-regions model import best_model
    """
    from mms_regions.model.weights import import_published

    installed = import_published(path, os.environ, name)
    print(f"{installed.card.name}: weights are in {installed.folder}")
    print(f"Licence: {installed.card.license}")


@models.command("fetch")
def model_fetch(
    name: ModelArgument = "waters2025",
    url: Annotated[str, typer.Option("--url", help="Another URL of the same file.")] = "",
) -> None:
    """Download a published weights file from its authors, then check and convert it as `import` does.

    Example: mms-regions model fetch
    """
    from mms_regions.model.weights import fetch_published

    installed = fetch_published(os.environ, name, url)
    print(f"{installed.card.name}: weights are in {installed.folder}")
    print(f"Licence: {installed.card.license}")


@catalogues.command("list")
def catalogue_list() -> None:
    """List the built-in event lists.

    Example: mms-regions catalogue list
    """
    from mms_regions.core.catalogue import builtin_catalogues, read_catalogue
    from mms_regions.core.messages import counted

    for name in builtin_catalogues():
        print(f"{name:<20}{counted(len(read_catalogue(name).events), 'event')}")


@catalogues.command("show")
def catalogue_show(
    catalogue: CatalogueArgument = "rogers2023", events: EventsOption = None, probes: ProbesOption = None
) -> None:
    """Print the parsed events of a list.

    Example: mms-regions catalogue show
    Example: mms-regions catalogue show --events A,C-F
    """
    from mms_regions.cli.tables import print_table
    from mms_regions.core.events import shortly

    chosen = chosen_events(catalogue)
    selected = {segment.event.name for segment in chosen.segments(events, probes)}
    rows = []
    for event in chosen.events:
        if event.name in selected:
            start, end = shortly(event.t_start), shortly(event.t_end)
            b0, n0 = ("-" if x is None else f"{x:.{digits}f}" for x, digits in ((event.B0, 4), (event.n0, 5)))
            rows.append((event.name, start, end, b0, n0, ",".join(map(str, event.probes))))
    headings = ("event", "t_start (UTC)", "t_end (UTC)", "B0 nT", "n0 cm^-3", "probes")
    print_table(headings, rows, numbers=headings[3:5])


@catalogues.command("check")
def catalogue_check(catalogue: CatalogueArgument = "rogers2023") -> None:
    """Check an event list; all bad rows are reported at once.

    Example: mms-regions catalogue check my-events.csv
    """
    from mms_regions.core.messages import counted

    chosen = chosen_events(catalogue)
    events, segments = counted(len(chosen.events), "event"), counted(len(chosen.segments()), "segment")
    print(f"{chosen.name}: {events}, {segments}, sha256 {chosen.sha256[:12]}")


@catalogues.command("schema")
def catalogue_schema() -> None:
    """Print the JSON schema of an event list: an array of its rows, each an object by column.

    Example: mms-regions catalogue schema
    """
    from mms_regions.cli.schemas import catalogue_schema

    print(json.dumps(catalogue_schema(), indent=2))
