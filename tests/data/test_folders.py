"""Which files a folder of class folders holds: links, parts by their usual names, and what is not read."""

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from nasdistill.data.sets.image_folder import ImageFolder
from nasdistill.errors import UserError
from tests.data.fakes import write_class_folders, write_picture
from tests.data.test_image_folder import folder


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def sizes(dataset: ImageFolder) -> list[int]:
    """Of training, validation (0 if there is none) and test set."""
    source = dataset.read()
    return [len(part) if part else 0 for part in (source.train, source.validation, source.test)]


class TestLinks:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        write_class_folders(tmp_path / "store", 4, classes=("ant", "bee", "cat"))
        return tmp_path / "store"

    @pytest.mark.parametrize("depth", ["root", "class", "file"])
    def test_what_links_lead_to_is_read_and_hashed_as_if_it_lay_there(self, store: Path, depth: str) -> None:
        root = store.with_name("root")
        if depth == "root":
            link(root, store)
        for source in sorted(store.iterdir() if depth == "class" else store.glob("*/*") if depth == "file" else ()):
            link(root / source.relative_to(store), source)
        assert sizes(folder(root)) == sizes(folder(store))
        before = folder(root).fingerprint()
        assert before == folder(store).fingerprint()
        shutil.copy(store / "cat" / "000.png", store / "ant" / "002.png")
        assert folder(root).fingerprint() != before

    def test_linked_parts(self, store: Path, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "held-out", 2, classes=("ant", "bee", "cat"))
        link(tmp_path / "root" / "train", store)
        link(tmp_path / "root" / "test", tmp_path / "held-out")
        before = folder(tmp_path / "root").fingerprint()
        assert sizes(folder(tmp_path / "root")) == [12, 0, 6]
        write_picture(tmp_path / "held-out" / "bee" / "more.png")
        assert folder(tmp_path / "root").fingerprint() != before

    def test_a_linked_folder_inside_a_class_counts_once(
        self, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_class_folders(tmp_path / "root", 4)
        for name in ("more", "once-more"):
            link(tmp_path / "root" / "ant" / name, store / "ant")
        assert sum(sizes(folder(tmp_path / "root"))) == 8 + 4
        assert "not read again: ant/once-more (which is " in caplog.text

    def test_circles_end_and_are_named(self, store: Path, caplog: pytest.LogCaptureFixture) -> None:
        before = folder(store).fingerprint()
        for path, target in {"self": store, "ant/up": store, "bee/here": store / "bee", "cat/top": Path("/")}.items():
            link(store / path, target)
        assert sum(sizes(folder(store))) == 12
        assert folder(store).fingerprint() == before
        for name in ("self", "ant/up", "bee/here", "cat/top"):
            assert f"{name} (which is " in caplog.text

    @pytest.mark.parametrize(
        ("path", "target"), [("dog", "ant"), ("ant/others", "bee"), ("test", "train"), ("val", "test")]
    )
    def test_a_folder_has_one_class_and_one_part(self, tmp_path: Path, path: str, target: str) -> None:
        if target in ("train", "test"):
            for part in {"train", "test"} - {path}:
                write_class_folders(tmp_path / part, 2)
        else:
            write_class_folders(tmp_path, 2)
        link(tmp_path / path, tmp_path / target)
        with pytest.raises(UserError, match="are one folder, so its files would belong to two classes or parts"):
            folder(tmp_path).fingerprint()

    @pytest.mark.parametrize("path", ["bee", "test"])
    def test_a_link_to_nothing_is_named_before_what_it_makes_lack(self, tmp_path: Path, path: str) -> None:
        write_class_folders(tmp_path / "root" / ("train" if path == "test" else "."), 2, classes=("ant", "cat"))
        shutil.rmtree(tmp_path / "root" / "cat", ignore_errors=True)
        link(tmp_path / "root" / path, Path("gone"))
        with pytest.raises(UserError, match=f"{path} is a link to gone, where nothing is"):
            folder(tmp_path / "root").fingerprint()

    @pytest.mark.parametrize("path", ["ant/more", "ant/x.png", "dog"])
    def test_a_link_to_nothing_stops_or_is_left_out(
        self, store: Path, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        link(store / path, Path("gone"))
        with pytest.raises(UserError, match=rf"{path}.* link to gone, where nothing is.*data\.broken=skip"):
            folder(store).read()
        skipping = folder(store, broken="skip")
        assert sum(sizes(skipping)) == 12
        assert path in caplog.text
        before = skipping.fingerprint()
        write_class_folders(store.with_name("back"), 1)
        (store / path).unlink()
        (store / path).symlink_to(store.with_name("back") / "ant" / ("000.png" if path == "ant/x.png" else ""))
        assert skipping.fingerprint() != before


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_a_class_has_a_name_that_can_be_written(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 1)
    (tmp_path / "ant").rename(tmp_path / os.fsdecode(b"fourm\xed"))
    with pytest.raises(UserError, match=r"fourm\\udced' has a name that is no UTF-8 text"):
        folder(tmp_path).read()


class TestParts:
    @pytest.mark.parametrize(
        ("train", "validation", "test"),
        [
            ("Training", "Validation", "Testing"),
            ("TRAIN", "VALID", "TEST"),
            ("seg_train", "seg_dev", "seg_test"),
            ("train_set", "dev-set", "TestSet"),
            ("Training Images", "val_images", "test images"),
            ("train", "Validate", "test"),
        ],
    )
    def test_usual_names_are_parts_and_said(
        self, tmp_path: Path, train: str, validation: str, test: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for count, name in enumerate((train, validation, test), start=1):
            write_class_folders(tmp_path / name, count)
        assert sizes(folder(tmp_path)) == [2, 4, 6]
        assert f"train from {tmp_path / train}, val from {tmp_path / validation}, test from " in caplog.text

    def test_archives_that_wrap_a_folder_in_one_of_its_name(self, tmp_path: Path) -> None:
        root = tmp_path / "photos" / "photos"
        for part in ("train", "test"):
            write_class_folders(root / part / part, 2)
        assert sizes(folder(tmp_path / "photos")) == [4, 0, 4]

    @pytest.mark.parametrize(
        ("folders", "problem"),
        [
            (["fold1/ant", "fold1/bee", "fold2/ant", "fold2/bee"], r"\(fold1/, fold2/\) all hold .* \(ant, bee\)"),
            (["ant/train", "ant/test", "bee/train", "bee/test"], r"\(ant/, bee/\) all hold .* \(test, train\)"),
            (["Testing", "Training"], r"look like parts .*\(Testing/, Training/\) but hold no class folders"),
            (["train/ant", "val/ant", "valid/ant", "test/ant"], "holds val/ and valid/, each by its name the val set"),
            (["Train/ant", "Dev/ant"], "holds Dev/, Train/ but no test/"),
            (["photos/ant", "photos/bee"], r"holds 1 class folder\(s\): photos; .*set data.root=.*/photos"),
        ],
    )
    def test_what_may_be_parts_is_not_taken_for_classes(self, tmp_path: Path, folders: list[str], problem: str) -> None:
        for name in folders:
            write_picture(tmp_path / "root" / name / "0.png")
        with pytest.raises(UserError, match=problem):
            folder(tmp_path / "root").fingerprint()

    @pytest.mark.parametrize("names", [("Testing", "Training"), ("ant/in", "ant/out", "bee/in", "bee/out")])
    def test_unless_told_that_they_are_the_classes(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        write_class_folders(tmp_path, 3, classes=names)
        assert folder(tmp_path, layout="classes").read().classes == tuple(sorted({n.split("/")[0] for n in names}))

    def test_a_class_may_end_in_train(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 3, classes=("steam_train/old", "plane/new"))
        assert folder(tmp_path).read().classes == ("plane", "steam_train")


class TestNotRead:
    def test_other_files_are_counted_by_suffix(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_class_folders(tmp_path, 3)
        for name in ("ant/a.heic", "ant/b.HEIC", "bee/film.mp4", "bee/README"):
            (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
        os.mkfifo(tmp_path / "bee" / "pipe.png")
        assert sum(sizes(folder(tmp_path))) == 6
        assert "5 files in" in caplog.text
        assert "(2 .heic, 1 without suffix, 1 .mp4, 1 .png), the first is ant/a.heic" in caplog.text

    def test_images_under_any_name_are_read(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_class_folders(tmp_path, 4)
        before = folder(tmp_path).read()
        for k, name in enumerate(("0.jfif", "1.avif", "2.heic", "3")):
            (tmp_path / "ant" / f"00{k}.png").rename(tmp_path / "ant" / name)
        assert len(folder(tmp_path).read().train) == len(before.train)
        assert not caplog.records

    def test_what_is_in_no_class_is_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for part in ("train", "test", "extra"):
            write_class_folders(tmp_path / part, 2)
        write_picture(tmp_path / "train" / "loose.png")
        (tmp_path / "labels.csv").write_text("no image, and no loss")
        folder(tmp_path).read()
        assert f"in no class: extra, train/loose.png in {tmp_path}" in caplog.text

    def test_what_systems_leave_behind_is_passed_over(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        write_class_folders(tmp_path, 3)
        for name in (
            "__MACOSX",
            "lost+found",
            "@eaDir",
            "$RECYCLE.BIN",
            ".ipynb_checkpoints",
            "ant/.ipynb_checkpoints",
        ):
            write_picture(tmp_path / name / "0.png")
        for name in ("Thumbs.db", ".DS_Store", "ant/Thumbs.db", "bee/desktop.ini"):
            (tmp_path / name).write_bytes(b"left behind")
        assert sum(sizes(folder(tmp_path))) == 6
        assert not caplog.records

    def test_a_class_of_nothing_that_can_be_read_says_what_it_holds(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 3)
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat" / "a.heic").write_bytes(b"")
        with pytest.raises(UserError, match=r"cat holds no image .*; what it holds is a\.heic"):
            folder(tmp_path).read()
