"""The sections of the page as data for its template, each from the evaluations and records of a report."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from maskris.evaluation.metrics import labels, precision_at
from maskris.evaluation.result import Evaluation
from maskris.reporting.html.contents import Parts, Report, Subject, listed
from maskris.reporting.html.selection import photos_of
from maskris.reporting.html.template import Cell, Code, Estimate, Group, Strip, difference, estimate, render
from maskris.reporting.plots import Series, line_chart, severity, severity_curves
from maskris.reporting.scores import describe_protocol, notes_of
from maskris.reporting.tables import NOTHING, percent
from maskris.robustness.results import MEAN, Metric, RobustnessComparison
from maskris.robustness.results import Subject as RobustSubject
from maskris.robustness.suite import CLEAN, DIAGNOSTIC_FAMILIES, Condition

METRIC: Metric = "mIoU"
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
    "oIoU, validation (%)": ("evaluate", "metrics", "oIoU"),
    "mIoU, validation (%)": ("evaluate", "metrics", "mIoU"),
    "Learning rate": ("train", "lr"),
    "Gradient norm before clipping": ("train", "grad_norm"),
    "Expressions per second": ("train", "expressions_per_second"),
}

Content = dict[str, Any]
"""What the template makes a section of; ``shown`` are the numbers of its models, and charts are pairs of what their
vertical axis shows and SVG."""


def compose(report: Report) -> str:
    """The page of a report as HTML; the same report gives the same bytes."""
    measured = bool(report.evaluations)
    return render(
        title=listed(report.names),
        models=report.names,
        metric=METRIC,
        lead=_lead(report) if measured else None,
        notes=notes_of(_measured(report)),
        metrics=_metrics(report) if measured else None,
        breakdowns=_breakdowns(report) if measured else None,
        robustness=_in_run_folders(report) if report.robustness is None else _robustness(report, report.robustness),
        galleries=[shown for shown in report.galleries if shown.examples],
        training=_training(report),
        configuration=_configuration(report),
        environment=_environment(report),
    )


def _measured(report: Report) -> Iterator[Evaluation]:
    yield from report.evaluations.values()
    for subject in report.subjects:
        yield from subject.perturbed.values()
    for run in report.robustness.runs if report.robustness else ():
        yield run.evaluation()


def _lead(report: Report) -> Content:
    """What the sentences of the summary are made of."""
    parts = report.evaluations
    data = next(iter(parts.values()))
    scores = [report.intervals(one, ["oIoU", "mIoU"]).values() for one in parts.values()]
    apart = report.differences(parts, [METRIC])
    return {
        "size": _size(data),
        "splits": listed(list(data.breakdown("split"))),
        "scores": [(i, *(estimate(one, 1) for one in pair)) for i, pair in zip(parts, scores, strict=True)],
        "differences": [(i, difference(one[METRIC], 1)) for i, one in zip(list(parts)[1:], apart, strict=True)],
        "drawn": "photos" if report.unit == "image" else f"{report.unit}s",
        "resamples": f"{report.resamples:,}",
        "protocol": data.protocol.name,
        "decisions": describe_protocol(data).removeprefix(data.protocol.name),
    }


def _size(evaluation: Evaluation) -> str:
    return f"{len(evaluation):,} expressions about {len(set(photos_of(evaluation))):,} photos"


def _metrics(report: Report) -> Content:
    """Every metric of every split with its interval, and Pr@X at every X."""
    groups = []
    for split, parts in report.parts("split").items():
        found = [report.intervals(one) for one in parts.values()]
        apart = list(report.differences(parts))
        rows: list[list[Cell]] = [
            [label, *(estimate(one[key]) for one in found), *(difference(one[key]) for one in apart)]
            for key, label in labels(next(iter(parts.values())).protocol).items()
            if key in found[0]
        ]
        groups.append(Group(rows, split, f"{_count(parts):,} expressions"))
    thresholds = [round(0.02 * i, 2) for i in range(1, 51)]
    series = []
    for i, one in report.evaluations.items():
        values = [precision_at(x).value(one.outcomes) for x in thresholds]
        shares = [None if value is None else 100 * value for value in values]
        series.append(Series(report.names[i], thresholds, shares, i))
    about = "Share of expressions whose IoU reaches a threshold"
    success = line_chart(series, about=about, x="IoU threshold X", y_range=(0, 100))
    return {"shown": list(report.evaluations), "groups": groups, "success": success}


def _count(parts: Parts) -> int:
    return len(next(iter(parts.values())))


def _breakdowns(report: Report) -> Content:
    """Groups of expressions by oIoU and mIoU, the latter as a picture too."""
    groups = [Group([_breakdown_row(report, "All", report.evaluations)])]
    hidden = {}
    for by, title in _BREAKDOWNS.items():
        found = report.parts(by)
        if len(found) > _MOST_GROUPS:
            hidden[by] = len(found)
            largest = sorted(found, key=lambda label: -_count(found[label]))[:_MOST_GROUPS]
            found = {label: parts for label, parts in found.items() if label in largest}
        if len(found) > 1:
            groups.append(Group([_breakdown_row(report, label, parts) for label, parts in found.items()], title))
    return {"shown": list(report.evaluations), "groups": groups, "hidden": hidden, "most": _MOST_GROUPS}


def _breakdown_row(report: Report, label: str, parts: Parts) -> list[Cell]:
    found = [report.intervals(one, ["oIoU", "mIoU"]) for one in parts.values()]
    values = [percent(one[name].value, 1) for name in ("oIoU", "mIoU") for one in found]
    apart = [difference(one["mIoU"], 1) for one in report.differences(parts, ["mIoU"])]
    strip = Strip([(i, one["mIoU"]) for i, one in zip(parts, found, strict=True)])
    return [label, f"{_count(parts):,}", *values, *apart, strip]


def _robustness(report: Report, found: RobustnessComparison) -> Content:
    """The result of `maskris robustness` by family and by condition, with curves over the severities."""
    numbers = {method: report.names.index(method) for method in found.methods}
    apart = [family for family in found.families if family in DIAGNOSTIC_FAMILIES]
    panels = []
    for name, own in severity_curves(found).items():
        x = [severity(one) for one in own]
        series = [
            Series(method, x, [100 * found.score(method, one, METRIC).mean for one in own], i)
            for method, i in numbers.items()
        ]
        unit = "share" if isinstance(own[-1].severity, float) else "severity"
        panels.append((f"{name} ({METRIC}, %)", line_chart(series, about=f"{METRIC} under {name}", x=unit)))
    conditions = [
        Group([_robustness_row(found, one) for one in found.conditions if one.family == family], family.capitalize())
        for family in found.families
    ]
    return {
        "shown": list(numbers.values()),
        "size": _size(found.runs[0].evaluation()),
        "apart": listed(apart) if MEAN in found.subjects and apart else "",
        "groups": [Group([_robustness_row(found, one) for one in found.subjects])],
        "panels": panels,
        "conditions": conditions,
    }


def _robustness_row(found: RobustnessComparison, of: RobustSubject) -> list[Cell]:
    """One condition or family: the metric and what is retained of it by model, and differences to the first."""
    row: list[Cell] = [of.label if isinstance(of, Condition) else "Mean of the families" if of == MEAN else of]
    for method in found.methods:
        row.append(estimate(found.score(method, of, METRIC).interval, 1))
        row.append(percent(found.retained(method, of, METRIC).mean, 1))
    return row + [difference(found.difference(method, of, METRIC), 1) for method in list(found.methods)[1:]]


def _in_run_folders(report: Report) -> Content | None:
    """What is left of the metric under perturbations whose rows lie in the run folders."""
    subjects, clean = report.subjects, report.evaluations
    conditions = dict.fromkeys(name for one in subjects for name in one.perturbed)
    measured: dict[str, Parts] = {CLEAN.name: clean} if conditions else {}
    for name in conditions:
        measured[name] = {i: one.perturbed[name] for i, one in enumerate(subjects) if name in one.perturbed}
    rows: list[list[Cell]] = []
    for name, parts in measured.items():
        row: list[Cell] = [name]
        for i in range(len(subjects)):
            row.append(estimate(report.intervals(parts[i], [METRIC])[METRIC], 1) if i in parts else Estimate())
            whole = clean[i].metrics[METRIC] if i in clean and i in parts else 0
            row.append(percent(parts[i].metrics[METRIC] / whole, 1) if whole else "")
        try:
            apart = report.differences(parts if len(parts) == len(subjects) else {}, [METRIC])
            differences = [difference(one[METRIC], 1) for one in apart]
        except ValueError:  # the models were measured on different expressions
            differences = []
        rows.append([*row, *(differences or [Estimate()] * (len(subjects) - 1))])
    content = {"shown": range(len(subjects)), "size": "", "groups": [Group(rows)], "panels": [], "conditions": []}
    return content if rows else None


def _training(report: Report) -> Content | None:
    """The values of ``metrics.jsonl`` over the steps."""
    logged = [line.get("losses") or () for one in report.subjects for line in one.record.log]
    terms = dict.fromkeys(name for losses in logged if len(losses) > 1 for name in losses)
    wanted = {"Loss": ("train", "loss"), **{f"Loss: {name}": ("train", "losses", name) for name in terms}, **_CURVES}
    panels = []
    shown: set[int] = set()
    for title, (event, *keys) in wanted.items():
        series = []
        for i, subject in enumerate(report.subjects):
            steps, values = subject.record.curve(*keys, event=event)
            if any(value is not None for value in values):
                scale = 100 if event == "evaluate" else 1
                scaled = [None if value is None else scale * value for value in values]
                series.append(Series(subject.name, steps, scaled, i))
        if series:
            panels.append((title, line_chart(series, about=title, x="step", log=title.startswith("Gradient"))))
            shown.update(one.number for one in series)
    return {"shown": sorted(shown), "panels": panels} if panels else None


def _configuration(report: Report) -> Content | None:
    """Where the recipes differ, and each as a whole."""
    known = {i: one.record for i, one in enumerate(report.subjects) if one.record.recipe}
    flat = [{name: _setting(value) for name, value in record.flat.items()} for record in known.values()]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    sections = [name.split(".")[0] for name in names]
    names.sort(key=lambda name: sections.index(name.split(".")[0]))  # what a later recipe adds joins its section
    values = {name: [settings.get(name, NOTHING) for settings in flat] for name in names}
    rows: list[list[Cell]] = [[Code(name), *own] for name, own in values.items() if len(set(own)) > 1]
    recipes = [record.recipe.strip() for record in known.values()]
    differences = [Group(rows)] if rows else []
    content = {"shown": list(known), "recipes": recipes, "differences": differences, "same": len(names) - len(rows)}
    return content if known else None


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _environment(report: Report) -> list[Group]:
    """What the models were made and measured with; facts that are known of no model are left out."""
    groups = []
    for title, facts in {"Training": _of_training, "Evaluation": _of_evaluation}.items():
        columns = [facts(subject) for subject in report.subjects]
        names = dict.fromkeys(name for one in columns for name, fact in one.items() if fact is not None)
        rows: list[list[Cell]] = [[name, *(_fact(one.get(name)) for one in columns)] for name in names]
        groups += [Group(rows, title)] if rows else []
    return groups


def _of_training(subject: Subject) -> Mapping[str, Any]:
    record = subject.record
    run = record.state.get("run") or {}
    return {
        "run folder": None if record.folder.is_file() else record.folder,
        "class": run.get("model"),
        "method": run.get("strategy"),
        "steps": _thousands(record.state.get("step") or max((line["step"] for line in record.log), default=None)),
        "training items": _thousands(run.get("items")),
        "pseudo masks": _pseudo(run),
        "seed": run.get("seed"),
        "precision": run.get("precision"),
        "processes": run.get("processes"),
        **(record.state.get("versions") or {}),
    }


def _pseudo(run: Mapping[str, Any]) -> str | None:
    """How many training masks were made by a model, and by which."""
    if not (made := run.get("pseudo_masks")):
        return None
    return " ".join([f"{made:,}", *([f"by {' and '.join(run['mask_origins'])}"] if run.get("mask_origins") else [])])


def _of_evaluation(subject: Subject) -> Mapping[str, Any]:
    if (evaluation := subject.evaluation) is None:
        return {}
    model, settings, checkpoint = evaluation.model, evaluation.settings, subject.record.checkpoint
    size = model.get("input_size")
    return {
        "rows": subject.rows_from or None,
        "checkpoint": None if checkpoint in ("", ".") else checkpoint,
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


def _fact(value: Any) -> Cell:
    return NOTHING if value is None else value if isinstance(value, Code) else str(value)


def _thousands(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, (int, float)) else None


def _hash(value: str | None) -> Code | None:
    return Code(value[:16], value) if value else None
