"""`Trainer`: the training loop, for any model and method; all its randomness is a function of the step."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from maskris.batch import Batch
from maskris.data.dataset import ReferringDataset, training_loader
from maskris.data.sampler import TrainingBatches, TrainingItem
from maskris.evaluation.evaluator import evaluate
from maskris.models.base import RISModel
from maskris.models.loading import load_model
from maskris.strategies.base import Strategy
from maskris.training.config import TrainingConfig
from maskris.training.distributed import (
    ParallelModel,
    clip_gradients,
    make_accelerator,
    return_freed_memory,
    tune_allocator,
    update,
)
from maskris.training.logging import Tracker
from maskris.training.optimizer import make_optimizer, set_learning_rate
from maskris.training.run_folder import RunFolder, RunState, Window, identity_of
from maskris.utils.process import SIGNALS, Stopped, StopSignals, ignore_signals
from maskris.utils.rng import Random


class NonFiniteError(RuntimeError):
    """A loss or gradient was not finite; the message names step, term and expressions. No checkpoint was changed."""


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
    """Trains a model by a strategy and writes checkpoints and measurements to a run folder.

    A run killed at any moment and started again ends with the same weights, bit for bit, on hardware and kernels that
    repeat their results (CPUs do).

    Args:
        model: With the weights to start from, unless `config` names others.
        strategy: The method.
        train: Made with ``training=True`` and the same seed as `config`. Any object will do that has its length, its
            items by ``(epoch, number)``, its `collate` and its `describe`.
        validation: What `evaluate` takes as its table; ``None`` for no evaluation.
        config: All settings.
        out: The run folder; with several machines, on a disk that they share.
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
        train: ReferringDataset,
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
        share = config.batch_size // self.world_size
        self._batches = TrainingBatches(len(train), share, config.seed, self.rank, self.world_size)
        self.steps_per_epoch = self._batches.steps_per_epoch
        self.total_steps = config.total_steps(self.steps_per_epoch)
        self.model.to(self.accelerator.device)
        self.optimizer = make_optimizer(model, config)
        identity = identity_of(config, model, strategy, train, self.world_size)
        self.folder = RunFolder(self.out, self.accelerator, model, self.optimizer, strategy, identity)
        self.state = RunState()
        self._prepared = False
        self._frugal = self.accelerator.device.type == "cpu" and tune_allocator(model)

    def fit(self, resume: str | Path = "auto") -> TrainingResult:
        """Train to the end, or until a signal asks to stop.

        Args:
            resume: ``"auto"`` continues the run in the run folder if there is one; ``"never"`` starts anew and refuses
                a folder that holds a run; a path continues from that checkpoint (a ``last`` folder, or a run folder).

        Raises:
            CheckpointError: If the run can't be continued, or would overwrite another one.
            OtherRunError: If the checkpoint belongs to a run with other settings; names each one with both values.
            FolderInUseError: If another process is training in the run folder.
            FileNotFoundError: If there is no model to start from.
            ValueError: If it is another network.
            NonFiniteError: If a loss is not finite, or a gradient (in fp16 such a step is skipped instead).
        """
        start = time.perf_counter()
        with self.folder.lock():
            checkpoint = self.folder.start(resume)
            initial = self.config.init_from if checkpoint is None else None
            if checkpoint is not None:
                self.state = self.folder.load(checkpoint)
            elif initial is not None:
                load_initial_weights(self.model, initial)
            self.accelerator.wait_for_everyone()  # nobody writes before all have read
            self.folder.write(self.files)
            tracker = Tracker(
                self.out,
                step=self.state.step,
                total=self.total_steps,
                tensorboard=self.config.tensorboard,
                progress=self.progress,
                active=self.accelerator.is_main_process,
            )
            with StopSignals() as self._stop, tracker as self._tracker:
                if initial is not None:
                    self._tracker.say(f"Starts from the weights of {initial}")
                interrupted = self._loop()
        state, seconds = self.state, time.perf_counter() - start
        return TrainingResult(self.out, state.step, self.total_steps, interrupted, state.metrics, state.best, seconds)

    def _loop(self) -> int | None:
        """Steps, evaluations and checkpoints up to the end; returns the signal that broke them off, if any."""
        self.model.train()
        parallel = ParallelModel(self.model, self.accelerator)
        self._batches.start_step = self.state.step
        parts = _cut(self._batches, self.config.gradient_accumulation_steps)
        loader = training_loader(self.train, parts, self.config.workers, self.config.prefetch_factor)
        loader.worker_init_fn = ignore_signals
        batches = iter(loader)
        try:
            self._evaluate_if_due()  # a stop may have come before it
            while self.state.step < self.total_steps:
                if self._train_step(parallel, batches):
                    raise Stopped
                self._evaluate_if_due()
                if self.state.step % self.config.save_every == 0 or self.state.step == self.total_steps:
                    self.folder.save_last(self.state)
            return None
        except Stopped:
            self.folder.save_last(self.state)
            number = self._stop.received or SIGNALS[0]  # another process may have got it
            self._tracker.say(f"Stopped by signal {number} after step {self.state.step}; {self.folder.last} saved")
            return number
        finally:
            # Else an error, whose traceback holds the iterator, would keep the workers: they ignore SIGTERM.
            if hasattr(batches, "_shutdown_workers"):
                batches._shutdown_workers()

    def _train_step(self, parallel: ParallelModel, batches: Iterator[Batch]) -> bool:
        """One update; returns whether to stop after it."""
        start = time.perf_counter()
        state, step = self.state, self.state.step
        # A step that the scaler skips does not move the schedule (the official code moves it).
        schedule = step - state.skipped, self.total_steps, self.config
        lr = set_learning_rate(self.optimizer, *schedule, first_epoch=step < self.steps_per_epoch)
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
            self._fail(parts, table)
        if self.accelerator.scaler is None and not math.isfinite(norm_value):
            self._fail(parts, None)
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
            terms, mean_norm, rate = state.window.means()
            named = dict(zip(self.strategy.terms, terms, strict=True))
            values = {"lr": lr, "grad_norm": mean_norm, "expressions_per_second": rate, "skipped": state.skipped}
            self._tracker.train(state.step, state.step / self.steps_per_epoch, named, **values)
            state.window = Window()
        return bool(stop)

    def _backward(self, parallel: ParallelModel, batch: Batch, part: int) -> Tensor:
        """Backpropagate all losses of a part of the batch; returns the losses ``[passes]``."""
        batch = batch.to(self.accelerator.device, non_blocking=True)
        batch = replace(batch, images=self.model.preprocess.normalize(batch.images))
        if not self._prepared:
            with self.accelerator.autocast():
                self.strategy.prepare(self.model, batch)
            self._prepared = True
        rng = Random(self.config.seed, "step", self.state.step, self.rank, part, step=self.state.step)
        losses = self.strategy.losses(cast(RISModel, parallel), batch, rng)
        values = []
        for number in range(self.strategy.passes):
            last = part == self.config.gradient_accumulation_steps - 1 and number == self.strategy.passes - 1
            with parallel.synchronized(last):
                rng.seed_dropout(number)  # also for strategies that don't do it themselves
                if (loss := next(losses, None)) is None:
                    break
                self.accelerator.backward(loss)
            values.append(loss.detach())
            del loss  # and with it the graph of this pass
            if self._frugal:
                return_freed_memory()
        more = next(losses, None) is not None
        if more or len(values) < self.strategy.passes:
            raise RuntimeError(
                f"{type(self.strategy).__name__} has {self.strategy.passes} terms, but one step yielded "
                f"{'more' if more else f'only {len(values)}'} losses"
            )
        return torch.stack(values)

    def _fail(self, parts: list[Batch], losses: Tensor | None) -> None:
        """Stop because losses ``[parts, passes]`` are not finite, or the gradient; the weights have not changed yet."""
        named: list[str] = []
        for i, batch in enumerate(parts):
            values = {} if losses is None else dict(zip(self.strategy.terms, losses[i].tolist(), strict=True))
            bad = [f"{term} = {value}" for term, value in values.items() if not math.isfinite(value)]
            if bad or losses is None:
                head = ", ".join([f"process {self.rank}", f"part {i}", *bad, "expressions:"])
                named.append("\n    ".join([f"  {head}", *self.train.describe(batch)]))
        what = f"{'The gradient' if losses is None else 'A loss'} is not finite in step {self.state.step}"
        lines = [
            f"{what}. The weights were not changed and no checkpoint was written.",
            *gather_object(named),
            "Look at these samples, lower the learning rate or clip more; with fp16, try bf16",
        ]
        raise NonFiniteError("\n".join(lines))

    def _evaluate_if_due(self) -> None:
        state, every = self.state, self.config.evaluation_interval(self.steps_per_epoch)
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
            self.folder.save_best()


def _cut(batches: TrainingBatches, parts: int) -> Iterator[list[TrainingItem]]:
    """The parts of every batch of a rank over which its gradient is accumulated."""
    for batch in batches:
        size = len(batch) // parts
        yield from (batch[i : i + size] for i in range(0, len(batch), size))


def load_initial_weights(model: RISModel, source: str | Path) -> None:
    """Give a model the weights of another one with the same network and vocabulary.

    It is in a run folder (in ``best`` rather than in ``last``), in the folder of a model, or on the Hub. What isn't
    weights stays as it is: learning rates of parts, dropout, the size of the input where the network allows several.

    Raises:
        FileNotFoundError: If there is no model at `source`.
        ValueError: If it is of another class, network or vocabulary.
    """
    advice = "train by the recipe that it was made with (the recipe.yaml of its run), or by one with the same model"
    trained = load_model(source, type(model))
    if trained.tokenizer.tokenizer.get_vocab() != model.tokenizer.tokenizer.get_vocab():
        raise ValueError(f"{source} has another vocabulary than the model to train; {advice}")
    theirs, ours = trained.state_dict(), model.state_dict()
    different = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    different += [name for name in theirs if name not in ours]
    if different:
        some = ", ".join(different[:3]) + (", …" if len(different) > 3 else "")
        raise ValueError(
            f"{source} is another network than the model to train: {len(different)} weights are in one of them only "
            f"or of other shapes ({some}); {advice}"
        )
    model.load_state_dict(theirs)
