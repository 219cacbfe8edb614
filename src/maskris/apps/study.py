"""`maskris study`: train variants of a recipe with several seeds, and set them beside each other and the paper."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.apps.terminal import say, show

if TYPE_CHECKING:
    from maskris.apps.study_plan import Study


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
    from maskris.apps.study_jobs import run_all
    from maskris.apps.study_plan import StudyError, check_variant, plan_study
    from maskris.data.cores import usable_cores
    from maskris.evaluation.study import METRICS, load_study, write_report

    if metric not in METRICS:
        raise StudyError(f"--metric must be one of {', '.join(METRICS)}, not {metric!r}")
    plan = plan_study(name, vary)
    plan = replace(plan, seeds=tuple(seeds or plan.seeds), images=images or plan.images)
    folder = out or Path("studies") / Path(name).stem
    kept = _one_plan(folder, plan, overrides or [])
    if not report:
        for variant in plan.variants:
            check_variant(variant, folder / "recipes" / f"{variant.folder}.yaml", overrides or [])
        (folder / "plan.json").write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")
        tables = [str(path) for path in data or [_embedded(folder / "data", plan.images)]]
        share = threads or max(1, usable_cores() // jobs)
        todo = _jobs(plan, folder, tables, splits or ["val"], share, overrides or [])
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
    written = write_report(results, folder, metric)
    for table in results.tables(metric):
        show(table)
    say("Written:\n" + "\n".join(f"  {path}" for path in written))
    return 0


def _one_plan(folder: Path, plan: "Study", overrides: list[str]) -> dict[str, Any]:
    """What the folder's ``plan.json`` is to hold; refuses to mix two studies in one folder."""
    from maskris.apps.study_plan import StudyError

    what: dict[str, Any] = {
        "variants": {v.name: [*v.overrides, *overrides] for v in plan.variants},
        "recipes": {v.name: v.recipe for v in plan.variants},
        "images": plan.images,
    }
    file = folder / "plan.json"
    if file.is_file():
        old = json.loads(file.read_text(encoding="utf-8"))
        common = [name for name in what["variants"] if name in old["variants"]]
        changed = [n for n in common if any(old[key][n] != what[key][n] for key in ("variants", "recipes"))]
        if changed or old["images"] != what["images"]:
            raise StudyError(
                f"{folder} holds another study ({', '.join(changed) or 'with other data'} differs); give another --out"
            )
        for key in ("variants", "recipes"):
            what[key] = old[key] | what[key]
    return what


def _embedded(folder: Path, images: int) -> Path:
    from maskris.apps.quickstart import embedded_data

    embedded_data(folder, seed=0, images=images)
    return folder / "shapes.parquet"


def _jobs(
    plan: "Study", folder: Path, data: list[str], splits: list[str], threads: int, overrides: list[str]
) -> list[Path]:
    """Job files of the runs that are not complete; seeds in the outer loop, so that early results span all variants."""
    from maskris.apps.study_run import is_done

    jobs = []
    for seed in plan.seeds:
        for variant in plan.variants:
            out = folder / "runs" / variant.folder / f"seed-{seed}"
            if is_done(out):
                continue
            out.mkdir(parents=True, exist_ok=True)
            values: dict[str, Any] = {
                "recipe": str(folder / "recipes" / f"{variant.folder}.yaml"),
                "overrides": [*variant.overrides, *overrides],
                "seed": seed,
                "data": data,
                "splits": splits,
                "occlusion": list(plan.occlusion),
                "threads": threads,
                "out": str(out),
            }
            (out / "job.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            jobs.append(out / "job.json")
    return jobs
