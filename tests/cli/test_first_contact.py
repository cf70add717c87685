"""Help is quick and teaches; names are completed; mistakes point to what was meant."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nasdistill import resources
from nasdistill.cli.app import OF_COMPONENTS, OF_RECIPES
from nasdistill.cli.options import first_line
from nasdistill.registry import KINDS, registry
from nasdistill.sources import first_line_of
from nasdistill.stages import STAGES
from nasdistill.versions import BUILT_IN
from tests.cli.conftest import Command

OF_STAGES = tuple(  # and not other tests' toys
    STAGES.get(name).command or name for name in STAGES.names() if STAGES.origin(name).name == BUILT_IN
)
COMMANDS = ("run", "report", "list", "show", "inspect", "import", *OF_STAGES)

HELP_WITHOUT_TORCH = """
import sys
from nasdistill.cli.main import main
status = main(sys.argv[1:])
heavy = {"torch", "torchvision", "lightning_fabric", "numpy", "sklearn", "matplotlib", "nni", "networkx"}
heavy &= set(sys.modules)
assert status == 0 and not heavy, (status, heavy)
assert len(sys.argv) > 2 or "pydantic" not in sys.modules
"""


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)], ids=lambda command: " ".join(command))
def test_help_is_quick_imports_nothing_heavy_and_gives_an_example(command: tuple[str, ...]) -> None:
    start = processor_seconds()
    subprocess.run([sys.executable, "-c", "import pydantic.main, typer.main"], check=True)
    before = processor_seconds()
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_TORCH, *command, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Example: nasdistill" in done.stdout
    # The processor's time, beside that of two imports: machines differ. Help on all imports no pydantic.
    assert processor_seconds() - before < (5 if command else 2) * (before - start)


LISTS_WITHOUT_TORCH = """
import sys
from nasdistill.cli.main import main
from nasdistill.registry import KINDS
assert all(main(["list", *kind]) == 0 for kind in [[], *([kind] for kind in KINDS)])
heavy = {"torch", "torchvision", "lightning_fabric", "numpy", "sklearn", "matplotlib", "nni", "networkx"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""


def test_every_list_is_told_without_what_computes() -> None:
    run(LISTS_WITHOUT_TORCH)


RUN_WITHOUT_WHAT_COMPUTES = """
import sys
from nasdistill.cli.main import main
status = main(["run", *sys.argv[1:]])
heavy = {"torch", "numpy", "torchvision", "lightning_fabric", "sklearn", "scipy", "matplotlib", "nni", "networkx"}
heavy |= {"triton"}
assert status == 0 and not heavy & set(sys.modules), (status, heavy & set(sys.modules))
"""
RUN_WITHOUT_WHAT_IT_DOES_NOT_USE = """
import sys
from nasdistill.cli.main import main
status = main(["run", *sys.argv[1:]])
unused = {"torchvision", "torchmetrics", "lightning", "pytorch_lightning", "sklearn", "scipy", "nni"} & set(sys.modules)
assert status == 0 and not unused, (status, unused)
"""
SMALL = """name: small
data: {name: digits, limit: 60}
stages:
  - name: teacher
    uses: train
    with: {model: {name: darts, genotype: DARTS_V2, channels: 4, cells: 3}, epochs: 1}
  - name: student
    uses: distill
    with: {student: teacher, teacher: teacher, fresh: true, epochs: 1, objectives: [kd, attention]}
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_imports_what_it_uses_and_what_is_done_is_found_without_what_computes_or_draws(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    small = (str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"))
    run(RUN_WITHOUT_WHAT_IT_DOES_NOT_USE, *small)
    assert "0 of 2 stages to do" in run(RUN_WITHOUT_WHAT_COMPUTES, *small, "--dry-run")
    again = run(RUN_WITHOUT_WHAT_COMPUTES, *small)
    assert sum(line.split()[-1:] == ["yes"] for line in again.splitlines()) == 2


def processor_seconds() -> float:
    """What all finished child processes have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_without_a_word_the_help_lists_every_command(nasdistill: Command) -> None:
    done = nasdistill()
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


def test_version(nasdistill: Command) -> None:
    from nasdistill import __version__

    assert nasdistill("--version").stdout == __version__ + "\n"


def completions(process: Command, line: str, word: int) -> list[str]:
    done = process(_NASDISTILL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(word))
    return done.stdout.split()


def test_commands_kinds_names_and_options_are_completed(process: Command) -> None:
    assert completions(process, "nasdistill insp", 1) == ["inspect"]
    assert completions(process, "nasdistill show obj", 2) == ["objectives"]
    assert completions(process, "nasdistill show objectives at", 3) == ["attention"]
    assert completions(process, "nasdistill train --optimizer ada", 3) == ["adam", "adamw"]
    assert completions(process, "nasdistill run quick", 2) == ["quickstart"]


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_sources_tell_are_those_that_imports_register(kind: str) -> None:
    known = registry(kind)
    come_along = {name for name in known.loaded() if known.origin(name).name == BUILT_IN}  # and not other tests' toys
    computed = {path.stem for path in resources.search_spaces().glob("*.yaml")} if kind == "spaces" else set()
    assert {*known.sources.written, *computed} == come_along
    assert known.sources.computing == (("files",) if computed else ())


@pytest.mark.parametrize("kind", KINDS)
def test_what_sources_say_of_components_is_what_they_are(kind: str) -> None:
    known = registry(kind)
    for name, written in known.sources.written.items():
        component = known.get(name)
        assert component.__module__ == f"{known.package}.{written.module}"
        assert known.origin(name).name == BUILT_IN
        assert (written.about, written.command) == (first_line(component), getattr(component, "command", "") or name)


def test_what_sources_say_of_commands_is_what_they_do() -> None:
    for module, function, _example in (*OF_RECIPES.values(), *OF_COMPONENTS.values()):
        found = importlib.import_module(f"nasdistill.cli.{module}")
        documentation = getattr(found, function).__doc__
        assert first_line_of(Path(found.__file__ or ""), function) == documentation.partition("\n")[0]
