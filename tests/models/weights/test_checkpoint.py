"""Checkpoint files: all kinds are read, none of them executed."""

import argparse
import collections
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maskris.models.weights.checkpoint import read_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Harmful:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def fill(argument: Any, trace: Path) -> Any:
    if isinstance(argument, list):
        return [fill(part, trace) for part in argument]
    return argument.format(trace) if isinstance(argument, str) else argument


def same(weights: dict[str, torch.Tensor]) -> bool:
    return list(weights) == list(WEIGHTS) and all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)


@FORMATS
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
@pytest.mark.parametrize("nesting", [(), ("model",), ("state_dict",), ("state_dict", "model")])
def test_nested_weights(tmp_path: Path, zipped: bool, prefix: str, nesting: tuple[str, ...]) -> None:
    contents: Any = collections.OrderedDict((prefix + name, value) for name, value in WEIGHTS.items())
    for key in reversed(nesting):
        contents = {"epoch": 3, key: contents}
    torch.save(contents, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert same(checkpoint.weights)
    assert checkpoint.others == ("epoch",) * len(nesting)


@FORMATS
def test_what_a_training_script_leaves_behind(tmp_path: Path, zipped: bool) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    contents = {
        "model": WEIGHTS,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "args": argparse.Namespace(img_size=480, swin_type="base", device=torch.device("cpu"), ratios=[0.8, 0.1]),
        "best": [np.float64(61.5), np.float32(0.5), np.int64(7), np.bool_(True)],
    }
    torch.save(contents, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert same(checkpoint.weights)
    assert checkpoint.arguments["img_size"] == 480
    assert checkpoint.arguments["ratios"] == [0.8, 0.1]
    assert checkpoint.others == ("optimizer", "lr_scheduler", "scaler", "best")


def test_numpy_scalars_of_old_files(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "best": np.float64(61.5)}, tmp_path / "new.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "new.pth").read_bytes()
    assert b"numpy._core.multiarray" in data or b"numpy.core.multiarray" in data
    (tmp_path / "old.pth").write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert same(read_checkpoint(tmp_path / "old.pth").weights)


@FORMATS
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}",), f"{os.system.__module__}.system"),
        (eval, ("open('{}', 'w')",), "eval"),
        (exec, ("open('{}', 'w')",), "exec"),
        (subprocess.check_output, (["touch", "{}"],), "check_output"),
        (getattr, ("", "upper"), "getattr"),
        (collections.defaultdict, (list,), "collections.defaultdict"),
    ],
)
@pytest.mark.parametrize("place", ["beside", "namespace", "weights", "top"])
def test_code_is_refused_by_name_and_not_run(
    tmp_path: Path, zipped: bool, function: Any, arguments: Any, name: str, place: str
) -> None:
    trace = tmp_path / "trace"
    bad = Harmful(function, *(fill(argument, trace) for argument in arguments))
    contents: Any = {
        "beside": {"model": WEIGHTS, "extra": bad},
        "namespace": {"model": WEIGHTS, "args": argparse.Namespace(hook=bad)},
        "weights": {"model": {**WEIGHTS, "b": bad}},
        "top": bad,
    }[place]
    torch.save(contents, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"was refused: it asks for \S*{name}"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trace.exists()


def test_an_archive_of_something_else_asks_for_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("refcoco/instances.json", "{}")
    with pytest.raises(ValueError, match="is damaged or no PyTorch checkpoint: RuntimeError") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert "refused" not in str(caught.value)
    assert "PyTorch." not in str(caught.value), "no advice to report it"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_bare_pickles_are_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Harmful(os.system, f"touch {trace}"), protocol=protocol))
    with pytest.raises(ValueError, match=r"was refused|is damaged"):
        read_checkpoint(tmp_path / "a.pth")
    assert not trace.exists()


def test_scalars_of_objects_are_refused(tmp_path: Path) -> None:
    scalar = np.float64(1).__reduce__()[0]
    torch.save({"model": WEIGHTS, "x": Harmful(scalar, np.dtype("O"), b"")}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="was refused"):
        read_checkpoint(tmp_path / "a.pth")


def test_the_allowance_ends_with_the_call(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "args": argparse.Namespace(a=1)}, tmp_path / "a.pth")
    read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError, match="argparse"):
        torch.load(tmp_path / "a.pth", weights_only=True)


def test_safetensors(tmp_path: Path) -> None:
    save_file({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "a.safetensors")
    assert same(dict(sorted(read_checkpoint(tmp_path / "a.safetensors").weights.items(), reverse=True)))
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"b\.safetensors is damaged or no safetensors file"):
        read_checkpoint(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (torch.ones(3), "holds a Tensor, not a dictionary"),
        ({}, "at its top, but nothing"),
        ({"model": {}}, "at its top, but nothing"),
        ({"weights": WEIGHTS, "epoch": 1}, "but 'weights', 'epoch'"),
        ({"model": {"a": torch.ones(1), "b": 3}}, "but 'a', 'b'"),
    ],
)
def test_files_without_weights(tmp_path: Path, contents: Any, message: str) -> None:
    torch.save(contents, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 and no more", b"\x80\x02}q\x00."])
def test_damaged_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.pth is damaged or no PyTorch checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<html></html>", "a web page and not the file"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git"),
    ],
)
def test_what_stands_in_the_place_of_a_file(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.pth is {what}"):
        read_checkpoint(tmp_path / "a.pth")


def test_cut_files(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save({"model": WEIGHTS}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        data = (tmp_path / "a.pth").read_bytes()
        for part in (len(data) // 3, len(data) - 10):
            (tmp_path / "a.pth").write_bytes(data[:part])
            with pytest.raises(ValueError, match=r"a\.pth is damaged"):
                read_checkpoint(tmp_path / "a.pth")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file"):
        read_checkpoint(tmp_path)
