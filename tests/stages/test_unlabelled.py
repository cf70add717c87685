"""Images without labels: they are taught by the teacher alone, and no label term reads them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from nasdistill.artifacts import Artifact
from nasdistill.cli.main import main
from nasdistill.data.augmentations import AUGMENTATIONS
from nasdistill.data.base import DATASETS, Data, DataSet, ImageSet, has_labels
from nasdistill.data.loaders import ImageBatches
from nasdistill.data.preparation import load
from nasdistill.distill.teacher import Teacher, TeacherEnsemble
from nasdistill.distill.unlabelled import with_answers
from nasdistill.errors import SpecError
from nasdistill.models.base import load_network
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.training.batches import NO_LABEL, Batch
from nasdistill.training.tasks import label_loss
from tests.data.fakes import write_picture
from tests.stages.parts import context_in, few_digits, network_artifact, weights

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def data() -> Data:
    """Digits, of which 60 have no labels."""
    digits = few_digits()
    return dataclasses.replace(digits, unlabelled=without_labels(digits.validation.subset(torch.arange(60))))


def without_labels(part: object) -> ImageSet:
    assert isinstance(part, ImageSet)
    return ImageSet(part.images, torch.full_like(part.labels, NO_LABEL))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures of each class, and five in a folder tree without classes."""
    for number in range(3):
        for name in CLASSES:
            write_picture(tmp_path / "labelled" / name / f"{number}.png", seed=number)
    for number in range(5):
        write_picture(tmp_path / "further" / ("deep" if number % 2 else ".") / f"{number}.png", seed=10 + number)
    return tmp_path


def test_an_image_without_a_label_loses_nothing_and_counts_as_one() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, NO_LABEL, 0, NO_LABEL])
    known = functional.cross_entropy(logits[[0, 2]], labels[[0, 2]], reduction="sum", label_smoothing=0.1)
    found = label_loss(logits, Batch(torch.empty(4, 1, 2, 2), labels, torch.arange(4)), label_smoothing=0.1)
    torch.testing.assert_close(found, known / 4)
    mixed = functional.one_hot(labels.clamp(min=0), 3) * torch.tensor([[1], [0], [1], [0]])
    # as targets, which is what an augmentation that mixes images makes of labels
    of_targets = label_loss(logits, Batch(torch.empty(4, 1, 2, 2), mixed.float(), torch.arange(4)), label_smoothing=0.1)
    torch.testing.assert_close(of_targets, known / 4)


def test_what_is_mixed_with_an_image_without_a_label_keeps_its_own_share_of_one(data: Data) -> None:
    images = ImageSet(data.train.images[:8], torch.tensor([3, NO_LABEL] * 4))  # type: ignore[union-attr]
    mixup = AUGMENTATIONS.parse({"name": "mixup", "alpha": 1})
    batches = ImageBatches(images, data.normalisation, 8, seed=0, shuffle=False, augmentations=[mixup], classes=10)
    (batch,) = batches.epoch(0)
    assert batch.labels[:, [c for c in range(10) if c != 3]].eq(0).all()
    # neighbours are mixed, of which one has a label
    torch.testing.assert_close(batch.labels[:, 3].view(4, 2).sum(1) > 0, torch.ones(4, dtype=torch.bool))
    assert (batch.labels.sum(1) < 1).all()


def test_a_student_learns_from_them(tmp_path: Path, data: Data) -> None:
    found = {}
    teacher = network_artifact(tmp_path / "teacher", data, "mlp-16", labels=data.classes)
    for name, given in (("with", data), ("without", dataclasses.replace(data, unlabelled=None))):
        context = context_in(tmp_path / name, given)
        stage = build(STAGES.get("distill"), {"student": "mlp-8", "teacher": "teacher", "epochs": 1, "batch_size": 32})
        stage.run({"teacher": teacher}, context)
        found[name] = weights(context.folder)
    assert any(not torch.equal(value, found["without"][name]) for name, value in found["with"].items())


def taught(tmp_path: Path, data: Data, **options: object) -> tuple[Artifact, dict[str, object]]:
    teacher = network_artifact(tmp_path / "teacher", data, "mlp-16", labels=data.classes)
    context = context_in(tmp_path / "student", data)
    stage = build(STAGES.get("distill"), {"student": "mlp-8", "teacher": "teacher", "epochs": 1, **options})
    return teacher, stage.run({"teacher": teacher}, context).metrics


def test_without_any_labels_scores_tell_how_often_it_answers_as_its_teacher(tmp_path: Path, data: Data) -> None:
    parts = {name: without_labels(getattr(data, name)) for name in ("train", "validation", "test")}
    bare = dataclasses.replace(data, unlabelled=None, **parts)
    teacher, metrics = taught(tmp_path, bare)
    assert metrics["scored_by"] == "teacher"
    spec, network = load_network(teacher.folder)
    _, student = load_network(tmp_path / "student" / "payload")
    context = context_in(tmp_path / "other", bare)
    ensemble = TeacherEnsemble([Teacher(network)], [], spec.shape, None, "logits")
    answered = with_answers(bare, ensemble, context.engine)
    assert not has_labels(answered.train)
    batches = ImageBatches(answered.test, bare.normalisation, 80, seed=0, shuffle=False)
    (batch,) = batches.epoch(0)
    with torch.no_grad():
        answers = [each(batch.images).argmax(1) for each in (network, student)]
    assert torch.equal(answers[0], batch.labels)
    assert metrics["accuracy"]["selected"] == pytest.approx(100 * float((answers[0] == answers[1]).float().mean()))  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"objectives": ["dkd"]}, ("objectives", 0), "in part"),
        ({"objectives": ["attention", "cwtm"]}, ("objectives", 1), "needs a label"),
        ({"balance": "sampling"}, ("balance",), "no class"),
    ],
)
def test_what_needs_labels_is_refused(
    tmp_path: Path, data: Data, options: dict[str, object], path: tuple[object, ...], words: str
) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        taught(tmp_path, data, **options)
    assert refused.value.path == path


def test_a_folder_of_class_folders_with_further_images(root: Path) -> None:
    options = {"name": "image-folder", "root": root / "labelled", "test": 0.3, "validation": 0.5, "workers": 0}
    plain, more = (DATASETS.parse(options | given) for given in ({}, {"unlabelled": str(root / "further")}))
    found = load(more, 0)
    assert found.unlabelled is not None
    assert (len(found.unlabelled), has_labels(found.unlabelled), found.classes) == (5, False, CLASSES)
    assert repr(found).startswith("2 training (and 5 without labels)")
    assert plain.fingerprint() != more.fingerprint()
    before = more.fingerprint()
    (root / "further" / "0.png").unlink()
    assert before != more.fingerprint()
    shutil.rmtree(root / "further")
    (root / "further").mkdir()
    with pytest.raises(SpecError, match="holds no image") as refused:
        more.read()
    assert refused.value.path == ("unlabelled",)


def test_a_folder_without_classes_has_those_of_the_teacher(
    root: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = network_artifact(root / "teacher", data, "mlp-16", classes=2, labels=CLASSES)
    options = {"name": "unlabelled-folder", "root": str(root), "classes_of": str(teacher.folder), "workers": 0}
    dataset: DataSet = DATASETS.parse(options)
    found = load(dataset, 0)
    assert (len(found.train) + len(found.validation) + len(found.test), found.classes) == (11, CLASSES)
    assert not any(has_labels(part) for part in (found.train, found.validation, found.test))
    with pytest.raises(SpecError, match="no network that knows its classes"):
        DATASETS.parse(options | {"classes_of": str(root)}).read()
    assert main(["train", "mlp-8", "--data", str(options), "--out", str(root / "out")]) == 2
    assert "needs labels" in capsys.readouterr().err
