"""Data sets that come as known files: where they lie, whether they are the original, and how they are fetched."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from nasdistill.data.base import DataSet
from nasdistill.errors import SpecError, UserError
from nasdistill.storage import sha256_of, sha256_of_json, write_bytes

LARGEST_MEMBER = 1 << 30


@dataclass(frozen=True)
class Layout:
    """One way in which a data set's files lie on disk.

    Attributes:
        folder: below the root; the files may also lie in the root itself.
        md5: name of each file to the MD5 of the original, None where none is known.
    """

    folder: str
    md5: Mapping[str, str | None]


@dataclass(frozen=True)
class Download:
    """A file of the network.

    Attributes:
        urls: where it is to be had, the first one that answers is taken; https.
        md5: of the file.
        name: under which it is kept, None for a tar archive, of which the files of the layout are kept.
    """

    urls: tuple[str, ...]
    md5: str
    name: str | None = None


@dataclass(frozen=True)
class Located:
    """The files of a data set, found.

    Attributes:
        for_own_data: the data set that reads other files of this format.
    """

    folder: Path
    layout: Layout
    for_own_data: str

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            UserError: they are not those of the original.
        """
        data = (self.folder / name).read_bytes()
        expected = self.layout.md5[name]
        if expected is not None and md5_of(data) != expected:
            raise UserError(
                f"{self.folder / name} is damaged or not the original: its MD5 is {md5_of(data)}, not {expected}; "
                f"data.root with another folder and data.download=true fetch the original, and the data set "
                f"{self.for_own_data!r} reads data of your own"
            )
        return data


class FileSet(DataSet):
    """Base of the data sets that come as known files."""

    layouts: ClassVar[tuple[Layout, ...]]
    """The ways in which the files may lie; a download makes the first."""
    downloads: ClassVar[tuple[Download, ...]]
    for_own_data: ClassVar[str] = "arrays"
    """The data set that reads what others have made in a format like this."""
    access: ClassVar[frozenset[str]] = frozenset({"root", "download"})

    root: Path = Field(Path("data"), description="folder that holds the files, as torchvision lays them out")
    download: bool = Field(False, description="fetch the files over the network if they are missing")

    def fingerprint(self) -> str:
        located = self.locate()
        return fingerprint_of(located.folder, [located.folder / name for name in located.layout.md5])

    def locate(self) -> Located:
        """Find the files, or fetch them if that is asked for.

        Raises:
            UserError: they are missing, or cannot be fetched.
        """
        located = self._find()
        if located is None and self.download:
            self._fetch()
            located = self._find()
        if located is None:
            first = self.layouts[0]
            looked = dict.fromkeys(str(folder) for folder in (*(self.root / x.folder for x in self.layouts), self.root))
            raise SpecError(
                f"the files of {self.registered_name!r} are missing: looked in {', '.join(looked)}; "
                f"set data.download=true to fetch them, data.root to the folder that holds them, "
                f"or put {', '.join(first.md5)} into {self.root / first.folder}",
                ("root",),
            )
        return located

    def _find(self) -> Located | None:
        for layout in self.layouts:
            for folder in (self.root / layout.folder, self.root):
                if all((folder / name).is_file() for name in layout.md5):
                    return Located(folder, layout, self.for_own_data)
        return None

    def _fetch(self) -> None:
        layout = self.layouts[0]
        folder = self.root / layout.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for download in self.downloads:
                if download.name is not None and (folder / download.name).is_file():
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as temporary:
                    fetched = fetch(download, Path(temporary))
                    if download.name is None:
                        unpack(fetched, folder, layout.md5)
                    else:
                        os.replace(fetched, folder / download.name)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error}") from None


def fetch(download: Download, folder: Path) -> Path:
    """Fetch a file into `folder` and check its MD5.

    Raises:
        UserError: no address gives the file.
    """
    from torchvision.datasets.utils import download_url

    problems = []
    for url in download.urls:
        try:
            download_url(url, str(folder), filename="fetched", md5=download.md5)
        except (OSError, RuntimeError) as error:  # RuntimeError: the bytes are not those that the MD5 promises
            problems.append(f"{url}: {error}")
        else:
            return folder / "fetched"
    raise UserError(f"cannot download {'; '.join(problems)}")


def unpack(archive: Path, folder: Path, names: Iterable[str]) -> None:
    """Write the wanted files of a tar archive into `folder`; nothing else in it reaches the disk.

    A member counts only by its last name and as a regular file, so that paths, links and devices lead nowhere.

    Raises:
        UserError: a wanted file is missing, too large, or the archive is damaged.
    """
    missing = set(names)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name not in missing or not member.isreg():
                    continue
                if member.size > LARGEST_MEMBER:
                    raise UserError(f"{name!r} in {archive} has {member.size} bytes, more than any data file should")
                content = tar.extractfile(member)
                assert content is not None  # a regular file has content
                write_bytes(folder / name, content.read())
                missing.remove(name)
                if not missing:
                    return
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"the archive {archive} is damaged: {error}") from None
    raise UserError(f"the archive {archive} lacks {', '.join(sorted(missing))}")


def fingerprint_of(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names below `folder` and the bytes of files; reads several at a time.

    A file that cannot be read counts by its name alone: whether that is a mistake is for those to say who need it.
    """
    paths = sorted(files)
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(_sha256_if_readable, paths))
    names = [path.relative_to(folder).as_posix() for path in paths]
    return sha256_of_json(dict(zip(names, hashes, strict=True)))


def _sha256_if_readable(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def md5_of(data: bytes) -> str:
    """MD5 in hexadecimal: guards against damage, as the publishers of data sets do; no protection against malice."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
