"""The sections of the page on what was measured: summary, metrics and breakdowns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from maskris.evaluation.metrics import precision_at
from maskris.evaluation.result import Evaluation, align
from maskris.reporting.html.chart import STYLES, Series, interval_strip, line_chart, strip_scale
from maskris.reporting.html.html import Content, Html, data_uri, join, tag
from maskris.reporting.html.render import EMPTY, Document, Estimate, Group, Head, difference, estimate
from maskris.reporting.html.report import Example, Gallery, Picture, Report, Subject, listed
from maskris.reporting.tables import NOTHING, percent
from maskris.robustness.results import MEAN, RobustnessComparison
from maskris.robustness.results import Subject as RobustSubject
from maskris.robustness.suite import CLEAN, DIAGNOSTIC_FAMILIES, Condition

_BREAKDOWNS = {
    "split": "Split",
    "length": "Length of the expression",
    "relative_size": "Share of the photo",
    "kind": "Kind of expression",
    "category": "Category",
}

_MOST_GROUPS = 12  # of a breakdown; data sets have up to 80 categories

Parts = Mapping[int, Evaluation]
"""Evaluations of the same expressions by the number of the model."""


def key(report: Report, number: int) -> Html:
    """The name of a model with the mark of its color, where there are several."""
    name = report.subjects[number].name
    return tag("span", name, class_=f"key s{number % STYLES}") if len(report.subjects) > 1 else join(name)


def legend(report: Report, numbers: Sequence[int]) -> Html | None:
    """What the colors of a figure mean, where there are several."""
    if len(report.subjects) < 2:
        return None
    return tag("ul", *(tag("li", key(report, i)) for i in numbers), class_="legend")


def size(evaluation: Evaluation) -> str:
    """How much was measured on."""
    photos = set(zip(*(evaluation.rows[name].to_pylist() for name in ("dataset", "image_id")), strict=True))
    return f"{len(evaluation):,} expressions about {len(photos):,} photos"


def summary(report: Report) -> list[Html]:
    """What was found, in a few sentences."""
    if not report.evaluations:
        said = "No rows of an evaluation were found, so this page says what the run folder alone can say. "
        return [
            join(said, tag("code", "--data FILE.parquet"), " evaluates, and adds metrics, breakdowns and pictures.")
        ]
    first, *others = report.evaluations
    data = report.evaluations[first]
    parts = [join(f"Measured on {size(data)} of {listed(list(data.breakdown('split')))}. ")]
    for i, evaluation in report.evaluations.items():
        oiou, miou = (estimate(one, 1).inline() for one in report.intervals(evaluation, ["oIoU", "mIoU"]).values())
        parts.append(join(key(report, i), " reaches an oIoU of ", oiou, " and an mIoU of ", miou, ". "))
    for i, apart in zip(others, report.differences(report.evaluations, ["mIoU"]), strict=True):
        number = difference(apart["mIoU"], 1).inline()
        verdict = "an interval with zero in it" if apart["mIoU"].contains(0) else "an interval without zero"
        names = join(key(report, i), " differs from ", key(report, first))
        parts.append(join(names, " by ", number, f" points of mIoU, {verdict}. "))
    others_of = "photos" if report.unit == "image" else f"{report.unit}s"
    together = "; for differences, both models are drawn together" if others else ""
    note = (
        f"All values are per cent. Brackets hold 95 % percentile intervals of a bootstrap over {others_of} "
        f"({report.resamples:,} resamples{together}). An interval speaks of "
        f"other {others_of}; another training seed is another matter. Protocol "
    )
    return [join(*parts), join(note, tag("em", data.protocol.name), _decisions(data), ".")]


def metrics(report: Report, page: Document) -> Html | None:
    """Every metric of every split with its interval."""
    if not report.evaluations:
        return None
    splits = {i: one.parts("split") for i, one in report.evaluations.items()}
    groups = []
    for split, part in next(iter(splits.values())).items():
        found = [report.intervals(parts[split]) for parts in splits.values()]
        apart = list(report.differences({i: parts[split] for i, parts in splits.items()}))
        rows: list[list[Content | Estimate]] = [
            [name, *(estimate(one[name]) for one in found), *(difference(one[name]) for one in apart)]
            for name in found[0]
        ]
        groups.append(Group(rows, join(split, " ", tag("span", f"{len(part):,} expressions", class_="muted"))))
    names = [Head(key(report, i), 2) for i in splits]
    above = [Head(None), Head("Value", 2 * len(splits)), *difference_to_first(report, list(splits))]
    heads = [[Head("Metric", text=True), *names, *names[1:]]]
    bold = " Differences in bold have an interval without zero." if len(splits) > 1 else ""
    return page.table(f"Metrics by split with 95 % intervals.{bold}", [above, *heads] if bold else heads, groups)


def success(report: Report, page: Document) -> Html | None:
    """Pr@X at every X."""
    if not report.evaluations:
        return None
    thresholds = [round(0.02 * i, 2) for i in range(1, 51)]
    series = []
    for i, one in report.evaluations.items():
        values = [precision_at(x).value(one.outcomes) for x in thresholds]
        shares = [None if value is None else 100 * value for value in values]
        series.append(Series(report.subjects[i].name, thresholds, shares, i % STYLES))
    about = "Share of expressions whose IoU reaches a threshold"
    chart = line_chart(series, about=about, x="IoU threshold X", y="Pr@X (%)", y_range=(0, 100))
    return page.figure(f"{about}, for every threshold X.", legend(report, list(report.evaluations)), chart)


def breakdowns(report: Report, page: Document) -> Html | None:
    """Groups of expressions by oIoU and mIoU, the latter as a picture too."""
    if not report.evaluations:
        return None
    first, *others = report.evaluations
    groups = [Group([_breakdown_row(report, "All", report.evaluations)])]
    hidden = ""
    for by, title in _BREAKDOWNS.items():
        parts = {i: one.parts(by) for i, one in report.evaluations.items()}
        labels = list(parts[first])
        if len(labels) > _MOST_GROUPS:
            largest = sorted(labels, key=lambda label: -len(parts[first][label]))[:_MOST_GROUPS]
            hidden += f" Of {len(labels)} groups by {by}, the {_MOST_GROUPS} with most expressions are shown."
            labels = [label for label in labels if label in largest]
        if len(labels) > 1:
            rows = [_breakdown_row(report, label, {i: parts[i][label] for i in parts}) for label in labels]
            groups.append(Group(rows, title))
    number = len(report.evaluations)
    above = [
        Head(None, 2),
        Head("oIoU", number),
        Head("mIoU", number),
        *difference_to_first(report, [first, *others], " in mIoU"),
    ]
    names = [key(report, i) if others else None for i in report.evaluations]
    below = [Head("Expressions", text=True), Head("N"), *map(Head, names), *map(Head, names)]
    below += [Head(name, 2) for name in names[1:]]
    heads = [[*above, Head("mIoU, 0 to 100 %")], [*below, Head(strip_scale())]]
    caption = f"Metrics by group of expressions, all splits together.{hidden}"
    return page.table(caption, heads, groups, class_="breakdown")


def _breakdown_row(report: Report, label: str, parts: Parts) -> list[Content | Estimate]:
    found = [report.intervals(one, ["oIoU", "mIoU"]) for one in parts.values()]
    apart = [one["mIoU"] for one in report.differences(parts, ["mIoU"])]
    values = [percent(one[name].value, 1) for name in ("oIoU", "mIoU") for one in found]
    n = len(next(iter(parts.values())))
    strip = interval_strip({i: one["mIoU"] for i, one in zip(parts, found, strict=True)})
    return [label, f"{n:,}", *values, *(difference(one, 1) for one in apart), strip]


def difference_to_first(report: Report, numbers: Sequence[int], what: str = "") -> list[Head]:
    """The heading over differences to the first of some models, where there are any."""
    first, *others = numbers
    return [Head(join(f"Difference{what} to ", key(report, first)), 2 * len(others))] if others else []


def _decisions(evaluation: Evaluation) -> str:
    """What follows the protocol's name in its description."""
    side = evaluation.model.get("input_size")
    text = evaluation.protocol.describe((side[0], side[1]) if side else None)
    return text.removeprefix(evaluation.protocol.name)


def gallery(report: Report, page: Document, shown: Gallery) -> Html | None:
    """A figure of examples; nothing where there are none."""
    if not shown.examples:
        return None
    marks = [tag("li", tag("span", "edge of the truth", class_="key truth"))]
    models = sorted({picture.model for one in shown.examples for picture in one.pictures if picture.model is not None})
    for i in models:
        name = f"prediction of {report.subjects[i].name}" if len(report.subjects) > 1 else "edge of the prediction"
        marks.append(tag("li", tag("span", name, class_=f"key s{i % STYLES}")))
    examples = tag("div", *map(_example, shown.examples), class_="examples")
    return page.figure(shown.caption, tag("ul", *marks, class_="legend"), examples, above=True)


def _example(example: Example) -> Html:
    asked = tag("p", "\u201c", example.expression, "\u201d", class_="asked")
    number = len(example.pictures)  # side by side; on narrow screens, an even number stands two by two
    style = f"--wide: {number}; --narrow: {2 if number % 2 == 0 else 3}"
    tiles = tag("div", *map(_tile, example.pictures), class_="tiles", style=style)
    return tag("div", asked, tag("p", example.note, class_="note"), tiles, class_="example")


def _tile(picture: Picture) -> Html:
    width, height = picture.size
    image = tag("img", src=data_uri(picture.jpeg, "image/jpeg"), alt=picture.alt, width=width, height=height)
    mark = None if picture.model is None else f"key s{picture.model % STYLES}"
    number = None if picture.iou is None else tag("span", f"IoU {picture.iou:.2f}", class_="muted")
    return tag("div", image, tag("span", picture.label, class_=mark), " ", number, class_="tile")


def compose(report: Report) -> str:
    """The page of a report as HTML."""
    many = len(report.subjects) > 1
    page = Document(report.title, "Comparison of models" if many else "Report on a model")
    page.lead(*summary(report))
    page.section("metrics", "Metrics", metrics(report, page), success(report, page))
    page.section("breakdowns", "Breakdowns", breakdowns(report, page))
    page.section("robustness", "Robustness", robustness(report, page))
    page.section("examples", "Examples", *(gallery(report, page, one) for one in report.galleries))
    page.section("training", "Training", curves(report, page))
    page.section("configuration", "Configuration", configuration(report, page))
    page.section("environment", "Environment", environment(report, page))
    return page.render()


_CURVES = {
    "Loss": ("train", "loss"),
    "oIoU, validation (%)": ("evaluate", "metrics", "oIoU"),
    "mIoU, validation (%)": ("evaluate", "metrics", "mIoU"),
    "Learning rate": ("train", "lr"),
    "Gradient norm before clipping": ("train", "grad_norm"),
    "Expressions per second": ("train", "expressions_per_second"),
}


def curves(report: Report, page: Document) -> Html | None:
    """Everything that ``metrics.jsonl`` tells over the steps."""
    terms = dict.fromkeys(
        name for one in report.subjects for line in one.record.log if len(line.get("losses") or ()) > 1
        for name in line["losses"]
    )  # fmt: skip
    wanted = list(_CURVES.items())
    wanted[1:1] = [(f"Loss: {name}", ("train", "losses", name)) for name in terms]
    charts, shown = [], set()
    for title, (event, *keys) in wanted:
        series = []
        for i, subject in enumerate(report.subjects):
            steps, values = subject.record.curve(*keys, event=event)
            if any(value is not None for value in values):
                scale = 100 if event == "evaluate" else 1
                values = [None if value is None else scale * value for value in values]
                series.append(Series(subject.name, steps, values, i % STYLES))
                shown.add(i)
        if series:
            charts.append(line_chart(series, about=title, x="step", y=title, log=title.startswith("Gradient")))
    if not charts:
        return None
    caption = "The training by step; each point is the mean since the point before it."
    return page.figure(
        caption,
        legend(report, sorted(shown)),
        tag("div", *charts, class_="panels four" if len(charts) == 4 else "panels"),
    )


def configuration(report: Report, page: Document) -> Html | None:
    """Where the recipes differ, and each as a whole."""
    known = {i: one.record for i, one in enumerate(report.subjects) if one.record.recipe}
    if not known:
        return None
    parts: list[Html] = []
    if len(known) > 1:
        flat = {i: record.flat for i, record in known.items()}
        names = list(dict.fromkeys(name for settings in flat.values() for name in settings))
        sections = [name.split(".")[0] for name in names]
        names.sort(
            key=lambda name: sections.index(name.split(".")[0])
        )  # what only a later recipe has joins its section
        rows: list[list[Content]] = [
            [tag("code", name), *(_setting(settings, name) for settings in flat.values())]
            for name in names
            if len({_setting(settings, name) for settings in flat.values()}) > 1
        ]
        heads = [Head("Key of the recipe", text=True), *(Head(key(report, i), text=True) for i in known)]
        if rows:
            caption = f"Where the recipes differ; in the other {len(names) - len(rows)} keys they are the same."
            parts.append(page.table(caption, [heads], [Group(rows)], class_="settings"))
        else:
            parts.append(tag("p", "The recipes are the same, key by key."))
    for i, record in known.items():
        title = join("Recipe of ", key(report, i))
        parts.append(tag("details", tag("summary", title), tag("pre", record.recipe.strip())))
    return join(*parts)


def environment(report: Report, page: Document) -> Html:
    """What the models were made and measured with."""
    columns = [_facts(subject) for subject in report.subjects]
    titles = {title: dict.fromkeys(n for one in columns for n in one[title]) for title in columns[0]}
    groups = [
        Group([[name, *(one[title].get(name, NOTHING) for one in columns)] for name in names], title)
        for title, names in titles.items()
        if names
    ]
    heads = [Head(None, text=True), *(Head(key(report, i), text=True) for i in range(len(columns)))]
    return page.table("What the models were made and measured with.", [heads], groups, class_="settings")


def _facts(subject: Subject) -> dict[str, dict[str, Content]]:
    record, evaluation = subject.record, subject.evaluation
    run = record.state.get("run") or {}
    steps = record.state.get("step") or max((line["step"] for line in record.log), default=None)
    training: dict[str, Content] = {
        "run folder": str(record.folder),
        "class": run.get("model"),
        "method": run.get("strategy"),
        "steps": None if steps is None else f"{steps:,}",
        "training items": _thousands(run.get("items")),
        "seed": run.get("seed"),
        "precision": run.get("precision"),
        "processes": run.get("processes"),
        **(record.state.get("versions") or {}),
    }
    measured: dict[str, Content] = {}
    if evaluation is not None:
        model, settings = evaluation.model, evaluation.settings
        size = model.get("input_size")
        measured = {
            "rows": subject.rows_from or None,
            "checkpoint": record.checkpoint if record.checkpoint not in ("", ".") else None,
            "parameters": _thousands(model.get("parameters")),
            "input": f"{size[0]} x {size[1]}" if size else None,
            "precision": settings.get("precision"),
            "expressions cut": _thousands(settings.get("truncated")),
            "weights, SHA-256": _hash(evaluation.fingerprint.get("weights")),
            "data, SHA-256": _hash(evaluation.fingerprint.get("data")),
            **{
                f"annotations: {one['source'] or 'unnamed'}": _hash(one.get("sha256"))
                for one in evaluation.data.get("sources", ())
            },
        }
    facts = {"Training": training, "Evaluation": measured}
    return {title: {name: value for name, value in one.items() if value is not None} for title, one in facts.items()}


def _setting(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return NOTHING
    value = settings[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _thousands(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _hash(value: str | None) -> Html | None:
    return tag("code", value[:16], title=value) if value else None


METRIC: Literal["mIoU"] = "mIoU"


def robustness(report: Report, page: Document) -> Html | None:
    """The result of `maskris robustness`, else what lies in the run folders."""
    if report.robustness is None:
        return _in_run_folders(report, page)
    found = report.robustness
    names = [subject.name for subject in report.subjects]
    numbers = [names.index(name) for name in found.methods]
    families = [Group([_row(found, one) for one in found.subjects])]
    about = f"{METRIC} by family of perturbations ({size(found.runs[0].evaluation())}): the mean over its "
    about += f"conditions, and what is retained of the {METRIC} on clean input."
    if MEAN in found.subjects and (apart := [family for family in found.families if family in DIAGNOSTIC_FAMILIES]):
        about += f" The mean of the families leaves out {listed(apart)}, which makes no input worse."
    short = page.table(about, _heads(report, numbers), families)
    curves = _curves(report, page, found, numbers)
    single = [
        Group([_row(found, one) for one in found.conditions if one.family == family], family.capitalize())
        for family in found.families
    ]
    return join(short, curves, page.table(f"{METRIC} under every condition.", _heads(report, numbers), single))


def _row(found: RobustnessComparison, of: RobustSubject) -> list[Content | Estimate]:
    """One condition or family: the metric and what is retained of it by model, and differences to the first."""
    label = of.label if isinstance(of, Condition) else "Mean of the families" if of == MEAN else of
    row: list[Content | Estimate] = [label]
    for method in found.methods:
        row.append(estimate(found.score(method, of, METRIC).interval, 1))
        row.append(percent(found.retained(method, of, METRIC).mean, 1))
    return row + [difference(found.difference(method, of, METRIC), 1) for method in list(found.methods)[1:]]


def _curves(report: Report, page: Document, found: RobustnessComparison, numbers: Sequence[int]) -> Html | None:
    """The metric over the severity of what has several."""
    charts = []
    for name in dict.fromkeys(one.name for one in found.conditions):
        same = [one for one in found.conditions if one.name == name and one.severity is not None]
        if len(same) < 2:
            continue
        steps = sorted(same, key=lambda one: one.severity or 0)
        severity = [0.0, *(float(one.severity or 0) for one in steps)]
        series = [
            Series(
                method, severity, [100 * found.score(method, one, METRIC).mean for one in (CLEAN, *steps)], i % STYLES
            )
            for i, method in zip(numbers, found.methods, strict=True)
        ]
        unit = "share" if isinstance(steps[0].severity, float) else "severity"
        charts.append(line_chart(series, about=f"{METRIC} under {name}", x=unit, y=f"{name} ({METRIC}, %)"))
    if not charts:
        return None
    caption = f"{METRIC} over the severity of a perturbation; 0 is clean input."
    panels = tag("div", *charts, class_="panels four" if len(charts) == 4 else "panels")
    return page.figure(caption, legend(report, numbers), panels)


def _heads(report: Report, numbers: Sequence[int]) -> list[list[Head]]:
    names = [key(report, i) for i in numbers]
    above = [Head(None), *(Head(name, 3) for name in names), *difference_to_first(report, numbers, f" in {METRIC}")]
    below = [Head("Input", text=True), *(head for _ in names for head in (Head(METRIC, 2), Head("retained")))]
    return [above, [*below, *(Head(name, 2) for name in names[1:])]]


def _in_run_folders(report: Report, page: Document) -> Html | None:
    """What is left of the metric under perturbations whose rows lie in the run folders."""
    conditions = list(dict.fromkeys(name for one in report.subjects for name in one.perturbed))
    if not conditions:
        return None
    rows: list[list[Content | Estimate]] = []
    for name in ("clean", *conditions):
        parts = {i: one.perturbed[name] for i, one in enumerate(report.subjects) if name in one.perturbed}
        if name == "clean":
            parts = dict(report.evaluations)
        row: list[Content | Estimate] = [name]
        for i in range(len(report.subjects)):
            found = estimate(report.intervals(parts[i], [METRIC])[METRIC], 1) if i in parts else EMPTY
            row += [found, _retained(report.evaluations.get(i), parts.get(i))]
        rows.append([*row, *_differences(report, parts)])
    caption = f"{METRIC} under perturbations of the input, and its share of the {METRIC} on clean input."
    return page.table(caption, _heads(report, range(len(report.subjects))), [Group(rows)])


def _differences(report: Report, parts: Mapping[int, Evaluation]) -> Sequence[Content | Estimate]:
    """To the first model, if all were measured on the same expressions."""
    empty = [EMPTY] * (len(report.subjects) - 1)
    if len(parts) < len(report.subjects):
        return empty
    try:
        return [difference(one[METRIC], 1) for one in report.differences(parts, [METRIC])]
    except ValueError:
        return empty


def _retained(clean: Evaluation | None, perturbed: Evaluation | None) -> str:
    """Perturbed over clean, in per cent, if both are of the same expressions."""
    if clean is None or perturbed is None:
        return ""
    try:
        align([clean, perturbed])
    except ValueError:
        return ""
    whole, part = clean.metrics[METRIC], perturbed.metrics[METRIC]
    return percent(part / whole, 1) if whole else ""
