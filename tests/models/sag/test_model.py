"""SaG against golden tensors of the official network, and what every model promises."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models.small_sag import VISION, golden_case, golden_sag, our_name, small_sag
from PIL import Image
from safetensors.torch import load_file, save_file

from maskris.batch import Batch
from maskris.evaluation.binarization import binarize
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.protocol import Protocol
from maskris.inference.predictor import Predictor
from maskris.models.base import foreground_logit
from maskris.models.layers.attention import sine_encoding
from maskris.models.loading import load_model
from maskris.models.pairs import Comparison, SlotBatch
from maskris.models.sag import SaG
from maskris.models.sag.model import stretch
from maskris.models.sag.vit import VisionTransformer, build_vit, resize_positions

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def same(ours, official):
    torch.testing.assert_close(ours, official, **CLOSE)


@pytest.fixture(scope="module")
def case(shared):
    return golden_case(shared)


@pytest.fixture
def model(shared):
    return golden_sag(shared)


@pytest.fixture
def pairs(case):
    """The three sentences of the case with their images and noise."""
    visible = (case["tokens"] != 0).long()
    return SlotBatch(case["img"], case["tokens"], visible, torch.arange(3), noise=case["slot_noise"])


def batch(images=2, expressions=3, side=64):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 60, (expressions, 7), generator=generator)
    ids[:, 0], ids[1:, 6] = 2, 0
    photos = torch.randint(0, 256, (images, 3, side, side), generator=generator, dtype=torch.uint8)
    return Batch(photos, ids, (ids != 0).long(), torch.arange(expressions) % images)


@torch.no_grad()
def test_slots_sentences_and_maps_are_the_official_ones(model, case, pairs):
    same(sine_encoding(4, 4, 32), case["pos_encoding"][0])
    features = model.encode_image(pairs.images, pairs.noise)
    same(features.patches.flatten(1, 2), case["eval_patch_features"])
    same(features.slots, case["eval_slots"])
    same(features.shares.flatten(2), case["slot_attention"][:, -1])
    sentences = model.encode_text(pairs.input_ids, pairs.attention_mask)
    same(sentences, case["eval_text"][:, 0])
    gathered, relevance = model.gather(sentences, features.slots)
    same(gathered, case["eval_cross_modal"])
    same(relevance, case["relevance_all_pairs"])
    same(model.decoder(features.slots, 4, 4).flatten(1, 2), case["eval_reconstruction"])
    maps = model.maps(features, relevance, pairs.image_index).view(3, 4, 4)
    same(maps, case["mask_map"])


@torch.no_grad()
def test_masks_are_the_official_ones_through_logits_and_protocol(model, case, pairs):
    features = model.encode_image(pairs.images, pairs.noise)
    scores = model.segment(features, pairs.input_ids, pairs.attention_mask, pairs.image_index)
    probabilities = foreground_logit(scores).sigmoid()
    for number, values in enumerate(probabilities):
        official = case[f"mask{number}_no_antialias"]
        photo = F.interpolate(values[None, None], official.shape, mode="bilinear")[:, 0]
        same(stretch(photo.flatten(1)).view_as(official), official)
        assert binarize(photo, Protocol.of("sag"))[0].equal(case[f"mask{number}_binary"])


def test_losses_and_gradients_are_the_official_ones(model, case, pairs, shared):
    official = json.loads((shared / "reference/weak/sag_case.json").read_text())
    found = Comparison.unpack(model(pairs), 3)
    contrast, error = F.cross_entropy(found.similarity, pairs.image_index), found.error.mean()
    assert contrast.item() == pytest.approx(official["loss_contrastive"], abs=1e-4)
    assert error.item() == pytest.approx(official["loss_reconstruction"], abs=1e-4)
    (contrast + error).backward()
    ours = dict(model.named_parameters())
    golden = {name.removeprefix("grad/"): value for name, value in case.items() if name.startswith("grad/")}
    assert len(golden) == 10
    for name, value in golden.items():
        same(ours[our_name(name)].grad, value)
    # What the official network never trains is not here, and all else learns.
    assert {our_name(name) for name in official["no_gradient"]} == {None}
    state = load_file(shared / "reference/weak/sag_state.safetensors")
    assert {our_name(name) for name in state if name not in official["no_gradient"]} == {*ours}
    assert all(parameter.grad is not None for parameter in ours.values())


def test_the_contrast_of_larger_batches_is_the_official_one(case):
    similarity = torch.einsum("nd,ind->ni", case["nce_text"][:, 0], case["nce_cross_modal"])
    same(F.cross_entropy(similarity, torch.arange(5)), case["nce_loss"])


def test_slots_begin_as_published(shared):
    offset = json.loads((shared / "reference/weak/sag_case.json").read_text())["slot_sigma_init_offset"]
    torch.manual_seed(0)
    queries = small_sag().discovery.queries
    assert queries.log_variance.mean().item() == pytest.approx(offset, abs=0.1)
    assert queries.mean.mean().item() == pytest.approx(0, abs=0.1)


def test_comparisons_pack_and_unpack():
    whole = Comparison(torch.rand(3, 2), torch.rand(3), torch.rand(3, 16))
    for part, again in zip(whole, Comparison.unpack(whole.pack(), 2), strict=True):
        assert part.equal(again)


def test_a_sentence_is_about_its_own_image_only():
    model, together = small_sag(), batch()
    with torch.no_grad():
        both = model(together)
        for n, image in enumerate(together.image_index.tolist()):
            alone = Batch(
                together.images[image : image + 1],
                together.input_ids[n : n + 1],
                together.attention_mask[n : n + 1],
                torch.zeros(1, dtype=torch.long),
            )
            torch.testing.assert_close(model(alone)[0], both[n], atol=1e-3, rtol=1e-3)
    assert both.shape == (3, 1, 4, 4)
    assert (both.amax((1, 2, 3)) > 13).all(), "the highest patch of every map is surely the referent's"


def test_noise_is_fixed_outside_of_training_and_fresh_in_it():
    some = batch()
    with torch.no_grad():
        torch.manual_seed(1)
        model = small_sag(dropout=0.0, drop_path=0.0)
        assert model(some).equal(model(some))
        torch.manual_seed(1)
        other = small_sag(noise_seed=1)
        assert not model(some).equal(other(some))
        model.train()
        assert not model(some).equal(model(some))


def test_maps_and_not_logits_are_upsampled():
    logits = torch.tensor([[[[13.0, 0.0]]]])
    middle = small_sag().upsample(logits, (1, 4)).sigmoid()[0, 0, 0]
    torch.testing.assert_close(middle, torch.tensor([1.0, 0.875, 0.625, 0.5]), atol=1e-4, rtol=0)
    assert small_sag().upsample(logits, (1, 2)) is logits


def test_other_sizes_and_their_limit():
    model = small_sag()
    with torch.no_grad():
        assert model(batch(side=40)).shape == (3, 1, 3, 3)
        features = model.encode_image(torch.rand(1, 3, 16, 32))
        assert features.shares.shape == (1, 6, 1, 2)
        torch.testing.assert_close(features.shares.sum(1), torch.ones(1, 1, 2))
        with pytest.raises(ValueError, match="50 positions a side, not 1 x 51"):
            model.decoder(features.slots, 1, 51)


def test_a_saved_model_comes_back(tmp_path):
    model = small_sag(noise_seed=4)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, SaG)
    with torch.no_grad():
        assert again(batch()).equal(model(batch()))
        assert not SaG.from_pretrained(tmp_path, noise_seed=5)(batch()).equal(model(batch()))


def test_it_is_evaluated_in_one_step_from_its_patches(table):
    """Under its protocol: resized to the photo at once, cut in the middle of the range. Other draws, other masks."""
    model = small_sag(tokenizer=["red", "green", "blue", "the", "one", "thing", "left", "of"])
    rows = evaluate(model, table, "sag", batch_size=3, progress=False).rows.to_pylist()
    by_hand = []
    for row in range(len(table)):
        image = model.preprocess.image(Image.open(table.image_path(row)))
        for text in table.row(row).expressions:
            tokens = model.tokenizer([text])
            with torch.no_grad():
                one = Batch(image[None], tokens.input_ids, tokens.attention_mask, torch.zeros(1, dtype=torch.long))
                maps = F.interpolate(model(one).sigmoid(), table.size(row), mode="bilinear")[0, 0]
            mask = (maps - maps.min()) / (maps.max() - maps.min()) >= 0.5
            by_hand.append((int(mask.sum()), int((mask.numpy() & table.mask(row)).sum())))
    found = [(row["prediction_pixels"], row["intersection"]) for row in rows]
    assert np.abs(np.subtract(found, by_hand)).max() <= 1  # the rounding of batches
    other = small_sag(tokenizer=model.tokenizer.tokenizer, noise_seed=1)
    other.load_state_dict(model.state_dict())
    assert evaluate(other, table, "sag", progress=False).rows["intersection"].to_pylist() != [one for _, one in found]


def test_predictions_are_found_in_every_photo(table):
    model = small_sag(tokenizer=["red", "thing"])
    prediction = Predictor(model).predict("red thing", table.image_path(0))
    assert 0 < prediction.mask.mean() < 1
    assert prediction.probability.max() > 0.9


def test_groups_of_parameters():
    vision, rest = small_sag().parameter_groups(1.0, 0.5)
    assert (vision["name"], vision["lr"], vision["weight_decay"]) == ("vision", 0.1, 0.5)
    assert (rest["name"], rest["lr"], rest["weight_decay"]) == ("rest", 1.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "width must be a multiple of 4"),
        ({"groups": 0}, "at least 1"),
        ({"vision": {"width": 24}}, "needs width, layers, heads, patch_size and grid"),
        ({"vision": {**VISION, "heads": 5}}, "5 heads of the vision transformer must divide its width 24"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_sag(**changes)


def test_weights_of_timm_are_read_from_a_folder(tmp_path):
    """Their heads have 64 channels; positions are brought to another grid once, the classifier is left behind."""
    theirs = VisionTransformer(64, 2, 1, 16, 3)
    state = theirs.state_dict() | {"head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)}
    save_file(state, tmp_path / "model.safetensors")
    same_grid = build_vit(str(tmp_path), 3, 0.0)
    images = torch.rand(1, 3, 48, 48)
    assert same_grid(images).equal(theirs(images))
    finer = build_vit(str(tmp_path), 5, 0.0)
    assert finer.config == {"width": 64, "layers": 2, "heads": 1, "patch_size": 16, "grid": 5}
    assert finer.pos_embed.equal(resize_positions(theirs.pos_embed, 5, 5, "bicubic"))
    del state["norm.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no plain vision transformer of timm: norm\.bias differ"):
        build_vit(str(tmp_path), 3, 0.0)
    save_file({"norm.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="it lacks patch_embed"):
        build_vit(str(tmp_path), 3, 0.0)


def test_the_vision_transformer_is_timms():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("vit_small_patch16_384", img_size=64, depth=2, num_classes=0).eval()
    ours = VisionTransformer(384, 2, 6, 16, 4).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(images).flatten(1, 2), theirs.forward_features(images)[:, 1:], atol=1e-5, rtol=1e-5
        )
