"""The Python of docs/models.md runs."""

import re
from pathlib import Path
from typing import Any

import torch

from maskris.batch import Batch

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8"), re.DOTALL
)


def run(block: str, **names: Any) -> dict[str, Any]:
    exec(compile(block, "docs/models.md", "exec"), names)
    return names


def one_batch(model: Any) -> Batch:
    tokens = model.tokenizer(["the red circle", "circle"])
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    return Batch(images, tokens.input_ids, tokens.attention_mask, torch.zeros(2, dtype=torch.long))


def test_the_smallest_model() -> None:
    from maskris import CARIS

    (block,) = (block for block in BLOCKS if "model_type" in block)
    model = run(block, CARIS=CARIS)["model"]
    assert model(one_batch(model)).shape == (2, 2, 16, 16)


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if "class Brightness" in block)
    Brightness = run(block, __name__="docs")["Brightness"]
    model = Brightness(gain=2.0, tokenizer=["red"])
    assert model(one_batch(model)).shape == (2, 1, 64, 64)
    model.save_pretrained(tmp_path)
    assert Brightness.from_pretrained(tmp_path).gain.item() == 2.0
