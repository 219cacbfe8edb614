"""Files as the Hub has them, made in tests: in the forms of published copies, and as `datasets` writes them."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from maskris.data import masks

MASK = np.zeros((48, 64), dtype=bool)
MASK[10:30, 20:50] = True
MASK[40:44, 3:9] = True
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def photo_bytes(seed=0, orientation=1, size=(64, 48), kind="JPEG"):
    """A photo with noise; turned by its EXIF data with an orientation other than 1."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[0x112] = orientation
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return stream.getvalue()


def picture_bytes(array, kind="PNG", palette=None):
    """A mask as a picture in a file."""
    picture = Image.fromarray(array)
    if palette is not None:
        picture = picture.convert("P") if picture.mode != "P" else picture
        picture.putpalette(palette)
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def rle(mask):
    return {"size": list(mask.shape), "counts": masks.encode(mask).decode()}


def write(file, rows, schema=None, metadata=None):
    """Rows as a Parquet file; columns of the schema keep their types."""
    table = pa.Table.from_pylist(rows, schema=schema)
    if metadata:
        table = table.replace_schema_metadata({b"huggingface": json.dumps(metadata).encode()})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def as_jxu124(folder: Path, name: str):
    """A data set of REFER's layout as rows of the published copies ``jxu124/refcoco``, ``…plus`` and ``…g``."""
    refs = pickle.loads((folder / name).read_bytes())
    content = json.loads((folder / "instances.json").read_text())
    photos = {one["id"]: one for one in content["images"]}
    annotations = {one["id"]: one for one in content["annotations"]}
    rows = []
    for ref in refs:
        annotation, photo = annotations[ref["ann_id"]], photos[ref["image_id"]]
        x, y, w, h = annotation.get("bbox", (0, 0, 1, 1))
        sentences = [{key: one[key] for key in ("raw", "sent") if key in one} for one in ref["sentences"]]
        rows.append(
            {
                "sent_ids": list(range(len(sentences))),
                "file_name": ref.get("file_name", photo["file_name"].replace(".jpg", "_1.jpg")),
                **{key: ref[key] for key in ("ann_id", "ref_id", "image_id", "split")},
                "sentences": [one | {"sent_id": i, "tokens": one["sent"].split()} for i, one in enumerate(sentences)],
                "category_id": annotation["category_id"],
                "raw_anns": json.dumps(annotation),
                "raw_image_info": json.dumps(photo),
                "raw_sentences": json.dumps(sentences),
                "image_path": f"coco/train2014/{photo['file_name']}",
                "bbox": [float(x), float(y), float(x + w), float(y + h)],
                "captions": [one["raw"] for one in sentences],
            }
        )
    return rows


def write_jxu124(folder: Path, rows):
    """Rows in one file per split, named as on the Hub: validation is val, test is testA in RefCOCO and RefCOCO+."""
    names = {"train": "train", "val": "validation", "testA": "test", "test": "test", "testB": "testB"}
    for split in {row["split"] for row in rows}:
        mine = [row for row in rows if row["split"] == split]
        write(folder / "data" / f"{names[split]}-00000-of-00001-94431d5f4bd5b93f.parquet", mine)
    return folder
