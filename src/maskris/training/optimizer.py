"""AdamW and the learning rate of every step as a pure function of the step: no scheduler, no state to save."""

from torch.optim import AdamW, Optimizer

from maskris.models.base import RISModel
from maskris.training.config import TrainingConfig


def learning_rate(
    step: int,
    total: int,
    base: float,
    *,
    warmup_steps: int = 0,
    warmup_ratio: float = 1e-3,
    first_step_full_rate: bool = False,
    power: float = 0.9,
    min_lr: float = 0.0,
) -> float:
    """The rate in force during a step: a linear warm-up, then polynomial decay.

    The decay counts from step 0, so that the rate drops a little right after the warm-up, as in the official code.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole run T; the rate is `min_lr` from there on.
        base: Full rate of the parameter group b.
        warmup_steps: Length of the warm-up W. While ``step <= W``: ``b (1 - (1 - step / W)(1 - warmup_ratio))``.
        warmup_ratio: Share of the full rate at step 0.
        first_step_full_rate: The official code runs step 0 at the full rate; ``True`` repeats that, ``False`` starts
            where the ramp starts.
        power: After the warm-up: ``(b - min_lr) (1 - step / T)^power + min_lr``.
        min_lr: Absolute, the same for groups with a high and a low base.
    """
    if step == 0 and first_step_full_rate:
        return base
    if warmup_steps and step <= warmup_steps:
        return base * (1 - (1 - step / warmup_steps) * (1 - warmup_ratio))
    remaining: float = max(0.0, 1 - step / total) ** power
    return (base - min_lr) * remaining + min_lr


def make_optimizer(model: RISModel, config: TrainingConfig) -> AdamW:
    """AdamW (betas 0.9 and 0.999, eps 1e-8) over the model's own parameter groups.

    Args:
        model: Already on the device where it will be trained.
        config: Supplies `lr` and `weight_decay`.

    Raises:
        ValueError: If a trainable parameter of the model is in none of its groups.
    """
    groups = [group for group in model.parameter_groups(config.lr, config.weight_decay) if group["params"]]
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    forgotten = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in grouped]
    if forgotten:
        raise ValueError(f"{type(model).__name__}.parameter_groups leaves out {', '.join(forgotten)}")
    # One kernel for many small tensors: five times faster on CPUs than a loop over them. Not there for all devices.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    return AdamW([{**group, "base_lr": group["lr"]} for group in groups], lr=config.lr, fused=fused)


def set_learning_rate(optimizer: Optimizer, step: int, total: int, config: TrainingConfig) -> float:
    """Give every parameter group its rate for `step`; returns the highest one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(
            step,
            total,
            group["base_lr"],
            warmup_steps=config.warmup_steps,
            warmup_ratio=config.warmup_ratio,
            first_step_full_rate=config.first_step_full_rate,
            power=config.power,
            min_lr=config.min_lr,
        )
    return max(float(group["lr"]) for group in optimizer.param_groups)
