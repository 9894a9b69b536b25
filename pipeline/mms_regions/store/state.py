"""State files beside a store: each is there twice, and sealed with its kind and the store that it is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.files import Damaged, copy_of, read_sealed, remove, write_twice


def read_state(path: Path, uuids: Collection[str] = ()) -> dict[str, Any] | None:
    """What a state file or its copy says; None where there is none of this kind and store.

    uuids: that the store has, or had until all of it was to be made again; any where there are none. Files of earlier
    versions name neither kind nor store, and are taken as they are. Raises EnvironmentProblem where both were damaged.
    """
    damaged: Damaged | None = None
    for place in (path, copy_of(path)):
        try:
            data = read_sealed(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Damaged as problem:
            damaged = damaged or problem
            continue
        if not foreign(data, path, uuids):
            return {name: value for name, value in data.items() if name not in ("kind", "store")}
    if damaged is not None:
        raise EnvironmentProblem(f"{damaged}, and so was its copy; make the store again, under another name")
    return None


def foreign(data: Mapping[str, Any], path: Path, uuids: Collection[str]) -> str:
    """What a state file is where it is not what its path says, in words; empty for one that is."""
    kind, store = data.get("kind", path.stem), data.get("store")
    if kind != path.stem:
        return f"is {kind}.json under another name"
    return f"is of another store ({store})" if store and uuids and store not in uuids else ""


def write_state(path: Path, uuid: str, data: Mapping[str, Any]) -> None:
    write_twice(path, {"kind": path.stem, "store": uuid, **data})


def mend_state(path: Path, uuids: Sequence[str]) -> None:
    """Write again what of a file and its copy is damaged or of another store; with nothing of this one, remove both."""
    data = read_state(path, uuids)
    if data is not None:
        write_state(path, uuids[0], data)
        return
    for place in (path, copy_of(path)):
        remove(place)
