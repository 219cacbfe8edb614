"""`maskris study`: train variants of a recipe with several seeds, and set them beside each other and the paper."""

from dataclasses import replace
from pathlib import Path

from maskris.cli.common import say, show


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
    images: int | None = None,
    metric: str = "mIoU",
    report: bool = False,
    overrides: list[str] | None = None,
) -> int:
    """Train variants of a recipe with several seeds and compare them, clean and with parts of the picture hidden.

    A run that is complete isn't repeated, and one that was interrupted goes on: give the same command again. With
    several GPUs, each of the --jobs gets one of them.

    Args:
        name: A shipped study, a YAML file that describes one, or a recipe to vary.
        vary: Keys of the recipe with the values to try, such as strategy.image.ratio=0.25,0.5; several are crossed.
        seeds: Seeds of each variant; by default those of the study.
        data: Parquet files written by `maskris prepare`; by default the embedded data set is drawn.
        splits: Splits to compare on.
        out: Folder of the runs and the report; by default studies/NAME.
        jobs: Runs at the same time.
        threads: Threads of each run; by default the cores are shared out.
        images: Scenes of the embedded data set to train on.
        metric: What the table compares: mIoU or oIoU.
        report: Don't train, but report on what there is.
        overrides: Keys of the recipe with their values, for all variants.
    """
    from maskris.data.shapes.writer import embedded_data
    from maskris.data.table import choose_splits, open_tables
    from maskris.experiments.study import StudyError, check_variant, plan_study
    from maskris.experiments.study_results import METRICS, load_study
    from maskris.experiments.study_runner import compare_plan, data_of, job_files, recipe_file, run_all, write_plan
    from maskris.reporting.study import write_study
    from maskris.utils.process import usable_cores

    if metric not in METRICS:
        raise StudyError(f"--metric must be one of {', '.join(METRICS)}, not {metric!r}")
    for option, number in {"--jobs": jobs, "--threads": threads, "--images": images}.items():
        if number is not None and number < 1:
            raise StudyError(f"{option} must be at least 1, not {number}")
    plan = plan_study(name, vary)
    plan = replace(plan, seeds=tuple(seeds or plan.seeds), images=images or plan.images)
    folder, words = out or Path("studies") / Path(name).stem, overrides or []
    files = data or []
    table = open_tables(files) if files else None
    what = data_of(table, files, plan.images)
    if report:
        compare_plan(folder, plan, words, data=what if files or images else None, splits=splits)
    else:
        splits = splits or ["val"]
        kept = compare_plan(folder, plan, words, data=what, splits=splits)
        for variant in plan.variants:
            check_variant(variant, recipe_file(folder, variant), words)
        if table is None:
            table = embedded_data(folder / "data", seed=0, images=plan.images)
            files = [folder / "data" / "shapes.parquet"]
        choose_splits(table, splits, "--splits")
        write_plan(folder, kept)
        share = threads or max(1, usable_cores() // jobs)
        todo = job_files(folder, plan, words, data=files, splits=splits, threads=share)
        if failed := run_all(todo, jobs):
            say(f"{len(failed)} of {len(todo)} runs failed; give the same command again to go on. Their logs:")
            say("\n".join(f"  {path}" for path in failed))
            return 1
    results = load_study(
        folder,
        title=plan.title,
        about=plan.about,
        baseline=plan.baseline,
        against={v.name: v.against for v in plan.variants if v.against is not None},
        same_compute={v.name: v.same_compute for v in plan.variants if v.same_compute is not None},
        occlusion=plan.occlusion,
        folders={variant.name: variant.folder for variant in plan.variants},
        paper={variant.name: variant.paper for variant in plan.variants if variant.paper is not None},
        source=plan.paper,
    )
    written = write_study(results, folder, metric)
    show(results, metric=metric)
    say("Written:\n" + "\n".join(f"  {path}" for path in written))
    return 0
