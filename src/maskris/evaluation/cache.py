"""`evaluate_cached`: an evaluation that is kept in a file, and not repeated for the same weights and data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from maskris.data.table import ReferringTable, table_sha256
from maskris.evaluation.evaluator import evaluate, processes
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import Evaluation
from maskris.models.base import RISModel, weights_sha256
from maskris.utils.process import Precision


def evaluate_cached(
    model: RISModel,
    table: ReferringTable,
    protocol: Protocol | str,
    file: Path,
    *,
    precision: Precision = "fp32",
    reduced_decoding: bool = False,
    **options: Any,
) -> tuple[Evaluation, bool]:
    """Evaluate a model, or read what the file holds if it is the same evaluation; else the file is replaced.

    The same means: weights, configuration, rows of the table, protocol, precision and reduced decoding. The photos'
    pixels are not looked at, and what doesn't change results (batches, processes, device) may differ.

    Args:
        model: As for `evaluate`.
        table: As for `evaluate`.
        protocol: As for `evaluate`.
        file: Parquet, as `Evaluation.save` writes it.
        precision: As for `evaluate`.
        reduced_decoding: As for `evaluate`.
        **options: Other arguments of `evaluate`, without ``perturb``.

    Returns:
        The evaluation, and whether it was computed now.

    Raises:
        ValueError: If the file is something else than a saved evaluation.
    """
    protocol = Protocol.of(protocol)
    identity = fingerprint(model, table, precision, reduced_decoding)
    if file.is_file():
        found = Evaluation.load(file)
        if (found.fingerprint, found.protocol) == (identity, protocol):
            return found, False
    result = evaluate(model, table, protocol, precision=precision, reduced_decoding=reduced_decoding, **options)
    result = replace(result, settings={**result.settings, "fingerprint": identity})
    if processes()[0] == 0:
        result.save(file)
    return result, True


def fingerprint(model: RISModel, table: ReferringTable, precision: Precision, reduced_decoding: bool) -> dict[str, Any]:
    """Hashes of weights and data, and the settings of `evaluate` that change results."""
    settings = {"precision": precision, "reduced_decoding": reduced_decoding}
    return {"weights": weights_sha256(model), "data": table_sha256(table), **settings}
