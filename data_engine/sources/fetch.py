"""
Downloads: a remote file -> a complete, verified file on this machine, or a FetchError that names source, file and cause.

    download(downloads, remote)               -> path of the finished file
    read_range(downloads, remote, start, n)   -> some of its bytes, for the survey before anything is fetched
    retry(...)                                -> what is repeated after a failure, how often, and how long it waits

A download streams to NAME.part and resumes there with a Range request. It is checked against size and hash, fsynced and renamed:
a name without .part is a complete file. Temporary failures are retried with backoff and jitter: 408, 429 and 5xx, resets,
time-outs, bodies that end too early, wrong hashes, an HTML page in place of the file. Only failures in a row without a new byte
count, so a slow line may break any number of times. 401, 403, 404 and 410 end it at once. hosts.py keeps each host's pace.
"""

import base64
import fcntl
import hashlib
import logging
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from data_engine.sources import hosts
from data_engine.sources.hosts import describe, host_of
from phoenix.files import publish
from phoenix.progress import duration

DOWNLOAD_TRIES = 8  # failures in a row, without a new byte, that end a download; their waits take about four minutes
QUESTION_TRIES = 5  # failures in a row that end a question, for which a person waits
BACKOFF_SECS, MAX_BACKOFF_SECS = 1.0, 60.0  # the first wait; each further one is twice as long
MAX_RETRY_AFTERS = 100  # waits in a row that a server may ask for
MIN_RETRY_AFTER_SECS = 1.0  # below this a Retry-After counts as a failure and gets its backoff
TIMEOUT_SECS = 60.0  # without a byte
FRESH_SECS = 1.0  # age up to which a signed address is used
SLOW_BYTES, SLOW_SECS = 2_000, 60.0  # a connection slower than so many bytes a second for so long is opened anew
MAX_REDIRECTS = 10
RETRIED = {408, 425, 429, 500, 502, 503, 504, 520, 522, 524}  # status codes


class FetchError(Exception):
    """A file cannot be had; the text names the source, the file and the cause."""


class RetryableError(Exception):
    """A failed attempt that may succeed the next time."""

    def __init__(self, cause, wait=None):
        super().__init__(cause)
        self.wait = wait  # seconds that the server asks for


@dataclass(frozen=True)
class DownloadSettings:
    """Where a run keeps its downloads, and what it may fetch."""

    folder: str = ""  # on this machine
    tokens: int | None = None  # budget of the source; None: all its files
    tokens_per_byte: float = 0.22  # of the run's tokenizer, about
    cleaning: str = ""  # digest of the settings that decide which text is kept
    seed: int = 1  # of the order in which files are taken
    offline: bool = False  # asks no server
    keep: bool = True  # keeps files that have become raw partitions
    write: bool = True  # False: a plan, which leaves no trace


@dataclass(frozen=True)
class RemoteFile:
    """One file, as its server lists it."""

    source: str  # name, for messages
    path: str  # for messages; tells the kind of file
    key: str = ""  # file name in the download folder; other content has another key
    size: int | None = None  # bytes
    sha256: str | None = None
    git: str | None = None  # sha1 of git's blob, for files that the Hub keeps in git itself
    etag: str | None = None
    offset: int | None = None  # of a part of the file at `address`: its first byte; the part has `size` bytes
    resumable: bool = True  # False: only the ETag of an answer tells whether the next attempt gets the same file
    uri: str = ""  # of its record; "": path
    revision: str = ""  # of the data set
    address: Callable | None = field(default=None, repr=False, compare=False)  # () -> (url, headers), asked before each attempt
    refusal: Callable | None = field(default=None, repr=False, compare=False)  # (401, 403, 404 or 410) -> sentence

    def file(self, downloads):
        return Path(downloads.folder) / self.source / self.key

    def error(self, cause):
        return FetchError(f"source {self.source}: {self.path}: {cause}")


# --- Retrying ----------------------------------------------------------------------------------------------------------------


def retry(remote, attempt, bytes_done=lambda: 0, question=False):
    """
    attempt() until it raises no RetryableError.

    FetchError after DOWNLOAD_TRIES failures in a row (QUESTION_TRIES for a question) without SLOW_BYTES new bytes.
    """
    tries = QUESTION_TRIES if question else DOWNLOAD_TRIES
    failures = waits = 0
    reached = bytes_done()
    while True:
        try:
            return attempt()
        except RetryableError as error:
            if bytes_done() - reached >= SLOW_BYTES:  # one byte an attempt would take for ever
                failures = waits = 0
            reached = max(reached, bytes_done())
            server_asks = error.wait is not None and error.wait >= MIN_RETRY_AFTER_SECS
            failures, waits = failures + (not server_asks), waits + server_asks
            if failures >= tries or waits >= MAX_RETRY_AFTERS:
                raise remote.error(f"{error} ({failures + waits} times in a row)") from None
            wait = min(MAX_BACKOFF_SECS, BACKOFF_SECS * 2 ** max(0, failures - 1)) * random.uniform(0.5, 1.0)
            if server_asks:
                if error.wait > hosts.MAX_RETRY_AFTER_SECS:
                    raise remote.error(f"{error}; its server asks to wait {error.wait:,.0f} s") from None
                wait = error.wait + random.uniform(0, 0.1) * wait
            if question and wait >= 3:  # the driver has no progress display during questions
                print(f"{remote.source}: {error}; asked again in {wait:.0f} s", file=sys.stderr, flush=True)
            time.sleep(wait)


# --- One file ----------------------------------------------------------------------------------------------------------------


def download(downloads: DownloadSettings, remote: RemoteFile) -> Path:
    """Path of the finished file, fetched if it is not there."""
    final = remote.file(downloads)
    if is_complete(final, remote):
        return final
    if downloads.offline:
        raise remote.error("is not on this machine, and offline nothing is fetched")
    final.parent.mkdir(parents=True, exist_ok=True)
    part, etag_file = final.with_name(final.name + ".part"), final.with_name(final.name + ".etag")
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process may have finished the file meanwhile
        if is_complete(final, remote):
            part.unlink(missing_ok=True)
            return final
        if copy := _copy_of_another_source(downloads, remote):
            with suppress(OSError):  # a file system without links: the file is fetched again
                os.link(copy, final)
                part.unlink(missing_ok=True)
                return final

        def attempt():
            etag = remote.etag
            if not remote.resumable:
                etag = etag_file.read_text(encoding="utf-8") if etag_file.is_file() else None
                if not etag:
                    file.truncate(0)
            have, md5 = os.fstat(file.fileno()).st_size, None
            if remote.size is None or have != remote.size or not remote.resumable:
                md5 = _stream(downloads, remote, file, have, etag, etag_file)
            try:
                verify(remote, file, md5)
            except RetryableError:
                file.truncate(0)
                raise

        retry(remote, attempt, lambda: os.fstat(file.fileno()).st_size)
        publish(part, final)
        etag_file.unlink(missing_ok=True)
    return final


def _copy_of_another_source(downloads, remote):
    """The same finished file in another source's folder, found by its key, which holds the beginning of its hash."""
    if not (remote.sha256 or remote.git):
        return None
    return next((path for path in Path(downloads.folder).glob(f"*/{remote.key}") if is_complete(path, remote)), None)


def is_complete(path, remote):
    """True for a finished download; its content was verified before it got its name."""
    return path.is_file() and remote.size in (None, path.stat().st_size)


def read_range(downloads, remote, start, n):
    """n bytes from `start`, fewer at the end of the file."""
    if remote.offset is not None:
        start, n = remote.offset + start, max(0, min(n, remote.size - start))
        if not n:
            return b""

    def attempt():
        with _open(downloads, remote, {"Range": f"bytes={start}-{start + n - 1}"}) as answer:
            if answer.status_code == 416:
                return b""
            skipped = start if answer.status_code == 200 else 0  # a server without ranges sends the file from its beginning
            data = b""
            for block in answer.iter_raw():
                data += block
                if len(data) >= skipped + n:
                    break
            return data[skipped : skipped + n]

    return retry(remote, attempt, question=True)


def read_headers(downloads, remote):
    """(bytes or None, etag or None, media type or "") of a file, by a GET of its first byte: not every server knows HEAD."""

    def attempt():
        with _open(downloads, remote, {"Range": "bytes=0-0"}, pages=True) as answer:
            headers = answer.headers
            size = re.search(r"/(\d+)$", headers.get("content-range", ""))
            size = size[1] if size else headers.get("content-length", "") if answer.status_code == 200 else ""
            etag, media = headers.get("etag", ""), headers.get("content-type", "").partition(";")[0].strip().lower()
            return int(size) if size.isdigit() else None, etag if etag.startswith('"') else None, media

    return retry(remote, attempt, question=True)


def ask(downloads, remote, url, question):
    """question(), asked of the server of `url` at its pace, and again after a RetryableError."""

    def attempt():
        hosts.wait_turn(downloads, host_of(url))
        return question()

    return retry(remote, attempt, question=True)


def _stream(downloads, remote, file, have, etag, etag_file):
    """
    Appends the rest of a file to the `have` bytes that belong to `etag`; the MD5 that its server tells, or None.

    etag_file keeps the ETag of a file that cannot be resumed without one.
    """
    import httpx2

    headers = {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {}) if have else {}
    first = remote.offset or 0
    if remote.offset is not None:
        headers = {"Range": f"bytes={first + have}-{first + remote.size - 1}"}
    with _open(downloads, remote, headers) as answer:
        new_etag = answer.headers.get("etag", "")
        if answer.status_code == 416 and etag and answer.headers.get("content-range") == f"bytes */{have}":
            return None  # the part was complete
        if answer.status_code == 416:  # the part is longer than the file, or of another one
            file.truncate(0)
            raise RetryableError("the server refuses to go on where the last attempt ended")
        encoded = answer.headers.get("content-encoding", "identity")
        if encoded != "identity" and not (remote.sha256 or remote.git or remote.path.lower().endswith((".gz", ".tgz"))):
            raise remote.error(f"the server sends it in the encoding {encoded!r}, which it was not asked for")
        if remote.offset is not None and answer.status_code != 206:
            raise RetryableError("the server sends the file as a whole in place of a part")
        start, total = 0, answer.headers.get("content-length")
        total = int(total) if total and total.isdigit() else None
        if answer.status_code == 206:
            sent = re.match(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", ""))
            if not sent or int(sent[1]) != first + have:
                raise RetryableError("the server sends another part than it was asked for")
            start, total = have, int(sent[3]) if sent[3].isdigit() and remote.offset is None else remote.size
            if etag and new_etag and new_etag != etag:  # not every server knows If-Range
                file.truncate(0)
                raise RetryableError("another file has taken its place")
        if remote.size is not None and total is not None and total != remote.size:
            raise RetryableError(f"the server sends a file of {total:,} bytes, its listing says {remote.size:,}")
        if start == 0:
            file.truncate(0)
            if not remote.resumable and new_etag.startswith('"'):
                etag_file.write_text(new_etag, encoding="utf-8")
            elif not remote.resumable:  # a weak ETag, W/"...", may be another file's too
                etag_file.unlink(missing_ok=True)
        window_start, size, window_size = time.monotonic(), start, start
        try:
            for block in answer.iter_raw():  # as they come, so that a break loses none
                file.write(block)
                file.flush()
                size += len(block)
                if remote.size is not None and size > remote.size:
                    file.truncate(0)
                    raise RetryableError(f"the server sends more than the {remote.size:,} bytes of its listing")
                if time.monotonic() - window_start > SLOW_SECS:
                    if size - window_size < SLOW_BYTES * SLOW_SECS:
                        raise RetryableError(f"fewer than {SLOW_BYTES:,} bytes a second")
                    window_start, window_size = time.monotonic(), size
        except httpx2.TransportError as error:
            raise RetryableError(describe(error)) from None
        wanted = remote.size if remote.size is not None else total
        if wanted is not None and size < wanted:
            raise RetryableError(f"the body ends after {size:,} of {wanted:,} bytes")
        return _md5(answer.headers, answer.status_code) if remote.offset is None else None


def _md5(headers, status):
    """
    The MD5 of the complete file that an answer's headers tell, in hex, or None.

    Google and Azure have a header for it. S3 and its like give it as the ETag of a file that was uploaded in one piece and is not
    encrypted with a key of its own.
    """
    google = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    md5 = google[1] if google else headers.get("content-md5" if status == 200 else "x-ms-blob-content-md5", "")
    if re.fullmatch(r"[A-Za-z0-9+/]{22}==", md5):
        return base64.b64decode(md5).hex()
    own_key = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    own_key |= "x-amz-server-side-encryption-customer-algorithm" in headers
    etag = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("etag", ""))
    return etag[1] if etag and "x-amz-request-id" in headers and not own_key else None


def verify(remote, file, md5=None):
    """RetryableError if an open file has another size or hash than its server lists; md5: of the answer, where none is listed."""
    size = os.fstat(file.fileno()).st_size
    if remote.size is not None and size != remote.size:
        raise RetryableError(f"{size:,} bytes instead of {remote.size:,}")
    listed = remote.sha256 or remote.git
    for name, wanted in (("sha256", remote.sha256), ("sha1", remote.git), ("md5", None if listed else md5)):
        if wanted:
            prefix = f"blob {size}\0".encode() if name == "sha1" else b""  # git's
            with open(file.name, "rb") as stream:
                found = hashlib.file_digest(stream, lambda name=name, prefix=prefix: hashlib.new(name, prefix)).hexdigest()
            if found != wanted:
                raise RetryableError(f"its bytes do not have the {name} of the {'listing' if listed else 'answer'}")


@contextmanager
def _open(downloads, remote, headers, pages=False):
    """
    The answer to GET, redirects followed, with status 200, 206 or 416; RetryableError if a retry may help.

    pages: an HTML page is no error
    """
    import httpx2

    url, credentials = remote.address()
    asked_at, first = time.monotonic(), host_of(url)
    with hosts.connection(downloads, first):
        if time.monotonic() - asked_at > FRESH_SECS:
            url, credentials = remote.address()  # a signed address may have expired while it waited for a connection
        for _ in range(MAX_REDIRECTS):
            hosts.wait_turn(downloads, host_of(url))
            sent = credentials | headers | {"Accept-Encoding": "identity"}
            try:
                with client().stream("GET", url, headers=sent, follow_redirects=False) as answer:
                    if answer.has_redirect_location:
                        try:
                            target = urljoin(url, answer.headers["location"])
                            elsewhere = urlsplit(target)[:2] != urlsplit(url)[:2]
                        except ValueError:  # "[::1" without its end
                            raise remote.error(f"{host_of(url)} redirects to what is no address") from None
                        if elsewhere:
                            credentials = {}  # one host's token is not sent to another
                        url = target
                        continue
                    if answer.status_code in (401, 403) and host_of(url) != first:  # the next redirect renews the signature
                        raise RetryableError(f"{host_of(url)}, to which {first} redirects, answers {answer.status_code}")
                    _check_status(downloads, remote, answer, host_of(url), pages)
                    yield answer
                    return
            except httpx2.TransportError as error:
                raise RetryableError(describe(error)) from None
        raise remote.error(f"more than {MAX_REDIRECTS} redirects")


def _check_status(downloads, remote, answer, host, pages):
    status, sentence = answer.status_code, f"{host} answers {answer.status_code} ({answer.reason_phrase})"
    if status in (401, 403, 404, 410):
        raise remote.error((remote.refusal and remote.refusal(status)) or sentence)
    if status in RETRIED:
        raise RetryableError(sentence, hosts.slow_down(downloads, host, answer.headers, status))
    if status not in (200, 206, 416):
        raise remote.error(sentence)
    is_page = answer.headers.get("content-type", "").startswith("text/html") and not pages
    if is_page and status == 200 and not re.search(r"\.html?(\.[a-z0-9]+)?$", remote.path.lower()):
        raise RetryableError("the server sends an HTML page in place of the file")


@cache
def client():
    """One HTTP client a process."""
    import httpx2

    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below it they log whole addresses, and some are signed
    return httpx2.Client(timeout=TIMEOUT_SECS, headers={"User-Agent": "phoenix-data-engine"})


# --- What is on this machine -------------------------------------------------------------------------------------------------


def _cut_marker(final):
    """The empty file that says that a download has become raw partitions, for plans and progress."""
    return final.with_name(final.name + ".cut")


def mark_cut(downloads, remote):
    """Records that a download has become raw partitions, and deletes it unless downloads are kept."""
    final = remote.file(downloads)
    final.parent.mkdir(parents=True, exist_ok=True)
    _cut_marker(final).touch()
    if not downloads.keep:
        final.unlink(missing_ok=True)


def was_fetched(downloads, remote):
    """True if the file, or the raw partitions made of it, are on this machine."""
    final = remote.file(downloads)
    return is_complete(final, remote) or _cut_marker(final).is_file()


@contextmanager
def show_downloads(progress, jobs):
    """Files and bytes fetched, speed and time left, as a note of a stage's progress. jobs: (source, job) that are to be done."""
    wanted = [(source.downloads, remote) for source, job in jobs if hasattr(source, "remotes") for remote in source.remotes(job)]
    wanted = [(downloads, remote) for downloads, remote in wanted if not is_complete(remote.file(downloads), remote)]
    if not wanted:
        yield
        return
    total = sum(remote.size or 0 for _, remote in wanted)
    began, size_at_start = time.monotonic(), _fetched(wanted)[1]
    ended = threading.Event()

    def watch():
        while not ended.wait(1.0):
            files, size = _fetched(wanted)
            speed = (size - size_at_start) / (time.monotonic() - began)
            text = f"fetched {files}/{len(wanted)} files, {size / 1e6:,.1f} of {total / 1e6:,.1f} MB, {speed / 1e6:,.1f} MB/s"
            left = f", {duration((total - size) / speed)} left" if speed > 0 and size < total else ""
            progress.update(0, fetched=text + left)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        files, size = _fetched(wanted)
        progress.update(0, fetched=f"fetched {files}/{len(wanted)} files, {size / 1e6:,.1f} MB")


def _fetched(wanted):
    """(finished files, bytes) on this machine; a file that was cut and deleted counts as finished."""
    files = size = 0
    for downloads, remote in wanted:
        final = remote.file(downloads)
        if final.is_file() or _cut_marker(final).is_file():
            files, size = files + 1, size + (remote.size or 0)
        else:
            with suppress(OSError):
                size += final.with_name(final.name + ".part").stat().st_size
    return files, size
