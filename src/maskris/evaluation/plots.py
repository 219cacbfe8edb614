"""Plots of studies, with matplotlib (the extra ``plots``)."""

from pathlib import Path

from maskris.evaluation.study import StudyResults

_COLOURS = ("#0b6fb4", "#e69f00", "#5b2a86", "#2f9e6e")


def plot_study(results: StudyResults, metric: str, path: Path) -> Path:
    """One row for each variant, one colour for each share hidden; points are seeds, bars their means.

    Args:
        results: Of a study.
        metric: ``"mIoU"`` or ``"oIoU"``.
        path: Where to write the PNG.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    variants, shares = results.variants, list(results.occlusion)
    height = 0.8 / len(shares)
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(variants) * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    for number, share in enumerate(shares):
        cells = [results.cell(variant, share, metric) for variant in variants]
        places = [i + (number - (len(shares) - 1) / 2) * height for i in range(len(variants))]
        colour = _COLOURS[number % len(_COLOURS)]
        means = [100 * cell.mean for cell in cells]
        axes.barh(places, means, height * 0.9, color=colour, label=f"{share:.0%} hidden" if share else "clean")
        for place, cell in zip(places, cells, strict=True):
            values, rows = [100 * value for value in cell.values], [place] * len(cell.values)
            axes.plot(values, rows, "ko", markersize=4, markeredgecolor="white", markeredgewidth=0.7)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.4, -0.6)  # the first on top, whatever their number
    axes.set_xlabel(f"{metric} (%)")
    figure.suptitle(results.title, x=0.01, ha="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(frameon=False, loc="outside upper right", ncols=len(shares), fontsize=9)
    figure.savefig(path, dpi=110)
    return path
