"""Embeddings of the classes' names from a file: what is read, what is refused, and that the content makes the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from nasdistill.errors import SpecError
from nasdistill.recipes.provenance import key_of
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.zero_shot.class_embeddings import read_embeddings
from nasdistill.zero_shot.generators import GENERATORS
from nasdistill.zero_shot.generators.noisy_layer import NoisyLayer

TABLE = np.random.default_rng(0).normal(size=(3, 5))


def written(path: Path, table: np.ndarray = TABLE) -> Path:
    np.save(path, table)
    return path


def noisy(path: Path) -> NoisyLayer:
    made = GENERATORS.parse({"name": "noisy-layer", "embeddings": str(path)})
    assert isinstance(made, NoisyLayer)
    return made


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", ">f4"])
def test_a_matrix_is_read_in_single_precision(dtype: str, tmp_path: Path) -> None:
    table = (8 * TABLE).astype(dtype)
    found = read_embeddings(written(tmp_path / "names.npy", table))
    assert (found.dtype, found.tolist()) == (torch.float32, table.astype("float32").tolist())


def test_safetensors_hold_the_same(tmp_path: Path) -> None:
    save_file({"names": TABLE}, tmp_path / "names.safetensors")
    assert torch.equal(
        read_embeddings(tmp_path / "names.safetensors"), read_embeddings(written(tmp_path / "names.npy"))
    )


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: None, "there is no file {}"),
        (lambda path: path.mkdir(), "there is no file {}"),
        (lambda path: path.write_text("cat 0.1 0.2"), "{} is neither a safetensors file nor"),
        (lambda path: torch.save(torch.ones(3, 2), path.open("wb")), "{} would have to be unpickled; write the matrix"),
        (lambda path: np.save(path, np.array([{}, {}])), "{}: it holds Python objects, which are never unpickled"),
        (lambda path: np.save(path, TABLE[0]), "{} holds an array of shape [5], not a row of numbers for each class"),
        (lambda path: np.save(path, TABLE[:, :0]), "{} holds an array of shape [3, 0], not a row of numbers"),
        (lambda path: np.save(path, np.array([["cat"], ["dog"]])), "{} holds <U3, not numbers"),
        (lambda path: np.save(path, TABLE + 1e39), "{} holds values that are no numbers (NaN or infinity), or beyond"),
        (lambda path: np.save(path, np.where(TABLE > 0, TABLE, np.nan)), "{} holds values that are no numbers (NaN"),
        (lambda path: np.save(path, np.ones((3, 5))), "all rows of {} are equal, so that they tell no class from"),
        (lambda path: save_file({"a": TABLE, "b": TABLE}, path), "{} holds 2 tensors, not one with a row for each"),
    ],
)
def test_what_is_no_such_file_is_refused_with_the_recipe(
    write: Callable[[Path], object], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "names.npy"
    write(path)
    with pytest.raises(SpecError) as error:
        noisy(path)
    assert error.value.path == ("embeddings",)
    assert error.value.problem.startswith(problem.format(path))


def test_rows_are_as_many_as_classes_which_are_named_where_they_are_known(tmp_path: Path) -> None:
    path = written(tmp_path / "names.npy")
    noisy(path).check_classes(3, None)
    for names, order in ((None, "in the order of the classes"), (("ant", "bee"), "in this order: 'ant', 'bee'")):
        with pytest.raises(SpecError) as error:
            noisy(path).check_classes(2, names)
        assert error.value.path == ("embeddings",)
        assert error.value.problem == f"{path} has 3 rows for 2 classes; it must have one for each, {order}"


def test_classes_of_equal_rows_are_told_by_the_plan(tmp_path: Path) -> None:
    assert noisy(written(tmp_path / "names.npy")).caveat() is None
    twins = written(tmp_path / "twins.npy", TABLE[[0, 1, 0, 2]])
    assert noisy(twins).caveat() == f"rows 1, 3 of {twins} are equal, so that they tell these classes as one"


def test_the_content_of_the_file_decides_and_not_its_place(tmp_path: Path) -> None:
    def key(path: Path) -> str:
        given = {"student": "wrn-10-1", "teacher": "t", "generator": {"name": "noisy-layer", "embeddings": str(path)}}
        return key_of(build(STAGES.get("zero-shot"), given), {}, None, {}, 0)

    first = key(written(tmp_path / "one.npy"))
    assert key(written(tmp_path / "two.npy")) == first
    assert key(written(tmp_path / "one.npy", TABLE[::-1])) != first
