"""`reproduce_released`: what authors print for their released checkpoints, measured again without any training."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from maskris.data.table import ReferringTable
from maskris.evaluation.result import Evaluation
from maskris.experiments.authors_claims import ALL, choose_released, not_runnable
from maskris.experiments.claims import Claim
from maskris.experiments.measurement import Measurement, Part, Reproduction, part_of
from maskris.experiments.verify import RELEASED_TOLERANCE, Finding, Verdict, judge_released, split_differences
from maskris.models.base import weights_sha256
from maskris.models.loading import load_model
from maskris.models.weights.released import released_models
from maskris.models.weights.released_files import released_folder


def reproduce_released(
    names: Sequence[str],
    measurement: Measurement,
    *,
    dataset: str | None = None,
    claims: str | Path | None = None,
    out: Path | None = None,
) -> Reproduction:
    """Load each checkpoint by its name, evaluate it under the protocol of its claims, and judge them.

    A checkpoint that can't be had leaves rows that say why, and the others are measured. Splits whose sentences or
    masks are not those of the claims are not evaluated.

    Args:
        names: As for `choose_released`; of ``["all"]``, those for which there is data.
        measurement: Data and settings.
        dataset: As for `choose_released`.
        claims: As for `choose_released`.
        out: The folder; by default ``reproductions/<name>``, or ``reproductions`` with a folder for each of several.

    Raises:
        ClaimError: If the claims can't be read.
        ValueError: If there is no such checkpoint, no claim about it, or no data for any of them.
    """
    chosen = choose_released(names, dataset, claims)
    measurement.check([claim for some in chosen.values() for claim in some])
    every = list(names) == [ALL]
    several = every or len(chosen) > 1
    folder = out or Path("reproductions", "" if several else names[0])
    judged = partial(judge_released, doubts=_settings_differences(measurement.options))
    findings: list[Finding] = []
    evaluations: dict[Part, Evaluation] = {}
    about: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name, some in chosen.items():
        parts = measurement.parts(some, name)
        if every and not parts:
            continue
        about[name] = {key: getattr(released_models()[name], key) for key in ("title", "page", "license")}
        refused = _refused(name, some, parts)
        measured: dict[Part, Evaluation] = {}
        if wanted := {part: rows for part, rows in parts.items() if part not in refused}:
            try:
                model = load_model(released_folder(name))
            except (OSError, ValueError) as error:
                measurement.log(f"{name}: {error}")
                failed[name] = str(error)
                refused |= dict.fromkeys(wanted, ("not run", failed[name].partition("\n")[0]))
            else:
                about[name]["weights_sha256"] = weights_sha256(model)
                measured = measurement.evaluate(model, wanted, folder / name if several else folder, name)
        findings += measurement.findings(some, measured, judged, refused, name)
        evaluations |= measured
    settings = {
        "released": about,
        "claims": "those of their authors" if claims is None else str(claims),
        "tolerance": RELEASED_TOLERANCE,
        **measurement.to_dict(),
    }
    made = Reproduction(tuple(findings), evaluations, settings, folder, failed=failed)
    made.save()
    return made


def _refused(
    name: str, claims: Sequence[Claim], parts: Mapping[Part, ReferringTable]
) -> dict[Part, tuple[Verdict, str]]:
    """What must not be measured: anything without a network, and data that are not those of the claims."""
    refused: dict[Part, tuple[Verdict, str]] = {}
    for claim in claims:
        part = part_of(claim, name)
        if (reason := not_runnable(claim)) is not None:
            refused[part] = ("not runnable", reason)
        elif part in parts and (doubts := split_differences(claim, parts[part])):
            refused[part] = ("not comparable", "; ".join(doubts))
    return refused


def _settings_differences(options: Mapping[str, Any]) -> list[str]:
    """Settings of `evaluate` that alone may move a number by more than the tolerance; fp16 does not."""
    doubts = ["computed in bf16"] if options.get("precision") == "bf16" else []
    return [*doubts, "large JPEGs decoded at a reduced size"] if options.get("reduced_decoding") else doubts
