"""A folder as files of at most 15 MiB, and back, for data and results that travel where no file may be larger.

    python -m benchmarks.parts split FOLDER PARTS
    python -m benchmarks.parts join PARTS INTO

The parts of `data/cifar-10-batches-py` are `cifar-10-batches-py.00-of-11` and so on. They may be carried in several
turns; the folder is whole once all are there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

LARGEST = 15 * 2**20
PART = re.compile(r"(.+)\.([0-9]{2,})-of-([0-9]{2,})")


def split(folder: Path, into: Path, largest: int = LARGEST) -> list[Path]:
    """Write the parts of a folder, in place of those that are there of an earlier one of its name."""
    folder = folder.resolve()
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as archive:
            archive.add(folder, folder.name)
        count = -(-whole.tell() // largest)
        whole.seek(0)
        into.mkdir(parents=True, exist_ok=True)
        written = [into / f"{folder.name}.{number:02d}-of-{count:02d}" for number in range(count)]
        incoming = [part.with_name(f"{part.name}.partial") for part in written]
        for partial in incoming:
            partial.write_bytes(whole.read(largest))
        # only now: a kill while they are written leaves the earlier parts, of which some and some new ones are nothing
        for partial, part in zip(incoming, written, strict=True):
            os.replace(partial, part)
    for old in _parts_in(into).get(folder.name, []):
        if old not in written:
            old.unlink()
    return written


def join(parts: Path, into: Path) -> list[Path]:
    """Unpack every folder whose parts are in `parts`.

    Raises:
        FileNotFoundError: some parts are not there; the sentence names them.
    """
    joined = []
    for name, there in sorted(_parts_in(parts).items()):
        count = there[0].name.rpartition("-of-")[2]
        wanted = [parts / f"{name}.{number:02d}-of-{count}" for number in range(int(count))]
        missing = [part.name for part in wanted if part not in there]
        if missing:
            raise FileNotFoundError(f"{name} is not whole: {', '.join(missing)} are not in {parts}")
        with tempfile.TemporaryFile() as whole:
            for part in wanted:
                whole.write(part.read_bytes())
            whole.seek(0)
            with tarfile.open(fileobj=whole, mode="r:gz") as archive:
                archive.extractall(into, filter="data")
        joined.append(into / name)
    return joined


def _parts_in(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*-of-*")):
        if named := PART.fullmatch(path.name):
            found.setdefault(named[1], []).append(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="a folder as files of at most 15 MiB, and back")
    parser.add_argument("way", choices=("split", "join"))
    parser.add_argument("source", type=Path, help="the folder, or with join that of its parts")
    parser.add_argument("into", type=Path, help="folder to write into")
    options = parser.parse_args()
    try:
        for path in (split if options.way == "split" else join)(options.source, options.into):
            print(path)
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
