"""ObjectRIS, the small reference model of the embedded data set: objects first, then the words choose among them.

Written to be read first: every other model of this package differs in what it does between `encode_image` and
`segment`, not in how it is called. It trains from nothing, in minutes on two CPU cores.
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.layers.attention import sine_encoding
from maskris.models.optimizer_groups import Part, parameter_groups

GRID = 8
"""Rows and columns of cells, each of which proposes the object that it lies on."""

REACH = 0.6
"""How far from itself a pixel or a cell may see the center of its object; the image reaches from -1 to 1."""

SIGMA = 0.2
"""How far from its object's center a pixel may point, before the network has learned how compact objects are."""


class Objects(NamedTuple):
    """What the image alone tells: `K` objects of each of `I` images, and the `C` cells that proposed them."""

    vectors: Tensor
    """``[I, K, D]``: what each looks like, where it is and how large."""
    masks: Tensor
    """``[I, K, h * w]``: probability of every pixel, at half the input's size."""
    cells: Tensor
    """``[I, C, D]``, `GRID` rows of `GRID` cells."""
    size: tuple[int, int]
    """h and w."""


class ObjectRIS(RISModel):
    """A small network that takes an image apart into objects, so that words can compare objects and not pixels.

    Every pixel points to the center of its object, and every cell of a coarse grid proposes the object whose center it
    points to (spatial embeddings; Neven et al., CVPR 2019). Of proposals that are the same the clearest is kept. Place
    and size of an object are measured on its mask and become part of its vector. A transformer over words and objects
    then tells which of them is meant: few tokens, so that many phrases about an image cost hardly more than one.

    Args:
        width: Channels of cells, objects and words.
        detail: Channels of the pixels.
        objects: Most objects that are kept of an image.
        image_layers: Transformer layers over the cells.
        text_layers: Transformer layers over the words.
        fusion_layers: Transformer layers over objects and words together.
        heads: Heads of all attention.
        referents: ``"one"``: a phrase means exactly one object; the most likely is the answer. ``"any"``: it may mean
            several objects or none; all that are likelier than not are the answer.
        tokenizer: List of words, folder, Hub id or tokenizer.
        max_tokens: Most tokens of an expression, special ones included.
        preprocess: Input size, multiples of 8, and normalization; by default 64 x 64, stretched.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        width: int = 96,
        detail: int = 32,
        objects: int = 12,
        image_layers: int = 2,
        text_layers: int = 1,
        fusion_layers: int = 2,
        heads: int = 4,
        referents: Literal["one", "any"] = "one",
        tokenizer: str | list[str] | PreTrainedTokenizerBase = "bert-base-uncased",
        max_tokens: int = 32,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.set_inputs(preprocess or Preprocess(64, 64), build_tokenizer(tokenizer), max_tokens)
        _check(self.preprocess.size, width, heads, objects, referents)
        self.objects, self.referents = objects, referents
        half = width // 2
        self.stem = nn.Sequential(  # [I, D / 2, H / 2, W / 2]
            nn.Conv2d(3, half // 2, 5, stride=2, padding=2), nn.GELU(), nn.Conv2d(half // 2, half, 3, padding=1)
        )
        self.body = nn.Sequential(  # [I, D, H / 4, W / 4]
            nn.GELU(), nn.Conv2d(half, width, 3, stride=2, padding=1), Residual(width), Residual(width)
        )
        self.cell_position = nn.Linear(width, width)
        self.cell_layers = transformer(width, heads, image_layers)
        self.cell_norm = nn.LayerNorm(width)
        # Three views of an image meet in its pixels: what is here, what is around it, and what the whole is like.
        self.here = nn.Conv2d(half, detail, 1)
        self.around = nn.Conv2d(width, 4 * detail, 1)
        self.whole = nn.Conv2d(width, detail, 1)
        self.pixel_position = nn.Conv2d(width, detail, 1)
        self.pixels = nn.Sequential(
            nn.GELU(), nn.Conv2d(detail, detail, 3, padding=1), nn.GELU(), nn.Conv2d(detail, detail, 3, padding=1)
        )
        self.pixel_head = nn.Sequential(
            nn.GELU(), nn.Conv2d(detail, 3, 1)
        )  # where its object's center is; is it on one
        self.cell_head = nn.Linear(width, 3)  # where its object's center is; how compact the object is
        self.appearance = nn.Linear(detail + width, width)
        self.geometry = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, width))
        self.words = nn.Embedding(len(self.tokenizer.tokenizer), width)
        self.word_position = nn.Parameter(torch.randn(max_tokens, width) * 0.1)
        nn.init.normal_(self.words.weight, std=0.3)
        self.text_layers = transformer(width, heads, text_layers)
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.fusion_layers = transformer(width, heads, fusion_layers)
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.set_config()

    def encode_image(self, images: Tensor) -> Objects:
        """Normalized images ``[I, 3, H, W]``, whose sides are multiples of 8, to their objects."""
        fine = self.stem(images)
        body = self.body(fine)
        size = fine.shape[-2:]
        grid = F.adaptive_avg_pool2d(body, GRID).flatten(2).mT  # [I, C, D]
        position = sine_encoding(GRID, GRID, grid.shape[-1], images.device)
        cells = self.cell_norm(self.cell_layers(grid + self.cell_position(position)))
        around = F.pixel_shuffle(self.around(body), 2)
        whole = F.interpolate(self.whole(cells.mT.unflatten(2, (GRID, GRID))), size=size, mode="bilinear")
        position = sine_encoding(*size, grid.shape[-1], images.device).mT.unflatten(1, size)
        pixels = self.here(fine) + around + whole + self.pixel_position(position)
        pixels = pixels + self.pixels(pixels)  # [I, detail, h, w]
        masks = self._propose(cells, self.pixel_head(pixels).flatten(2).mT, size)  # [I, C, h * w]
        seen = torch.cat([pixels, F.interpolate(body, size=size)], dim=1).flatten(2).mT  # [I, h * w, detail + D]
        kept = distinct(masks.detach(), self.objects)[..., None]  # [I, K, 1]
        masks = masks.gather(1, kept.expand(-1, -1, masks.shape[2]))
        vectors = cells.gather(1, kept.expand(-1, -1, cells.shape[2]))
        vectors = vectors + self._measure(masks.detach(), seen, size)
        return Objects(vectors, masks, cells, (size[0], size[1]))

    def _propose(self, cells: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Mask of the object on which each cell lies: pixels on an object that point to where the cell points."""
        own = self.cell_head(cells)
        cell_center = centers(GRID, GRID, cells.device) + REACH * own[..., :2].tanh()  # [I, C, 2]
        pixel_center = centers(*size, cells.device) + REACH * pixels[..., :2].tanh()  # [I, h * w, 2]
        distance = (cell_center[:, :, None] - pixel_center[:, None]).square().sum(-1)  # [I, C, h * w]
        compact = own[..., 2:].exp() / (2 * SIGMA**2)
        return (F.logsigmoid(pixels[..., 2])[:, None] - distance * compact).exp()

    def _measure(self, masks: Tensor, seen: Tensor, size: tuple[int, int]) -> Tensor:
        """Appearance, place and size of objects with `masks` ``[I, K, h * w]``, as vectors ``[I, K, D]``."""
        area = masks.mean(2, keepdim=True)
        share = masks / (masks.sum(2, keepdim=True) + 0.1)
        grid = centers(*size, masks.device)
        middle = share @ grid  # [I, K, 2]
        spread = (share @ grid.square() - middle.square()).clamp(min=1e-4).sqrt()
        clear = (masks.square().mean(2, keepdim=True) + 1e-4) / (area + 1e-4)
        # Each of them is about 1 in size.
        place = torch.cat([middle, spread * 3, area * 10, (area + 1e-3).log() / 2 + 2, clear, area.sqrt() * 3], dim=2)
        measured: Tensor = self.appearance(share @ seen) + self.geometry(place)
        return measured

    def segment(self, features: Objects, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 1, H / 2, W / 2]``.

        In training they are those of the probability that a pixel belongs to the referent, over all objects that may
        be meant. In evaluation the network makes up its mind: the masks of the objects that it chooses.
        """
        words = self._read(input_ids, attention_mask)
        vectors = features.vectors[image_index]  # [N, K, D]
        n, k = vectors.shape[:2]
        tokens = torch.cat([vectors, self.nothing.expand(n, -1, -1), words], dim=1)
        padding = F.pad(attention_mask == 0, (k + 1, 0))
        scores = self.score(self.fusion_layers(tokens, src_key_padding_mask=padding)[:, : k + 1])[..., 0]
        masks = features.masks[image_index]  # [N, K, h * w]
        if self.referents == "one":
            chosen = scores.softmax(1)[:, :k]
            if not self.training:
                chosen = F.one_hot(self._best(chosen, features.masks, image_index), k).to(masks)
            probability = (chosen[:, None] @ masks)[:, 0]
        else:
            chosen = scores[:, :k].sigmoid()
            if not self.training:
                chosen = (chosen > 0.5).to(masks)
            probability = 1 - (1 - chosen[..., None] * masks).prod(1)
        probability = (
            probability.float().clamp(0, 1) * 0.998 + 0.001
        )  # no pixel is certain: its logit would be infinite
        return probability.logit().view(n, 1, *features.size)

    @staticmethod
    def _best(chosen: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
        """The object ``[N]`` whose mask has the highest expected IoU if each object is meant with its probability."""
        both = masks @ masks.mT  # [I, K, K]
        area = masks.sum(2)
        iou = both / (area[:, :, None] + area[:, None] - both + 1e-2)
        return (iou[image_index] @ chosen[..., None])[..., 0].argmax(1)

    def _read(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.words(input_ids) + self.word_position[: input_ids.shape[1]]
        read: Tensor = self.text_layers(words, src_key_padding_mask=attention_mask == 0)
        return read

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The cells ``[N, GRID, GRID, D]`` and the words ``[N, L, D]``."""
        cells = self.encode_image(self.preprocess.normalize(batch.images)).cells
        words = self._read(batch.input_ids, batch.attention_mask)
        return cells.unflatten(1, (GRID, GRID))[batch.image_index], words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """All parameters at one rate; norms, embeddings and single vectors without decay."""
        return parameter_groups([Part("all", self, 1.0, _uses_weight_decay)], lr, weight_decay)


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = [nn.GroupNorm(8, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.branch = nn.Sequential(
            *half, nn.GroupNorm(8, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[I, channels, h, w]`` to the same shape."""
        out: Tensor = x + self.branch(x)
        return out


def transformer(width: int, heads: int, layers: int) -> nn.TransformerEncoder:
    """Layers that attend, then think, each normalizing its input; without dropout."""
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    for module in encoder.modules():  # `TransformerEncoder` copies one layer; each should begin as itself
        if isinstance(module, (nn.Linear, nn.MultiheadAttention)):
            getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))()  # type: ignore[misc]
    return encoder


def centers(height: int, width: int, device: torch.device) -> Tensor:
    """Centers of a grid's pixels, row by row, as x and y from -1 to 1: ``[height * width, 2]``."""
    y, x = ((torch.arange(n, device=device) + 0.5) / n * 2 - 1 for n in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1)


def distinct(masks: Tensor, most: int) -> Tensor:
    """Choose proposals of which no two are the same object, the clearest first: ``[I, C, P]`` to indices ``[I, most]``.

    Each choice takes from the others as much as they overlap with it (soft non-maximum suppression).
    """
    both = masks @ masks.mT
    area = masks.sum(2)
    iou = both / (area[:, :, None] + area[:, None] - both + 1e-2)  # [I, C, C]
    value = masks.square().sum(2) / (area + 1)  # how sure the pixels of a mask are, little for tiny ones
    rows = torch.arange(len(masks), device=masks.device)
    taken = torch.zeros_like(value, dtype=torch.bool)
    chosen = []
    for _ in range(most):
        best = value.masked_fill(taken, -1).argmax(1)
        chosen.append(best)
        taken = taken.scatter(1, best[:, None], True)
        value = value * (1 - iou[rows, best]).clamp(min=0).square()
    return torch.stack(chosen, dim=1)


def _uses_weight_decay(name: str, module: nn.Module) -> bool:
    single = name.endswith(("word_position", "nothing", "bias"))
    return not (single or isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.Embedding)))


def _check(size: tuple[int, int], width: int, heads: int, objects: int, referents: str) -> None:
    if any(side % 8 or side < 16 for side in size):
        raise ValueError(f"The input's height and width must be multiples of 8 from 16 on, not {size[0]} x {size[1]}")
    if width % 16 or width % heads:
        raise ValueError(f"width must be a multiple of 16 and of the {heads} heads, not {width}")
    if not 1 <= objects <= GRID**2:
        raise ValueError(f"objects must lie between 1 and {GRID**2}, the number of cells, not {objects}")
    if referents not in ("one", "any"):
        raise ValueError(f'referents must be "one" or "any", not {referents!r}')
