"""Check annotations of any format and write them to one Parquet file."""

from pathlib import Path
from typing import Any, Literal

from maskris.cli.common import check_output, show


def prepare(
    source: list[Path] | None = None,
    *,
    out: Path,
    format: str = "auto",  # noqa: A002 (the option's name)
    dataset: str | None = None,
    split_by: str | None = None,
    images: Path | None = None,
    text: Literal["sent", "raw"] = "sent",
    combine: list[str] | None = None,
    published_list: Path | None = None,
    merge: bool = False,
    skip_invalid: bool = False,
    check_images: bool = True,
    incomplete: bool = False,
) -> None:
    """Check annotations and their images, and write them to one Parquet file for training and evaluation.

    All problems are reported at once, with file and row; nothing is written then, unless --skip-invalid is given.

    Args:
        source: Folder in the REFER or gRefCOCO layout, a COCO-style JSON file, a JSON Lines file, Parquet files from
            the Hub or a folder of them, or a folder with photos and metadata.jsonl.
        out: The Parquet file to write.
        format: What the source is: refer, grefcoco, coco, jsonl, hub, imagefolder, or the path of a reader of your own,
            such as my_module.read; auto goes by its ending and contents.
        dataset: Which data set of the folder, such as refcoco+.
        split_by: Which partition, such as unc, umd or google; with --combine, those that aren't unc, unc and umd, such
            as refcocog=google.
        images: Folder of the images, if they aren't found from the file that names them.
        text: Take the cleaned sentences or those that the annotators typed (REFER, gRefCOCO and their copies on the
            Hub only).
        combine: Combine these data sets of the folder, or Parquet files, for training: without training images that
            occur in a val or test split of any of them.
        published_list: With --combine, train on the images or annotations that this file names instead.
        merge: With --combine, join training referents of several data sets about one object into one.
        skip_invalid: Leave invalid rows out and write them to a file beside the output.
        check_images: Decode every image.
        incomplete: Take data of the Hub that carry less than whole masks (one polygon, boxes), or fewer expressions
            than were published.
    """
    inputs = [*(source or []), images, published_list, *(combine or [])]
    check_output(out, inputs, ".parquet")
    # Rejected rows that were corrected may be what is read: their file is replaced or removed with the table.
    check_output(out.with_name(f"{out.name}.rejects.jsonl"), inputs, ".jsonl")
    options: dict[str, Any] = {"split_by": split_by, "images": images, "text": text}
    options |= {"skip_invalid": skip_invalid, "check_images": check_images}
    if combine is not None:
        from maskris.data.combine import prepare_combined

        if dataset is not None or format != "auto":
            raise ValueError("--dataset and --format are for a single data set; with --combine, name all in it")
        if incomplete or len(source or []) > 1:
            raise ValueError("--incomplete and several sources are for a single data set; prepare it, then combine")
        folder = source[0] if source else None
        show(prepare_combined(folder, combine, out, published_list=published_list, merge=merge, **options))
        return
    from maskris.data.prepare import prepare_dataset

    if not source:
        raise ValueError("Say what to read: maskris prepare SOURCE --out FILE.parquet")
    if published_list is not None or merge:
        raise ValueError(f"{'--merge' if published_list is None else '--published-list'} is for --combine")
    show(prepare_dataset(source, out, format=format, dataset=dataset, incomplete=incomplete, **options))
