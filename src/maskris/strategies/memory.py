"""Memory that a forward pass keeps for the backward pass, and memory that is free."""

import psutil
import torch
from torch import Tensor, distributed

from maskris.batch import Batch
from maskris.models.base import RISModel


def fits(model: RISModel, batch: Batch, passes: int, share: float = 0.8) -> bool:
    """Whether the graphs of several forward passes, the gradients and the moments of Adam fit into free memory.

    Measured by one forward pass of a model in training mode, before its first step, on a batch like those to come. Only
    a share of the free memory may be used; with several processes, this holds on each of them.
    """
    device = batch.images.device
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    answer = passes * activation_bytes(model, batch) + 3 * weights <= share * free_bytes(device)
    if distributed.is_available() and distributed.is_initialized():
        everyone = torch.tensor(int(answer), device=device)
        distributed.all_reduce(everyone, distributed.ReduceOp.MIN)
        answer = bool(everyone.item())
    return answer


def activation_bytes(model: RISModel, batch: Batch) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights aside.

    Counted by the allocator on CUDA. Elsewhere the sum of the tensors that autograd saves, without the inputs that
    gradient checkpointing keeps.
    """
    device = batch.images.device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        logits = model(batch)  # alive while memory is read
        used = torch.cuda.memory_allocated(device) - before
        del logits
        return used
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(batch)
    del logits
    return sum(saved.values())


def free_bytes(device: torch.device) -> int:
    """Free bytes: of a GPU, those that PyTorch holds but doesn't use included, or of the machine."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    return int(psutil.virtual_memory().available)
