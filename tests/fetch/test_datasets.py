"""`fetch_datasets` against a local server: from addresses to a table."""

import io
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest
from faulty_server import status, whole
from fetch_world import SPLITS, annotations, jpeg, pack, photo_name, sha256

from maskris.cli.main import main
from maskris.data.prepare import prepare_dataset
from maskris.data.table import ReferringTable
from maskris.fetch import datasets, fetch_table_photos, sources
from maskris.utils.download import DownloadError
from maskris.utils.files import read_json


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_from_an_address_to_the_same_table(world, tmp_path):
    """What lies in the folder afterwards is what the archives hold, where `maskris prepare` looks for it."""
    report = world.fetch(photos="needed")
    photos = [f"train2014/{photo_name(i)}" for i in range(5)]
    assert files(tmp_path / "data") == [".lock", "mini/instances.json", "mini/refs(unc).p", *photos]
    assert {name: (c.images, c.referents, c.expressions) for name, c in report.counts["mini", "unc"].items()} == {
        "train": (2, 2, 4),
        "val": (1, 1, 2),
        "testA": (1, 1, 2),
        "testB": (1, 1, 2),
    }
    assert (report.photos[0].fetched, report.photos[0].there, report.failed) == (5, 0, [])
    command = f"maskris prepare {tmp_path / 'data'} --dataset mini --split-by unc --out mini.parquet"
    assert report.commands == [command]
    direct = tmp_path / "direct"
    (direct / "mini").mkdir(parents=True)
    (direct / "train2014").mkdir()
    for name, content in world.members.items():
        (direct / "mini" / name).write_bytes(content)
    for i in range(5):
        (direct / "train2014" / photo_name(i)).write_bytes(jpeg(i))
    prepare_dataset(direct, direct / "t.parquet", progress=False)
    words = [*command.split()[1:-1], str(tmp_path / "data" / "t.parquet")]
    assert main(words) == 0
    assert (tmp_path / "data" / "t.parquet").read_bytes() == (direct / "t.parquet").read_bytes()
    world.server.requests.clear()
    again = world.fetch(photos="needed")
    assert (again.photos[0].there, world.asked) == (5, [])


def test_a_file_in_the_place_of_the_folder_is_named(world, tmp_path):
    (tmp_path / "data").rmdir()
    (tmp_path / "data").symlink_to("nowhere")
    with pytest.raises(NotADirectoryError, match="data is no folder, or leads to none; choose another one with --out"):
        world.fetch()


def test_a_mirror_takes_over_and_the_archive_is_not_kept(world, tmp_path):
    """A mirror with the same members in a tar archive, under another folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tape:
        for name, content in world.members.items():
            info = tarfile.TarInfo(f"./other/{name}")
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
    second = {"file": "mirror.tar.gz", "urls": [world.server.give("/mirror.tar.gz", whole(file.getvalue()))]}
    world.manifest["annotations"]["mini"]["sources"].append({"sure": "C", "parts": [second]})
    world.server.give("/mini.zip", status(403))
    world.fetch()
    assert files(tmp_path / "data") == [".lock", "mini/instances.json", "mini/refs(unc).p"]
    assert [path for path, *_ in world.server.requests] == ["/mini.zip", "/mirror.tar.gz"]
    assert list(read_json(tmp_path / "cache" / "hashes.json")) == second["urls"]


@pytest.mark.parametrize(
    "answer",
    [
        status(404),
        status(302, Location="/mini.zip"),
        whole(b"another file"),
        whole(b"<html>Sign in</html>", kind="text/html"),
        whole(length=20, cut=20),
    ],
    ids=["missing", "redirect loop", "other bytes", "web page", "another length"],
)
def test_another_address_of_the_same_archive_takes_over(world, tmp_path, answer):
    good = world.server.give("/moved", status(302, Location="/second"))  # one redirect is followed
    world.server.give("/second", whole(world.archive))
    world.server.give("/mini.zip", answer)
    world.part["urls"].append(good)
    world.fetch()
    for name, content in world.members.items():
        assert (tmp_path / "data" / "mini" / name).read_bytes() == content


def test_without_any_source_every_reason_is_given_and_what_to_do(world, tmp_path):
    world.part["urls"].append(world.server.give("/second", status(404)))
    world.server.give("/mini.zip", status(403))
    with pytest.raises(DownloadError, match=r"(?s)403 Forbidden.*404 Not Found.*get mini\.zip elsewhere.*--from"):
        world.fetch()
    assert not (tmp_path / "data" / "mini").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"instances.json": b"{}"}, "the SHA-256 of instances.json is"),
        ({"refs(unc).p": b"\x80\x02c__main__\nx\n."}, "refused, because it asks for __main__.x"),
        ({"refs(unc).p": b"cut"}, "damaged or no pickle"),
        ({"refs(unc).p": b"\x80\x02]q\x00}q\x01a."}, "is no list of referents with image_id, sentences, split"),
    ],
)
def test_wrong_members_are_not_kept(world, tmp_path, change, reason):
    item = world.manifest["annotations"]["mini"]
    item["members"]["instances.json"] = sha256(world.members["instances.json"])
    world.offer(pack(world.members | change), sha256=None)
    with pytest.raises(DownloadError, match=reason):
        world.fetch()
    assert not (tmp_path / "data" / "mini").exists()
    assert not (tmp_path / "cache" / "hashes.json").exists()
    world.offer(pack(world.members), sha256=None)  # whoever repairs it is not refused for being another one
    world.fetch()
    assert (tmp_path / "data" / "mini").exists()


def test_a_lacking_member_is_named(world):
    world.offer(pack({"instances.json": b"{}"}))
    with pytest.raises(DownloadError, match=r"mini\.zip lacks refs\(unc\)\.p"):
        world.fetch()


def test_other_numbers_than_published_are_refused_where_no_hash_is_known(world, tmp_path):
    annotations = world.manifest["annotations"]
    annotations["refcoco"] = annotations.pop("mini") | {"folder": "refcoco"}
    part = annotations["refcoco"]["sources"][0]["parts"][0]
    options = {"photos": "none", "manifest": world.file, "progress": False}
    report = datasets.fetch_datasets(
        ["refcoco"], tmp_path / "trusted", **options
    )  # shown, since the file is the right one
    assert report.counts["refcoco", "unc"]["val"].expressions == 2
    part["sha256"] = None
    world.file  # noqa: B018
    with pytest.raises(DownloadError, match=r"unc as published: train has 2 referents instead of 42,404; train has 4"):
        datasets.fetch_datasets(["refcoco"], tmp_path / "data", **options)
    assert not (tmp_path / "data" / "refcoco").exists()


def test_a_changed_archive_is_refused_with_both_hashes(world, tmp_path):
    old, new = pack(world.members), pack(world.members, junk=False)
    world.offer(old, sha256=None)
    world.fetch()
    shutil.rmtree(tmp_path / "data" / "mini")
    world.offer(new, sha256=None)
    with pytest.raises(DownloadError) as error:
        world.fetch()
    assert f"its SHA-256 is {sha256(new)} instead of {sha256(old)}" in str(error.value)
    assert "hashes.json; if the new file is right, remove it there" in str(error.value)
    own = tmp_path / "own"
    own.mkdir()
    (own / "mini.zip").write_bytes(new)
    with pytest.raises(
        FileExistsError, match=f"is there already.*{sha256(old)}.*hashes.json; if the new file is right"
    ):
        world.fetch(source=own)
    assert (own / "mini.zip").read_bytes() == new


def test_a_killed_extraction_leaves_nothing_and_goes_on(world, tmp_path, monkeypatch):
    real = sources.extract

    def killed(*args, **options):
        real(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "extract", killed)
    with pytest.raises(KeyboardInterrupt):
        world.fetch()
    assert files(tmp_path / "data") == [".lock", "downloads/mini/.lock", "downloads/mini/mini.zip"]
    monkeypatch.setattr(sources, "extract", real)
    world.server.requests.clear()
    world.fetch()
    assert files(tmp_path / "data") == [".lock", "mini/instances.json", "mini/refs(unc).p"]
    assert world.asked == []


@pytest.mark.parametrize("name", ["mini.zip", "of another name"])
def test_archives_that_are_here_already_are_taken_and_checked(world, tmp_path, name):
    own = tmp_path / "own"
    own.mkdir()
    content = pack(world.members)
    (own / name).write_bytes(content)
    world.offer(content)
    plans = []
    world.fetch(source=own, announce=plans.append)
    assert (plans[0].steps[0].origin, plans[0].steps[0].download) == (str(own / name), 0)
    assert world.asked == []
    assert files(own) == [name]
    assert files(tmp_path / "data") == [".lock", "mini/instances.json", "mini/refs(unc).p"]


def test_a_wrong_archive_of_the_user_is_named_and_not_touched(world, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mini.zip").write_bytes(b"x")
    with pytest.raises(FileExistsError, match=r"own/mini\.zip is there already, but is not mini\.zip: it has 1 bytes"):
        world.fetch(source=own)
    assert (own / "mini.zip").read_bytes() == b"x"
    with pytest.raises(FileNotFoundError, match="no folder"):
        world.fetch(source=tmp_path / "nothing")


def test_members_themselves_can_be_parts(world, tmp_path):
    """As on the Hub, where the files of gRefCOCO lie one by one."""
    parts = [
        {"file": name, "sha256": sha256(content), "urls": [world.server.give(f"/{i}", whole(content))]}
        for i, (name, content) in enumerate(world.members.items())
    ]
    world.manifest["annotations"]["mini"]["sources"] = [{"sure": "A", "parts": parts}]
    own = tmp_path / "own"  # where one of the names is that of another data set's
    (own / "mini").mkdir(parents=True)
    (own / "instances.json").write_text("{}")
    (own / "mini" / "refs(unc).p").write_bytes(world.members["refs(unc).p"])
    world.fetch(source=own)
    assert world.asked == ["/0"]
    for name, content in world.members.items():
        assert (tmp_path / "data" / "mini" / name).read_bytes() == content


def test_files_of_the_user_stay_and_others_of_the_same_name_are_refused(world, tmp_path):
    folder = tmp_path / "data" / "mini"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    world.fetch()
    assert files(folder) == ["instances.json", "notes.txt", "refs(unc).p"]
    (folder / "instances.json").write_text("{}")
    (folder / "refs(unc).p").unlink()
    with pytest.raises(FileExistsError, match=r"data/mini/instances\.json is there already, and not the same as"):
        world.fetch()
    world.manifest["annotations"]["mini"]["members"]["instances.json"] = sha256(world.members["instances.json"])
    with pytest.raises(FileExistsError, match=r"is not that of a small data set: its SHA-256 is .* Move it away"):
        world.fetch()
    assert (folder / "instances.json").read_text() == "{}"


def test_what_is_downloaded_already_takes_no_more_space(world, tmp_path, monkeypatch):
    partial = tmp_path / "data" / "downloads" / "mini" / "mini.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(pack(world.members)[:100])
    plans = []
    world.fetch(announce=plans.append)
    size, unpacked = world.part["size"], world.manifest["annotations"]["mini"]["unpacked"]
    assert (plans[0].steps[0].download, plans[0].steps[0].disk) == (size - 100, size - 100 + unpacked)
    assert world.server.requests == [("/mini.zip", "bytes=100-", None)]


def test_a_full_disk_is_noticed_before_the_first_request(world, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(DownloadError, match=r"0\.0 GB are needed in .*data, where 0\.0 GB are free; choose"):
        world.fetch(photos="all")
    assert world.asked == []


def test_the_space_for_photos_is_known_exactly_before_the_first(world, monkeypatch):
    """The plan counts on photos that data sets share; without that, there are more."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 0, 3 * 10**9))
    world.manifest["annotations"]["mini"]["used"] = 1
    world.manifest["photos"]["train2014"]["unpacked"] = 5 * 10**9
    with pytest.raises(DownloadError, match=r"5\.0 GB are needed in .*data, where 3\.0 GB are free"):
        world.fetch(photos="needed")
    assert world.asked == ["/mini.zip"]


def test_the_plan_has_sizes_and_places_before_anything_is_asked(world, tmp_path):
    plans = []

    def look(plan):
        plans.append(plan)
        assert world.asked == []

    world.fetch(photos="needed", announce=look)
    annotations, photos = plans[0].steps
    size, unpacked = world.part["size"], world.manifest["annotations"]["mini"]["unpacked"]
    assert (annotations.download, annotations.disk) == (size, size + unpacked)
    assert annotations.origin == photos.origin == f"127.0.0.1:{world.server.server.server_port}"
    assert (photos.download, photos.folder) == (
        world.manifest["photos"]["train2014"]["unpacked"],
        tmp_path / "data/train2014",
    )
    world.server.requests.clear()
    world.fetch(photos="all", announce=look)
    assert [step.origin for step in plans[1].steps] == ["there already"] * 2


def test_the_mirror_of_the_hub_is_that_of_the_environment(world, monkeypatch):
    base, file = world.part["urls"][0].rsplit("/", 1)
    world.part["urls"] = [f"https://huggingface.co/{file}"]
    monkeypatch.setenv("HF_ENDPOINT", f"{base}/")
    world.fetch()
    assert world.asked == ["/mini.zip"]


CHILD = """
import os, signal, sys
from pathlib import Path
from maskris.fetch import datasets, sources
real = sources.extract
def extract_and_die(*args, **options):
    real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
sources.extract = extract_and_die
datasets.fetch_datasets(["mini"], sys.argv[1], photos="none", manifest=Path(sys.argv[2]), progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_process_killed_between_extraction_and_its_end(world, tmp_path):
    data = tmp_path / "data"
    done = subprocess.run([sys.executable, "-c", CHILD, data, world.file], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (data / "mini").exists()
    assert (data / ".mini.new" / "refs(unc).p").exists()
    world.server.requests.clear()
    world.fetch()
    assert files(data) == [".lock", "mini/instances.json", "mini/refs(unc).p"]
    assert world.asked == []


# photos


def test_photos_of_some_splits_alone(world, tmp_path):
    report = world.fetch(photos="needed", splits=["val", "testB"])
    assert files(tmp_path / "data" / "train2014") == [photo_name(2), photo_name(4)]
    assert "--no-check-images" in report.commands[0]


def test_an_unknown_split_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="There is no split tset; choose from testA, testB, train, val"):
        world.fetch(photos="needed", splits=["val", "tset"])
    table = tmp_path / "data" / "t.parquet"
    prepare_dataset(tmp_path / "data", table, check_images=False, progress=False)
    with pytest.raises(ValueError, match="There is no split tset"):
        fetch_table_photos([table], splits=["tset"], manifest=world.file)


def test_the_whole_collection_and_an_interrupted_extraction(world, tmp_path):
    report = world.fetch(photos="all")
    assert report.photos[0].fetched == 5
    assert "/train2014.zip" in world.asked
    folder = tmp_path / "data" / "train2014"
    (folder / photo_name(3)).unlink()
    assert world.fetch(photos="all").photos[0].fetched == 1
    assert (folder / photo_name(3)).read_bytes() == jpeg(3)


def test_a_collection_by_its_name(world, tmp_path):
    datasets.fetch_datasets(["train2014"], tmp_path / "data", manifest=world.file, progress=False)
    assert len(files(tmp_path / "data" / "train2014")) == 5
    with pytest.raises(ValueError, match=r"no data set 'train2041'; did you mean train2014\?"):
        datasets.fetch_datasets(["train2041"], tmp_path / "data", manifest=world.file)


def test_needed_photos_come_from_an_archive_that_is_here(world, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(Path(__file__), own / "unrelated.py")
    (own / "train2014.zip").write_bytes(pack({photo_name(i): jpeg(i) for i in range(5)}, "train2014"))
    part = world.manifest["photos"]["train2014"]["sources"][0]["parts"][0]
    part |= {"sha256": sha256((own / "train2014.zip").read_bytes()), "size": (own / "train2014.zip").stat().st_size}
    report = world.fetch(photos="needed", splits=["val"], source=own)
    assert world.asked == ["/mini.zip"]
    assert (report.photos[0].fetched, files(tmp_path / "data" / "train2014")) == (1, [photo_name(2)])


def test_photos_in_a_folder_that_readers_know_are_found_there(world, tmp_path):
    folder = tmp_path / "data" / "images" / "train2014"
    folder.mkdir(parents=True)
    (folder / photo_name(0)).write_bytes(jpeg(0))
    report = world.fetch(photos="needed")
    assert (report.photos[0].folder, report.photos[0].there, report.photos[0].fetched) == (folder, 1, 4)


def test_the_photos_of_a_table(world, tmp_path):
    world.fetch()
    table = tmp_path / "data" / "t.parquet"
    prepare_dataset(tmp_path / "data", table, check_images=False, progress=False)
    report = fetch_table_photos([table], splits=["val", "testA"], manifest=world.file, progress=False)
    assert report.photos[0].fetched == 2
    opened = ReferringTable.open(table)
    assert [opened.image_path(i).is_file() for i in range(5)] == [False, False, True, True, False]


def test_one_at_a_time_in_a_folder(world, tmp_path):
    from maskris.utils.runstore import FolderInUseError, lock_folder

    with lock_folder(tmp_path / "data"), pytest.raises(FolderInUseError, match="Another process is at work"):
        world.fetch()


def test_annotations_are_those_of_the_fixture(world):
    assert annotations() == world.members
    assert len(SPLITS) == 5
