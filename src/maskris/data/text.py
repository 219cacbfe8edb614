"""What is a text to people, but to no tokenizer and no file: JSON can hold half a character."""


def trouble_of(text: str) -> str | None:
    r"""What makes a text unusable and what to do about it; ``None`` for a good one.

    JSON writes 😀 as the pair ``\ud83d\ude00``, and reads either half without the other. Such a half also stands for
    a byte that is no UTF-8, where a text comes from the command line or the name of a file.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start]).strip("'")
        return f"holds half a character ({half} in {ascii(text)[:60]}); write the whole character, in UTF-8"
    return None
