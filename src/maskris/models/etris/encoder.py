"""CLIP's two encoders run in step, with the bridges of ETRIS between their stages.

The image encoder has three stages after what it does before: layers 2 to 4 of a ResNet, or thirds of a transformer's
blocks. The text encoder's blocks are dealt out to the same three.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from maskris.models.clip.resnet import ModifiedResNet
from maskris.models.clip.towers import CLIP
from maskris.models.etris.bridger import Bridge, Exchange
from maskris.models.layers.initialization import Initialization

STAGES = 3


class ImageState(NamedTuple):
    """Features of `I` images after a stage of the image encoder."""

    map: Tensor
    """``[I, C, h, w]``; a transformer's patches."""
    token: Tensor | None = None
    """The class token ``[I, 1, C]`` of a transformer, which has no part in the bridges."""


class BridgedCLIP(nn.Module):
    """Both encoders of CLIP, and a bridge between them after each of the last stages.

    Args:
        clip: The encoders.
        width: Channels of the bridges, see `Bridge`.
        heads: Heads of their attentions.
        fused: How many of the three stages have a bridge, from the last.
        strides: How far each bridge is zoomed in (the last one: out), so that all meet at one resolution.
        dropout: Of the bridges of a ResNet.
        init: See `ETRIS`.

    Attributes:
        divisor: Height and width of an image must be multiples of it.

    Raises:
        ValueError: If the blocks of a transformer can't be dealt out to three stages, the stages would not meet at one
            resolution, no such number of them can be fused, or the heads don't divide the width.
    """

    def __init__(
        self,
        clip: CLIP,
        *,
        width: int,
        heads: int,
        fused: int,
        strides: Sequence[int],
        dropout: float,
        init: Initialization,
    ) -> None:
        super().__init__()
        first, patch = clip.config["vision_width"], clip.config["vision_patch_size"]
        resnet = patch is None
        self.channels = (first * 8, first * 16, first * 32) if resnet else (first,) * 3
        cells = (8, 16, 32) if resnet else (patch,) * 3
        _check_strides(strides, cells)
        blocks = {"text": clip.config["transformer_layers"], "image": 0 if resnet else clip.config["vision_layers"]}
        for name, number in blocks.items():
            if number % STAGES:
                raise ValueError(f"{number} blocks of the {name} encoder can't be dealt out to {STAGES} stages")
        if not 1 <= fused <= STAGES:
            raise ValueError(f"Of {STAGES} stages 1 to {STAGES} can be fused, not {fused}")
        if width % heads:
            raise ValueError(f"The bridges' width {width} must be a multiple of their {heads} heads")
        self.divisor = max(cells[-1], cells[0] * strides[0])
        self.clip = clip
        self.first = STAGES - fused  # the first stage with a bridge
        words = clip.config["transformer_width"]
        bridge = partial(
            Bridge, text_width=words, width=width, heads=heads, gated=not resnet, dropout=dropout, init=init
        )
        self.bridger = nn.ModuleDict(
            {
                str(i): bridge(self.channels[i], stride=strides[i], last=i == STAGES - 1, follows=i > self.first)
                for i in range(self.first, STAGES)
            }
        )

    def encode_image(self, images: Tensor) -> list[ImageState]:
        """Normalized images ``[I, 3, H, W]`` to all stages that no bridge precedes.

        Raises:
            ValueError: If the size is no multiple of `divisor`.
        """
        if any(side % self.divisor for side in images.shape[-2:]):
            raise ValueError(
                f"The sides of an image must be multiples of {self.divisor} pixels for this model, not "
                f"{images.shape[-2]} x {images.shape[-1]}"
            )
        states = [self._begin(images)]
        for stage in range(self.first + 1):
            states.append(self._advance(stage, states[-1]))
        return states[1:]

    def forward(
        self, states: Sequence[ImageState], input_ids: Tensor, image_index: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """Encode expressions ``[N, L]`` together with their images, the states that `encode_image` returned.

        Returns:
            Image features ``[N, C, h, w]`` after the first and the second stage, and the projected last ones; words
            ``[N, L, T]``; sentence vectors ``[N, E]``.
        """
        text = self.clip.text
        words = text.embed(input_ids)  # [N, L, T]
        previous: Exchange | None = None
        maps = []
        for stage in range(STAGES):
            if stage < len(states):
                image, token = states[stage]
                state = ImageState(image[image_index], None if token is None else token[image_index])
            else:
                state = self._advance(stage, state)
            words = text.run(words, _share(text.blocks, stage))
            if stage >= self.first:
                seen, read, previous = self.bridger[str(stage)](state.map, words, previous)
                state = ImageState(state.map + seen, state.token)
                words = words + read
            maps.append(state.map)
        return (maps[0], maps[1], self._finish(maps[2])), *text.finish(words, input_ids)

    def _begin(self, images: Tensor) -> ImageState:
        visual = self.clip.visual
        if isinstance(visual, ModifiedResNet):
            return ImageState(visual.layer1(visual.stem(images)))
        return _split(visual.embed(images), [side // visual.patch_size for side in images.shape[-2:]])

    def _advance(self, stage: int, state: ImageState) -> ImageState:
        visual = self.clip.visual
        if isinstance(visual, ModifiedResNet):
            return ImageState((visual.layer2, visual.layer3, visual.layer4)[stage](state.map))
        assert state.token is not None
        tokens = torch.cat([state.token, state.map.flatten(2).transpose(1, 2)], dim=1)  # [I, 1 + h w, C]
        return _split(visual.run(tokens, _share(visual.blocks, stage)), state.map.shape[-2:])

    def _finish(self, last: Tensor) -> Tensor:
        visual = self.clip.visual
        if isinstance(visual, ModifiedResNet):
            return cast(Tensor, visual.attnpool(last))
        patches = visual.finish(last.flatten(2).transpose(1, 2))  # [N, h w, E]
        return cast(Tensor, patches.transpose(1, 2).unflatten(2, last.shape[-2:]))


def _check_strides(strides: Sequence[int], cells: Sequence[int]) -> None:
    """Raise a ValueError unless stages of `cells` pixels meet: two zoomed out by their strides, the last one in."""
    if len(strides) != STAGES or min(strides) < 1:
        raise ValueError(f"stride needs {STAGES} positive numbers, not {list(strides)}")
    if not cells[0] * strides[0] == cells[1] * strides[1] == cells[2] / strides[2]:
        raise ValueError(
            f"With stride {list(strides)} the stages meet at {cells[0] * strides[0]}, {cells[1] * strides[1]} and "
            f"{cells[2] / strides[2]:g} pixels per cell, which must be one number: [2, 1, 2] for a ResNet, [1, 1, 1] "
            "for a vision transformer"
        )


def _share(blocks: nn.ModuleList, stage: int) -> slice:
    """The third of a transformer's blocks that belongs to a stage."""
    number = len(blocks) // STAGES
    return slice(stage * number, (stage + 1) * number)


def _split(tokens: Tensor, size: Sequence[int]) -> ImageState:
    """Tokens ``[I, 1 + h w, C]`` to a map and the class token."""
    return ImageState(tokens[:, 1:].transpose(1, 2).unflatten(2, tuple(size)), tokens[:, :1])
