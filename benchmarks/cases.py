"""What is timed: one function per case, for our network and for the literal one, on the same data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from maskris.batch import Batch
from maskris.models.caris.model import CARIS
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random

try:
    from maskris.training.distributed import return_freed_memory, tune_allocator
except ModuleNotFoundError:  # the source of an older commit
    tune_allocator = None  # type: ignore[assignment]

Side = Literal["ours", "literal"]
Case = Literal["inference", "evaluation", "train_step"]

SIZES: dict[str, dict[str, Any]] = {
    "base": {
        "vision": {
            "model_type": "swin",
            "embed_dim": 128,
            "depths": [2, 2, 18, 2],
            "num_heads": [4, 8, 16, 32],
            "window_size": 7,
        },
        "text": {"model_type": "bert"},
    },
    "tiny": {
        "vision": {
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 2, 1, 1],
            "num_heads": [1, 2, 2, 4],
            "window_size": 4,
        },
        "text": {
            "model_type": "bert",
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        "width": 32,
        "layers": 2,
        "heads": 4,
    },
}
"""Swin-B with BERT as published, and a network for tests."""


@dataclass(frozen=True)
class Setting:
    """Everything that a measurement depends on.

    Attributes:
        case: ``inference`` (images with one expression each), ``evaluation`` (several expressions per image, masks
            compared) or ``train_step`` (MaskRIS with clipping and optimizer).
        side: Whose network.
        size: Key of `SIZES`.
        pixels: Side of the square images.
        images: Images of a batch.
        expressions: Expressions per image.
        device: Where.
        precision: ``bf16`` runs under autocast.
        compiled: Whether `torch.compile` is used.
        threads: Of PyTorch on the CPU.
        gradient_checkpointing: Whether our network computes activations again instead of keeping them.
        single_forward: Whether our training step has one pass over clean and masked inputs instead of two.
    """

    case: Case
    side: Side = "ours"
    size: str = "base"
    pixels: int = 448
    images: int = 1
    expressions: int = 1
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False
    threads: int = 2
    gradient_checkpointing: bool = False
    single_forward: bool = False


def make_model(size: str, pixels: int) -> CARIS:
    """A network in which everything matters, as after training: no bias is zero, sampling points scatter.

    Zero biases would be unfair to the literal network, whose padded windows then compute with denormal numbers.
    """
    torch.manual_seed(0)
    words = ["the", "man", "woman", "left", "right", "in", "red", "on", "dog", "second"]
    model = CARIS(**SIZES[size], tokenizer=words, preprocess={"height": pixels, "width": pixels})  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
            nn.init.normal_(parameter, std=0.05)
        elif "relative_position_bias_table" in name:
            nn.init.normal_(parameter, std=0.5)
        elif name.endswith("bias") and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model.eval()


def make_batch(model: CARIS, setting: Setting) -> Batch:
    """Noise and phrases of 6 words, with masks."""
    random = torch.Generator().manual_seed(0)
    side, n = setting.pixels, setting.images * setting.expressions
    tokens = model.tokenizer(["the second man on the left"] * n)
    batch = Batch(
        images=torch.randn(setting.images, 3, side, side, generator=random),
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        image_index=torch.arange(setting.images).repeat_interleave(setting.expressions),
        masks=torch.rand(n, side, side, generator=random) > 0.5,
    )
    return batch.to(setting.device)


def make_task(setting: Setting) -> Callable[[], Any]:
    """The function to be timed, everything that is needed once done."""
    torch.set_num_threads(setting.threads)
    ours = make_model(setting.size, setting.pixels)
    batch = make_batch(ours, setting)
    if setting.gradient_checkpointing and setting.side == "ours":
        ours.vision.set_gradient_checkpointing(True)
        ours.decoder.gradient_checkpointing = True
    model: Any = ours
    if setting.side == "literal":
        from benchmarks.reference import literal

        model = literal(ours)
        del ours
    model = model.to(setting.device)
    if setting.compiled:
        model.compile(dynamic=False)
    autocast = torch.autocast(torch.device(setting.device).type, torch.bfloat16, enabled=setting.precision == "bf16")
    if setting.case == "train_step":
        return _training(model, batch, autocast, setting)

    def predict() -> Tensor:
        with torch.no_grad(), autocast:
            masks = _masks(model, model(batch).float(), setting)
            if setting.case == "evaluation":
                assert batch.masks is not None
                masks = (masks & batch.masks).sum((1, 2)) / (masks | batch.masks).sum((1, 2))  # IoU
        _synchronize(setting.device)
        return masks

    return predict


def _masks(model: Any, logits: Tensor, setting: Setting) -> Tensor:
    """Binary masks at the input size; the published code resizes both channels and takes the larger."""
    size = (setting.pixels, setting.pixels)
    if setting.side == "literal":
        return cast(Tensor, model.upsample(logits, size).argmax(1) == 1)
    return cast(Tensor, model.upsample(logits[:, 1:] - logits[:, :1], size)[:, 0] > 0)


def _training(model: Any, batch: Batch, autocast: Any, setting: Setting) -> Callable[[], Any]:
    model.train()
    # As the trainer does it; prediction and evaluation leave the C library as it is.
    frugal = setting.side == "ours" and setting.device == "cpu" and tune_allocator is not None and tune_allocator(model)
    strategy = MaskRIS(single_forward=setting.single_forward and setting.side == "ours")
    if setting.side == "literal":  # the published code's optimizer is a loop over the parameters
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    else:
        optimizer = torch.optim.AdamW(model.parameter_groups(1e-5, 1e-2), lr=1e-5, fused=True)
    step = 0

    def train() -> float:
        nonlocal step
        total = 0.0
        losses = strategy.losses(model, replace(batch), Random(0, step))
        while True:
            with autocast:
                loss = next(losses, None)
            if loss is None:
                break
            total += loss.item()
            loss.backward()
            del loss
            if frugal:
                return_freed_memory()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        _synchronize(setting.device)
        return total

    return train


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
