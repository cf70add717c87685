"""One teacher or several: what they say together, whose features are learned, and what a recipe makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from nasdistill.data.base import Normalisation
from nasdistill.distill.objectives import OBJECTIVES, Outputs
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher, packed, unpacked
from nasdistill.errors import SpecError, UserError
from nasdistill.recipes.loading import load_recipe
from nasdistill.recipes.runner import plan, run
from nasdistill.recipes.source import RecipeError
from nasdistill.registry import build
from nasdistill.stages import STAGES
from nasdistill.training.batches import Batch
from tests.distill.nets import TwoMaps

SHAPE = (1, 6, 6)


def test_what_was_said_is_packed_under_names_and_unpacked() -> None:
    said = [Outputs(torch.tensor([[number]]), {}) for number in range(12)]
    said[1] = Outputs(torch.tensor([[1]]), {"group/1.x": torch.tensor([7]), "logits": torch.tensor([8])})
    named = packed(said)
    assert {"0/logits", "1/features/group/1.x", "1/features/logits", "11/logits"} <= set(named)
    again = unpacked(dict(sorted(named.items())))
    assert [int(outputs.logits) for outputs in again] == list(range(12))
    assert [dict(outputs.features) for outputs in again] == [dict(outputs.features) for outputs in said]


def teachers(*weights: float, own: Sequence[Normalisation | None] = (None, None)) -> list[Teacher]:
    made = []
    for number, (weight, normalisation) in enumerate(zip(weights, own, strict=True)):
        torch.manual_seed(number)
        made.append(Teacher(TwoMaps(channels=6 + 2 * number), normalisation, weight))
    return made


def student() -> nn.Module:
    torch.manual_seed(9)
    network = TwoMaps()
    network.dropout.p = 0.0
    return network


def taught(listed: Sequence[Teacher], *specs: object, **options: Any) -> Distillation:
    objectives = with_label_term([OBJECTIVES.parse(spec) for spec in specs])
    return Distillation(student(), listed, objectives, SHAPE, **options)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, *SHAPE, generator=generator)
    return Batch(images, torch.randint(3, (5,), generator=generator), torch.arange(5))


def evaluated(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = network.eval()(images)
    return logits


def test_kd_learns_from_what_all_say_together() -> None:
    listed = teachers(3, 1)
    task = taught(listed, {"name": "kd", "temperature": 2, "weight": 0.9})
    given = batch()
    losses = task(given)
    assert list(losses) == ["cross-entropy", "kd"]
    target = sum(
        share * evaluated(teacher.network, given.images).softmax(1)
        for share, teacher in zip((0.75, 0.25), listed, strict=True)
    )
    softened = functional.softmax(torch.as_tensor(target).log() / 2, dim=1)
    said = functional.log_softmax(student()(given.images) / 2, dim=1)
    expected = 0.9 * 4 * (softened * (softened.log() - said)).sum(1).mean()
    torch.testing.assert_close(losses["kd"], expected)


def test_attention_learns_from_each_with_its_share_of_the_weight() -> None:
    """2/3 and 1/3 of the weight: what single teachers of full weight cost, averaged."""
    listed = teachers(2, 1)
    losses = taught(listed, {"name": "attention", "beta": 10, "weight": 0.6}, "kd")(batch())
    assert list(losses) == ["cross-entropy", "attention", "attention-2", "kd"]
    alone = [taught([each], {"name": "attention", "beta": 10, "weight": 0.6})(batch())["attention"] for each in listed]
    torch.testing.assert_close(losses["attention"], alone[0] * 2 / 3)
    torch.testing.assert_close(losses["attention-2"], alone[1] / 3)
    assert not torch.allclose(*alone)


def test_one_listed_teacher_has_no_share_to_give() -> None:
    (single, _other) = teachers(5, 1)
    losses = taught([single], "kd", "attention")(batch())
    torch.testing.assert_close(losses, taught([Teacher(single.network)], "kd", "attention")(batch()))


def test_outputs_that_were_kept_stand_for_the_teachers() -> None:
    task = taught(teachers(2, 1), "kd", "attention")
    given = batch()
    expected = task(given)
    kept = given._replace(taught=packed(task.teacher_ensemble(given.images)))
    for teacher in task.teacher_ensemble.teachers:
        teacher.network.register_forward_pre_hook(lambda *_: pytest.fail("the teacher ran"))
    torch.testing.assert_close(task(kept), expected)


def test_each_teacher_gets_images_in_its_own_normalisation() -> None:
    data, other = Normalisation(mean=(0.2,), std=(0.5,)), Normalisation(mean=(0.4,), std=(0.25,))
    listed = teachers(1, 1, own=(data, other))
    task = taught(listed, "kd", "attention", normalisation=data)
    pixels = torch.rand(5, *SHAPE)
    _together, *each = task.teacher_ensemble((pixels - 0.2) / 0.5)
    for said, teacher, images in zip(each, listed, ((pixels - 0.2) / 0.5, (pixels - 0.4) / 0.25), strict=True):
        torch.testing.assert_close(said.logits, evaluated(teacher.network, images), atol=1e-5, rtol=1e-5)
        assert set(said.features) == {"first", "second"}


def test_all_teachers_are_frozen_and_none_is_saved() -> None:
    task = taught(teachers(1, 1), "kd", "attention").train()
    before = [
        {name: value.clone() for name, value in t.network.state_dict().items()} for t in task.teacher_ensemble.teachers
    ]
    torch.stack(list(task(batch()).values())).sum().backward()  # type: ignore[no-untyped-call]
    saved = {name.removeprefix("network.") for name in task.state_dict()}
    assert saved == set(task.network.state_dict())
    assert {id(parameter) for parameter in task.parameters()} == {id(each) for each in task.network.parameters()}
    for teacher, state in zip(task.teacher_ensemble.teachers, before, strict=True):
        assert not any(module.training for module in teacher.network.modules())
        assert all(each.grad is None and not each.requires_grad for each in teacher.network.parameters())
        assert all(torch.equal(value, state[name]) for name, value in teacher.network.state_dict().items())
    assert not any(said.logits.requires_grad for said in task.teacher_ensemble(batch().images))


def test_all_teachers_move_with_the_task() -> None:
    data, other = Normalisation(mean=(0.2,), std=(0.5,)), Normalisation(mean=(0.4,), std=(0.25,))
    task = taught(teachers(1, 1, own=(other, other)), "kd", normalisation=data).to(torch.float64)
    assert {each.dtype for teacher in task.teacher_ensemble.teachers for each in teacher.network.parameters()} == {
        torch.float64
    }
    assert task.teacher_ensemble(batch().images.double())[0].logits.isfinite().all()


def test_no_teacher_is_the_student() -> None:
    learner = student()
    with pytest.raises(UserError, match="the teacher shares parameters with the student"):
        Distillation(learner, [*teachers(1, 1), Teacher(learner)], [OBJECTIVES.parse("kd")], SHAPE)


@pytest.mark.parametrize(
    ("options", "path", "problem"),
    [
        ({"teacher": []}, ("teacher",), "at least one teacher is needed"),
        ({"teacher": ["a", "s"], "student": "s"}, ("teacher",), "the student is its own teacher 's'"),
        ({"teacher_weights": [1, 2, 3]}, ("teacher_weights",), "3 weight(s) for 2 teacher(s)"),
        ({"teacher_weights": [1, 0]}, ("teacher_weights",), "every teacher's weight must be over 0"),
        ({"teacher": "a", "teacher_weights": [1, 2]}, ("teacher_weights",), "2 weight(s) for 1 teacher(s)"),
        ({"average": "medians"}, ("average",), "'probabilities' or 'logits'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], path: tuple[str, ...], problem: str) -> None:
    with pytest.raises(SpecError) as error:
        build(STAGES.get("distill"), {"student": "wrn-10-1", "teacher": ["a", "b"], **options})
    assert error.value.path == path
    assert problem in error.value.problem


RECIPE = """\
name: two-teachers
data: {name: digits, limit: 120}
engine: {accelerator: cpu, precision: "32"}
stages:
  - {name: first, uses: train, with: {model: wrn-10-1, epochs: 1}}
  - {name: second, uses: train, with: {model: mlp-16, epochs: 1}}
  - name: student
    uses: distill
    with:
      student: wrn-10-1
      teacher: [first, second]
      epochs: 1
      show: []
"""


def test_an_unknown_teacher_in_a_list_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(RECIPE.replace("[first, second]", "\n        - first\n        - secnd"))
    with pytest.raises(RecipeError, match=r"two\.yaml:13: stages\.student\.teacher\.1: .*'secnd'; .* 'second'\?"):
        load_recipe(str(path))
    path.write_text(RECIPE.replace("[first, second]", "[first, resnet-20]"))
    with pytest.raises(RecipeError, match=r"two\.yaml:11: stages\.student\.teacher\.1: 'resnet-20' is a model"):
        load_recipe(str(path))


def test_a_recipe_with_two_teachers_runs_and_its_weights_matter(tmp_path: Path) -> None:
    path, out = tmp_path / "two.yaml", tmp_path / "out"
    path.write_text(RECIPE)
    first = {row.stage: row for row in run(load_recipe(str(path)), out, "").rows}
    student_row = first["student"]
    assert student_row.inputs == {"teacher.0": first["first"].content, "teacher.1": first["second"].content}
    changed = {
        "teacher_weights=[1,1]": True,  # the same student, but no one looks into the option
        "teacher_weights=[3,1]": True,
        "average=logits": True,
        "epochs=1": False,
    }
    for option, again in changed.items():
        planned = plan(load_recipe(str(path), [f"stages.student.{option}"]), out)
        assert [stage.cached for stage in planned] == [True, True, not again], option
    heavier = run(load_recipe(str(path), ["stages.student.teacher_weights=[9,1]"]), out, "").rows[-1]
    folders = [row.folder for row in (student_row, heavier) if row.folder is not None]
    weights, others = (load_file(folder / "weights.safetensors") for folder in folders)
    assert any(not torch.equal(value, others[name]) for name, value in weights.items())
