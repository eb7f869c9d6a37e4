"""The cache folder, and the entries in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnnc import std
from dnnc.cache import Shelf, _trim, cache_directory, sources_digest, write_atomically


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("DNNC_CACHE")
    assert cache_directory() == tmp_path / "home" / ".cache" / "dnnc"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "dnnc"
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("DNNC_CACHE", "off")
    assert cache_directory() is None


def test_no_cache_where_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    assert cache_directory() is None
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        monkeypatch.setenv("DNNC_CACHE", str(place))
        assert cache_directory() is None


def test_files_are_written_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"")
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 100])
def test_a_broken_entry_is_none(cache: Path, damage: bytes) -> None:
    shelf = Shelf("things", ".bin", most=10)
    shelf.write("a", b"one" * 20)
    (entry,) = cache.glob("things/*.bin")
    whole = entry.read_bytes()
    for broken in (damage, whole[:-1], whole.replace(b"eone", b"eOne", 1), whole + b"x"):
        entry.write_bytes(broken)
        assert shelf.read("a") is None
    entry.write_bytes(whole)
    assert shelf.read("a") == b"one" * 20


def test_a_folder_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise PermissionError(path)

    monkeypatch.setattr("dnnc.cache.write_atomically", fail)
    shelf = Shelf("things", ".bin", most=10)
    shelf.write("a", b"one")
    assert shelf.read("a") is None


def test_entries_are_found_by_their_keys(cache: Path) -> None:
    shelf = Shelf("things", ".bin", most=10)
    assert shelf.read("a") is None
    shelf.write("a", b"one")
    shelf.write("b", b"two")
    assert (shelf.read("a"), shelf.read("b")) == (b"one", b"two")
    assert len(list(cache.glob("things/*.bin"))) == 2


def test_without_a_cache_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNC_CACHE", "off")
    shelf = Shelf("things", ".bin", most=10)
    shelf.write("a", b"one")
    assert shelf.read("a") is None


def test_sources_that_are_newer_than_the_process(tmp_path: Path) -> None:
    digest = sources_digest.__wrapped__
    (tmp_path / "a.py").write_text("a = 1")
    os.utime(tmp_path / "a.py", (1, 1))
    old = digest(tmp_path)
    assert old == digest(tmp_path)
    (tmp_path / "b.py").write_text("b = 1")
    os.utime(tmp_path / "b.py", (1, 1))
    assert old != digest(tmp_path) == digest(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.py").write_text("c = 1")
    os.utime(tmp_path / "inner" / "c.py", (1, 1))
    with_inner = digest(tmp_path)
    (tmp_path / "inner" / "c.py").write_text("c = 2")
    os.utime(tmp_path / "inner" / "c.py", (1, 1))
    sources_digest.cache_clear()
    changed = digest(tmp_path)
    assert with_inner != changed == digest(tmp_path)
    # Python keeps what it compiles there, as soon as a module is imported.
    (tmp_path / "inner" / "__pycache__").mkdir()
    sources_digest.cache_clear()
    assert changed == digest(tmp_path)
    # This process may have imported what was there before.
    os.utime(tmp_path / "b.py")
    assert digest(tmp_path) != digest(tmp_path)


def test_the_library_is_parsed_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = std.library_items.__wrapped__()
    assert made == std.library_items()
    monkeypatch.setattr(std, "parse", None)
    assert std.library_items.__wrapped__() == made


def test_what_stopped_processes_left_is_removed(tmp_path: Path) -> None:
    old, new, entry = (tmp_path / name for name in (".a.o.x1", ".b.o.x2", "c.o"))
    for path in (old, new, entry):
        path.write_bytes(b"")
    for path in (old, entry):
        os.utime(path, (0, 0))
    _trim(tmp_path, ".o", 10)
    assert sorted(tmp_path.iterdir()) == [new, entry]


def test_very_many_entries_are_trimmed(tmp_path: Path) -> None:
    for k in range(12):
        path = tmp_path / f"{k}.o"
        path.write_bytes(b"x")
        os.utime(path, (k, k))
    _trim(tmp_path, ".o", 10)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [7, 8, 9, 10, 11]
