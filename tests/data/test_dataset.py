"""What a batch holds, that draws depend on nothing but their key, and that evaluation misses nothing."""

import json
import os
import pickle
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import BertTokenizer

from maskris.data.dataset import ReferringDataset, evaluation_loader, training_loader
from maskris.data.preprocess import Preprocess
from maskris.data.sampler import EvaluationBatches, TrainingBatches
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.utils import process as cores

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "left", "man", *map(str, range(40))]
COUNTS = [[3, 1], [2], [1, 1, 4, 2], [5]]  # expressions of each referent on each image


@pytest.fixture(scope="module")
def tokenizer():
    return ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}), max_length=8)


def rows_of(folder, counts=COUNTS):
    """Photos of noise, 20 x 30 (height x width); the referents of an image are stripes of it."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for number, referents in enumerate(counts):
        name = f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
        for stripe, n in enumerate(referents):
            mask = np.zeros((20, 30), dtype=bool)
            mask[5 * stripe : 5 * stripe + 5, number:] = True
            expressions = [f"the man {len(rows)} {e}" for e in range(n)]
            rows.append({"image": name, "mask": mask, "expressions": expressions, "ref_id": 100 + len(rows)})
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    ReferringTable.from_rows(rows_of(folder / "photos"), folder / "photos").save(folder / "train.parquet")
    return ReferringTable.open(folder / "train.parquet")


def dataset_of(table, tokenizer, training=True, size=(20, 30), **options):
    return ReferringDataset(table, Preprocess(*size), tokenizer, training=training, **options)


def _with_kinds(table, kinds):
    rows = [row | {"kinds": of_row} for row, of_row in zip(table.to_pylist(), kinds, strict=True)]
    return ReferringTable.from_rows(rows, table.images_root)


def same(a, b):
    """Whether two batches or samples hold the same."""
    return all(
        torch.equal(value, getattr(b, name)) if isinstance(value, torch.Tensor) else value == getattr(b, name)
        for name, value in vars(a).items()
    )


def test_a_training_item_is_a_referent_with_one_of_its_expressions(table, tokenizer):
    dataset = dataset_of(table, tokenizer)
    assert len(dataset) == len(table) == 8
    for i in range(8):
        sample = dataset[3, i]
        ((row, number),) = sample.expression_id.tolist()
        assert row == i
        assert sample.expressions == (table.expressions(i)[number],)
        assert np.array_equal(sample.masks[0].numpy(), table.mask(i))
        pixels = np.asarray(Image.open(table.image_path(i)))
        assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), pixels)


def test_draws_are_a_function_of_seed_epoch_and_referent(table, tokenizer):
    def draws(seed, epochs=range(30), k=1):
        dataset = dataset_of(table, tokenizer, seed=seed, referents_per_image=k)
        return [dataset[e, i].expression_id.tolist() for e in epochs for i in range(len(dataset))]

    for k in (1, 3):
        assert draws(0, k=k) == draws(0, k=k)
        assert draws(0, [5], k=k) == draws(0, k=k)[5 * (8, 4)[k > 1] : 6 * (8, 4)[k > 1]], (
            "earlier epochs are irrelevant"
        )
        assert draws(0, k=k) != draws(1, k=k)
        assert draws(0, [0], k=k) != draws(0, [1], k=k)


def test_every_expression_is_drawn_equally_often(table, tokenizer):
    one = dataset_of(table, tokenizer, masks=False, cache_images=True)
    drawn = Counter(int(one[epoch, 7].expression_id[0, 1]) for epoch in range(1000))
    assert set(drawn) == set(range(5))
    assert all(150 < n < 250 for n in drawn.values())
    two = dataset_of(table, tokenizer, masks=False, cache_images=True, referents_per_image=2)
    pairs = Counter(tuple(two[epoch, 2].expression_id[:, 0].tolist()) for epoch in range(1200))
    assert len(pairs) == 4 * 3, "every ordered pair of the four referents"
    assert all(60 < n < 140 for n in pairs.values())


@settings(deadline=None, max_examples=60)
@given(
    k=st.integers(1, 12),
    epoch=st.integers(0, 50),
    weights=st.dictionaries(st.sampled_from(["", "location", "attribute"]), st.floats(0.1, 9), min_size=1),
)
def test_expressions_of_a_kind_are_drawn_as_often_as_it_weighs(table, tokenizer, k, epoch, weights):
    kinds = [[("location", "attribute", "")[(i + n) % 3] for n in range(count)]
             for i, count in enumerate(table.expressions_per_row)]  # fmt: skip
    table = _with_kinds(table, kinds)
    dataset = dataset_of(table, tokenizer, referents_per_image=k, kind_weights=weights, masks=False)
    items = range(len(dataset))
    for item in items:
        drawn = Counter(tuple(pair) for pair in dataset[epoch, item].expression_id.tolist())
        rows = table.by_image()[item].tolist() if k > 1 else [item]
        weight = {(row, n): weights.get(kind, 1.0) for row in rows for n, kind in enumerate(kinds[row])}
        assert sum(drawn.values()) == k
        for pair, w in weight.items():
            assert abs(drawn[pair] - k * w / sum(weight.values())) < 1 + 1e-9, "as often as its share says, within one"


def test_weights_of_kinds_that_make_no_sense_are_named(table, tokenizer):
    with pytest.raises(ValueError, match=r"kind_weights must be positive numbers, not {'ordinal': 0}"):
        dataset_of(table, tokenizer, kind_weights={"ordinal": 0})
    with pytest.warns(UserWarning, match="kind_weights names ordinals, but the table has no such expressions"):
        dataset_of(table, tokenizer, kind_weights={"ordinals": 2})


@settings(deadline=None, max_examples=60)
@given(k=st.integers(2, 12), epoch=st.integers(0, 50), image=st.integers(0, len(COUNTS) - 1))
def test_several_referents_repeat_nothing_before_everything_was_drawn(table, tokenizer, k, epoch, image):
    dataset = dataset_of(table, tokenizer, referents_per_image=k, masks=False)
    assert len(dataset) == len(COUNTS)
    pairs = [tuple(pair) for pair in dataset[epoch, image].expression_id.tolist()]
    assert len(pairs) == k
    counts = {row: int(table.expressions_per_row[row]) for row in table.by_image()[image].tolist()}
    referents = Counter(row for row, _ in pairs)
    assert set(referents) <= set(counts)
    assert len(referents) == min(k, len(counts)), "no referent twice while there are others"
    assert len(set(pairs)) == min(k, sum(counts.values())), "no expression twice while there are others"
    if k <= sum(counts.values()):
        for row, n in referents.items():  # a referent comes n times only if all that have as many came n - 1 times
            assert all(referents[other] >= min(n - 1, counts[other]) for other in counts), (row, n)


def test_samples_of_several_referents_share_the_image(table, tokenizer):
    dataset = dataset_of(table, tokenizer, referents_per_image=3)
    batch = dataset.collate([dataset[0, 2], dataset[0, 0]])
    assert batch.images.shape == (2, 3, 20, 30)
    assert batch.images.dtype == torch.uint8
    assert batch.masks.shape == (6, 20, 30)
    assert batch.masks.dtype == torch.bool
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1, 1]
    for i, (row, number) in enumerate(batch.expression_id.tolist()):
        assert np.array_equal(batch.masks[i].numpy(), table.mask(row))
        words = tokenizer.tokenizer.decode(batch.input_ids[i][1 : batch.attention_mask[i].sum() - 1])
        assert words == table.expressions(row)[number]


def test_text_is_padded_to_the_longest_of_the_batch(tmp_path, tokenizer):
    rows = rows_of(tmp_path, [[1], [1]])
    rows[0]["expressions"], rows[1]["expressions"] = ["man"], ["the left man 1"]
    dataset = dataset_of(ReferringTable.from_rows(rows, tmp_path), tokenizer)
    batch = dataset.collate([dataset[0, 0], dataset[0, 1]])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch.input_ids[0].tolist() == [2, 7, 3, 0, 0, 0]
    assert dataset.collate([dataset[0, 0]]).input_ids.shape == (1, 3)


def test_evaluation_gives_an_image_with_all_its_expressions(table, tokenizer):
    dataset = dataset_of(table, tokenizer, training=False)
    assert len(dataset) == len(COUNTS)
    assert dataset.expressions_per_image == [sum(referents) for referents in COUNTS]
    assert dataset.num_expressions == table.num_expressions == 19
    samples = list(dataset)
    assert [len(sample.expressions) for sample in samples] == dataset.expressions_per_image
    everything = [(row, e) for row in range(8) for e in range(table.expressions_per_row[row])]
    assert [tuple(pair) for sample in samples for pair in sample.expression_id.tolist()] == everything
    part = dataset[2, 1, 4]
    assert torch.equal(part.expression_id, samples[2].expression_id[1:4])
    assert torch.equal(part.masks, samples[2].masks[1:4])
    assert part.expressions == samples[2].expressions[1:4]


@settings(deadline=None, max_examples=25)
@given(room=st.integers(1, 20), world=st.integers(1, 3))
def test_evaluation_is_independent_of_batches_and_ranks(table, tokenizer, room, world):
    dataset = dataset_of(table, tokenizer, training=False, cache_images=True)
    found = {}
    for rank in range(world):
        for batch in evaluation_loader(dataset, EvaluationBatches(dataset.expressions_per_image, room, rank, world)):
            assert len(batch) <= room
            for i, key in enumerate(map(tuple, batch.expression_id.tolist())):
                assert key not in found, "seen twice"
                ids = batch.input_ids[i][batch.attention_mask[i].bool()].tolist()
                found[key] = (ids, batch.images[batch.image_index[i]].sum().item(), batch.masks[i].sum().item())
    one = dataset.collate(list(dataset))
    assert len(found) == len(one) == 19
    for i, key in enumerate(map(tuple, one.expression_id.tolist())):
        ids = one.input_ids[i][one.attention_mask[i].bool()].tolist()
        assert found[key] == (ids, one.images[one.image_index[i]].sum().item(), one.masks[i].sum().item())


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_the_cache_changes_nothing(table, tokenizer, training, k):
    options = {"training": training, "referents_per_image": k, "size": (9, 14)}
    plain, cached = (dataset_of(table, tokenizer, cache_images=cache, **options) for cache in (False, True))
    keys = [(e, i) for e in range(3) for i in range(len(plain))] if training else list(range(len(plain)))
    for _ in range(2):
        for key in keys:
            assert same(plain[key], cached[key])
            assert same(plain.collate([plain[key]]), cached.collate([cached[key]]))
    assert not any(plain._cache.values()), "nothing grows unless it was asked for"
    assert len(cached._cache["image"]) == len(COUNTS)


def test_cached_images_are_decoded_once(tmp_path, tokenizer):
    table = ReferringTable.from_rows(rows_of(tmp_path / "photos"), tmp_path / "photos")
    dataset = dataset_of(table, tokenizer, cache_images=True, referents_per_image=2)
    dataset.preload()
    expected = dataset[4, 2]
    for photo in (tmp_path / "photos").iterdir():
        photo.unlink()
    assert same(dataset[4, 2], expected)
    with pytest.raises(OSError, match="No such file"):
        pickle.loads(pickle.dumps(dataset))[4, 2]  # the contents are not sent to a spawned worker


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_is_irrelevant(table, tokenizer, workers, cache, monkeypatch, capfd):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    dataset = dataset_of(table, tokenizer, referents_per_image=2, cache_images=cache)
    dataset.count_truncated()  # starts the tokenizer's threads before the fork
    batches = TrainingBatches(len(dataset), 2, seed=5, start_step=3)
    before = torch.get_rng_state()
    expected = list(islice(training_loader(dataset, batches), 5))
    loader = training_loader(dataset, batches, workers)
    assert loader.num_workers == workers
    assert all(same(a, b) for a, b in zip(expected, islice(loader, 5), strict=True))
    assert torch.equal(torch.get_rng_state(), before), "loading must not disturb dropout"
    assert "fork" not in capfd.readouterr().err, "tokenizers warns of a deadlock"


def test_workers_that_are_spawned_load_the_same(table, tokenizer):
    dataset = dataset_of(table, tokenizer, training=False)
    batches = EvaluationBatches(dataset.expressions_per_image, 6)
    loader = DataLoader(
        dataset, batch_sampler=batches, collate_fn=dataset.collate, num_workers=1, multiprocessing_context="spawn"
    )
    expected = [dataset.collate([dataset[item] for item in items]) for items in batches]
    assert all(same(a, b) for a, b in zip(expected, loader, strict=True))


def test_workers_never_exceed_the_cores(table, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3), raising=False)
    dataset = dataset_of(table, tokenizer, training=False)
    batches = EvaluationBatches(dataset.expressions_per_image, 6)
    loader = evaluation_loader(dataset, batches, workers=64)
    assert loader.num_workers == 3
    assert loader.persistent_workers
    assert loader.pin_memory == torch.cuda.is_available()
    assert len(loader) == len(batches)
    assert evaluation_loader(dataset, batches, workers=-1).num_workers == 0
    training = training_loader(dataset_of(table, tokenizer), TrainingBatches(8, 2), 2, prefetch_factor=5)
    assert (training.num_workers, training.prefetch_factor) == (2, 5)


def photo(path, height, width):
    """Soft shapes with a little texture."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(40, 216, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(soft) + rng.integers(-8, 9, (height, width, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    ("size", "factor"), [((401, 602), 4), ((200, 305), 2), ((199, 305), 1), ((96, 128), 1), ((1000, 1600), 8)]
)
def test_reduced_decoding_is_close_where_photos_are_large(tmp_path, tokenizer, size, factor, resize):
    photo(tmp_path / "photo.jpg", *size)
    mask = np.zeros(size, dtype=bool)
    mask[: size[0] // 2] = True
    table = ReferringTable.from_rows([{"image": "photo.jpg", "mask": mask, "expressions": ["man"]}], tmp_path)
    preprocess = Preprocess(100, 100, resize)
    full, reduced = (
        ReferringDataset(table, preprocess, tokenizer, training=True, reduced_decoding=on) for on in (False, True)
    )
    if resize == "letterbox":  # as wide as the input: the height is not what limits it
        factor = max(n for n in (1, 2, 4, 8) if size[1] // n >= 100)
    assert reduced._decode(0).size == (-(-size[1] // factor), -(-size[0] // factor))
    a, b = full[0, 0], reduced[0, 0]
    assert torch.equal(a.masks, b.masks)
    difference = (a.image.float() - b.image.float()).abs()
    assert (difference.max() == 0) == (factor == 1)
    # A letterbox doesn't smooth before it shrinks, and so keeps the grain that reduced decoding takes away.
    assert difference.mean() < (2 if resize == "stretch" else 6)


def test_reduced_decoding_leaves_other_photos_and_finds_other_sizes(tmp_path, tokenizer):
    rows = rows_of(tmp_path)
    table = ReferringTable.from_rows(rows, tmp_path)
    plain, reduced = (dataset_of(table, tokenizer, size=(5, 5), reduced_decoding=on) for on in (False, True))
    assert all(same(plain[0, i], reduced[0, i]) for i in range(len(plain))), "PNG knows no reduced size"
    photo(tmp_path / "0.png", 40, 60)
    Image.open(tmp_path / "0.png").convert("RGB").save(tmp_path / "0.jpg")
    (tmp_path / "0.jpg").rename(tmp_path / "0.png")
    with pytest.raises(OSError, match=r"60 x 40 pixels .* annotations are for 30 x 20"):
        reduced[0, 0]


def test_loaders_refuse_the_other_kind(table, tokenizer):
    with pytest.raises(ValueError, match="training=True"):
        training_loader(dataset_of(table, tokenizer, training=False), TrainingBatches(8, 1))
    with pytest.raises(ValueError, match="training=False"):
        evaluation_loader(dataset_of(table, tokenizer), EvaluationBatches([1], 1))


@pytest.mark.parametrize(("training", "key"), [(True, 0), (True, (0, 0, 1)), (False, (0, 0)), (False, "0")])
def test_keys_of_the_other_kind_are_refused(table, tokenizer, training, key):
    with pytest.raises(TypeError, match="item is dataset"):
        dataset_of(table, tokenizer, training=training)[key]


@pytest.mark.parametrize(("training", "key"), [(True, (0, 8)), (True, (0, -1)), (False, 4), (False, (-1, 0, 1))])
def test_there_is_no_item_beyond_the_end(table, tokenizer, training, key):
    with pytest.raises(IndexError, match="no item"):
        dataset_of(table, tokenizer, training=training)[key]


def test_rows_without_a_mask_can_be_evaluated_but_not_trained_on(tmp_path, tokenizer):
    rows = rows_of(tmp_path)
    rows[3] |= {"mask": None, "mask_source": "none", "height": 20, "width": 30}
    table = ReferringTable.from_rows(rows, tmp_path)
    with pytest.raises(ValueError, match=r"1 rows .* 3 \(ref_id 103\).*mask_source 'none'.*masks=False"):
        dataset_of(table, tokenizer)
    assert dataset_of(table, tokenizer, masks=False)[0, 3].masks is None
    dataset = dataset_of(table, tokenizer, training=False)
    assert not dataset[2].masks[0].any()
    unmasked = dataset_of(table, tokenizer, training=False, masks=False)
    assert unmasked.collate([unmasked[0]]).masks is None


def test_what_cannot_be_drawn_from_is_refused(table, tokenizer):
    with pytest.raises(ValueError, match="no rows"):
        dataset_of(table.take([]), tokenizer)
    arrow = table.arrow.set_column(11, "expressions", [[["a"], [], *[["b"]] * 6]])
    with pytest.raises(ValueError, match=r"1 rows .* 1 \(ref_id 101\).*without any expression"):
        dataset_of(ReferringTable(arrow, table.images_root), tokenizer)
    with pytest.raises(ValueError, match="referents_per_image"):
        dataset_of(table, tokenizer, referents_per_image=0)


def missing(path):
    path.unlink()


def no_image(path):
    path.write_bytes(b"this is text")


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("damage", [missing, no_image, cut])
def test_an_unreadable_image_is_named(tmp_path, tokenizer, damage):
    dataset = dataset_of(ReferringTable.from_rows(rows_of(tmp_path), tmp_path), tokenizer)
    damage(tmp_path / "2.png")
    with pytest.raises(OSError, match=r"2\.png \(row 5 of the table, ref_id 105\).*maskris prepare"):
        dataset[0, 5]
    assert dataset[0, 0].image.shape == (3, 20, 30)


def test_an_image_of_another_size_is_named(tmp_path, tokenizer):
    dataset = dataset_of(ReferringTable.from_rows(rows_of(tmp_path), tmp_path), tokenizer)
    Image.new("RGB", (20, 30)).save(tmp_path / "0.png")
    with pytest.raises(OSError, match=r"0\.png \(row 1 .* 20 x 30 pixels .* 30 x 20"):
        dataset[0, 1]


def test_images_are_taken_as_stored_because_masks_are(tmp_path, tokenizer):
    rows = rows_of(tmp_path, [[1]])
    pixels = np.asarray(Image.open(tmp_path / "0.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees for viewing
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
    assert Image.open(tmp_path / "0.png").getexif()[0x0112] == 6
    sample = dataset_of(ReferringTable.from_rows(rows, tmp_path), tokenizer)[0, 0]
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_every_mode_become_rgb(tmp_path, tokenizer, mode):
    rows = rows_of(tmp_path, [[1]])
    rows[0]["image"] = "photo.tif" if mode == "CMYK" else "photo.png"
    Image.fromarray(np.full((20, 30), 200, dtype=np.uint8)).convert("L" if mode == "I;16" else mode).save(
        tmp_path / rows[0]["image"]
    )
    if mode == "I;16":
        Image.fromarray(np.full((20, 30), 200 * 257, dtype=np.uint16)).save(tmp_path / rows[0]["image"])
    sample = dataset_of(ReferringTable.from_rows(rows, tmp_path), tokenizer)[0, 0]
    assert (sample.image.float() - 200).abs().max() <= 2


def test_truncations_are_counted_over_the_whole_table(tmp_path, tokenizer):
    rows = rows_of(tmp_path, [[1], [1]])
    rows[0]["expressions"] = ["the man", "the the the the the the", "the the the the the the left"]  # room for six
    rows[1]["expressions"] = ["left " * 30]
    dataset = dataset_of(ReferringTable.from_rows(rows, tmp_path), tokenizer)
    assert dataset.count_truncated() == (2, 4)


def test_a_batch_is_described_for_people(tmp_path, tokenizer):
    rows = rows_of(tmp_path, [[1], [3]])
    rows[1] |= {"dataset": "refcoco", "split_by": "unc", "ref_id": 17}
    dataset = dataset_of(ReferringTable.from_rows(rows, tmp_path), tokenizer, training=False)
    batch = dataset.collate([dataset[1], dataset[0]])
    assert dataset.describe(batch) == [
        *(f"refcoco unc train, ref_id 17, expression {e} 'the man 1 {e}'" for e in range(3)),
        "train, ref_id 100, expression 0 'the man 0 0'",
    ]
    with pytest.raises(ValueError, match="no expression_id"):
        dataset.describe(type(batch)(batch.images, batch.input_ids, batch.attention_mask, batch.image_index))


def test_images_and_masks_of_the_synthetic_data_set_equal_the_official_ones(shared):
    readers = pytest.importorskip("maskris.data.readers.refer")
    root = shared / "reference/maskris/minidata"
    mini = json.loads((shared / "reference/maskris/minidata.json").read_text())
    golden = load_file(shared / "reference/maskris/minidata_case.safetensors")
    table = readers.read_refer(root, "refcoco", "unc").table()
    words = (root / "vocab.txt").read_text().splitlines()
    tokenizer = ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(words)}))
    preprocess = Preprocess(224, 224)
    dataset = ReferringDataset(table.split("val"), preprocess, tokenizer, training=False)
    batch = dataset.collate(list(dataset))
    assert len(batch) == mini["sizes"]["val_sentences"]
    ref_ids = dataset.table.column("ref_id")
    order = sorted(range(len(batch)), key=lambda i: tuple(batch.expression_id[i].tolist()))
    for i, expected in zip(order, mini["val"], strict=True):
        assert ref_ids[int(batch.expression_id[i, 0])] == expected["ref_id"]
        assert int(batch.masks[i].sum()) == expected["mask_pixels"]
        image = preprocess.normalize(batch.images[batch.image_index[i]])
        assert image.mean().item() == pytest.approx(expected["image_mean"], abs=1e-6)
        assert image.std().item() == pytest.approx(expected["image_std"], abs=1e-6)
    first = preprocess.normalize(batch.images[batch.image_index[order[0]]])
    torch.testing.assert_close(first[:, ::4, ::4], golden["val0.image_every_4th_pixel"], atol=1e-6, rtol=0)
    assert torch.equal(batch.masks[order[0]], golden["val0.mask"] != 0)


def test_boxes_take_the_place_of_masks_that_are_not_read(table, tokenizer):
    rows = table.to_pylist()
    for row in rows:
        row |= {"mask": None, "mask_source": "none", "area": None, "box": [2.5, 3.0, 6.0, 4.5]}
    blind = ReferringTable.from_rows(rows, table.images_root)
    dataset = dataset_of(blind, tokenizer, size=blind.size(0), supervision="boxes")
    mask = dataset[0, 0].masks[0].numpy()
    expected = np.zeros(blind.size(0), dtype=bool)
    expected[3:8, 2:9] = True  # every pixel that the box touches
    assert np.array_equal(mask > 0, expected)
    rows[3]["box"] = [1.0, 1.0, 0.0, 5.0]
    with pytest.raises(ValueError, match=r"3 \(ref_id 103\).*without a box .*training needs"):
        dataset_of(ReferringTable.from_rows(rows, table.images_root), tokenizer, supervision="boxes")


def test_a_box_that_leaves_its_picture_is_cut(table, tokenizer):
    rows = table.to_pylist()
    height, width = table.size(0)
    rows[0] |= {"mask": None, "mask_source": "none", "area": None, "box": [-4.0, -2.0, width + 50.0, 5.0]}
    dataset = dataset_of(
        ReferringTable.from_rows(rows, table.images_root), tokenizer, size=(height, width), supervision="boxes"
    )
    mask = dataset[0, 0].masks[0].numpy() > 0
    assert mask[:3].all()
    assert not mask[3:].any()
