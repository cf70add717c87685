"""Texts, a line each: tokens by hand, a vocabulary of the training texts alone, and bad lines by their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nasdistill.data.base import DATASETS, Data, RawData, Words
from nasdistill.data.preparation import load
from nasdistill.data.words import PADDING, RESERVED, UNKNOWN, data_read_with, numbered, tokenised, vocabulary_of
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import NetworkSpec, save_network

LINES = [
    "good\tA fine, fine film!",
    "bad\tA poor film.",
    "good\tFine.",
    "bad\tPoor poor POOR",
    "good\tfine film",
    "bad\tno",
]


def texts(root: Path, **options: Any) -> Any:
    return DATASETS.parse({"name": "texts", "root": root, "least_often": 1, **options})


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path.write_bytes("\n".join(lines).encode(encoding, "surrogateescape"))
    return path


def read_back(source: RawData, part: str = "train") -> list[str]:
    """The tokens of each text, without padding."""
    assert source.words is not None
    rows = getattr(source, part).images[:, 0, 0].tolist()
    return [" ".join(source.words.tokens[number] for number in row if number != PADDING) for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fine, FINE film!", ["a", "fine", ",", "fine", "film", "!"]),
        ("don't\u00a0stop\u2028now", ["don", "'", "t", "stop", "now"]),
        ("cafe\u0301 caf\u00e9", ["caf\u00e9", "caf\u00e9"]),
        ("\u4f60\u597d, world", ["\u4f60", "\u597d", ",", "world"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            ["\u0939\u093f\u0928\u094d\u0926\u0940"],
        ),  # vowel signs belong to a word
        ("so\u200bft\x00 \U0001f600", ["soft", "\U0001f600"]),
        ("   ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert tokenised(text, "words", lowercase=True) == expected


def test_characters_and_capitals() -> None:
    assert tokenised("Ab \t c", "characters", lowercase=False) == ["A", "b", " ", "c"]


def test_the_vocabulary_holds_the_most_frequent_tokens() -> None:
    counted = [["b", "a", "c"], ["a", "b"], ["d", "b"]]
    assert vocabulary_of(counted, 100, 1) == (*RESERVED, "b", "a", "c", "d")
    assert vocabulary_of(counted, 100, 2) == (*RESERVED, "b", "a")
    assert vocabulary_of(counted, 3, 1) == (*RESERVED, "b")


def test_numbers_by_hand() -> None:
    (first, second), words = numbered([[["a", "b", "a"]], [["z"], []]], (*RESERVED, "a"), length=2)
    assert first.tolist() == [[[[2, 3]]]]  # cut at the end
    assert second.tolist() == [[[[4, 0]]], [[[0, 0]]]]
    assert first.dtype == torch.int32
    assert words == Words((*RESERVED, "a", "b", "z"), known=3)


def test_parts_have_files_of_their_own_and_the_training_texts_alone_make_the_vocabulary(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", LINES)
    write(tmp_path / "Test.tsv", ["bad\tnever heard film"])
    write(tmp_path / "dev.tsv", ["good\tunseen"])
    source = texts(tmp_path, length=5).read()
    assert source.classes == ("bad", "good")
    assert source.words.vocabulary[:4] == (*RESERVED, "fine", "poor")  # four times each, by their code
    assert not {"never", "heard", "unseen"} & set(source.words.vocabulary)
    assert read_back(source)[0] == "a fine , fine film"
    assert read_back(source, "test") == ["never heard film"]
    assert read_back(source, "validation") == ["unseen"]
    numbers = source.test.images.flatten()
    assert [bool(number >= source.words.known) for number in numbers] == [True, True, False, False, False]
    assert source.test.shape == (1, 1, 5)


def test_test_texts_that_are_split_off_are_not_in_the_vocabulary(tmp_path: Path) -> None:
    lines = [f"{label}\tword{number}" for number, label in enumerate("ab" * 10)]
    source = texts(write(tmp_path / "all.txt", lines)).read()
    assert (len(source.train), len(source.test)) == (16, 4)
    assert set(source.words.vocabulary[2:]) == set(read_back(source))
    again = texts(tmp_path / "all.txt", validation=0.3)
    one, other = load(again, 0), load(again, 1)
    assert one.words == other.words == source.words
    assert not torch.equal(one.train.images, other.train.images)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "lines", "options"),
    [
        ("a.txt", ["good so fine", "bad so poor"], {}),
        ("a.txt", ["__label__good so fine", "", "__label__bad so poor"], {}),
        ("a.tsv", ["good\tso fine", "bad\tso poor"], {}),
        ("a.tsv", ["id\tSentence\tLabel", "1\tso fine\tgood", "2\tso poor\tbad"], {}),
        ("a.tsv", ["n\ttweet\tmood", "1\tso fine\tgood", "2\tso poor\tbad"], {"columns": ["mood", "tweet"]}),
        ("a.tsv", ["so fine\tgood", "so poor\tbad"], {"columns": [2, 1]}),
        ("a.csv", ['good,"so fine"', "bad,so poor"], {}),
        ("a.csv", ["label,text", '"good","so', 'fine"', "bad,so poor"], {}),
    ],
    ids=["first word", "fasttext", "tabs", "header", "named", "numbers", "commas", "quoted line break"],
)
def test_forms_of_lines(name: str, lines: list[str], options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    write(tmp_path / "own" / name, lines)
    write(tmp_path / "own" / "test.txt", ["good fine"] if name == "a.txt" else ["good\tfine"])
    if options.get("columns"):
        (tmp_path / "own" / "test.txt").write_bytes((tmp_path / "own" / name).read_bytes())
    source = texts(tmp_path / "own", files={"train": name}, **options).read()
    assert read_back(source) == ["so fine", "so poor"]
    assert source.train.labels.tolist() == [1, 0]


def test_labels_that_are_numbers_keep_their_order(tmp_path: Path) -> None:
    lines = [f"{label} text {label}" for label in (10, 2, 1) for _ in range(2)]
    assert texts(write(tmp_path / "a.txt", lines), test=0.5).read().classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("only a label", r"line 2: it has no tab"),
        ("\tno label", "line 2: it has no label"),
        ("good\t  ", "line 2: it has a label and no text"),
        ("__label__a\t__label__b text", "line 2: it has several labels"),
        ("good\tcaf\udce9", "line 2: it is not encoded in utf-8; data.encoding"),
    ],
)
def test_bad_lines_are_named_or_left_out(
    line: str, sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("\n".join([LINES[0], line, *LINES[1:]]).encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"a\.tsv, {sentence}"):
        texts(path).read()
    kept = texts(path, broken="skip").read()
    assert len(kept.train) + len(kept.test) == len(LINES)
    assert "left out 1 lines" in caplog.text


def test_encodings_and_ends_of_lines(tmp_path: Path) -> None:
    expected = ["caf\u00e9 x\x85y".replace("\x85", " "), "so"]
    for encoding, end in (("utf-8-sig", "\r\n"), ("utf-16", "\n"), ("latin-1", "\r")):
        path = tmp_path / encoding / "train.txt"
        path.parent.mkdir()
        path.write_bytes(end.join(["a caf\u00e9 x\x85y", "b so"]).encode(encoding))
        write(path.with_name("test.txt"), ["a so"], encoding)
        source = texts(path.parent, encoding="utf-8" if encoding == "utf-8-sig" else encoding).read()
        assert read_back(source) == expected, encoding


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        ({}, {}, "no train.txt or train.tsv"),
        ({"train.txt": ["a x"], "train.tsv": ["a\tx"]}, {}, r"both train\.tsv and train\.txt"),
        ({"train.txt": ["a x", "a y"]}, {}, "all texts .* have the label 'a'"),
        ({"train.txt": ["a x", "b y"], "test.txt": ["c x"]}, {}, "the label 'c', which no training text has"),
        ({"train.txt": ["a x", "b y"], "test.txt": ["a x"]}, {"least_often": 2}, "no token occurs 2 times"),
        ({"train.txt": [""], "test.txt": ["a x"]}, {}, "train.txt holds no text"),
        ({"train.tsv": ["a\tb", "c\td"]}, {"columns": ["label", "tekst"]}, "no column 'label'"),
        ({"train.tsv": ["x\ty\tz", "c\td"]}, {"columns": [1, 3]}, "line 2: it has 2 columns, and column 3"),
        ({"train.txt": ["a x"]}, {"encoding": "klingon"}, "no encoding is called 'klingon'"),
        ({"train.txt": ["a x"]}, {"encoding": "hex"}, "no encoding is called 'hex'"),
        ({"train.tsv": ["Mood\tWords", *LINES]}, {}, "first line of .*, 'Mood', has no other line; .*data.columns"),
        ({"train.txt": ["\udc8b\udc9f"]}, {}, "line 1: it is not encoded in utf-8"),
        ({"train.txt": ["a x"]}, {"augmentations": ["flip"]}, "augmentations change pixels"),
        ({"train.txt": ["a x"]}, {"normalisation": {"mean": [0], "std": [1]}}, "which nothing normalises"),
        ({"train.txt": ["a x"]}, {"columns": [1, 1]}, "label and text are two columns"),
        ({"train.txt": ["a x"]}, {"words_of": "nowhere"}, "nowhere holds no network that reads texts"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: dict[str, list[str]], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    for name, lines in files.items():
        write(tmp_path / name, lines)
    with pytest.raises(UserError, match=sentence):
        texts(tmp_path, **options).read()


def loaded(folder: Path, lines: list[str], **options: Any) -> Data:
    folder.mkdir()
    write(folder / "train.tsv", lines)
    write(folder / "test.tsv", ["good\tfine novel"])
    return load(texts(folder, length=4, validation=0.4, **options), 0)


def test_other_texts_are_read_with_a_networks_vocabulary(tmp_path: Path) -> None:
    ours, theirs = loaded(tmp_path / "ours", LINES), loaded(tmp_path / "theirs", ["good\tnovel thing", "bad\tpoor"] * 3)
    assert ours.words
    assert theirs.words
    vocabulary = ours.words.vocabulary
    read = data_read_with(theirs, vocabulary)
    assert read.words
    assert read.words.vocabulary == vocabulary
    numbers = read.test.images.flatten().tolist()  # type: ignore[union-attr]
    assert numbers[0] == vocabulary.index("fine")  # which the training texts of these data do not have
    assert numbers[1] >= len(vocabulary)
    assert numbers[2:] == [PADDING, PADDING]
    assert torch.equal(data_read_with(read, theirs.words.vocabulary).train.images, theirs.train.images)  # type: ignore[union-attr]
    spec = NetworkSpec.for_data("text-cnn-4-2", ours)
    save_network(tmp_path / "network", spec, None)
    assert loaded(tmp_path / "again", ["good\tnovel thing", "bad\tpoor"] * 3, words_of=tmp_path / "network").words == (
        Words((*vocabulary, "novel", "thing"), len(vocabulary))
    )


def test_a_network_takes_what_it_does_not_know_for_unknown(tmp_path: Path) -> None:
    data = loaded(tmp_path / "own", LINES)
    assert data.words
    network = NetworkSpec.for_data("text-cnn-4-2", data).build().eval()
    known = data.words.known
    unknown, beyond = (torch.tensor([[[[number, 2.0, 0.0, 0.0]]]]) for number in (float(UNKNOWN), float(known + 3)))
    assert torch.equal(network(unknown), network(beyond))


def test_networks_for_images_do_not_read_texts(tmp_path: Path) -> None:
    data = loaded(tmp_path / "own", LINES)
    with pytest.raises(UserError, match="'wrn' reads images, and the data set holds texts"):
        NetworkSpec.for_data("wrn-10-1", data)
    with pytest.raises(SpecError, match="leave out the model's"):
        NetworkSpec.for_data({"name": "text-cnn", "vocabulary": 7}, data)
