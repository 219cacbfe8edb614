"""`compose`: the sections of a report in their order."""

from maskris.evaluation.page import measured, robust, trained
from maskris.evaluation.page.document import Document
from maskris.evaluation.page.pictures import gallery
from maskris.evaluation.page.report import Report


def compose(report: Report) -> str:
    """The page of a report as HTML."""
    many = len(report.subjects) > 1
    page = Document(report.title, "Comparison of models" if many else "Report on a model")
    page.lead(*measured.summary(report))
    page.section("metrics", "Metrics", measured.metrics(report, page), measured.success(report, page))
    page.section("breakdowns", "Breakdowns", measured.breakdowns(report, page))
    page.section("robustness", "Robustness", robust.robustness(report, page))
    page.section("examples", "Examples", *(gallery(report, page, one) for one in report.galleries))
    page.section("training", "Training", trained.curves(report, page))
    page.section("configuration", "Configuration", trained.configuration(report, page))
    page.section("environment", "Environment", trained.environment(report, page))
    return page.render()
