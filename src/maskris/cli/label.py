"""Make masks for photos and phrases that have none, with another model as the teacher."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import check_output, say, show


def label(
    tables: list[Path],
    *,
    teacher: str,
    out: Path,
    select: Literal["mean", "prms", "score", "agreement"] = "mean",
    rule: str | None = None,
    superpixels: int = 0,
    splits: list[str] | None = None,
    min_score: float | None = None,
    missing: Literal["drop", "keep"] = "drop",
    scorer: str = "ViT-B/32",
    device: str | None = None,
    batch_size: int = 32,
    page: bool = True,
) -> None:
    """Let a teacher say where in each photo its phrases are, and write that as pseudo masks to a table to train on.

    Masks of the tables are never read: there need be none. Rows of other splits stay as they are, so that a model can
    learn from pseudo masks and be validated on annotated ones. A killed call goes on where it stopped.

    Args:
        tables: Parquet files written by `maskris prepare`.
        teacher: A model folder or run, a released model such as caris-refcoco-combined, or another teacher by its name.
        out: The Parquet file to write.
        select: How a referent with several phrases gets one map; mean averages them, score takes that of the surest,
            agreement the one most like the others, prms the one below which the photo fits all phrases best.
        rule: Where a map is cut, such as threshold:0.5, or peak:0.5 of its maximum; the teacher's own by default.
        superpixels: Average a map over about so many superpixels before it is cut; 0 for none.
        splits: Splits to label; train by default.
        min_score: Leave out masks of which the teacher is less sure, from 0 to 1.
        missing: Whether referents without a mask are left out, or kept with masks of source none.
        scorer: CLIP that judges maps for prms.
        device: Such as cuda or cpu; the fastest by default.
        batch_size: Most expressions at once.
        page: Write an HTML page beside the output, with a sample of the masks and the extremes, to look through.
    """
    check_output(out, tables, ".parquet")
    from maskris.data.table import TRAIN, open_tables
    from maskris.labeling.label import label_table

    table = open_tables(tables)
    report = label_table(
        table, teacher, out, selection=select, rule=rule, superpixels=superpixels, splits=splits or [TRAIN],
        min_score=min_score, missing=missing, scorer=scorer, device=device, batch_size=batch_size,
    )  # fmt: skip
    show(report)
    if page:
        from maskris.reporting.html.label_gallery import write_label_gallery

        file = out.with_suffix(".html")
        say(f"Look through them before training: {write_label_gallery(report, table, file)}")
