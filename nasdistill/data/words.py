"""Texts as numbers: what is a token, which of them a network knows, and sequences of one length."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from nasdistill.data.base import Data, Images, ImageSet, Words

PADDING, UNKNOWN = 0, 1
RESERVED = ("<padding>", "<unknown>")
"""The first two tokens of every vocabulary: what fills a short text, and what stands for all that is not known."""

Unit = Literal["words", "characters"]

_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


class _Apart(dict[int, str | None]):
    """A table for `str.translate`, filled as characters come: what stands for itself gets spaces around it."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        found: str | None = character
        if character.isspace():
            found = " "
        elif category in ("Cc", "Cf", "Cs"):
            found = None
        elif category[0] in "PS" or any(first <= code <= last for first, last in _IDEOGRAPHS):
            found = f" {character} "
        self[code] = found
        return found


_APART = _Apart()


def tokenised(text: str, unit: Unit, lowercase: bool) -> list[str]:
    """The tokens of a text, in Unicode's form NFC.

    `words`: what stands between spaces; punctuation, symbols and ideographs are tokens of their own, control characters
    are dropped. `characters`: every character, and one space for each run of spaces.

    Source: Devlin et al. 2018, BERT, the released code's basic tokenizer, which also strips accents.
    """
    text = unicodedata.normalize("NFC", text.lower() if lowercase else text)
    if unit == "characters":
        return list(" ".join(text.split()))
    return text.translate(_APART).split()


def vocabulary_of(texts: Iterable[Sequence[str]], most: int, least_often: int) -> tuple[str, ...]:
    """The reserved tokens, then the most frequent ones of the texts; of equally frequent ones the first by its code.

    Args:
        most: how many tokens it may have, the reserved ones included.
        least_often: tokens that are rarer are left out.
    """
    counts = Counter(token for text in texts for token in text)
    frequent = sorted((-count, token) for token, count in counts.items() if count >= least_often)
    return (*RESERVED, *(token for _count, token in frequent[: most - len(RESERVED)]))


def numbered(
    parts: Iterable[Sequence[Sequence[str]]], vocabulary: tuple[str, ...], length: int
) -> tuple[list[torch.Tensor], Words]:
    """Each part as tokens' numbers, int32, [N, 1, 1, length]: cut at the end, or filled with padding.

    A token that the vocabulary lacks has a number of its own beyond it, which networks read as unknown; so nothing is
    lost for one with another vocabulary.
    """
    ids = {token: number for number, token in enumerate(vocabulary)}
    found = []
    for texts in parts:
        numbers = np.full((len(texts), 1, 1, length), PADDING, np.int32)
        for row, text in zip(numbers, texts, strict=True):
            kept = [ids.setdefault(token, len(ids)) for token in text[:length]]
            row[0, 0, : len(kept)] = kept
        found.append(torch.from_numpy(numbers))
    return found, Words(tuple(ids), len(vocabulary))


def read_with(images: Images, words: Words, vocabulary: tuple[str, ...]) -> tuple[ImageSet, Words]:
    """Texts in the numbers of another vocabulary.

    Args:
        images: texts as int32, [N, 1, 1, L], by the numbers of `words`.
    """
    assert isinstance(images, ImageSet)  # as texts are
    tokens = tuple(dict.fromkeys((*vocabulary, *words.tokens)))
    ids = {token: number for number, token in enumerate(tokens)}
    table = torch.tensor([ids[token] for token in words.tokens], dtype=torch.int32)
    return ImageSet(table[images.images.long()], images.labels), Words(tokens, len(vocabulary))


def data_read_with(data: Data, vocabulary: tuple[str, ...] | None) -> Data:
    """A data set of texts in the numbers of another vocabulary; any other, or one that has it already, as it is."""
    if data.words is None or vocabulary is None or data.words.vocabulary == vocabulary:
        return data
    (train, words), (validation, _), (test, _) = (
        read_with(part, data.words, vocabulary) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test, words=words)
