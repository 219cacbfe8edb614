"""CLIP's weights from every kind of file they come in, and no code from any."""

import io
import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from models.clip.test_towers import RESNET, TEXT, VIT, theirs
from safetensors.torch import save_file
from torch import Tensor, nn

from maskris.models.clip.towers import CLIP
from maskris.models.weights.checkpoint import is_torchscript, read_checkpoint, read_torchscript
from maskris.models.weights.encoders import build_clip, read_clip

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")


_BLOCK = {"self_attn.out_proj": "attn.out_proj", "layer_norm": "ln_", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def openai_names(clip: CLIP) -> dict[str, Tensor]:
    """The state of a CLIP as OpenAI's files have it, with the temperature and without CRIS's branch."""
    weights: dict[str, Tensor] = {"logit_scale": torch.tensor(4.6)}
    projections: dict[str, dict[str, Tensor]] = {}
    for ours, value in clip.state_dict().items():
        name = re.sub(r"^(visual\.|)blocks\.", r"\1transformer.resblocks.", ours.removeprefix("text."))
        if "resblocks" in name:
            for old, new in _BLOCK.items():
                name = name.replace(old, new)
        if match := re.fullmatch(r"(.+)\.self_attn\.([qkv])_proj\.(.+)", name):
            projections.setdefault(f"{match[1]}.attn.in_proj_{match[3]}", {})[match[2]] = value
        elif ".connect." not in name:
            weights[name] = value
    return weights | {name: torch.cat([parts[part] for part in "qkv"]) for name, parts in projections.items()}


class Node(nn.Module):
    """A module with parameters, buffers and children by name, as scripting needs them."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def as_module(weights: dict[str, Tensor], buffers: tuple[str, ...] = ("running_", "num_batches")) -> nn.Module:
    root = Node()
    for name, value in weights.items():
        *path, last = name.split(".")
        node: nn.Module = root
        for part in path:
            if part not in node._modules:
                node.add_module(part, Node())
            node = node._modules[part]  # type: ignore[assignment]
        if last.startswith(buffers) or not value.is_floating_point():
            node.register_buffer(last, value)
        else:
            node.register_parameter(last, nn.Parameter(value))
    return root


def archive(weights: dict[str, Tensor], path: Path) -> Path:
    """As OpenAI publishes it: scripted, and in half precision."""
    module = as_module(weights | {"input_resolution": torch.tensor(64)}).half().eval()
    torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture(params=[RESNET, VIT], ids=["ResNet", "ViT"])
def clip(request: pytest.FixtureRequest) -> CLIP:
    torch.manual_seed(0)
    model = CLIP(**request.param, **TEXT).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_((value + 0.1 * torch.rand_like(value)).half())  # what half precision can hold
        if name.endswith("num_batches_tracked"):
            value.fill_(17)
    return model


def assert_same(built: CLIP, clip: CLIP) -> None:
    assert built.config == clip.config
    assert {value.dtype for value in built.parameters()} == {torch.float32}
    ours = built.state_dict()
    for name, value in clip.state_dict().items():
        assert ".connect." in name or torch.equal(ours[name], value), name


def test_openais_archive(clip: CLIP, tmp_path: Path) -> None:
    path = archive(openai_names(clip), tmp_path / "clip.pt")
    assert is_torchscript(path)
    weights = read_clip(path)
    reference = torch.jit.load(str(path)).state_dict()
    assert set(weights) >= set(reference)
    for name, value in reference.items():
        assert weights[name].dtype == value.dtype
        assert torch.equal(weights[name], value), name
    assert weights["visual.conv1.weight"].dtype == torch.float16
    assert_same(build_clip(path), clip)


def test_plain_attributes_of_a_module_do_no_harm(tmp_path: Path) -> None:
    class Rich(nn.Module):
        numbers: list[int]
        names: dict[str, int]
        maps: list[Tensor]

        def __init__(self) -> None:
            super().__init__()
            self.numbers, self.names, self.word = [1, 2], {"a": 1}, "x"
            self.maps = [torch.ones(2)]
            self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)  # not contiguous
            self.tied = self.weight
            self.empty = nn.Parameter(torch.empty(0, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.numbers[0] * self.names["a"] * self.maps[0].sum()

    module = Rich()
    torch.jit.save(torch.jit.script(module), str(tmp_path / "rich.pt"))
    weights = read_torchscript(tmp_path / "rich.pt")
    assert set(weights) == {"weight", "tied", "empty"}
    assert torch.equal(weights["weight"], module.weight)
    assert weights["weight"].data_ptr() == weights["tied"].data_ptr()
    assert weights["empty"].shape == (0, 3)


@pytest.mark.parametrize("kind", ["zip", "legacy", "state_dict", "module", "safetensors"])
def test_state_dicts(clip: CLIP, tmp_path: Path, kind: str) -> None:
    weights: Any = openai_names(clip)
    path = tmp_path / f"clip.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        if kind == "state_dict":
            weights = {"epoch": 3, "state_dict": weights}
        if kind == "module":
            weights = OrderedDict((f"module.{name}", value) for name, value in weights.items())
        torch.save(weights, path, _use_new_zipfile_serialization=kind != "legacy")
    assert not is_torchscript(path)
    assert_same(build_clip(str(path)), clip)


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    model = theirs()
    model.save_pretrained(tmp_path)
    weights = read_clip(tmp_path)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    built = build_clip(tmp_path)
    with torch.no_grad():
        expected = model.text_model(torch.tensor([[28, 3, 29]])).last_hidden_state
        torch.testing.assert_close(built.eval().text(torch.tensor([[28, 3, 29]]))[0], expected, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trained with the exact GELU"):
        read_clip(tmp_path)


def test_a_folder_of_openclip(clip: CLIP, tmp_path: Path) -> None:
    folder = tmp_path / "resnet50_clip.openai"
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in openai_names(clip).items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 24}}))
    assert_same(build_clip(folder), clip)
    for folder_name, flag, fits in (("yfcc", None, False), ("openai", False, False), ("mine", True, True)):
        config = {"model_cfg": {} if flag is None else {"quick_gelu": flag}}
        folder = folder.rename(tmp_path / folder_name)
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        if fits:
            assert_same(build_clip(folder), clip)
        else:
            with pytest.raises(ValueError, match="trained with the exact GELU"):
                build_clip(folder)


def test_positions_for_another_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip = CLIP(**VIT, **TEXT).eval()
    torch.save(openai_names(clip), tmp_path / "clip.pt")
    larger = build_clip(tmp_path / "clip.pt", image_resolution=48).eval()
    assert larger.config["image_resolution"] == 48
    assert larger.visual.positional_embedding.shape == (37, 128)
    images = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(larger.visual(images), clip.visual(images))
    assert build_clip(VIT | TEXT, image_resolution=48).config["image_resolution"] == 48


class Harmful:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ["touch {}"], r"(?:posix|nt)\.system"),
        (eval, ["open('{}', 'w')"], r"__builtin__\.eval"),
        (torch.jit.load, ["{}"], r"torch\.jit\._serialization\.load"),
        (torch.load, ["{}"], r"torch\.serialization\.load"),
        (getattr, [[], "append"], r"__builtin__\.getattr"),
    ],
)
def test_code_in_an_archive_is_refused(
    clip: CLIP, tmp_path: Path, function: Any, arguments: list[Any], named: str
) -> None:
    """The pickle of a real archive is replaced by one that would call something."""
    good = archive(openai_names(clip), tmp_path / "good.pt")
    trace = tmp_path / "trace"
    filled = [value.format(trace) if isinstance(value, str) else value for value in arguments]
    smuggled = pickle.dumps({"weights": Harmful(function, *filled)}, protocol=2)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "bad.pt", "w") as target:
        for entry in source.infolist():
            target.writestr(entry, smuggled if entry.filename.endswith("data.pkl") else source.read(entry))
    with pytest.raises(ValueError, match=rf"bad\.pt was refused: it asks for ({named}), which is no module"):
        read_clip(tmp_path / "bad.pt")
    assert not trace.exists()


def test_the_code_of_an_archive_is_never_compiled(clip: CLIP, tmp_path: Path) -> None:
    good = archive(openai_names(clip), tmp_path / "good.pt")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "odd.pt", "w") as target:
        for entry in source.infolist():
            if "/code/" in entry.filename:
                target.writestr(entry.filename, "this is no program")
            elif not entry.filename.endswith("constants.pkl"):
                target.writestr(entry, source.read(entry))
    assert_same(build_clip(tmp_path / "odd.pt"), clip)


def zipped(path: Path, pickled: bytes, storages: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/code/__torch__.py", "")
        file.writestr("a/data.pkl", pickled)
        for key, data in storages.items():
            file.writestr(f"a/data/{key}", data)
    return path


class Storage:
    """Pickled as a reference to a storage of `elements` half-precision numbers."""

    def __init__(self, key: str, elements: int) -> None:
        self.id = ("storage", torch.HalfStorage, key, "cpu", elements)


def pickled(value: Any) -> bytes:
    file = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return thing.id if isinstance(thing, Storage) else None

    Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Harmful:
    return Harmful(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


@pytest.mark.parametrize(
    ("value", "storages", "message"),
    [
        (tensor(Storage("0", 4), 0, (9,), (1,)), {"0": bytes(8)}, "damaged or no TorchScript archive"),
        (tensor(Storage("0", 4), 0, (4,), (1,)), {"0": bytes(6)}, "has 6 bytes, not 4 of torch.float16"),
        (tensor(Storage("1", 4), 0, (4,), (1,)), {"0": bytes(8)}, "damaged or no TorchScript archive"),
        (tensor([1, 2], 0, (2,), (1,)), {}, "refused: it asks for a tensor made of list"),
        ([1, 2, 3], {}, "A module was expected in the archive, not a list"),
    ],
)
def test_tensors_stay_inside_their_bytes(tmp_path: Path, value: Any, storages: dict[str, bytes], message: str) -> None:
    path = zipped(tmp_path / "clip.pt", pickled(value), storages)
    with pytest.raises(ValueError, match=message):
        read_torchscript(path)


def test_damaged_archives_are_called_damaged(clip: CLIP, tmp_path: Path) -> None:
    data = archive(openai_names(clip), tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.pt is damaged"):
        read_clip(tmp_path / "cut.pt")
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as file:
        file.writestr("a/code/b.py", "")
    with pytest.raises(ValueError, match=r"empty\.pt is damaged or no TorchScript archive: .*no data\.pkl"):
        read_clip(tmp_path / "empty.pt")


def test_what_is_no_clip_is_named(clip: CLIP, tmp_path: Path) -> None:
    weights = openai_names(clip)
    torch.save({name: value for name, value in weights.items() if "ln_final" not in name}, tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"no whole CLIP: .*\(2 problem\(s\)\):\n  nothing .* for text\.ln_final"):
        build_clip(tmp_path / "less.pt")
    torch.save(weights | {"head.weight": torch.ones(3)}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match=r"unknown key head\.weight"):
        build_clip(tmp_path / "more.pt")
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt holds no whole CLIP: .*text_projection is missing"):
        build_clip(tmp_path / "other.pt")
    torch.save(theirs().state_dict() | {"text_model.nothing": torch.ones(1)}, tmp_path / "theirs.pt")
    with pytest.raises(ValueError, match=r"unknown key text_model\.nothing"):
        build_clip(tmp_path / "theirs.pt")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt"):
        read_clip(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="There is no CLIP RN52: give RN50, RN101, ViT-B/16, ViT-B/32, a file"):
        read_clip("RN52")
    with pytest.raises(FileNotFoundError, match=r"holds no CLIP: there is no open_clip_model\.safetensors with"):
        read_clip(tmp_path)


def test_names_of_openai_stand_for_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def offline(repository: str, file: str) -> str:
        asked.append((repository, file))
        raise OSError("no network")

    monkeypatch.setattr("maskris.models.weights.encoders.hf_hub_download", offline)
    for name, repository in (("RN50", "timm/resnet50_clip.openai"), ("ViT-B/16", "openai/clip-vit-base-patch16")):
        with pytest.raises(FileNotFoundError, match="can it be had from the Hub: no network"):
            read_clip(name)
        assert asked[-1] == (repository, "open_clip_model.safetensors")


def test_a_state_dict_is_read_as_ever(clip: CLIP, tmp_path: Path) -> None:
    torch.save(openai_names(clip), tmp_path / "clip.pt")
    assert set(read_checkpoint(tmp_path / "clip.pt").weights) == set(read_clip(tmp_path / "clip.pt"))
