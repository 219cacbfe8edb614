"""List released checkpoints, or fetch one."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskris.cli.common import say, show

if TYPE_CHECKING:
    from maskris.reporting.tables import Table


def models(name: str | None = None, *, from_: Path | None = None) -> None:
    """List the released checkpoints that every command knows by name, or fetch one and print its folder.

    A command that names one fetches it by itself. It is downloaded once, held against its hash and converted; nothing
    in the file is executed. HF_ENDPOINT and HF_HUB_OFFLINE are respected, and MASKRIS_CACHE names another cache.

    Args:
        name: The one to fetch.
        from_: Its published file, if you have downloaded it yourself.
    """
    from maskris.models.weights.released_files import released_folder

    if name is not None:
        say(str(released_folder(name, source=from_)))
        return
    if from_ is not None:
        raise ValueError(f"Say which checkpoint {from_} is: maskris models NAME --from {from_}")
    from rich.console import Console

    table = _table()
    if Console().is_terminal:
        show(table)
    else:  # whole lines, for grep
        say(table.to_markdown())


def _table() -> "Table":
    from maskris.models.weights.released import released_models
    from maskris.models.weights.released_files import is_cached
    from maskris.reporting.tables import Table

    rows: list[list[str]] = []
    for one in released_models().values():
        size = "" if one.size is None else f"{one.size / 1e6:.0f}"
        about = [one.name, one.network, size, one.license, one.protocol or ""]
        here = "yes" if is_cached(one) else ""
        published = [(result.dataset, result.values) for result in one.results if result.metric == "oIoU"]
        for data, values in published or [("", {})]:
            cells = [values.get("val"), values.get("testA", values.get("test")), values.get("testB")]
            rows.append([*about, data, *("" if value is None else f"{value:.2f}" for value in cells), here])
            about, here = [""] * len(about), ""
    headings = ["name", "network", "MB", "license", "protocol", "data", "val", "testA, test", "testB", "here"]
    caption = (
        "oIoU in per cent, as the authors print it. Networks as `maskris convert --kind` names them; TRIS is not part\n"
        "of maskris. Use one by its name: maskris evaluate caris-refcoco --data refcoco.parquet"
    )
    return Table(headings, rows, caption=caption)
