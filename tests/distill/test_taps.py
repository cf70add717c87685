"""Feature taps read what a module returned, on any network, and leave nothing behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from nasdistill.distill.folding import folded
from nasdistill.distill.matching import embedding_point
from nasdistill.distill.taps import Taps, output_shapes
from nasdistill.errors import UserError
from nasdistill.training.fabric import Fabric
from tests.distill.features import network as model
from tests.distill.nets import TwoMaps, WithAuxiliary


def hooks_of(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_a_tap_reads_what_the_module_returned_inside_a_foreign_network() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), Taps(network, ["layer1", "layer2.0.conv1"]) as features:
        network(images)
    stem = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    layer1 = network.layer1(stem)
    torch.testing.assert_close(features["layer1"], layer1, rtol=0, atol=0)
    torch.testing.assert_close(features["layer2.0.conv1"], network.layer2[0].conv1(layer1), rtol=0, atol=0)


def test_an_in_place_operation_downstream_does_not_change_what_was_tapped() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].weight.copy_(-torch.eye(2))
    with Taps(network, ["0"]) as features:
        network(torch.tensor([[1.0, 2.0]]))
    assert features["0"].tolist() == [[-1.0, -2.0]]


def test_gradients_flow_through_a_tap_as_autograd_says() -> None:
    network = TwoMaps().double().eval()
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    with Taps(network, ["first"]) as features:
        network(images)
    features["first"].square().sum().backward()
    tapped = network.first[0].weight.grad.clone()
    network.zero_grad()
    network.first(images).square().sum().backward()
    torch.testing.assert_close(tapped, network.first[0].weight.grad)


def test_nothing_stays_behind() -> None:
    network = TwoMaps()
    taps = Taps(network, ["first", "second"])
    with taps as features:
        network(torch.randn(2, 1, 6, 6))
    watched = weakref.ref(features["first"])
    assert hooks_of(network) == 0
    del features
    gc.collect()
    assert watched() is None


def test_the_hooks_are_removed_when_the_forward_pass_fails() -> None:
    network = TwoMaps()
    with pytest.raises(RuntimeError), Taps(network, ["first"]):
        network(torch.randn(2, 7, 6, 6))
    assert hooks_of(network) == 0


def test_taps_work_where_a_method_other_than_forward_is_called() -> None:
    network = WithAuxiliary()
    with Taps(network, ["second"]) as features:
        network.forward_with_auxiliary(torch.randn(2, 1, 6, 6))
    assert features["second"].shape == (2, 4, 3, 3)


@pytest.mark.parametrize("wrap", [lambda network: Fabric(accelerator="cpu").setup(network), nn.DataParallel])
def test_wrappers_are_seen_through(wrap: object) -> None:
    network = TwoMaps()
    wrapped = wrap(network)  # type: ignore[operator]
    with Taps(wrapped, ["first"]) as features:
        wrapped(torch.randn(2, 1, 6, 6))
    assert features["first"].shape == (2, 4, 6, 6)


def test_a_distributed_wrapper_is_seen_through(tmp_path: object) -> None:
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(TwoMaps())
        with Taps(wrapped, ["first"]) as features:
            wrapped(torch.randn(2, 1, 6, 6))
    finally:
        torch.distributed.destroy_process_group()
    assert features["first"].shape == (2, 4, 6, 6)


def test_an_unknown_path_names_the_nearest_and_what_there_is() -> None:
    with pytest.raises(UserError) as error:
        Taps(TwoMaps(), ["frist"], "student")
    assert str(error.value) == (
        "the student has no module 'frist'; did you mean 'first'? (inside it: first, second, dropout, classifier)"
    )
    with pytest.raises(UserError, match=r"'first.9'.*inside 'first': first.0, first.1, first.2"):
        Taps(TwoMaps(), ["first.9"])


def test_the_root_is_no_module_path() -> None:
    with pytest.raises(UserError, match="no module ''"):
        Taps(TwoMaps(), [""])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(2, 2, batch_first=True)
        self.unused = nn.Linear(2, 2)
        self.twice = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.twice(self.twice(self.cell(inputs)[0]))


@pytest.mark.parametrize(
    ("path", "problem"),
    [("cell", "out a tuple"), ("twice", "more than once"), ("unused", "no part in its forward pass")],
)
def test_a_module_without_exactly_one_output_is_refused(path: str, problem: str) -> None:
    network = Recurrent()
    taps = Taps(network, [path], "teacher")
    with pytest.raises(UserError, match=f"the teacher's module '{path}' .*{problem}"), taps:
        network(torch.randn(1, 3, 2))
    assert hooks_of(network) == 0


def test_taps_can_be_used_step_after_step() -> None:
    network = TwoMaps().eval()
    taps = Taps(network, ["first"])
    for _ in range(2):
        images = torch.randn(2, 1, 6, 6)
        with taps as features:
            network(images)
        torch.testing.assert_close(features["first"], network.first(images))


def test_output_shapes_leave_the_network_as_it_was() -> None:
    network = TwoMaps().train()
    network.second[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert output_shapes(network, ["first", "second"], (1, 7, 5)) == {"first": (4, 7, 5), "second": (4, 4, 3)}
    assert network.training
    assert network.first[1].training
    assert not network.second[1].training
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_that_is_shared_under_two_paths_is_found_under_both() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.add_module("again", network[0])
    assert functional.linear(torch.ones(2), network.again.weight).shape == (2,)
    with pytest.raises(UserError, match="'again' is called more than once"), Taps(network, ["again"]):
        network(torch.ones(1, 2))


def test_an_input_is_what_the_module_was_given() -> None:
    """The pooled vector of a WRN is no module's output."""
    network = model("wrn-10-1", (3, 8, 8)).eval()
    images = torch.randn(2, 3, 8, 8)
    with Taps(network, ["classifier:input", "classifier", "groups.2"]) as features:
        network(images)
    pooled = functional.relu(network.norm(features["groups.2"])).mean(dim=(2, 3))  # type: ignore[operator]
    torch.testing.assert_close(features["classifier:input"], pooled, rtol=0, atol=0)
    torch.testing.assert_close(features["classifier"], network.classifier(pooled), rtol=0, atol=0)  # type: ignore[operator]
    (tapped,) = torch.autograd.grad(features["classifier:input"].sum(), network.stem.weight, retain_graph=True)  # type: ignore[union-attr, arg-type]
    (expected,) = torch.autograd.grad(pooled.sum(), network.stem.weight)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(tapped, expected)
    assert sum(len(module._forward_pre_hooks) for module in network.modules()) == 0
    assert output_shapes(network, ["classifier:input", "groups.2"], (3, 8, 8)) == {
        "classifier:input": (64,),
        "groups.2": (64, 2, 2),
    }


def test_an_in_place_module_does_not_change_its_tapped_input() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with Taps(network, ["1:input"]) as features:
        network(torch.tensor([-1.0, 2.0]))
    assert features["1:input"].tolist() == [-1.0, 2.0]


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.named = nn.Linear(2, 2)
        self.listed = nn.Flatten()
        self.twice = nn.Linear(2, 2)
        self.unused = nn.Linear(2, 2)
        self.listed.forward = lambda tensors: tensors[0]  # type: ignore[method-assign, assignment]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.twice(self.twice(self.listed([self.named(input=inputs)])))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("named", "reads a NoneType as its first positional argument"),
        ("listed", "reads a list as its first positional argument"),
        ("twice", "more than once in a forward pass, so it has no one input"),
        ("unused", "no part in its forward pass"),
    ],
)
def test_a_module_without_exactly_one_input_is_refused(path: str, problem: str) -> None:
    network = Keywords()
    taps = Taps(network, [path + ":input"], "teacher")
    with pytest.raises(UserError, match=f"the teacher's module '{path}' .*{problem}"), taps:
        network(torch.randn(1, 2))
    assert sum(len(module._forward_pre_hooks) for module in network.modules()) == 0


@pytest.mark.parametrize(("point", "problem"), [("clasifier:input", "'clasifier'; did you mean 'cl"), (":input", "''")])
def test_an_unknown_input_names_the_nearest_module(point: str, problem: str) -> None:
    with pytest.raises(UserError, match=f"the student has no module {problem}"):
        Taps(TwoMaps(), [point], "student")


@pytest.mark.parametrize("point", ["second.1:input", "second.0:input", "classifier:input", "first.2:input"])
def test_folding_leaves_a_tapped_input_as_it_was(point: str) -> None:
    torch.manual_seed(0)
    network = TwoMaps().double()
    for _ in range(3):
        network(torch.randn(8, 1, 6, 6, dtype=torch.float64))
    copied = folded(network.eval(), (1, 6, 6), [point])
    norms = [path for path, module in copied.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == (["second.1"] if point == "second.1:input" else [])
    images = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    read = []
    for either in (network, copied):
        with torch.no_grad(), Taps(either, [point]) as features:
            either(images)
        read.append(features[point])
    torch.testing.assert_close(*read, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("wrn-10-1", "classifier:input"),
        ("resnet-8", "classifier:input"),
        ("densenet-16-4", "classifier:input"),
        ("mlp-8-5", "classifier:input"),
    ],
)
def test_the_embedding_is_what_the_last_linear_layer_reads(name: str, point: str) -> None:
    assert embedding_point(model(name, (3, 8, 8)), (3, 8, 8)) == point


def test_the_embedding_of_foreign_networks_and_of_those_with_a_second_head() -> None:
    network = torchvision.models.mobilenet_v3_small(num_classes=5)
    assert embedding_point(network, (3, 32, 32)) == "classifier.3:input"
    assert output_shapes(network, ["classifier.3:input"], (3, 32, 32)) == {"classifier.3:input": (1024,)}
    assert embedding_point(WithAuxiliary(), (1, 6, 6)) == "classifier:input"


def test_a_network_without_a_linear_layer_has_no_embedding() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 6), nn.Flatten())
    with pytest.raises(UserError, match="the student has no linear layer, whose input would be its embedding"):
        embedding_point(network, (1, 6, 6), "student")
