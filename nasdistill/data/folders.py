"""Folders of class folders: which are parts of the data, which are classes, and which files each class holds."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasdistill.errors import SpecError, UserError
from nasdistill.words import some, whole

TRAIN, VALIDATION, TEST = "train", "val", "test"
LEFT_BEHIND = frozenset(
    {"__macosx", "lost+found", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"}
)
"""What systems and programs leave in folders that they show, in lower case."""
# train, Training, TRAIN_SET, test-images; with a prefix: seg_train, asl_alphabet_test.
_PART = re.compile(
    r"(?P<prefix>(?:.*[^a-z0-9])?)"
    r"(?:(?P<train>train(?:ing|val)?)|(?P<val>val(?:id(?:at(?:e|ion))?)?|dev)|(?P<test>test(?:ing)?))"
    r"(?:[^a-z0-9]*(?:set|data|images?|split))?",
    re.IGNORECASE | re.ASCII,
)

_UNDECODED = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in names that are no UTF-8, and what no file can be written with."""

Files = list[tuple[Path, int]]
"""Files and their labels."""


@dataclass
class ClassFolders:
    """What was found below a root.

    Attributes:
        folders: of each part; where the root holds no parts, its class folders are those of `train`.
        wanted: what a class holds, in words.
        classes: their names, in the order of their labels.
        files: of each part, those that are wanted.
        unread: files in class folders that are not wanted.
        aside: what lies in no class folder and looks as if it should.
        again: folders that are read under another name already, which is the value; most often links.
    """

    root: Path
    folders: dict[str, Path]
    wanted: str
    classes: tuple[str, ...] = ()
    files: dict[str, Files] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    again: dict[Path, Path] = field(default_factory=dict)

    def left_out(self) -> Iterator[str]:
        """A sentence for each kind of thing that no class holds."""
        if self.unread:
            kinds = Counter(path.suffix.lower() or "without suffix" for path in self.unread).most_common()
            counted = some([f"{number} {kind}" for kind, number in kinds])
            kind = self.wanted.partition(" ")[0]
            files = "1 file" if len(self.unread) == 1 else f"{whole(len(self.unread))} files"
            yield (
                f"not read, as they are no {kind}s that can be decoded here: {files} in "
                f"{self.root} ({counted}), the first is {self._name(self.unread[0])}"
            )
        if self.aside:
            yield f"not read, as they are in no class: {some(list(map(self._name, self.aside)))} in {self.root}"
        if self.again:
            twice = [f"{self._name(path)} (which is {first})" for path, first in self.again.items()]
            yield f"not read again: {some(twice)} in {self.root}"

    def taken(self) -> str:
        """Where the parts come from."""
        return ", ".join(f"{part} from {folder}" for part, folder in self.folders.items())

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def find_class_folders(
    root: Path,
    is_wanted: Callable[[Path], bool],
    wanted: str,
    has_parts: bool = True,
    skip_broken: bool = False,
) -> ClassFolders:
    """List the classes and files below a folder, links followed.

    Args:
        is_wanted: of a file, or of a link that leads nowhere, whether it is one of its class.
        wanted: what a file of a class is, in words, for errors.
        has_parts: take folders with the usual names of parts for parts, not for classes.
        skip_broken: a link to nothing in place of a class folder is left out.

    Raises:
        UserError: there are no two classes, or it is not clear what is one; says which folders are meant.
    """
    inner = _unwrapped(root)
    if not skip_broken:
        _refuse_links_to_nothing(inner)
    folders = _parts(inner) if has_parts else {}
    if has_parts and not folders:
        _refuse_parts_as_classes(inner)
    found = ClassFolders(root, folders or {TRAIN: inner}, wanted)
    entered = _Entered(root)
    for folder in found.folders.values():
        if folder != root:
            entered.enter(folder, folder)
    for part, folder in found.folders.items():
        if not skip_broken:
            _refuse_links_to_nothing(folder)
        names = [name for name in _subfolders(folder) if entered.enter(folder / name, folder / name)]
        if part == TRAIN:
            if len(names) < 2:
                raise UserError(_too_few(folder, names, root))
            for name in names:
                if _UNDECODED.search(name):
                    raise UserError(
                        f"the class folder {str(folder / name)!a} has a name that is no UTF-8 text; rename it"
                    )
            found.classes = tuple(names)
        found.files[part] = []
        for name in names:
            if name not in found.classes:
                raise UserError(f"{folder / name} is a class that {found.folders[TRAIN]} does not have")
            found.files[part] += _files_of_class(found, folder / name, entered, is_wanted)
    found.again = entered.again
    found.aside = [
        path for level in dict.fromkeys((root, inner, *folders.values())) for path in _aside(level, found, is_wanted)
    ]
    return found


def files_in(folder: Path) -> Iterator[Path]:
    """The files below a folder at any depth, in a fixed order, links followed; without what systems leave behind.

    Raises:
        UserError: a folder cannot be listed.
    """
    yield from _walk(folder, _Entered(folder))


def files_below(folder: Path, is_wanted: Callable[[Path], bool], wanted: str, option: str) -> list[Path]:
    """The wanted files in a folder and all folders below, in a fixed order, links followed.

    Args:
        wanted: what they are, in words.
        option: of the data set, which names the folder.

    Raises:
        SpecError: at that option: there is no such folder, or it holds none.
    """
    if not folder.is_dir():
        raise SpecError(f"there is no folder {folder}", (option,))
    found = list(filter(is_wanted, files_in(folder)))
    if not found:
        raise SpecError(f"{folder} holds no {wanted}", (option,))
    return found


class _Entered:
    """The folders that were entered, so that circles of links end and no file counts twice."""

    def __init__(self, root: Path) -> None:
        above = (root, *root.resolve().parents)
        self._first: dict[tuple[int, int], tuple[Path, Path]] = {_identity(path): (path, root) for path in above}
        self.again: dict[Path, Path] = {}

    def enter(self, folder: Path, owner: Path) -> bool:
        """Whether a folder is entered for the first time.

        Args:
            owner: the folder of the class, or of the part, that it belongs to.

        Raises:
            UserError: it belongs to another class or part already.
        """
        first, first_owner = self._first.setdefault(_identity(folder), (folder, owner))
        if first == folder:
            return True
        if first_owner != owner and first_owner not in owner.parents:
            raise UserError(f"{folder} and {first} are one folder, so its files would belong to two classes or parts")
        self.again[folder] = first
        return False


def _files_of_class(found: ClassFolders, folder: Path, entered: _Entered, is_wanted: Callable[[Path], bool]) -> Files:
    files: Files = []
    unread = []
    label = found.classes.index(folder.name)
    for path in _walk(folder, entered):
        if is_wanted(path):
            files.append((path, label))
        else:
            unread.append(path)
    found.unread += unread
    if not files:
        others = f"; what it holds is {some([path.name for path in unread])}" if unread else ""
        raise UserError(f"{folder} holds no {found.wanted}{others}")
    return files


def _walk(folder: Path, entered: _Entered) -> Iterator[Path]:
    """The files below a folder at any depth, in a fixed order, links followed."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot list the folder {error.filename}: {error.strerror}")

    for here, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [
            name for name in sorted(folders) if not _is_left_behind(name) and entered.enter(Path(here, name), folder)
        ]
        yield from (Path(here, name) for name in sorted(files) if not _is_left_behind(name))


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the parts by their usual names, if there are any with class folders.

    A name with a prefix counts only where another part has the same, as a class may be called `steam_train`.
    """
    by_prefix: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name in _subfolders(root):
        match = _PART.fullmatch(name)
        if match and _subfolders(root / name):
            by_prefix[match["prefix"].lower()][str(match.lastgroup)].append(root / name)
    named: dict[str, list[Path]] = defaultdict(list)
    for prefix, parts in by_prefix.items():
        if not prefix or len(parts) > 1:
            for part, folders in parts.items():
                named[part] += folders
    for part, folders in named.items():
        if len(folders) > 1:
            names = " and ".join(f"{folder.name}/" for folder in folders)
            raise UserError(f"{root} holds {names}, each by its name the {part} set; rename one, or merge them")
    for part in (TRAIN, TEST):
        if named and part not in named:
            raise UserError(
                f"{root} holds {', '.join(f'{folders[0].name}/' for folders in named.values())} but no {part}/ with "
                "class folders; add it, or set data.root to a folder of class folders to split it"
            )
    return {part: _unwrapped(named[part][0]) for part in (TRAIN, VALIDATION, TEST) if part in named}


def _unwrapped(folder: Path) -> Path:
    """The folder, or the one of the same name that is all it holds, as archives are often unpacked."""
    inside = _subfolders(folder)
    wrapped = len(inside) == 1 and inside[0].lower() == folder.resolve().name.lower()
    return folder / inside[0] if wrapped else folder


def _refuse_parts_as_classes(folder: Path) -> None:
    names = _subfolders(folder)
    if len(names) < 2:
        return
    listed = some([f"{name}/" for name in names])
    as_classes = f"; if {listed} are the classes, set data.layout=classes"
    matches = [_PART.fullmatch(name) for name in names]
    if len({match.lastgroup for match in matches if match}) > 1 and all(matches):
        raise UserError(
            f"the folders of {folder} look like parts of a data set ({listed}) but hold no class folders{as_classes}"
        )
    common: set[str] | None = None
    for name in names:
        inside = set(_subfolders(folder / name))
        common = inside if common is None else common & inside
        if len(common) < 2:
            return
    raise UserError(
        f"the folders of {folder} ({listed}) all hold the same folders ({some(sorted(common or ()))}); if these are "
        f"the classes, name the outer ones train/, test/ and, if there is one, val/{as_classes}"
    )


def _too_few(folder: Path, classes: Sequence[str], root: Path) -> str:
    problem = (
        f"{folder} holds {len(classes)} class folder(s){': ' if classes else ''}{', '.join(classes)}; "
        "at least 2 are needed"
    )
    inside = _subfolders(folder / classes[0]) if classes else []
    if len(inside) < 2:
        return problem
    way = f"set data.root={folder / classes[0]}" if folder == root else f"move them up into {folder}"
    return f"{problem}; if {some(inside)} in {classes[0]}/ are meant, {way}"


def _refuse_links_to_nothing(folder: Path) -> None:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if path.is_symlink() and not path.exists() and not _is_left_behind(name):
            raise UserError(
                f"{path} is a link to {os.readlink(path)}, where nothing is; mend it, or leave out broken images and "
                "links with data.broken=skip"
            )


def _aside(level: Path, found: ClassFolders, is_wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """What lies beside the parts, or beside the class folders of a part."""
    parts = found.folders.values()
    for name in sorted(os.listdir(level)):
        path = level / name
        if _is_left_behind(name):
            continue
        if not path.is_dir():
            if is_wanted(path):
                yield path
        elif level not in parts and not any(path == part or path in part.parents for part in parts):
            yield path


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not _is_left_behind(entry.name) and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circle of links, or no permission to follow one
        return False


def _is_left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
