"""The folder of a study: ``plan.json`` says what it is of, so that runs of something else are never mixed in."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.apps.study_plan import Study, StudyError, Variant

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable

PLAN = "plan.json"


def recipe_file(folder: Path, variant: Variant) -> Path:
    """Where the recipe of a variant lies."""
    return folder / "recipes" / f"{variant.folder}.yaml"


def run_folder(folder: Path, variant: Variant, seed: int) -> Path:
    """Where a variant is trained with a seed."""
    return folder / "runs" / variant.folder / f"seed-{seed}"


def data_of(table: "ReferringTable | None", files: list[Path], scenes: int) -> dict[str, Any]:
    """What a study's data is, as ``plan.json`` keeps it: a table with its files, or the number of embedded scenes."""
    from maskris.evaluation.once import table_sha256

    if table is None:
        return {"scenes": scenes}
    return {"files": [str(file.resolve()) for file in files], "rows": table_sha256(table)}


def compare_plan(
    folder: Path,
    plan: Study,
    overrides: list[str],
    *,
    data: dict[str, Any] | None = None,
    splits: list[str] | None = None,
) -> dict[str, Any]:
    """What the folder's plan is to hold: what it held, and the variants of `plan`.

    Args:
        folder: Of the study.
        plan: What is to be compared.
        overrides: Command-line words for all variants.
        data: From `data_of`; not compared if left out.
        splits: Where runs are compared; not compared if left out.

    Raises:
        StudyError: If the folder is of another study, other data or other splits; says which.
    """
    new: dict[str, Any] = {
        "variants": {v.name: [*v.overrides, *overrides] for v in plan.variants},
        "recipes": {v.name: v.recipe for v in plan.variants},
        "data": data,
        "splits": splits,
    }
    file = folder / PLAN
    if not file.is_file():
        return new
    old = json.loads(file.read_text(encoding="utf-8"))
    common = [name for name in new["variants"] if name in old["variants"]]
    if changed := [n for n in common if any(old[key][n] != new[key][n] for key in ("variants", "recipes"))]:
        raise StudyError(f"{folder} holds another study ({', '.join(changed)} differs); give another --out")
    if data is not None and _same_data(data) != _same_data(old["data"]):
        raise StudyError(
            f"{folder} holds runs on {_data_text(old['data'])}, not on {_data_text(data)}; give that data again, or "
            "another --out"
        )
    if splits is not None and splits != old["splits"]:
        found = " ".join(old["splits"])
        raise StudyError(f"{folder} compares on --splits {found}, not {' '.join(splits)}; give another --out")
    new |= {key: old[key] for key in ("data", "splits")}
    return new | {key: old[key] | new[key] for key in ("variants", "recipes")}


def write_plan(folder: Path, kept: dict[str, Any]) -> None:
    """Keep what `compare_plan` gave."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")


def job_files(
    folder: Path, plan: Study, overrides: list[str], *, data: list[Path], splits: list[str], threads: int
) -> list[Path]:
    """Job files of the runs that are not complete; seeds in the outer loop, so that early results span all variants."""
    from maskris.evaluation.study import is_complete

    jobs = []
    for seed in plan.seeds:
        for variant in plan.variants:
            out = run_folder(folder, variant, seed)
            if is_complete(out, plan.occlusion):
                continue
            out.mkdir(parents=True, exist_ok=True)
            values: dict[str, Any] = {
                "recipe": str(recipe_file(folder, variant)),
                "overrides": [*variant.overrides, *overrides],
                "seed": seed,
                "data": [str(file) for file in data],
                "splits": splits,
                "occlusion": list(plan.occlusion),
                "threads": threads,
                "out": str(out),
            }
            (out / "job.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            jobs.append(out / "job.json")
    return jobs


def _same_data(data: dict[str, Any]) -> dict[str, Any]:
    """What must be the same; files may have moved."""
    return {key: value for key, value in data.items() if key != "files"}


def _data_text(data: dict[str, Any]) -> str:
    return ", ".join(data["files"]) if "files" in data else f"{data['scenes']} scenes of the embedded data"
