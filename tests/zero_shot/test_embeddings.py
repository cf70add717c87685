"""Data-free texts: a generator of embeddings, and the table of tokens that the student takes from its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nasdistill.data.base import Data, Normalisation
from nasdistill.data.preparation import load
from nasdistill.errors import SpecError, UserError
from nasdistill.models.base import MODELS, load_network
from nasdistill.registry import build, registry
from nasdistill.stages import STAGES
from nasdistill.zero_shot.generators import GENERATORS
from nasdistill.zero_shot.pictures import as_pixels
from tests.stages.parts import context_in, network_artifact

SHAPE = (1, 1, 10)


def text_network(embedding: int = 8, **options: object) -> nn.Module:
    given = {"name": "text-cnn", "vocabulary": 20, "embedding": embedding, "filters": 3, **options}
    return MODELS.parse(given).build(SHAPE, 3)


@pytest.mark.parametrize("length", [1, 2, 10, 13])
def test_it_makes_embeddings_of_the_asked_length(length: int) -> None:
    generator = GENERATORS.parse({"name": "embeddings", "width": 8, "channels": 4, "latents": 5})
    made = generator.build((1, 1, length), 6, 2)(torch.randn(6, generator.latent(SHAPE)))
    assert made.shape == (6, 8, 1, length)


def test_the_student_takes_the_teachers_table_and_keeps_it() -> None:
    student, teacher = text_network(projection=2), text_network()
    GENERATORS.parse({"name": "embeddings", "width": 8}).share(student, [teacher])
    table = student.embedding.table.weight  # type: ignore[union-attr]
    assert torch.equal(table, teacher.embedding.table.weight)  # type: ignore[arg-type, union-attr]
    assert not table.requires_grad  # type: ignore[union-attr]
    assert teacher.embedding.table.weight.requires_grad  # type: ignore[union-attr]


def test_who_cannot_share() -> None:
    generator = GENERATORS.parse({"name": "embeddings", "width": 8})
    plain = MODELS.parse("mlp-4").build(SHAPE, 3)
    for student, teachers, sentence in (
        (text_network(6), [text_network()], "the student's embeddings have 6 numbers, not 8"),
        (text_network(), [text_network(6)], "the teacher's embeddings have 6 numbers, not 8"),
        (text_network(), [plain], "the teacher is none"),
        (text_network(), [text_network(), text_network()], "embeddings are those of one teacher, and here are 2"),
    ):
        with pytest.raises(UserError, match=sentence):
            generator.share(student, teachers)


def test_embeddings_are_pictures_with_a_row_for_each_number() -> None:
    embeddings = torch.linspace(-1, 1, 12).view(1, 4, 1, 3)
    pixels = as_pixels(embeddings, Normalisation(mean=(0.0,), std=(1.0,)))
    assert pixels.shape == (1, 1, 4, 3)
    assert (pixels[0, 0, 0, 0], pixels[0, 0, 3, 2]) == (0, 255)


@pytest.fixture
def texts(tmp_path: Path) -> Data:
    lines = [
        f"{'good' if number % 2 else 'bad'}\t{'fine' if number % 2 else 'poor'} word{number}" for number in range(40)
    ]
    (tmp_path / "all.tsv").write_text("\n".join(lines))
    return load(registry("datasets").parse({"name": "texts", "root": tmp_path / "all.tsv", "length": 6}), 0)


def test_a_student_is_taught_without_a_text(tmp_path: Path, texts: Data) -> None:
    assert texts.words
    vocabulary = texts.words.vocabulary
    model = {"name": "text-cnn", "vocabulary": len(vocabulary), "embedding": 8, "filters": 3}
    teacher = network_artifact(tmp_path / "teacher", texts, model, vocabulary=vocabulary)  # type: ignore[arg-type]
    options = {
        "teacher": "teacher",
        "student": {"name": "text-cnn-8-2", "projection": 2},
        "generator": {"name": "embeddings", "width": 8, "channels": 4},
        "objectives": [{"name": "divergence", "divergence": "kl"}],
        "pseudo_batches": 2,
        "student_steps": 1,
        "batch_size": 4,
        "pictures": 1,
    }
    context = context_in(tmp_path, texts)
    context.dataset = registry("datasets").parse("none")
    stage = build(STAGES.get("zero-shot"), options)
    foreseen = stage.foresee({"teacher": load_network(teacher.folder)[0]}, context)
    stage.run({"teacher": teacher}, context)
    spec, student = load_network(context.folder)
    assert spec == foreseen
    assert spec.vocabulary == vocabulary
    _, taught_by = load_network(teacher.folder)
    assert torch.equal(student.embedding.table.weight, taught_by.embedding.table.weight)  # type: ignore[arg-type, union-attr]
    metrics = build(STAGES.get("evaluate"), {"network": "given"}).run(
        {"network": teacher}, context_in(tmp_path / "evaluate", texts)
    )
    assert metrics.metrics["images"] == 8
    wrong = build(STAGES.get("zero-shot"), {**options, "generator": {"name": "embeddings", "width": 9}})
    with pytest.raises(SpecError, match="have 8 numbers, not 9") as caught:
        wrong.foresee({"teacher": spec}, context)
    assert caught.value.path == ("generator", "width")
    images = build(STAGES.get("zero-shot"), {**options, "generator": "convolutional"})
    with pytest.raises(SpecError, match="'convolutional' makes images, and the teacher reads texts") as caught:
        images.foresee({"teacher": spec}, context)
    assert caught.value.path == ("generator",)
