"""A model folder with a file that is missing, cut off or another: the error says which, and what to do."""

import json
import shutil
from pathlib import Path

import pytest
from models.small import small_caris

from maskris import CARIS
from maskris.models.loading import load_model
from maskris.utils.files import read_json, read_tensors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    small_caris().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("httpx.Client.send", lambda *_, **__: pytest.fail("the Hub was asked"))
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
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(FileNotFoundError, match=f"{folder} holds no whole model: there is no folder tokenizer in it"):
        load_model(folder)


def test_whole_files_are_read(folder: Path) -> None:
    assert read_json(folder / "config.json") == json.loads((folder / "config.json").read_text())
    assert read_tensors(folder / "model.safetensors").keys() == small_caris().state_dict().keys()
