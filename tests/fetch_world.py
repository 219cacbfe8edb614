"""RefCOCO in small, as its authors pack it: archives and photos on a local server, and a manifest that leads there."""

import hashlib
import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from faulty_server import whole
from PIL import Image

from maskris.fetch import fetch_datasets

SPLITS = ("train", "train", "val", "testA", "testB")
HEIGHT, WIDTH = 24, 32


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def annotations():
    """Five photos, a referent with two expressions on each."""
    images = [{"id": i, "file_name": photo_name(i), "height": HEIGHT, "width": WIDTH} for i in range(len(SPLITS))]
    polygon = [[2, 2, 12, 2, 12, 12, 2, 12]]
    masks = [{"id": 50 + i, "image_id": i, "category_id": 1, "segmentation": polygon} for i in range(len(SPLITS))]
    refs = [
        {
            "ref_id": i,
            "ann_id": 50 + i,
            "image_id": i,
            "split": split,
            "sentences": [{"sent": f"thing {i}", "raw": "X"}, {"sent": "the thing", "raw": "Y"}],
        }
        for i, split in enumerate(SPLITS)
    ]
    categories = [{"id": 1, "name": "thing"}]
    coco = {"images": images, "annotations": masks, "categories": categories}
    return {"instances.json": json.dumps(coco).encode(), "refs(unc).p": pickle.dumps(refs, 2)}


def photo_name(number):
    return f"COCO_train2014_{number:012d}.jpg"


def jpeg(number, size=(WIDTH, HEIGHT)):
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def pack(members, folder="mini", junk=True):
    """A zip archive as a Mac makes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        if junk:
            packed.writestr(f"{folder}/", "")
            packed.writestr(f"__MACOSX/{folder}/._instances.json", "junk")
            packed.writestr(f"{folder}/.DS_Store", "junk")
        for name, content in members.items():
            packed.writestr(f"{folder}/{name}", content)
    return file.getvalue()


@dataclass
class World:
    """What is on the server, and the manifest of it."""

    server: object
    folder: Path
    manifest: dict
    members: dict
    archive: bytes

    @property
    def file(self):
        file = self.folder / "manifest.yaml"
        file.write_text(yaml.safe_dump(self.manifest))
        return file

    @property
    def part(self):
        """The first part of the first source of the annotations."""
        return self.manifest["annotations"]["mini"]["sources"][0]["parts"][0]

    def offer(self, content, part=None, **known):
        """Put other content under the address of a part."""
        part = part or self.part
        part |= {"size": len(content), "sha256": sha256(content)} | known
        self.server.give("/" + part["urls"][0].rsplit("/", 1)[1], whole(content))

    def fetch(self, **options):
        options = {"photos": "none", "manifest": self.file, "progress": False} | options
        return fetch_datasets(["mini"], self.folder / "data", **options)

    @property
    def asked(self):
        return [path for path, _, _ in self.server.requests]


@pytest.fixture
def world(server, tmp_path, monkeypatch) -> World:
    """Archives, single photos and a manifest; the folder of the user is ``tmp_path / "data"``."""
    monkeypatch.setenv("MASKRIS_CACHE", str(tmp_path / "cache"))
    members = annotations()
    archive = pack(members)
    photos = {photo_name(i): jpeg(i) for i in range(len(SPLITS))}
    collection = pack(photos, "train2014")
    for name, content in photos.items():
        server.give(f"/{name}", whole(content))
    address = server.give("/mini.zip", whole(archive))
    base = address.rsplit("/", 1)[0]

    def source(file, content, url):
        return {"sure": "A", "parts": [{"file": file, "size": len(content), "sha256": sha256(content), "urls": [url]}]}

    mini = {
        "title": "a small data set",
        "page": "https://example.org",
        "photos": "train2014",
        "used": len(SPLITS),
        "unpacked": sum(map(len, members.values())),
        "members": dict.fromkeys(members),
        "sources": [source("mini.zip", archive, address)],
    }
    train2014 = {
        "title": "photos",
        "page": "https://example.org",
        "used": len(SPLITS),
        "unpacked": sum(map(len, photos.values())),
        "members": {"COCO_train2014_*.jpg": None},
        "each": [f"{base}/COCO_train2014_{{number}}.jpg"],
        "sources": [source("train2014.zip", collection, server.give("/train2014.zip", whole(collection)))],
    }
    manifest = {"annotations": {"mini": mini}, "photos": {"train2014": train2014}}
    (tmp_path / "data").mkdir()
    return World(server, tmp_path, manifest, members, archive)
