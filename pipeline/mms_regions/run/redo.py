"""Segments that are to be made anew though they are there, until they have been."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import UsageProblem
from mms_regions.core.files import Damaged, copy_of, read_twice, remove, write_twice
from mms_regions.store.paths import redo_path
from mms_regions.store.plan import Plan

ALL, CHANGED = "all", "changed"


def keys_named(words: str, plan: Plan, changed: Callable[[], Collection[str]]) -> set[str]:
    """The keys that words such as `A,C-F,B/mms4` name; `all` is all, `changed` what is not made from today's files.

    Raises UsageProblem for a word that names nothing in the plan.
    """
    return {key for word in words.split(",") if word.strip() for key in _named(word.strip(), plan, changed)}


def _named(word: str, plan: Plan, changed: Callable[[], Collection[str]]) -> Collection[str]:
    keys = [slot.segment.key for slot in plan.slots]
    if word == ALL:
        return keys
    if word == CHANGED:
        return changed()
    if word in keys:
        return [word]
    try:
        events = {segment.event.name for segment in Catalogue("the store", plan.events).segments(word)}
    except UsageProblem:
        raise UsageProblem(
            f"--redo {word} names no segment of the store; give keys such as {keys[0]}, events such as "
            f"{plan.events[0].name}, `{CHANGED}` or `{ALL}`"
        ) from None
    return [slot.segment.key for slot in plan.slots if slot.segment.event.name in events]


def read_redo(store: Path) -> tuple[str, set[str]]:
    """What was asked to be made anew, and which keys of it are still to be; nothing where nothing is."""
    try:
        data = read_twice(redo_path(store))
    except Damaged:
        data = None  # a wish that is lost is made again
    return (data["asked"], set(data["keys"])) if data else ("", set())


def write_redo(store: Path, asked: str, keys: Collection[str]) -> None:
    """Keep what is still to be made anew, for a run that goes on after this one was killed."""
    if keys:
        write_twice(redo_path(store), {"asked": asked, "keys": sorted(keys)})
    else:
        for path in (redo_path(store), copy_of(redo_path(store))):
            remove(path)
