"""The optimizer, and the learning rate of every step as a pure function of the step: no scheduler, no state to save."""

import math

from torch.optim import Adam, AdamW, Optimizer

from maskris.models.base import RISModel
from maskris.training.config import TrainingConfig


def learning_rate(step: int, total: int, base: float, config: TrainingConfig) -> float:
    """The rate in force during a step: a linear warm-up, then decay.

    Warm-up of W steps, while ``step <= W``: ``b (1 - (1 - step / W)(1 - warmup_ratio))``. Decay: ``"poly"``:
    ``(b - min_lr) (1 - step / T)^power + min_lr``; ``"cosine"``: ``(b - min_lr) (1 + cos(pi step / T)) / 2 + min_lr``;
    ``"step"``: b times `gamma` for every one of `lr_milestones` that is past; ``"constant"``: b. It counts from step 0,
    so that the rate drops a little right after the warm-up, as in the official code; poly and cosine count from
    `decay_after`.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole run T; the rate is `min_lr` from there on.
        base: Full rate of the parameter group b.
        config: Supplies the schedule.
    """
    warmup = config.warmup_steps
    if step == 0 and config.first_step_full_rate:
        return base
    if warmup and step <= warmup:
        return base * (1 - (1 - step / warmup) * (1 - config.warmup_ratio))
    if config.schedule == "constant":
        return base
    if config.schedule == "step":
        # Rounded, because 0.7 * 50 epochs may lie a hair above 35.
        return base * config.gamma ** sum(step >= round(share * total) for share in config.lr_milestones)
    done = min(1.0, max(0, step - config.decay_after) / total)
    remaining: float = (1 - done) ** config.power if config.schedule == "poly" else (1 + math.cos(math.pi * done)) / 2
    return (base - config.min_lr) * remaining + config.min_lr


def make_optimizer(model: RISModel, config: TrainingConfig) -> Optimizer:
    """AdamW or Adam (eps 1e-8) over the parameter groups of a model that is already on its device.

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
    kind: type[Adam | AdamW] = {"adamw": AdamW, "adam": Adam}[config.optimizer]
    groups = [{**group, "base_lr": group["lr"]} for group in groups]
    return kind(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_learning_rate(
    optimizer: Optimizer, step: int, total: int, config: TrainingConfig, *, first_epoch: bool = False
) -> float:
    """Give every parameter group its rate for `step`; returns the highest one.

    In the first epoch with `TrainingConfig.first_epoch_full_rate` the full rate of every group is `TrainingConfig.lr`.
    """
    alike = first_epoch and config.first_epoch_full_rate
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, total, config.lr if alike else group["base_lr"], config)
    return max(float(group["lr"]) for group in optimizer.param_groups)
