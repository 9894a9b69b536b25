"""Where the CDF files of segments come from: a server, a folder alone, or exactly those of a manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mms_regions.archive import Product, file_named, has_files
from mms_regions.catalogue import Segment
from mms_regions.cluster import Pool
from mms_regions.errors import SegmentProblem, UsageProblem
from mms_regions.fetch import FetchPlan, check_offline, fetch_segment, pin_new, plan_segment
from mms_regions.manifest import Manifest, Pinned, known_files, read_manifest, record
from mms_regions.prepare import convention
from mms_regions.servers import Source
from mms_regions.settings import Settings
from mms_regions.traffic import FetchEvent, Tell, Throttle, TransferDone, tell_nobody
from mms_regions.web import NetworkProblem

_PATIENCE = 5.0  # s
_AT_ONCE = 64  # segments between two writings of the cache's manifest


@dataclass(frozen=True)
class Inputs:
    """What a task needs to obtain the files of a segment.

    source: None where nothing is to be fetched; why_offline says so where that was not the user's wish. pinned: the
    only files that will do, if any. known: what the cache's own manifest says.
    """

    products: tuple[Product, ...]
    margin: float  # s
    data_dir: Path
    source: Source | None
    why_offline: str
    pinned: Manifest | None
    known: Manifest
    throttle: Throttle = nullcontext
    tell: Tell = tell_nobody

    def over(self, pool: Pool, at_once: int, observe: Tell) -> Inputs:
        """The same for tasks of a pool: `at_once` requests of all of them, and `observe` hears of transfers."""
        return replace(self, throttle=pool.throttle("transfers", at_once), tell=pool.teller(observe))

    def near(self, segment: Segment) -> Inputs:
        """The same with no more of the manifests than this segment needs: it travels to a worker."""
        pinned = None if self.pinned is None else self.pinned.near(segment)
        return replace(self, pinned=pinned, known=self.known.near(segment))


def open_inputs(settings: Settings) -> Inputs:
    """The inputs that settings ask for. A server that cannot be reached leaves what is in the folder.

    Raises UsageProblem where no data folder is named, or nothing can be fetched and there is none; InputProblem for a
    bad manifest.
    """
    data_dir, how = require_data_dir(settings), convention(settings)
    source = None if settings.offline else Source(settings.source, settings.archive_url)
    why = _why_unreachable(source) if source else ""
    if source is None or why:
        _refuse_nothing_at_all(settings, why)
    return Inputs(
        products=how.products,
        margin=how.margin,
        data_dir=data_dir,
        source=None if why else source,
        why_offline=why,
        pinned=read_manifest(settings.manifest) if settings.manifest else None,
        known=known_files(data_dir),
    )


def refuse_no_files(segments: Sequence[Segment], inputs: Inputs) -> None:
    """Raise SegmentProblem where nothing is fetched and not one file is there: no need to find that out one by one."""
    where = inputs.products, inputs.data_dir, inputs.margin
    if inputs.source is not None or any(has_files(segment, *where) for segment in segments):
        return
    raise SegmentProblem(
        f"None of the {len(segments)} segments has a file under {inputs.data_dir}, and nothing is fetched: "
        f"{inputs.why_offline or 'offline, as asked for'}. Fetch them where there is a way out (`mms-regions fetch`), "
        "or point --data-dir to the folder that holds mms1/ to mms4/"
    )


def _why_unreachable(source: Source) -> str:
    """A sentence, or nothing where the server answers. Looking up its name has no time limit of its own."""
    found = [f"{source.base} does not answer within {_PATIENCE:g} s"]

    def ask() -> None:
        try:
            source.require_answer()
            found.append("")
        except NetworkProblem as problem:
            found.append(str(problem))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return found[-1]


def require_data_dir(settings: Settings) -> Path:
    """The data folder that settings name. Raises UsageProblem where they name none."""
    if settings.data_dir is None:
        raise UsageProblem(
            "Where are the CDF files? Give --data-dir, or set MMS_DATA_DIR to the folder that holds mms1/ to mms4/"
        )
    return settings.data_dir


def _refuse_nothing_at_all(settings: Settings, why: str) -> None:
    """Raise UsageProblem where nothing can be fetched and nothing can be there."""
    if settings.data_dir is not None and not settings.data_dir.is_dir():
        raise UsageProblem(
            f"There is no folder {settings.data_dir} ({settings.origin.get('data_dir', 'default')}): give the one that "
            f"holds mms1/ to mms4/, in --data-dir or MMS_DATA_DIR{'. ' if why else ''}{why}"
        )


def obtain_files(segment: Segment, inputs: Inputs) -> tuple[Pinned, ...]:
    """The files of a segment, verified, fetched where that is allowed and needed.

    Raises SegmentProblem where they cannot be had; EnvironmentProblem where the disk is in the way.
    """
    what = (segment, inputs.products, inputs.margin, inputs.data_dir)
    if inputs.source is not None:
        return fetch_segment(*what, inputs.source, inputs.pinned, inputs.known, inputs.throttle, inputs.tell)
    try:
        return check_offline(*what, inputs.pinned, inputs.known)
    except SegmentProblem as problem:
        if not inputs.why_offline:
            raise
        raise SegmentProblem(
            f"{problem}. They were not fetched: {inputs.why_offline}; fetch them where there is a way out "
            "(`mms-regions fetch`)"
        ) from problem


def plan_files(segment: Segment, inputs: Inputs) -> FetchPlan:
    """What obtaining the files of a segment would transfer. Raises SegmentProblem where the server does not answer."""
    if inputs.source is None:
        raise SegmentProblem(f"{segment.key}: cannot be listed, {inputs.why_offline or 'offline as asked for'}")
    what = (segment, inputs.products, inputs.margin, inputs.data_dir)
    return plan_segment(*what, inputs.source, inputs.pinned, inputs.known, inputs.throttle, inputs.tell)


class Ledger:
    """The inputs of a run, opened when they are first needed, and the files that were obtained from them."""

    def __init__(self, opened: Callable[[], Inputs], pool: Pool, at_once: int, observe: Tell):
        self._open, self._pool, self._at_once, self._observe = opened, pool, at_once, observe
        self._unwritten: list[Pinned] = []
        self._segments = 0
        self.files: dict[str, Pinned] = {}

    @cached_property
    def inputs(self) -> Inputs:
        return self._open().over(self._pool, self._at_once, self._hear)

    def _hear(self, event: FetchEvent) -> None:
        """Keep where a file came from at once: its segment may fail, or be interrupted, for want of another file."""
        if isinstance(event, TransferDone) and self.inputs.source is not None:
            file = file_named(event.name, self.inputs.data_dir)
            if file is not None:
                server = self.inputs.source.server
                self._unwritten.append(pin_new(file, event.size, event.sha256, server, event.url))
        self._observe(event)

    def note(self, pins: Iterable[Pinned]) -> None:
        """Keep the files of a segment; the cache's manifest learns of them now and then, for all of it is written."""
        for pin in pins:
            self.files[pin.name] = pin
            if self.inputs.known.get(pin.name) != pin:
                self._unwritten.append(pin)
        self._segments += 1
        if self._segments % _AT_ONCE == 0:
            self.write()

    def write(self) -> None:
        """Bring what is new into the cache's manifest. A cache that nothing is fetched into is left as it is."""
        unwritten, self._unwritten = self._unwritten, []  # transfers are told of in another thread
        if unwritten and self.inputs.source is not None:
            record(self.inputs.data_dir, unwritten)
