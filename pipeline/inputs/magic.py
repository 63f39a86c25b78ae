"""File formats that are not text, told by their first bytes."""

from __future__ import annotations

from typing import NamedTuple

_UNPACK = "unpack it first"
_DECOMPRESS = "decompress it first, or compress it with gzip, bzip2, xz or zstd"
_EXTRACT = "extract its text first"
_CONVERT = "convert it to Parquet or JSON lines first"
_LEAVE_OUT = "leave it out of --input"
_DECRYPT = "decrypt it first"


class Kind(NamedTuple):
    """What a file holds, with its article, and what to do about it."""

    what: str
    advice: str


class _Magic(NamedTuple):
    start: bytes
    kind: Kind
    at: int = 0


#: Bytes that no text begins with.
_SURE = [
    *(_Magic(start, Kind(what, _UNPACK)) for start, what in (
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!\x1a\x07", "a rar archive"),
        (b"!<arch>\ndebian-binary", "a deb package"), (b"!<arch>\n", "an ar archive"),
        (b"\xed\xab\xee\xdb", "an rpm package"), (b"MSCF\0\0\0\0", "a cab archive"),
        (b"xar!\0", "a xar archive"), (b"\x1f\xa0", "an lzh archive"),
    )),
    *(_Magic(start, Kind(what, _DECOMPRESS)) for start, what in (
        (b"\x04\x22\x4d\x18", "lz4 data"), (b"\x02\x21\x4c\x18", "lz4 data"), (b"\x1f\x9d", "compress (.Z) data"),
        (b"\xff\x06\0\0sNaPpY", "snappy data"), (b"\x82SNAPPY\0", "snappy data"), (b"\x89LZO\0\r\n\x1a\n", "lzo data"),
        (b"LZIP\x01", "lzip data"), (b"]\0\0", "lzma data"), (b"\x1f\x1e", "packed (.z) data"),
    )),
    *(_Magic(start, Kind(what, _EXTRACT)) for start, what in (
        (b"%PDF-", "a PDF document"), (b"{\\rtf", "an RTF document"), (b"%!PS", "a PostScript document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document"), (b"AT&TFORM", "a DjVu document"),
        (b"ITSF\x03\0\0\0", "a CHM document"), (b"\xffWPC", "a WordPerfect document"), (b"bplist00", "a property list"),
    )),
    _Magic(b"BOOKMOBI", Kind("a Mobipocket book", _EXTRACT), 60),
    *(_Magic(start, Kind(what, _CONVERT)) for start, what in (
        (b"Obj\x01", "an Avro file"), (b"ARROW1\0\0", "an Arrow IPC file"), (b"\xff\xff\xff\xff", "an Arrow stream"),
        (b"SQLite format 3\0", "an SQLite database"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY", "a NumPy array"), *((b"\x80" + bytes([version]), "a pickle") for version in range(2, 6)),
        (b"SEQ\x04", "a Hadoop SequenceFile"), (b"SEQ\x05", "a Hadoop SequenceFile"),
        (b"SEQ\x06", "a Hadoop SequenceFile"), (b"RCF\x01", "a Hadoop RCFile"),
    )),
    *(_Magic(start, Kind(what, _LEAVE_OUT)) for start, what in (
        (b"\x89PNG\r\n", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"), (b"\0\0\x01\0", "an icon"), (b"ID3\x02", "an MP3 recording"),
        (b"ID3\x03", "an MP3 recording"), (b"ID3\x04", "an MP3 recording"), (b"OggS\0", "an Ogg recording"),
        (b"\x1aE\xdf\xa3", "a Matroska video"), (b"\x7fELF", "a program"), (b"\xfe\xed\xfa\xce", "a program"),
        (b"\xfe\xed\xfa\xcf", "a program"), (b"\xce\xfa\xed\xfe", "a program"), (b"\xcf\xfa\xed\xfe", "a program"),
        (b"\xca\xfe\xba\xbe", "a program"), (b"\0asm", "a WebAssembly program"), (b"\0\x01\0\0\0", "a font"),
    )),
    *(_Magic(start, Kind(what, _DECRYPT)) for start, what in (
        (b"-----BEGIN PGP MESSAGE-----", "a PGP message"), (b"age-encryption.org/", "an encrypted file"),
    )),
    _Magic(b"version https://git-lfs.github.com/spec/", Kind("a Git LFS pointer", "fetch the file: git lfs pull")),
]  # fmt: skip

#: Bytes that text may begin with: they count where the rest is not text.
_LIKELY = [
    _Magic(b"PAR1", Kind("a Parquet file", "--input-format parquet --text-field NAME reads a column of it")),
    *(_Magic(start, Kind(what, _CONVERT)) for start, what in (
        (b"ORC", "an ORC file"), (b"FEA1", "a Feather file"), (b"CDF", "a NetCDF file"),
        (b"MATLAB 5.0", "a MATLAB file"), (b"RDX", "an R data file"), (b"SEQ", "a Hadoop SequenceFile"),
    )),
    *(_Magic(start, Kind(what, _LEAVE_OUT)) for start, what in (
        (b"GIF8", "a GIF image"), (b"BM", "a BMP image"), (b"8BPS", "a Photoshop image"), (b"MZ", "a program"),
        (b"fLaC", "a FLAC recording"), (b"MThd", "a MIDI file"), (b"wOF", "a font"), (b"OTTO", "a font"),
        (b"GGUF", "a GGUF model"), (b"PACK", "a Git pack"), (b"\xff\xfb", "an MP3 recording"),
        (b"\xff\xf3", "an MP3 recording"),
    )),
    _Magic(b"ftyp", Kind("an MP4 video or HEIF image", _LEAVE_OUT), 4),
    _Magic(b"WAVE", Kind("a WAV recording", _LEAVE_OUT), 8),
    _Magic(b"AVI ", Kind("an AVI video", _LEAVE_OUT), 8),
    _Magic(b"WEBP", Kind("a WebP image", _LEAVE_OUT), 8),
    _Magic(b'{"', Kind("a safetensors file", _LEAVE_OUT), 8),
    _Magic(b"Salted__", Kind("an encrypted file", _DECRYPT)),
    _Magic(b"PARE", Kind("an encrypted Parquet file", _DECRYPT)),
    _Magic(b"070707", Kind("a cpio archive", _UNPACK)),
    _Magic(b"070701", Kind("a cpio archive", _UNPACK)),
]  # fmt: skip

#: Formats that have no first bytes of their own, by extension.
_NAMES = {
    ".br": Kind("brotli data", _DECOMPRESS), ".snappy": Kind("snappy data", _DECOMPRESS),
    ".sz": Kind("snappy data", _DECOMPRESS), ".deflate": Kind("deflate data", _DECOMPRESS),
    ".zz": Kind("zlib data", _DECOMPRESS), ".lzo": Kind("lzo data", _DECOMPRESS), ".lz4": Kind("lz4 data", _DECOMPRESS),
    ".gpg": Kind("an encrypted file", _DECRYPT), ".pgp": Kind("an encrypted file", _DECRYPT),
    ".avro": Kind("an Avro file", _CONVERT), ".orc": Kind("an ORC file", _CONVERT),
}  # fmt: skip

_ENDINGS = tuple(_NAMES)

#: Most files begin with none of these, which is known at once.
_SURE_STARTS = tuple(magic.start for magic in _SURE if not magic.at)
_SURE_WITHIN = [magic for magic in _SURE if magic.at]

#: What tells the kinds of zip files from each other: a name inside, which is near the start.
_ZIPPED = (
    (b"mimetypeapplication/epub+zip", Kind("an EPUB book", _EXTRACT)),
    (b"mimetypeapplication/vnd.oasis.opendocument", Kind("an OpenDocument file", _EXTRACT)),
    (b"word/", Kind("a Word document (docx)", _EXTRACT)),
    (b"xl/", Kind("an Excel workbook (xlsx)", _EXTRACT)),
    (b"ppt/", Kind("a PowerPoint document (pptx)", _EXTRACT)),
    (b"[Content_Types].xml", Kind("an Office document", _EXTRACT)),
    (b"META-INF/", Kind("a jar archive", _UNPACK)),
    (b"data.pkl", Kind("a PyTorch file", _LEAVE_OUT)),
    (b"", Kind("a zip archive", _UNPACK)),
)


def sure_kind(head: bytes) -> Kind | None:
    """Name a format by bytes that no text begins with, None for any other content."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return next(kind for name, kind in _ZIPPED if name in head)
    if _is_tar(head):
        return Kind("a tar archive", _UNPACK)
    return _find(head, _SURE if head.startswith(_SURE_STARTS) else _SURE_WITHIN)


def likely_kind(head: bytes, name: str) -> Kind | None:
    """Name the format of a file that is not text, by bytes that text may begin with too, or by its extension."""
    return _find(head, _LIKELY) or named_kind(name)


def named_kind(name: str) -> Kind | None:
    """Name the format of a file that is not text by its extension."""
    name = name.lower()
    return next((kind for end, kind in _NAMES.items() if name.endswith(end)), None) if name.endswith(_ENDINGS) else None


def _find(head: bytes, table: list[_Magic]) -> Kind | None:
    return next((magic.kind for magic in table if head.startswith(magic.start, magic.at)), None)


def _is_tar(head: bytes) -> bool:
    """Tell a tar header by its checksum, which every version of the format has."""
    if len(head) < 512:
        return False
    digits = head[148:156].strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return False
    return int(digits, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])
