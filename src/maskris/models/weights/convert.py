"""Published weights in our models: every key is mapped, knowingly dropped, or named in an error.

`load_official` fills a model; `convert_checkpoint` makes a folder that `from_pretrained` opens out of a published file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedTokenizerBase, SwinBackbone, SwinConfig

from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.encoders.tokenizers import build_clip_tokenizer
from maskris.models.weights.checkpoint import read_checkpoint
from maskris.models.weights.encoders import SWIN_IMAGENET_RULES, swin_config
from maskris.models.weights.networks import NETWORKS, kind_of
from maskris.models.weights.options import PUBLISHED, ConversionOptions, Kind
from maskris.models.weights.rules import dropped, load_mapped
from maskris.utils.files import atomic_folder


def load_official(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a published implementation, under its own names, into our model.

    Args:
        model: `CARIS` (weights of the official MaskRIS or CARIS), `LAVT`, `CRIS`, `ETRIS`, `TRISLocalizer` or `TRIS`.
        state_dict: Bare weights, without ``module.`` in front; `maskris.models.weights.checkpoint` reads whole files.

    Raises:
        TypeError: If there is no published implementation of this kind of model.
        ValueError: If anything does not fit; see `load_mapped`.
    """
    rules = {network.model.__name__: network.rules for network in NETWORKS.values()}
    name = type(model).__name__
    if name not in rules:
        raise TypeError(f"No published weights are known for {name}; known: {', '.join(rules)}")
    load_mapped(model, state_dict, rules[name])


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_checkpoint` did; `str` of it is for the terminal.

    Attributes:
        source: The published file.
        out: The folder that was written.
        kind: ``"maskris"``, ``"lavt"``, ``"cris"``, ``"etris"``, ``"tris-localizer"``, ``"tris"`` (whole networks) or
            ``"swin"`` (a vision encoder).
        parameters: How many numbers the converted model learns.
        configuration: The arguments of the model, as read off the shapes.
        dropped: Published names that were left behind, under the reason.
        resized: Bias tables that were resized to another window.
    """

    source: Path
    out: Path
    kind: Kind
    parameters: int
    configuration: dict[str, Any]
    dropped: dict[str, list[str]] = field(default_factory=dict)
    resized: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Several lines, without a newline at the end."""
        what = "a Swin vision encoder" if self.kind == "swin" else NETWORKS[self.kind].label
        lines = [f"{self.source} holds {what} with {self.parameters:,} parameters", "configuration:"]
        lines += [f"  {key}: {value}" for key, value in self.configuration.items()]
        if self.resized:
            lines.append(f"resized {len(self.resized)} bias tables to another window, bicubically")
        for reason, names in self.dropped.items():
            some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            lines.append(f"left behind {some} ({len(names)}): {reason}")
        return "\n".join([*lines, f"written to {self.out}"])


def convert_checkpoint(
    source: str | Path,
    out: str | Path,
    kind: Literal["auto", Kind] = "auto",
    options: ConversionOptions = PUBLISHED,
) -> ConversionReport:
    """Turn a published checkpoint file into a safetensors folder.

    The official MaskRIS, CARIS, LAVT, CRIS, ETRIS or TRIS (either stage) becomes a folder for ``from_pretrained``, with
    tokenizer and preprocessing; a Swin trained on ImageNet one for ``CARIS(vision=...)`` and
    `transformers.AutoBackbone`. The configuration is read off the shapes. Nothing in the file is executed.

    Args:
        source: The ``.pth`` or ``.safetensors`` file.
        out: The folder to write; it must not exist yet, or be empty. It appears at once, complete.
        kind: What the file holds; by default its parameter names decide.
        options: What leaves no trace in the shapes.

    Raises:
        FileExistsError: If there is something in `out`.
        FileNotFoundError: If there is no file `source`.
        ValueError: If the file is refused or damaged, or its weights don't fit; see `read_checkpoint`, `load_mapped`.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists already; choose another folder or remove it first")
    checkpoint = read_checkpoint(source)
    weights = checkpoint.weights
    if kind == "auto":
        kind = kind_of(weights)
    model: RISModel | SwinBackbone
    if kind == "swin":
        rules = SWIN_IMAGENET_RULES
        configuration = swin_config(weights, options.window)
        config = cast(SwinConfig, AutoConfig.for_model(**configuration, out_indices=[1, 2, 3, 4]))
        model = SwinBackbone(config)
        resized = load_mapped(model, weights, rules, optional=r"(hidden_states_norms|swin\.layernorm)\..+")
    else:
        network = NETWORKS[kind]
        rules = network.rules
        configuration = network.configure(weights, options)
        vocabulary = options.tokenizer or network.tokenizer
        words = build_clip_tokenizer(vocabulary) if network.tokenizer.startswith("openai/") else _bert(vocabulary)
        known = configuration["text" if "text" in configuration else "clip"]["vocab_size"]
        if len(words) > known:
            raise ValueError(
                f"The tokenizer {vocabulary} knows {len(words)} tokens, the text encoder only {known}: it must be the "
                "one of the training"
            )
        # Of the arguments of the training script: MaskRIS and LAVT have the one, CRIS and ETRIS the other.
        sides = (checkpoint.arguments.get(name) for name in ("img_size", "input_size"))
        trained = (side for side in sides if isinstance(side, int) and side > 0)
        side = options.image_size or next(trained, network.preprocess.height)
        preprocess = replace(network.preprocess, height=side, width=side)
        longest = options.max_tokens or network.max_tokens
        arguments = {**configuration, "tokenizer": words, "max_tokens": longest, "preprocess": preprocess}
        model = network.model(**arguments)
        configuration |= {"max_tokens": longest, "preprocess": preprocess.to_dict()}
        resized = load_mapped(model, weights, rules)
    left = dropped(weights, rules)
    if checkpoint.others:
        left["the state of a training that is over"] = list(checkpoint.others)
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
    return ConversionReport(
        source=source,
        out=out,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        configuration=configuration,
        dropped=left,
        resized=resized,
    )


def _bert(source: str) -> PreTrainedTokenizerBase:
    try:
        return build_tokenizer(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The tokenizer {source} could not be loaded; without a network, give a folder or the vocab.txt of the "
            f"text encoder: {error}"
        ) from error
