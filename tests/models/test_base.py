"""Saving and loading: the model with its tokenizer and preprocessing, from folders and from the Hub."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from models.small import BERT, SWIN, WORDS, small_caris
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, AutoModel, BertTokenizer

import maskris
import maskris.models
from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel, evaluation_mode, foreground_logit
from maskris.models.caris.model import CARIS
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.folder import model_folder
from maskris.models.loading import load_model
from maskris.registry import find_class

LETTERBOX = {"height": 48, "width": 80, "resize": "letterbox", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}


def small_batch(model: CARIS) -> Batch:
    tokens = model.tokenizer(["the red circle", "blue square"])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return Batch(images, tokens.input_ids, tokens.attention_mask, torch.arange(2))


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def save(folder: Path, seed: int = 0, **changes: Any) -> CARIS:
    model = small_caris(seed, **changes)
    model.save_pretrained(folder)
    return model


def test_round_trip_of_model_tokenizer_and_preprocessing(tmp_path: Path) -> None:
    model = save(tmp_path / "a", preprocess=LETTERBOX, max_tokens=7, drop_path=0.2, prompt_levels=(1, 3))
    loaded = CARIS.from_pretrained(tmp_path / "a")
    assert equal(model, loaded)
    assert loaded.config == model.config
    assert loaded.preprocess == model.preprocess == Preprocess.from_dict(LETTERBOX)
    sentences = ["the red circle", "Squares of the left", "[MASK]", "the the the the the the the the the"]
    ours, theirs = model.tokenizer(sentences), loaded.tokenizer(sentences)
    assert torch.equal(ours.input_ids, theirs.input_ids)
    assert ours.truncated.tolist() == theirs.truncated.tolist() == [False, False, False, True]
    assert loaded.tokenizer.max_length == 7
    assert not loaded.training
    images = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        pair = [
            m.segment(m.encode_image(images), ours.input_ids, ours.attention_mask, torch.zeros(4, dtype=torch.long))
            for m in (model, loaded)
        ]
    assert torch.equal(*pair)

    loaded.save_pretrained(tmp_path / "b")  # and once more: nothing drifts
    for name in ("config.json", "model.safetensors", "tokenizer/tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_long_sentences_are_cut_as_in_training(tmp_path: Path) -> None:
    model = save(tmp_path, max_tokens=5, keep_end_token=False)
    long = ["the red circle of the left"]
    assert model.tokenizer(long).input_ids.tolist() == [[2, 5, 6, 8, 12]]
    assert CARIS.from_pretrained(tmp_path).tokenizer(long).input_ids.tolist() == [[2, 5, 6, 8, 12]]
    again = CARIS.from_pretrained(tmp_path, keep_end_token=True)
    assert again.tokenizer(long).input_ids.tolist() == [[2, 5, 6, 8, 3]]
    assert small_caris().config["keep_end_token"] is True


def test_half_precision_is_read_and_not_kept(tmp_path: Path) -> None:
    model = save(tmp_path / "a").half()
    model.save_pretrained(tmp_path / "half")
    assert torch.float16 in {value.dtype for value in load_file(tmp_path / "half" / "model.safetensors").values()}
    assert "float16" not in (tmp_path / "half" / "config.json").read_text()
    loaded = CARIS.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert equal(loaded, model.float())


def test_the_configuration_needs_no_download(tmp_path: Path) -> None:
    """Encoders given as Hub ids or folders are written as values, so that a saved model stands alone."""
    torch.manual_seed(0)
    AutoBackbone.from_config(AutoConfig.for_model(**SWIN)).save_pretrained(tmp_path / "swin")
    AutoModel.from_config(AutoConfig.for_model(**BERT)).save_pretrained(tmp_path / "bert")
    build_tokenizer(WORDS).save_pretrained(tmp_path / "bert")
    model = small_caris(vision=str(tmp_path / "swin"), text=tmp_path / "bert", tokenizer=None, drop_path=0.4)
    model.save_pretrained(tmp_path / "caris")
    shutil.rmtree(tmp_path / "swin")
    shutil.rmtree(tmp_path / "bert")
    config = json.loads((tmp_path / "caris" / "config.json").read_text())
    assert config["model_class"] == "CARIS"
    assert config["vision"]["embed_dim"] == 8
    assert config["vision"]["drop_path_rate"] == config["drop_path"] == 0.4
    assert config["text"]["hidden_size"] == 24
    assert "tokenizer" not in config
    assert equal(CARIS.from_pretrained(tmp_path / "caris"), model)


def test_encoders_keep_their_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = AutoBackbone.from_config(AutoConfig.for_model(**SWIN, out_indices=[1, 2, 3, 4]))
    backbone.save_pretrained(tmp_path / "swin")
    bert = AutoModel.from_config(AutoConfig.for_model(**BERT))
    bert.save_pretrained(tmp_path / "bert")
    model = small_caris(seed=5, vision=tmp_path / "swin", text=str(tmp_path / "bert"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(model.vision(images), backbone.eval()(images).feature_maps, strict=True):
            assert torch.equal(ours, theirs)
        ids = torch.tensor([[2, 6, 7, 3]])
        theirs = bert.eval()(ids).last_hidden_state
        nothing = torch.zeros(1, 0, 24)
        torch.testing.assert_close(model.text(ids, torch.ones_like(ids), nothing), theirs, atol=1e-5, rtol=1e-5)


def test_a_backbone_that_is_saved_as_a_classifier(tmp_path: Path) -> None:
    from transformers import SwinConfig, SwinForImageClassification

    torch.manual_seed(0)
    config = SwinConfig(**{key: value for key, value in SWIN.items() if key != "model_type"})
    classifier = SwinForImageClassification(config)
    classifier.save_pretrained(tmp_path / "swin")
    model = small_caris(vision=str(tmp_path / "swin"))
    ours = model.vision.backbone.swin.encoder.state_dict()
    theirs = classifier.swin.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert model.vision.channels == [8, 16, 32, 64]


def test_load_model_finds_class_best_and_last(tmp_path: Path) -> None:
    last = save(tmp_path / "run" / "last", seed=1)
    loaded = load_model(tmp_path / "run")
    assert isinstance(loaded, CARIS)
    assert equal(loaded, last)
    best = save(tmp_path / "run" / "best", seed=2)
    assert equal(load_model(str(tmp_path / "run")), best)
    assert equal(load_model(tmp_path / "run" / "last"), last)
    assert model_folder(tmp_path / "run") == model_folder(tmp_path / "run" / "best") == tmp_path / "run" / "best"
    assert model_folder(tmp_path) is None


def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no model: there is no config\.json in it, nor in its best/"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no model: there is no config\.json"):
        CARIS.from_pretrained(tmp_path)
    save(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    good = config.read_text()
    for name in ("os", "Preprocess", "Trainer", None, 3):
        config.write_text(json.dumps(json.loads(good) | {"model_class": name}))
        with pytest.raises(ValueError, match=r"names the class .*, which is no model of maskris"):
            load_model(tmp_path / "a")
    config.write_text(json.dumps(json.loads(good) | {"model_class": "LAVT"}))
    with pytest.raises(ValueError, match="holds a LAVT, not a CARIS"):
        CARIS.from_pretrained(tmp_path / "a")
    config.write_text(good)
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no model\.safetensors beside its config\.json"):
        load_model(tmp_path / "a")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a")
    with pytest.raises(RuntimeError, match=r"decoder\.layers\.1\.gamma_v2l"):
        CARIS.from_pretrained(tmp_path / "a", layers=2)


def test_arguments_may_be_changed_while_loading(tmp_path: Path) -> None:
    save(tmp_path / "a")
    model = CARIS.from_pretrained(tmp_path / "a", drop_path=0.7, tokenizer=["something", "else"], max_tokens=5)
    assert model.config["drop_path"] == 0.7
    assert model.tokenizer.max_length == 5
    assert model.tokenizer(["something"]).input_ids.tolist() == [[2, 5, 3]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A download cache that holds `someone/caris`, with no network."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--caris"
    save(repository / "snapshots" / "abc", seed=3)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_models_from_the_hub(hub: Path) -> None:
    expected = small_caris(seed=3)
    for loaded in (
        CARIS.from_pretrained("someone/caris"),
        CARIS.from_pretrained("someone/caris", cache_dir=hub, local_files_only=True),
        load_model("someone/caris"),
    ):
        assert equal(loaded, expected)
        assert loaded.tokenizer(["red"]).input_ids.tolist() == expected.tokenizer(["red"]).input_ids.tolist()


def test_tokenizers_from_words_and_folders(tmp_path: Path) -> None:
    words = build_tokenizer(["a", "b", "##c"])
    assert words.convert_ids_to_tokens(list(range(8))) == [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c")
    ]
    assert words("A bc").input_ids == [2, 5, 6, 7, 3]
    whole = build_tokenizer(["[PAD]", "x", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    assert whole("x").input_ids == [3, 1, 4]
    words.save_pretrained(tmp_path)
    assert build_tokenizer(tmp_path)("a bc").input_ids == [2, 5, 6, 7, 3]
    assert build_tokenizer(words) is words
    assert isinstance(words, BertTokenizer)


@pytest.mark.parametrize(("red", "ids"), [("red", [2, 5, 6, 6, 3]), ("Red", [2, 5, 1, 6, 3])])
def test_a_vocabulary_alone_is_a_tokenizer(red: str, ids: list[int], tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", red]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for source in (tmp_path, str(tmp_path / "vocab.txt")):
        assert build_tokenizer(source)("the red Red").input_ids == ids
    AutoConfig.for_model(**BERT).save_pretrained(tmp_path)
    assert build_tokenizer(tmp_path)("the red Red").input_ids[:2] == [2, 5]
    (tmp_path / "vocab.txt").write_text("the\nred\n")
    with pytest.raises(ValueError, match=r"vocab.txt is no vocabulary of BERT.* lacks \[PAD\], \[UNK\]"):
        build_tokenizer(tmp_path / "vocab.txt")


class Blob(RISModel):
    """The least a model of one's own must do."""

    def __init__(self, gain: float = 1.0, preprocess: dict[str, Any] | None = None, tokenizer: Any = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(gain))
        self.set_inputs(preprocess, build_tokenizer(tokenizer or ["red"]), max_tokens=6)
        self.set_config()

    def encode_image(self, images: Tensor) -> Tensor:
        return images

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        return self.scale * features[image_index].mean(1, keepdim=True)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    Blob(gain=2.5, preprocess={"height": 8, "width": 8}).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["gain"] == 2.5
    assert config["model_class"] == "Blob"
    loaded = Blob.from_pretrained(tmp_path)
    assert loaded.scale.item() == 2.5
    assert loaded.preprocess.size == (8, 8)
    assert config["model_module"] == Blob.__module__
    assert load_model(tmp_path).scale.item() == load_model(tmp_path, Blob).scale.item() == 2.5
    with pytest.raises(ValueError, match="holds a Blob, not a CARIS"):
        CARIS.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a Blob, not a CARIS"):
        load_model(tmp_path, CARIS)


def test_code_that_a_file_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Blob().save_pretrained(tmp_path / "a")
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tmp_path / "a" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_module": "trap"}))
    message = (
        r"trap\.Blob, which is no model .* not run unasked; if it is yours: --model-class trap\.Blob, or load_model"
    )
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "a")
    assert load_model(tmp_path / "a", Blob).scale.item() == 1.0
    config.write_text(json.dumps({"model_class": "trap.Blob"}))
    with pytest.raises(ValueError, match=r"names the class 'trap\.Blob', which is no model of maskris"):
        load_model(tmp_path / "a")


def test_a_model_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line gives it: of a module in the working folder."""
    (tmp_path / "own_blob.py").write_text(f"import {__name__} as tests\n\n\nclass Own(tests.Blob): ...\n")
    monkeypatch.chdir(tmp_path)
    saved = Blob(gain=3.0)
    saved.save_pretrained(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    described = json.loads(config.read_text()) | {"model_class": "Own", "model_module": "own_blob"}
    config.write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"not run unasked; if it is yours: --model-class own_blob\.Own"):
        load_model(tmp_path / "a")
    assert type(load_model(tmp_path / "a", "own_blob.Own")).__name__ == "Own"
    with pytest.raises(ValueError, match=r"did you mean caris\?"):
        load_model(tmp_path / "a", "cari")


def test_a_model_inside_the_package_needs_no_entry_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in maskris/models is enough for its classes to be saved, and loaded where they aren't imported yet."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "mine.py").write_text(
        f"import {__name__} as tests\n\n\nclass Mine(tests.Blob): ...\n\n\nclass Other(tests.Blob): ...\n"
    )
    monkeypatch.setattr(maskris.models, "__path__", [*maskris.models.__path__, str(package)])
    for name, described in (("mine", None), ("maskris.models.mine.Other", "maskris.models.mine")):
        model_class: Any = find_class("model", name, RISModel)
        model_class(gain=2.0).save_pretrained(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["model_class"] == model_class.__name__
        assert config.get("model_module") == described
        monkeypatch.delitem(sys.modules, "maskris.models.mine")
        loaded = load_model(tmp_path / name)
        assert type(loaded).__name__ == model_class.__name__
        assert loaded.scale.item() == 2.0
        monkeypatch.delitem(sys.modules, "maskris.models.mine")
    config["model_module"] = "maskris.models.gone"
    (tmp_path / name / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"names the class 'maskris\.models\.gone\.Other', which is no model of maskris"
    ):
        load_model(tmp_path / name)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    """Safetensors 0.8 writes weights for their owner alone, so that colleagues and containers couldn't read a model."""
    before = os.umask(umask)
    try:
        save(tmp_path / "a")
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert "model.safetensors" in {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {mode}


def test_the_latest_class_of_a_name_is_taken(tmp_path: Path) -> None:
    """As in a notebook whose cell was run twice."""
    Blob().save_pretrained(tmp_path)
    again = [type("Blob", (Blob,), {"__module__": Blob.__module__}) for _ in range(3)]
    assert type(load_model(tmp_path)) is again[-1]


def test_foreground_logit() -> None:
    two = torch.randn(3, 2, 4, 5)
    torch.testing.assert_close(foreground_logit(two).sigmoid(), two.softmax(1)[:, 1])
    one = torch.randn(3, 1, 4, 5)
    assert torch.equal(foreground_logit(one), one[:, 0])
    with pytest.raises(ValueError, match="1 or 2 channels, not 3"):
        foreground_logit(torch.randn(1, 3, 2, 2))


def test_evaluation_mode_gives_every_module_its_mode_back() -> None:
    model = small_caris().train()
    model.text.eval()
    before = {name: module.training for name, module in model.named_modules()}
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == before
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert model.training


def test_the_public_names() -> None:
    assert maskris.CARIS is CARIS
    assert maskris.RISModel is RISModel


def test_a_model_without_token_features_says_which_ones_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(CARIS):
        token_features = RISModel.token_features

    model = small_caris()
    model.__class__ = Plain
    batch = small_batch(model)
    monkeypatch.setattr(CARIS, "token_features", lambda self, batch: (batch.images, batch.images))
    with pytest.raises(NotImplementedError, match=r"Plain does not define token_features.*models that do: .*CARIS"):
        model.token_features(batch)


def test_other_weights_are_lent_for_one_call() -> None:
    model, other = small_caris(0), small_caris(1)
    batch = small_batch(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = other(batch)
    logits = model.functional_forward(other.state_dict(), batch)
    # On some CPUs the last bit depends on where in memory tensors lie.
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    assert not logits.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
