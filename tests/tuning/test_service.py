"""Files that name a training service."""

from pathlib import Path

import pytest

from nasdistill.recipes.source import RecipeError
from nasdistill.tuning.service import Service, read_service

EXAMPLES = Path(__file__).parents[2] / "docs" / "how-to" / "services"

SSH = """
trainingService:
  platform: remote
  machineList: [{host: 10.0.0.7, user: me, password: hush}]
trialFolder: scratch/trials
"""


def test_a_service_is_in_nnis_own_terms(tmp_path):
    path = tmp_path / "ssh.yaml"
    path.write_text(SSH)

    service = read_service(path)

    assert service.config == {
        "trainingService": {
            "platform": "remote",
            "machineList": [{"host": "10.0.0.7", "user": "me", "password": "hush"}],
        }
    }
    assert (service.platform, service.folder) == ("remote", "scratch/trials")
    assert service.command == "python3 -m nasdistill.tuning.trial"


def test_a_command_and_what_else_nni_takes_stand_beside_the_service(tmp_path):
    path = tmp_path / "ssh.yaml"
    path.write_text(SSH + "trialCommand: python3.11 -m mine\nnniManagerIp: 10.0.0.1\n")

    service = read_service(path)

    assert service.command == "python3.11 -m mine"
    assert service.config["nniManagerIp"] == "10.0.0.1"
    assert "trialCommand" not in service.config


def test_trials_on_this_machine_run_with_this_python(tmp_path):
    path = tmp_path / "gpus.yaml"
    path.write_text("trainingService: {platform: local, useActiveGpu: true}\ntrialGpuNumber: 1\n")

    assert read_service(path).command == Service().command
    assert read_service(path).config["trialGpuNumber"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("platform: local\n", ":1: platform: unknown key 'platform' (known: nniManagerIp, "),
        ("trainingServce: {platform: local}\n", "unknown key 'trainingServce'; did you mean 'trainingService'"),
        ("nniManagerIp: 198.51.100.77\n", "is a mapping with the key 'trainingService'"),
        ("trainingService: {platform: remot}\n", "unknown platform 'remot'; did you mean 'remote'"),
        ("trainingService: {machineList: []}\n", ":1: trainingService: needs nni's 'platform'"),
        (SSH + "trainingservice: 3\n", ":6: trainingservice: unknown key 'trainingservice'; did you mean"),
        ("trainingService: &a {platform: local}\n", "anchors"),
    ],
)
def test_mistakes(tmp_path, text, told):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        read_service(path)
    assert told in str(error.value)


@pytest.mark.parametrize("name", ["ssh", "kubernetes"])
def test_nni_takes_the_examples_of_the_docs(name, tmp_path):
    nni = pytest.importorskip("nni.experiment")
    key = tmp_path / "key"
    key.touch()
    text = (EXAMPLES / f"{name}.yaml").read_text().replace("~/.ssh/id_ed25519", str(key))
    path = tmp_path / "service.yaml"
    path.write_text(text)
    service = read_service(path)

    config = nni.ExperimentConfig(
        **service.config,
        searchSpace={"x": {"_type": "uniform", "_value": [0, 1]}},
        trialCommand=service.command,
        trialCodeDirectory=str(tmp_path),
        trialConcurrency=1,
        tuner={"name": "Random"},
    ).canonical_copy()

    assert config.training_service.platform == service.platform
