"""Files that name a training service."""

import pytest

from nasdistill.recipes.source import RecipeError
from nasdistill.tuning.service import Service, read_service

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


def test_trials_on_this_machine_run_with_this_python(tmp_path):
    path = tmp_path / "gpus.yaml"
    path.write_text("trainingService: {platform: local, useActiveGpu: true}\ntrialGpuNumber: 1\n")

    assert read_service(path).command == Service().command
    assert read_service(path).config["trialGpuNumber"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("platform: local\n", "is a mapping with the key 'trainingService'"),
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
