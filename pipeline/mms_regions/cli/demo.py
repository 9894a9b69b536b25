"""The commands `synthesise` and `demo`, which need no MMS data."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import (
    CatalogueArgument,
    EventsOption,
    JsonOption,
    ProbesOption,
    WorkersOption,
    at_home,
    chosen_events,
    display,
    notify,
)

if TYPE_CHECKING:
    from mms_regions.model.scores import Agreement
    from mms_regions.synthetic.demo import Compared, Folder

_WIDE = 7  # characters of a column


class LayerName(StrEnum):
    """What can be crossed."""

    ANALYTIC = "analytic"
    SIMULATED = "simulated"


SeedOption = Annotated[int, typer.Option("--seed", help="Random seed of layers, crossings and noise.")]


def synthesise(
    catalogue: CatalogueArgument = "rogers2023",
    *,
    data_dir: Annotated[Path, typer.Option("--data-dir", callback=at_home, help="A folder for synthetic files only.")],
    seed: SeedOption = 0,
    events: EventsOption = None,
    probes: ProbesOption = None,
    gaps: Annotated[int, typer.Option("--gaps", help="Number of data gaps in each segment.")] = 0,
    flags: Annotated[int, typer.Option("--flags", help="Number of intervals of bad quality in each segment.")] = 0,
    background: Annotated[
        bool, typer.Option("--background", help="Ion background as large as the ion density.")
    ] = False,
    pieces: Annotated[int, typer.Option("--pieces", help="Number of files per burst.")] = 1,
    checksum: Annotated[bool, typer.Option("--checksum", help="Add the MD5 that real files have.")] = False,
    perfect: Annotated[bool, typer.Option("--perfect", help="No counting noise, no bad samples.")] = False,
    layer: Annotated[
        LayerName, typer.Option("--layer", help="What is crossed: an analytic layer, or a simulated sheet.")
    ] = LayerName.ANALYTIC,
) -> None:
    """Write MMS-like CDF files of crossings of a reconnection layer, and the true region of every sample.

    Example: mms-regions synthesise --events A,C-F --data-dir synthetic --seed 7
    Example: mms-regions synthesise --events A --data-dir kinetic --layer simulated
    Example: mms-regions synthesise --events A --probes 1 --data-dir troubled --gaps 3 --flags 2
    """
    from mms_regions.core.messages import counted
    from mms_regions.synthetic.instruments import Troubles
    from mms_regions.synthetic.snapshot import read_sheets
    from mms_regions.synthetic.write import synthesise as synthesise_segments

    segments = chosen_events(catalogue).segments(events, probes)
    troubles = Troubles(gaps, flags, background, pieces, perfect=perfect, checksum=checksum)
    synthesise_segments(
        segments,
        data_dir,
        seed,
        troubles,
        lambda segment: notify(f"synthesised {segment.key}"),
        sheets=read_sheets() if layer is LayerName.SIMULATED else (),
    )
    print(f"{data_dir}: {counted(len(segments), 'segment')}, SYNTHETIC; the true regions are in {data_dir / 'truth'}")


def demo(
    *,
    out: Annotated[
        Path | None, typer.Option("--out", callback=at_home, help="A folder. Default: a new temporary one.")
    ] = None,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a self-contained demonstration: label three synthetic events x four spacecraft, compare with the truth.

    Example: mms-regions demo --out demo-results
    """
    import tempfile

    from mms_regions.model.card import find_model
    from mms_regions.synthetic.demo import MODEL, Folder, demonstrate

    folder = Folder(out or Path(tempfile.mkdtemp(prefix="mms-regions-demo-")))
    model = find_model(MODEL, os.environ)
    with display(as_json) as observe:
        compared = demonstrate(
            folder, seed, workers, model, lambda segment: notify(f"synthesised {segment.key}"), observe
        )
    if as_json:
        print(json.dumps(_as_json(folder, compared)))
    else:
        _print_result(folder, compared)


def _as_json(folder: Folder, compared: list[Compared]) -> dict[str, Any]:
    from mms_regions.model.scores import agreement
    from mms_regions.synthetic.demo import total

    model, linear = total(compared)
    return {
        "folder": str(folder.path),
        "store": str(folder.store),
        "model": model.to_dict(),
        "logistic_regression": linear.to_dict(),
        "segments": [
            {
                "segment": one.segment.key,
                "samples": len(one.label),
                "shares": one.shares,
                "agreement": agreement(one.label, one.truth, len(one.regions)).to_dict(),
            }
            for one in compared
        ],
    }


def _print_result(folder: Folder, compared: list[Compared]) -> None:
    """The table, its meaning, the folders of results, and commands to try next."""
    from mms_regions.core.regions import by_kind
    from mms_regions.synthetic.demo import MODEL, total

    regions = by_kind(compared[0].regions)
    kinds = Counter(region.kind for region in regions)
    over = "".join(f"{f'{kind}, %':^{_WIDE * count}}" for kind, count in kinds.items())
    sides = "".join(f"{region.side.removesuffix('ward')[: _WIDE - 1]:>{_WIDE}}" for region in regions)
    print(f"{'':<20}{over}{'agreement with truth':>24}")
    print(f"{'segment':<10}{'samples':>8}  {sides}{'network':>12}{'logistic':>12}")
    for one in compared:
        print(_row(one))
    network, linear = total(compared)
    print(f"\nThe network: {_share(network)}.")
    print(f"A logistic regression, which uses each sample alone: {_share(linear)}.")
    print(f"The model {MODEL} was trained on other simulations; it is not validated on MMS data.\n")
    print(f"Pictures:  {folder.pictures}\nTables:    {folder.tables}\nStore:     {folder.store}\n")
    print(f"Next: open {folder.pictures / compared[0].segment.event.name}.png, or run")
    print(f"    {_command()} status {folder.store}")
    print(f"    {_command()} model show {MODEL}")
    print(f"    {_command()} run --help    (your own events, from MMS data)")


def _command() -> str:
    """The command as it was typed, so that suggestions can be copied."""
    typed = Path(sys.argv[0])
    return str(typed) if typed.name == "mms-regions" else "mms-regions"


def _row(one: Compared) -> str:
    from mms_regions.core.regions import by_kind
    from mms_regions.model.scores import agreement

    shares = "".join(f"{100 * one.shares[region.index]:>{_WIDE}.1f}" for region in by_kind(one.regions))
    network, linear = (agreement(labels, one.truth, len(one.regions)) for labels in (one.label, one.linear))
    return f"{one.segment.key:<10}{len(one.label):>8}  {shares}{network.overall:>12.1%}{linear.overall:>12.1%}"


def _share(scores: Agreement) -> str:
    from mms_regions.core.messages import counted

    right = f"{scores.overall:.1%} of {counted(scores.samples, 'sample')} right"
    return f"{right}, {scores.balanced:.1%} balanced over regions"
