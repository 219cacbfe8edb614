"""Train variants of a recipe with several seeds and compare them."""

from dataclasses import replace
from pathlib import Path

from maskris.cli.common import say, show
from maskris.cli.options import MetricName


def study(
    name: str,
    *,
    vary: list[str] | None = None,
    seeds: list[int] | None = None,
    data: list[Path] | None = None,
    splits: list[str] | None = None,
    out: Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    scenes: int | None = None,
    metric: MetricName = "mIoU",
    report: bool = False,
    overrides: list[str] | None = None,
) -> None:
    """Train variants of a recipe with several seeds and compare them, clean and with parts of the image hidden.

    A run that is complete isn't repeated, and one that was interrupted goes on: give the same command again. With
    several GPUs, each of the --jobs gets one of them.

    Args:
        name: A shipped study, a YAML file that describes one, or a recipe to vary.
        vary: Keys of the recipe with the values to try, such as strategy.image.ratio=0.25,0.5; several are crossed.
        seeds: Seeds of each variant; by default those of the study.
        data: Parquet files written by `maskris prepare`; by default the embedded data set is drawn.
        splits: Splits to compare on; val by default.
        out: Folder of the runs and the report; by default studies/NAME.
        jobs: Runs at the same time.
        threads: Threads of each run; by default the cores are shared out.
        scenes: Scenes of the embedded data set to train on; by default those of the study.
        metric: What the table compares.
        report: Don't train, but report on what there is.
        overrides: Keys of the recipe with their values, for all variants.
    """
    from maskris.experiments.study import plan_study
    from maskris.experiments.study_runner import run_study
    from maskris.reporting.study import write_study

    plan = plan_study(name, vary)
    plan = replace(plan, seeds=tuple(seeds or plan.seeds), scenes=plan.scenes if scenes is None else scenes)
    folder = out or Path("studies") / Path(name).stem
    words = overrides or []
    results = run_study(
        plan, folder, data=data or [], splits=splits, jobs=jobs, threads=threads, overrides=words, train=not report
    )
    show(results, metric=metric)
    say("Written:\n" + "\n".join(f"  {path}" for path in write_study(results, folder, metric)))
