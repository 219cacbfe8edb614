"""Batches of the toy table, as `evaluate` hands them to a perturbation."""

import pytest
from color_model import color_model, model, table, toy_table  # noqa: F401 (fixtures)

from maskris.data.dataset import ReferringDataset
from maskris.evaluation.perturbation import Origin


@pytest.fixture
def load(table, model):  # noqa: F811 (fixtures)
    """Batches with their origins: ``load(0, 2)`` has the images 0 and 2; by default all five."""

    def make(*images, of=model):
        dataset = ReferringDataset(table, of.preprocess, of.tokenizer, training=False)
        batch = dataset.collate([dataset[i] for i in images or range(len(dataset))])
        return batch, Origin.of(batch, table, of)

    return make
