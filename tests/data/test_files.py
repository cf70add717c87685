"""Downloads and archives: nothing but the wanted files reaches the disk, and only with the right bytes."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from torchvision.datasets import utils

from nasdistill.data.base import DATASETS
from nasdistill.data.files import Download, FileSet, Layout, md5_of, unpack
from nasdistill.data.preparation import load
from nasdistill.errors import UserError
from tests.data import fakes


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_only_the_wanted_files_of_an_archive_are_written(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.tar.gz", tmp_path / "inside" / "folder"
    hostile = [
        (member("/etc/unwanted"), b"x"),
        (member("../../wanted"), b"escaping, but only its last name counts"),
        (member("unwanted"), b"x"),
        (member("linked", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("hard", tarfile.LNKTYPE, "../../wanted"), b""),
        (member("device", tarfile.CHRTYPE), b""),
    ]
    write_tar(archive, [*hostile, (member("sub/second"), b"2")])
    unpack(archive, folder, ["wanted", "second"])
    assert everything_below(tmp_path) == [
        "a.tar.gz",
        "inside",
        "inside/folder",
        *[f"inside/folder/{n}" for n in ("second", "wanted")],
    ]
    assert (folder / "second").read_bytes() == b"2"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_wanted_name_that_is_no_regular_file_is_missing(tmp_path: Path, kind: bytes) -> None:
    write_tar(tmp_path / "a.tar.gz", [(member("wanted", kind, "/etc/passwd"), b"")])
    with pytest.raises(UserError, match="lacks wanted"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ["wanted"])
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdistill.data.files.LARGEST_MEMBER", 99)
    write_tar(tmp_path / "a.tar.gz", [(member("wanted"), bytes(100))])
    with pytest.raises(UserError, match="has 100 bytes"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ["wanted"])


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"this is no archive")
    with pytest.raises(UserError, match=r"a\.tar\.gz is damaged"):
        unpack(path, tmp_path, ["wanted"])
    write_tar(path, [(member("wanted"), fakes.random_bytes(5000).tobytes())])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"a\.tar\.gz is damaged"):
        unpack(path, tmp_path, ["wanted"])


def test_downloads_are_https_with_a_hash_and_give_the_first_layout() -> None:
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist", "svhn"):
        component = DATASETS.get(name)
        assert issubclass(component, FileSet)
        for download in component.downloads:
            assert all(url.startswith("https://") for url in download.urls)
            assert len(download.md5) == 32
            assert download.name is None or component.layouts[0].md5[download.name] == download.md5


class TestFetching:
    """With a stand-in for the network: torchvision's function copies from a folder."""

    @pytest.fixture
    def network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        remote = tmp_path / "remote"
        remote.mkdir()

        def download_url(url: str, root: str, filename: str, md5: str) -> None:
            path = Path(root, filename)
            try:
                shutil.copy(remote / url.rpartition("/")[2], path)
            except FileNotFoundError as error:
                raise OSError("no route to host") from error
            if not utils.check_integrity(str(path), md5):
                raise RuntimeError("File not found or corrupted.")

        monkeypatch.setattr(utils, "download_url", download_url)
        return remote

    def serve_cifar(self, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fakes.write_cifar10(tmp_path / "origin")
        with tarfile.open(remote / "cifar.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "origin" / "cifar-10-batches-py", "cifar-10-batches-py")
        component = DATASETS.get("cifar10")
        assert issubclass(component, FileSet)
        first = component.layouts[0]
        md5 = {name: md5_of((tmp_path / "origin" / first.folder / name).read_bytes()) for name in first.md5}
        monkeypatch.setattr(component, "layouts", (Layout(first.folder, md5), component.layouts[1]))
        archive = Download(("https://here/cifar.tar.gz",), md5_of((remote / "cifar.tar.gz").read_bytes()))
        monkeypatch.setattr(component, "downloads", (archive,))

    def test_an_archive_is_fetched_and_unpacked(
        self, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.serve_cifar(network, tmp_path, monkeypatch)
        root = tmp_path / "root"
        data = load(DATASETS.parse({"name": "cifar10", "root": str(root), "download": True}), 0)
        assert len(data.train) + len(data.validation) == 100
        names = DATASETS.get("cifar10").layouts[0].md5  # type: ignore[attr-defined]
        assert everything_below(root / "cifar-10-batches-py") == sorted(names)

    def test_what_is_there_is_not_fetched_again(
        self, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.serve_cifar(network, tmp_path, monkeypatch)
        dataset = DATASETS.parse({"name": "cifar10", "root": str(tmp_path / "root"), "download": True})
        first = dataset.fingerprint()
        (network / "cifar.tar.gz").unlink()
        assert dataset.fingerprint() == first

    def test_nothing_is_fetched_unasked(self, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.serve_cifar(network, tmp_path, monkeypatch)
        with pytest.raises(UserError, match="missing"):
            load(DATASETS.parse({"name": "cifar10", "root": str(tmp_path / "root")}), 0)
        assert not (tmp_path / "root").exists()

    def test_wrong_bytes_are_refused_and_leave_nothing(
        self, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.serve_cifar(network, tmp_path, monkeypatch)
        with open(network / "cifar.tar.gz", "ab") as file:
            file.write(b"x")
        with pytest.raises(UserError, match=r"cannot download https://here/cifar\.tar\.gz: .*corrupted"):
            load(DATASETS.parse({"name": "cifar10", "root": str(tmp_path / "root"), "download": True}), 0)
        assert everything_below(tmp_path / "root" / "cifar-10-batches-py") == []

    def test_no_network_is_said(self, network: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot download https.*no route to host"):
            load(DATASETS.parse({"name": "mnist", "root": str(tmp_path / "root"), "download": True}), 0)

    def test_single_files_keep_their_names(
        self, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fakes.write_svhn(network)
        component = DATASETS.get("svhn")
        md5 = {path.name: md5_of(path.read_bytes()) for path in network.glob("*.mat")}
        monkeypatch.setattr(component, "layouts", (Layout("", md5),))
        downloads = tuple(Download((f"https://gone/x{n}", f"https://here/{n}"), md5[n], n) for n in md5)
        monkeypatch.setattr(component, "downloads", downloads)
        data = load(DATASETS.parse({"name": "svhn", "root": str(tmp_path / "root"), "download": True}), 0)
        assert len(data.test) == 20
        assert everything_below(tmp_path / "root") == sorted(md5)
