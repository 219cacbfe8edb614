"""Size, work and memory of the models: ``python -m benchmarks.models [--batch-sizes 1,2,4] [MODEL ...]``.

Weights are random and nothing is downloaded: none of the numbers depends on them. Memory is the peak resident memory of
a process of its own for each number, over that of the process with its imports, in fp32 on the CPU.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.models.caris.model import CARIS
from maskris.models.clipseg import CLIPSeg
from maskris.models.cris.model import CRIS
from maskris.models.etris.model import ETRIS
from maskris.models.lavt import LAVT
from maskris.strategies.criteria.masks import MaskCriterion

LENGTH = 20
"""Tokens of the sentence, where a model doesn't always read the same number."""

BERT = {"model_type": "bert"}  # its defaults are BERT-base
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(30522 - 5))]
CLIP_TOKENS = list(map(str, range(49408 - 5)))  # and the five that CLIP's stand-in tokenizer adds


def swin(embed_dim: int, depths: list[int], heads: list[int], window: int) -> dict[str, Any]:
    """A Swin as its authors publish it."""
    stages = {"embed_dim": embed_dim, "depths": depths, "num_heads": heads, "window_size": window}
    return {"model_type": "swin", "image_size": 384 if window == 12 else 224, **stages}


SWIN_T = swin(96, [2, 2, 6, 2], [3, 6, 12, 24], window=7)
SWIN_B, SWIN_B_LAVT = (swin(128, [2, 2, 18, 2], [4, 8, 16, 32], window) for window in (7, 12))
RN50 = {"embed_dim": 1024, "vision_layers": [3, 4, 6, 3], "vision_width": 64}
RN101 = {"embed_dim": 512, "vision_layers": [3, 4, 23, 3], "vision_width": 64}
VIT_B = {
    **{"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 16},
    "image_resolution": 416,
}
REFINED = {  # CIDAS/clipseg-rd64-refined
    **{"model_type": "clipseg", "vision_config": {"patch_size": 16}, "use_complex_transposed_convolution": True}
}
MODELS: dict[str, Callable[[], RISModel]] = {
    "CARIS Swin-T": lambda: CARIS(SWIN_T, BERT, tokenizer=WORDPIECES),
    "CARIS Swin-B": lambda: CARIS(SWIN_B, BERT, tokenizer=WORDPIECES),
    "LAVT Swin-B": lambda: LAVT(SWIN_B_LAVT, BERT, tokenizer=WORDPIECES),
    "CRIS RN50": lambda: CRIS(RN50, tokenizer=CLIP_TOKENS),
    "ETRIS RN101": lambda: ETRIS(RN101, tokenizer=CLIP_TOKENS),
    "ETRIS ViT-B/16": lambda: ETRIS(VIT_B, tokenizer=CLIP_TOKENS),
    "CLIPSeg ViT-B/16": lambda: CLIPSeg(REFINED, tokenizer=CLIP_TOKENS),
}


def batch_of(model: RISModel, size: int) -> Batch:
    """`size` images with one expression each."""
    length = model.tokenizer.max_length if isinstance(model, (CRIS, ETRIS)) else LENGTH
    ids = torch.full((size, length), 7)
    ids[:, -1] = int(model.tokenizer.tokenizer.sep_token_id)
    images = torch.zeros(size, 3, *model.preprocess.size)
    masks = torch.zeros(size, *model.preprocess.size, dtype=torch.bool)
    return Batch(images, ids, torch.ones_like(ids), torch.arange(size), masks)


def count(name: str) -> tuple[float, float, float]:
    """Million parameters, million of them that learn, and billion operations (GFLOPs) of one forward pass.

    A multiplication and an addition are two operations. Matrix products, convolutions and attention are counted; what
    has no weights (norms, activations, the sampling of deformable attention) is not.
    """
    model = MODELS[name]().eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:  # the counter doesn't know the CPU's own attention
        model(batch_of(model, 1))
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(p.numel() for p in model.parameters()) / 1e6, learning / 1e6, counter.get_total_flops() / 1e9


def peak(name: str, size: int, training: bool) -> float | None:
    """Peak memory in GB of one forward pass or one training step (loss, gradients, AdamW), over that of the imports.

    None where it can't be: batch norms of sentences (CRIS, ETRIS) need two of them in training.
    """
    before = _resident()
    model = MODELS[name]().train(training)
    if training and size == 1 and model.has_batch_statistics:
        return None
    batch = batch_of(model, size)
    if training:
        optimizer = torch.optim.AdamW(model.parameter_groups(1e-5, 1e-2))
        loss: Tensor = MaskCriterion()(model, model(batch), batch)
        loss.backward()
        optimizer.step()
    else:
        with torch.no_grad():
            model(batch)
    return _resident() - before


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def apart(function: str, *arguments: Any) -> Any:
    """What a function of this file returns in a fresh process; this one stays small, since its peak is inherited."""
    code = f"import json, benchmarks.models as m; print(json.dumps(m.{function}(*{arguments!r})))"
    result = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Print one row of a Markdown table for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("models", nargs="*", help=f"any of {', '.join(MODELS)}; all by default")
    parser.add_argument("--batch-sizes", default="1,2,4", help="sizes at which memory is measured; empty: not at all")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.models if name not in MODELS]:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(MODELS)}")
    sizes = [int(size) for size in arguments.batch_sizes.split(",") if size]
    memory = [f"{what} {size}" for what in ("forward", "training") for size in sizes]
    _row("model", "parameters (M)", "trained (M)", "GFLOPs", *memory)
    _row(*["---"] * (4 + len(memory)))
    for name in arguments.models or MODELS:
        numbers = [f"{value:.1f}" for value in apart("count", name)]
        peaks = [apart("peak", name, size, training) for training in (False, True) for size in sizes]
        _row(name, *numbers, *("-" if value is None else f"{value:.1f}" for value in peaks))


def _row(*cells: str) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
