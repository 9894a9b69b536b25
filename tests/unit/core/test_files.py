"""Files are whole or absent under their name, and notice a single bit that changed."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.manifest import read_manifest
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.errors import InputProblem
from mms_regions.core.files import (
    FAILPOINT,
    Damaged,
    busy_disk_retried,
    copy_of,
    is_busy,
    link,
    read_sealed,
    read_twice,
    remove,
    remove_folder,
    remove_tree,
    rename,
    sealed,
    sha256_of,
    write_changed,
    write_twice,
    write_whole,
)
from mms_regions.core.settings import read_profile
from mms_regions.model.card import read_model

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
data = st.dictionaries(st.text().filter(lambda name: name != "sha256"), plain, max_size=4)


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    assert sha256_of(path) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_where_writing_fails_the_old_file_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "x.json"
    write_whole(path, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"two")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"one"]


def test_the_mask_of_permissions_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@given(data=data, place=st.integers(0), bit=st.integers(0, 7))
def test_a_sealed_file_says_what_was_written_until_a_bit_of_it_changes(data: dict, place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        path.write_bytes(sealed(data))
        assert sealed(read_sealed(path)) == sealed(data)
        changed = bytearray(path.read_bytes())
        changed[place % len(changed)] ^= 1 << bit
        path.write_bytes(changed)
        with pytest.raises(Damaged, match=r"x\.json was changed or cut short"):
            read_sealed(path)


def test_what_is_written_twice_survives_the_loss_of_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert read_twice(path) is None
    write_twice(path, {"a": 1})
    for lost in (path, copy_of(path)):
        sound = lost.read_bytes()
        for content in (None, b"", sound[:-3]):
            lost.unlink() if content is None else lost.write_bytes(content)
            assert read_twice(path) == {"a": 1}
        lost.write_bytes(sound)
    path.write_bytes(b"")
    copy_of(path).unlink()
    with pytest.raises(Damaged):
        read_twice(path)


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert write_changed(path, b"one")
    os.utime(path, (1, 1))
    assert not write_changed(path, b"one") and path.stat().st_mtime == 1
    assert write_changed(path, b"two") and path.read_bytes() == b"two"


def test_a_disk_that_is_busy_is_told_from_one_that_is_full() -> None:
    assert is_busy(OSError(errno.ESTALE, "stale")) and is_busy(OSError(errno.EBUSY, "busy"))
    assert not is_busy(OSError(errno.ENOSPC, "full")) and not is_busy(ValueError())


def test_what_a_busy_disk_refuses_is_tried_three_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, refusals = list[float](), list[int]()
    monkeypatch.setattr("mms_regions.core.files.time.sleep", waits.append)

    @busy_disk_retried
    def write(text: str) -> str:
        if refusals:
            raise OSError(refusals.pop(0), "refused")
        return text

    refusals[:] = [errno.ESTALE] * 3
    assert write("text") == "text" and len(waits) == 3 and min(waits) > 0
    refusals[:] = [errno.EBUSY] * 4
    with pytest.raises(OSError, match="refused"):
        write("text")
    assert (refusals, len(waits)) == ([], 6)
    refusals[:] = [errno.ENOSPC]
    with pytest.raises(OSError, match="refused"):  # of a full disk nothing is better a moment later
        write("text")
    assert (refusals, len(waits)) == ([], 6)


PACKAGE = Path(__file__).parents[3] / "pipeline" / "mms_regions"
OWN_NAMES = {"unlink", "rmdir", "rmtree", "hardlink_to", "link_to", "renames", "move", "removedirs"}


def changes_of_names(path: Path) -> list[str]:
    """Calls of a module that rename, link or remove files past core/files."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, ast.unparse(node.func.value)
            of_path = name in {"rename", "replace"} and len(node.args) == 1 and not node.keywords
            if name in OWN_NAMES or of_path or (of == "os" and name in {"link", "remove", "rename", "replace"}):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_all_that_changes_names_of_files_goes_through_one_module_so_that_kills_can_be_tried_at_each() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "core" / "files.py"]
    found = [change for path in others for change in changes_of_names(path)]
    of_no_store = ("physics/", "doctor/disk.py", "synthetic/")  # of xarray; tries links out; serves files that it has
    assert len(others) > 90
    assert [change for change in found if not change.startswith(of_no_store)] == []


CHANGES = """
import sys
from pathlib import Path
from mms_regions.core.files import link, remove, remove_folder, remove_tree, rename, write_whole
here = Path(sys.argv[1])
write_whole(here / "a" / "one", b"1")
link(here / "a" / "one", here / "two")
rename(here / "two", here / "three")
remove(here / "three")
remove_tree(here / "a")
(here / "b").mkdir()
remove_folder(here / "b")
print("all done")
"""
ALL_CHANGES = ["rename a/one", "link two", "rename three", "unlink three", "unlink a/one", "rmdir a", "rmdir b"]


@pytest.mark.parametrize("count", [1, 3, 7, 8])
def test_a_process_is_killed_before_the_nth_change_of_a_name(tmp_path: Path, count: int) -> None:
    here, record = tmp_path / "here", tmp_path / "record"
    env = {**os.environ, FAILPOINT: f"{count}:{record}", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", CHANGES, here], env=env, capture_output=True, text=True, check=False)
    lines = [line.replace(f"{here}/", "") for line in record.read_text().splitlines()]
    assert lines == ALL_CHANGES[:count]
    assert (done.returncode, done.stdout) == ((-9, "") if count <= len(ALL_CHANGES) else (0, "all done\n"))


def test_a_pattern_chooses_what_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAILPOINT, f"0:{tmp_path / 'record'}:rename *.json")
    write_whole(tmp_path / "a.json", b"")
    rename(tmp_path / "a.json", tmp_path / "b.txt")
    remove(tmp_path / "b.txt")
    assert (tmp_path / "record").read_text() == f"rename {tmp_path / 'a.json'}\n"


def test_a_tree_is_removed_and_never_what_its_links_lead_to(tmp_path: Path) -> None:
    for folder in ("tree/deep", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "tree" / "linked").symlink_to(tmp_path / "elsewhere")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.rglob("*")] == ["elsewhere", "file"]


def test_a_link_does_not_take_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(FileExistsError):
        link(tmp_path / "one", tmp_path / "one")
    (tmp_path / "folder").mkdir()
    remove_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_folder_that_is_not_empty_after_all_is_left_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where a file that somebody reads gets another name until it is closed."""
    (tmp_path / "tree" / "read").mkdir(parents=True)
    (tmp_path / "tree" / "file").touch()
    rmdir = Path.rmdir

    def silly(folder: Path) -> None:
        if folder.name == "read":
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", silly)
    remove_tree(tmp_path / "tree")
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["read"]


def test_a_tree_that_may_not_be_removed_is_an_error_unless_best_effort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree", best_effort=True)


@pytest.mark.parametrize("read", [read_catalogue, read_profile, read_manifest, read_model])
def test_a_file_without_an_end_is_left(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/zero was read until memory was full."""
    monkeypatch.setattr("mms_regions.core.files._MOST", 1_000)
    named = tmp_path if read is read_model else Path("/dev/zero")
    (tmp_path / "card.json").symlink_to("/dev/zero")
    with pytest.raises(InputProblem, match="cannot be read: it has more than 1,000 bytes"):
        read(named)
