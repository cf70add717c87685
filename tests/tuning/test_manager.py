"""nni's manager as seen from here: its answers, its database, its portal, each in the form that nni 3.0 gives it."""

from __future__ import annotations

import functools
import json
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from nasdistill.errors import UserError
from nasdistill.tuning import manager
from nasdistill.tuning.manager import Job, Manager, ManagerGone, free_port

nni_node = pytest.importorskip("nni_node")
rest = pytest.importorskip("nni.experiment.rest")


@pytest.fixture
def answers(monkeypatch):
    """What the manager on port 8080 answers, by path; what it is asked with more than a `get` stands in `asked`."""
    found = {"asked": []}

    def request(method, port, path, content=None):
        if port != 8080 or (method == "get" and path not in found):
            raise ConnectionRefusedError("nobody there")
        if method != "get":
            return found["asked"].append((method, path, content))
        return json.loads(json.dumps(found[path]))

    monkeypatch.setattr(rest, "request", request)
    return found


def metric(name, at, sequence, data, kind="PERIODICAL"):
    return {
        "timestamp": at, "trialJobId": name, "parameterId": "0", "type": kind, "sequence": sequence,
        "data": json.dumps(json.dumps(data)),
    }  # fmt: skip


def test_trials_are_read_as_nni_tells_them(answers):
    parameters = {"parameter_id": 0, "parameter_source": "algorithm", "parameters": {"a.b": 3.5}, "parameter_index": 0}
    answers["/trial-jobs"] = [
        {"trialJobId": "wAits", "status": "WAITING", "sequenceId": 2},
        {"trialJobId": "sEcnd", "status": "RUNNING", "startTime": 1795274970500, "hyperParameters": []},
        {
            "trialJobId": "fIrst", "status": "SUCCEEDED", "startTime": 1795274969020, "endTime": 1795274979520,
            "hyperParameters": [json.dumps(parameters)], "logPath": "/logs/fIrst",
        },
    ]  # fmt: skip
    final = {"default": 2.0, "record": {"score": 2.0}}
    answers["/metric-data"] = [
        metric("fIrst", 30, 0, final, "FINAL"),
        metric("sEcnd", 15, 0, {"default": 7.0}),
        metric("fIrst", 20, 1, {"default": 1.5}),
        metric("fIrst", 10, 0, {"default": 1.0}),
    ]

    first, second, waiting = Manager("nd1", 8080, 1).jobs()

    assert first == Job(
        "fIrst",
        "SUCCEEDED",
        1795274969.02,
        1795274979.52,
        {"a.b": 3.5},
        "/logs/fIrst",
        (
            {"type": "PERIODICAL", "sequence": 0, "data": {"default": 1.0}, "at": 10},
            {"type": "PERIODICAL", "sequence": 1, "data": {"default": 1.5}, "at": 20},
            {"type": "FINAL", "sequence": 0, "data": final, "at": 30},
        ),
    )
    assert (second.id, second.ended, second.suggested) == ("sEcnd", None, {})
    assert [told["data"] for told in second.metrics] == [{"default": 7.0}]
    assert (waiting.id, waiting.started) == ("wAits", None)


def test_a_limit_is_changed_as_nnis_own_command_line_changes_it(answers):
    get_query_type = pytest.importorskip("nni.tools.nnictl.updater").get_query_type
    answers["/experiment"] = {"id": "nd1", "params": {"maxTrialNumber": 2, "trialConcurrency": 1}}
    limits = {"maxTrialNumber": 5, "trialConcurrency": 3, "maxExperimentDuration": "8h"}

    Manager("nd1", 8080, 1).change(**limits)

    assert [(method, path) for method, path, _ in answers["asked"]] == [
        ("put", f"/experiment{get_query_type(name)}") for name in limits
    ]
    assert [content["params"][name] for name, (_, _, content) in zip(limits, answers["asked"], strict=True)] == [
        5, 3, "8h"
    ]  # fmt: skip


def test_another_experiment_on_the_same_port_is_not_followed(answers):
    answers["/experiment"] = {"id": "nd2"}
    assert Manager.find("nd1", 8080, 1) is None
    assert Manager.find("nd1", 8081, 1) is None
    found = Manager.find("nd2", 8080, 1)
    assert found is not None
    assert (found.experiment, found.port, found.process) == ("nd2", 8080, 1)


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("127.0.0.1", None, "Address already in use"),
        ("127.0.0.1", 99999, "ports end at 65535"),
        ("999.1.1.1", 8080, "nni's page cannot listen on --portal 999.1.1.1, --port 8080: "),
    ],
)
def test_an_address_that_is_no_place_for_the_portal_is_refused_before_anything_starts(host, port, told):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UserError, match=told):
            Manager.start("nd1", {}, host, port or other.getsockname()[1])


def test_a_manager_that_does_not_answer_is_gone_and_one_in_error_says_why(answers):
    asked = Manager("nd1", 8080, 1)
    with pytest.raises(ManagerGone, match="does not answer"):
        asked.status()
    answers["/check-status"] = {"status": "ERROR", "errors": ["the tuner broke"]}
    assert (asked.status(), asked.problem()) == ("ERROR", "the tuner broke")


def test_a_config_that_nni_refuses_is_told_and_its_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"nni refuses the experiment: .*maxtrials"):
        Manager.start("nd1", {"maxTrials": 3}, "127.0.0.1", None)
    assert (tmp_path / "nni-experiments" / "nd1").stat().st_mode & 0o777 == 0o700


def database(path: Path, *profiles: dict) -> Path:
    """As nni writes it, one row per revision of the experiment; tables without the columns that do not matter here."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE TrialJobEvent (timestamp integer, trialJobId text, event text, data text)")
        connection.execute("CREATE TABLE ExperimentProfile (params text, id text, revision integer)")
        for revision, params in enumerate(profiles):
            row = (json.dumps(params), "nd1", revision)
            connection.execute("INSERT INTO ExperimentProfile VALUES (?, ?, ?)", row)
        for event in ("WAITING", "RUNNING", "ADD_RESUMED"):
            connection.execute("INSERT INTO TrialJobEvent VALUES (1, 'aBcde', ?, '')", (event,))
    connection.close()
    return path


def rows(path: Path, what: str) -> list[str]:
    connection = sqlite3.connect(path)
    found = [value for (value,) in connection.execute(what)]
    connection.close()
    return found


def test_what_was_recovered_once_is_recovered_again_and_the_seed_moves_on(tmp_path):
    seeded = {"tuner": {"name": "TPE", "classArgs": {"optimize_mode": "maximize", "seed": 3}}, "maxTrialNumber": 3}
    path = database(tmp_path / "nni.sqlite", seeded, seeded | {"maxTrialNumber": 5})

    assert manager._recovered(path)

    assert rows(path, "SELECT event FROM TrialJobEvent") == ["WAITING", "RUNNING"]
    for params, trials in zip(rows(path, "SELECT params FROM ExperimentProfile"), (3, 5), strict=True):
        tuner = {"name": "TPE", "classArgs": {"optimize_mode": "maximize", "seed": 4}}
        assert json.loads(params) == {"tuner": tuner, "maxTrialNumber": trials}


def test_a_tuner_without_a_seed_stays_as_it_is_and_what_never_began_is_not_recovered(tmp_path):
    unseeded = {"tuner": {"name": "GridSearch", "classArgs": {"optimize_mode": "maximize"}}}
    path = database(tmp_path / "nni.sqlite", unseeded)
    assert manager._recovered(path)
    assert [json.loads(params) for params in rows(path, "SELECT params FROM ExperimentProfile")] == [unseeded]

    assert not manager._recovered(tmp_path / "none.sqlite")
    assert not manager._recovered(database(tmp_path / "no_profile.sqlite"))
    (tmp_path / "empty.sqlite").touch()
    assert not manager._recovered(tmp_path / "empty.sqlite")


LISTENING = """
const [portal, other] = process.argv.slice(1).map(Number);
const net = require('net');
const told = {};
const first = net.createServer().listen(portal, () => {
  told.portal = first.address().address;
  const second = net.createServer().listen(other, () => {
    told.other = second.address().address;
    const patient = setTimeout(() => { throw new Error('Tuner did not connect'); }, 1000);
    const usual = setTimeout(() => {}, 1000);
    told.patience = patient._idleTimeout / usual._idleTimeout;
    console.log(JSON.stringify(told));
    process.exit();
  });
});
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_the_portal_listens_where_it_is_told_and_nothing_else_changes(host):
    """In the very Node.js that nni brings along."""
    node = Path(nni_node.__path__[0]) / "node"
    port = free_port()
    environment = {"NASDISTILL_PORTAL_HOST": host, "NASDISTILL_PORTAL_PORT": str(port)}
    command = [node, "--require", manager.PRELOADED, "-e", LISTENING, str(port), str(port + 1)]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)

    told = json.loads(done.stdout)
    assert told["portal"] == host
    assert told["other"] in ("::", "0.0.0.0")  # noqa: S104
    assert told["patience"] > 6


ANSWERING = """
const http = require('http');
const [port, asked] = [process.argv[1], JSON.parse(process.argv[2])];
const page = http.createServer((request, answer) => answer.end('the page'));
page.on('upgrade', (request, socket) => socket.end('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n'));
page.listen(port, async () => {
  for (const headers of asked) {
    const found = await new Promise((done) => {
      const to = { port, host: '127.0.0.1', headers, setHost: false };
      const request = http.get(to, (answer) => done(answer.statusCode));
      request.on('upgrade', (answer) => done(101));
      request.on('error', () => done(0));
    });
    console.log(found);
  }
  process.exit();
});
"""
SOCKET = {"Connection": "Upgrade", "Upgrade": "websocket"}


@pytest.mark.parametrize(
    ("listening", "asked", "answered"),
    [
        ("127.0.0.1", {"Host": "localhost:8080"}, 200),
        ("127.0.0.1", {"Host": "LOCALHOST"}, 200),
        ("127.0.0.1", {"Host": "127.0.0.1:8080", "Origin": "http://localhost:8080"}, 200),
        ("127.0.0.1", {"Host": "[::1]:8080"}, 200),
        ("127.0.0.1", {"Host": "rebound.example:8080"}, 403),
        ("127.0.0.1", {"Host": "localhost.rebound.example"}, 403),
        ("127.0.0.1", {"Host": "rebound.example:8080@localhost"}, 403),
        ("127.0.0.1", {"Host": "192.168.1.7:8080"}, 403),
        ("127.0.0.1", {"Host": "localhost:8080", "Origin": "https://rebound.example"}, 403),
        ("127.0.0.1", {"Host": "localhost:8080", "Origin": "null"}, 403),
        ("127.0.0.1", {"Host": "localhost:8080", **SOCKET}, 101),
        ("127.0.0.1", {"Host": "rebound.example:8080", **SOCKET}, 0),
        ("0.0.0.0", {"Host": "192.168.1.7:8080"}, 200),  # noqa: S104
        ("0.0.0.0", {"Host": socket.gethostname()}, 200),  # noqa: S104
        ("0.0.0.0", {"Host": "rebound.example"}, 403),  # noqa: S104
    ],
)
def test_the_portal_answers_to_its_own_names_alone(listening, asked, answered, answers_of):
    assert answers_of(listening)[json.dumps(asked)] == answered


@pytest.fixture(scope="module")
def answers_of():
    """By the address that a portal listens on: the status that it answers requests with, by their headers as JSON."""

    @functools.cache
    def statuses(listening):
        marks = test_the_portal_answers_to_its_own_names_alone.pytestmark
        asked = [asked for mark in marks for at, asked, _status in mark.args[1] if at == listening]
        port = str(free_port())
        node = Path(nni_node.__path__[0]) / "node"
        done = subprocess.run(
            [node, "--require", manager.PRELOADED, "-e", ANSWERING, port, json.dumps(asked)],
            env={"NASDISTILL_PORTAL_HOST": listening, "NASDISTILL_PORTAL_PORT": port},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return dict(zip(map(json.dumps, asked), map(int, done.stdout.split()), strict=True))

    return statuses
