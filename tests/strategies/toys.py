"""A model whose features of patches and words are known, and batches for it."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertTokenizer

from maskris.batch import Batch
from maskris.models.base import RISModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(15))]
PAD, UNK, CLS, SEP = range(4)


class Toy(RISModel):
    """Stride 4. A patch's feature is the mean color of its 8 x 8 pixels, a word's is its embedding."""

    def __init__(self, dropout: float = 0.0, channels: int = 2, width: int = 3) -> None:
        super().__init__()
        self.set_inputs({"height": 32, "width": 32}, BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}), 8)
        self.image = nn.Conv2d(3, 6, 4, stride=4)
        self.words = nn.Embedding(len(WORDS), 6)
        self.features = nn.Embedding(len(WORDS), width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Conv2d(6, channels, 1)
        self.inputs: list[tuple[Tensor, Tensor]] = []  # what the forward passes have seen

    def encode_image(self, images: Tensor) -> Tensor:
        self.inputs.append((images,))
        return self.image(images)

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        self.inputs[-1] = (*self.inputs[-1], input_ids)
        words = (self.words(input_ids) * attention_mask[..., None]).sum(1)[:, :, None, None]
        return self.head(self.drop(torch.tanh(features[image_index] + words)))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert not self.training
        assert not torch.is_grad_enabled()
        patches = nn.functional.avg_pool2d(batch.images, 8).permute(0, 2, 3, 1)  # [I, h, w, 3]
        return patches[batch.image_index], self.features(batch.input_ids)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


def toy(seed: int = 0, **options: Any) -> Toy:
    torch.manual_seed(seed)
    return Toy(**options).train()


def toy_batch(images: int = 2, expressions: int = 4, size: tuple[int, int] = (32, 32)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 20, (expressions, 6), generator=generator)
    ids[:, 0], ids[:, 4], ids[:, 5] = CLS, SEP, PAD
    return Batch(
        images=torch.randn(images, 3, *size, generator=generator),
        input_ids=ids,
        attention_mask=(ids != PAD).long(),
        image_index=torch.arange(expressions) % images,
        masks=torch.rand(expressions, *size, generator=generator) > 0.7,
    )
