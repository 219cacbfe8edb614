"""The sections of the page, each from the evaluations and records of a report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from maskris.evaluation.metrics import labels, precision_at
from maskris.evaluation.result import Evaluation, align
from maskris.reporting.html.contents import Report, Subject, listed
from maskris.reporting.html.render import Cell, Code, Estimate, Group, Key, Strip, difference, estimate, render
from maskris.reporting.plots import SERIES, Series, line_chart
from maskris.reporting.tables import NOTHING, percent
from maskris.robustness.results import MEAN, RobustnessComparison
from maskris.robustness.results import Subject as RobustSubject
from maskris.robustness.suite import CLEAN, DIAGNOSTIC_FAMILIES, Condition

METRIC: Literal["mIoU"] = "mIoU"
"""What robustness and the summary compare."""

_BREAKDOWNS = {
    "split": "Split",
    "length": "Length of the expression",
    "relative_size": "Share of the photo",
    "kind": "Kind of expression",
    "category": "Category",
}

_MOST_GROUPS = 12  # of a breakdown; data sets have up to 80 categories

_CURVES = {
    "Loss": ("train", "loss"),
    "oIoU, validation (%)": ("evaluate", "metrics", "oIoU"),
    "mIoU, validation (%)": ("evaluate", "metrics", "mIoU"),
    "Learning rate": ("train", "lr"),
    "Gradient norm before clipping": ("train", "grad_norm"),
    "Expressions per second": ("train", "expressions_per_second"),
}

Panel = tuple[str, str]
"""What the vertical axis of a chart shows, and its SVG."""

Parts = Mapping[int, Evaluation]
"""Evaluations of the same expressions by the number of the model."""


Content = dict[str, Any]
"""What the template makes a section of; the models ``shown`` in it stand first in it."""


def compose(report: Report) -> str:
    """The page of a report as HTML; the same report gives the same bytes."""
    measured = bool(report.evaluations)
    return render(
        title=listed([subject.name for subject in report.subjects]),
        models=_keys(report),
        metric=METRIC,
        lead=_lead(report) if measured else None,
        metrics=_metrics(report) if measured else None,
        breakdowns=_breakdowns(report) if measured else None,
        robustness=_in_run_folders(report) if report.robustness is None else _robustness(report, report.robustness),
        galleries=[shown for shown in report.galleries if shown.examples],
        training=_training(report),
        configuration=_configuration(report),
        environment=_environment(report),
    )


def _keys(report: Report, numbers: Iterable[int] | None = None) -> list[Key]:
    """Names of models, marked where there are several."""
    many = len(report.subjects) > 1
    numbers = range(len(report.subjects)) if numbers is None else numbers
    return [Key(report.subjects[i].name, i % len(SERIES) if many else None) for i in numbers]


def _lead(report: Report) -> Content:
    """What the sentences of the summary are made of."""
    data = next(iter(report.evaluations.values()))
    keys = _keys(report, report.evaluations)
    scores = [report.intervals(one, ["oIoU", "mIoU"]) for one in report.evaluations.values()]
    apart = report.differences(report.evaluations, [METRIC])
    side = data.model.get("input_size")
    protocol = data.protocol.describe((side[0], side[1]) if side else None)
    return {
        "size": _size(data),
        "splits": listed(list(data.breakdown("split"))),
        "scores": [(key, *(estimate(one, 1) for one in pair.values())) for key, pair in zip(keys, scores, strict=True)],
        "differences": [(key, difference(one[METRIC], 1)) for key, one in zip(keys[1:], apart, strict=True)],
        "drawn": "photos" if report.unit == "image" else f"{report.unit}s",
        "resamples": f"{report.resamples:,}",
        "protocol": data.protocol.name,
        "decisions": protocol.removeprefix(data.protocol.name),
    }


def _size(evaluation: Evaluation) -> str:
    photos = set(zip(*(evaluation.rows[name].to_pylist() for name in ("dataset", "image_id")), strict=True))
    return f"{len(evaluation):,} expressions about {len(photos):,} photos"


def _metrics(report: Report) -> Content:
    """Every metric of every split with its interval, and Pr@X at every X."""
    splits = {i: one.parts("split") for i, one in report.evaluations.items()}
    groups = []
    for split, part in next(iter(splits.values())).items():
        found = [report.intervals(parts[split]) for parts in splits.values()]
        apart = list(report.differences({i: parts[split] for i, parts in splits.items()}))
        rows: list[list[Cell]] = [
            [label, *(estimate(one[key]) for one in found), *(difference(one[key]) for one in apart)]
            for key, label in labels(part.protocol).items()
            if key in found[0]
        ]
        groups.append(Group(rows, split, f"{len(part):,} expressions"))
    thresholds = [round(0.02 * i, 2) for i in range(1, 51)]
    series = []
    for i, one in report.evaluations.items():
        values = [precision_at(x).value(one.outcomes) for x in thresholds]
        shares = [None if value is None else 100 * value for value in values]
        series.append(Series(report.subjects[i].name, thresholds, shares, i))
    about = "Share of expressions whose IoU reaches a threshold"
    success = line_chart(series, about=about, x="IoU threshold X", y_range=(0, 100))
    return {"shown": _keys(report, report.evaluations), "groups": groups, "success": success}


def _breakdowns(report: Report) -> Content:
    """Groups of expressions by oIoU and mIoU, the latter as a picture too."""
    groups = [Group([_breakdown_row(report, "All", report.evaluations)])]
    hidden = ""
    for by, title in _BREAKDOWNS.items():
        parts = {i: one.parts(by) for i, one in report.evaluations.items()}
        first = next(iter(parts.values()))
        labels = list(first)
        if len(labels) > _MOST_GROUPS:
            largest = sorted(labels, key=lambda label: -len(first[label]))[:_MOST_GROUPS]
            hidden += f" Of {len(labels)} groups by {by}, the {_MOST_GROUPS} with most expressions are shown."
            labels = [label for label in labels if label in largest]
        if len(labels) > 1:
            rows = [_breakdown_row(report, label, {i: parts[i][label] for i in parts}) for label in labels]
            groups.append(Group(rows, title))
    return {"shown": _keys(report, report.evaluations), "groups": groups, "hidden": hidden}


def _breakdown_row(report: Report, label: str, parts: Parts) -> list[Cell]:
    found = [report.intervals(one, ["oIoU", "mIoU"]) for one in parts.values()]
    apart = [one["mIoU"] for one in report.differences(parts, ["mIoU"])]
    values = [percent(one[name].value, 1) for name in ("oIoU", "mIoU") for one in found]
    strip = Strip([(i % len(SERIES), one["mIoU"]) for i, one in zip(parts, found, strict=True)])
    n = len(next(iter(parts.values())))
    return [label, f"{n:,}", *values, *(difference(one, 1) for one in apart), strip]


def _robustness(report: Report, found: RobustnessComparison) -> Content:
    """The result of `maskris robustness` by family and by condition, with curves over the severities."""
    names = [subject.name for subject in report.subjects]
    numbers = [names.index(name) for name in found.methods]
    about = f"{METRIC} by family of perturbations ({_size(found.runs[0].evaluation())}): the mean over its "
    about += f"conditions, and what is retained of the {METRIC} on clean input."
    if MEAN in found.subjects and (apart := [family for family in found.families if family in DIAGNOSTIC_FAMILIES]):
        about += f" The mean of the families leaves out {listed(apart)}, which makes no input worse."
    conditions = [
        Group([_robustness_row(found, one) for one in found.conditions if one.family == family], family.capitalize())
        for family in found.families
    ]
    return {
        "shown": _keys(report, numbers),
        "caption": about,
        "groups": [Group([_robustness_row(found, one) for one in found.subjects])],
        "panels": _severities(report, found, numbers),
        "conditions": conditions,
    }


def _robustness_row(found: RobustnessComparison, of: RobustSubject) -> list[Cell]:
    """One condition or family: the metric and what is retained of it by model, and differences to the first."""
    row: list[Cell] = [of.label if isinstance(of, Condition) else "Mean of the families" if of == MEAN else of]
    for method in found.methods:
        row.append(estimate(found.score(method, of, METRIC).interval, 1))
        row.append(percent(found.retained(method, of, METRIC).mean, 1))
    return row + [difference(found.difference(method, of, METRIC), 1) for method in list(found.methods)[1:]]


def _severities(report: Report, found: RobustnessComparison, numbers: Sequence[int]) -> list[Panel]:
    """The metric over the severity of what has several."""
    panels = []
    for name in dict.fromkeys(one.name for one in found.conditions):
        same = [one for one in found.conditions if one.name == name and one.severity is not None]
        if len(same) < 2:
            continue
        steps = sorted(same, key=lambda one: one.severity or 0)
        severity = [0.0, *(float(one.severity or 0) for one in steps)]
        scores = ([found.score(method, one, METRIC).mean for one in (CLEAN, *steps)] for method in found.methods)
        series = [
            Series(report.subjects[i].name, severity, [100 * value for value in own], i)
            for i, own in zip(numbers, scores, strict=True)
        ]
        unit = "share" if isinstance(steps[0].severity, float) else "severity"
        panels.append((f"{name} ({METRIC}, %)", line_chart(series, about=f"{METRIC} under {name}", x=unit)))
    return panels


def _in_run_folders(report: Report) -> Content | None:
    """What is left of the metric under perturbations whose rows lie in the run folders."""
    conditions = list(dict.fromkeys(name for one in report.subjects for name in one.perturbed))
    if not conditions:
        return None
    rows: list[list[Cell]] = []
    for name in ("clean", *conditions):
        parts = {i: one.perturbed[name] for i, one in enumerate(report.subjects) if name in one.perturbed}
        if name == "clean":
            parts = dict(report.evaluations)
        row: list[Cell] = [name]
        for i in range(len(report.subjects)):
            found = estimate(report.intervals(parts[i], [METRIC])[METRIC], 1) if i in parts else Estimate()
            row += [found, _retained(report.evaluations.get(i), parts.get(i))]
        rows.append([*row, *_differences(report, parts)])
    caption = f"{METRIC} under perturbations of the input, and its share of the {METRIC} on clean input."
    content: Content = {"shown": _keys(report), "caption": caption, "groups": [Group(rows)]}
    return {**content, "panels": [], "conditions": []}


def _differences(report: Report, parts: Parts) -> list[Estimate]:
    """To the first model, if all were measured on the same expressions."""
    empty = [Estimate()] * (len(report.subjects) - 1)
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


def _training(report: Report) -> Content | None:
    """The values of ``metrics.jsonl`` over the steps."""
    terms = dict.fromkeys(
        name for one in report.subjects for line in one.record.log if len(line.get("losses") or ()) > 1
        for name in line["losses"]
    )  # fmt: skip
    wanted = list(_CURVES.items())
    wanted[1:1] = [(f"Loss: {name}", ("train", "losses", name)) for name in terms]
    panels, shown = [], set()
    for title, (event, *keys) in wanted:
        series = []
        for i, subject in enumerate(report.subjects):
            steps, values = subject.record.curve(*keys, event=event)
            if any(value is not None for value in values):
                scale = 100 if event == "evaluate" else 1
                values = [None if value is None else scale * value for value in values]
                series.append(Series(subject.name, steps, values, i))
                shown.add(i)
        if series:
            panels.append((title, line_chart(series, about=title, x="step", log=title.startswith("Gradient"))))
    return {"shown": _keys(report, sorted(shown)), "panels": panels} if panels else None


def _configuration(report: Report) -> Content | None:
    """Where the recipes differ, and each as a whole."""
    known = {i: one.record for i, one in enumerate(report.subjects) if one.record.recipe}
    flat = [record.flat for record in known.values()]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    sections = [name.split(".")[0] for name in names]
    names.sort(key=lambda name: sections.index(name.split(".")[0]))  # what a later recipe adds joins its section
    values = {name: [_setting(settings, name) for settings in flat] for name in names}
    rows: list[list[Cell]] = [[Code(name), *own] for name, own in values.items() if len(set(own)) > 1]
    recipes = [record.recipe.strip() for record in known.values()]
    differences = [Group(rows)] if rows else []
    same = len(names) - len(rows)
    content = {"shown": _keys(report, known), "recipes": recipes, "differences": differences, "same": same}
    return content if known else None


def _environment(report: Report) -> list[Group]:
    """What the models were made and measured with."""
    columns = [_facts(subject) for subject in report.subjects]
    titles = {title: dict.fromkeys(n for one in columns for n in one[title]) for title in columns[0]}
    return [
        Group([[name, *(one[title].get(name, NOTHING) for one in columns)] for name in names], title)
        for title, names in titles.items()
        if names
    ]


def _facts(subject: Subject) -> dict[str, dict[str, Cell]]:
    """What is known of a model, by the title of a group and the name of the fact."""
    record, evaluation = subject.record, subject.evaluation
    run = record.state.get("run") or {}
    steps = record.state.get("step") or max((line["step"] for line in record.log), default=None)
    training: dict[str, Any] = {
        "run folder": record.folder,
        "class": run.get("model"),
        "method": run.get("strategy"),
        "steps": _thousands(steps),
        "training items": _thousands(run.get("items")),
        "seed": run.get("seed"),
        "precision": run.get("precision"),
        "processes": run.get("processes"),
        **(record.state.get("versions") or {}),
    }
    measured: dict[str, Any] = {}
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
    return {
        title: {name: one if isinstance(one, Code) else str(one) for name, one in facts.items() if one is not None}
        for title, facts in {"Training": training, "Evaluation": measured}.items()
    }


def _setting(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return NOTHING
    value = settings[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _thousands(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, (int, float)) else None


def _hash(value: str | None) -> Code | None:
    return Code(value[:16], value) if value else None
