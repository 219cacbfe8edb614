"""The tiny official model and its golden tensors, for every test that holds ours against it."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from maskris.models.caris.model import CARIS
from maskris.models.weights.convert import load_official


def reference(shared: Path, name: str) -> Any:
    """A reference file of the official MaskRIS by its name without folder."""
    path = shared / "reference" / "maskris" / name
    return json.loads(path.read_text()) if path.suffix == ".json" else load_file(path)


def tiny_caris(shared: Path, **changes: Any) -> CARIS:
    """The tiny CARIS of the golden files with the golden weights, in evaluation mode."""
    config = reference(shared, "config.json")["model"]
    arguments: dict[str, Any] = {
        "vision": {
            "model_type": "swin",
            **{key: config["swin"][key] for key in ("embed_dim", "depths", "num_heads", "window_size")},
        },
        "text": {"model_type": "bert", **config["bert"]},
        "width": 64,
        "layers": 2,
        "tokenizer": reference(shared, "extras.json")["tokenizer.vocab"],
        "preprocess": {"height": 224, "width": 224},
    }
    model = CARIS(**(arguments | changes))
    load_official(model, reference(shared, "tiny_state.safetensors"))
    return model.eval()


def without_dropout(model: nn.Module) -> nn.Module:
    """Training mode with every dropout and drop path off, as the golden gradients were taken."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    return model


def by_official_name(values: dict[str, Tensor], model: nn.Module, names: list[str]) -> dict[str, list[Tensor]]:
    """Our tensors for official names; a fused official projection has three."""
    from maskris.models.weights.caris import CARIS_RULES
    from maskris.models.weights.rules import rename

    return {name: [values[ours] for ours in rename(name, CARIS_RULES) or []] for name in names}
