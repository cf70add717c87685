"""A distillation step: our loop with our defaults beside plain torch, in one run.

    python -m benchmarks.distill

WRN-40-2 teaches WRN-16-2, by KD alone and by KD with attention transfer. Ours is all of `fit`, as in
`benchmarks.training`; the plain loop gets its batch for nothing and runs its teacher as everybody does: in evaluation
mode, without gradients. "Parts" is what a distillation step must cost at least in our precision and layout: the
teacher's forward pass in inference mode, and a step of the student's own training, one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
import yaml
from torch import nn
from torch.nn import functional

from benchmarks.common import Comparison, Turn, arguments, compare, show, timed
from benchmarks.images import CLASSES, SHAPE
from benchmarks.training import BASELINE, BATCH, ours
from nasdistill.distill.objectives.cross_entropy import with_label_term
from nasdistill.distill.task import Distillation
from nasdistill.distill.teacher import Teacher
from nasdistill.models.base import MODELS
from nasdistill.models.inspection import feature_points
from nasdistill.registry import registry
from nasdistill.training.engine import Engine, EngineSettings
from nasdistill.training.tasks import Supervised

OBJECTIVES = {"KD": ["kd"], "KD+AT": ["kd", "attention"]}


def network(model: str) -> nn.Module:
    """Of a name, or of a mapping as a recipe has it."""
    built: nn.Module = MODELS.parse(yaml.safe_load(model)).build(SHAPE, CLASSES)
    return built


def plain(student: str, teacher: str, attention: bool, device: torch.device) -> Turn:
    """The loop that everybody writes, features by forward hooks: fp32, contiguous."""
    pupil, master = network(student).to(device), network(teacher).to(device).eval()
    optimizer = torch.optim.SGD(pupil.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    images = torch.randn(BATCH, *SHAPE, device=device)
    labels = torch.randint(0, CLASSES, (BATCH,), device=device)
    features: dict[nn.Module, list[torch.Tensor]] = {pupil: [], master: []}
    for each, outputs in features.items() if attention else ():
        for point in feature_points(each, SHAPE):
            each.get_submodule(point).register_forward_hook(
                lambda _module, _inputs, output, outputs=outputs: outputs.append(output)
            )

    def attention_of(activation: torch.Tensor) -> torch.Tensor:
        return functional.normalize(activation.pow(2).mean(1).flatten(1))

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            taught = master(images)
        said = pupil(images)
        soft = functional.kl_div(
            (said / 4).log_softmax(1), (taught / 4).log_softmax(1), reduction="batchmean", log_target=True
        )
        loss = 0.1 * functional.cross_entropy(said, labels) + 0.9 * 16 * soft
        for ours_, theirs in zip(features[pupil], features[master], strict=True):
            loss = loss + 1000 * (attention_of(ours_) - attention_of(theirs)).pow(2).mean()
        for kept in features.values():
            kept.clear()
        torch.autograd.backward(loss)
        optimizer.step()

    return timed(step)


def distillation(student: str, teacher: str, objectives: list[Any]) -> Distillation:
    """Our task with our defaults."""
    listed = with_label_term([registry("objectives").parse(each) for each in objectives])
    return Distillation(network(student), [Teacher(network(teacher))], listed, SHAPE)


def parts(student: str, teacher: str, engine: Engine) -> Turn:
    """The teacher's forward pass and the student's training step, each on its own."""
    master = engine.place(network(teacher)).eval()
    images = torch.randn(BATCH, *SHAPE, device=engine.device).to(memory_format=engine.memory_format)

    def forward() -> None:
        with torch.inference_mode(), engine.autocast():
            master(images)

    taught, learned = timed(forward), ours(Supervised(network(student)), engine)
    return lambda steps: taught(steps) + learned(steps)


def main() -> None:
    parser = arguments("a distillation step beside plain torch")
    parser.add_argument("--student", default="wrn-16-2", help="who learns (default wrn-16-2)")
    parser.add_argument("--teacher", default="wrn-40-2", help="who teaches (default wrn-40-2)")
    options = parser.parse_args()
    engine = Engine(EngineSettings())
    precision = "bf16" if engine.precision == "bf16" else "fp32"
    comparisons: list[Comparison] = []
    for name, objectives in OBJECTIVES.items():
        rivals = {
            BASELINE: plain(options.student, options.teacher, "attention" in objectives, engine.device),
            f"parts ({precision}, channels_last)": parts(options.student, options.teacher, engine),
            f"nasdistill ({precision}, channels_last)": ours(
                distillation(options.student, options.teacher, objectives), engine
            ),
        }
        title = f"{name}, {options.teacher} to {options.student}, batch {BATCH}"
        comparisons.append(compare(title, rivals, work=BATCH, baseline=BASELINE, options=options))
    show(comparisons, options.json)


if __name__ == "__main__":
    main()
