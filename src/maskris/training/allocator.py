"""What the C library does with memory that training on a CPU frees: keep it for the next tensor, or return it.

By default glibc returns blocks of 32 MiB and more at once, and the end of its heap as soon as 64 MiB of it are free.
Training asks for the same blocks again a moment later, and the system clears all their pages each time, which takes a
fifth of a step. On GPUs PyTorch has an allocator of its own, which keeps what is freed.
"""

import ctypes
import os
import sys
from functools import lru_cache
from typing import Any

from maskris.models.base import RISModel

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of malloc.h
_NEVER = 2**31 - 1
_LARGE = 8 * 2**20  # smaller blocks leave few holes, larger ones cost few pages
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def choose_for(model: RISModel) -> bool:
    """Tell the C library, if it is glibc, what this process is after: speed or little memory.

    Freed memory is kept, which makes training faster and its peak no higher. If the model computes activations again
    to save memory, large blocks are returned at once instead: long-lived gradients would scatter among them.
    Where variables of glibc (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``) say what the
    user wants, nothing is changed.

    Args:
        model: The one to be trained, on the CPU.

    Returns:
        Whether `return_freed_memory` is to be called after each backward pass.
    """
    library = _glibc()
    if library is None or any(name in os.environ for name in _SETTINGS):
        return False
    library.mallopt(_MMAP_THRESHOLD, _LARGE if model.checkpointing else _NEVER)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    return model.checkpointing


def return_freed_memory() -> None:
    """Give all pages without a living tensor back to the system, where the C library is glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
