"""
Archives and compressed files as streams, under limits: nothing is unpacked onto the disk, no name becomes a path.

    decompressed(file, "gzip", limits)      the bytes of a .gz .zst .bz2 .xz or .lz4 as a stream
    members(zip_members(file, limits), limits), members(tar_members(stream), limits)      the files in an archive

Every unpacked byte counts against the Limits of the outermost file, at any depth of nesting. Beyond them Bomb is raised; whatever
came before has been read by then.
"""

import bz2
import errno
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

MAX_MEMBERS = 1_000_000
MAX_UNPACKED = 256 << 30  # bytes from one file; the largest archive of a known corpus, OpenWebText2, unpacks to 66 GB
MAX_RATIO = 200  # bytes out for one in; text packs 3 to 20 times, a repeated byte 1,000 times
FREE_BYTES = 64 << 20  # that any file may unpack to: small ones pack better
MAX_DIRECTORY = 256 << 20  # bytes of a zip's directory, read into memory; about 2 million names
MAX_HEADER = 1 << 20  # bytes of a tar's long name or extended header
STEP = 4096  # bytes asked of a library that loses the bytes of the current call when it meets damage
LZMA_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MB
WINDOW_LOG = 31  # zstd --long=31, as dumps of forums are packed, looks back 2 GB and takes as much memory
FREE_WINDOW = 128 << 20  # bytes; a larger window may take half of the memory
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, struct.error, pa.ArrowException)
ODD = (ValueError, IndexError, KeyError, NotImplementedError, RuntimeError)  # zipfile and others raise these on damage, too


class Bomb(Exception):
    """A file that would unpack to too much; the text says what."""


class NeedsMemory(Exception):
    """A file that this machine has too little memory to unpack; the text says how much it takes."""


def is_ours(error):
    """True if our own disk failed, not the file: the errors of damage have no errno, or EINVAL."""
    return getattr(error, "errno", None) not in (None, errno.EINVAL)


class Limits:
    """The most that a file of `size` bytes may unpack to, in bytes and in members."""

    def __init__(self, size):
        self.bytes = min(MAX_UNPACKED, max(FREE_BYTES, MAX_RATIO * size))
        self.unpacked = self.found = 0
        self.size = size

    def unpack(self, n):
        self.unpacked += n
        if self.unpacked > self.bytes:
            raise Bomb(f"{self.size:,} bytes become more than {self.bytes:,}")

    def find(self, n=1):
        self.found += n
        if self.found > MAX_MEMBERS:
            raise Bomb(f"an archive of over {MAX_MEMBERS:,} files")


class Unpacked(io.RawIOBase):
    """
    A stream that counts its bytes and fills every buffer. Any library's error on damage becomes an OSError, after the bytes before
    the damage. io.BufferedReader would lose those, so it must not wrap this.

    step: bytes asked of the library at once; it loses those of the call that meets the damage
    """

    def __init__(self, stream, limits, step=1 << 20):
        self.stream, self.limits, self.step = stream, limits, step
        self.damage = None

    def readable(self):
        return True

    def readinto(self, buffer):
        size = 0
        while size < len(buffer) and not self.damage:
            try:
                data = self.stream.read(min(self.step, len(buffer) - size))
            except (*DAMAGE, *ODD) as error:
                if is_ours(error):
                    raise
                self.damage = OSError(f"{type(error).__name__}: {error}")
                break
            if not data:
                break
            self.limits.unpack(len(data))
            buffer[size : size + len(data)] = data
            size += len(data)
        if self.damage and not size:
            raise self.damage
        return size


def decompressed(file, compression, limits):
    """compression: gzip, deflate, zstd, bz2, xz, lz4 or brotli. All members of a file are read, one after another."""
    if compression in DECODERS:
        return Unpacked(Streams(file, DECODERS[compression]), limits, 1 << 20 if compression in ("gzip", "deflate") else STEP)
    return Unpacked(pa.CompressedInputStream(pa.PythonFile(file, "r"), compression), limits, STEP)


class Rejoined(io.RawIOBase):
    """A stream with its beginning put back."""

    def __init__(self, head, stream):
        self.head, self.stream = head, stream

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), len(self.head))
        if size:
            data, self.head = self.head[:size], self.head[size:]
        if size < len(buffer):
            try:
                rest = self.stream.read(len(buffer) - size)
            except DAMAGE:  # the next read meets it again
                if not size:
                    raise
                rest = b""
            data = data + rest if size else rest
        buffer[: len(data)] = data
        return len(data)


class Streams(io.RawIOBase):
    """The bytes of compressed streams, one after another; zeros may stand between them, as on tapes and by some servers."""

    def __init__(self, file, new_decoder):
        self.file, self.new_decoder, self.decoder = file, new_decoder, None

    def readable(self):
        return True

    def readinto(self, buffer):
        n = len(buffer)
        while True:
            if self.decoder is None or self.decoder.eof:
                block = (self.decoder.unused_data if self.decoder else b"") or self.file.read(1 << 16)
                if not block:
                    return 0
                block, self.decoder = block.lstrip(b"\0"), None
                if not block:
                    continue
                self.decoder = self.new_decoder(block)
                data = self.decoder.decompress(block, n)
            elif self.decoder.needs_input:
                block = self.file.read(1 << 16)
                if not block:
                    raise EOFError("the file ends in the middle of a stream")
                data = self.decoder.decompress(block, n)
            else:
                data = self.decoder.decompress(b"", n)
            if data:
                buffer[: len(data)] = data
                return len(data)


class Gzip:
    """
    A decoder of one gzip stream with the interface of bz2's and lzma's; it returns every byte before damage.

    block    its beginning
    wrapped  False: HTTP's deflate, which may be gzip, zlib or neither
    """

    def __init__(self, block, wrapped=True):
        is_zlib = len(block) > 1 and block[0] & 15 == 8 and int.from_bytes(block[:2]) % 31 == 0
        form = 31 if wrapped or block[:2] == b"\x1f\x8b" else zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
        self.inner, self.rest, self.full, self.damage = zlib.decompressobj(form), b"", False, None

    @property
    def eof(self):
        return self.inner.eof

    @property
    def unused_data(self):
        return self.inner.unused_data

    @property
    def needs_input(self):
        return not (self.rest or self.full or self.damage or self.eof)

    def decompress(self, block, n):
        if self.damage:
            raise self.damage
        block, before = self.rest + block, self.inner.copy()  # a copy takes 10 us, unpacking a block 1 ms
        try:
            data = self.inner.decompress(block, n)
        except zlib.error as error:
            self.damage, pieces = error, []
            with suppress(zlib.error):
                for at in range(len(block)):
                    pieces.append(before.decompress(block[at : at + 1]))
            return b"".join(pieces)
        self.rest, self.full = self.inner.unconsumed_tail, len(data) == n
        return data


class Zstd:
    """A decoder of one zstd frame with the interface of bz2's; NeedsMemory for a window that this machine cannot hold."""

    def __init__(self, block):
        try:
            from compression import zstd  # from Python 3.14 on
        except ImportError:
            from backports import zstd
        if len(block) > 5 and block[:4] == b"\x28\xb5\x2f\xfd" and not block[4] & 32:  # RFC 8878, 3.1.1.1.2
            window = (8 + (block[5] & 7)) << (7 + (block[5] >> 3))
            if FREE_WINDOW < window <= 1 << WINDOW_LOG and window > memory() // 2:
                raise NeedsMemory(f"its zstd window takes {window:,} bytes of memory, more than half of what this machine has")
        self.inner = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
        self.error = zstd.ZstdError

    def __getattr__(self, name):  # eof, unused_data, needs_input
        return getattr(self.inner, name)

    def decompress(self, block, n):
        try:
            return self.inner.decompress(block, n)
        except self.error as error:
            raise OSError(f"ZstdError: {error}") from None


def memory():
    """Bytes of memory of this machine, or of the container that the process runs in."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max", encoding="utf-8") as file:
        size = min(size, int(file.read()))
    return size


DECODERS = {
    **{"gzip": Gzip, "deflate": lambda block: Gzip(block, wrapped=False), "bz2": lambda _: bz2.BZ2Decompressor(), "zstd": Zstd},
    "xz": lambda _: lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY),  # lzma.open takes any amount of memory a file asks for
}


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    file: Any = None  # a stream
    problem: tuple[str, str] | None = None  # (reason, detail) if it cannot be read


def members(found, limits):
    """The members in their order, counted."""
    for member in found:
        limits.find()
        yield member


def open_zip(file):
    """A ZipFile; BadZipFile for one that is damaged, Bomb for one whose directory is too large."""
    _check_directory(file)
    try:
        return zipfile.ZipFile(file)
    except ODD as error:
        raise zipfile.BadZipFile(f"{type(error).__name__}: {error}") from error


def zip_members(file, limits):
    """The files in a zip, in the order of its directory."""
    with open_zip(file) as archive:
        infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
        if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos) > limits.bytes:
            limits.find(len(infos))
            limits.unpack(sum(info.file_size for info in infos))
        for info in infos:
            if info.flag_bits & 1:
                yield Member(info.filename, info.file_size, problem=("encrypted", "a password is needed"))
                continue
            try:
                stream = archive.open(info)
            except (*DAMAGE, *ODD) as error:
                if is_ours(error):
                    raise
                yield Member(info.filename, info.file_size, problem=("broken", f"{type(error).__name__}: {error}"))
                continue
            with stream:
                yield Member(info.filename, info.file_size, Unpacked(stream, limits))


def _check_directory(file):
    """Bomb for a zip whose directory would take too much memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65_557))  # the end record and the longest comment
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    wide = tail.rfind(b"PK\6\6")
    if wide >= 0 and len(tail) >= wide + 48:
        length = struct.unpack_from("<Q", tail, wide + 40)[0]
    else:
        length = struct.unpack_from("<L", tail, at + 12)[0] if 0 <= at <= len(tail) - 16 else 0
    if length > MAX_DIRECTORY:
        raise Bomb(f"a zip whose directory has {length:,} bytes")


class _Header(tarfile.TarInfo):
    """A tar header whose extension has a bounded length: tarfile reads it into memory."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.type in (b"x", b"g", b"X", b"L", b"K") and header.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def tar_members(stream):
    """The files in a tar, in their order; links and devices are members with a problem, folders are left out."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, errorlevel=2) as archive:
        while (header := archive.next()) is not None:
            archive.members = []  # tarfile would keep every name
            if header.isdir():
                continue
            if not header.isreg() or header.issparse():
                yield Member(header.name, 0, problem=("unreadable", "not a regular file"))
            else:
                yield Member(header.name, header.size, archive.extractfile(header))
