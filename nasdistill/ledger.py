"""The ledger of a folder: which files were written there, by their hashes, so that nothing else is ever replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from nasdistill.errors import DamagedFile, UserError
from nasdistill.storage import read_sealed, sha256_of, write_bytes, write_sealed

LEDGER = "written.json"


class Ledger:
    """The files that were written in a folder, in its `written.json`.

    A file is replaced or removed where it is, byte for byte, what was written. The hash of new content is noted before
    its file is written, beside that of the old, so that after a kill neither is taken for another's.

    Attributes:
        hashes: by name below the folder, the SHA-256 that its file has or may have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / LEDGER
        self.exists = path.is_file()
        self.hashes: dict[str, list[str]] = read_sealed(path)["files"] if self.exists else {}

    def adopt(self, *names: str) -> None:
        """Take files as they are for what was written: those of an earlier version, which kept no ledger."""
        self.hashes |= {name: [sha256_of(self.folder / name)] for name in names if (self.folder / name).is_file()}

    def wrote(self, name: str) -> bool:
        """Whether a file is as it was written."""
        path = self.folder / name
        return path.is_file() and sha256_of(path) in self.hashes.get(name, ())

    def others(self, texts: Mapping[str, str | None]) -> list[str]:
        """What stands in the place of files that are to be written, and would be lost.

        Args:
            texts: by name their content, None where nobody knows it yet.
        """
        return [
            name
            for name, text in texts.items()
            if os.path.lexists(self.folder / name) and not self.wrote(name) and not self._holds(name, text)
        ]

    def write(self, name: str, text: str) -> None:
        """Write a file of the folder.

        Raises:
            UserError: another one stands in its place.
        """
        if self.others({name: text}):
            raise not_ours(self.folder, [name])
        data, path = text.encode(), self.folder / name
        before = [sha256_of(path)] if path.is_file() else []
        self.hashes[name] = list(dict.fromkeys([*before, hashlib.sha256(data).hexdigest()]))
        write_sealed(self.folder / LEDGER, {"files": self.hashes})
        if not self._holds(name, text):
            write_bytes(path, data)

    def remove(self, name: str) -> None:
        """Remove a file that was written; any other stays."""
        if self.wrote(name):
            (self.folder / name).unlink()

    def check(self, name: str) -> None:
        """Check a file against its hash, if it was written here.

        Raises:
            DamagedFile: it is not what was written.
        """
        path = self.folder / name
        if name in self.hashes and path.is_file() and not self.wrote(name):
            raise DamagedFile(f"{path} is damaged: its SHA-256 is not the one in {LEDGER}")

    def _holds(self, name: str, text: str | None) -> bool:
        path = self.folder / name
        return text is not None and path.is_file() and path.read_bytes() == text.encode()


def not_ours(folder: Path, names: list[str]) -> UserError:
    """The sentence for files that are not as they were written."""
    it = "it" if len(names) == 1 else "them"
    return UserError(
        f"{folder} holds {', '.join(names)}, not as nasdistill wrote {it} there, and a run would replace {it}; "
        f"move {it} elsewhere, or choose another folder with --out"
    )
