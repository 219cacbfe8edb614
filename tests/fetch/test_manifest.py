"""The manifest of this package, and what a wrong one says."""

import re
from urllib.parse import urlsplit

import pytest

from maskris.data.published_counts import PUBLISHED
from maskris.data.readers.refer import IMAGE_FOLDERS
from maskris.fetch import read_manifest

ITEMS = read_manifest()
ANNOTATIONS = {name: item for name, item in ITEMS.items() if item.photos}
PHOTOS = {name: item for name, item in ITEMS.items() if not item.photos}
PLAIN = {"images.cocodataset.org"}  # whose certificate is that of another name


@pytest.mark.parametrize("name", ITEMS)
def test_every_entry_is_complete(name):
    item = ITEMS[name]
    assert item.title
    assert item.page.startswith("https://")
    assert item.used > 0
    assert item.unpacked is None or isinstance(item.unpacked, int)
    for sha256 in (*item.members.values(), *(part.sha256 for source in item.sources for part in source.parts)):
        assert sha256 is None or re.fullmatch("[0-9a-f]{64}", sha256)
    for source in item.sources:
        assert source.sure in ("A", "B", "C")
        for part in source.parts:
            assert all(size is None or (isinstance(size, int) and size > 0) for size in (part.size, part.about))
            assert not (part.size and part.about)
            assert source.sure != "A" or part.sha256
            assert part.file == part.urls[0].rsplit("/", 1)[1]
    assert len(item.sources) > 1 or len(item.sources[0].parts[0].urls) > 2 or "No other copy" in item.note


def test_addresses_are_safe_and_unique():
    urls = [url for item in ITEMS.values() for source in item.sources for part in source.parts for url in part.urls]
    urls += [url for item in ITEMS.values() for url in item.each]
    assert len(set(urls)) == len(urls)
    for url in urls:
        parts = urlsplit(url)
        assert parts.scheme == ("http" if parts.netloc in PLAIN else "https"), url
        if parts.netloc == "web.archive.org":
            assert re.match(r"/web/\d{14}id_/https?://", parts.path), f"{url} leads to a page and not to the file"


def test_data_sets_fit_the_readers():
    known = {(name, split_by) for name, item in ANNOTATIONS.items() for split_by in item.partitions}
    assert known >= set(PUBLISHED)
    for item in ANNOTATIONS.values():
        assert item.photos in PHOTOS
        assert item.folder == item.name
        assert set(item.members) == {"instances.json", *item.partitions.values()}
    assert {item.folder for item in PHOTOS.values()} <= set(IMAGE_FOLDERS)
    assert [next(iter(item.partitions)) for item in ANNOTATIONS.values()] == [
        "unc",
        "unc",
        "umd",
        "unc",
        "unc",
    ]


def test_photos_are_those_published():
    """As many as the splits of the usual partition have; 912 of RefCOCOg's are in google's alone."""
    for name, item in ANNOTATIONS.items():
        published = PUBLISHED.get((name, next(iter(item.partitions))))
        if published:
            others = 912 if name == "refcocog" else 0
            assert item.used == sum(counts.images for counts in published.values()) + others


@pytest.mark.parametrize(
    "text", ["annotations: 3", "x: {}", "annotations: {a: {title: x}}\nphotos: {}", "annotations: [", "3"]
)
def test_a_wrong_manifest_is_named(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml is no manifest"):
        read_manifest(file)
