"""The text encoder's own ids, except where the official code lets a sentence break them."""

import json
import pickle
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer, CLIPTokenizer

from maskris.data.tokenizer import ExpressionTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "man", "red", "shirt", "mask", "[", "]", "cls", "sep", "##s", ",", "pad", "unk"]
PAD, UNK, CLS, SEP, MASK = range(5)


def bert(max_length=20, keep_end_token=True):
    words = BertTokenizer(vocab={word: i for i, word in enumerate(SPECIAL + WORDS)})
    return ExpressionTokenizer(words, max_length, keep_end_token)


def clip(max_length=20):
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["<", "|", ">", "[", "]"]
    vocabulary = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return ExpressionTokenizer(CLIPTokenizer(vocab={v: i for i, v in enumerate(vocabulary)}, merges=[]), max_length)


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "reference/maskris/extras.json").read_text())


@pytest.fixture(scope="module", params=[True, False], ids=["end kept", "end cut off"])
def official(golden, request):
    words = BertTokenizer(vocab={v: i for i, v in enumerate(golden["tokenizer.vocab"])})
    return ExpressionTokenizer(words, keep_end_token=request.param)


def test_ids_equal_the_official_ones(golden, official):
    cases = golden["tokenizer.cases"]
    tokens = official([case["text"] for case in cases], pad_to=20)
    deviations = []
    for case, ids, mask, truncated in zip(
        cases, tokens.input_ids.tolist(), tokens.attention_mask.tolist(), tokens.truncated.tolist(), strict=True
    ):
        if "[MASK]" in case["text"]:
            deviations.append("literal special token")
            assert set(case["ids"][1:-1]) & {101, 102, 103}, "the official code makes it special"
            assert not set(ids[1 : sum(mask) - 1]) & {0, 101, 102, 103}
        elif len(case["ids"]) > 20:
            deviations.append("truncated")
            assert truncated
            assert case["ids20"][19] != 102
            assert ids == ([*case["ids20"][:19], 102] if official.keep_end_token else case["ids20"])
            assert mask == case["mask20"]
        else:
            assert not truncated
            assert (ids, mask) == (case["ids20"], case["mask20"]), case["text"]
    assert sorted(deviations) == ["literal special token", "truncated"]
    assert len(cases) > 10


def test_ids_of_the_synthetic_data_set_equal_the_official_ones(shared, official):
    mini = json.loads((shared / "reference/maskris/minidata.json").read_text())
    pickled = (shared / "reference/maskris/minidata/refcoco/refs(unc).p").read_bytes()
    sentences = {ref["ref_id"]: [s["sent"] for s in ref["sentences"]] for ref in pickle.loads(pickled)}
    pairs = []  # ids of the official code, our sentence
    for ref_id, rows in zip(mini["train_ref_ids"], mini["train_ids"], strict=True):
        pairs += zip(rows, sentences[ref_id], strict=True)
    for split in ("val", "testA"):
        for ref_id, rows in groupby(mini[split], key=lambda row: row["ref_id"]):
            pairs += zip([row["ids"] for row in rows], sentences[ref_id], strict=True)
    assert len(pairs) == sum(map(len, mini["train_ids"])) + 13 + 6
    tokens = official([text for _, text in pairs], pad_to=20)
    for (expected, text), ids, truncated in zip(
        pairs, tokens.input_ids.tolist(), tokens.truncated.tolist(), strict=True
    ):
        assert ids == ([*expected[:19], 102] if truncated and official.keep_end_token else expected), text
    assert 0 < tokens.truncated.sum() < len(pairs)


@pytest.mark.parametrize("text", ["[MASK]", "[SEP] man", "the [CLS] man", "[PAD]", "[UNK]"])
def test_literal_special_tokens_stay_text(text):
    ids = bert()([text]).input_ids[0].tolist()
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert not set(ids[1:-1]) & {PAD, UNK, CLS, SEP, MASK}
    assert WORDS.index("[") + len(SPECIAL) in ids


@pytest.mark.parametrize("make", [bert, clip])
@given(text=st.text(max_size=40) | st.sampled_from(["<|endoftext|>", "a <|startoftext|> b", "x[MASK]y", "[ MASK ]"]))
def test_no_sentence_breaks_out(make, text):
    tokenizer = make(12)
    tokens = tokenizer([text], pad_to=15)
    ids = tokens.input_ids[0, : tokens.attention_mask[0].sum()].tolist()
    empty = tokenizer([""]).input_ids[0].tolist()
    assert (ids[0], ids[-1]) == (empty[0], empty[-1])
    assert 2 <= len(ids) <= 12
    assert not set(ids[1:-1]) & (tokenizer.special_ids - {tokenizer.tokenizer.unk_token_id})
    assert tokens.input_ids[0, len(ids) :].eq(tokenizer.pad_id).all()
    assert tokens.attention_mask[0].tolist() == [1] * len(ids) + [0] * (15 - len(ids))


@given(st.lists(st.sampled_from(WORDS[:4]), max_size=15))
def test_long_sentences_lose_words_but_not_their_end(words):
    tokens = bert(8)([" ".join(words)])
    ids = [len(SPECIAL) + WORDS.index(word) for word in words]
    assert tokens.input_ids[0].tolist() == [CLS, *ids[:6], SEP]
    assert tokens.truncated.tolist() == [len(words) > 6]


@given(st.lists(st.sampled_from(WORDS[:4]), max_size=15))
def test_long_sentences_lose_their_end_as_published(words):
    tokens = bert(8, keep_end_token=False)([" ".join(words)])
    ids = [CLS, *(len(SPECIAL) + WORDS.index(word) for word in words), SEP]
    assert tokens.input_ids[0].tolist() == ids[:8]
    assert tokens.truncated.tolist() == [len(words) > 6]


def test_an_encoder_without_end_token_keeps_another_word():
    tokenizer = bert(5)
    tokenizer.tokenizer.sep_token = None
    assert tokenizer._truncate([CLS, 5, 6, 7, 8, UNK]) == [CLS, 5, 6, 7, 8]


def test_clip_sentences_keep_their_end():
    tokenizer = clip(5)
    end = tokenizer.tokenizer.eos_token_id
    tokens = tokenizer(["abcdefgh", "a"])
    assert tokens.input_ids[:, 0].tolist() == [tokenizer.tokenizer.bos_token_id] * 2
    assert tokens.input_ids[0, -1] == end
    assert tokens.input_ids[1].tolist()[2:] == [end, tokenizer.pad_id, tokenizer.pad_id]
    assert tokens.attention_mask.sum(1).tolist() == [5, 3]
    assert tokens.truncated.tolist() == [True, False]
    assert tokenizer.mask_id is None


def test_padding_is_to_the_longest_or_as_told():
    tokenizer = bert()
    tokens = tokenizer(["the man", "the man , the man"])
    assert tokens.input_ids.shape == (2, 7)
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == torch.int64
    wide = tokenizer(["the man"], pad_to=9)
    assert wide.input_ids.shape == (1, 9)
    assert wide.attention_mask[0].tolist() == [1] * 4 + [0] * 5
    with pytest.raises(ValueError, match="pad to 3 tokens: a sentence has 4"):
        tokenizer(["the man"], pad_to=3)
    with pytest.raises(ValueError, match="pad to 0"):
        tokenizer(["the man"], pad_to=0)


def test_no_expression_gives_an_empty_batch():
    tokens = bert()([])
    assert tokens.input_ids.shape == tokens.attention_mask.shape == (0, 0)
    assert tokens.truncated.shape == (0,)


def test_a_sentence_is_independent_of_its_neighbors():
    tokenizer = bert(8)
    texts = ["the man", "red shirt , red shirt , red", "", "xyz"]
    together = tokenizer(texts, pad_to=8)
    for i, text in enumerate(texts):
        assert torch.equal(tokenizer([text], pad_to=8).input_ids[0], together.input_ids[i])


def test_one_string_is_not_a_list_of_letters():
    with pytest.raises(TypeError, match="put it in a list"):
        bert()("the man")
    with pytest.raises(TypeError, match="not NoneType"):
        bert()(["the man", None])


def test_what_cannot_work_is_refused():
    tokenizer = bert().tokenizer
    with pytest.raises(ValueError, match="no room for a word"):
        ExpressionTokenizer(tokenizer, 2)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        ExpressionTokenizer(tokenizer)


def test_it_reports_its_special_ids():
    tokenizer = bert()
    assert tokenizer.special_ids == {PAD, UNK, CLS, SEP, MASK}
    assert (tokenizer.pad_id, tokenizer.mask_id) == (PAD, MASK)
    assert tokenizer.vocabulary_size == tokenizer.replacement_count == len(SPECIAL) + len(WORDS)


def test_special_tokens_behind_the_words_replace_none():
    tokenizer = clip(5)
    end, start = tokenizer.tokenizer.eos_token_id, tokenizer.tokenizer.bos_token_id
    assert (start, end) == (tokenizer.vocabulary_size - 2, tokenizer.vocabulary_size - 1)
    assert tokenizer.replacement_count == tokenizer.vocabulary_size - 2


def test_it_survives_saving_and_pickling(tmp_path):
    tokenizer = bert(6)
    text = ["the red shirt , the [MASK] man"]
    tokenizer.save_pretrained(tmp_path)
    for again in (ExpressionTokenizer.from_pretrained(tmp_path, 6), pickle.loads(pickle.dumps(tokenizer))):
        assert torch.equal(again(text).input_ids, tokenizer(text).input_ids)
        assert again.max_length == 6
