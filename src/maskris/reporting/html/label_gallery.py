"""`write_label_gallery`: pseudo masks on their photos, a sample and the extremes, on one HTML page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from maskris.data import masks
from maskris.data.orientation import turn_mask
from maskris.data.table import ReferringTable
from maskris.inference.image import load_image, orientation_of
from maskris.inference.visualize import resized_mask, spotlight
from maskris.labeling.report import Label, LabelReport
from maskris.reporting.html.contents import Example, Gallery, Picture
from maskris.reporting.html.examples import enlarge, jpeg
from maskris.reporting.html.template import render
from maskris.reporting.labels import counts_table
from maskris.reporting.plots import SERIES
from maskris.utils.files import atomic_file
from maskris.utils.rng import KeyedRandom


def write_label_gallery(report: LabelReport, labeled: ReferringTable, path: str | Path, *, count: int = 12) -> Path:
    """Write a page on the masks that `label_table` made.

    It holds a random sample, which is the same for the same masks, and the smallest, the largest and the least sure
    masks; then referents without a mask.

    Args:
        report: What `label_table` returned.
        labeled: The table that was labeled, for the expressions and photos of referents without a mask.
        path: The HTML file to write.
        count: Pictures of the sample; of the other groups half as many.

    Returns:
        The path.

    Raises:
        OSError: If a photo or the table can't be read.
    """
    result = ReferringTable.open(report.out, labeled.images_root)
    chosen = _choose(report.labels, count)
    galleries = []
    for name, (caption, labels) in chosen.items():
        examples = [_example(label, labeled, result) for label in labels]
        if examples:
            galleries.append((name.lower().replace(" ", "-"), name, Gallery(caption, examples)))
    table = counts_table(report)
    made = sum(one.labeled for one in report.splits)
    lead = f"{made:,} of {len(report.labels):,} referents have a mask. Masks by {report.origin}."
    notes = [
        "Nobody has annotated these masks, and nothing here says how many of them are right: what a model learns from "
        "them can't be better than they are in what they get wrong alike. Look for masks of another object, for "
        "parts instead of the whole, and for masks of the whole photo; another rule, another selection, superpixels "
        "or a least score may help."
    ]
    page = render(
        "labels.html.jinja", title=report.out.name, lead=lead, notes=notes, table=table,
        galleries=galleries,
    )  # fmt: skip
    path = Path(path)
    with atomic_file(path) as file:
        file.write(page)
    return path


def _choose(labels: Sequence[Label], count: int) -> dict[str, tuple[str, list[Label]]]:
    """Titles of groups with captions and members; each referent is in one group only."""
    made = [label for label in labels if label.outcome == "labeled"]
    few = max(1, count // 2)
    sample = KeyedRandom("label gallery").sample(made, min(count, len(made)))
    rest = [label for label in made if label not in sample]
    groups = {"Sample": ("Drawn at random.", sorted(sample, key=lambda label: label.row))}
    orders = {
        "Smallest": ("The smallest masks.", lambda label: label.share),
        "Largest": ("The largest masks.", lambda label: -label.share),
        "Least sure": ("The masks of which the teacher was least sure.", lambda label: label.score),
    }
    for name, (caption, key) in orders.items():
        able = [label for label in rest if name != "Least sure" or label.score is not None]
        found = sorted(able, key=key)[:few]
        rest = [label for label in rest if label not in found]
        groups[name] = (caption, found)
    for name, outcome, caption in (
        ("Nothing found", "nothing", "The rule took no pixel of the map."),
        ("Too unsure", "unsure", "The teacher was less sure than was asked for."),
    ):
        groups[name] = (caption, [label for label in labels if label.outcome == outcome][:few])
    return groups


def _example(label: Label, labeled: ReferringTable, result: ReferringTable) -> Example:
    path = labeled.image_path(label.row)
    photo = load_image(path)
    large, size = enlarge(photo)
    asked = "” · “".join(labeled.expressions(label.row))
    pictures = [Picture("photo", f"Photo {path.name}", jpeg(large), size)]
    if label.outcome == "labeled" and label.place is not None:
        mask = resized_mask(_upright(result, label.place, path), large.size)
        drawn = Image.fromarray(np.asarray(spotlight(large, mask, SERIES[0], 9)))
        pictures.append(Picture("pseudo mask", f"Pseudo mask for “{asked}”", jpeg(drawn), size, 0))
    facts = [f"row {label.row}", label.split, path.name]
    facts += [f"{100 * label.share:.1f} % of the photo"] if label.share else []
    facts += [f"score {label.score:.2f}"] if label.score is not None else []
    return Example(asked, ", ".join(facts), pictures)


def _upright(table: ReferringTable, row: int, path: Path) -> np.ndarray:
    """The mask of a row as viewers show the photo."""
    referent = table.row(row)
    return masks.decode(*turn_mask(referent.mask, referent.height, referent.width, orientation_of(path)))
