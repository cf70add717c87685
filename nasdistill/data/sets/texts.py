"""Texts of one's own, a line each."""

from __future__ import annotations

import codecs
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator

from nasdistill.artifacts import NETWORK_FILES
from nasdistill.data.base import DATASETS, ImageSet, RawData
from nasdistill.data.labelled_lines import Column, Lines, read_lines
from nasdistill.data.own import PARTS
from nasdistill.data.preparation import split_off
from nasdistill.data.split_test_set import SplitsTest
from nasdistill.data.words import RESERVED, Unit, numbered, tokenised, vocabulary_of
from nasdistill.errors import SpecError, UserError
from nasdistill.storage import read_json, sha256_of, sha256_of_json

log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".tsv", ".csv", ".tab", "")
Part = Literal["train", "val", "test"]


@DATASETS.register("texts")
class Texts(SplitsTest):
    """Texts with labels, one a line: `label text`, or columns with tabs between (or commas, in `.csv` files).

    A text becomes the numbers of its tokens, an image of 1x1xLENGTH for networks that read texts. The vocabulary is
    built from the training part alone, before validation texts are split off, so that all seeds share one.
    """

    source: ClassVar[str] = "Kim 2014, Convolutional Neural Networks for Sentence Classification, for the form of data"
    access: ClassVar[frozenset[str]] = frozenset({"root", "words_of"})

    root: Path = Field(
        description="a file, or a folder with files of usual names: train.tsv, test.txt, and dev.tsv if there is one"
    )
    files: dict[Part, str] = Field(
        default_factory=dict, description="the files in the folder where their names are others, e.g. {train: a.txt}"
    )
    columns: tuple[Column, Column] | None = Field(
        None,
        description="label and text, by the names in a header or by numbers from 1 on, e.g. [label, sentence] or "
        "[2, 1]; by default usual names in a header, else the label comes first",
    )
    encoding: str = Field("utf-8", description="of the files")
    tokens: Unit = Field("words", description="words, with punctuation apart, or single characters")
    lowercase: bool = Field(True, description="take capitals for small letters")
    length: int = Field(
        64, ge=1, le=65_536, description="tokens of a text; longer ones are cut, shorter ones filled up"
    )
    vocabulary: int = Field(
        20_000,
        gt=len(RESERVED),
        le=10_000_000,
        description="most tokens that networks know, padding and unknown included",
    )
    least_often: Annotated[int, Field(gt=0)] = Field(
        2, description="times that a token must occur in the training texts to be known"
    )
    words_of: Path | None = Field(
        None, description="folder of a network's artifact, whose vocabulary is taken in place of one of these texts"
    )
    broken: Literal["stop", "skip"] = Field(
        "stop",
        description="what a line without a label or a text does: stop with its number, or be left out and counted",
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)  # codecs that are for no text, such as hex, are found as well
            return codecs.lookup(encoding).name
        except (LookupError, ValueError):
            raise SpecError(f"no encoding is called {encoding!r}; usual ones are utf-8, latin-1 and utf-16") from None

    @field_validator("columns")
    @classmethod
    def _columns_differ(cls, columns: tuple[Column, Column] | None) -> tuple[Column, Column] | None:
        if columns is not None and (columns[0] == columns[1] or any(isinstance(n, int) and n < 1 for n in columns)):
            raise SpecError(f"label and text are two columns, counted from 1, got {list(columns)}")
        return columns

    @model_validator(mode="after")
    def _no_pixels(self) -> Texts:
        if self.augmentations:
            raise SpecError("augmentations change pixels, and these are texts", ("augmentations",))
        if self.normalisation != "computed":
            raise SpecError("texts are numbers of tokens, which nothing normalises", ("normalisation",))
        return self

    def fingerprint(self) -> str:
        words = self.words_of and self._vocabulary_there(self.words_of)
        return sha256_of_json([{part: sha256_of(path) for part, path in self._paths().items()}, words])

    def read(self) -> RawData:
        vocabulary = self._vocabulary_there(self.words_of) if self.words_of else None
        paths = self._paths()
        log.info("texts: %s", ", ".join(f"{part} from {path}" for part, path in paths.items()))
        lines = {part: self._lines(path) for part, path in paths.items()}
        if self.columns is None:
            _refuse_header(paths["train"], lines["train"].labels)
        classes = _in_order(set(lines["train"].labels))
        if len(classes) < 2:
            raise UserError(
                f"all texts of {paths['train']} have the label {classes[0]!r}; at least 2 classes are needed"
            )
        if "test" not in lines:  # before the vocabulary is built, which must not know of them
            lines["train"], lines["test"] = self._split(lines["train"], classes)
        labels = {part: _numbers(each, classes, self.root) for part, each in lines.items()}
        texts = {
            part: [tokenised(text, self.tokens, self.lowercase) for text in each.texts] for part, each in lines.items()
        }
        if vocabulary is None:
            vocabulary = vocabulary_of(texts["train"], self.vocabulary, self.least_often)
        if len(vocabulary) == len(RESERVED):
            problem = f"no token occurs {self.least_often} times in the training texts, so that none would be known"
            raise SpecError(problem, ("least_often",))
        numbers, words = numbered(texts.values(), vocabulary, self.length)
        lengths = [len(text) for text in texts["train"]]
        log.info(
            "%d tokens are known; %.1f %% of the training texts have more than %d and are cut",
            *(words.known, 100 * sum(length > self.length for length in lengths) / len(lengths), self.length),
        )
        sets = {part: ImageSet(each, labels[part]) for part, each in zip(texts, numbers, strict=True)}
        return RawData(sets["train"], sets["test"], classes, sets.get("val"), words, split_test="test" not in paths)

    def _paths(self) -> dict[Part, Path]:
        """The file of each part.

        Raises:
            UserError: it is missing, or two files may be it.
        """
        if self.root.is_file():
            if self.files:
                raise SpecError(f"{self.root} is a file; files are named in a folder", ("files",))
            return {"train": self.root}
        if not self.root.is_dir():
            raise SpecError(f"there is no {self.root}; set data.root to a file of texts or to a folder", ("root",))
        found: dict[Part, Path] = {}
        for part, name in self.files.items():
            found[part] = self.root / name
            if not found[part].is_file():
                raise SpecError(f"there is no file {found[part]}", ("files", part))
        for path in sorted(self.root.iterdir()):
            usual = _usual_part(path)
            if usual is None or usual in self.files or path in found.values():
                continue
            if usual in found:
                problem = (
                    f"both {found[usual].name} and {path.name} in {self.root} may be {usual}; say which in data.files"
                )
                raise SpecError(problem, ("files",))
            found[usual] = path
        if "train" not in found:
            names = ", ".join(sorted(path.name for path in self.root.iterdir())[:8])
            problem = (
                f"{self.root} holds {names or 'nothing'} and no train.txt or train.tsv; name the file in data.files"
            )
            raise SpecError(problem, ("files",))
        return {part: found[part] for part in ("train", "val", "test") if part in found}

    def _lines(self, path: Path) -> Lines:
        lines = read_lines(path, self.encoding, self.columns)
        if lines.bad:
            first, problem = next(iter(lines.bad.items()))
            if self.broken == "stop":
                raise UserError(
                    f"{path}, line {first}: {problem}; mend it, or leave out such lines with data.broken=skip"
                )
            log.warning("left out %d lines of %s, the first is line %d: %s", len(lines.bad), path, first, problem)
        if not lines.texts:
            raise UserError(f"{path} holds no text with a label")
        return lines

    def _vocabulary_there(self, folder: Path) -> tuple[str, ...]:
        """The vocabulary of the network in a folder."""
        spec = folder / NETWORK_FILES[0]
        content = read_json(spec) if spec.is_file() else {}
        tokens = content.get("vocabulary") if isinstance(content, dict) else None
        if not isinstance(tokens, list) or tuple(tokens[: len(RESERVED)]) != RESERVED:
            raise SpecError(f"{folder} holds no network that reads texts", ("words_of",))
        return tuple(map(str, tokens))

    def _split(self, lines: Lines, classes: tuple[str, ...]) -> tuple[Lines, Lines]:
        places = torch.arange(len(lines.texts)).view(-1, 1, 1, 1)
        parts = split_off(ImageSet(places, _numbers(lines, classes, self.root)), self.test, self.split_seed, classes)
        train, test = (lines.at(part.images.flatten().tolist()) for part in parts if isinstance(part, ImageSet))
        return train, test


def _numbers(lines: Lines, classes: tuple[str, ...], root: Path) -> torch.Tensor:
    ids = {name: number for number, name in enumerate(classes)}
    strange = next((label for label in lines.labels if label not in ids), None)
    if strange is not None:
        known = ", ".join(map(repr, classes[:12]))
        raise UserError(f"{root} holds the label {strange!r}, which no training text has (these have {known})")
    return torch.tensor([ids[label] for label in lines.labels])


def _usual_part(path: Path) -> Part | None:
    """Which part a file is by its name: `train.tsv`, `stsa.binary.dev`, `Test-Set.txt`."""
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    named = [part for part, names in PARTS.items() if not set(words).isdisjoint(names)]
    plain = path.suffix.lower() in SUFFIXES or path.suffix.lower().lstrip(".") in sum(PARTS.values(), ())
    return named[0] if len(named) == 1 and plain and path.is_file() and not path.name.startswith(".") else None  # type: ignore[return-value]


def _refuse_header(path: Path, labels: list[str]) -> None:
    """Refuse a first line whose label no other has, where all others have company: it most likely names columns.

    Raises:
        UserError: says how to name the columns, and how to insist.
    """
    counts = Counter(labels)
    if [label for label, count in counts.items() if count == 1] == labels[:1] and len(counts) > 2:
        raise UserError(
            f"the label of the first line of {path}, {labels[0]!r}, has no other line; if it is the name of a column, "
            "set data.columns to the names of those of label and text, and if it is a label, to [1, 2]"
        )


def _in_order(labels: set[str]) -> tuple[str, ...]:
    """Numbers in the order of numbers, other labels in that of their characters."""
    numeric = all(re.fullmatch(r"[+-]?[0-9]{1,18}", label) for label in labels)
    return tuple(sorted(labels, key=int) if numeric else sorted(labels))
