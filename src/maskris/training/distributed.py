"""Device, precision, processes (through accelerate) and memory of a training, behind one callable model."""

import ctypes
import math
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, DistributedType
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.training.config import TrainingConfig

_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """An accelerator for this process, one of those that torchrun or ``accelerate launch`` started, or the only one.

    Raises:
        ValueError: If this machine lacks the precision, the batch can't be cut into equal parts, or the processes are
            to be joined in an unsupported way (DeepSpeed, FSDP and the like).
    """
    wanted = "no" if config.precision == "fp32" else config.precision
    if AcceleratorState._shared_state.get("_mixed_precision", wanted) != wanted:
        AcceleratorState._reset_state()  # accelerate keeps the first precision of a process for good; a notebook can't
    # Where there is no GPU, accelerate joins the processes of torchrun only if it is told to use the CPU.
    cpu = config.device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    accelerator = Accelerator(mixed_precision=wanted, cpu=cpu)
    if config.precision == "fp16" and accelerator.scaler is None:  # accelerate would compute in fp32 and not say so
        raise ValueError(f"fp16 needs a GPU and this is a {accelerator.device.type}; set precision to bf16 or fp32")
    # Set by an environment variable of `accelerate launch` too; our configuration decides.
    accelerator.gradient_accumulation_steps = config.gradient_accumulation_steps
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ValueError(f"{accelerator.distributed_type} is not supported; use torchrun or plain data parallelism")
    processes, parts = accelerator.num_processes, config.gradient_accumulation_steps
    if config.batch_size % (processes * parts):
        raise ValueError(
            f"batch_size = {config.batch_size} can't be cut into equal pieces for {processes} processes x "
            f"gradient_accumulation_steps = {parts}; choose a multiple of {processes * parts}"
        )
    return accelerator


class ParallelModel:
    """The model as strategies get it: its call goes through autocast and, with several processes, through DDP.

    Everything else (`upsample`, `tokenizer`, `preprocess`, …) is the model's own. With several processes, the parts of
    the forward pass can't be called one by one: it would bypass DDP, and gradients would stay local. What has no
    gradient (`token_features`, `functional_forward`) bypasses DDP. The model lies on the accelerator's device; with
    several processes, it takes the weights of the first.
    """

    def __init__(self, model: RISModel, accelerator: Accelerator) -> None:
        self._model, self._accelerator = model, accelerator
        self._module: nn.Module = model
        if accelerator.num_processes > 1:
            gpu = accelerator.device.type == "cuda"
            if gpu:  # normalizes over all processes, as LAVT, CRIS and ETRIS were trained; PyTorch has it for GPUs only
                nn.SyncBatchNorm.convert_sync_batchnorm(model)
            self._module = DistributedDataParallel(
                model,
                device_ids=[accelerator.device] if gpu else None,
                broadcast_buffers=model.has_batch_statistics,  # others are constants
                gradient_as_bucket_view=True,
            )

    def __call__(self, batch: Batch) -> Tensor:
        """Logits ``[N, C, h, w]``, float32 whatever the precision."""
        with self._accelerator.autocast():
            logits: Tensor = self._module(batch)
        return logits.float()

    def __getattr__(self, name: str) -> Any:
        if name in ("encode_image", "segment") and self._module is not self._model:
            raise AttributeError(
                f"A strategy must call model(batch), not model.{name}: gradients would not be averaged over processes"
            )
        return getattr(self._model, name)

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `RISModel.token_features`; without gradient, float32 whatever the precision."""
        with torch.no_grad(), self._accelerator.autocast():
            patches, words = self._model.token_features(batch)
        return patches.float(), words.float()

    def functional_forward(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        """See `RISModel.functional_forward`; float32 whatever the precision."""
        with self._accelerator.autocast():
            return self._model.functional_forward(weights, batch).float()

    def share_statistics(self) -> None:
        """Give all processes the first one's batch statistics now; DDP does it only before the next forward pass."""
        norms = [module for module in self._model.modules() if isinstance(module, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        if buffers and self._module is not self._model:
            # In one message; double holds float32 and the counters alike.
            sent = broadcast(torch.cat([buffer.double().flatten() for buffer in buffers]))
            for buffer, value in zip(buffers, sent.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(value.view_as(buffer))

    def synchronized(self, yes: bool) -> AbstractContextManager[Any]:
        """Whether the gradients of the forward and backward pass within are averaged over processes or kept local."""
        if isinstance(self._module, DistributedDataParallel) and not yes:
            return self._module.no_sync()
        return nullcontext()


def clip_gradients(accelerator: Accelerator, optimizer: Optimizer, max_norm: float | None) -> Tensor:
    """Scale the gradients to a norm of at most `max_norm`; the norm before that, not finite where fp16 overflowed."""
    if accelerator.scaler is not None:
        accelerator.scaler.unscale_(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, math.inf if max_norm is None else max_norm)


def update(accelerator: Accelerator, optimizer: Optimizer) -> bool:
    """Take the optimizer's step; returns ``False`` where fp16 gradients overflowed and the step was skipped."""
    if (scaler := accelerator.scaler) is None:
        optimizer.step()
        return True
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return bool(scaler.get_scale() >= before)


def tune_allocator(model: RISModel) -> bool:
    """Set glibc's malloc, where it is the C library, for speed or for little memory.

    Freed memory is kept, which makes training on the CPU faster and its peak no higher. With gradient checkpointing,
    which is there to save memory, large blocks are returned at once instead: long-lived gradients would scatter among
    them. Variables of glibc (``MALLOC_MMAP_THRESHOLD_`` and the like) take precedence.

    Returns:
        Whether `return_freed_memory` is to be called after each backward pass.
    """
    library = _glibc()
    if library is None or any(name in os.environ for name in _SETTINGS):
        return False
    trim_threshold, mmap_threshold, never = -1, -3, 2**31 - 1  # M_… of malloc.h
    # Blocks below 8 MiB leave few holes, larger ones cost few pages.
    library.mallopt(mmap_threshold, 8 * 2**20 if model.gradient_checkpointing else never)
    library.mallopt(trim_threshold, never)
    return model.gradient_checkpointing


def return_freed_memory() -> None:
    """Give all pages without a living tensor back to the system, where the C library is glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> Any:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None
