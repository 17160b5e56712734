"""
Downloads: a remote file -> a file on this machine, whole and checked; or one sentence that names source, file and cause.

    download(place, remote, address)      address() -> (url, headers), asked before every attempt: signed addresses expire
    read_range(place, remote, address, start, n)      some bytes of it, for a look before anything is fetched

A download streams to NAME.part, goes on there with Range after any stop, is checked against size and hash, fsynced and renamed: a
name without .part is a whole file. What can pass is retried with backoff and jitter: 408, 429 and 5xx, resets, time-outs, bodies
that end too early, wrong hashes, an HTML page in place of the file. Retry-After is obeyed by all processes together. The failures
in a row that end it are counted without progress: a slow line may break as often as it likes. 401, 403, 404 and 410 end it at once.

All processes of a machine share PER_HOST connections to a host, and the pace that the host has asked for, through files in
`place.folder`; locks on them go with their process, however it ends.
"""

import base64
import fcntl
import hashlib
import json
import logging
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from phoenix.config import UserError
from phoenix.progress import duration

PER_HOST = 4  # connections
QUESTIONS = 5  # failures in a row that end a question about files, before which a person waits
FAILURES = 8  # in a row, without a new byte, that end a download; with the waits between them about four minutes
WAITS = 100  # in a row that a server may ask for
SHORT_SECS = 1.0  # a server that asks for less gets the wait that follows a failure
PACES_SECS = 5.0  # a wait up to this is taken for the time between two requests; a longer one for that until a window's end
BACKOFF_SECS, MAX_BACKOFF_SECS = 1.0, 60.0  # the first wait; it doubles
MAX_WAIT_SECS = 3600.0  # that a server may ask for at once; the Hub's windows have 300
TIMEOUT_SECS = 60.0  # without a byte
FRESH_SECS = 1.0  # that an address may be old when it is used
SLOW_BYTES, SLOW_SECS = 2_000, 60.0  # a line that brings fewer bytes a second for so long is given up and begun anew
PACE_SECS = 600.0  # that a host's pace is kept after it complained last
MAX_REDIRECTS = 10
RETRIED = {408, 425, 429, 500, 502, 503, 504, 520, 522, 524}


class FetchError(Exception):
    """A file that cannot be had; the text names the source, the file and the cause."""


class Failure(Exception):
    """An attempt that failed, and may go well the next time."""

    def __init__(self, cause, wait=None):
        super().__init__(cause)
        self.wait = wait  # seconds that the server asked for


@dataclass(frozen=True)
class Place:
    """Where a run keeps its downloads, and what it may fetch."""

    folder: str = ""  # on this machine
    tokens: int | None = None  # the budget of the source; None: all its files
    tokens_per_byte: float = 0.22  # of the run's tokenizer, about
    cleaning: str = ""  # digest of the settings that decide what of the files is kept
    seed: int = 1  # of the order in which files are taken
    offline: bool = False  # nothing is asked of any server
    keep: bool = True  # files stay when they have been cut into raw partitions
    write: bool = True  # False: a plan, which leaves no trace


@dataclass(frozen=True)
class Remote:
    """One remote file, as its server lists it."""

    source: str  # name, for messages
    path: str  # shown, and tells the kind of file
    key: str  # name of the file in the folder: another key is another content
    size: int | None = None  # bytes
    sha256: str | None = None
    git: str | None = None  # sha1 of git's blob, of files that the Hub keeps in git itself
    etag: str | None = None
    resumable: bool = True  # False: only an ETag that comes with it tells whether it is still the same at the next attempt

    def file(self, place):
        return Path(place.folder) / self.source / self.key

    def error(self, cause):
        return FetchError(f"source {self.source}: {self.path}: {cause}")


Address = Callable[[], tuple[str, dict]]


def download(place: Place, remote: Remote, address: Address, gone: Callable[[int], str] | None = None) -> Path:
    """The file, fetched if it is not there. gone(status) -> the sentence for an answer of 401, 403, 404, 410."""
    final = remote.file(place)
    if is_whole(final, remote):
        return final
    if place.offline:
        raise remote.error("is not on this machine, and offline nothing is fetched")
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    with open(part, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process at the same file: it is whole when our turn comes
        if is_whole(final, remote):
            part.unlink(missing_ok=True)
            return final
        if twin := _twin(place, remote):
            with suppress(OSError):  # a file system without links: fetched again
                os.link(twin, final)
                part.unlink(missing_ok=True)
                return final

        noted = final.with_name(final.name + ".etag")  # of the part, where nothing else tells what it is the beginning of

        def attempt():
            etag = remote.etag
            if not remote.resumable:
                etag = noted.read_text() if noted.is_file() else None
                if not etag:
                    file.truncate(0)
            have, said = os.fstat(file.fileno()).st_size, None
            if remote.size is None or have != remote.size or not remote.resumable:
                said = _stream(place, remote, address, file, have, etag, noted, gone)
            try:
                verify(remote, file, said)
            except Failure:
                file.truncate(0)
                raise

        persistently(remote, attempt, lambda: os.fstat(file.fileno()).st_size)
        os.fsync(file.fileno())
        part.rename(final)
        noted.unlink(missing_ok=True)
    handle = os.open(final.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    return final


def _twin(place, remote):
    """The same file, whole, as another source of the run has fetched it; its name holds the beginning of its hash."""
    if not (remote.sha256 or remote.git):
        return None
    return next((path for path in Path(place.folder).glob(f"*/{remote.key}") if is_whole(path, remote)), None)


def is_whole(path, remote):
    """Whether a finished download is there; its content was checked before it got its name."""
    return path.is_file() and remote.size in (None, path.stat().st_size)


def read_range(place, remote, address, start, n, gone=None):
    """n bytes from `start`, fewer at the end of the file."""

    def attempt():
        with _open(place, remote, address, {"Range": f"bytes={start}-{start + n - 1}"}, gone) as answer:
            if answer.status_code == 416:
                return b""
            skipped = start if answer.status_code == 200 else 0  # no ranges here: the file from its beginning
            data = b""
            for block in answer.iter_raw():
                data += block
                if len(data) >= skipped + n:
                    break
            return data[skipped : skipped + n]

    return persistently(remote, attempt, lambda: 0, QUESTIONS)


def head(place, remote, address):
    """(bytes or None, etag or None, media type or "") of a file, asked by GET for its first byte: not every server knows HEAD."""

    def attempt():
        with _open(place, remote, address, {"Range": "bytes=0-0"}, None, any_page=True) as answer:
            headers = answer.headers
            size = re.search(r"/(\d+)$", headers.get("content-range", ""))
            size = size[1] if size else headers.get("content-length", "") if answer.status_code == 200 else ""
            etag, media = headers.get("etag", ""), headers.get("content-type", "").partition(";")[0].strip().lower()
            return int(size) if size.isdigit() else None, etag if etag.startswith('"') else None, media

    return persistently(remote, attempt, lambda: 0, QUESTIONS)


def call(place, remote, url, ask):
    """ask(), a question to the server of `url` that raises Failure where it may be asked again."""

    def attempt():
        _wait_turn(place, host_of(url))
        return ask()

    return persistently(remote, attempt, lambda: 0, QUESTIONS)


def busy(place, url, headers, status, said):
    """The Failure for an answer to such a question that asks to come back later."""
    return Failure(said, slow_down(place, host_of(url), headers, status))


def host_of(url):
    """Host and port of an address, without a user and password in it."""
    return urlsplit(url).netloc.rpartition("@")[2]


def persistently(remote, attempt, progress, most=None):
    """attempt() until it is no Failure; `most` in a row that bring progress() by less than SLOW_BYTES end it (None: FAILURES)."""
    failures = waits = 0
    reached = progress()
    while True:
        try:
            return attempt()
        except Failure as failure:
            if progress() - reached >= SLOW_BYTES:  # a byte an attempt would take for ever
                failures = waits = 0
            reached = max(reached, progress())
            asked = failure.wait is not None and failure.wait >= SHORT_SECS
            failures, waits = failures + (not asked), waits + asked
            if failures >= (most or FAILURES) or waits >= WAITS:
                raise remote.error(f"{failure} ({failures + waits} times in a row)") from None
            wait = min(MAX_BACKOFF_SECS, BACKOFF_SECS * 2 ** max(0, failures - 1)) * random.uniform(0.5, 1.0)
            if asked:
                if failure.wait > MAX_WAIT_SECS:
                    raise remote.error(f"{failure}; its server asks to wait {failure.wait:,.0f} s") from None
                wait = failure.wait + random.uniform(0, 0.1) * wait
            if most and wait >= 3:  # in the driver, where nothing else tells why it goes on so slowly
                print(f"{remote.source}: {failure}; asked again in {wait:.0f} s", file=sys.stderr, flush=True)
            time.sleep(wait)


def _stream(place, remote, address, file, have, etag, noted, gone):
    """
    The rest of the file, written behind the `have` bytes that are there and belong to `etag`; the MD5 that its server says it
    has, or None. The file `noted` gets the ETag of what is not resumable without one.
    """
    import httpx2

    headers = {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {}) if have else {}
    with _open(place, remote, address, headers, gone) as answer:
        comes = answer.headers.get("etag", "")
        if answer.status_code == 416 and etag and answer.headers.get("content-range") == f"bytes */{have}":
            return None  # it was whole
        if answer.status_code == 416:  # what is there is longer than the file, or is of another one
            file.truncate(0)
            raise Failure("the server refuses to go on where the last attempt ended")
        encoded = answer.headers.get("content-encoding", "identity")
        if encoded != "identity" and not (remote.sha256 or remote.git or remote.path.lower().endswith((".gz", ".tgz"))):
            raise remote.error(f"the server sends it in the encoding {encoded!r}, which it was not asked for")
        start, total = 0, answer.headers.get("content-length")
        total = int(total) if total and total.isdigit() else None
        if answer.status_code == 206:
            found = re.match(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", ""))
            if not found or int(found[1]) != have:
                raise Failure("the server sends another part than it was asked for")
            start, total = have, int(found[3]) if found[3].isdigit() else None
            if etag and comes and comes != etag:  # not every server knows If-Range
                file.truncate(0)
                raise Failure("another file has taken its place")
        if remote.size is not None and total is not None and total != remote.size:
            raise Failure(f"the server sends a file of {total:,} bytes, its listing says {remote.size:,}")
        if start == 0:
            file.truncate(0)
            if not remote.resumable:
                noted.write_text(comes) if comes.startswith('"') else noted.unlink(missing_ok=True)  # W/"..." may be another's
        began, got, mark = time.monotonic(), start, start
        try:
            for block in answer.iter_raw():  # as they come, so that a break loses none
                file.write(block)
                file.flush()
                got += len(block)
                if remote.size is not None and got > remote.size:
                    file.truncate(0)
                    raise Failure(f"the server sends more than the {remote.size:,} bytes of its listing")
                if time.monotonic() - began > SLOW_SECS:
                    if got - mark < SLOW_BYTES * SLOW_SECS:
                        raise Failure(f"fewer than {SLOW_BYTES:,} bytes a second")
                    began, mark = time.monotonic(), got
        except httpx2.TransportError as error:
            raise Failure(told(error)) from None
        wanted = remote.size if remote.size is not None else total
        if wanted is not None and got < wanted:
            raise Failure(f"the body ends after {got:,} of {wanted:,} bytes")
        return _md5(answer.headers, answer.status_code)


def _md5(headers, status):
    """
    The MD5 of the whole file that an answer tells, as hex digits; None where there is none. Google and Azure have a header for it.
    S3, and what speaks as it does, gives it as the ETag of a file that came in one piece and is not encrypted with its own key.
    """
    told = re.search(r"\bmd5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))
    told = told[1] if told else headers.get("content-md5" if status == 200 else "x-ms-blob-content-md5", "")
    if re.fullmatch(r"[A-Za-z0-9+/]{22}==", told):
        return base64.b64decode(told).hex()
    own_key = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    own_key |= "x-amz-server-side-encryption-customer-algorithm" in headers
    found = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("etag", ""))
    return found[1] if found and "x-amz-request-id" in headers and not own_key else None


def verify(remote, file, md5=None):
    """Failure where an open file is not the one that its server lists, or has not the MD5 that came with it."""
    size = os.fstat(file.fileno()).st_size
    if remote.size is not None and size != remote.size:
        raise Failure(f"{size:,} bytes instead of {remote.size:,}")
    listed = remote.sha256 or remote.git
    for name, wanted in (("sha256", remote.sha256), ("sha1", remote.git), ("md5", None if listed else md5)):
        if wanted:
            with open(file.name, "rb") as stream:
                hasher = hashlib.new(name, f"blob {size}\0".encode() if name == "sha1" else b"")
                while block := stream.read(1 << 20):
                    hasher.update(block)
            if hasher.hexdigest() != wanted:
                raise Failure(f"its bytes do not have the {name} of the {'listing' if listed else 'answer'}")


@contextmanager
def _open(place, remote, address, headers, gone, any_page=False):
    """The answer to GET with status 200, 206 or 416, redirects followed; Failure where trying again may help."""
    import httpx2

    url, own = address()
    asked_at, first = time.monotonic(), host_of(url)
    with _connection(place, first):
        if time.monotonic() - asked_at > FRESH_SECS:
            url, own = address()  # a signed address may have expired while it waited for a connection
        for _ in range(MAX_REDIRECTS):
            _wait_turn(place, host_of(url))
            asked = own | headers | {"Accept-Encoding": "identity"}
            try:
                with client().stream("GET", url, headers=asked, follow_redirects=False) as answer:
                    if answer.has_redirect_location:
                        try:
                            target = urljoin(url, answer.headers["location"])
                            elsewhere = urlsplit(target)[:2] != urlsplit(url)[:2]
                        except ValueError:  # [::1 without its end
                            raise remote.error(f"{host_of(url)} redirects to what is no address") from None
                        if elsewhere:
                            own = {}  # what opens the one host is not shown to another
                        url = target
                        continue
                    if answer.status_code in (401, 403) and host_of(url) != first:  # a signature that the next redirect renews
                        raise Failure(f"{host_of(url)}, to which {first} redirects, answers {answer.status_code}")
                    _check(place, remote, answer, host_of(url), gone, any_page)
                    yield answer
                    return
            except httpx2.TransportError as error:
                raise Failure(told(error)) from None
        raise remote.error(f"more than {MAX_REDIRECTS} redirects")


def _check(place, remote, answer, host, gone, any_page):
    status = answer.status_code
    if status in (401, 403, 404, 410):
        said = gone(status) if gone else None
        raise remote.error(said or f"{host} answers {status} ({answer.reason_phrase})")
    if status in RETRIED:
        raise Failure(f"{host} answers {status} ({answer.reason_phrase})", slow_down(place, host, answer.headers, status))
    if status not in (200, 206, 416):
        raise remote.error(f"{host} answers {status} ({answer.reason_phrase})")
    page = answer.headers.get("content-type", "").startswith("text/html") and not any_page
    if page and status == 200 and not re.search(r"\.html?(\.[a-z0-9]+)?$", remote.path.lower()):
        raise Failure("the server sends an HTML page in place of the file")


@cache
def client():
    """One client a process, made when the first is needed."""
    import httpx2

    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell whole addresses, and some are signed
    return httpx2.Client(timeout=TIMEOUT_SECS, headers={"User-Agent": "phoenix-data-engine"})


def hide(text):
    """The text without the addresses in it, which may be signed or hold a password, and on one line."""
    return re.sub(r"(\w+://)(?:[^/\s?'\"]*@)?([^/\s?'\"]+)[^\s'\"]*", r"\1\2/...", " ".join(str(text).split()))


def told(error):
    """An error of a library, to be shown."""
    name = type(error).__name__
    return name if name == "LocalProtocolError" or not str(error) else f"{name}: {hide(error)}"  # that one tells whole headers


def usable_server(source, name):
    """UserError where the environment's variable `name` is set, and not to the address of a server."""
    url = os.environ.get(name)
    if url and not is_address(url):
        raise UserError(f"source {source}: {name} is no address such as https://example.org")


def is_address(url):
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", url)
    except (AttributeError, TypeError, ValueError):  # [::1 without its end, a port of six digits, no text at all
        return False


def usable_key(source, name, key):
    """The key; UserError where it cannot stand in a header, whose text no library gets to tell."""
    if not re.fullmatch("[!-~]+", key):
        raise UserError(f"source {source}: {name} holds characters that no key has, such as a space or the end of a line")
    return key


class Ranges:
    """A remote file that is read where it is asked to be: for the footer of a Parquet file."""

    def __init__(self, size, read):
        self.size, self.range = size, read  # read(start, n) -> bytes
        self.at, self.closed = 0, False
        self.tail = b""  # the end of the file, read at once

    def readable(self):
        return True

    def seekable(self):
        return True

    def writable(self):
        return False

    def tell(self):
        return self.at

    def close(self):
        self.closed = True

    def seek(self, offset, whence=0):
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, n=-1):
        n = self.size - self.at if n is None or n < 0 else min(n, self.size - self.at)
        if not self.tail:
            want = min(self.size, 1 << 20)
            self.tail = self.range(self.size - want, want)
        start = self.at - (self.size - len(self.tail))
        data = self.tail[start : start + n] if start >= 0 else self.range(self.at, n)
        self.at += len(data)
        return data


# ---------------------------------------------------------------------------------------------------- what was listed

PLANNED = {}  # what a plan, which writes nothing, has seen already


def remembered(place, source, of):
    """What a source saw of its server in this run or an earlier one, where it asked for the same (`of`, JSON); else None."""
    path = _listing(place, source)
    found = PLANNED.get(str(path)) if not place.write else None
    if found is None and place.folder and path.is_file():
        with suppress(ValueError):  # a file that was cut short: the server is asked again
            found = json.loads(path.read_text())
    return found if isinstance(found, dict) and found.get("of") == of else None


def remember(place, source, found):
    path = _listing(place, source)
    if not place.write:
        PLANNED[str(path)] = found
    elif place.folder:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".tmp-listing")
        with open(temporary, "w") as file:
            json.dump(found, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)


def _listing(place, source):
    return Path(place.folder) / source / "listing.json"


# ---------------------------------------------------------------------------------------------------- hosts


PACES = {}  # of a plan, which writes nothing and runs in one process


@contextmanager
def _connection(place, host):
    """One of the PER_HOST connections to a host that the processes of this machine have together."""
    if not place.write:
        yield
        return
    with _free_slot(place, host):
        yield


def _free_slot(place, host):
    folder = _hosts(place)
    while True:
        for number in range(PER_HOST):
            file = open(folder / f"{_safe(host)}.{number}", "wb")  # noqa: SIM115 (closed by the caller, which frees the lock)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                file.close()
        time.sleep(random.uniform(0.02, 0.1))


def _hosts(place):
    folder = Path(place.folder) / ".hosts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _safe(host):
    return re.sub(r"[^A-Za-z0-9.-]", "_", host)


@contextmanager
def _pace(place, host):
    """{"next": time of the next request, "every": seconds between two, "until": when that is forgotten} of a host, to change."""
    if not place.write:
        yield PACES.setdefault(host, {})
        return
    with open(_hosts(place) / f"{_safe(host)}.pace", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        try:
            state = json.loads(file.read() or "{}")
        except ValueError:
            state = {}
        yield state
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))


def _wait_turn(place, host):
    now = time.time()
    with _pace(place, host) as state:
        if state.get("until", 0) < now:
            state.clear()
            return
        start = max(now, state["next"])
        state["next"] = start + state["every"]
    time.sleep(max(0.0, start - now))


def slow_down(place, host, headers, status):
    """Seconds that an answer asks to wait, or None; all requests to the host keep to it, and to a pace that it will bear."""
    wait = retry_after(headers)
    if wait is None and status != 429:
        return None
    with _pace(place, host) as state:
        now = time.time()
        every = max(0.05, 2 * state.get("every", 0.0))
        if wait is not None:
            every = max(0.05, 1.05 * wait) if status == 429 and wait <= PACES_SECS else min(every, max(0.05, wait))
        window = re.search(r"q\s*=\s*(\d+).*?w\s*=\s*(\d+)", headers.get("ratelimit-policy", ""))
        if window and int(window[1]):
            every = int(window[2]) / int(window[1])
        pause = min(wait or 0.0, MAX_WAIT_SECS)
        state["every"], state["until"] = min(every, MAX_BACKOFF_SECS), now + pause + PACE_SECS
        state["next"] = max(state.get("next", 0.0), now + pause)
    return wait


def retry_after(headers):
    """Seconds of Retry-After (a number, or a date) or of the Hub's ratelimit header; None where there is neither."""
    from email.utils import parsedate_to_datetime

    spent = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    value = headers.get("retry-after", spent[1] if spent else "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


# ---------------------------------------------------------------------------------------------------- progress


@contextmanager
def watching(progress, jobs):
    """Files and bytes fetched, speed and ETA in the progress line of a stage. jobs: (source, job) that are to be done."""
    wanted = [(source.place, remote) for source, job in jobs if hasattr(source, "remotes") for remote in source.remotes(job)]
    wanted = [(place, remote) for place, remote in wanted if not is_whole(remote.file(place), remote)]
    if not wanted:
        yield
        return
    total = sum(remote.size or 0 for _, remote in wanted)
    began, first = time.monotonic(), _fetched(wanted)[1]
    over = threading.Event()

    def tell():
        while not over.wait(1.0):
            files, size = _fetched(wanted)
            speed = (size - first) / (time.monotonic() - began)
            text = f"fetched {files}/{len(wanted)} files, {size / 1e6:,.1f} of {total / 1e6:,.1f} MB, {speed / 1e6:,.1f} MB/s"
            left = f", {duration((total - size) / speed)} left" if speed > 0 and size < total else ""
            progress.update(0, fetched=text + left)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        files, size = _fetched(wanted)
        progress.update(0, fetched=f"fetched {files}/{len(wanted)} files, {size / 1e6:,.1f} MB")


def _fetched(wanted):
    """(whole files, bytes of all) that are here by now; one that was cut and removed counts as whole."""
    files = size = 0
    for place, remote in wanted:
        final = remote.file(place)
        if final.is_file() or final.with_name(final.name + ".cut").is_file():
            files, size = files + 1, size + (remote.size or 0)
        else:
            with suppress(OSError):
                size += final.with_name(final.name + ".part").stat().st_size
    return files, size


def cut(place, remote):
    """A file has become raw partitions: it goes, where it is not to be kept. A note stays, for plans and progress."""
    final = remote.file(place)
    final.parent.mkdir(parents=True, exist_ok=True)
    final.with_name(final.name + ".cut").touch()
    if not place.keep:
        final.unlink(missing_ok=True)


def is_here(place, remote):
    """Whether the file, or what was made of it, is on this machine."""
    final = remote.file(place)
    return is_whole(final, remote) or final.with_name(final.name + ".cut").is_file()


def readable(source, job):
    """Whether a job can be done: offline its files, or what was made of them, must be on this machine."""
    return not getattr(source, "place", Place()).offline or source.has(job)
