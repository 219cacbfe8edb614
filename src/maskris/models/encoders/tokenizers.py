"""CLIP's tokenizer with the conventions of CRIS and ETRIS: padding is id 0, and the end of text is the largest id.

CLIP's vocabulary has neither padding nor a mask token. Two of its tokens stand in, registered in the tokenizer itself
so that they are saved with it: ``!`` (id 0) pads, as published, and ``*`` stands for a masked word, which is our own
decision: it is trained, names nothing, and hides letters and words in the texts of the web on which CLIP was trained.
"""

import copy
import gzip
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from maskris.data.shapes.language import vocabulary
from maskris.utils.files import damage, is_lfs_pointer

START, END, MASK_STAND_IN = "<|startoftext|>", "<|endoftext|>", "*</w>"
OPENAI = "openai/clip-vit-base-patch16"  # all of OpenAI's CLIPs share this tokenizer
EMBEDDED = "maskris/shapes"
"""Names, wherever a tokenizer is asked for, the words of the embedded data set."""
_MERGES = 49152 - 256 - 2  # of OpenAI's file, those that belong to CLIP


def words_or_source(source: Any) -> Any:
    """The list of words that `EMBEDDED` stands for; any other source of a tokenizer as it is."""
    return vocabulary() if source == EMBEDDED else source


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that `transformers` has saved.

    Raises:
        FileNotFoundError: If there is no such folder; without this, its path would be looked up on the Hub.
        ValueError: If there is no whole tokenizer in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder.parent} holds no whole model: there is no folder {folder.name} in it; copy or download it too"
        )
    try:
        return load_tokenizer(folder, local_files_only=True)
    except Exception as error:  # of several libraries, one of which raises nothing narrower
        pointers = [file for file in sorted(folder.iterdir()) if is_lfs_pointer(file)]
        raise ValueError(damage((pointers or [folder])[0], "folder of a tokenizer", error)) from error


def load_tokenizer(source: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub, as `transformers` loads it.

    Raises:
        OSError: If there is none, or no word in it. Where files are missing or a server fails, `transformers` (5.x)
            makes one of special tokens alone, to which every word is unknown.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **options)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise OSError(f"no words are in the tokenizer {source}; its vocabulary is missing: tokenizer.json or vocab.txt")
    return tokenizer


def default_tokenizer(kind: str, source: dict[str, Any] | str | Path, published: str | None = None) -> str:
    """Where the tokenizer of an encoder, such as a text encoder, lies: at `published`, else where the weights lie.

    Raises:
        ValueError: If the source is a configuration, which names no tokenizer.
    """
    if isinstance(source, dict):
        raise ValueError(f"A {kind} given as a configuration needs a tokenizer: a list of words or a folder")
    return published or str(source)


def build_clip_tokenizer(source: str | Path | list[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer for CLIP's text encoder, whose padding has id 0 and whose end of text has the largest id.

    Args:
        source: Hub id or folder; a file of merges (``merges.txt``, or OpenAI's ``bpe_simple_vocab_16e6.txt.gz``), from
            which the vocabulary follows; a list of words, which becomes a lower-case WordPiece tokenizer with a mask
            token of its own; `EMBEDDED`; or a tokenizer, which is copied.

    Raises:
        OSError: If there is no such tokenizer.
        ValueError: If its end of text isn't the largest id, from which CLIP knows where a sentence ends.
    """
    source = words_or_source(source)
    if isinstance(source, list):
        tokens = ["[PAD]", "[UNK]", "[MASK]", *source, START, END]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        return BertTokenizer(vocab=vocabulary, cls_token=START, sep_token=END, bos_token=START, eos_token=END)
    if isinstance(source, (str, Path)):
        merges = Path(source)
        if merges.is_dir() and not (merges / "tokenizer_config.json").is_file():  # nothing else about the tokenizer
            merges /= "merges.txt"
        tokenizer = _from_merges(merges) if merges.is_file() else cast(Any, load_tokenizer(source))
    else:
        tokenizer = copy.deepcopy(source)
    if tokenizer.eos_token_id is None or tokenizer.eos_token_id != len(tokenizer) - 1:
        raise ValueError(
            f"CLIP finds the end of a sentence by its largest id; in this tokenizer the end token has id "
            f"{tokenizer.eos_token_id} of {len(tokenizer)}"
        )
    if tokenizer.pad_token_id != 0:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    if tokenizer.mask_token is None and MASK_STAND_IN in tokenizer.get_vocab():
        tokenizer.mask_token = MASK_STAND_IN
    return tokenizer


def _from_merges(path: Path) -> PreTrainedTokenizerBase:
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith(("#version", '"bpe_simple_vocab'))][:_MERGES]
    if wrong := next((line for line in merges if len(line.split()) != 2), None):
        raise ValueError(f"{path} is no file of merges: a line must have two parts, not {wrong!r}")
    letters = list(bytes_to_unicode().values())
    joined = ("".join(line.split()) for line in merges)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *joined, START, END]
    pairs: Any = [tuple(line.split()) for line in merges]  # transformers asks for strings and takes pairs
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs)
