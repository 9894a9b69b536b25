"""Files are whole or absent under their name, and notice a single bit that changed."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.core.files import (
    Damaged,
    copy_of,
    is_busy,
    read_sealed,
    read_twice,
    sealed,
    sha256_of,
    write_changed,
    write_twice,
    write_whole,
)

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
