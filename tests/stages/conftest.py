"""What the tests of stages share."""

from __future__ import annotations

import pytest

from nasdistill.artifacts import Artifact
from nasdistill.data.base import Data
from tests.stages.parts import few_digits, network_artifact


@pytest.fixture(scope="module")
def data() -> Data:
    return few_digits()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Artifact:
    return network_artifact(tmp_path_factory.mktemp("given") / "given", data, "wrn-10-1")
