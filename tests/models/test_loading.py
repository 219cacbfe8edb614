"""A model folder with a file that is missing, cut off or another: the error says which, and what to do."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from models.small import BERT, small_caris
from models.test_clipseg import small_clipseg
from transformers import BertConfig

from maskris import CARIS, LAVT, CLIPSeg
from maskris.models.folder import may_be_model
from maskris.models.loading import load_model, locate_model
from maskris.utils.files import read_json, read_tensors

EVERY_CLIENT = [name for name in ("httpx", "httpx2") if find_spec(name)]  # huggingface_hub has changed between them
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in EVERY_CLIENT:
        monkeypatch.setattr(f"{library}.Client.send", lambda *_, **__: pytest.fail("the Hub was asked"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    small_caris().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    no_network(monkeypatch)
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.mark.parametrize("load", [load_model, CARIS.from_pretrained])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", -100, "is damaged or no safetensors file ("),
        ("model.safetensors", 0, "is damaged or no safetensors file ("),
        (
            "model.safetensors",
            POINTER,
            "is a pointer of Git LFS and not yet the file itself; `git lfs pull`",
        ),
        ("config.json", -5, "is damaged or no JSON object ("),
        ("config.json", "[1]", "is damaged or no JSON object (it holds [1]); copy or download it again"),
        ("config.json", POINTER, "is a pointer of Git LFS"),
        ("tokenizer/tokenizer.json", POINTER, "is a pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_named(load, folder: Path, name: str, content: str | int, message: str) -> None:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else file.read_bytes()[:content])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        load(folder)
    assert str(caught.value).startswith(f"{file} {message}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_tokenizer_is_not_looked_for_on_the_hub(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=f"{folder / 'tokenizer'} is damaged or no folder of a tokenizer"):
        load_model(folder)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no words are in the tokenizer .*; its vocabulary is missing"):
        load_model(folder)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(FileNotFoundError, match=f"{folder} holds no whole model: there is no folder tokenizer in it"):
        load_model(folder)


def test_whole_files_are_read(folder: Path) -> None:
    assert read_json(folder / "config.json") == json.loads((folder / "config.json").read_text())
    assert read_tensors(folder / "model.safetensors").keys() == small_caris().state_dict().keys()


# What a model's name may be


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("caris-refcocco", "There is no folder caris-refcocco; did you mean caris-refcoco?"),
        ("lavt-one-refcocog-goog", "did you mean lavt-one-refcocog-google?"),
        ("nothing", "There is no folder nothing; a model is a folder, a name of `maskris models` or a Hub id"),
        ("a/b/c", "There is no folder a/b/c; a model is"),
    ],
)
def test_names_without_a_model_ask_nobody(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    no_network(monkeypatch)
    with pytest.raises(FileNotFoundError) as caught:
        load_model(name)
    assert message in str(caught.value)


def test_a_folder_comes_before_a_released_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "caris-refcoco")
    assert locate_model("caris-refcoco") == Path("caris-refcoco")
    assert isinstance(load_model("caris-refcoco"), CARIS)
    (tmp_path / "lavt-refcoco").mkdir()  # such as the folder of results
    with pytest.raises(FileNotFoundError, match=r"lavt-refcoco holds no model: .* It hides the released lavt-refcoco"):
        load_model("lavt-refcoco")


def test_what_may_be_a_model(tmp_path: Path) -> None:
    assert all(map(may_be_model, ["caris-refcoco+", "owner/name", tmp_path]))
    assert not any(map(may_be_model, ["caris-refcocco", "a/b/c", "./name", tmp_path / "none"]))


def test_a_hub_id_that_is_not_there(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no folder runs/none, and runs/none/config.json can't be had .* no such"
    ):
        load_model("runs/none")
    assert [line for line in hub.asked if "runs/none" in line] == ["HEAD /runs/none/resolve/main/config.json"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "best.pth",
            b"\x80\x02",
            "is a file of weights: `maskris convert {} --out FOLDER` makes a model of",
        ),
        ("model.safetensors", b"12", "is a file of weights"),
        (
            "best.pth",
            POINTER.encode(),
            "is a pointer of Git LFS and not yet the file itself; `git lfs pull` fetches it",
        ),
        ("best.pth", b"<!doctype HTML><html>", "is a web page and not the file itself"),
        ("notes.txt", b"", "is a file; a model is a folder"),
    ],
)
def test_a_file_is_no_model_and_is_told_what_it_is(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        load_model(file)
    assert str(caught.value).startswith(f"{file} {message.format(file)}")


def test_weights_in_a_folder_without_a_model_are_told(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"holds no model: .*; .*best\.pth is a file of weights: `maskris convert"
    ):
        load_model(tmp_path)


# What transformers has written


@torch.no_grad()
@pytest.mark.parametrize("model_class", [None, CLIPSeg, "clipseg"])
def test_a_raw_clipseg_folder_or_hub_id(
    hub: FakeHub,
    tmp_path: Path,
    model_class: type[CLIPSeg] | str | None,
) -> None:
    model = small_clipseg()
    model.model.save_pretrained(tmp_path / "theirs")
    model.tokenizer.save_pretrained(tmp_path / "theirs")
    hub.repositories["someone/clipseg"] = tmp_path / "theirs"
    images, words = torch.rand(1, 3, 64, 64), model.tokenizer(["the red circle"])
    batch = words.input_ids, words.attention_mask, torch.tensor([0])
    expected = model.segment(model.encode_image(images), *batch)
    for source in (tmp_path / "theirs", "someone/clipseg"):
        loaded = load_model(source, model_class)
        assert isinstance(loaded, CLIPSeg)
        assert not loaded.training
        torch.testing.assert_close(loaded.segment(loaded.encode_image(images), *batch), expected, rtol=0, atol=1e-6)


def test_a_clipseg_without_its_tokenizer_takes_that_of_openai(hub: FakeHub, tmp_path: Path) -> None:
    model = small_clipseg()
    model.model.save_pretrained(tmp_path / "theirs")
    model.tokenizer.save_pretrained(tmp_path / "openai")
    hub.repositories["openai/clip-vit-base-patch16"] = tmp_path / "openai"
    loaded = load_model(tmp_path / "theirs")
    assert torch.equal(loaded.tokenizer(["the red"]).input_ids, model.tokenizer(["the red"]).input_ids)


def test_other_models_of_transformers_are_told(tmp_path: Path) -> None:
    BertConfig(**{key: value for key, value in BERT.items() if key != "model_type"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a bert of transformers, which segments nothing by itself"):
        load_model(tmp_path)
    model = small_clipseg()
    model.model.save_pretrained(tmp_path / "clipseg")
    model.tokenizer.save_pretrained(tmp_path / "clipseg")
    with pytest.raises(ValueError, match="holds a CLIPSeg of transformers, not a LAVT"):
        load_model(tmp_path / "clipseg", LAVT)
