"""Blocks of small networks."""

import pytest
import torch

from maskris.models.layers.blocks import CountingAttention, ResidualBlock, Transformer


def test_counting_attention_counts() -> None:
    """Objects of kind A and B, of which each has to tell how many of its kind there are: a softmax can't, this can."""
    torch.manual_seed(0)
    block, read = CountingAttention(8, 2), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*block.parameters(), *read.parameters()], lr=1e-2)

    def objects(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(2, (64, 6), generator=torch.Generator().manual_seed(seed))
        same = (kind[:, :, None] == kind[:, None]).sum(2).float()
        return torch.nn.functional.one_hot(kind, 8).float(), same

    for step in range(300):
        x, same = objects(step)
        loss = (read(block(x))[..., 0] - same).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, same = objects(-1)
    with torch.no_grad():
        assert (read(block(x))[..., 0] - same).abs().max() < 0.5


def test_counting_attention_depends_on_no_order() -> None:
    block = CountingAttention(8, 2).eval()
    x, order = torch.randn(2, 5, 8), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])
    with pytest.raises(ValueError, match="multiple of the 3 heads"):
        CountingAttention(8, 3)


def test_a_transformer_sees_no_padding() -> None:
    layers = Transformer(8, 2, 2).eval()
    x, padding = torch.randn(1, 5, 8), torch.tensor([[False, False, False, True, True]])
    changed = x.clone()
    changed[:, 3:] = 9
    torch.testing.assert_close(layers(x, padding)[:, :3], layers(changed, padding)[:, :3])
    assert Transformer(8, 2, 0)(x) is x


def test_a_residual_block_keeps_its_input() -> None:
    block = ResidualBlock(8)
    torch.nn.init.zeros_(block.branch[-1].weight)
    torch.nn.init.zeros_(block.branch[-1].bias)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)
