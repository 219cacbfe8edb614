"""Every model compiles in one piece, for any batch: no graph breaks in `encode_image` and `segment`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models.small import small_caris
from torch import Tensor

from maskris.models.base import RISModel


def small(module: str, function: str, **arguments: Any) -> Callable[[], RISModel]:
    """A model of another test module's making; skipped where there is none."""

    def build() -> RISModel:
        model: RISModel = getattr(pytest.importorskip(module), function)(**arguments)
        return model.eval()

    return build


MODELS: dict[str, Callable[[], RISModel]] = {
    "CARIS": small_caris,
    "CRIS": small("models.small_cris", "small_cris"),
    "ETRIS": small("models.small_etris", "small_etris"),
    "ETRIS, ViT": small("models.small_etris", "small_etris", vit=True),
    "LAVT": small("models.test_lavt", "small_lavt"),
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


def inputs(model: RISModel, images: int, expressions: int) -> tuple[Tensor, ...]:
    height, width = model.preprocess.size
    tokens = model.tokenizer(["the red circle"] * expressions)
    index = torch.arange(expressions) % images
    return torch.randn(images, 3, height, width), tokens.input_ids, tokens.attention_mask, index


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_models_compile_in_one_piece(name: str) -> None:
    model = MODELS[name]()
    encode = torch.compile(model.encode_image, fullgraph=True, backend="eager")
    segment = torch.compile(model.segment, fullgraph=True, backend="eager")
    for images, expressions in ((2, 3), (3, 5)):
        pixels, *text = inputs(model, images, expressions)
        if images == 2:
            torch._dynamo.maybe_mark_dynamic(pixels, 0)
            for part in text:
                torch._dynamo.maybe_mark_dynamic(part, 0)
        expected = model.segment(model.encode_image(pixels), *text)
        got = segment(encode(pixels), *text)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
