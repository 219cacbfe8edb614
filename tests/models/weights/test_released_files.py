"""Released checkpoints by name, from a server in the place of the Hub and of Google Drive."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import FakeHub
from models.published import write_caris, write_lavt
from models.small_tris import WORDS
from models.test_clipseg import small_clipseg
from models.weights.test_tris import published as tris_file

from maskris.models.base import weights_sha256
from maskris.models.clipseg import CLIPSeg
from maskris.models.encoders.tokenizers import build_clip_tokenizer
from maskris.models.loading import load_model
from maskris.models.weights import released_files
from maskris.models.weights.convert import convert_checkpoint
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.released import released_models
from maskris.models.weights.released_files import is_cached, published_file, released_folder
from maskris.utils.download import DownloadError
from maskris.utils.files import sha256_of

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def left(caches: Path) -> set[str]:
    """Names of the files in our cache, without those of converted models and locks."""
    files = (
        path.relative_to(caches / "maskris" / "models") for path in (caches / "maskris").rglob("*") if path.is_file()
    )
    return {file.as_posix() for file in files if ".lock" not in file.name and "conversion-" not in file.parts[0]}


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_fetched_once_converted_and_cached(
    hub: FakeHub, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    before: list[int] = []
    folder = released_folder("caris-refcoco", say=lambda text: (said.append(text), before.append(len(hub.asked)))[0])
    assert before == [0], "everything is said before anything is asked for"
    assert said == [
        "caris-refcoco: CARIS, Swin-B, trained on RefCOCO\n"
        "  from huggingface.co/saliu/CARIS/standard/refcoco.pth (907 MB, license MIT)\n"
        "  with the vocabulary of bert-base-uncased (less than 1 MB)\n"
        f"  to {folder}"
    ]
    file = published / "CARIS" / "standard" / "refcoco.pth"
    assert json.loads((folder / "released.json").read_text()) == {
        "name": "caris-refcoco",
        "file": "huggingface.co/saliu/CARIS/standard/refcoco.pth",
        "sha256": sha256_of(file),
        "license": "MIT",
        "page": "https://huggingface.co/saliu/CARIS",
    }
    assert left(tmp_path / "caches") == {"sha256.json"}, "the published file is not kept"
    assert not list((tmp_path / "caches" / "hub").glob("models--saliu*")), "nor a copy in the Hub's cache"

    asked = len(hub.asked)
    offline(monkeypatch)
    model = load_model("caris-refcoco")
    assert len(hub.asked) == asked
    assert not model.training
    by_hand = convert_checkpoint(
        file, tmp_path / "by hand", options=ConversionOptions(tokenizer=str(published / "bert"))
    )
    assert weights_sha256(model) == weights_sha256(load_model(by_hand.out))
    weights = torch.load(file, weights_only=True)
    assert torch.equal(model.state_dict()["decoder.vis_prompts.weight"], weights["pixel_decoder.vis_prompts.weight"])
    assert model.preprocess.size == (448, 448)
    assert model.tokenizer(["the left man"]).input_ids.tolist() == [[2, 5, 6, 8, 3]]
    assert released_folder("caris-refcoco") == folder


def test_what_the_cache_of_the_hub_has_is_used_and_stays(
    hub: FakeHub, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with published_file("hf:saliu/CARIS/standard/refcoco.pth") as file:
        kept = file
    released_folder("caris-refcoco", say=[].append)
    assert hub.fetched("refcoco.pth") == 1
    assert kept.is_file()
    assert (tmp_path / "caches" / "hub") in kept.parents


@pytest.mark.parametrize("name", ["lavt-refcoco", "lavt-one-refcoco"])
def test_both_variants_of_lavt_from_google_drive(hub: FakeHub, published: Path, tmp_path: Path, name: str) -> None:
    said: list[str] = []
    model = load_model(released_folder(name, say=said.append))
    assert "(size unknown, license GPL-3.0)" in said[0]
    assert model.preprocess.size == (64, 64), "the size that the training script noted"
    weights = torch.load(published / "lavt_one.pth", weights_only=False)["model"]
    ours = model.state_dict()
    assert torch.equal(ours["decoder.last.weight"], weights["classifier.conv1_1.weight"])
    words = next(value for name, value in ours.items() if name.endswith("word_embeddings.weight"))
    assert torch.equal(words, weights["text_encoder.embeddings.word_embeddings.weight"])
    assert left(tmp_path / "caches") == {"sha256.json"}


def test_a_web_page_in_the_place_of_a_file_becomes_an_instruction(
    hub: FakeHub, published: Path, tmp_path: Path
) -> None:
    hub.drive.clear()
    with pytest.raises(DownloadError) as caught:
        released_folder("lavt-refcoco", say=[].append)
    message = str(caught.value)
    assert "it answers with a web page instead of the file" in message
    page = "https://drive.google.com/file/d/13D-OeEOijV8KTC3BkFP-gOJymc6DLwVT/view"
    assert f"open {page}, download the file, and give it: maskris models lavt-refcoco --from FILE" in message
    assert not list((tmp_path / "caches" / "maskris").rglob("*.pth*"))

    folder = released_folder("lavt-refcoco", source=published / "lavt.pth", say=[].append)
    assert type(load_model("lavt-refcoco")).__name__ == "LAVT"
    assert (published / "lavt.pth").is_file(), "the user's file stays"
    assert json.loads((folder / "released.json").read_text())["sha256"] == sha256_of(published / "lavt.pth")


def test_a_file_of_ones_own_takes_the_place_of_what_is_cached(hub: FakeHub, tmp_path: Path) -> None:
    first = weights_sha256(load_model("caris-refcoco"))
    shutil.rmtree(tmp_path / "caches" / "maskris")
    other = write_caris(tmp_path / "other.pth", seed=2)
    released_folder("caris-refcoco", source=other, say=[].append)
    assert weights_sha256(load_model("caris-refcoco")) != first
    assert "sha256.json" not in left(tmp_path / "caches"), "what a user gives is no measure for what is published"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no file"),
        (POINTER, "is a pointer of Git LFS and not yet the file itself"),
        ("\n<!DOCTYPE html><html>Sign in</html>", "is a web page and not the file itself"),
        ("not a checkpoint", "is damaged or no PyTorch checkpoint"),
        ("lavt", "holds lavt, but caris-refcoco is maskris"),
    ],
)
def test_a_wrong_file_of_ones_own(hub: FakeHub, tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "mine.pth"
    if content == "lavt":
        write_lavt(file, one=True)
    elif content is not None:
        file.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        released_folder("caris-refcoco", source=file, say=[].append)
    assert not is_cached(released_models()["caris-refcoco"])
    assert not list((tmp_path / "caches" / "maskris").rglob("config.json"))


def test_one_file_under_two_names_is_refused(hub: FakeHub, published: Path) -> None:
    """LAVT's files have no published hashes, and names of the user's own."""
    first = released_folder("lavt-refcoco", source=published / "lavt.pth", say=[].append)
    message = f"can't be lavt-refcoco\\+: lavt-refcoco in {first} was made of the same file"
    with pytest.raises(ValueError, match=message):
        released_folder("lavt-refcoco+", source=published / "lavt.pth", say=[].append)
    assert released_folder("lavt-refcoco", source=published / "lavt.pth", say=[].append) == first


def test_a_file_is_no_clipseg(hub: FakeHub, published: Path) -> None:
    with pytest.raises(ValueError, match=r"clipseg is a folder as transformers writes it, not a file like .*lavt\.pth"):
        released_folder("clipseg", source=published / "lavt.pth", say=[].append)


@pytest.mark.parametrize(("name", "hint"), [("caris-refcocco", "did you mean"), ("sam", "`maskris models` lists them")])
def test_a_name_that_is_not_there(name: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"There is no released checkpoint {name}; {hint}"):
        released_folder(name)


def test_a_damaged_model_in_the_cache_can_be_made_anew(hub: FakeHub) -> None:
    folder = released_folder("caris-refcoco", say=[].append)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"is damaged or no safetensors file .* Or remove {folder}, so that"):
        load_model("caris-refcoco")
    shutil.rmtree(folder)
    load_model("caris-refcoco")


def test_a_repository_of_released_files_is_no_model_but_has_their_names(hub: FakeHub) -> None:
    with pytest.raises(FileNotFoundError, match="no such file in it; released checkpoints of it are known as caris"):
        load_model("saliu/CARIS")


def test_a_cache_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKRIS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"can't be put into .*file: Not a directory; MASKRIS_CACHE names another"):
        released_folder("caris-refcoco")


def test_half_a_vocabulary_is_noticed_before_the_weights_are_fetched(
    hub: FakeHub, published: Path, tmp_path: Path
) -> None:
    """As when the Hub fails in the middle; transformers would make a tokenizer to which every word is unknown."""
    bert = tmp_path / "bert"
    bert.mkdir()
    shutil.copy(published / "bert" / "tokenizer_config.json", bert)
    whole, hub.repositories["bert-base-uncased"] = hub.repositories["bert-base-uncased"], bert
    with pytest.raises(DownloadError, match="no words are in the tokenizer bert-base-uncased"):
        released_folder("caris-refcoco", say=[].append)
    assert not hub.fetched("refcoco.pth")
    hub.repositories["bert-base-uncased"] = whole
    shutil.rmtree(tmp_path / "caches" / "hub")  # where it is noted that the commit has no such file
    assert load_model("caris-refcoco").tokenizer(["the man"]).input_ids.tolist() == [[2, 5, 8, 3]]


def test_another_file_under_the_same_address_is_refused(hub: FakeHub, published: Path, tmp_path: Path) -> None:
    """As when the cached model is of an older conversion and has to be made anew."""
    folder = released_folder("caris-refcoco", say=[].append)
    shutil.rmtree(folder)
    hub.repositories["saliu/CARIS"] = tmp_path / "replaced"
    write_caris(tmp_path / "replaced" / "standard" / "refcoco.pth", seed=5)
    first, second = (
        sha256_of(one / "standard" / "refcoco.pth") for one in (published / "CARIS", tmp_path / "replaced")
    )
    with pytest.raises(ValueError, match=f"recorded on first use .*: its SHA-256 is {second}, not {first}"):
        released_folder("caris-refcoco", say=[].append)
    assert not folder.exists()
    assert left(tmp_path / "caches") == {"sha256.json"}
    hub.repositories["saliu/CARIS"] = published / "CARIS"
    assert released_folder("caris-refcoco", say=[].append) == folder


def test_a_published_hash_is_held_against_the_file(hub: FakeHub, published: Path) -> None:
    entry = released_models()["caris-refcoco"]
    with pytest.raises(ValueError, match=r"is not the file of caris-refcoco that was published: its SHA-256 is"):
        released_folder(replace(entry, sha256="0" * 64), say=[].append)
    known = sha256_of(published / "CARIS" / "standard" / "refcoco.pth")
    assert released_folder(replace(entry, sha256=known), say=[].append).is_dir()


def test_a_damaged_first_download_is_neither_kept_nor_remembered(hub: FakeHub, published: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "lavt.pth"
    damaged.write_bytes((published / "lavt.pth").read_bytes()[:-1000])
    identifier = "13D-OeEOijV8KTC3BkFP-gOJymc6DLwVT"
    whole, hub.drive[identifier] = hub.drive[identifier], damaged
    with pytest.raises(ValueError, match=r"lavt-refcoco\.pth is damaged or no PyTorch checkpoint"):
        released_folder("lavt-refcoco", say=[].append)
    assert left(tmp_path / "caches") == set()
    hub.drive[identifier] = whole
    assert released_folder("lavt-refcoco", say=[].append).is_dir()


def test_an_interrupted_conversion_leaves_nothing_half_and_fetches_nothing_again(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("maskris.models.base.save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            released_folder("caris-refcoco", say=[].append)
    assert not list((tmp_path / "caches" / "maskris").rglob("config.json"))
    assert left(tmp_path / "caches") >= {"work/caris-refcoco/files/standard/refcoco.pth"}
    folder = released_folder("caris-refcoco", say=[].append)
    assert is_cached(released_models()["caris-refcoco"])
    assert hub.fetched("refcoco.pth") == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["caris-refcoco"]


def test_two_at_once_fetch_it_once(hub: FakeHub) -> None:
    folders, said = [], []
    threads = [
        threading.Thread(target=lambda: folders.append(released_folder("caris-refcoco", say=said.append)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    assert len(set(folders)) == 1
    assert hub.fetched("refcoco.pth") == 1
    assert sorted(text.split(":")[0] for text in said if text.startswith("caris")) == ["caris-refcoco"]
    assert "Another process is fetching caris-refcoco; waiting for it" in said


def test_a_newer_conversion_takes_the_place_of_an_older_one(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    old = released_folder("caris-refcoco", say=[].append)
    monkeypatch.setattr(released_files, "CONVERSION", released_files.CONVERSION + 1)
    new = released_folder("caris-refcoco", say=[].append)
    assert hub.fetched("refcoco.pth") == 2
    assert old.parents[1] == new.parents[1]
    assert (old.exists(), new.exists()) == (False, True)


def test_without_a_network_it_says_at_once_what_to_do(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(DownloadError) as caught:
        load_model("caris-refcoco")
    target = released_files.cached_folder(released_models()["caris-refcoco"])
    message = str(caught.value)
    assert message.startswith(
        "The vocabulary of caris-refcoco is not here yet: bert-base-uncased/tokenizer_config.json "
    )
    assert "offline mode is enabled" in message
    assert (
        f"`maskris models caris-refcoco` on another machine fetches it; copy the folder that it names to {target}"
        in message
    )
    assert hub.asked == []
    missing = "caris-refcoco is not here yet, and saliu/CARIS/standard/refcoco.pth can't be had from the Hub"
    with pytest.raises(DownloadError, match=missing), published_file("caris-refcoco", say=[].append):
        pass


def test_a_full_disk_is_said_first(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000_000)
    monkeypatch.setattr(released_files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        DownloadError, match=r"needs 1,814 MB in .* where 1,000 MB are free; MASKRIS_CACHE names another"
    ):
        released_folder("caris-refcoco", say=[].append)
    assert hub.asked == []


def test_clipseg_by_its_name(hub: FakeHub, tmp_path: Path) -> None:
    model, folder = small_clipseg(), tmp_path / "CIDAS"
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    hub.repositories["CIDAS/clipseg-rd64-refined"] = folder
    loaded = load_model("clipseg")
    assert isinstance(loaded, CLIPSeg)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert loaded.preprocess.size == (352, 352)
    assert torch.equal(loaded.tokenizer(["the red"]).input_ids, model.tokenizer(["the red"]).input_ids)
    assert left(tmp_path / "caches") == {"sha256.json"}
    released_folder("clipseg", source=folder, say=[].append)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"CIDAS holds no model\.safetensors"):
        released_folder("clipseg", source=folder, say=[].append)


@pytest.mark.parametrize(("stage", "kind"), [(1, "tris-localizer"), (2, "tris")])
def test_both_stages_of_tris_from_an_address_of_their_own(
    hub: FakeHub, shared: Path, tmp_path: Path, stage: int, kind: str
) -> None:
    entry = released_models()[f"tris-stage{stage}-refcoco"]
    assert entry.network == kind
    entry = replace(entry, url=f"{hub.address}/download?id=tris")
    build_clip_tokenizer(WORDS).save_pretrained(tmp_path / "clip")
    hub.repositories["openai/clip-vit-base-patch32"] = tmp_path / "clip"
    with pytest.raises(
        DownloadError, match=rf"download the file, and give it: maskris models {entry.name} --from FILE"
    ):
        released_folder(entry, say=[].append)  # a web page came instead
    torch.save({"model": tris_file(shared, kind)}, tmp_path / "tris.pth")
    hub.drive["tris"] = tmp_path / "tris.pth"
    folder = released_folder(entry, say=[].append)
    assert type(load_model(folder)).__name__ == {1: "TRISLocalizer", 2: "TRIS"}[stage]
    assert json.loads((folder / "released.json").read_text())["license"] == "MIT"


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError, match="There is no released checkpoint caris; `maskris models` lists them"):
        released_folder("caris")


def test_published_files_by_any_address(hub: FakeHub, published: Path, tmp_path: Path) -> None:
    expected = (published / "CARIS" / "standard" / "refcoco.pth").read_bytes()
    for source in (
        str(published / "CARIS/standard/refcoco.pth"),
        "caris-refcoco",
        "hf:saliu/CARIS/standard/refcoco.pth",
    ):
        with published_file(source, say=[].append) as file:
            assert file.read_bytes() == expected
        assert file.exists() is (source != "caris-refcoco")
    (tmp_path / "lavt-refcoco").write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with published_file("lavt-refcoco") as file:
            assert file.read_text() == "mine", "a file comes before a name"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:saliu/CARIS", "names no file; write hf:owner/name/path/file.pth"),
        ("hf:saliu/CARIS/none.pth", "saliu/CARIS/none.pth can't be had from the Hub .*: there is no such file in it"),
        ("hf:nobody/nothing/a.pth", "can't be had from the Hub .*: there is no such repository, or you have no access"),
        ("clipseg", "needs no conversion"),
    ],
)
def test_addresses_that_lead_nowhere(hub: FakeHub, source: str, message: str) -> None:
    with pytest.raises((ValueError, DownloadError), match=message), published_file(source, say=[].append):
        pass
