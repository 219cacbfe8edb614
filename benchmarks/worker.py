"""A process that does one task whenever it is asked, so that two networks can take turns without sharing memory.

It answers every line on its input with one line of JSON: first ``ready``, then the seconds of each run, and at the end
of the input its peak memory and the operations of one run.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.cases import Setting, make_task

ROOT = Path(__file__).resolve().parents[1]


class Worker:
    """The parent's side of a worker process.

    Args:
        setting: What it times.
        source: The folder that holds the package ``maskris`` to be timed; by default that of this checkout.
    """

    def __init__(self, setting: Setting, source: Path | None = None) -> None:
        import os

        paths = [str(source or ROOT / "src"), str(ROOT)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(setting.threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(setting))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> "Worker":
        self._answer()
        return self

    def run(self) -> float:
        """Seconds of one run.

        Raises:
            RuntimeError: If the worker has died, for example for want of memory.
        """
        assert self.process.stdin
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def finish(self) -> dict[str, Any]:
        """Peak memory ``peak_mib`` and operations ``flops`` of one run."""
        assert self.process.stdin
        self.process.stdin.close()
        return self._answer()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self.process.kill()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            why = "see its error above" if code > 0 else "it was killed, perhaps for want of memory"
            raise RuntimeError(f"A benchmark process ended with code {code}: {why}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def peak_mib(device: str) -> float:
    """Most memory the process has held: of the GPU if there is one, else resident on the CPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def count_flops(task: Any) -> int:
    """Floating point operations of matrix products and convolutions in one run, backward passes included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def cpu_attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(q, k, v))

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: cpu_attention}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        task()
    return int(counter.get_total_flops())


def main() -> None:
    """Serve the parent."""
    setting = Setting(**json.loads(sys.argv[1]))
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print
    task = make_task(setting)
    task()  # the first run allocates, compiles and caches

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    answer(ready=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        task()
        answer(seconds=time.perf_counter() - start)
    peak = peak_mib(setting.device)  # before operations are counted, which keeps tensors alive
    answer(peak_mib=peak, flops=0 if setting.compiled else count_flops(task))


if __name__ == "__main__":
    main()
