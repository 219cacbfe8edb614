import pytest
import torch
from training_toys import Averaged, ToyModel, TwoPasses, averages, same, toy_config, toy_model

from maskris.training.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint
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
    save_checkpoint(tmp_path / "last", model, optimizer, TwoPasses(), {"step": 2, "loss": 0.1})
    assert load_state(tmp_path / "last") == {"step": 2, "loss": 0.1}
    again = ToyModel()
    restored = make_optimizer(again, toy_config())
    load_checkpoint(tmp_path / "last", again, restored, TwoPasses())
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
    save_checkpoint(tmp_path / "last", model, optimizer, strategy, {"step": 2})
    assert not same(averages(tmp_path), model.state_dict())
    load_checkpoint(tmp_path / "last", model, optimizer, restored)
    assert same(restored.state_dict(), strategy.state_dict())
    with pytest.raises(CheckpointError, match=r"can't be continued: TwoPasses keeps no state, but was given constant"):
        load_checkpoint(tmp_path / "last", model, optimizer, TwoPasses())
    save_checkpoint(tmp_path / "last", model, optimizer, TwoPasses(), {"step": 2})
    assert not (tmp_path / "last" / "strategy.safetensors").exists()


def test_nothing_is_pickled(tmp_path):
    save_checkpoint(tmp_path / "last", *trained(), TwoPasses(), {"step": 2})
    assert {path.suffix for path in (tmp_path / "last").rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
    }


def test_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "last", *trained(), TwoPasses(), {"step": 2})
    wider = ToyModel(width=5)
    with pytest.raises(CheckpointError, match=r"holds another model(.|\n)*image\.weight"):
        load_checkpoint(tmp_path / "last", wider, make_optimizer(wider, toy_config()), TwoPasses())


def test_best_can_not_be_continued(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no state\.json in it. Give the `last` folder"):
        load_state(tmp_path)


def test_damaged_counters_are_named(tmp_path):
    (tmp_path / "state.json").write_text('{"step": ')
    with pytest.raises(ValueError, match=r"state\.json is damaged or no JSON object"):
        load_state(tmp_path)
