"""From text to tokens, by one stated rule for Python source and one for everything else.

**Python source** is read by :mod:`tokenize`: names, numbers and operators are tokens as they stand; an end of line is
``<newline>``, and a change of indentation ``<indent>`` or ``<dedent>``. Comments and strings, docstrings among them,
are text, and have the tokens that text has.

**Text** has a token for each run of letters, digits and underscores, and for each other sign that is no space.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

NEWLINE, INDENT, DEDENT = "<newline>", "<indent>", "<dedent>"
_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = {tokenize.NEWLINE: NEWLINE, tokenize.INDENT: INDENT, tokenize.DEDENT: DEDENT}
#: From Python 3.12 on an f-string comes in parts: what stands in braces is source, the rest is text.
_TEXT = {tokenize.COMMENT, tokenize.STRING}
_TEXT |= {getattr(tokenize, name, tokenize.STRING) for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")}
_LEFT_OUT = {tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}


def text_tokens(text: str) -> list[str]:
    """Words and signs of a text."""
    return _WORD.findall(text)


def source_tokens(content: bytes) -> list[str] | None:
    """Tokens of a file of Python source; None if it cannot be read as one."""
    try:
        return list(_of_source(content))
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        return None


def _of_source(content: bytes) -> Iterator[str]:
    for kind, text, *_ in tokenize.tokenize(io.BytesIO(content).readline):
        if kind in _MARKS:
            yield _MARKS[kind]
        elif kind in _TEXT:
            yield from text_tokens(text)
        elif kind not in _LEFT_OUT and (word := text.strip()):
            yield word
