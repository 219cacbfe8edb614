"""`evaluate_cached`: an evaluation that is kept in a file, and not repeated for the same weights and data."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import Precision, evaluate, processes
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import Evaluation
from maskris.models.base import RISModel, weights_sha256


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
    fingerprint: dict[str, Any] = {
        "weights": weights_sha256(model),
        "data": table_sha256(table),
        "precision": precision,
    }
    fingerprint |= {"reduced_decoding": True} if reduced_decoding else {}
    if file.is_file():
        found = Evaluation.load(file)
        if (found.fingerprint, found.protocol) == (fingerprint, protocol):
            return found, False
    result = evaluate(model, table, protocol, precision=precision, reduced_decoding=reduced_decoding, **options)
    result = replace(result, settings={**result.settings, "fingerprint": fingerprint})
    if processes()[0] == 0:
        result.save(file)
    return result, True


def table_sha256(table: ReferringTable) -> str:
    """The hexadecimal SHA-256 of all columns of a table; the folder of its images is left out."""
    digest = hashlib.sha256()
    for name in table.arrow.column_names:
        digest.update(f"{name} {table.column(name)!r}".encode())
    return digest.hexdigest()
