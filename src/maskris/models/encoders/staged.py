"""A vision backbone that is run stage by stage, so that the output of a stage can be changed before the next.

Models that fuse early (LAVT) need this; models that fuse late take the four maps of `VisionEncoder`.
"""

from collections.abc import Callable, Generator
from typing import Any, cast

import torch
from torch import Tensor, nn

from maskris.models.encoders.sources import Source
from maskris.models.encoders.vision import VisionEncoder, channels_last

StageIterator = Generator[Tensor, Tensor, None]
"""Yields the map ``[I, c, h, w]`` that leaves a stage, and is sent the input of the next stage in its place."""


class StagedVisionEncoder(VisionEncoder):
    """The backbones of `VisionEncoder` with separate stages; the same weights under the same names.

    These are Swin (V1, V2), ConvNeXt (V1, V2, DINOv3), ResNet, HGNetV2, PVTv2, the vision transformers of DINOv2 and
    DINOv3, and those of timm that are chains of modules (ResNet, ConvNeXt and many more; no EfficientNet).

    Raises:
        ValueError: If the backbone is none for `VisionEncoder`, or it is not known how its stages follow each other.
    """

    def __init__(self, source: Source, drop_path: float = 0.0) -> None:
        super().__init__(source, drop_path)
        kind, backbone = self.config["model_type"], cast(Any, self.backbone)
        if kind not in _ITERATORS:
            raise ValueError(
                f"The stages of a {kind} can't be told apart, which is needed to change the image's features between "
                f"them; choose one of {', '.join(sorted(_ITERATORS))}"
            )
        if kind == "timm_backbone" and not hasattr(backbone._backbone, "return_layers"):
            raise ValueError(
                f"timm's {self.config['backbone']} is no chain of modules (it is a "
                f"{type(backbone._backbone).__name__}), so that its features can't be changed between the stages; "
                "choose one such as timm's resnet50 or convnext_tiny"
            )
        if backbone.out_features[0] == "stem":
            raise ValueError(f"The stem of a {kind} is no stage; leave it out of out_features")

    def iterate_stages(self, images: Tensor) -> StageIterator:
        """Run normalized images ``[I, 3, H, W]`` through the four stages, stopping after each.

        Advance it with ``next`` to the first map and with ``send`` to the others::

            stages = encoder.iterate_stages(images)
            first = next(stages)  # [I, c, h, w]
            second = stages.send(change(first))

        The maps are the input of the next stage, not yet normalized; see `normalize`.
        """
        return _ITERATORS[self.config["model_type"]](self.backbone, self.fit(images))

    def normalize(self, stage: int, x: Tensor) -> Tensor:
        """The backbone's own norm of a stage, 0 to 3, for a map ``[I, c, h, w]``; the same map where it has none.

        For the unchanged maps of `iterate_stages` this gives the four maps of `VisionEncoder`.
        """
        backbone = cast(Any, self.backbone)
        name = backbone.out_features[stage]
        norm: Any = None
        if hasattr(backbone, "hidden_states_norms"):  # Swin, ConvNeXt
            norm = backbone.hidden_states_norms[name]
        elif getattr(backbone.config, "apply_layernorm", False):  # DINOv2 and DINOv3
            norm = backbone.norm if hasattr(backbone, "norm") else backbone.layernorm
        if norm is None:
            return x
        if getattr(norm, "data_format", "") == "channels_first":
            return cast(Tensor, norm(x))
        return cast(Tensor, norm(x.movedim(1, -1)).movedim(-1, 1))


def _swin(backbone: Any, images: Tensor) -> StageIterator:
    """The next stage begins with the downsampling, which therefore gets the changed map."""
    # Shifted windows at all sizes, as in the Swin of detection and in SwinBackbone.forward.
    network, options = (backbone.swin, {"always_partition": True}) if hasattr(backbone, "swin") else (backbone, {})
    x, size = network.embeddings(images)  # [I, h * w, c]
    for name, stage in zip(backbone.stage_names[1:], network.encoder.layers, strict=True):
        for block in stage.blocks:
            x = block(x, size, **options)[0]
        if name in backbone.out_features:
            x = _tokens((yield _map(x, size)))
        if stage.downsample is not None:
            x = stage.downsample(x, size)
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)


def _chain(stem: str, stages: str) -> Callable[[Any, Tensor], StageIterator]:
    """Convolutional networks: every stage is a function from map to map."""

    def iterate_stages(backbone: Any, images: Tensor) -> StageIterator:
        x = backbone.get_submodule(stem)(images) if stem else images
        for name, stage in zip(backbone.stage_names[1:], backbone.get_submodule(stages), strict=True):
            x = stage(x)
            if name in backbone.out_features:
                x = yield x

    return iterate_stages


def _pvt(backbone: Any, images: Tensor) -> StageIterator:
    x = images
    for name, stage in zip(backbone.stage_names, backbone.encoder.layers, strict=True):
        (x,), height, width = stage(x, False)
        x = _map(x, (height, width))
        if name in backbone.out_features:
            x = yield x


def _vit(backbone: Any, images: Tensor) -> StageIterator:
    """Patches can be changed between layers; the class token and registers go on as they are and attend to them."""
    x = backbone.embeddings(images)  # [I, 1 + registers + h * w, c]
    patch = backbone.config.patch_size
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    size = (images.shape[2] // rows, images.shape[3] // columns)
    others = x.shape[1] - size[0] * size[1]
    options, layers = {}, backbone.get_submodule("encoder.layer" if hasattr(backbone, "encoder") else "model.layer")
    if hasattr(backbone, "rope_embeddings"):
        options["position_embeddings"] = backbone.rope_embeddings(images)
    for name, layer in zip(backbone.stage_names[1:], layers, strict=True):
        x = layer(x, **options)
        if name in backbone.out_features:
            x = torch.cat([x[:, :others], _tokens((yield _map(x[:, others:], size)))], dim=1)


def _timm(backbone: Any, images: Tensor) -> StageIterator:
    network: nn.ModuleDict = backbone._backbone
    x = images
    for name, module in network.items():
        x = module(x)
        if name in cast(Any, network).return_layers:
            x = (yield x.movedim(-1, 1)).movedim(1, -1) if channels_last(backbone) else (yield x)


def _map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    return cast(Tensor, tokens.transpose(1, 2).unflatten(2, size))  # [I, h * w, c] to [I, c, h, w]


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # [I, c, h, w] to [I, h * w, c]


_ITERATORS: dict[str, Callable[[Any, Tensor], StageIterator]] = {
    "swin": _swin,
    "swinv2": _swin,
    "convnext": _chain("embeddings", "encoder.stages"),
    "convnextv2": _chain("embeddings", "encoder.stages"),
    "dinov3_convnext": _chain("", "model.stages"),
    "resnet": _chain("embedder", "encoder.stages"),
    "hgnet_v2": _chain("embedder", "encoder.stages"),
    "pvt_v2": _pvt,
    "dinov2": _vit,
    "dinov2_with_registers": _vit,
    "dinov3_vit": _vit,
    "timm_backbone": _timm,
}
