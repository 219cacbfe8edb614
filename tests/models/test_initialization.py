"""Initial weights: mean and deviation of every parameter of every published network, held against the published rules.

Each network has a table from parameter names to rules in which every parameter must be found exactly once. What the
networks add to their encoders follows the rules of their authors. The encoders themselves start from pretrained weights
in every published run; they are listed with what they get if they are built from a configuration alone, which is the
initialization of `transformers` or, for the CLIP of `maskris.models.clip`, OpenAI's of the text encoder.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from models import small_cris, small_etris
from models.small import SWIN, WORDS, small_caris
from models.test_lavt import small_lavt
from models.weights.test_clip import openai_names
from torch import Tensor, nn
from transformers import AutoConfig, SwinModel

from maskris.models.caris.model import ConditionalPrompts
from maskris.models.cris.model import CRIS
from maskris.models.encoders.vision import VisionEncoder
from maskris.models.etris.model import ETRIS
from maskris.models.tris.model import TRIS
from maskris.models.tris_localizer import TRISLocalizer
from maskris.models.weights.encoders import build_clip

SEEDS = 8  # pooled: of a bias of 16 numbers alone, the deviation would be known to a tenth


class Expected(NamedTuple):
    """Numbers around 0, normal or uniform, or the `constant` ones."""

    deviation: float = 0.0
    uniform: bool = False
    constant: float | Tensor | None = None


Parameters = Mapping[str, Tensor]
Rule = Callable[[str, Parameters], Expected]
"""From the name of a parameter, and all parameters of the network, to what is expected of it."""
Table = list[tuple[str, Rule]]


def constant(value: float) -> Rule:
    return lambda name, parameters: Expected(constant=value)


def normal(deviation: float) -> Rule:
    """Truncated normal distributions, too: PyTorch and timm cut them at 2, a hundred deviations away."""
    return lambda name, parameters: Expected(deviation)


def per_root(dimension: int, factor: float = 1.0) -> Rule:
    """Normal with a deviation of one over the root of `factor` times a side of the parameter."""
    return lambda name, parameters: Expected((factor * parameters[name].shape[dimension]) ** -0.5)


def default(name: str, parameters: Parameters) -> Expected:
    """PyTorch's of linear layers and convolutions: uniform up to one over the root of the inputs, biases too."""
    weight = parameters[re.sub(r"bias$", "weight", name)]
    return Expected((3 * weight[0].numel()) ** -0.5, uniform=True)


def kaiming_fan_out(name: str, parameters: Parameters) -> Expected:
    """Normal, for ReLU; for PyTorch the first side is that of the outputs, in transposed convolutions as well."""
    return Expected(math.sqrt(2 / parameters[name][:, 0].numel()))


def xavier(name: str, parameters: Parameters) -> Expected:
    return Expected(math.sqrt(2 / sum(parameters[name].shape)), uniform=True)


def xavier_third(name: str, parameters: Parameters) -> Expected:
    """One of the three square matrices of an attention of PyTorch, whose outputs count together."""
    return Expected(math.sqrt(2 / (4 * len(parameters[name]))), uniform=True)


def directions(name: str, parameters: Parameters) -> Expected:
    """Offsets of deformable attention: point 1, 2, ... of a head lies so far in its direction, on every level."""
    heads = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # right, down, left, up
    points = torch.stack([heads, 2 * heads], dim=1)  # [heads, points, 2]
    return Expected(constant=points[:, None].expand(-1, 3, -1, -1).flatten())


def below(prefix: str, *tables: Table) -> Table:
    return [(rf"(?:{prefix})\.{name}", rule) for table in tables for name, rule in table]


def both(prefix: str, rule: Rule) -> Table:
    """Weight and bias alike."""
    return [(rf"(?:{prefix})\.(?:weight|bias)", rule)]


def linear(prefix: str, rule: Rule) -> Table:
    """Weights by a rule, biases 0."""
    return [(rf"(?:{prefix})\.weight", rule), (rf"(?:{prefix})\.bias", constant(0))]


def norm(prefix: str) -> Table:
    return linear(prefix, constant(1))


def multihead(prefix: str, out: Rule = default) -> Table:
    inside: Table = [("in_proj_weight", xavier), ("in_proj_bias", constant(0))]
    return below(prefix, inside, linear("out_proj", out))


def conv_norm(prefix: str, rule: Rule = default) -> Table:
    return [*linear(rf"(?:{prefix})\.0", rule), *norm(rf"(?:{prefix})\.1")]


SWIN_TABLE = below(
    r"vision\.backbone",
    # Published, if there are no weights: truncated normal for the tables, PyTorch's default for the patches.
    [(r".+relative_position_bias_table", constant(0))],
    linear(r"swin\.embeddings\.patch_embeddings\.projection|.+(?:_proj|fc1|fc2|reduction)", normal(0.02)),
    norm(r"swin\.embeddings\.norm|swin\.encoder\..+(?:layernorm_(?:before|after)|norm)"),
    norm(r"hidden_states_norms\.stage\d"),  # fresh beside pretrained weights: see below
)
BERT_TABLE = below(
    r"text\.model",
    [(r"embeddings\.\w+_embeddings\.weight", normal(0.02))],
    linear(r"encoder\..+(?:query|key|value|dense)", normal(0.02)),
    norm(r".+LayerNorm"),
)


def clip_blocks(width: int, layers: int) -> Table:
    """Of a transformer of OpenAI."""
    return [
        *linear(r"self_attn\.[qkv]_proj", normal(width**-0.5)),
        *linear(r"self_attn\.out_proj", normal((width * 2 * layers) ** -0.5)),
        (r"mlp\.fc1\.weight", normal((2 * width) ** -0.5)),
        (r"mlp\.fc2\.weight", normal((width * 2 * layers) ** -0.5)),
        (r"mlp\.fc\d\.bias", default),
        *norm(r"layer_norm\d"),
    ]


def clip_text(layers: int) -> Table:
    return below(
        r"(?:encoders\.)?clip\.text",
        [(r"token_embedding\.weight", normal(0.02)), ("positional_embedding", normal(0.01))],
        [("text_projection", per_root(0))],
        below(r"blocks\.\d", clip_blocks(32, layers)),
        norm("ln_final"),
    )


CLIP_RESNET = below(
    r"(?:encoders\.)?clip\.visual",
    [(r"(?:layer\d\.\d\.)?(?:conv\d|downsample\.0)\.weight", default)],
    norm(r"bn\d|layer\d\.\d\.(?:bn[12]|downsample\.1)"),
    linear(r"layer\d\.\d\.bn3", constant(0)),  # every block begins as its shortcut
    [(r"attnpool\.positional_embedding", per_root(1)), (r"attnpool\.[kqvc]_proj\.weight", per_root(1))],
    [(r"attnpool\.[kqvc]_proj\.bias", default)],
    conv_norm(r"attnpool\.connect"),  # in no file of OpenAI's, so that it is fresh in CRIS and ETRIS
)
CLIP_VIT = below(
    r"encoders\.clip\.visual",
    [("class_embedding", per_root(0)), ("positional_embedding", per_root(1)), ("proj", per_root(0))],
    [(r"conv1\.weight", default)],
    below(r"blocks\.\d", clip_blocks(128, 3)),
    norm(r"ln_pre|ln_post"),
)

CARIS_TABLE = [
    *SWIN_TABLE,
    *BERT_TABLE,
    *linear(r"conditional_prompts\.(?:in|out)_linears\.\d", normal(0.02)),
    (r"conditional_prompts\.lang_prompts\.weight", normal(1)),
    *norm(r"conditional_prompts\.norm"),
    *below(
        "decoder",
        conv_norm(r"(?:input|lateral|output)_convs\.\d", kaiming_fan_out),
        [(r"(?:level_encoding|vis_prompts)\.weight", normal(1))],
        both(r"lang_in_linear|mask_feature\.\d|lang_embed\.\d", default),
        norm(r"lang_in_norm|layers\.\d\.[lv]_norm\d"),
        linear(r"layers\.\d\.(?:(?:v2l_cross|lang_self|l2v_cross)_attn\.\w+|(?:lang|vis)_mlp\.\d)", normal(0.02)),
        [(r"layers\.\d\.gamma_\w+", constant(1))],
        below(
            r"layers\.\d\.vis_self_attn",
            [(r"sampling_offsets\.weight", constant(0)), (r"sampling_offsets\.bias", directions)],
            both("attention_weights", constant(0)),
            linear("(?:value|output)_proj", xavier),
        ),
    ),
]
# Known of LAVT: its gates are linear layers of the backbone, and initialized as those. Of the rest nothing is known.
LAVT_TABLE = [
    *SWIN_TABLE,
    *BERT_TABLE,
    (r"gates\.\d\.(?:inner|outer)\.weight", normal(0.02)),
    *both(r"fusions\.\d\.\w+", default),
    *conv_norm(r"decoder\.blocks\.\d", default),
    (r"decoder\.blocks\.\d\.3\.weight", default),
    *norm(r"decoder\.blocks\.\d\.4"),
    *both(r"decoder\.last", default),
]
# Behind the encoders of CRIS, and the bridges of ETRIS, nothing has another initialization than PyTorch's.
CRIS_DECODER = [
    *multihead(r"decoder\.layers\.\d\.\w+_attn"),
    *both(r"decoder\.layers\.\d\.ffn\.[04]", default),
    *norm(r"decoder\.layers\.\d\.(?:\w+_norm|norm\d|ffn\.3)|decoder\.norm"),
    *conv_norm(r"proj\.vis\.[13]"),
    *both(r"proj\.(?:vis\.4|txt)", default),
]
CRIS_TABLE = [
    *clip_text(2),
    *CLIP_RESNET,
    *conv_norm(r"neck\.(?:f\w+|txt_proj|aggr|coordconv\.1|coordconv\.0\.conv1)"),
    *norm(r"neck\.norm_layer\.0"),
    *CRIS_DECODER,
]
ETRIS_TABLE = [
    *clip_text(3),
    *below(
        r"encoders\.bridger\.\d",
        conv_norm(r"zoom_(?:in|out)", kaiming_fan_out),
        linear(r"text_(?:in|out)|read_\w+\.linear\d", normal(0.02)),
        multihead(r"read_\w+\.\w+_attn", out=normal(0.02)),
        norm(r"(?:vision|text)_norm|read_\w+\.norm\d"),
    ),
    *conv_norm(r"neck\.(?:zooms\.\d|aggr|coordconv\.1|coordconv\.0\.conv1)"),
    *both(r"neck\.txt_proj", default),
    *linear(r"neck\.gates\.\d\.v_proj", xavier_third),
    *linear(r"neck\.gates\.\d\.out_proj", default),
    *CRIS_DECODER,
]


# No other initialization than PyTorch's is known of either stage of TRIS; slopes below 0 begin at a quarter.
TRIS_TABLE = [
    *clip_text(2),
    *CLIP_RESNET,
    *both(r"attentions\.\d\.(?:visual|query|key|value|output|merge)", default),
    *norm(r"attentions\.\d\.\w+_norm"),
    *below(
        r"decoder\.(?:reductions\.\d|outputs\.\d|heads\.\d\.0)",
        [(r"0\.weight", default), (r"2\.weight", constant(0.25))],
        norm("1"),
    ),
    (r"decoder\.heads\.\d\.1\.weight", default),
]
TRIS_LOCALIZER_TABLE = [
    *clip_text(2),
    *CLIP_RESNET,
    *both(r"(?:image|text)_projection|prompt\.text_output|prompt\.\w+_(?:query|key|value)\.0", default),
    *both(r"prompt\.image_output\.0", default),
    *norm(r"prompt\.image_\w+\.1"),
]


def fresh_cris() -> CRIS:
    c = small_cris.configuration({"vision_width": 8}, dim_ffn=80)
    return CRIS(**(small_cris.arguments(c) | {"tokenizer": WORDS}))


def fresh_etris(vit: bool) -> ETRIS:
    c = small_etris.configuration(vit, ladder_dim=16, dim_ffn=80)
    return ETRIS(**(small_etris.arguments(c) | {"tokenizer": WORDS}))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Table]] = {
    "CARIS": (lambda: small_caris(torch.initial_seed()), CARIS_TABLE),
    "LAVT": (lambda: small_lavt(torch.initial_seed()), LAVT_TABLE),
    "CRIS": (fresh_cris, CRIS_TABLE),
    "ETRIS, ResNet": (lambda: fresh_etris(False), [*CLIP_RESNET, *ETRIS_TABLE]),
    "ETRIS, ViT": (lambda: fresh_etris(True), [*CLIP_VIT, *ETRIS_TABLE]),
}


TRIS_CLIP = small_cris.configuration({"vision_width": 8})["clip"]
TRIS_ARGUMENTS = {"clip": TRIS_CLIP, "tokenizer": WORDS, "max_tokens": 10}
NETWORKS |= {
    "TRIS": (lambda: TRIS(**TRIS_ARGUMENTS, widths=[8, 16, 16, 32]), TRIS_TABLE),
    "TRIS, localizer": (lambda: TRISLocalizer(**TRIS_ARGUMENTS, width=32), TRIS_LOCALIZER_TABLE),
}


def deviations(table: Table, networks: list[nn.Module]) -> dict[str, str]:
    """What is wrong with each parameter, over networks with several seeds."""
    wrong = {}
    states = [dict(network.named_parameters()) for network in networks]
    for name in states[0]:
        rules = [rule for pattern, rule in table if re.fullmatch(pattern, name)]
        if len(rules) != 1:
            wrong[name] = f"{len(rules)} rules"
            continue
        expected = rules[0](name, states[0])
        values = torch.stack([state[name].detach().flatten() for state in states])  # [seeds, numbers]
        if expected.constant is not None:
            if not torch.allclose(values, torch.as_tensor(expected.constant, dtype=values.dtype), atol=1e-6):
                wrong[name] = f"not constant: mean {values.mean():.4f}, deviation {values.std():.4f}"
            continue
        n, measured = values.numel(), values.pow(2).mean().sqrt().item()
        # Five standard errors of mean and deviation.
        error = (0.2 if expected.uniform else 0.5) ** 0.5 / n**0.5
        if abs(measured / expected.deviation - 1) > 5 * error:
            wrong[name] = f"deviation {measured:.4f} instead of {expected.deviation:.4f}"
        elif values.mean().abs() > 5 * expected.deviation / n**0.5:
            wrong[name] = f"mean {values.mean():.4f}"
        elif expected.uniform != (values.abs().max().item() <= 3**0.5 * expected.deviation * (1 + 1e-5)):
            wrong[name] = f"not {'uniform' if expected.uniform else 'normal'}"
    return wrong


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_begins_as_published(kind: str) -> None:
    build, table = NETWORKS[kind]
    networks = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        networks.append(build())
    assert deviations(table, networks) == {}


def test_a_parameter_without_a_rule_is_found() -> None:
    networks = [nn.Linear(30, 40) for _ in range(4)]
    assert deviations([("weight", default)], networks) == {"bias": "0 rules"}
    assert deviations([("weight", default), (".+", default)], networks) == {"weight": "2 rules"}
    found = deviations([("weight", normal((3 * 30) ** -0.5)), ("bias", normal(0.02))], networks)
    assert found.keys() == {"weight", "bias"}
    assert found["weight"] == "not normal"


def test_the_norms_of_the_stages_beside_a_pretrained_swin(tmp_path: Path) -> None:
    SwinModel(AutoConfig.for_model(**SWIN)).save_pretrained(tmp_path)
    norms = VisionEncoder(tmp_path).backbone.get_submodule("hidden_states_norms")
    assert deviations(norm(r"stage\d"), [norms]) == {}


def test_the_convolution_beside_a_pretrained_attention_pool(tmp_path: Path) -> None:
    torch.save(openai_names(fresh_cris().clip), tmp_path / "clip.pt")
    pools = [build_clip(tmp_path / "clip.pt").visual.get_submodule("attnpool") for _ in range(SEEDS)]
    found = deviations(conv_norm("connect"), pools)
    assert [name for name in found if "connect" in name] == []


def test_bridges_from_scratch_have_the_weights_of_pytorch() -> None:
    c = small_etris.configuration(ladder_dim=16)
    torch.manual_seed(0)
    bridges = [ETRIS(**small_etris.arguments(c), init="scratch").encoders.bridger for _ in range(SEEDS)]
    table = below(
        r"\d",
        both(r"text_(?:in|out)|.+linear\d", default),
        multihead(r".+attn"),
        [(r"zoom_.+", default)],
        norm(".+norm.?"),
    )
    assert deviations(table, bridges) == {}
    with pytest.raises(ValueError, match="init must be one of published, scratch, not 'zero'"):
        ETRIS(**small_etris.arguments(c), init="zero")


def test_conditional_prompts_from_scratch_keep_the_scale_of_their_inputs() -> None:
    prompts = [ConditionalPrompts(32, 24, (1, 2), "scratch") for _ in range(SEEDS)]
    found = deviations(both(r"(?:in|out)_linears\.\d", default), prompts)
    assert found == dict.fromkeys(("lang_prompts.weight", "norm.weight", "norm.bias"), "0 rules")
