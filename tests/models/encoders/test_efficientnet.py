"""EfficientNet-Lite0 against an implementation that follows its publication line by line, and on real photos."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from packaged_encoders import require_photos
from PIL import Image
from torch import Tensor

from maskris.data.preprocess import Preprocess
from maskris.models.encoders import VisionEncoder
from maskris.models.encoders.efficientnet import EFFICIENTNET_LITE0_FILE
from maskris.models.encoders.packaged import locate

NAME = "package:efficientnet-lite0"
STAGES = (  # repeats, kernel, stride: table 1 of the EfficientNet paper, which Lite keeps for its smallest network
    *((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2)),
    *((3, 5, 1), (4, 5, 2), (1, 3, 1)),
)
CLASSES = {  # of ImageNet, by the category of COCO that they belong to
    "airplane": {404, 895},
    "banana": {954},
    "bear": {294, 295, 296, 297},
    "broccoli": {937},
    "bus": {654, 779, 874},
    "cat": {281, 282, 283, 284, 285},
    "elephant": {101, 385, 386},
    "laptop": {620, 681},
    "motorcycle": {665, 670},
    "pizza": {963},
    "teddy bear": {850},
    "toilet": {861},
    "train": {466, 547, 705, 820, 829},
    "zebra": {340},
}


def load() -> dict[str, Tensor]:
    """The weights under the names of their package."""
    require_photos()
    return torch.load(Path(locate(NAME)) / EFFICIENTNET_LITE0_FILE, weights_only=True)


def convolve(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """As TensorFlow pads: what is missing for ceil(side / stride) outputs, the odd pixel at the right and bottom."""
    pads = [max((-(-side // stride) - 1) * stride + weight.shape[2] - side, 0) for side in x.shape[:1:-1]]
    x = F.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)])
    return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    values = [weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *values, eps=1e-3)


def literal(images: Tensor, weights: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """The maps that leave the seven stages, and the logits of ImageNet's classes."""
    x = F.relu6(norm(convolve(images, weights["_conv_stem.weight"], 2), weights, "_bn0"))
    maps, block = [], 0
    for repeats, kernel, first_stride in STAGES:
        for i in range(repeats):
            y, at = x, f"_blocks.{block}"
            if block > 0:
                y = F.relu6(norm(convolve(y, weights[f"{at}._expand_conv.weight"]), weights, f"{at}._bn0"))
            depthwise = weights[f"{at}._depthwise_conv.weight"]
            assert depthwise.shape[2] == kernel
            y = F.relu6(norm(convolve(y, depthwise, first_stride if i == 0 else 1), weights, f"{at}._bn1"))
            y = norm(convolve(y, weights[f"{at}._project_conv.weight"]), weights, f"{at}._bn2")
            x = x + y if i > 0 else y
            block += 1
        maps.append(x)
    x = F.relu6(norm(convolve(x, weights["_conv_head.weight"]), weights, "_bn1")).mean((2, 3))
    return maps, F.linear(x, weights["_fc.weight"], weights["_fc.bias"])


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_features_are_those_of_the_published_network(size: tuple[int, int]) -> None:
    weights = load()
    torch.manual_seed(0)
    encoder = VisionEncoder(NAME).train()  # its batch norms are frozen in training, too
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        ours = encoder(images)
        maps, _ = literal(encoder.fit(images), weights)
    assert (encoder.channels, encoder.strides) == ([24, 40, 112, 320], [4, 8, 16, 32])
    for found, expected in zip(ours, (maps[1], maps[2], maps[4], maps[6]), strict=True):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_nothing_but_convolutions_learns() -> None:
    require_photos()
    encoder = VisionEncoder(NAME)
    assert encoder.config["freeze_batch_norm_2d"]
    assert {parameter.dim() for parameter in encoder.parameters()} == {4}


def test_it_knows_what_is_on_real_photos(shared: Path) -> None:
    """The classes of ImageNet on photos of COCO: the encoder's features under the classifier of the package."""
    weights = load()
    folder = shared / "data" / "refcoco_mini"
    annotated = json.loads((folder / "refcoco" / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in annotated["categories"]}
    images = {image["id"]: image for image in annotated["images"]}
    shares: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in annotated["annotations"]:
        image = images[one["image_id"]]
        shares[image["id"]][names[one["category_id"]]] += one["area"] / (image["width"] * image["height"])
    preprocess = Preprocess(224, 224, mean=(0.5,) * 3, std=(0.5,) * 3)
    encoder = VisionEncoder(NAME).eval()
    hits, seen = [], Counter[str]()
    for number, areas in sorted(shares.items()):
        largest = max(areas, key=areas.__getitem__)
        if largest in CLASSES and areas[largest] > 0.15 and seen[largest] < 3:
            seen[largest] += 1
            photo = Image.open(folder / "train2014" / images[number]["file_name"]).convert("RGB")
            with torch.no_grad():
                last = encoder(preprocess.normalize(preprocess.image(photo)[None]))[-1]
                head = F.relu6(norm(convolve(last, weights["_conv_head.weight"]), weights, "_bn1")).mean((2, 3))
                best = F.linear(head, weights["_fc.weight"], weights["_fc.bias"])[0].topk(5).indices.tolist()
            hits.append(bool(CLASSES[largest] & set(best)))
    assert len(hits) >= 25
    assert sum(hits) / len(hits) > 0.7  # chance: 0.01
