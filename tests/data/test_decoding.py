"""Images of rarer kinds: what their files hold is written here, byte by byte where Pillow writes none."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasdistill.data.decoding import decode, is_image, read_header
from tests.data.fakes import Array, random_bytes

HEIGHT, WIDTH = 6, 5
GREY = random_bytes(HEIGHT, WIDTH)
WIDE = GREY.astype(np.int64)
# What a file of each orientation holds of an image that is GREY when upright: its first row is the top, the right, ...
STORED = dict(
    enumerate(
        (
            *(GREY, np.fliplr(GREY), np.rot90(GREY, 2), np.flipud(GREY)),
            *(GREY.T, np.rot90(GREY), np.rot90(GREY, 2).T, np.rot90(GREY, -1)),
        ),
        start=1,
    )
)


def tiff(pixels: Array, order: str = "<", **tags: int) -> bytes:
    """An uncompressed TIFF of one channel (TIFF 6.0)."""
    height, width = pixels.shape
    bits = 8 * pixels.itemsize
    data = pixels.tobytes()
    signed = 2 if pixels.dtype.kind == "i" else 1
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: tags.get("photometric", 1), 273: 8}
    fields |= {274: tags.get("orientation", 1), 277: 1, 278: height, 279: len(data), 339: signed}
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in fields.items())
    entries += struct.pack(order + "HHIi", 34853, 9, 1, -5)  # a place before the file's start, as damaged Exif has it
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(data))
    return start + data + struct.pack(order + "H", len(fields) + 1) + entries + bytes(4)


def pgm(values: Array, most: int) -> bytes:
    return b"P5\n%d %d\n%d\n" % (WIDTH, HEIGHT, most) + values.astype(">u2").tobytes()


def as_palette(pixels: Array, path: Path, **options: int) -> bytes:
    """Half as many greys, in a palette whose other half is red."""
    image = Image.frombytes("P", (WIDTH, HEIGHT), (pixels // 2).tobytes())
    image.putpalette([level for k in range(128) for level in (2 * k,) * 3] + [255, 0, 0] * 128)
    image.save(path, **options)
    return path.read_bytes()


DEEP = {
    "full.pgm": pgm(257 * WIDE, 65535),
    "twelve.pgm": pgm(16 * WIDE + 7, 4095),
    "ten.pgm": pgm(4 * WIDE + 1, 1023),
    "plain.pgm": b"P2 5 6 4095 " + b" ".join(b"%d" % value for value in (16 * WIDE + 7).flatten()),
    "unsigned.tif": tiff((256 * WIDE + 9).astype("<u2")),
    "unsigned_big.tif": tiff((256 * WIDE + 9).astype(">u2"), ">"),
    "signed.tif": tiff((256 * (WIDE - 128) + 9).astype("<i2")),
    "signed_big.tif": tiff((256 * (WIDE - 128) + 9).astype(">i2"), ">"),
    "signed_bytes.tif": tiff((WIDE - 128).astype("i1")),
    "white_is_zero.tif": tiff((65535 - 256 * WIDE).astype("<u2"), photometric=0),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_other_depths_keeps_its_upper_eight_bits(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    assert read_header(tmp_path / name).grey
    assert np.array_equal(decode(tmp_path / name, (1, HEIGHT, WIDTH))[0].numpy(), GREY)


def test_twelve_bits_of_a_tiff_are_packed(tmp_path: Path) -> None:
    # Two values of 12 bits lie in three bytes; 0xAB7 and 0x123 have the upper bytes 0xAB and 0x12.
    pixels = np.frombuffer(bytes([0xAB, 0x71, 0x23]), np.uint8)[None]
    data = tiff(pixels).replace(struct.pack("<HHIHH", 256, 3, 1, 3, 0), struct.pack("<HHIHH", 256, 3, 1, 2, 0))
    data = data.replace(struct.pack("<HHIHH", 258, 3, 1, 8, 0), struct.pack("<HHIHH", 258, 3, 1, 12, 0))
    (tmp_path / "x.tif").write_bytes(data)
    assert decode(tmp_path / "x.tif", (1, 1, 2)).flatten().tolist() == [0xAB, 0x12]


@pytest.mark.parametrize(("ending", "options"), [("png", {}), ("png", {"transparency": 3}), ("gif", {}), ("bmp", {})])
def test_a_palette_of_greys_is_grey(tmp_path: Path, ending: str, options: dict[str, int]) -> None:
    as_palette(GREY, tmp_path / f"x.{ending}", **options)
    assert read_header(tmp_path / f"x.{ending}").grey
    assert np.array_equal(decode(tmp_path / f"x.{ending}", (1, HEIGHT, WIDTH))[0].numpy(), GREY // 2 * 2)


def test_a_palette_of_colours_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(random_bytes(HEIGHT, WIDTH, 3)).quantize(8).save(path)
    assert not read_header(path).grey


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_every_orientation_is_set_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    stored = np.ascontiguousarray(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if ending == "png":
        Image.fromarray(stored).save(path, exif=exif)
    else:
        path.write_bytes(tiff(stored, orientation=orientation))
    header = read_header(path)
    assert (header.height, header.width) == (HEIGHT, WIDTH)
    assert np.array_equal(decode(path, (1, HEIGHT, WIDTH))[0].numpy(), GREY)


def exif_of(path: Path, *entries: bytes) -> None:
    """A JPEG of 12x8 (width x height) whose Exif holds these entries."""
    Image.new("RGB", (12, 8)).save(path, "JPEG")
    data = path.read_bytes()
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])


SIX = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)


@pytest.mark.parametrize(
    ("entries", "turned"),
    [
        ([struct.pack(">HHI4s", 0x0112, 2, 2, b"6\0\0\0")], False),  # text
        ([struct.pack(">HHI4s", 0x0112, 7, 4, b"\1\0\0\0")], False),  # undefined
        ([struct.pack(">HHIHH", 0x0112, 3, 1, 9, 0)], False),
        ([struct.pack(">HHIHH", 0x0112, 3, 1, 0, 0)], False),
        ([struct.pack(">HHIi", 0x0112, 9, 1, -6)], False),
        ([struct.pack(">HHIf", 0x0112, 11, 1, 6.5)], False),
        ([struct.pack(">HHII", 0x0112, 5, 1, 5000)], False),  # a fraction that lies beyond the end
        ([struct.pack(">HHI4s", 0x0112, 1, 1, b"\6\0\0\0")], True),  # a byte
        ([struct.pack(">HHII", 0x0112, 4, 1, 6)], True),  # a long integer
        ([SIX, struct.pack(">HHI4s", 0x011A, 2, 4, b"72\0\0")], True),  # a resolution that is text
        ([struct.pack(">HHIi", 0x0100, 9, 1, -5), SIX], True),  # a negative width
        ([SIX, struct.pack(">HHII", 0x8769, 4, 1, 1 << 31)], True),  # a directory that is nowhere
    ],
)
def test_of_exif_only_a_sound_orientation_counts(tmp_path: Path, entries: list[bytes], turned: bool) -> None:
    exif_of(tmp_path / "x.jpg", *entries)
    header = read_header(tmp_path / "x.jpg")
    assert (header.height, header.width) == ((12, 8) if turned else (8, 12))
    assert decode(tmp_path / "x.jpg", (3, header.height, header.width)).shape == (3, header.height, header.width)


def test_exif_that_is_noise_is_none(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "x.png", exif=b"Exif\0\0" + bytes(range(40)))
    assert read_header(tmp_path / "x.png").width == 12


@pytest.mark.parametrize("ending", ["jpg", "gif", "bmp", "webp", "tif", "jp2", "pcx", "sgi", "ppm", "dds"])
def test_content_decides_where_the_name_says_nothing(tmp_path: Path, ending: str) -> None:
    Image.fromarray(random_bytes(HEIGHT, WIDTH, 3)).save(tmp_path / f"x.{ending}")
    for name in ("x", "x.heic", "x.unknown"):
        path = (tmp_path / f"x.{ending}").rename(tmp_path / name)
        assert is_image(path)
        assert decode(path, (3, HEIGHT, WIDTH)).shape == (3, HEIGHT, WIDTH)
        path.rename(tmp_path / f"x.{ending}")


@pytest.mark.parametrize(
    "data", [b"", b"notes", b"P3 is a text", b"BMW", b"#define A 1", bytes(1000), b"\0\0\0\x18ftypheic", b"%PDF-1.4"]
)
def test_what_is_no_image_by_content_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert not is_image(tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "x.jpeg")
    assert is_image(tmp_path / "x.jpeg")  # a broken one, which is told
