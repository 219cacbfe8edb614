import json
from pathlib import Path

import pytest
import torch
from training_toys import Averaged, ToyModel, TwoPasses, averages, same, toy_config, toy_model

from maskris.training import checkpoint
from maskris.training.checkpoint import (
    CheckpointError,
    check_same_run,
    load_state,
    load_training,
    recover,
    replace_folder,
    save_training,
)
from maskris.training.optimizer import make_optimizer


def trained():
    model = toy_model()
    optimizer = make_optimizer(model, toy_config())
    for seed in range(2):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        model.words.weight.grad = None  # an unused parameter has no moments
        optimizer.step()
    return model, optimizer


def test_weights_and_moments_come_back_bit_for_bit(tmp_path):
    model, optimizer = trained()
    save_training(tmp_path / "last", model, optimizer, TwoPasses(), {"step": 2, "loss": 0.1})
    assert load_state(tmp_path / "last") == {"step": 2, "loss": 0.1}
    again = ToyModel()
    restored = make_optimizer(again, toy_config())
    load_training(tmp_path / "last", again, restored, TwoPasses())
    assert same(again.state_dict(), model.state_dict())
    old, new = optimizer.state_dict()["state"], restored.state_dict()["state"]
    assert old.keys() == new.keys()
    assert len(old) == 4  # five parameters, one without gradient
    assert all(same(old[i], new[i]) for i in old)
    assert same(ToyModel.from_pretrained(tmp_path / "last").state_dict(), model.state_dict())


def test_the_state_of_a_strategy_comes_back_bit_for_bit(tmp_path):
    model, optimizer = trained()
    strategy, restored = Averaged(), Averaged()
    strategy.after_step(model, 0)
    with torch.no_grad():
        model.head.weight.add_(1)
    strategy.after_step(model, 1)
    save_training(tmp_path / "last", model, optimizer, strategy, {"step": 2})
    assert not same(averages(tmp_path), model.state_dict())
    load_training(tmp_path / "last", model, optimizer, restored)
    assert same(restored.state_dict(), strategy.state_dict())
    with pytest.raises(CheckpointError, match=r"can't be continued: TwoPasses keeps no state, but was given constant"):
        load_training(tmp_path / "last", model, optimizer, TwoPasses())
    save_training(tmp_path / "last", model, optimizer, TwoPasses(), {"step": 2})
    assert not (tmp_path / "last" / "strategy.safetensors").exists()


def test_nothing_is_pickled(tmp_path):
    save_training(tmp_path / "last", *trained(), TwoPasses(), {"step": 2})
    assert {path.suffix for path in (tmp_path / "last").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
    }


def test_another_model_is_refused(tmp_path):
    save_training(tmp_path / "last", *trained(), TwoPasses(), {"step": 2})
    wider = ToyModel(width=5)
    with pytest.raises(CheckpointError, match=r"holds another model(.|\n)*image\.weight"):
        load_training(tmp_path / "last", wider, make_optimizer(wider, toy_config()), TwoPasses())


def test_best_can_not_be_continued(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no state\.json in it. Give the `last` folder"):
        load_state(tmp_path)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def write(folder: Path, text: str) -> None:
    with replace_folder(folder) as new:
        (new / "deep").mkdir()
        (new / "deep" / "a").write_text(text)
        (new / "b").write_text(text)


@pytest.mark.parametrize("moment", range(13))
def test_a_kill_at_any_moment_leaves_a_complete_folder(tmp_path, monkeypatch, moment):
    folder = tmp_path / "last"
    write(folder, "old")
    calls = 0

    def dying(function):
        def call(*arguments, **options):
            nonlocal calls
            if calls >= moment:
                raise Killed  # before, and for every clean-up that follows
            calls += 1
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", dying(checkpoint.os.fsync))
        patch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))
        patch.setattr(Path, "rename", dying(Path.rename))
        patch.setattr(Path, "write_text", dying(Path.write_text))
        try:
            write(folder, "new")
        except Killed:
            died = True
        else:
            died = False
    assert died == (moment < 12)
    recover(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"last"}
    texts = {(folder / "deep" / "a").read_text(), (folder / "b").read_text()}
    assert texts in ({"old"}, {"new"})
    write(folder, "newer")  # and the next writing finds nothing in its way
    assert (folder / "b").read_text() == "newer"


def test_a_first_writing_that_was_cut_off_leaves_nothing(tmp_path):
    (tmp_path / ".last.new").mkdir()
    (tmp_path / ".last.new" / "model.safetensors").write_text("half")
    recover(tmp_path / "last")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_while_writing_keeps_the_old_folder(tmp_path):
    write(tmp_path / "last", "old")
    with pytest.raises(OSError, match="full"), replace_folder(tmp_path / "last"):
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    assert (tmp_path / "last" / "b").read_text() == "old"


def test_another_run_is_named_key_by_key(tmp_path):
    old = json.loads(json.dumps({"seed": 1, "lr": 0.1, "ratios": (0.8, 0.1)}))
    check_same_run(old, {"seed": 1, "lr": 0.1, "ratios": (0.8, 0.1)}, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        check_same_run(old, {"seed": 2, "lr": 0.1, "ratios": (0.8, 0.1), "clip": None}, tmp_path)
    text = str(caught.value)
    assert "seed: 1 in the checkpoint, 2 now" in text
    assert "clip: nothing in the checkpoint, None now" in text
    assert "lr" not in text


def test_damaged_counters_are_named(tmp_path):
    (tmp_path / "state.json").write_text('{"step": ')
    with pytest.raises(ValueError, match=r"state\.json is damaged or no JSON object"):
        load_state(tmp_path)
