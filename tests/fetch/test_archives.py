"""Archives that are not what they should be, made of a few bytes each."""

import contextlib
import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.fetch import ArchiveError, archives, extract

MEMBERS = ["instances.json", "refs(unc).p"]
CONTENT = {"mini/instances.json": b"{}", "mini/refs(unc).p": b"refs"}


def zipped(path, files, links=(), method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
        for name in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(info, "elsewhere")
    return path


def taped(path, files, links=(), kind=tarfile.SYMTYPE, mode="w"):
    with tarfile.open(path, mode) as tape:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere"
            tape.addfile(info)
    return path


MAKERS = pytest.mark.parametrize("make", [zipped, taped])


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_chosen_members_arrive_and_nothing_else(tmp_path, mode):
    files = CONTENT | {"mini/readme.txt": b"x", "__MACOSX/mini/._refs(unc).p": b"x", "other/instances.json.bak": b"x"}
    file = tmp_path / "a"
    zipped(file, files) if mode == "zip" else taped(file, files, mode=mode)
    out = tmp_path / "out"
    assert extract(file, out, MEMBERS, root="mini", shown=False) == [out / name for name in MEMBERS]
    assert names(out) == MEMBERS
    assert (out / "refs(unc).p").read_bytes() == b"refs"


@pytest.mark.parametrize(
    "prefix", ["mini/", "./mini/", "data/mini/", "other/", "", "data\\mini\\"], ids=lambda prefix: prefix or "none"
)
def test_folders_in_the_archive_do_not_matter(tmp_path, prefix):
    file = zipped(tmp_path / "a.zip", {prefix + name: b"x" for name in MEMBERS})
    extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    assert names(tmp_path / "out") == MEMBERS


def test_folders_below_the_root_stay(tmp_path):
    file = zipped(
        tmp_path / "a.zip", {"x/photos/08/images/1.jpg": b"1", "x/photos/2.jpg": b"2", "x/photos/.3.jpg": b"3"}
    )
    extract(file, tmp_path / "out", ["*.jpg"], root="photos", shown=False)
    assert names(tmp_path / "out") == ["08/images/1.jpg", "2.jpg"]
    extract(file, tmp_path / "some", ["*.jpg"], root="photos", only={"2.jpg", "9.jpg"}, shown=False)
    assert names(tmp_path / "some") == ["2.jpg"]


@MAKERS
@pytest.mark.parametrize("name", ["../x.txt", "mini/../../x.txt", "/x.txt", "C:\\x.txt", "..\\x.txt", "\\\\host\\x\\y"])
def test_names_that_lead_outside_are_refused(tmp_path, make, name):
    file = make(tmp_path / "a", CONTENT | {name: b"out"})
    with pytest.raises(ArchiveError, match=r"nothing was extracted: .*x.* leads outside"):
        extract(file, tmp_path / "in" / "out", MEMBERS, root="mini", shown=False)
    assert names(tmp_path) == ["a"]


PARTS = ["..", ".", "", "mini", "C:", "__MACOSX", "instances.json", "refs(unc).p"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).filter(any), st.sampled_from("/\\"))
def test_no_name_writes_outside_of_the_folder(tmp_path_factory, parts, slash):
    folder = tmp_path_factory.mktemp("names")
    name = slash.join(parts)
    file = zipped(folder / "a.zip", {name: b"x"})
    with contextlib.suppress(ArchiveError):
        extract(file, folder / "in" / "out", ["*.json", "refs*"], root="mini", shown=False)
    for path in folder.rglob("*"):
        assert path == file or path in (folder / "in", folder / "in" / "out") or folder / "in" / "out" in path.parents
    if ".." in parts:
        assert names(folder) == ["a.zip"]


@MAKERS
def test_links_are_refused(tmp_path, make):
    for link in ("mini/refs(unc).p", "mini/other"):
        file = make(tmp_path / "a", {"mini/instances.json": b"{}"}, [link])
        with pytest.raises(ArchiveError, match=r"nothing was extracted: 'mini/.*' is a link or device"):
            extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_hard_links_are_refused(tmp_path, kind):
    file = taped(tmp_path / "a", CONTENT, ["mini/other"], kind)
    with pytest.raises(ArchiveError, match="is a link or device"):
        extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    assert names(tmp_path) == ["a"]


@MAKERS
def test_more_bytes_than_the_limit_are_refused_before_the_first(tmp_path, make):
    file = make(tmp_path / "a", CONTENT)
    with pytest.raises(ArchiveError, match=r"with mini/refs\(unc\)\.p it would fill too many bytes"):
        extract(file, tmp_path / "out", MEMBERS, root="mini", limit=5, shown=False)
    assert names(tmp_path) == ["a"]
    assert extract(file, tmp_path / "out", MEMBERS, root="mini", limit=6, shown=False)


def test_what_unpacks_to_hundreds_of_times_its_size_is_refused(tmp_path):
    files = {"mini/instances.json": bytes(400_000), "mini/refs(unc).p": b"x"}
    file = zipped(tmp_path / "a.zip", files, method=zipfile.ZIP_DEFLATED)
    assert archives.MAX_RATIO * file.stat().st_size < 400_000
    with pytest.raises(ArchiveError, match="too many bytes"):
        extract(file, tmp_path / "out", MEMBERS, root="mini", limit=10**9, shown=False)


@pytest.mark.parametrize(("declared", "reason"), [(3, "longer than it says"), (9, "shorter than it says")])
def test_bytes_are_counted_while_they_are_written(tmp_path, monkeypatch, declared, reason):
    """As if the archive lied in a way that its format doesn't notice."""
    file = zipped(tmp_path / "a.zip", CONTENT)
    real = archives._Entry
    monkeypatch.setattr(archives, "_Entry", lambda name, size, *_: real(name, declared if size == 4 else size, *_))
    with pytest.raises(ArchiveError, match=reason):
        extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    assert names(tmp_path) == ["a.zip", "out/instances.json"]


@MAKERS
def test_a_member_there_twice_is_refused(tmp_path, make):
    file = make(tmp_path / "a", CONTENT | {"copy/refs(unc).p": b"other"})
    with pytest.raises(ArchiveError, match=r"holds refs\(unc\)\.p twice: mini/refs\(unc\)\.p and copy/refs\(unc\)\.p"):
        extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    with pytest.raises(ArchiveError, match=r"lacks grefs\.json"):
        extract(file, tmp_path / "out", ["instances.json", "grefs.json"], root="mini", shown=False)


def test_damage_is_named(tmp_path):
    file = zipped(tmp_path / "a.zip", CONTENT, method=zipfile.ZIP_STORED)
    content = bytearray(file.read_bytes())
    content[content.index(b"refs", content.index(b".p")) + 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a\.zip is damaged or no archive: Bad CRC-32"):
        extract(file, tmp_path / "out", MEMBERS, root="mini", shown=False)
    assert not (tmp_path / "out" / "refs(unc).p").exists()
    whole = taped(tmp_path / "b", CONTENT, mode="w:gz").read_bytes()
    (tmp_path / "b").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="damaged"):
        extract(tmp_path / "b", tmp_path / "out", MEMBERS, root="mini", shown=False)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_what_is_no_archive_is_said(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("any") / "a"
    file.write_bytes(content)
    with pytest.raises(ArchiveError):
        extract(file, file.parent / "out", MEMBERS, root="mini", shown=False)


def test_what_was_extracted_is_kept_and_other_files_are_refused(tmp_path):
    file = zipped(tmp_path / "a.zip", CONTENT)
    out = tmp_path / "out"
    out.mkdir()
    (out / "refs(unc).p").write_bytes(b"mine")
    extract(file, out, MEMBERS, root="mini", shown=False)
    assert (out / "refs(unc).p").read_bytes() == b"mine"  # the same size: what an interrupted extraction left
    (out / "refs(unc).p").write_bytes(b"longer")
    with pytest.raises(FileExistsError, match="with another size"):
        extract(file, out, MEMBERS, root="mini", shown=False)
    assert (out / "refs(unc).p").read_bytes() == b"longer"
