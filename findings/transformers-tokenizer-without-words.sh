#!/usr/bin/env bash
# transformers 5.24.0: AutoTokenizer makes a tokenizer without any word of a folder that lacks its vocabulary.
#
# A folder or a Hub cache may hold tokenizer_config.json and not yet tokenizer.json or vocab.txt (a copy or a download that
# broke off, a server that answers one file and not the next). AutoTokenizer.from_pretrained then returns a BertTokenizer
# that knows its five special tokens: no error, no warning, and all sentences of so many words have the same ids. A text
# encoder that is given them trains and predicts without a word of them.
#
# Expected: an error that names the missing file, as for a folder without any of them. Seen:
#   known tokens: 5
#   'the man on the left' -> [2, 1, 1, 1, 1, 1, 3]
#   'a dog by a red door' -> [2, 1, 1, 1, 1, 1, 1, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import logging
import warnings
from pathlib import Path

import transformers
from transformers import AutoTokenizer, BertTokenizer

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "man", "on", "left", "a", "dog", "by", "red", "door"]
BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained("whole")
whole = AutoTokenizer.from_pretrained("whole")
assert whole("the man on the left")["input_ids"] == [2, 5, 6, 7, 5, 8, 3]

half = Path("half")
half.mkdir()
(half / "tokenizer_config.json").write_bytes(Path("whole/tokenizer_config.json").read_bytes())
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.utils.logging.get_logger("transformers").addHandler(handler)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tokenizer = AutoTokenizer.from_pretrained("half")
first, second = (tokenizer(text)["input_ids"] for text in ("the man on the left", "a dog by a red door"))
print(f"transformers {transformers.__version__}; warnings: {len(caught)}, logged: {len(said)}")
print(f"known tokens: {len(tokenizer)}")
print(f"'the man on the left' -> {first}")
print(f"'a dog by a red door' -> {second}")
assert len(tokenizer) == 5 and not caught and not said, "a missing vocabulary is noticed now"
assert set(first) == set(second) == {1, 2, 3}

(half / "tokenizer_config.json").rename("elsewhere.json")
try:
    AutoTokenizer.from_pretrained("half")
except (OSError, ValueError) as error:
    print(f"without tokenizer_config.json too: {type(error).__name__}")
else:
    raise AssertionError("a folder without any file of a tokenizer is accepted now")
PYTHON
