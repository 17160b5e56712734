"""
A copy of a run's folder on a NAS, kept by a background thread: training never waits for it and never fails by it.

    python train.py configs/125m.py --nas=smb://user@host/share/path        any fsspec URL; smb:// goes through smbprotocol
    python train.py configs/125m.py --resume_from=smb://user@host/share/path

Each checkpoint that the local manifest lists is written under a temporary name, read back, compared by sha256, renamed, and only
then listed in the manifest over there; the log, the plot, the tokenizer and the sample follow. What fails is tried again, at
growing intervals, for as long as the run lasts. The same policy as here decides what is kept there.

The password comes from PHOENIX_NAS_PASSWORD or from a file that only its owner can read (nas_password_file); it is read anew
for every connection, so it may be corrected while the run goes on, and is never shown or stored.
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
from phoenix.run_log import duration

PASSWORD = "PHOENIX_NAS_PASSWORD"
CHUNK = 2**22  # bytes of a read or write: 4 MB are 35 ms of a gigabit network
FIRST_RETRY, LAST_RETRY = 2.0, 300.0  # seconds to the next try, doubled from the one to the other
FOLLOWS = ("log.jsonl", "loss.png", "sample.txt", "tokenizer/*", "tensorboard/*")  # of the run's folder, besides the checkpoints
OURS = re.compile(r"ckpt-\d{8,}\.pt")
SILENCE = 60  # seconds without an answer after which smbprotocol asks for one, and after as many more gives the connection up


def check_settings(url, password_file):
    """UserError for what is wrong with them whatever the network does; it never shows the address, which may hold a password."""
    if url is not None:
        before_at = re.search(r"//(.*)@", url, re.DOTALL)  # before any parser, for each takes another part for the password
        if before_at and ":" in before_at[1]:
            raise UserError(f"a password does not belong into the address of a NAS: put it into {PASSWORD} or nas_password_file")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise UserError("the address of the NAS has a host or port that cannot be: smb://user@host:445/share/path") from error
        if parts.scheme not in ("", "smb") and parts.scheme not in fsspec.available_protocols():
            kind = parts.scheme if "://" in url else "the address of the NAS"
            raise UserError(f"{kind} is of no kind that fsspec knows: smb://user@host/share/path would be right")
        if "::" in re.sub(r"\[[^]]*\]", "", url):
            raise UserError("the address of the NAS chains several with '::', which a copy cannot go through: give one")
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
        mode, text = path.stat().st_mode, path.read_text()
    except OSError as error:
        raise UserError(f"nas_password_file={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # whose text holds the password
        raise UserError(f"nas_password_file={path} is no text in UTF-8") from None
    if stat.S_IMODE(mode) & 0o077:
        raise UserError(f"nas_password_file={path} can be read by others: chmod 600 {path}")
    return text.rstrip("\r\n")


PLAINLY = {  # what the server's answers mean to the one who can mend it
    "STATUS_LOGON_FAILURE": "the user or the password is wrong",
    "STATUS_ACCESS_DENIED": "access is denied, or the share is read-only",
    "STATUS_MEDIA_WRITE_PROTECTED": "the share is read-only",
    "STATUS_DISK_FULL": "the share is full",
    "[Errno 28]": "the share is full",
}


def reason_of(error, password_file):
    """One line that never holds the password, whatever the library's message does."""
    text, password = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}", None
    text = " ".join(text.split())
    text = next((f"{plainly} ({text})" for answer, plainly in PLAINLY.items() if answer in text), text)
    with contextlib.suppress(UserError):
        password = read_password(password_file)
    return (text.replace(password, "***") if password else text)[:300]


class Share:
    """One connection to the folder at `url`. Whatever goes wrong with it raises: OSError, ValueError or one of the protocol's."""

    def __init__(self, url, password_file=None):
        options = {}
        if urlsplit(url).scheme == "smb":
            os.environ.setdefault("SMB_EXPERIMENTAL_TRANSPORT_RECEIVE_TIMEOUT", str(SILENCE))
            import smbclient

            # connections are kept by the library: one that broke, or was made with another password, must not be met again
            smbclient.reset_connection_cache(fail_on_error=False)
            options = {"password": read_password(password_file), "timeout": 20, "register_session_retries": 0}
            options |= {"share_access": "rwd"}  # a handle that a broken connection left open does not lock the file
        self.fs, self.root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
        self.root = self.root.rstrip("/")

    def path(self, name):
        return f"{self.root}/{name}"

    def sizes(self, below=None):
        """{name: bytes} of what lies in the folder, or in one below it; nothing where there is none."""
        try:
            entries = self.fs.ls(self.path(below) if below else self.root, detail=True)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return {}
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry["size"] for entry in entries}

    def read(self, name):
        """bytes, or None where there is no such file."""
        try:
            return b"".join(self.chunks(name))
        except OSError as error:
            if error.errno != errno.ENOENT:  # smbprotocol's errors are no FileNotFoundError
                raise
            return None

    def chunks(self, name):
        with self.fs.open(self.path(name), "rb") as file:
            while data := file.read(CHUNK):
                yield data

    def put(self, name, chunks):
        """Writes the chunks under a temporary name, reads them back and compares, renames. -> sha256"""
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
        """Over a file that is there: fsspec's mv does not do that over SMB."""
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
            if error.errno != errno.ENOENT:
                raise


def local_chunks(path):
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


class Mirror:
    """
    Keeps the folder at `url` a verified copy of the run's folder `out`, from a thread of its own.

    changed() says that there may be news; lag() tells how far the copy is behind; close(secs) waits for it. `say` is called, from
    the thread, when the copy begins to fail, fails for another reason, or works again.
    """

    def __init__(self, url, out, keep_last, keep_every, password_file=None, say=print):
        self.url, self.out, self.say, self.password_file = url, Path(out), say, password_file
        self.keep_last, self.keep_every = keep_last, keep_every
        self.sent = {}  # sha256 of what lies over there, by name, as far as this process has verified it
        self.known = set()  # names of the checkpoints that are this run's over there: listed there, or put by this process
        self.trouble = None
        self.news, self.idle, self.lock = threading.Event(), threading.Event(), threading.Lock()
        self.closing, self.ending = threading.Event(), threading.Event()  # being waited for; over
        self.share = None
        self.thread = threading.Thread(target=self._run, name="nas", daemon=True)  # a hanging share does not keep a run from ending
        self.thread.start()

    def changed(self):
        with self.lock:  # else news that come just as a pass ends would be taken for sent
            self.idle.clear()
            self.news.set()

    def lag(self):
        """(checkpoints that are here and not yet verified over there, seconds since the oldest of them was saved)"""
        manifest = checkpoint.read_manifest(self.out)
        behind = [row for row in manifest["checkpoints"] if self.sent.get(row["file"]) != row["sha256"]] if manifest else []
        return len(behind), time.time() - min((row["saved_at"] for row in behind), default=time.time())

    def missing(self):
        """Names of the files whose newest content is not over there."""
        manifest = checkpoint.read_manifest(self.out)
        names = [r["file"] for r in manifest["checkpoints"] if self.sent.get(r["file"]) != r["sha256"]] if manifest else []
        return names + [name for name, path in self._followers() if self.sent.get(name) != checkpoint.sha256_of(path)]

    def status(self):
        """ "nas 1 behind, 2.5 min", for the progress line."""
        behind, secs = self.lag()
        if behind:
            return f"nas {behind} behind, {duration(secs)}"
        return "nas failing" if self.trouble else "nas ok"

    def close(self, secs):
        """Waits for up to `secs` until all is over there. -> a sentence that says what is missing then"""
        self.changed()
        self.closing.set()  # a try that is due in minutes is made now
        began = time.monotonic()
        try:
            done = self.idle.wait(secs)
        except KeyboardInterrupt:  # who waits has had enough of it: what is missing is said as at the wait's end
            done = False
        self.ending.set()
        self.news.set()
        if done:
            self.thread.join(timeout=10)
        waited, missing = duration(min(secs, time.monotonic() - began)), self.missing()
        if not missing:
            return f"nas: {self.url} holds a verified copy of all"
        why = f" ({self.trouble})" if self.trouble else ""
        return f"nas: {self.url} lacks {', '.join(missing)} after {waited} of waiting{why}: the same command sends them"

    def _followers(self):
        paths = sorted(path for pattern in FOLLOWS for path in self.out.glob(pattern) if path.is_file())
        return [(path.relative_to(self.out).as_posix(), path) for path in paths]

    def _run(self):
        wait = FIRST_RETRY
        while not self.ending.is_set():
            self.news.wait()
            self.news.clear()
            if self.ending.is_set():
                return
            try:
                self._sync()
            except Exception as error:  # whatever a network, a server or a library raises: training goes on
                self.share = None
                reason = reason_of(error, self.password_file)
                if self.trouble != reason:
                    self.say(f"nas: {reason}; tried again until it works, training goes on")
                self.trouble = reason
                if "STATUS_LOGON_FAILURE" in reason:
                    wait = LAST_RETRY  # many wrong passwords in a row lock an account
                (self.ending if self.closing.is_set() else self.closing).wait(min(wait, 10.0) if self.closing.is_set() else wait)
                wait = min(2 * wait, LAST_RETRY)
                self.news.set()
            else:
                if self.trouble is not None:
                    self.say("nas: works again, the copy is complete")
                self.trouble, wait = None, FIRST_RETRY
                with self.lock:
                    if not self.news.is_set():
                        self.idle.set()

    def _sync(self):
        """All that the local manifest lists and the share lacks, the newest first; the logs; then what need not be kept goes."""
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
            foreign = [name for name in sizes if OURS.fullmatch(name) and name not in self.known]
            if foreign:
                raise UserError(f"{self.url} holds {foreign[0]} of another run and no {checkpoint.MANIFEST}: give another nas=")
            self.sent.pop(checkpoint.MANIFEST, None)
            self._list(local, {})  # from now on the folder is this run's, also when the first upload is killed
        else:
            self.known |= {row["file"] for row in there["checkpoints"]} | set(there.get("put", []))
        listed = {row["file"]: row for row in there["checkpoints"] if sizes.get(row["file"]) == row["bytes"]} if there else {}
        for name in [name for name, row in listed.items() if row["sha256"] in local["abandoned"]]:
            del listed[name]
        for row in sorted(local["checkpoints"], key=lambda row: -row["step"]):
            if listed.get(row["file"], {}).get("sha256") != row["sha256"]:
                self.known.add(row["file"])
                self._list(local, listed)  # first: a file of ours that is cut off from its row is still known as ours
                try:
                    arrived = self.share.put(row["file"], local_chunks(self.out / row["file"]))
                except FileNotFoundError:
                    if (self.out / row["file"]).exists():
                        raise
                    continue  # removed here meanwhile, a newer one being there
                if arrived != row["sha256"]:
                    raise OSError(f"{self.out / row['file']} has another sha256 than when it was saved")
                listed[row["file"]] = row
                self._list(local, listed)
            self.sent[row["file"]] = row["sha256"]
        for name, path in self._followers():
            data = path.read_bytes()
            if self.sent.get(name) != hashlib.sha256(data).hexdigest():
                self.sent[name] = self.share.put(name, [data])
        kept = checkpoint.steps_to_keep([row["step"] for row in listed.values()], self.keep_last, self.keep_every)
        uploads = {f"{name}.partial" for name in (checkpoint.MANIFEST, *(name for name, _ in self._followers()))}
        for name in self.share.sizes():  # what others have put there is theirs
            pruned = name in self.known and OURS.fullmatch(name) and listed.get(name, {}).get("step") not in kept
            if pruned or name in uploads or (name.endswith(".partial") and OURS.fullmatch(name.removesuffix(".partial"))):
                self.share.remove(name)
        self.known = {name for name, row in listed.items() if row["step"] in kept}
        self._list(local, {name: listed[name] for name in self.known})

    def _list(self, local, listed):
        """The manifest over there: what has been verified, and the names of what else is there or about to be put."""
        rows = sorted(listed.values(), key=lambda row: row["step"])
        besides = sorted(self.known - set(listed))
        manifest = local | {"checkpoints": rows, "abandoned": []} | ({"put": besides} if besides else {})
        data = json.dumps(manifest, indent=1).encode()
        if self.sent.get(checkpoint.MANIFEST) != hashlib.sha256(data).hexdigest():
            self.sent[checkpoint.MANIFEST] = self.share.put(checkpoint.MANIFEST, [data])


def fetch(url, out, password_file=None, say=print):
    """
    Brings the newest whole checkpoint from a NAS, or from any folder that fsspec reaches, into the empty run folder `out`, and the
    log; a URL that ends in a checkpoint's name brings that one. UserError where there is none, or the place cannot be reached.
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
            if _fetch_one(share, row, out):
                checkpoint.write_manifest(out, manifest | {"checkpoints": [row], "abandoned": []})
                (out / (row["file"] + ".tmp")).replace(out / row["file"])
                checkpoint.link_newest(out, out / row["file"])
                for name in ["log.jsonl", *(f"tensorboard/{n}" for n in sorted(share.sizes("tensorboard")))]:
                    data = share.read(name)
                    if data is not None and not name.endswith(".partial"):
                        (out / name).parent.mkdir(exist_ok=True)
                        checkpoint.write_atomically(out / name, data)
                return
            say(f"{folder}/{row['file']} does not have the sha256 in {checkpoint.MANIFEST}: refused")
    except UserError:
        raise
    except Exception as error:  # of a network, a server or a library
        raise UserError(f"resume_from={url} cannot be read: {reason_of(error, password_file)}") from error
    raise UserError(f"{url} holds no whole checkpoint" + (f" named {wanted}" if wanted else ""))


def _fetch_one(share, row, out):
    """The file under its temporary name; False where it is missing or not what the manifest says."""
    out.mkdir(parents=True, exist_ok=True)
    temporary, arrived = out / (row["file"] + ".tmp"), hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for data in share.chunks(row["file"]):
                file.write(data)
                arrived.update(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOENT or not temporary.is_file():
            raise
        return False
    if arrived.hexdigest() != row["sha256"]:
        temporary.unlink()
        return False
    return True
