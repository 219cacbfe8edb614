"""The sections of the page on how the models came to be: curves of the training, configuration and environment."""

import json
from collections.abc import Mapping
from typing import Any

from maskris.evaluation.page.chart import STYLES, Series, line_chart
from maskris.evaluation.page.document import Document, Group, Head
from maskris.evaluation.page.html import Content, Html, join, tag
from maskris.evaluation.page.measured import key, legend
from maskris.evaluation.page.report import Report, Subject
from maskris.evaluation.report import NOTHING

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
            "checkpoint": record.checkpoint if record.checkpoint in ("best", "last") else None,
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
