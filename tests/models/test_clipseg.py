"""CLIPSeg against the network of `transformers`, and what a user relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models.expressions import batch_of
from models.small import WORDS
from torch import nn
from transformers import AutoConfig, CLIPSegForImageSegmentation

from maskris.batch import Batch
from maskris.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from maskris.models.clipseg import CLIPSeg
from maskris.models.loading import load_model
from maskris.strategies.criteria.masks import MaskCriterion

_SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
CONFIG: dict[str, Any] = {
    "model_type": "clipseg",
    "text_config": {**_SMALL, "num_hidden_layers": 2, "vocab_size": 14, "bos_token_id": 12, "eos_token_id": 13},
    "vision_config": {**_SMALL, "num_hidden_layers": 6, "image_size": 32, "patch_size": 16},
    "projection_dim": 12,
    "extract_layers": [1, 2, 4],
    "reduce_dim": 8,
    "decoder_intermediate_size": 16,
}


def small_clipseg(seed: int = 0, **changes: Any) -> CLIPSeg:
    torch.manual_seed(seed)
    arguments = {"clipseg": CONFIG, "tokenizer": WORDS, "max_tokens": 10, "preprocess": {"height": 64, "width": 64}}
    model = CLIPSeg(**(arguments | changes)).eval()
    for parameter in model.parameters():  # with the initial weights, words would hardly matter
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.0 / parameter[0].numel() ** 0.5)
    return model


EXPRESSIONS = ["the red circle", "left", "blue square of the left circle"]


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conditional_layer": 1},
        {"extract_layers": [2, 5]},
        {"use_complex_transposed_convolution": True},
        {"text_config": {**CONFIG["text_config"], "eos_token_id": 2}},  # as in old configurations
    ],
)
@pytest.mark.parametrize("side", [32, 64])
def test_equal_to_transformers(changes: dict[str, Any], side: int) -> None:
    model = small_clipseg(clipseg=CONFIG | changes)
    batch = batch_of(model, torch.randn(2, 3, side, side), EXPRESSIONS, [1, 0, 1])
    expected = model.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.images[batch.image_index],
    ).logits
    logits = model(batch)
    assert logits.shape == (3, 1, side, side)
    assert expected.std() > 0.01, "a flat map would hide mistakes"
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert (logits[0] - logits[2]).abs().max() > 1e-3, "the words must matter"


@torch.no_grad()
def test_the_image_is_encoded_once_for_all_expressions() -> None:
    model = small_clipseg()
    batch = batch_of(model, torch.randn(2, 3, 64, 64), EXPRESSIONS, [1, 0, 1])
    images: list[int] = []
    model.model.clip.vision_model.embeddings.register_forward_hook(lambda _, inputs, __: images.append(len(inputs[0])))
    together = model(batch)
    assert images == [2]
    for i, expression in enumerate(EXPRESSIONS):
        image = batch.images[batch.image_index[i]][None]
        torch.testing.assert_close(
            together[i : i + 1], model(batch_of(model, image, [expression], [0])), atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_padding_the_text_changes_nothing() -> None:
    model = small_clipseg()
    features = model.encode_image(torch.randn(1, 3, 64, 64))
    results = []
    for pad_to in (5, 6, 10):
        tokens = model.tokenizer(["the red circle"], pad_to=pad_to)
        results.append(model.segment(features, tokens.input_ids, tokens.attention_mask, torch.tensor([0])))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 32), (33, 70), (1, 1)])
def test_any_image_size(size: tuple[int, int]) -> None:
    model = small_clipseg()
    logits = model(batch_of(model, torch.randn(1, 3, *size), ["left"], [0]))
    assert logits.shape == (1, 1, *(-(-side // 16) * 16 for side in size))
    assert torch.isfinite(logits).all()
    assert model.upsample(logits, size).shape == (1, 1, *size)


@torch.no_grad()
def test_rows_and_columns_of_patches_are_not_confused() -> None:
    """In an image whose right half is another than its left, the logits of the halves come from these halves."""
    model = small_clipseg(clipseg=CONFIG | {"extract_layers": [0]})
    nn.init.zeros_(model.model.clip.vision_model.encoder.layers[0].self_attn.out_proj.weight)  # patches stay apart
    nn.init.zeros_(model.model.decoder.layers[0].self_attn.out_proj.weight)
    images = torch.randn(1, 3, 32, 64)
    changed = images.clone()
    changed[..., :16, 48:] += 3
    one, other = (model(batch_of(model, x, ["left"], [0])) for x in (images, changed))
    touched = (one - other).abs()[0, 0] > 1e-6
    assert touched[:16, 48:].all()
    assert touched.sum() == 16 * 16


@pytest.mark.parametrize("freeze", [True, False])
def test_what_learns(freeze: bool) -> None:
    model = small_clipseg(freeze_clip=freeze).train()
    batch = batch_of(model, torch.randn(2, 3, 64, 64), EXPRESSIONS, [1, 0, 1])
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    batch = Batch(batch.images, batch.input_ids, batch.attention_mask, batch.image_index, masks)
    loss = MaskCriterion()(model, model(batch), batch)
    assert torch.isfinite(loss)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name
    groups = model.parameter_groups(lr=1.0, weight_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    names = [group["name"] for group in groups]
    assert names == ["decoder, no decay", "decoder"] if freeze else ["clip, no decay", "clip", *names[2:]]
    assert {group["name"]: group["lr"] for group in groups}.get("clip", 0.1) == 0.1
    torch.optim.AdamW(groups).step()


def test_the_published_defaults() -> None:
    model = small_clipseg(preprocess=None, max_tokens=77)
    assert model.preprocess.size == (352, 352)
    assert (model.preprocess.mean, model.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert model.preprocess.resize == "stretch"
    assert not any(parameter.requires_grad for parameter in model.model.clip.parameters())
    assert all(parameter.requires_grad for parameter in model.model.decoder.parameters())
    assert not model.has_batch_statistics


@torch.no_grad()
def test_saved_and_loaded(tmp_path: Path) -> None:
    model = small_clipseg(freeze_clip=False)
    batch = batch_of(model, torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8), ["the red circle"], [0])
    model.save_pretrained(tmp_path / "ours")
    again = load_model(tmp_path / "ours")
    assert isinstance(again, CLIPSeg)
    # On some CPUs the last bit depends on where in memory tensors lie.
    torch.testing.assert_close(again(batch), expected := model(batch), rtol=0, atol=1e-6)
    assert again.config == model.config
    assert torch.equal(again.tokenizer(["the red circle"]).input_ids, batch.input_ids)

    # What transformers writes is taken as it is, and its tokenizer with it.
    theirs = tmp_path / "theirs"
    model.model.save_pretrained(theirs)
    model.tokenizer.save_pretrained(theirs)
    read = CLIPSeg(theirs, max_tokens=10, preprocess=model.preprocess).eval()
    torch.testing.assert_close(read(batch), expected, rtol=0, atol=1e-6)
    assert isinstance(CLIPSegForImageSegmentation.from_pretrained(theirs), CLIPSegForImageSegmentation)


def test_weights_are_single_precision_whatever_the_file_holds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = CLIPSegForImageSegmentation(AutoConfig.for_model(**CONFIG)).bfloat16()
    theirs.save_pretrained(tmp_path / "theirs")
    file = tmp_path / "theirs" / "config.json"
    config = json.loads(file.read_text())
    assert config["dtype"] == "bfloat16"
    config["text_config"]["dtype"] = config["vision_config"]["dtype"] = "bfloat16"  # as older versions wrote it
    file.write_text(json.dumps(config))
    model = small_clipseg(clipseg=tmp_path / "theirs")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert "bfloat16" not in json.dumps(model.config)
    model.save_pretrained(tmp_path / "ours")
    assert {parameter.dtype for parameter in load_model(tmp_path / "ours").parameters()} == {torch.float32}


@torch.no_grad()
def test_features_of_patches_and_words() -> None:
    model = small_clipseg()
    batch = batch_of(model, torch.randn(2, 3, 32, 64), EXPRESSIONS, [1, 0, 1])
    patches, words = model.token_features(batch)
    assert patches.shape == (3, 2, 4, 16)
    assert words.shape == (*batch.input_ids.shape, 16)
    hidden = model.model.clip.vision_model(batch.images, output_hidden_states=True).hidden_states
    torch.testing.assert_close(patches[1].flatten(0, 1), hidden[5][0, 1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clipseg": {"model_type": "bert"}}, "bert is no CLIPSeg"),
        ({"clipseg": CONFIG | {"reduce_din": 3}}, "A configuration of clipseg has no key reduce_din"),
        (
            {"clipseg": CONFIG | {"vision_config": {"hidden": 3}}},
            "A configuration of clipseg_vision_model has no key hid",
        ),
        ({"tokenizer": None}, "needs a tokenizer"),
        ({"tokenizer": WORDS[:-1]}, "ends a sentence with id 13, but the tokenizer with 12"),
        ({"max_tokens": 78}, "reads 77 tokens; max_tokens is 78"),
    ],
)
def test_arguments_that_contradict_each_other(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_clipseg(**changes)
