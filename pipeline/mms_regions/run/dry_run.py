"""What a run would do, and the space that takes, without doing it."""

from __future__ import annotations

from dataclasses import dataclass

from mms_regions.archive.products import has_files
from mms_regions.physics.conventions import convention
from mms_regions.run.begin import RunRequest, planned
from mms_regions.run.inputs import require_data_dir
from mms_regions.run.todo import keys_to_redo, outstanding
from mms_regions.store.estimate import Free, Space, free_at, shortage, space_for
from mms_regions.store.labels import read_labelled
from mms_regions.store.receipts import labelled_shards, written_shards
from mms_regions.store.relabel import wanted_labels


@dataclass(frozen=True)
class PlannedRun:
    """What a run would make of a store, and the space that takes. without_files: segments to prepare and to fetch."""

    model: str
    segments: int
    to_prepare: int
    to_write: int
    to_label: int
    without_files: int
    needed: Space
    free: Free
    shortages: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.to_prepare or self.to_write or self.to_label)


def plan_run(request: RunRequest) -> PlannedRun:
    """What `run` would do; nothing is written, nothing is fetched. Raises what `run` refuses a store for."""
    store, settings = request.store, request.settings
    data_dir, how = require_data_dir(settings), convention(settings)
    plan = planned(request)
    written, labelled = written_shards(store, plan), read_labelled(store)
    wanted = wanted_labels(store, plan, request.model, settings)
    same = labelled is not None and labelled.sha256 == wanted.sha256
    done = labelled_shards(store, store, plan, written, wanted) if same else {}
    todo = outstanding(plan, written, done, keys_to_redo(store, plan, settings, request.redo))
    new = sum(number not in written for number in todo.unwritten)
    needed, free = space_for(plan, new), free_at(store)
    return PlannedRun(
        model=settings.model,
        segments=len(plan.slots),
        to_prepare=len(todo.segments),
        to_write=len(todo.unwritten),
        to_label=len(todo.unlabelled) + len(todo.unwritten),
        without_files=sum(not has_files(s.segment, how.products, data_dir, how.margin) for s in todo.segments),
        needed=needed,
        free=free,
        shortages=tuple(shortage(needed, free)),
    )
