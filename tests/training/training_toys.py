"""A tiny model, method and data set, and runs of them in processes of their own."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertTokenizer, PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.strategies.ema_teacher import EMATeacher
from maskris.strategies.masking import ImageMasking
from maskris.training.config import TrainingConfig
from maskris.training.trainer import Trainer, TrainingResult
from maskris.utils.rng import Random, generator

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "dog"]


class ToyModel(RISModel):
    def __init__(
        self,
        width: int = 4,
        dropout: float = 0.0,
        preprocess: dict[str, Any] | None = None,
        max_tokens: int = 8,
        tokenizer: PreTrainedTokenizerBase | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        words = tokenizer or BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
        self.set_inputs(preprocess or {"height": 8, "width": 8}, words, max_tokens)
        self.set_config()
        self.image = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.words = nn.Embedding(len(WORDS), width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Conv2d(width, 2, 1)
        self.register_buffer("constant", torch.arange(3.0))

    def encode_image(self, images: Tensor) -> Tensor:
        return self.norm(self.image(images))

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        words = self.words(input_ids).mean(1)[:, :, None, None]
        return self.head(self.drop(torch.tanh(features[image_index] * words)))

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        slow = [*self.image.parameters(), *self.norm.parameters(), *self.words.parameters()]
        return [
            {"name": "encoders", "params": slow, "lr": 0.1 * lr, "weight_decay": 0.0},
            {"name": "head", "params": [*self.head.parameters()], "lr": lr, "weight_decay": weight_decay},
        ]


def toy_model(dropout: float = 0.0, batch_norm: bool = False) -> ToyModel:
    torch.manual_seed(0)
    return ToyModel(dropout=dropout, batch_norm=batch_norm)


class TwoPasses(Strategy):
    """The clean images, then noisy ones; the noise is drawn from the step's key."""

    terms = ("clean", "noisy")

    def __init__(self, noise: float = 1.0, hook: Callable[[int], None] | None = None) -> None:
        self.noise = noise
        self._hook = hook

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        assert batch.images.dtype == torch.float32
        assert batch.masks is not None
        if self._hook is not None:
            self._hook(int(rng.key[2]))
        target = batch.masks.long()
        yield 0.5 * F.cross_entropy(model(batch), target)
        noise = torch.randn(batch.images.shape, generator=rng.generator("noise")) * self.noise
        noisy = Batch(batch.images + noise, batch.input_ids, batch.attention_mask, batch.image_index)
        yield 0.5 * F.cross_entropy(model(noisy), target)


class OnePass(TwoPasses):
    """The same sum in one loss."""

    terms = ("total",)

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        yield sum(TwoPasses.losses(self, model, batch, rng), torch.zeros(()))


class Averaged(EMATeacher):
    """A method that carries state from step to step; its hook is that of `TwoPasses`."""

    def __init__(self, hook: Callable[[int], None] | None = None) -> None:
        super().__init__(decay=0.8, image=ImageMasking(0.5, 2))
        self._hook = hook

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        if self._hook is not None:
            self._hook(int(rng.key[2]))
        yield from super().losses(model, batch, rng)


class ToyData:
    training = True

    def __init__(self, length: int = 20) -> None:
        self.length = length
        self.loaded: list[tuple[int, int]] = []
        self.preprocess = Preprocess(8, 8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, Tensor, Tensor, Tensor]:
        self.loaded.append(key)
        rng = generator(1, *key)
        image = torch.randint(0, 256, (3, 8, 8), generator=rng, dtype=torch.uint8)
        return key[1], image, image[0] > 99, torch.randint(5, 8, (3,), generator=rng)

    def collate(self, samples: Sequence[tuple[int, Tensor, Tensor, Tensor]]) -> Batch:
        numbers, images, masks, ids = zip(*samples, strict=True)
        n = len(samples)
        return Batch(
            torch.stack(images),
            torch.stack(ids),
            torch.ones(n, 3, dtype=torch.int64),
            torch.arange(n),
            torch.stack(masks),
            torch.tensor([[number, 0] for number in numbers]),
        )

    def describe(self, batch: Batch) -> list[str]:
        assert batch.expression_id is not None
        return [f"toys, ref_id {row}" for row in batch.expression_id[:, 0].tolist()]

    def preload(self) -> None:
        pass


@dataclass
class ToyEvaluation:
    metrics: dict[str, Any]


def toy_evaluate(model: RISModel, table: Any, protocol: str, **options: Any) -> ToyEvaluation:
    """oIoU falls from step to step: the first evaluation is the best one."""
    weight = model.state_dict()["head.weight"].abs().sum().item()
    return ToyEvaluation({"oIoU": 1 / (1 + weight), "mIoU": weight, "protocol": protocol})


def toy_config(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {"steps": 8, "batch_size": 4, "warmup_steps": 2, "lr": 0.01, "workers": 0, "save_every": 1}
    values |= {"log_every": 1, "device": "cpu"} | changes
    if values.get("epochs") is not None:
        values.pop("steps")
    return TrainingConfig(**values)


def toy_trainer(out: Path, **changes: Any) -> Trainer:
    """`changes` are those of the configuration and of the trainer's arguments together."""
    arguments: dict[str, Any] = {
        "model": toy_model(changes.pop("dropout", 0.3), changes.pop("batch_norm", False)),
        "strategy": TwoPasses(),
        "train": ToyData(),
        "validation": None,
        "evaluate": toy_evaluate,
    }
    arguments |= {key: changes.pop(key) for key in list(changes) if key in arguments}
    return Trainer(config=toy_config(**changes), out=out, progress=False, **arguments)


def toy_run(out: Path, resume: str | Path = "auto", **changes: Any) -> TrainingResult:
    return toy_trainer(out, **changes).fit(resume)


def weights(out: Path, name: str = "last") -> dict[str, Tensor]:
    return load_file(out / name / "model.safetensors")


def averages(out: Path) -> dict[str, Tensor]:
    return load_file(out / "last" / "strategy.safetensors")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# -- processes ---------------------------------------------------------------------------------------------------------

_CONTEXT = multiprocessing.get_context("forkserver")
# Pays for the imports once. (Some versions of Python ignore sys.path here, so that the toys themselves can't be named.)
_CONTEXT.set_forkserver_preload(["maskris.training.trainer", "transformers.models.bert.tokenization_bert", "pytest"])


def start(target: Callable[..., Any], *arguments: Any) -> Any:
    process = _CONTEXT.Process(target=_single_threaded, args=(target, *arguments))
    process.start()
    return process


def _single_threaded(target: Callable[..., Any], *arguments: Any) -> None:
    torch.set_num_threads(1)
    target(*arguments)


class KillSelf:
    """A hook for `TwoPasses` that dies in the middle of a step."""

    def __init__(self, step: int, number: int = signal.SIGKILL) -> None:
        self.step, self.number = step, number

    def __call__(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


def distributed(target: Callable[..., None], world: int, *arguments: Any) -> None:
    """Run `target` in `world` processes that find each other, as torchrun does it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(_ranked, target, rank, world, port, *arguments) for rank in range(world)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world


def _ranked(target: Callable[..., None], rank: int, world: int, port: int, *arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(world)}
    target(*arguments)
    torch.distributed.destroy_process_group()
