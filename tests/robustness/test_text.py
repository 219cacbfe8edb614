"""Sentences get worse by exactly what was asked for, keep at least one word, and do so the same way every time."""

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskris.batch import Batch
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.evaluation.perturbation import Origin
from maskris.models.encoders.sources import build_tokenizer
from maskris.robustness.text import (
    SYNONYMS,
    DroppedWords,
    MaskedWords,
    NoLocationWords,
    ShuffledWords,
    Synonyms,
    Typos,
    count_relations,
    is_location,
    is_ordinal,
)

WORDS = st.text("abcdefgxyzäß'-", min_size=1, max_size=8)
KNOWN = st.sampled_from(["left", "man", "thing", "bottomright", "the", "second", "red,", "Left", "couch"])
SENTENCES = st.lists(WORDS | KNOWN, min_size=1, max_size=14).map(" ".join)
SHARES = st.floats(0, 1)
ALL = [DroppedWords(), MaskedWords(), Typos(), ShuffledWords(), NoLocationWords(), Synonyms()]


@given(SENTENCES, SHARES, st.integers(0, 2**40), st.integers(0, 2**40))
def test_the_right_number_of_words_is_missing_and_the_rest_in_order(text, share, seed, ref_id):
    words = text.split()
    left = DroppedWords(share, seed=seed).read(text, ref_id, 0).split()
    assert len(left) == max(1, len(words) - round(share * len(words)))
    rest = iter(words)
    assert all(word in rest for word in left)  # a subsequence
    masked = MaskedWords(share, seed=seed).read(text, ref_id, 0).split()
    assert len(masked) == len(words)
    assert masked.count("[MASK]") == len(words) - len(left)
    assert all(new in (old, "[MASK]") for new, old in zip(masked, words, strict=True))


@given(SENTENCES, SHARES, st.integers(0, 99))
def test_typos_change_the_right_number_of_words_a_little(text, share, seed):
    words = text.split()
    wrong = Typos(share, seed=seed).read(text, 7, 1).split()
    assert len(wrong) == len(words)
    long = sum(sum(map(str.isalpha, word)) >= 3 for word in words)
    changed = [(old, new) for old, new in zip(words, wrong, strict=True) if old != new]
    assert len(changed) == min(round(share * len(words)), long)
    for old, new in changed:
        assert abs(len(old) - len(new)) <= 1
        assert sum((Counter(old) - Counter(new)).values()) <= 1


@given(SENTENCES, st.integers(0, 99))
def test_shuffling_keeps_the_words_and_changes_the_order_where_it_can(text, seed):
    words = text.split()
    shuffled = ShuffledWords(seed=seed).read(text, 3, 0).split()
    assert Counter(shuffled) == Counter(words)
    assert (shuffled != words) == (len(set(words)) > 1)


@given(SENTENCES)
def test_places_vanish_unless_nothing_else_is_said(text):
    words = text.split()
    left = NoLocationWords().read(text, 0, 0).split()
    others = [word for word in words if not is_location(word)]
    assert left == (others or words)


def test_nothing_is_done_to_a_text_without_words():
    for perturbation in ALL:
        assert perturbation.read("", 1, 0) == ""
        assert perturbation.read("  ", 1, 0) == "  "
    assert Synonyms().read("the  blob", 1, 0) == "the  blob"  # blanks included


@pytest.mark.parametrize("kind", [DroppedWords, MaskedWords, Typos])
def test_more_does_the_same_to_more_words(kind):
    text = "the small striped circle between two others above everything"
    words = text.split()
    for ref_id in range(20):
        some, more = (kind(share).read(text, ref_id, 0).split() for share in (0.25, 0.75))
        if kind is DroppedWords:
            assert Counter(more) <= Counter(some)
        else:
            changed = [i for i, word in enumerate(words) if some[i] != word]
            assert [some[i] for i in changed] == [more[i] for i in changed]


@pytest.mark.parametrize("perturbation", [p for p in ALL if not isinstance(p, NoLocationWords)], ids=lambda p: p.name)
def test_draws_depend_on_seed_referent_and_number(perturbation):
    text = "man thing picture men women woman guy man thing picture man thing under picture and the men"
    first = perturbation.read(text, 4, 0)
    assert perturbation.read(text, 4, 0) == first
    others = [perturbation.read(text, 5, 0), perturbation.read(text, 4, 1), type(perturbation)(seed=1).read(text, 4, 0)]
    assert all(other != first for other in others)


def test_synonyms_and_typos_as_examples():
    assert Synonyms().read("the Kid, with a mug", 0, 0) == "the child, with a cup"
    assert Synonyms().read("left of it", 0, 0) == "left of it"
    # The draw is part of published numbers.
    assert Typos(1.0).read("striped circle left of thing", 7, 1) == "stripe cirrcle lefy of thiing"
    assert not any(is_location(word) for options in SYNONYMS.values() for word in options)
    assert all(word not in options for word, options in SYNONYMS.items())


@pytest.mark.parametrize(
    ("word", "location"),
    [("left", True), ("LEFT,", True), ("bottomright", True), ("leftmost", True), ("middle", True), ("lhs", True),
     ("topmost", True), ("corner", True), ("bright", False), ("above", False), ("topless", False), ("farmer", False)],
)  # fmt: skip
def test_places(word, location):
    assert is_location(word) is location


def test_ordinals_and_relations():
    assert [word for word in ["2nd", "third", "last,", "firstborn", "3", "one"] if is_ordinal(word)] == [
        "2nd",
        "third",
        "last,",
    ]
    for text, number in {
        "man on the left": 0,
        "man on far left": 0,
        "cat on the chair": 1,
        "circle left of square": 1,
        "man on the left with a bag next to the red car": 2,
        "person to the left of the dog in front of the house": 2,
        "thing with the same color as the cross": 2,
        "boys' bicycle": 0,
        "Above  the near one": 2,
    }.items():
        assert count_relations(text) == number, text


def token_ids(model, *words):
    return [model.tokenizer.tokenizer.convert_tokens_to_ids(word) for word in words]


@pytest.mark.parametrize("perturbation", ALL, ids=lambda p: p.name)
def test_a_batch_reads_the_words_and_sees_the_same_pictures(load, model, perturbation):
    batch, origin = load()
    out = perturbation(batch, origin)
    assert out.images is batch.images
    assert torch.equal(out.image_index, batch.image_index)
    for n, text in enumerate(origin.expressions):
        read = perturbation.read(text, origin.ref_ids[n], origin.numbers[n])
        start, *words, end = out.input_ids[n, : int(out.attention_mask[n].sum())].tolist()
        assert words == token_ids(model, *read.split())
        assert [start, end] == token_ids(model, "[CLS]", "[SEP]")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(perturbation=st.sampled_from(ALL), data=st.data())
def test_the_grouping_of_batches_is_irrelevant(load, perturbation, data):
    images = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
    whole, some = load(), load(*images)
    seen = {}
    for batch, origin in (whole, some):
        out = perturbation(batch, origin)
        for n, key in enumerate(zip(origin.ref_ids, origin.numbers, strict=True)):
            ids = out.input_ids[n, : int(out.attention_mask[n].sum())].tolist()
            assert seen.setdefault(key, ids) == ids


def test_a_word_of_several_pieces_is_masked_as_a_whole_and_a_cut_sentence_keeps_its_end(model):
    words = ["red", "cir", "##cle", "##s", "left", "of"]
    tokenizer = ExpressionTokenizer(build_tokenizer(words), 6)
    texts = ["red circles unheard", "circles of red circles left of"]
    tokens = tokenizer(texts)
    batch = Batch(torch.zeros(1, 3, 4, 4), tokens.input_ids, tokens.attention_mask, torch.zeros(2, dtype=torch.long))
    for seed in range(6):
        masking = MaskedWords(0.7, seed=seed)
        origin = Origin([1], [5, 6], [0, 0], texts, model.preprocess, tokenizer)
        out = masking(batch, origin).input_ids
        for n, text in enumerate(texts):
            read = masking.read(text, origin.ref_ids[n], 0).split()
            expected = []
            for old, new in zip(text.split(), read, strict=True):
                count = {"circles": 3}.get(old, 1)
                plain = ["cir", "##cle", "##s"] if old == "circles" else [old if old in words else "[UNK]"]
                expected += ["[MASK]"] * count if new == "[MASK]" else plain
            expected = ["[CLS]", *expected[:4], "[SEP]"] if len(expected) > 4 else ["[CLS]", *expected, "[SEP]"]
            found = tokenizer.tokenizer.convert_ids_to_tokens(out[n].tolist())
            assert [token for token in found if token != "[PAD]"] == expected


def test_a_tokenizer_without_mask_token_is_refused(load, model):
    batch, origin = load(0)
    model.tokenizer.tokenizer.mask_token = None
    assert MaskedWords().unsupported_reason(model.tokenizer) == "the tokenizer has no mask token"
    assert DroppedWords().unsupported_reason(model.tokenizer) is None
    with pytest.raises(ValueError, match="can't be masked: the tokenizer has no mask token"):
        MaskedWords()(batch, origin)


def test_wrong_shares_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1, not 25"):
        DroppedWords(25)
