"""Where the CDF files of segments come from: a server, a folder alone, or exactly those of a manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mms_regions.archive.fetch import FetchOptions, FetchPlan, check_offline, fetch_segment, plan_segment
from mms_regions.archive.http import NetworkProblem
from mms_regions.archive.manifest import Pinned, damage_of, known_files, read_manifest, record_found, settle
from mms_regions.archive.products import has_files
from mms_regions.archive.servers import Source
from mms_regions.core.errors import SegmentProblem, UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.messages import Notify, Remark, counted
from mms_regions.core.settings import Settings
from mms_regions.physics.conventions import convention
from mms_regions.workers.pool import Pool

_PATIENCE = 5.0  # s


@dataclass(frozen=True)
class Inputs:
    """What a task needs to obtain the files of a segment.

    source: None where nothing is to be fetched; why_offline says so where the user did not ask for that.
    """

    terms: FetchOptions
    source: Source | None
    why_offline: str = ""

    @property
    def data_dir(self) -> Path:
        """The folder of the archive's layout that the files are in."""
        return self.terms.data_dir

    def over(self, pool: Pool, at_once: int, observe: Notify) -> Inputs:
        """The same for tasks of a pool: at most `at_once` requests at a time, and `observe` gets the transfers."""
        throttle = pool.throttle("transfers", at_once)
        return replace(self, terms=replace(self.terms, throttle=throttle, notify=pool.notifier(observe)))

    def near(self, segment: Segment) -> Inputs:
        """The same with no more of the manifests than this segment needs."""
        return replace(self, terms=self.terms.near(segment))


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
    pinned = read_manifest(settings.manifest) if settings.manifest else None
    terms = FetchOptions(how.products, how.margin, data_dir, pinned, known_files(data_dir))
    return Inputs(terms, None if why else source, why)


def refuse_no_files(segments: Sequence[Segment], inputs: Inputs) -> None:
    """Raise SegmentProblem where nothing is fetched and not one file is there: no need to find that out one by one."""
    where = inputs.terms.products, inputs.data_dir, inputs.terms.margin
    if inputs.source is not None or any(has_files(segment, *where) for segment in segments):
        return
    raise SegmentProblem(
        f"There is no file of {counted(len(segments), 'segment')} under {inputs.data_dir}, and nothing is fetched: "
        f"{inputs.why_offline or 'offline, as asked for'}. Fetch them on a machine with "
        "internet access (`mms-regions fetch`), or point --data-dir to the folder that holds mms1/ to mms4/"
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
            f"{why}{'. ' if why else ''}There is no folder {settings.data_dir} "
            f"({settings.origin.get('data_dir', 'default')}): give the one that holds mms1/ to mms4/, in --data-dir or "
            "MMS_DATA_DIR"
        )


def obtain_files(segment: Segment, inputs: Inputs) -> tuple[Pinned, ...]:
    """The files of a segment, verified, fetched where that is allowed and needed.

    Raises SegmentProblem where they cannot be had; EnvironmentProblem where the disk is in the way.
    """
    if inputs.source is not None:
        return fetch_segment(segment, inputs.source, inputs.terms)
    try:
        return check_offline(segment, inputs.terms)
    except SegmentProblem as problem:
        if not inputs.why_offline:
            raise
        raise SegmentProblem(
            f"{problem}. They were not fetched: {inputs.why_offline}; fetch them on a machine with internet access "
            "(`mms-regions fetch`)"
        ) from problem


def plan_files(segment: Segment, inputs: Inputs) -> FetchPlan:
    """What obtaining the files of a segment would transfer. Raises SegmentProblem where the server does not answer."""
    if inputs.source is None:
        raise SegmentProblem(f"{segment.key}: cannot be listed, {inputs.why_offline or 'offline as asked for'}")
    return plan_segment(segment, inputs.source, inputs.terms)


class Ledger:
    """The inputs of a run, opened when they are first needed, and the files that were obtained from them.

    A cache that nothing is fetched into is left as it is.
    """

    def __init__(self, opened: Callable[[], Inputs], pool: Pool, at_once: int, observe: Notify):
        self._open, self._pool, self._at_once, self._observe = opened, pool, at_once, observe
        self._inputs: Inputs | None = None
        self.files: dict[str, Pinned] = {}

    @property
    def inputs(self) -> Inputs:
        if self._inputs is None:
            self._inputs = self._open().over(self._pool, self._at_once, self._observe)
            if damage := damage_of(self._inputs.data_dir):
                self._observe(Remark(damage))
            self.write()  # what a run that was killed has left
        return self._inputs

    def note(self, pins: Iterable[Pinned]) -> None:
        """Keep the files of a segment, and in the cache's journal those that were there but not known.

        Those that were transferred are in it already.
        """
        news = [pin for pin in pins if pin.adds_to(self.files.get(pin.name))]
        self.files |= {pin.name: pin for pin in news}
        known = self.inputs.terms.known
        found = [pin for pin in news if pin.source == "cache" and pin.adds_to(known.get(pin.name))]
        if found and self.inputs.source is not None:
            record_found(self.inputs.data_dir, found, self._observe)

    def write(self) -> None:
        """Bring what is new into the cache's manifest."""
        if self._inputs is not None and self._inputs.source is not None:
            settle(self._inputs.data_dir, self._observe)
