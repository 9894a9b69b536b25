"""Which files there are, exactly: name, version, size, sha256, source and time of each, kept as manifest.json."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mms_regions.archive import CdfFile, file_named
from mms_regions.arrays import DAY
from mms_regions.catalogue import Segment
from mms_regions.errors import EnvironmentProblem, InputProblem
from mms_regions.files import write_whole
from mms_regions.servers import Wish, choose
from mms_regions.staging import workspace

SourceName = Literal["sdc", "spdf", "cache"]

_MOST_PROBLEMS = 5
_NEAR = 2 * DAY


def _name_of_a_file(name: str) -> str:
    if file_named(name, Path()) is None:
        raise ValueError("is not the name of an MMS file that is used here")
    return name


class Pinned(BaseModel):
    """One file, exactly. size: bytes; source: sdc, spdf, or cache for a file that was there; fetched: UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_name_of_a_file)]
    version: str
    size: Annotated[int, Field(gt=0, strict=True)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    source: SourceName
    url: str = ""
    fetched: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]

    @model_validator(mode="after")
    def _version_as_in_name(self) -> Self:
        if self.file(Path()).version_text != self.version:
            raise ValueError(f"version {self.version} is not that of {self.name}")
        return self

    def file(self, data_dir: Path) -> CdfFile:
        """The file as its name describes it, where it lies below `data_dir`."""
        if (file := file_named(self.name, data_dir)) is None:
            raise ValueError(f"{self.name!r} is not the name of an MMS file that is used here")
        return file


class Manifest(BaseModel):
    """Files, each once, sorted by name when written. Raises pydantic.ValidationError for a name that is there twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: tuple[Pinned, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(self._by_name) < len(self.files):
            raise ValueError("it names a file twice")
        return self

    @cached_property
    def _by_name(self) -> dict[str, Pinned]:
        return {pinned.name: pinned for pinned in self.files}

    @cached_property
    def _described(self) -> list[tuple[Pinned, CdfFile]]:
        return [(pinned, pinned.file(Path())) for pinned in self.files]

    def get(self, name: str) -> Pinned | None:
        """What is known of a file."""
        return self._by_name.get(name)

    def chosen(self, wish: Wish) -> tuple[Pinned, ...]:
        """The files of a product, spacecraft and interval, the highest version of each, in order of start."""
        return choose(self.files, wish)

    def near(self, segment: Segment) -> Manifest:
        """All that it knows of a spacecraft within two days of an event: what a task needs of a large manifest."""
        begin, end = segment.event.trange
        return Manifest(
            files=tuple(
                pinned
                for pinned, file in self._described
                if file.probe == segment.probe and begin - _NEAR < file.start < end + _NEAR
            )
        )

    def merged(self, newer: Iterable[Pinned]) -> Manifest:
        """This manifest with `newer` entries in the place of older ones of the same name."""
        files = self._by_name | {pinned.name: pinned for pinned in newer}
        return Manifest(files=tuple(files[name] for name in sorted(files)))


def manifest_path(data_dir: Path) -> Path:
    """The manifest of a cache."""
    return workspace(data_dir) / "manifest.json"


def read_manifest(path: Path) -> Manifest:
    """A manifest that somebody wrote. Raises InputProblem with what is wrong and where."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputProblem(
            f"There is no manifest {path}; give the path of one, such as {manifest_path(Path())}."
        ) from None
    except OSError as problem:
        raise InputProblem(
            f"The manifest {path} cannot be read: {problem.strerror}; give a readable file."
        ) from problem
    except ValidationError as problem:
        raise InputProblem(
            f"The manifest {path} cannot be used: {_in_words(problem)}. Correct it or fetch anew."
        ) from None


def known_files(data_dir: Path) -> Manifest:
    """The manifest of a cache, empty where there is none yet. Raises InputProblem where it is damaged."""
    path = manifest_path(data_dir)
    return read_manifest(path) if path.exists() else Manifest()


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write it whole, sorted by name. Raises EnvironmentProblem where that cannot be done."""
    content = manifest.merged(()).model_dump(mode="json")
    try:
        write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as problem:
        raise EnvironmentProblem(f"{path} cannot be written: {problem.strerror or problem}") from problem


def record(data_dir: Path, newer: Iterable[Pinned]) -> Manifest:
    """Merge `newer` into the manifest of a cache, also while another process does the same; what it holds then."""
    with _alone(manifest_path(data_dir)):
        known = known_files(data_dir)
        merged = known.merged(newer)
        if merged != known:
            write_manifest(manifest_path(data_dir), merged)
        return merged


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other process writes this manifest."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    except OSError as problem:
        raise EnvironmentProblem(f"{path} cannot be written: {problem.strerror}") from problem
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _in_words(problem: ValidationError) -> str:
    """The first few of what is wrong, each with where it is."""
    errors = problem.errors(include_url=False, include_input=False)
    shown = [f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}" for error in errors[:_MOST_PROBLEMS]]
    more = [f"and {len(errors) - len(shown)} more"] if len(errors) > len(shown) else []
    return "; ".join(shown + more)
