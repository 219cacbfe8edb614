"""`TrainingConfig`: everything about a training run that is not the model, the method or the data.

This module is light (it does not import torch), so that the command line can show its help at once.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from maskris.utils.process import Precision

OptimizerName = Literal["adamw", "adam"]
Schedule = Literal["poly", "step", "cosine", "constant"]

# Settings that change no weight: a run may go on with other values.
_HARMLESS = frozenset(
    {"workers", "cache_images", "evaluate_every", "evaluate_at_end", "evaluation_batch_size", "save_every", "log_every"}
    | {"tensorboard", "device", "prefetch_factor"}
)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run. The defaults are those of the MaskRIS paper where it has them.

    Args:
        init_from: Trained model whose weights to start from, to fine-tune it: run folder, folder of a model or Hub id;
            null starts from what the model itself gives, published encoders or random weights.
        epochs: Passes over the training data. Give either this or `steps`, and set the other one to null.
        steps: Optimizer steps in all. Give either this or `epochs`, and set the other one to null.
        batch_size: Referents (images, where `referents_per_image` is above 1) in one step, over all processes and all
            parts of an accumulated step.
        gradient_accumulation_steps: Parts that a batch is cut into, one after the other, to save memory. Must divide
            `batch_size`.
        optimizer: adamw, or adam, whose weight decay is not decoupled (CRIS and ETRIS use it with none).
        lr: Learning rate of the decoder; the model scales it for its pretrained encoders (0.1 in CARIS).
        betas: Shares of the past in the optimizer's averages of the gradient and of its square; with 0.98 instead of
            0.999 a network that begins with random weights learns in fewer steps.
        weight_decay: Weight decay of the optimizer; the model exempts norms and embeddings.
        warmup_steps: Steps over which the rate rises linearly to `lr`; 0 turns warm-up off.
        warmup_ratio: Share of `lr` at which the warm-up begins.
        first_step_full_rate: Run step 0 at the full rate in spite of the warm-up, as the official code does.
        first_epoch_full_rate: Train every part of the model at `lr` in the first epoch, pretrained encoders too, as the
            official code of CRIS does.
        schedule: Decay after the warm-up: poly (CARIS, LAVT), step (CRIS, ETRIS), cosine or constant.
        power: Exponent of the polynomial decay.
        lr_milestones: Shares of the run at which the step schedule applies `gamma` (0.7: epoch 35 of 50).
        gamma: Factor of each drop of the step schedule.
        min_lr: Rate at the end of poly and cosine, the same for all parameter groups, as in the official code.
        max_grad_norm: Largest norm of the gradient of all parameters together; null turns clipping off.
        precision: Numbers in which the model computes: fp32, bf16 (most GPUs and CPUs since 2020) or fp16 (GPUs only).
        seed: Order, sentences, masks and dropout are functions of it; the same seed repeats the run.
        device: auto takes a GPU where there is one; cpu does not.
        workers: Processes that load data, for each training process, and never more than its share of the cores; 0
            loads in the training process. Changes no result.
        prefetch_factor: Batches that each of them prepares ahead.
        referents_per_image: Referents drawn from one image to share its encoding; 1 draws referents independently.
        kind_weights: How often expressions of a kind are drawn relative to the others of their image (or referent),
            such as ``{ordinal: 4}``; kinds that aren't named weigh 1. null draws all alike.
        cache_images: Keep decoded images in memory (small data sets).
        evaluate_every: Steps between evaluations on the validation data, or epoch for once after every epoch; null
            evaluates only at the end.
        evaluate_at_end: Evaluate after the last step.
        protocol: Evaluation protocol: maskris, lavt, original, cris, grefcoco, tris, sag, peak, … (docs/evaluation.md).
        evaluation_batch_size: Expressions in one batch of the evaluation.
        best_metric: The metric whose highest value makes a checkpoint `best`.
        save_every: Steps between writings of the checkpoint `last`; it is always written at the end.
        log_every: Steps between lines of metrics.jsonl, each the mean over these steps.
        tensorboard: Write TensorBoard files to the run folder as well (needs maskris[tensorboard]).

    Raises:
        ValueError: If a value is out of range, or not exactly one of `epochs` and `steps` is given.
    """

    init_from: str | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    warmup_steps: int = 1500
    warmup_ratio: float = 1e-3
    first_step_full_rate: bool = False
    first_epoch_full_rate: bool = False
    schedule: Schedule = "poly"
    power: float = 0.9
    lr_milestones: tuple[float, ...] = (0.7,)
    gamma: float = 0.1
    min_lr: float = 0.0
    max_grad_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    workers: int = 4
    prefetch_factor: int = 2
    referents_per_image: int = 1
    kind_weights: dict[str, float] | None = None
    cache_images: bool = False
    evaluate_every: int | Literal["epoch"] | None = None
    evaluate_at_end: bool = True
    protocol: str = "maskris"
    evaluation_batch_size: int = 32
    best_metric: str = "oIoU"
    save_every: int = 500
    log_every: int = 50
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Check the values (they come from recipes and command lines)."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"Give exactly one of epochs and steps and set the other to null, not epochs = {self.epochs} and "
                f"steps = {self.steps}"
            )
        sizes = ("batch_size", "gradient_accumulation_steps", "referents_per_image", "evaluation_batch_size")
        for key in (*sizes, "save_every", "log_every", "prefetch_factor"):
            self._check(key, getattr(self, key) >= 1, "at least 1")
        for key in ("epochs", "steps"):
            self._check(key, getattr(self, key) is None or getattr(self, key) >= 1, "at least 1, or null")
        every = self.evaluate_every
        holds = every is None or (every >= 1 if isinstance(every, int) else every == "epoch")
        self._check("evaluate_every", holds, "epoch, at least 1, or null")
        for key in ("weight_decay", "warmup_steps", "min_lr", "workers", "power"):
            self._check(key, getattr(self, key) >= 0, "at least 0")
        self._check("lr", self.lr > 0, "positive")
        self._check("warmup_ratio", 0 <= self.warmup_ratio <= 1, "between 0 and 1")
        object.__setattr__(self, "betas", tuple(self.betas))  # a list from YAML
        self._check(
            "betas", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers from 0 to below 1"
        )
        norm, shares = self.max_grad_norm, tuple(self.lr_milestones)
        self._check("max_grad_norm", norm is None or norm > 0, "positive, or null for no clipping")
        object.__setattr__(self, "lr_milestones", shares)  # a list from YAML
        self._check("lr_milestones", all(0 < share < 1 for share in shares), "shares of the run, between 0 and 1")
        self._check("kind_weights", all(w > 0 for w in (self.kind_weights or {}).values()), "positive numbers")
        self._check("gamma", 0 < self.gamma <= 1, "above 0 and at most 1")
        self._check("optimizer", self.optimizer in get_args(OptimizerName), "adamw or adam")
        self._check("schedule", self.schedule in get_args(Schedule), "poly, step, cosine or constant")
        self._check("precision", self.precision in get_args(Precision), "fp32, bf16 or fp16")
        self._check("device", self.device in ("auto", "cpu"), "auto or cpu")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps = {self.gradient_accumulation_steps} does not divide "
                f"batch_size = {self.batch_size}"
            )

    def _check(self, key: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"{key} must be {rule}, not {getattr(self, key)!r}")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None  # __post_init__
        return self.epochs * steps_per_epoch

    def evaluation_interval(self, steps_per_epoch: int) -> int | None:
        """Steps between evaluations; ``None`` for none but at the end."""
        return self.evaluate_every if self.evaluate_every != "epoch" else steps_per_epoch

    def identity(self) -> dict[str, Any]:
        """The values that change what a run computes; a checkpoint can only be continued with the same ones."""
        return {key: value for key, value in asdict(self).items() if key not in _HARMLESS}
