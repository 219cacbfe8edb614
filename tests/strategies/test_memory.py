"""What a pass keeps for its backward pass, and the choice of MaskRIS that follows from it."""

import pytest
import torch
from torch import nn

from maskris.batch import Batch
from maskris.strategies import memory
from maskris.strategies.maskris import MaskRIS


class Chain(nn.Module):
    """Two products with a ReLU: what autograd keeps is known by hand."""

    has_batch_statistics = False

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 32, bias=False), nn.Linear(32, 2, bias=False)

    def forward(self, batch):
        return self.second(self.first(batch.images[..., 0, 0]).relu())


def batch(images=3):
    nothing = torch.zeros(images, 1, dtype=torch.int64)
    return Batch(
        images=torch.randn(images, 8, 1, 1), input_ids=nothing, attention_mask=nothing, image_index=nothing[:, 0]
    )


def test_what_is_kept_is_counted_once_and_without_weights():
    # The input of the first product, and the output of the ReLU, which is the input of the second too.
    assert memory.activation_bytes(Chain(), batch()) == 4 * (3 * 8 + 3 * 32)
    assert memory.activation_bytes(Chain(), batch(30)) == 40 * (3 * 8 + 3 * 32)
    assert memory.activation_bytes(Chain().requires_grad_(False), batch()) == 0


def test_passes_gradients_and_moments_must_fit(monkeypatch):
    weights = 4 * (8 * 32 + 32 * 2)
    kept = 4 * (3 * 8 + 3 * 32)
    needed = 2 * kept + 3 * weights
    for free, answer in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(memory, "free_bytes", lambda _, free=free: free)
        assert memory.fits(Chain(), batch(), 2, share=1.0) is answer
    assert memory.fits(Chain(), batch(), 1, share=1.0)
    assert not memory.fits(Chain(), batch(), 1, share=0.5)


def test_free_memory_of_the_machine():
    total = memory.psutil.virtual_memory().total
    assert 0 < memory.free_bytes(torch.device("cpu")) <= total


@pytest.mark.parametrize(("free", "terms"), [(10**12, ("total",)), (0, ("clean", "distorted"))])
def test_maskris_takes_a_single_forward_pass_where_memory_allows_and_a_resumed_run_keeps_to_it(
    free, terms, monkeypatch
):
    monkeypatch.setattr(memory, "free_bytes", lambda _: free)
    strategy = MaskRIS(single_forward="auto")
    assert strategy.state_dict() == {}
    strategy.prepare(Chain(), batch())
    assert strategy.terms == terms
    state = strategy.state_dict()
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10**12 - free)
    resumed = MaskRIS(single_forward="auto")
    resumed.load_state_dict(state)
    resumed.prepare(Chain(), batch())
    assert (resumed.terms, resumed.passes) == (terms, len(terms))
    assert resumed.state_dict() == state


def test_batch_statistics_never_share_a_forward_pass_and_a_choice_is_kept(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10**12)
    monkeypatch.setattr(Chain, "has_batch_statistics", True)
    strategy = MaskRIS(single_forward="auto")
    strategy.prepare(Chain(), batch())
    assert not strategy.single_forward
    for choice in (True, False):
        chosen = MaskRIS(single_forward=choice)
        chosen.prepare(Chain(), batch())
        assert chosen.single_forward is choice
        assert chosen.state_dict() == {}
        with pytest.raises(ValueError, match="keeps no state"):
            chosen.load_state_dict({"single_forward": torch.tensor(True)})
    with pytest.raises(ValueError, match="single_forward must be true, false"):
        MaskRIS(single_forward="yes")
