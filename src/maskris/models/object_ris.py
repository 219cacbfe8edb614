"""ObjectRIS, the small reference model of the embedded data set: objects first, then words choose among them.

Read this first: every other model differs in what it does between `encode_image` and `segment`, not in how it is used.
It trains from nothing, in minutes on a CPU core.
"""

from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.layers.attention import sine_encoding
from maskris.models.layers.blocks import CountingAttention, ResidualBlock, Transformer
from maskris.models.layers.objects import distinct, geometry, pairwise_iou, points_to, propose, shares, take
from maskris.models.layers.pixel_decoder import PixelDecoder
from maskris.models.optimizer_groups import Part, parameter_groups

GRID = 8
"""Rows and columns of cells, each of which proposes the object that it lies on."""


class Objects(NamedTuple):
    """What the image alone tells: `K` objects of each of `I` images, and the `C` cells that proposed them."""

    vectors: Tensor
    """``[I, K, D]``: what each looks like, where it is and how large."""
    masks: Tensor
    """``[I, K, H, W]``: probability of every pixel of the input."""
    cells: Tensor
    """``[I, C, D]``, `GRID` rows of `GRID` cells."""


class ObjectRIS(RISModel):
    """A small network that takes an image apart into objects, so that words can compare objects and not pixels.

    Every pixel points to the center of its object, and every cell of a coarse grid proposes the object whose center it
    points to (spatial embeddings; Neven et al., CVPR 2019). Of proposals that are the same the clearest is kept. Place
    and size of an object are measured on its mask and become part of its vector. How well an object matches the whole
    phrase, which is learned at once, and a transformer over objects and words, which learns to compare and to count,
    tell which is meant: few tokens, so that many phrases about an image cost hardly more than one.

    Args:
        width: Channels of cells, objects and words.
        detail: Channels of the pixels.
        objects: Most objects that are kept of an image.
        image_layers: Transformer layers over the cells.
        text_layers: Transformer layers over the words.
        fusion_layers: Transformer layers over objects and words together; behind the first, objects count each other.
        heads: Heads of all attention.
        referents: ``"one"``: a phrase means one object; the most likely is the answer. ``"any"``: it may mean several
            or none; all that are likelier than not are the answer.
        tokenizer: List of words, folder, Hub id or tokenizer; by default the words of the embedded data set.
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
        tokenizer: str | list[str] | PreTrainedTokenizerBase = "maskris/shapes",
        max_tokens: int = 32,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.set_inputs(preprocess or Preprocess(64, 64), build_tokenizer(tokenizer), max_tokens)
        _check(self.preprocess.size, width, heads, objects, fusion_layers, referents)
        self.objects, self.referents, half = objects, referents, width // 2
        self.stem = nn.Sequential(  # [I, D / 2, h, w], half the input's size
            nn.Conv2d(3, half // 2, 5, stride=2, padding=2), nn.GELU(), nn.Conv2d(half // 2, half, 3, padding=1)
        )
        self.body = nn.Sequential(  # [I, D, h / 2, w / 2]
            nn.GELU(), nn.Conv2d(half, width, 3, stride=2, padding=1), ResidualBlock(width), ResidualBlock(width)
        )
        self.cell_position = nn.Linear(width, width)
        self.cell_layers = Transformer(width, heads, image_layers)
        self.cell_norm = nn.LayerNorm(width)
        self.pixels = PixelDecoder(half, width, detail)  # [I, detail, h, w]
        # Of each pixel of the input the way to the center of its object, and whether it is on one.
        self.pixel_head = nn.Sequential(nn.GELU(), nn.Conv2d(detail, 4 * 3, 1), nn.PixelShuffle(2))
        self.cell_head = nn.Linear(width, 3)  # the way to the center of its object, and how compact that is
        self.appearance = nn.Linear(detail + width, width)
        self.geometry = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, width))
        self.words = nn.Embedding(len(self.tokenizer.tokenizer), width)
        nn.init.normal_(self.words.weight, std=0.3)
        self.word_position = nn.Parameter(torch.randn(max_tokens, width) * 0.1)
        self.text_layers = Transformer(width, heads, text_layers)
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.first_fusion, self.count = Transformer(width, heads, 1), CountingAttention(width, heads)
        self.later_fusion = Transformer(width, heads, fusion_layers - 1)
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1, bias=False))
        self.match_object, self.match_phrase = nn.Linear(width, width), nn.Linear(width, width)
        self.set_config()

    def encode_image(self, images: Tensor) -> Objects:
        """Normalized images ``[I, 3, H, W]``, whose sides are multiples of 8, to their objects."""
        fine = self.stem(images)
        body, size = self.body(fine), (fine.shape[2], fine.shape[3])
        grid = F.adaptive_avg_pool2d(body, GRID).flatten(2).mT  # [I, C, D]
        place = self.cell_position(sine_encoding(GRID, GRID, grid.shape[2], images.device).to(images))
        cells = self.cell_norm(self.cell_layers(grid + place))
        pixels = self.pixels(fine, body, cells.mT.unflatten(2, (GRID, GRID)))
        vote = self.pixel_head(pixels)  # [I, 3, H, W]
        own = self.cell_head(cells)  # [I, C, 3]
        middle, compact = points_to(own[..., :2].mT.unflatten(2, (GRID, GRID))), own[..., 2]
        with torch.no_grad():  # which proposals are the same is seen well enough from afar
            kept = distinct(propose(middle, compact, F.avg_pool2d(vote, 4)), self.objects)  # [I, K]
        masks = propose(take(middle, kept), take(compact, kept), vote).unflatten(2, images.shape[2:])
        rough = F.avg_pool2d(masks.detach(), 2).flatten(2)  # [I, K, h * w]
        seen = torch.cat([pixels, F.interpolate(body, size=size)], dim=1).flatten(2).mT
        vectors = take(cells, kept) + self.appearance(shares(rough) @ seen) + self.geometry(geometry(rough, size))
        return Objects(vectors, masks, cells)

    def segment(self, features: Objects, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 1, H, W]``.

        In training they are those of the probability that a pixel belongs to the referent, whichever object that is.
        In evaluation the network makes up its mind: they are the masks of the objects that it chooses.
        """
        scores, k = self._score(features.vectors[image_index], input_ids, attention_mask), features.vectors.shape[1]
        masks = features.masks.flatten(2).float()  # [I, K, H * W]
        if self.referents == "one":
            chosen = scores.softmax(1)[:, :k]
            if not self.training:  # the object of the highest expected IoU: proposals of one object add up
                best = (pairwise_iou(masks)[image_index] @ chosen[..., None])[..., 0].argmax(1)
                chosen = F.one_hot(best, k).to(masks)
            # One product for all phrases, in which those of other images weigh nothing, is faster than to copy masks.
            weights = F.one_hot(image_index, len(masks))[..., None] * chosen[:, None]  # [N, I, K]
            probability = weights.flatten(1) @ masks.flatten(0, 1)  # [N, H * W]
        else:
            chosen = (scores[:, :k] - scores[:, k:]).sigmoid()
            if not self.training:
                chosen = (chosen > 0.5).to(masks)
            probability = 1 - (1 - chosen[..., None] * masks[image_index]).prod(1)
        # No pixel is certain, whose logit would be infinite.
        logits: Tensor = (0.001 + 0.998 * probability.clamp(0, 1)).logit()
        return logits.view(-1, 1, *features.masks.shape[2:])

    def _score(self, vectors: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """How likely the phrase means each of the objects ``[N, K, D]``, and none of them: ``[N, K + 1]`` logits."""
        words = self._read(input_ids, attention_mask)
        tokens = torch.cat([vectors, self.nothing.expand(len(vectors), -1, -1), words], dim=1)
        padding, k = F.pad(attention_mask == 0, (vectors.shape[1] + 1, 0)), vectors.shape[1]
        tokens = self.first_fusion(tokens, padding)
        tokens = self.later_fusion(torch.cat([self.count(tokens[:, :k]), tokens[:, k:]], dim=1), padding)
        weight = attention_mask / attention_mask.sum(1, keepdim=True)
        phrase = self.match_phrase((weight.to(words.dtype)[:, None] @ words)[:, 0])
        match = (self.match_object(vectors) @ phrase[..., None])[..., 0] / phrase.shape[1] ** 0.5
        scores: Tensor = self.score(tokens[:, : k + 1])[..., 0] + F.pad(match, (0, 1))
        return scores.float()

    def _read(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.words(input_ids) + self.word_position[: input_ids.shape[1]]
        return cast(Tensor, self.text_layers(words, attention_mask == 0))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The cells ``[N, GRID, GRID, D]`` and the words ``[N, L, D]``."""
        cells = self.encode_image(self.preprocess.normalize(batch.images)).cells
        words = self._read(batch.input_ids, batch.attention_mask)
        return cells.unflatten(1, (GRID, GRID))[batch.image_index], words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """All parameters at one rate; norms, embeddings and single vectors without decay."""
        return parameter_groups([Part("all", self, 1.0, _uses_weight_decay)], lr, weight_decay)


def _uses_weight_decay(name: str, module: nn.Module) -> bool:
    table = isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.Embedding))
    return not (table or name.endswith(("word_position", "nothing", "bias")))


def _check(size: tuple[int, int], width: int, heads: int, objects: int, layers: int, referents: str) -> None:
    if any(side % 8 or side < 16 for side in size):
        raise ValueError(f"The input's height and width must be multiples of 8 from 16 on, not {size[0]} x {size[1]}")
    if width % 16 or width % heads:
        raise ValueError(f"width must be a multiple of 16 and of the {heads} heads, not {width}")
    if layers < 1:
        raise ValueError(f"fusion_layers must be at least 1, not {layers}")
    if not 1 <= objects <= GRID**2:
        raise ValueError(f"objects must lie between 1 and {GRID**2}, the number of cells, not {objects}")
    if referents not in ("one", "any"):
        raise ValueError(f'referents must be "one" or "any", not {referents!r}')
