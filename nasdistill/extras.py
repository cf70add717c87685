"""Libraries that only an extra of this package brings."""

from __future__ import annotations

from importlib.util import find_spec

from nasdistill.errors import SpecError


def require_extra(extra: str, what: str) -> None:
    """Nothing where the library of an extra, which has its name, is installed.

    Args:
        what: begins the sentence of the refusal: who needs which library.

    Raises:
        SpecError: it is not; says how to install it.
    """
    if find_spec(extra) is None:
        raise SpecError(f'{what}: pip install "nasdistill[{extra}]"')
