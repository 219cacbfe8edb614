"""CLIP's tokenizer from all its sources, with padding, end and mask where CRIS and ETRIS expect them."""

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizer, CLIPTokenizer

from maskris.data.shapes.language import vocabulary
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.encoders.tokenizers import EMBEDDED, OPENAI, build_clip_tokenizer, default_tokenizer
from maskris.strategies.masking import TextMasking

MERGES = ["t h", "th e</w>", "r e", "re d</w>", "c a", "ca t</w>"]
SENTENCES = ["The red cat!", "", "the <|endoftext|> cat * [MASK]", "red " * 30, "café !!"]


@pytest.fixture
def merges(tmp_path: Path) -> Path:
    path = tmp_path / "merges.txt"
    path.write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    return path


@pytest.fixture(params=["bpe", "words"])
def tokenizer(request: pytest.FixtureRequest, merges: Path) -> ExpressionTokenizer:
    source: Any = merges if request.param == "bpe" else ["the", "red", "cat", "!"]
    return ExpressionTokenizer(build_clip_tokenizer(source), 8)


def test_the_conventions(tokenizer: ExpressionTokenizer) -> None:
    tokens = tokenizer(SENTENCES)
    start, end = tokenizer.vocabulary_size - 2, tokenizer.vocabulary_size - 1
    assert (tokens.input_ids[:, 0] == start).all()
    length = tokens.attention_mask.sum(1)
    assert torch.equal(tokens.input_ids.argmax(1), length - 1), "the first largest id is the last token"
    assert (tokens.input_ids == end).sum(1).tolist() == [1] * len(SENTENCES), "text never becomes an end"
    assert (tokens.input_ids == start).sum(1).tolist() == [1] * len(SENTENCES)
    assert tokens.input_ids[tokens.attention_mask == 0].unique().tolist() == [0]
    assert tokenizer.pad_id == 0
    assert tokens.truncated.tolist()[3], "too long: cut, with the end token kept"
    assert tokens.input_ids[3, -1] == end
    assert tokens.input_ids[1, :3].tolist() == [start, end, 0], "no word at all"


def test_masked_words_move_neither_end_nor_padding(tokenizer: ExpressionTokenizer) -> None:
    tokens = tokenizer(["the red cat", "red", "the the red cat"] * 40)
    generator = torch.Generator().manual_seed(0)
    mask_id = tokenizer.mask_id
    assert mask_id is not None
    seen = torch.zeros(tokenizer.vocabulary_size, dtype=torch.bool)
    for masking in (
        TextMasking(),
        TextMasking(ratio=1.0, mask=1.0, random=0.0),
        TextMasking(ratio=1.0, mask=0, random=1),
    ):
        for _ in range(30):
            masked = masking(tokens.input_ids, tokenizer, generator)
            special = torch.isin(tokens.input_ids, torch.tensor(sorted(tokenizer.special_ids)))
            assert torch.equal(masked[special], tokens.input_ids[special])
            assert torch.equal(masked.argmax(1), tokens.input_ids.argmax(1))
            if masking.mask == 1:
                assert (masked[~special] == mask_id).all()
            seen[masked[~special]] = True
    start = tokenizer.vocabulary_size - 2
    assert seen[:start].float().mean() > 0.9, "any word may take a word's place"
    assert not seen[start:].any(), "start and end never do"


def test_saved_and_loaded(tokenizer: ExpressionTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "saved")
    for again in (
        ExpressionTokenizer.from_pretrained(tmp_path / "saved", 8),
        ExpressionTokenizer(build_clip_tokenizer(str(tmp_path / "saved")), 8),
    ):
        assert torch.equal(again(SENTENCES).input_ids, tokenizer(SENTENCES).input_ids)
        assert (again.pad_id, again.mask_id, again.special_ids) == (0, tokenizer.mask_id, tokenizer.special_ids)


def test_byte_pairs(merges: Path) -> None:
    tokenizer = build_clip_tokenizer(merges)
    assert isinstance(tokenizer, CLIPTokenizer)
    assert len(tokenizer) == 512 + len(MERGES) + 2
    ids = ExpressionTokenizer(tokenizer).encode(["The RED cats * !"])[0][0]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        *("<|startoftext|>", "the</w>", "red</w>", "ca", "t", "s</w>", "*</w>", "!</w>", "<|endoftext|>")
    ]
    # OpenAI's numbers: bytes from "!" on, then the same at the ends of words.
    assert tokenizer.convert_tokens_to_ids(["!", "*", "!</w>", "*</w>", "th"]) == [0, 9, 256, 265, 512]
    assert (tokenizer.pad_token, tokenizer.mask_token) == ("!", "*</w>")


def test_all_kinds_of_merges_give_the_same(merges: Path, tmp_path: Path) -> None:
    expected = ExpressionTokenizer(build_clip_tokenizer(merges)).encode(SENTENCES)
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2', *MERGES]
    packed = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    plain = CLIPTokenizer(
        vocab=build_clip_tokenizer(merges).get_vocab(), merges=[tuple(line.split()) for line in MERGES]
    )
    plain.save_pretrained(tmp_path / "hub")  # as on the Hub: pads with the end token, has no mask token
    assert CLIPTokenizer.from_pretrained(tmp_path / "hub").pad_token_id == len(plain) - 1
    for source in (tmp_path, str(packed), plain, str(tmp_path / "hub")):
        tokenizer = build_clip_tokenizer(source)
        assert ExpressionTokenizer(tokenizer).encode(SENTENCES) == expected
        assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 265)
    assert plain.mask_token is None, "the caller's tokenizer is left as it is"


def test_words(tokenizer: ExpressionTokenizer) -> None:
    tokenizer = ExpressionTokenizer(build_clip_tokenizer(["the", "red", "cat"]))
    assert isinstance(tokenizer.tokenizer, BertTokenizer)
    assert tokenizer(["The red dog"]).input_ids.tolist() == [[6, 3, 4, 1, 7]]
    assert (tokenizer.pad_id, tokenizer.mask_id, tokenizer.vocabulary_size) == (0, 2, 8)


def test_a_tokenizer_whose_end_is_not_the_largest_is_refused() -> None:
    other = BertTokenizer(
        vocab={token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
    )
    with pytest.raises(ValueError, match="the end token has id None of 6"):
        build_clip_tokenizer(other)
    other.eos_token = "[SEP]"
    with pytest.raises(ValueError, match="by its largest id; in this tokenizer the end token has id 3 of 6"):
        build_clip_tokenizer(other)


def test_what_is_no_file_of_merges_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the\nred\n")
    with pytest.raises(ValueError, match=r"words\.txt is no file of merges: a line must have two parts, not 'the'"):
        build_clip_tokenizer(tmp_path / "words.txt")


def test_the_default_is_openais() -> None:
    assert default_tokenizer("CLIP", "RN50", OPENAI) == default_tokenizer("CLIP", "some/where.pt", OPENAI) == OPENAI
    assert default_tokenizer("text encoder", "some/where") == "some/where"
    with pytest.raises(ValueError, match="a list of words or a folder"):
        default_tokenizer("CLIP", {"embed_dim": 4}, OPENAI)


def test_the_embedded_data_set_has_a_vocabulary_by_name() -> None:
    for build in (build_tokenizer, build_clip_tokenizer):
        tokenizer = build(EMBEDDED)
        ids = tokenizer(" ".join(vocabulary())).input_ids
        assert tokenizer.unk_token_id not in ids
        assert len(tokenizer) == len(vocabulary()) + 5
