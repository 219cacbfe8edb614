"""Released checkpoints as a table: where they are from, what their authors print, and which are here."""

from collections.abc import Sequence

from maskris.models.weights.released import Released
from maskris.models.weights.released_files import is_cached
from maskris.reporting.tables import Table


def tables(models: Sequence[Released]) -> list[Table]:
    """One table, with a line for each data set that a checkpoint has numbers for."""
    rows: list[list[str]] = []
    for one in models:
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
    return [Table(headings, rows, caption=caption)]


def markdown(models: Sequence[Released]) -> str:
    """The table alone, in whole lines for grep."""
    return tables(models)[0].to_markdown()
