"""Training that starts from a trained model: its weights, nothing else, and only once."""

import shutil
import signal

import pytest
import torch
from training_toys import WORDS, KillSelf, ToyModel, TwoPasses, same, toy_run, weights
from transformers import BertTokenizer

from maskris.models.loading import load_model
from maskris.training.checkpoint import load_state
from maskris.training.trainer import load_initial_weights
from maskris.utils.runstore import OtherRunError


class OtherModel(ToyModel):
    """Not the class that was trained."""


@pytest.fixture
def trained(tmp_path):
    toy_run(tmp_path / "trained", validation=object(), steps=5, lr=0.1, evaluate_every=3, evaluate_at_end=False)
    return tmp_path / "trained"


def test_a_run_starts_from_the_best_weights_of_another_and_from_nothing_else_of_it(trained, tmp_path):
    assert not same(weights(trained, "best"), weights(trained))
    assert toy_run(tmp_path / "a", init_from=str(trained)).step == 8
    assert load_state(tmp_path / "a" / "last")["run"]["init_from"] == str(trained)
    toy_run(tmp_path / "b", model=load_model(trained / "best", ToyModel))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    toy_run(tmp_path / "c", init_from=str(trained), dropout=0.0)  # is what the run says, not what the model had
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    toy_run(tmp_path / "d", init_from=str(trained / "last"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "d"))


def test_a_run_that_goes_on_needs_the_model_that_it_started_from_no_more(trained, tmp_path):
    whole, parts, options = tmp_path / "whole", tmp_path / "parts", {"init_from": str(trained)}
    toy_run(whole, **options)
    stopped = toy_run(parts, strategy=TwoPasses(hook=KillSelf(3, signal.SIGTERM)), **options)
    assert stopped.step == 4
    shutil.rmtree(trained)
    assert toy_run(parts, **options).step == 8
    assert same(weights(parts), weights(whole))
    with pytest.raises(OtherRunError, match=r"init_from: .* now(.|\n)*takes over weights alone"):
        toy_run(parts)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OtherModel(), "holds a ToyModel, not a OtherModel"),
        (
            ToyModel(width=5),
            r"4 weights are .* of other shapes \(image.weight, image.bias, words.weight, …\); train by",
        ),
        (ToyModel(batch_norm=True), r"is another network .*\(norm.weight, norm.bias, norm.running_mean, …\)"),
        (
            ToyModel(tokenizer=BertTokenizer(vocab={word: i for i, word in enumerate(reversed(WORDS))})),
            "has another vocabulary than the model to train; train by",
        ),
    ],
)
def test_another_network_or_vocabulary_is_refused_before_a_weight_changes(trained, model, message):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_initial_weights(model, trained)
    assert same(before, model.state_dict())


def test_a_model_that_is_not_there_ends_the_run_before_it_begins(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        toy_run(tmp_path / "run", init_from=str(tmp_path / "nowhere"))
    assert not (tmp_path / "run" / "last").exists()
    assert toy_run(tmp_path / "run").step == 8  # and doesn't stand in the way of the next one


def test_the_model_keeps_its_place_in_memory(trained):
    model = ToyModel()
    places = [parameter.data_ptr() for parameter in model.parameters()]
    load_initial_weights(model, trained)  # the optimizer has them already
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert torch.equal(model.image.weight, weights(trained, "best")["image.weight"])
