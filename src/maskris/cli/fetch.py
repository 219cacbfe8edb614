"""Fetch annotations and photos of RefCOCO and its relatives, whole and checked."""

from pathlib import Path
from typing import Any, Literal

from maskris.cli.common import say, show


def fetch(
    names: list[str] | None = None,
    *,
    out: Path = Path("data"),
    photos: Literal["needed", "all", "none"] = "needed",
    splits: list[str] | None = None,
    from_: Path | None = None,
    data: list[Path] | None = None,
) -> int:
    """Fetch annotations and photos of published data sets; without a name, show what there is.

    What is there already is kept and checked. A command that was interrupted, or lacks some photos at the end, goes on
    when it is given again. Proxies are those of the environment (HTTPS_PROXY).

    Args:
        names: Data sets, such as refcoco refcoco+; or photos for those that the tables of --data name.
        out: Folder for all data.
        photos: Photos to fetch: those that the expressions are about, the whole collection, or none.
        splits: Of the needed photos only those of these splits, such as val testA testB.
        from_: Folder of archives or photos that are here already, known by their names or hashes.
        data: With photos: Parquet files written by `maskris prepare`.
    """
    from maskris.fetch.datasets import fetch_datasets, fetch_table_photos
    from maskris.fetch.manifest import read_manifest

    if (data is not None) != (names == ["photos"]):
        raise ValueError("--data is for the photos of tables: maskris fetch photos --data FILE.parquet")
    options: dict[str, Any] = {"splits": splits, "source": from_, "announce": show}
    if not names:
        show(list(read_manifest().values()))
        return 0
    report = fetch_table_photos(data, **options) if data else fetch_datasets(names, out, photos=photos, **options)
    show(report)
    if report.commands:
        say("\n".join(["Next:", *(f"  {command}" for command in report.commands)]))
    return 1 if report.failed else 0
