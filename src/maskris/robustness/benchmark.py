"""`run_robustness`: one model under every condition of a suite, one Parquet file of rows for each; resumable."""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from maskris.data.table import ReferringTable
from maskris.evaluation.cache import fingerprint
from maskris.evaluation.evaluator import evaluate, processes
from maskris.evaluation.perturbation import Perturbation, describe
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import Evaluation
from maskris.models.base import RISModel
from maskris.robustness.results import CARD, Robustness
from maskris.robustness.suite import CLEAN, Condition, SuiteName, make_suite
from maskris.robustness.text import TextPerturbation
from maskris.utils.process import Precision
from maskris.utils.progress import show_progress
from maskris.utils.runstore import RunStore

_COMPARED = ("weights", "data", "seed", "protocol", "precision", "reduced_decoding", "maskris")


def run_robustness(
    model: RISModel,
    table: ReferringTable,
    suite: SuiteName | Mapping[Condition, Perturbation | None] = "quick",
    *,
    out: str | Path,
    families: Sequence[str] | None = None,
    seed: int = 0,
    protocol: Protocol | str = "maskris",
    name: str | None = None,
    precision: Precision = "fp32",
    progress: bool = True,
    **options: Any,
) -> Robustness:
    """Evaluate a model clean and under every condition of a suite.

    Each condition's rows are written to ``OUT/<condition>.parquet`` when it is complete; another call does not repeat
    them. All draws are functions of the seed and the ids in the table, whatever the batches, processes and
    interruptions were. Rows of changed sentences have a column ``read``: the words that the model was given.

    Args:
        model: Any model.
        table: What to evaluate on, for example ``table.split("val")``.
        suite: ``"quick"``, ``"full"``, or perturbations by condition; the clean pictures are always measured.
        out: Folder of this model, data and seed.
        families: With a named suite, only these families.
        seed: Of a named suite.
        protocol: As for `evaluate`.
        name: Of the model or method, for reports; by default its class.
        precision: As for `evaluate`.
        progress: Show a progress bar.
        **options: ``batch_size``, ``device``, ``workers``, ``reduced_decoding`` of `evaluate`.

    Raises:
        OtherRunError: If the folder holds the results of something else; names every difference.
        FolderInUseError: If another process is measuring into the folder.
        ValueError: If two of the conditions share a file, or the ``repr`` of one is not the same in every run.
    """
    folder, protocol = Path(out), Protocol.of(protocol)
    if isinstance(suite, str):
        suite = make_suite(suite, size=model.preprocess.size, seed=seed, families=families)
    elif families is not None:
        raise ValueError("families choose from a named suite; leave conditions of your own out instead")
    suite = {CLEAN: None, **suite}
    _check_suite(suite)
    card = {
        "name": name or type(model).__name__,
        **fingerprint(model, table, precision, options.get("reduced_decoding", False)),
        "seed": seed,
        "protocol": protocol.to_dict(),
        "maskris": version("maskris"),
    }
    texts = {c: perturb for c, perturb in suite.items() if isinstance(perturb, TextPerturbation)}
    reasons = {c: perturb.unsupported_reason(model.tokenizer) for c, perturb in texts.items()}
    skipped = {c: reason for c, reason in reasons.items() if reason is not None}
    suite = {c: perturb for c, perturb in suite.items() if c not in skipped}
    result = Robustness(card, folder, tuple(suite), skipped)
    store = RunStore(folder, card, _COMPARED, name=CARD, shown={"weights": "name"})
    first = processes()[0] == 0
    with store.lock() if first else nullcontext():
        store.update() if first else store.check()
        # Looked up before anything is evaluated: all processes must agree on what is missing.
        missing = [c for c, perturb in suite.items() if not _is_done(result.file(c), perturb)]
        done = len(suite) - len(missing)
        with show_progress(result.name, len(suite), done=done, shown=progress and first) as bar:
            for condition in missing:
                bar.describe(f"{result.name}: {condition.label}")
                perturb = suite[condition]
                rows = evaluate(
                    model, table, protocol, perturb=perturb, precision=precision, progress=False, name=name, **options
                )
                if first:
                    _with_words(rows, condition, perturb).save(result.file(condition))
                bar.advance()
    return result


def _check_suite(suite: Mapping[Condition, Perturbation | None]) -> None:
    """Refuse conditions whose results could be taken for those of others, now or when resumed."""
    files: dict[str, Condition] = {}
    for condition, perturb in suite.items():
        if other := files.get(condition.key):
            raise ValueError(f"{other} and {condition} would share the file {condition.key}.parquet; rename one")
        files[condition.key] = condition
        known_as = describe(perturb) or ""
        if re.search(r"<lambda>|<locals>| at 0x[0-9a-fA-F]+", known_as):
            raise ValueError(
                f"{condition.label}: {known_as} is another text in the next run; give a function of a module, "
                "or an object with a __repr__ that says what it does, such as a dataclass"
            )


def _is_done(file: Path, perturb: Perturbation | None) -> bool:
    if not file.is_file():
        return False
    found = Evaluation.load(file).settings.get("perturbation")
    if found != (asked := describe(perturb)):
        raise ValueError(f"{file} was measured under {found}, not under {asked}; give another folder")
    return True


def _with_words(evaluation: Evaluation, condition: Condition, perturb: Perturbation | None) -> Evaluation:
    """The evaluation with its condition and, where words change, with the changed sentences."""
    evaluation = replace(evaluation, settings={**evaluation.settings, "condition": asdict(condition)})
    if not isinstance(perturb, TextPerturbation):
        return evaluation
    known = zip(*(evaluation.rows[column].to_pylist() for column in ("expression", "ref_id", "number")), strict=True)
    read = pa.array([perturb.read(*row) for row in known], pa.string())
    return replace(evaluation, rows=evaluation.rows.append_column("read", read))
