"""
A copy of a run's folder on a NAS, kept by a background thread: training never waits for it and never fails because of it.

    python train.py configs/125m.py --nas=smb://user@host/share/path        any fsspec URL; smb:// goes through smbprotocol
    python train.py configs/125m.py --resume_from=smb://user@host/share/path

Each checkpoint in the local manifest is written under a temporary name, read back, compared by sha256, renamed, and only then
listed in the share's manifest; the log, the plot, the tokenizer and the sample follow. A failure is retried at growing
intervals for as long as the run lasts. The share keeps the same steps as the local folder: keep_last, keep_every.

The password comes from PHOENIX_NAS_PASSWORD or from a file that only its owner can read (nas_password_file). It is read anew
for every connection, so it may be corrected while the run goes on; it is never shown or stored.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

from phoenix import checkpoint
from phoenix.config import UserError
from phoenix.files import publish, sha256, sha256_file, temporary_of, write_atomic
from phoenix.progress import duration

PASSWORD = "PHOENIX_NAS_PASSWORD"
CHUNK = 2**22  # bytes of a read or write: 4 MB are 35 ms of a gigabit network
FIRST_RETRY, LAST_RETRY = 2.0, 300.0  # seconds to the next try, doubled from the one to the other
OTHER_FILES = ("log.jsonl", "loss.png", "sample.txt", "tokenizer/*", "tensorboard/*")  # copied after the checkpoints
SILENCE_SECS = 60  # without an answer smbprotocol asks for one, and after as many more it closes the connection


def local_folder(url):
    """The folder that an address without a protocol, or of file:// and local://, names; None for any other address."""
    scheme, separator, path = url.rpartition("://")
    return Path(path).expanduser() if not separator or scheme in ("file", "local") else None


def check_settings(url, password_file):
    """UserError for a wrong address or password file; it never shows the address, which may hold a password."""
    if url is not None:
        before_at = re.search(r"//(.*)@", url, re.DOTALL)  # before any parser: each takes another part for the password
        if before_at and ":" in before_at[1]:
            raise UserError(f"a password does not belong into the address of a NAS: put it into {PASSWORD} or nas_password_file")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise UserError("the address of the NAS has a host or port that cannot be: smb://user@host:445/share/path") from error
        if parts.scheme not in ("", "smb") and parts.scheme not in fsspec.available_protocols():
            kind = parts.scheme if "://" in url else "the address of the NAS"
            raise UserError(f"{kind} is not a protocol that fsspec knows: smb://user@host/share/path would be right")
        try:
            fsspec.get_filesystem_class(parts.scheme or "file")
        except ImportError as error:  # such as: Install s3fs to access S3
            raise UserError(f"{parts.scheme}:// needs a package that is not installed: {error} (pip install ...)") from error
        if "::" in re.sub(r"\[[^]]*\]", "", url):
            raise UserError("the address of the NAS chains several with '::', which is not supported: give one")
        if parts.scheme == "smb" and "?" in url:
            raise UserError("the address of the NAS has a '?', which smb:// does not know: smb://user@host/share/path")
        if parts.scheme == "smb" and (not parts.hostname or not parts.path.strip("/")):
            raise UserError("the address of the NAS lacks a host or a share: smb://user@host/share/path would be right")
    read_password(password_file)


def read_password(password_file):
    """The password or None. UserError where the file is missing or others may read it."""
    if password_file is None:
        return os.environ.get(PASSWORD)
    path = Path(password_file)
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"nas_password_file={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # its text holds the password
        raise UserError(f"nas_password_file={path} is no text in UTF-8") from None
    if stat.S_IMODE(mode) & 0o077:
        raise UserError(f"nas_password_file={path} can be read by others: chmod 600 {path}")
    return text.rstrip("\r\n")


MEANINGS = {  # of the server's answers
    "STATUS_LOGON_FAILURE": "the user or the password is wrong",
    "STATUS_ACCESS_DENIED": "access is denied, or the share is read-only",
    "STATUS_MEDIA_WRITE_PROTECTED": "the share is read-only",
    "STATUS_DISK_FULL": "the share is full",
    "[Errno 28]": "the share is full",
}


def reason_of(error, password_file):
    """The error as one line of text without the password, which a library's message may hold."""
    text, password = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}", None
    text = " ".join(text.split())
    text = next((f"{meaning} ({text})" for answer, meaning in MEANINGS.items() if answer in text), text)
    with contextlib.suppress(UserError):
        password = read_password(password_file)
    return (text.replace(password, "***") if password else text)[:300]


def is_missing(error):
    """Whether an OSError says that a file is not there: smbprotocol sets errno alone, fsspec's file systems the type alone."""
    return isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT


class Share:
    """A connection to the folder at `url`. Its methods raise OSError, ValueError or an error of the protocol."""

    def __init__(self, url, password_file=None):
        options = {}
        if urlsplit(url).scheme == "smb":
            os.environ.setdefault("SMB_EXPERIMENTAL_TRANSPORT_RECEIVE_TIMEOUT", str(SILENCE_SECS))
            import smbclient

            # the library keeps connections: a broken one, or one with an older password, must not be used again
            smbclient.reset_connection_cache(fail_on_error=False)
            options = {"password": read_password(password_file), "timeout": 20, "register_session_retries": 0}
            options |= {"share_access": "rwd"}  # so a handle that a broken connection left open locks no file
        self.fs, self.root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
        self.root = self.root.rstrip("/")

    def path(self, name):
        return f"{self.root}/{name}"

    def sizes(self, below=None):
        """{name: bytes} of the entries of the folder, or of one below it; {} where that does not exist."""
        try:
            entries = self.fs.ls(self.path(below) if below else self.root, detail=True)
        except OSError as error:
            if not is_missing(error):
                raise
            return {}
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry["size"] for entry in entries}

    def read(self, name):
        """The file's bytes; None where it does not exist."""
        try:
            return b"".join(self.chunks(name))
        except OSError as error:
            if not is_missing(error):
                raise
            return None

    def chunks(self, name):
        with self.fs.open(self.path(name), "rb") as file:
            while data := file.read(CHUNK):
                yield data

    def put(self, name, chunks):
        """Writes the chunks under a temporary name, reads them back, compares, renames. -> sha256"""
        partial, sent = name + ".partial", hashlib.sha256()
        self.fs.makedirs(self.path(name).rsplit("/", 1)[0], exist_ok=True)
        with self.fs.open(self.path(partial), "wb") as file:
            for data in chunks:
                file.write(data)
                sent.update(data)
        arrived = hashlib.sha256()
        for data in self.chunks(partial):
            arrived.update(data)
        if arrived.digest() != sent.digest():
            raise OSError(f"{name} was read back with another sha256 than it was written with")
        self.rename(self.path(partial), self.path(name))
        return sent.hexdigest()

    def rename(self, old, new):
        """Renames over an existing file, which fsspec's mv does not do over SMB."""
        if "smb" in self.fs.protocol:
            import smbclient

            old, new = (rf"\\{self.fs.host}" + path.replace("/", "\\") for path in (old, new))
            smbclient.replace(old, new, port=self.fs._port)
        else:
            self.fs.mv(old, new)

    def remove(self, name):
        try:
            self.fs.rm_file(self.path(name))
        except OSError as error:
            if not is_missing(error):
                raise


def local_chunks(path):
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


class Mirror:
    """
    Keeps the folder at `url` a verified copy of the run's folder `out`, from a thread of its own.

    changed() announces new files; lag() tells how far the copy is behind; close(secs) waits for it. The thread calls `say` when
    the copy begins to fail, fails for another reason, or works again.
    """

    def __init__(self, url, out, keep_last, keep_every, password_file=None, say=print):
        self.url, self.out, self.say, self.password_file = url, Path(out), say, password_file
        self.keep_last, self.keep_every = keep_last, keep_every
        self.sent = {}  # {name: sha256} of the share's files that this process has verified
        self.known = set()  # names of this run's checkpoints on the share: listed there, or put by this process
        self.failure = None  # the reason of the last attempt, None when it worked
        self.pending, self.idle, self.lock = threading.Event(), threading.Event(), threading.Lock()
        self.closing, self.ended = threading.Event(), threading.Event()  # close() waits; close() waits no more
        self.share = None
        # a daemon: a hanging share cannot keep the run from ending
        self.thread = threading.Thread(target=self._run, name="nas", daemon=True)
        self.thread.start()

    def changed(self):
        """There are new files to copy."""
        with self.lock:  # otherwise files that come just as a pass ends would count as sent
            self.idle.clear()
            self.pending.set()

    def lag(self):
        """(local checkpoints that are not yet verified on the share, seconds since the oldest of them was saved)"""
        manifest = checkpoint.read_manifest(self.out)
        behind = [row for row in manifest["checkpoints"] if self.sent.get(row["file"]) != row["sha256"]] if manifest else []
        return len(behind), time.time() - min((row["saved_at"] for row in behind), default=time.time())

    def missing(self):
        """Names of the files whose newest content is not on the share."""
        manifest = checkpoint.read_manifest(self.out)
        names = [r["file"] for r in manifest["checkpoints"] if self.sent.get(r["file"]) != r["sha256"]] if manifest else []
        return names + [name for name, path in self._other_files() if self.sent.get(name) != sha256_file(path)]

    def status(self):
        """The text for the progress line, such as: nas 1 behind, 2.5 min"""
        behind, secs = self.lag()
        if behind:
            return f"nas {behind} behind, {duration(secs)}"
        return "nas failing" if self.failure else "nas ok"

    def close(self, secs):
        """Waits for up to `secs` until the copy is complete. -> a sentence that names the missing files"""
        self.changed()
        self.closing.set()  # a retry that is due in minutes is made now
        began = time.monotonic()
        try:
            done = self.idle.wait(secs)
        except KeyboardInterrupt:  # ends the wait, not the report
            done = False
        self.ended.set()
        self.pending.set()
        if done:
            self.thread.join(timeout=10)
        waited, missing = duration(min(secs, time.monotonic() - began)), self.missing()
        if not missing:
            return f"nas: {self.url} holds a verified copy of all"
        why = f" ({self.failure})" if self.failure else ""
        return f"nas: {self.url} lacks {', '.join(missing)} after {waited} of waiting{why}: the same command sends them"

    def _other_files(self):
        paths = sorted(path for pattern in OTHER_FILES for path in self.out.glob(pattern) if path.is_file())
        return [(path.relative_to(self.out).as_posix(), path) for path in paths]

    def _run(self):
        wait = FIRST_RETRY
        while not self.ended.is_set():
            self.pending.wait()
            self.pending.clear()
            if self.ended.is_set():
                return
            try:
                self._sync()
            except Exception as error:  # a network, a server or a library may raise anything, and training must go on
                self.share = None
                reason = reason_of(error, self.password_file)
                if self.failure != reason:
                    self.say(f"nas: {reason}; tried again until it works, training goes on")
                self.failure = reason
                if "STATUS_LOGON_FAILURE" in reason:
                    wait = LAST_RETRY  # many wrong passwords in a row lock an account
                if self.closing.is_set():
                    self.ended.wait(min(wait, 10.0))
                else:
                    self.closing.wait(wait)
                wait = min(2 * wait, LAST_RETRY)
                self.pending.set()
            else:
                if self.failure is not None:
                    self.say("nas: works again, the copy is complete")
                self.failure, wait = None, FIRST_RETRY
                with self.lock:
                    if not self.pending.is_set():
                        self.idle.set()

    def _sync(self):
        """Copies the listed checkpoints that the share lacks, the newest first, and the other files; then prunes the share."""
        if self.share is None:
            self.share = Share(self.url, self.password_file)
            self.share.fs.makedirs(self.share.root, exist_ok=True)
        local = checkpoint.read_manifest(self.out)
        if local is None:
            return
        data = self.share.read(checkpoint.MANIFEST)
        there = checkpoint.parse_manifest(data, f"{self.url}/{checkpoint.MANIFEST}") if data else None
        if there is not None and there["run"] != local["run"]:
            raise UserError(f"{self.url} holds the checkpoints of another run: give another nas=, or empty that folder")
        sizes = self.share.sizes()
        if there is None:
            foreign = [name for name in sizes if checkpoint.NAME.fullmatch(name) and name not in self.known]
            if foreign:
                raise UserError(f"{self.url} holds {foreign[0]} of another run and no {checkpoint.MANIFEST}: give another nas=")
            self.sent.pop(checkpoint.MANIFEST, None)
            self._list(local, {})  # claims the folder for this run before the first upload, which may be killed
        else:
            self.known |= {row["file"] for row in there["checkpoints"]} | set(there.get("put", []))
        listed = {row["file"]: row for row in there["checkpoints"] if sizes.get(row["file"]) == row["bytes"]} if there else {}
        for name in [name for name, row in listed.items() if row["sha256"] in local["abandoned"]]:
            del listed[name]
        for row in sorted(local["checkpoints"], key=lambda row: -row["step"]):
            if listed.get(row["file"], {}).get("sha256") != row["sha256"]:
                self.known.add(row["file"])
                self._list(local, listed)  # names the file before the upload: if it is never listed, it is still known as ours
                try:
                    arrived = self.share.put(row["file"], local_chunks(self.out / row["file"]))
                except FileNotFoundError:
                    if (self.out / row["file"]).exists():
                        raise
                    continue  # pruned locally in the meantime
                if arrived != row["sha256"]:
                    raise OSError(f"{self.out / row['file']} has another sha256 than when it was saved")
                listed[row["file"]] = row
                self._list(local, listed)
            self.sent[row["file"]] = row["sha256"]
        for name, path in self._other_files():
            data = path.read_bytes()
            if self.sent.get(name) != sha256(data):
                self.sent[name] = self.share.put(name, [data])
        kept = checkpoint.steps_to_keep([row["step"] for row in listed.values()], self.keep_last, self.keep_every)
        uploads = {f"{name}.partial" for name in (checkpoint.MANIFEST, *(name for name, _ in self._other_files()))}
        for name in self.share.sizes():  # files of others stay
            pruned = name in self.known and checkpoint.NAME.fullmatch(name) and listed.get(name, {}).get("step") not in kept
            partial = name.endswith(".partial") and checkpoint.NAME.fullmatch(name.removesuffix(".partial"))
            if pruned or partial or name in uploads:
                self.share.remove(name)
        self.known = {name for name, row in listed.items() if row["step"] in kept}
        self._list(local, {name: listed[name] for name in self.known})

    def _list(self, local, listed):
        """Writes the share's manifest: the verified checkpoints, and under "put" our files that are not verified (yet)."""
        rows = sorted(listed.values(), key=lambda row: row["step"])
        unverified = sorted(self.known - set(listed))
        manifest = local | {"checkpoints": rows, "abandoned": []} | ({"put": unverified} if unverified else {})
        data = json.dumps(manifest, indent=1).encode()
        if self.sent.get(checkpoint.MANIFEST) != sha256(data):
            self.sent[checkpoint.MANIFEST] = self.share.put(checkpoint.MANIFEST, [data])


def fetch(url, out, password_file=None, say=print):
    """
    Copies the newest whole checkpoint and the log from a NAS, or any folder that fsspec reaches, into the empty run folder `out`.

    A URL that ends in a checkpoint's name fetches that one. UserError where there is none, or the folder cannot be reached.
    """
    check_settings(url, password_file)
    folder, _, wanted = url.rpartition("/") if url.endswith(".pt") else (url, "", None)
    out = Path(out)
    try:
        share = Share(folder, password_file)
        data = share.read(checkpoint.MANIFEST)
        if data is None:
            raise UserError(f"{folder} has no {checkpoint.MANIFEST}: it is not a folder that nas= or a run's out= wrote")
        manifest = checkpoint.parse_manifest(data, f"{folder}/{checkpoint.MANIFEST}")
        rows = [row for row in manifest["checkpoints"] if wanted in (None, "ckpt.pt", row["file"])]
        for row in sorted(rows, key=lambda row: -row["step"]):
            say(f"fetching {row['file']} ({row['bytes'] / 1e6:,.0f} MB) from {folder}")
            out.mkdir(parents=True, exist_ok=True)
            path, temporary = out / row["file"], temporary_of(out / row["file"])
            if _download(share, row["file"], temporary) != row["sha256"]:
                temporary.unlink(missing_ok=True)
                say(f"{folder}/{row['file']} does not have the sha256 in {checkpoint.MANIFEST}: refused")
                continue
            checkpoint.write_manifest(out, manifest | {"checkpoints": [row], "abandoned": []})
            publish(temporary, path)
            checkpoint.link_newest(out, path)
            for name in ["log.jsonl", *(f"tensorboard/{n}" for n in sorted(share.sizes("tensorboard")))]:
                data = share.read(name)
                if data is not None and not name.endswith(".partial"):
                    (out / name).parent.mkdir(exist_ok=True)
                    write_atomic(out / name, data)
            return
    except UserError:
        raise
    except Exception as error:  # of a network, a server or a library
        raise UserError(f"resume_from={url} cannot be read: {reason_of(error, password_file)}") from error
    raise UserError(f"{url} holds no whole checkpoint" + (f" named {wanted}" if wanted else ""))


def _download(share, name, path):
    """Copies a file of the share to the local path. -> its sha256, None where the share lacks it"""
    arrived = hashlib.sha256()
    try:
        with path.open("wb") as file:
            for data in share.chunks(name):
                file.write(data)
                arrived.update(data)
    except OSError as error:
        if not is_missing(error):
            raise
        return None
    return arrived.hexdigest()
