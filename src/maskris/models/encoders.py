"""Vision and text encoders from `transformers`: from the Hub, a folder, or a configuration with random weights."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_BACKBONE_MAPPING,
    AutoBackbone,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.swin.modeling_swin import SwinLayer, SwinMLP

Source = dict[str, Any] | str | Path
"""A Hub id, a local folder, or the values of a configuration with its ``model_type`` (random weights then)."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class VisionEncoder(nn.Module):
    """Any `AutoBackbone` with four stages or more, as a function from images to four feature maps.

    The maps are those of the last four stages, unless a configuration names others in ``out_features``.

    Args:
        source: Hub id, local folder or configuration.
        drop_path: Stochastic depth of the last block, growing linearly from 0 at the first.

    Attributes:
        config: The configuration as JSON types; `VisionEncoder(config)` builds the same architecture.
        channels: Channels of the four maps.

    Raises:
        ValueError: If the backbone does not offer four stages.
    """

    def __init__(self, source: Source, drop_path: float = 0.0) -> None:
        super().__init__()
        self.backbone = _build_backbone(source, drop_path)
        self.config = _describe(self.backbone)
        self.channels: list[int] = list(cast(Any, self.backbone).channels)
        if len(self.channels) != 4:
            raise ValueError(f"{self.config['model_type']} gives {len(self.channels)} feature maps; four are needed")
        if self.config["model_type"] == "swin":
            # The official backbone has no norm after the last stage but the stage's own; this one would be a dead
            # parameter, which distributed training refuses.
            cast(Any, self.backbone).swin.layernorm = nn.Identity()
            for layer in self.backbone.modules():
                if isinstance(layer, SwinLayer):
                    layer.mlp = cast(Any, SwinMLPWithDropPath(layer.mlp, layer.drop_path))
        for name, parameter in self.backbone.named_parameters():
            if name.endswith("mask_token"):  # serves the pretraining of some backbones alone
                parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``[I, 3, H, W]`` to four maps, finest first (strides 4, 8, 16 and 32 for Swin)."""
        return tuple(self.backbone(images).feature_maps)


class SwinMLPWithDropPath(nn.Module):
    """The MLP of a Swin block with stochastic depth, which `transformers` applies to the attention alone.

    Args:
        mlp: The block's MLP, whose parameters keep their names.
        drop_path: The block's stochastic depth; both residuals use the same rate (Swin, ARCHITECTURE section 2).
    """

    def __init__(self, mlp: SwinMLP, drop_path: nn.Module) -> None:
        super().__init__()
        self.fc1, self.activation_fn, self.fc2 = mlp.fc1, mlp.activation_fn, mlp.fc2
        self.drop_path = drop_path

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``[I, tokens, C]`` to the same shape."""
        return cast(Tensor, self.drop_path(self.fc2(self.activation_fn(self.fc1(hidden_states)))))


class TextEncoder(nn.Module):
    """A BERT-like encoder in two halves, so that vectors can join the words between embedding and layers.

    Args:
        source: Hub id, local folder or configuration.

    Attributes:
        config: The configuration as JSON types.
        width: Channels of the features.

    Raises:
        ValueError: If the model is not made of ``embeddings`` and ``encoder`` as BERT is.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.model = _build_text(source)
        self.config = _describe(self.model)
        self.width = int(self.config["hidden_size"])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, extra: Tensor | None = None) -> Tensor:
        """Encode words, followed by extra vectors where there are any.

        Args:
            input_ids: ``[N, L]`` int64.
            attention_mask: ``[N, L]``, 1 for tokens and 0 for padding.
            extra: ``[N, P, T]`` vectors appended after the padding, without position, visible to every word.

        Returns:
            ``[N, L + P, T]``.
        """
        words = cast(Any, self.model).embeddings(input_ids=input_ids)  # [N, L, T]
        extra = words[:, :0] if extra is None else extra.to(words.dtype)
        hidden = torch.cat([words, extra], dim=1)
        visible = torch.cat([attention_mask.bool(), attention_mask.new_ones(extra.shape[:2]).bool()], dim=1)
        additive = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        additive = additive.masked_fill(~visible, torch.finfo(hidden.dtype).min)[:, None, None]  # [N, 1, 1, L + P]
        return cast(Tensor, cast(Any, self.model).encoder(hidden, attention_mask=additive).last_hidden_state)


def build_tokenizer(source: str | Path | list[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer from a Hub id, a folder, or a list of words.

    A list becomes a lower-case WordPiece tokenizer with the five special tokens of BERT in front; if the list
    already begins with ``[PAD]``, it is taken as a whole vocabulary.
    """
    if isinstance(source, (str, Path)):
        return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(source))
    if isinstance(source, list):
        tokens = source if source[:1] == ["[PAD]"] else [*SPECIAL_TOKENS, *source]
        return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    return source


def _read_config(source: Source, **options: Any) -> Any:
    if not isinstance(source, dict):
        try:
            return AutoConfig.from_pretrained(source, **options)
        except OSError as error:
            raise OSError(f"The encoder {source} is no local folder and could not be loaded: {error}") from error
    if "model_type" not in source:
        raise ValueError(f"A configuration needs its model_type, such as 'swin' or 'bert'; got {sorted(source)}")
    # transformers takes any key and forgets it, so that a misspelt one would change nothing and say nothing.
    default = AutoConfig.for_model(source["model_type"])
    if unknown := sorted(key for key in source if key not in options and not hasattr(default, key)):
        raise ValueError(f"A configuration of {source['model_type']} has no key {', '.join(unknown)}")
    return AutoConfig.for_model(**{**source, **options})


def _build_backbone(source: Source, drop_path: float) -> nn.Module:
    config = _read_config(source, drop_path_rate=drop_path)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(f"{config.model_type} is not among the backbones of transformers; see AutoBackbone")
    chosen = isinstance(source, dict) and ("out_features" in source or "out_indices" in source)
    if config.model_type == "timm_backbone":  # whose stages are known only when it is built
        config.out_indices = config.out_indices if chosen else [1, 2, 3, 4]
    elif not chosen and len(config.out_features) != 4:
        config.out_features = list(config.stage_names[-4:])
    # AutoBackbone.from_pretrained asks the Hub before anything else, even about local folders: name the class instead.
    model_class: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    if isinstance(source, dict):
        return cast(nn.Module, AutoBackbone.from_config(config))
    return cast(nn.Module, model_class.from_pretrained(source, config=config))


def _build_text(source: Source) -> nn.Module:
    config = _read_config(source)
    try:
        model = (
            AutoModel.from_config(config, add_pooling_layer=False)
            if isinstance(source, dict)
            else AutoModel.from_pretrained(source, config=config, add_pooling_layer=False)
        )
    except TypeError:  # a model without a pooler to leave out is none of BERT's kin
        model = None
    if not (hasattr(model, "embeddings") and hasattr(model, "encoder")):
        raise ValueError(
            f"{config.model_type} cannot take conditional prompts: it must be made of `embeddings` and `encoder` as "
            "BERT and RoBERTa are"
        )
    return cast(nn.Module, model)


def _describe(model: nn.Module) -> dict[str, Any]:
    config = cast(Any, model).config.to_diff_dict()
    computed = {"transformers_version", "architectures", "stage_names", "dtype"}
    if "depths" in config and "embed_dim" in config:  # Swin and its kin: these follow from the two
        computed |= {"num_layers", "hidden_size"}
    return {"model_type": cast(Any, model).config.model_type} | {k: v for k, v in config.items() if k not in computed}
