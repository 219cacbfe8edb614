"""`Trainer`: the loop. It knows neither the model nor the method, and all its randomness is a function of the step."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from maskris.batch import Batch
from maskris.data.dataset import training_loader
from maskris.data.sampler import TrainingBatches
from maskris.evaluation.evaluator import evaluate
from maskris.models.base import RISModel, load_model
from maskris.strategies.base import Strategy
from maskris.training.config import TrainingConfig
from maskris.training.distributed import (
    ParallelModel,
    choose_for,
    clip_gradients,
    make_accelerator,
    return_freed_memory,
    update,
)
from maskris.training.logging import Tracker
from maskris.training.optimizer import make_optimizer, set_learning_rate
from maskris.training.run_folder import RunFolder, RunState, identity_of
from maskris.utils import process as signals
from maskris.utils.rng import Random


class TrainingData(Protocol):
    """What the trainer needs of `ReferringDataset`."""

    def __len__(self) -> int:
        """Number of items in an epoch."""

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The item of an epoch: ``(epoch, number)``."""

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Items to a batch."""

    def describe(self, batch: Batch) -> list[str]:
        """Where the expressions of a batch come from, for error messages."""


class NonFiniteError(RuntimeError):
    """A loss or gradient was not finite; the message names step, term and expressions. No checkpoint was touched."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        out: The run folder, with ``last``, ``best`` (where validation data was given) and ``metrics.jsonl``.
        step: Steps done.
        total_steps: Steps of the whole run.
        interrupted: The signal that stopped the run early; ``None`` if it is complete. A command exits with 128 + it.
        metrics: The latest evaluation.
        best: The highest value of `TrainingConfig.best_metric`.
        seconds: Wall time of this call.
    """

    out: Path
    step: int
    total_steps: int
    interrupted: int | None
    metrics: dict[str, Any]
    best: float | None
    seconds: float


class Trainer:
    """Trains a model by a strategy and keeps what comes out of it in a run folder.

    A run killed at any moment and started again ends with the same weights, bit for bit, on hardware and kernels that
    repeat their results (CPUs do).

    Args:
        model: With the weights to start from, unless `config` names others.
        strategy: The method.
        train: Usually a `ReferringDataset` made with ``training=True`` and the same seed as `config`.
        validation: What `evaluate` takes as its table; ``None`` for no evaluation.
        config: All settings.
        out: The run folder; with several machines, on a disk that all of them see.
        evaluate: Called as `maskris.evaluation.evaluator.evaluate`, which is the default.
        progress: Show progress on stderr.
        files: Texts to keep in the run folder, by file name; written once it is clear that the folder is this run's.

    Raises:
        ValueError: If `config` does not fit the machine or the data; see `make_accelerator` and `TrainingBatches`.
    """

    def __init__(
        self,
        model: RISModel,
        strategy: Strategy,
        train: TrainingData,
        validation: Any | None,
        config: TrainingConfig,
        out: str | Path,
        *,
        evaluate: Callable[..., Any] = evaluate,
        progress: bool = True,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.strategy, self.train, self.validation = model, strategy, train, validation
        self.config, self.out, self.progress = config, Path(out), progress
        self.evaluate, self.files = evaluate, files or {}
        self.accelerator: Accelerator = make_accelerator(config)
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.steps_per_epoch = self._batches(0).steps_per_epoch
        self.total_steps = config.total_steps(self.steps_per_epoch)
        self.model.to(self.accelerator.device)
        self.optimizer = make_optimizer(model, config)
        augment, reduced = getattr(train, "augment", ()), getattr(train, "reduced_decoding", False)
        identity = identity_of(config, model, strategy, len(train), self.world_size, augment, reduced)
        self.folder = RunFolder(self.out, self.accelerator, identity)
        self.state = RunState()
        self._prepared = False
        self._frugal = self.accelerator.device.type == "cpu" and choose_for(model)

    def fit(self, resume: str | Path = "auto") -> TrainingResult:
        """Train to the end, or until a signal asks to stop.

        Args:
            resume: ``"auto"`` continues the run in the run folder if there is one; ``"never"`` starts anew and refuses
                a folder that holds a run; a path continues from that checkpoint (a ``last`` folder, or a run folder).

        Raises:
            CheckpointError: If the run can't be continued, would overwrite another one, or is being trained by another
                process.
            FileNotFoundError: If there is no model to start from.
            ValueError: If it is another network.
            NonFiniteError: If a loss is not finite, or a gradient (in fp16 such a step is skipped instead).
        """
        with self.folder.alone():
            return self._fit(resume)

    def _fit(self, resume: str | Path) -> TrainingResult:
        start = time.perf_counter()
        checkpoint = self.folder.start(resume)
        taken = self.config.init_from if checkpoint is None else None
        if checkpoint is not None:
            self.state = self.folder.load(checkpoint, self.model, self.optimizer, self.strategy)
        if taken is not None:
            load_initial_weights(self.model, taken)
        self.accelerator.wait_for_everyone()  # nobody writes before all have read
        self.folder.write(self.files)
        self.model.train()
        parallel = ParallelModel(self.model, self.accelerator)
        batches = iter(self._loader())
        with (
            signals.StopSignals() as self._stop,
            Tracker(
                self.out,
                step=self.state.step,
                total=self.total_steps,
                tensorboard=self.config.tensorboard,
                progress=self.progress,
                active=self.accelerator.is_main_process,
            ) as self._tracker,
        ):
            if taken is not None:
                self._tracker.say(f"Starts from the weights of {taken}")
            try:
                self._evaluate_if_due()  # a stop may have come before it
                while self.state.step < self.total_steps:
                    if self._train_step(parallel, batches):
                        raise signals.Stopped
                    self._evaluate_if_due()
                    if self.state.step % self.config.save_every == 0 or self.state.step == self.total_steps:
                        self._save_last()
                interrupted = None
            except signals.Stopped:
                self._save_last()
                interrupted = self._stop.received or signals.SIGNALS[0]  # another process may have got it
                self._tracker.say(
                    f"Stopped by signal {interrupted} after step {self.state.step}; {self.out / 'last'} saved"
                )
            finally:
                del batches  # ends the workers
        seconds = time.perf_counter() - start
        best, metrics = self.state.best, self.state.metrics
        return TrainingResult(self.out, self.state.step, self.total_steps, interrupted, metrics, best, seconds)

    def _train_step(self, parallel: ParallelModel, batches: Iterator[Batch]) -> bool:
        """One update; returns whether to stop after it."""
        start = time.perf_counter()
        state, step = self.state, self.state.step
        # A step that the scaler skips does not move the schedule (the official code moves it).
        lr = set_learning_rate(self.optimizer, step - state.skipped, self.total_steps, self.config)
        self.optimizer.zero_grad()
        parts, losses = [], []
        for part in range(self.config.gradient_accumulation_steps):
            parts.append(next(batches))
            losses.append(self._backward(parallel, parts[-1], part))
        table = torch.stack(losses)  # [parts, passes]
        norm = clip_gradients(self.accelerator, self.optimizer, self.config.max_grad_norm)
        counts = [float(self._stop.received is not None), float(sum(map(len, parts)))]
        # The only wait for the device and, besides the gradients, the only communication of a step.
        summary = torch.cat([table.mean(0), norm.reshape(1), torch.tensor(counts, device=norm.device)])
        *means, norm_value, stop, expressions = self.accelerator.reduce(summary, reduction="mean").tolist()
        if not all(map(math.isfinite, means)):
            self._fail(step, parts, table)
        if self.accelerator.scaler is None and not math.isfinite(norm_value):
            self._fail(step, parts, None)
        if update(self.accelerator, self.optimizer):
            if type(self.strategy).after_step is not Strategy.after_step:
                parallel.share_statistics()
                self.strategy.after_step(self.model, step)
        else:
            state.skipped += 1
        state.step += 1
        state.window.add(means, norm_value, expressions * self.world_size, time.perf_counter() - start)
        self._tracker.advance(state.step)
        if state.step % self.config.log_every == 0 or state.step == self.total_steps:
            mean = state.window.take()
            named = dict(zip(self.strategy.terms, mean.losses, strict=True))
            rate = mean.expressions / mean.seconds
            others = {"lr": lr, "grad_norm": mean.norm, "expressions_per_second": rate, "skipped": state.skipped}
            self._tracker.train(state.step, state.step / self.steps_per_epoch, named, **others)
        return bool(stop)

    def _save_last(self) -> None:
        self.folder.save_last(self.model, self.optimizer, self.strategy, self.state)

    def _backward(self, parallel: ParallelModel, batch: Batch, part: int) -> Tensor:
        """The gradients of all losses of a part of the batch; returns the losses ``[passes]``."""
        batch = batch.to(self.accelerator.device, non_blocking=True)
        batch = replace(batch, images=self.model.preprocess.normalize(batch.images))
        if not self._prepared:
            with self.accelerator.autocast():
                self.strategy.prepare(self.model, batch)
            self._prepared = True
        rng = Random(self.config.seed, "step", self.state.step, self.rank, part)
        losses = self.strategy.losses(cast(RISModel, parallel), batch, rng)
        values = []
        for number in range(self.strategy.passes):
            last = part == self.config.gradient_accumulation_steps - 1 and number == self.strategy.passes - 1
            with parallel.synchronised(last):
                rng.seed_dropout(number)  # also for strategies that don't think of it
                loss = next(losses, None)
                if loss is None:
                    raise RuntimeError(self._miscounted(f"only {number}"))
                self.accelerator.backward(loss)
            values.append(loss.detach())
            del loss  # and with it the graph of this pass
            if self._frugal:
                return_freed_memory()
        if next(losses, None) is not None:
            raise RuntimeError(self._miscounted("more"))
        return torch.stack(values)

    def _miscounted(self, count: str) -> str:
        return f"{type(self.strategy).__name__} has {self.strategy.passes} terms, but one step yielded {count} losses"

    def _fail(self, step: int, parts: list[Batch], losses: Tensor | None) -> None:
        """Stop because of numbers that are not finite; the weights are still those before the step."""
        named: list[str] = []
        for i, batch in enumerate(parts):
            bad = [] if losses is None else (~losses[i].isfinite()).nonzero().flatten().tolist()
            if losses is None or bad:
                terms = [f"{self.strategy.terms[k]} = {losses[i, k].item()}" for k in bad if losses is not None]
                head = ", ".join([f"process {self.rank}", f"part {i}", *terms, "expressions:"])
                named.append("\n    ".join([f"  {head}", *self.train.describe(batch)]))
        if self.world_size > 1:
            named = gather_object(named)
        kind = "The gradient" if losses is None else "A loss"
        raise NonFiniteError(
            f"{kind} is not finite in step {step}. The weights were not changed and no checkpoint was written.\n"
            + "\n".join(named)
            + "\nLook at these samples, lower the learning rate or clip more; with fp16, try bf16"
        )

    def _evaluate_if_due(self) -> None:
        state, every = self.state, self.config.evaluate_every
        at_end = self.config.evaluate_at_end and state.step == self.total_steps
        due = at_end or (every is not None and state.step > 0 and state.step % every == 0)
        if self.validation is None or not due or state.evaluated == state.step:
            return
        # Processes that break off at different places would wait for each other forever.
        with self._stop.interruptible(self.world_size == 1):
            evaluation = self.evaluate(
                self.model,
                self.validation,
                self.config.protocol,
                batch_size=self.config.evaluation_batch_size,
                device=self.accelerator.device,
                precision=self.config.precision,
                workers=self.config.workers,
                progress=False,
                accelerator=self.accelerator,
            )
        self.model.train()
        state.evaluated, state.metrics = state.step, dict(evaluation.metrics)
        self._tracker.evaluate(state.step, state.metrics)
        if state.improves(self.config.best_metric):
            self.folder.save_best(self.model)

    def _batches(self, step: int) -> TrainingBatches:
        size = self.config.batch_size // self.world_size
        return TrainingBatches(len(self.train), size, self.config.seed, self.rank, self.world_size, start_step=step)

    def _loader(self) -> DataLoader[Any]:
        """Parts of batches from the present step on, without end."""
        parts = _Parts(self._batches(self.state.step), self.config.gradient_accumulation_steps)
        loader = training_loader(cast(Any, self.train), parts, self.config.workers, self.config.prefetch_factor)
        loader.worker_init_fn = signals.ignore_in_worker
        return loader


class _Parts:
    """Cuts every batch of a rank into the parts over which its gradient is accumulated."""

    def __init__(self, batches: TrainingBatches, parts: int) -> None:
        self.batches, self.parts = batches, parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches:
            size = len(batch) // self.parts
            yield from (batch[i : i + size] for i in range(0, len(batch), size))


_SHOWN = 3

_ADVICE = "train by the recipe that it was made with (the recipe.yaml of its run), or by one with the same model"


def load_initial_weights(model: RISModel, source: str | Path) -> None:
    """Give a model the weights of another one with the same network and vocabulary.

    What isn't weights stays as it is: learning rates of parts, dropout, the size of the input where the network allows
    several.

    Args:
        model: Gets the weights.
        source: Run folder (its ``best`` before its ``last``), folder of a model, or Hub id.

    Raises:
        FileNotFoundError: If there is no model at `source`.
        ValueError: If it is of another class, network or vocabulary.
    """
    trained = load_model(source, type(model))
    if trained.tokenizer.tokenizer.get_vocab() != model.tokenizer.tokenizer.get_vocab():
        raise ValueError(f"{source} has another vocabulary than the model to train; {_ADVICE}")
    theirs, ours = trained.state_dict(), model.state_dict()
    different = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    different += [name for name in theirs if name not in ours]
    if different:
        some = ", ".join(different[:_SHOWN]) + (", …" if len(different) > _SHOWN else "")
        raise ValueError(
            f"{source} is another network than the model to train: {len(different)} weights are in one of them only "
            f"or of other shapes ({some}); {_ADVICE}"
        )
    model.load_state_dict(theirs)
