"""What type checkers say of the front door; a wrong call that passed would be an unused `type: ignore`."""

from __future__ import annotations

from torch import nn
from typing_extensions import assert_type

import nasdistill.api as nd


def calls(data: nd.Data, module: nn.Module) -> None:
    """Every function with options of its own; never called."""
    found = assert_type(nd.search("darts-tiny", data, epochs=2, strategy="darts", seed=1), nd.Result)
    grown = assert_type(nd.grow(found, data, ratio=2.0, method="fisher"), nd.Result)
    teacher = nd.train(grown, data, epochs=5, optimizer={"name": "sgd", "lr": 0.1}, folder="work")
    student = nd.distil(module, [teacher, "artifacts/wrn"], data, objectives=["kd"], average="logits", quiet=True)
    assert_type(nd.transfer("wrn-16-1", student, data=data, pseudo_batches=100), nd.Result)
    assert_type(nd.evaluate(student, data, part="validation"), nd.Metrics)
    nd.train(module, data, epoch=5)  # type: ignore[call-arg]
    nd.search("darts-tiny", data, ratio=2.0)  # type: ignore[call-arg]
    nd.distil(module, teacher, data, generator="convolutional")  # type: ignore[call-arg]
    nd.train(module)  # type: ignore[call-arg]
    nd.evaluate(3, data)  # type: ignore[arg-type]
