"""What is done to a model before several processes train it."""

import copy

import torch
from torch import nn

from maskris.training.distributed import share_batch_statistics


def test_shared_batch_statistics_keep_parameters_names_and_results():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    model(torch.randn(2, 3, 8, 8))  # statistics other than those of the beginning
    before, parameters = copy.deepcopy(model).eval(), dict(model.named_parameters())
    share_batch_statistics(model)
    assert [type(module) for module in model.modules()].count(nn.SyncBatchNorm) == 2
    assert {name: id(value) for name, value in model.named_parameters()} == {
        name: id(value) for name, value in parameters.items()
    }  # an optimizer made before goes on with them
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in model.state_dict().items())
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(model.eval()(images), before(images))
