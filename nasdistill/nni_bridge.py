"""The one door to nni, which has wheels for x86-64 alone and is imported only where it is needed."""

from __future__ import annotations

import getpass
import importlib
import importlib.util
import logging
import os
import platform
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

from filelock import FileLock

from nasdistill.errors import UserError

NEEDS = {
    "nni": "pip install 'nni>=3.0'",
    "pkg_resources": "pip install 'setuptools<81'",  # nni's trial tools import it, 81 dropped it
    "pytorch_lightning": "pip install 'pytorch-lightning>=2.6.6'",
}
"""What nni needs to be importable, by module, and the command that installs it."""


def require_nni(what: str, modules: tuple[str, ...] = ("nni", "pkg_resources")) -> None:
    """Make sure that nni can be imported, and that it logs nothing which users of nasdistill cannot act upon.

    Args:
        what: needs it, for the message, e.g. `nasdistill tune`.
        modules: of `NEEDS`, or others with their own names as packages.

    Raises:
        UserError: something is missing; the message is what to install, or that this processor has no wheel.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        advice = " and ".join(NEEDS.get(module, f"pip install {module}") for module in missing)
        where = ""
        if "nni" in missing and platform.machine().lower() not in ("x86_64", "amd64"):
            where = f"; nni has no wheel for this processor ({platform.machine()}), so that it runs on x86-64 alone"
        raise UserError(
            f"{what} needs {' and '.join(missing)}, not installed here: {advice}{where}; "
            "the rest of nasdistill works without"
        )
    warnings.filterwarnings("ignore", module=r"nni(\.|$)")
    importlib.import_module("nni")  # which sets up its logging and would undo the next line
    logging.getLogger("nni").setLevel(logging.CRITICAL)


def nni_hub(what: str) -> ModuleType:
    """nni's search spaces, the module `nni.nas.hub.pytorch`.

    When they are first imported nni writes a file beside its code, which another process would read half written; so
    one process at a time imports them.

    Args:
        what: needs it, for the message.

    Raises:
        UserError: something is missing; the message is what to install.
    """
    require_nni(what, ("nni", "pytorch_lightning"))
    user = os.getuid() if os.name == "posix" else getpass.getuser()  # in a container a user may have no name
    with FileLock(Path(tempfile.gettempdir()) / f"nasdistill-{user}-imports-nni.lock"):
        return importlib.import_module("nni.nas.hub.pytorch")
