"""Files and folders are there completely or not at all, whenever the process dies."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from maskris.utils.files import (
    atomic_file,
    atomic_folder,
    atomic_path,
    damage,
    is_lfs_pointer,
    read_json,
    recover_folder,
    sha256_of,
    write_json,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


@pytest.fixture
def dying(monkeypatch):
    """A function that lets all calls to the disk after the first few fail, those of clean-ups included."""

    def patch(moment):
        calls = 0

        def dying(function):
            def call(*arguments, **options):
                nonlocal calls
                if calls >= moment:
                    raise Killed
                calls += 1
                return function(*arguments, **options)

            return call

        monkeypatch.setattr(os, "fsync", dying(os.fsync))
        monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        for name in ("rename", "replace", "write_text", "chmod", "unlink"):
            monkeypatch.setattr(Path, name, dying(getattr(Path, name)))

    yield patch
    monkeypatch.undo()


def write(folder, text):
    with atomic_folder(folder) as new:
        (new / "deep").mkdir()
        (new / "deep" / "a").write_text(text)
        (new / "b").write_text(text)


@pytest.mark.parametrize("moment", range(15))
def test_a_kill_at_any_moment_leaves_a_complete_folder(tmp_path, dying, monkeypatch, moment):
    folder = tmp_path / "last"
    write(folder, "old")
    dying(moment)
    try:
        write(folder, "new")
    except Killed:
        died = True
    else:
        died = False
    monkeypatch.undo()
    assert died == (moment < 14)
    recover_folder(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"last"}
    texts = {(folder / "deep" / "a").read_text(), (folder / "b").read_text()}
    assert texts in ({"old"}, {"new"})
    write(folder, "newer")  # and the next writing finds nothing in its way
    assert (folder / "b").read_text() == "newer"


def test_a_first_writing_that_was_cut_off_leaves_nothing(tmp_path):
    (tmp_path / ".last.new").mkdir()
    (tmp_path / ".last.new" / "model.safetensors").write_text("half")
    recover_folder(tmp_path / "last")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_while_writing_keeps_the_old_folder(tmp_path):
    write(tmp_path / "last", "old")
    with pytest.raises(OSError, match="full"), atomic_folder(tmp_path / "last"):
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert (tmp_path / "last" / "b").read_text() == "old"


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_at_any_moment_leaves_a_complete_file(tmp_path, dying, monkeypatch, moment):
    file = tmp_path / "a.txt"
    file.write_text("old")
    dying(moment)
    try:
        with atomic_file(file) as stream:
            stream.write("new")
    except Killed:
        assert moment < 3
        expected = "old"
    else:
        expected = "new"
    monkeypatch.undo()
    assert file.read_text() == expected
    with atomic_file(file) as stream:
        stream.write("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_exception_while_writing_keeps_the_old_file(tmp_path):
    file = tmp_path / "deep" / "a.bin"
    with atomic_file(file, "wb") as stream:
        stream.write(b"old")
    with pytest.raises(TypeError, match="bytes"), atomic_file(file, "wb") as stream:
        stream.writelines([b"half", "text"])
    assert [(path.name, path.read_bytes()) for path in file.parent.iterdir()] == [("a.bin", b"old")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_that_the_umask_leaves(tmp_path, umask):
    previous = os.umask(umask)
    try:
        with atomic_path(tmp_path / "file.txt") as path:
            assert path.suffix == ".txt"
            path.touch(0o600)  # as libraries write that keep a file for its owner
        with atomic_folder(tmp_path / "folder") as new:
            (new / "file").touch(0o600)
        assert os.umask(umask) == umask
    finally:
        os.umask(previous)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file.txt", "folder/file", "folder")]
    assert modes == [0o666 & ~umask, 0o666 & ~umask, 0o777 & ~umask]


def test_text_keeps_its_line_ends_and_is_utf_8(tmp_path):
    with atomic_file(tmp_path / "a") as file:
        file.write("é\r\n\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\r\n\n"


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"b": [1, None]})
    assert read_json(tmp_path / "deep" / "a.json") == {"b": [1, None]}
    assert (tmp_path / "deep" / "a.json").read_text() == '{\n  "b": [\n    1,\n    null\n  ]\n}\n'
    write_json(tmp_path / "list.json", [1], indent=None)
    assert read_json(tmp_path / "list.json", list) == read_json(tmp_path / "list.json", object) == [1]
    with pytest.raises(TypeError):
        write_json(tmp_path / "list.json", {"a": object()})
    assert read_json(tmp_path / "list.json", list) == [1]


def test_damaged_json_is_named(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        read_json(file)
    for text, words in (
        ("[1]", r"a\.json is damaged or no JSON object \(it holds \[1\]\); copy or download it again"),
        ('{"a": ', r"a\.json is damaged or no JSON object \(Expecting value"),
        ("[" * 100_000, r"a\.json is damaged or no JSON object"),
        (POINTER, r"a\.json is a pointer of Git LFS .*; `git lfs pull` fetches it"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_json(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"damaged or no JSON file \(it holds \{\}\)"):
        read_json(file, list)


def test_damage_has_a_reason_of_one_line(tmp_path):
    file = tmp_path / "a"
    assert damage(file, "ZIP", OSError("one\ntwo")) == f"{file} is damaged or no ZIP (one); copy or download it again"
    assert "(KeyError)" in damage(file, "ZIP", KeyError())
    assert not is_lfs_pointer(file)
    assert not is_lfs_pointer(tmp_path)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
