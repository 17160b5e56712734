"""
Web: files at addresses, each read by its kind: the suffix of the address, or what the server says it is.

    Web("manuals", ("https://example.org/a.pdf", "https://example.org/b.html"), share=0.1, sha256=("ab12...", "cd34..."))

With sha256 a file that has changed is refused; without, what was fetched first stays, and what was only listed is asked for again.
The part of an address behind "?" may hold a secret: only its hash gets into uris, messages and files.
"""

import dataclasses
import functools
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from data_engine.sources import budget, fetch
from data_engine.sources.fetch import FetchError, Place, Remote
from data_engine.sources.readers import VERSION, kind_of, read_file
from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, job_name, steady
from phoenix.config import UserError

SUFFIX = {  # of what servers send under an address without one
    **{"text/html": ".html", "application/xhtml+xml": ".html", "text/plain": ".txt", "application/pdf": ".pdf"},
    **{"text/csv": ".csv", "application/json": ".json", "application/x-ndjson": ".jsonl", "application/zip": ".zip"},
    **{"application/x-tar": ".tar", "application/warc": ".warc", "application/vnd.apache.parquet": ".parquet"},
}


ASKED = set()  # what has been asked for again since the survey that a run begins with


@dataclass(frozen=True)
class Web:
    name: str  # names the source in every table and file
    urls: str | tuple  # http:// or https:// addresses
    share: float = 1.0  # fraction of the corpus' tokens
    sha256: str | tuple | None = None  # of the files, in the order of urls; None for one or for all: what comes is taken
    licence: str = ""  # of records that do not name their own
    text: str = "text"  # the field of a .jsonl, .csv or .parquet record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: the address, with #row for a record
    web: bool = True  # pages of the open web: the quality filters sift them
    place: Place = field(default=Place(), repr=False, compare=False, metadata={"in_key": False})  # the run's, not the user's

    @property
    def origin(self):
        shown = [_shown(url) for url in self._urls()]
        return shown[0] + (f" and {len(shown) - 1} more" if len(shown) > 1 else "")

    def check(self):
        check_source(self)
        for url in self._urls():
            if not fetch.is_address(url):
                shown = fetch.hide(repr(url))
                raise UserError(f"source {self.name}: {shown} is no address such as https://example.org/a.pdf")
        if len(set(self._urls())) < len(self._urls()) or not self._urls():
            raise UserError(f"source {self.name}: urls holds an address twice, or none")
        if len(self._hashes()) != len(self._urls()):
            raise UserError(f"source {self.name}: sha256 has {len(self._hashes())} hashes for {len(self._urls())} addresses")
        for value in self._hashes():
            if value is not None and not re.fullmatch("[0-9a-f]{64}", str(value)):
                raise UserError(f"source {self.name}: {value!r} is no sha256: 64 hex digits in small letters")

    def jobs(self, partition_bytes: int) -> list[Job]:
        """An address a job."""
        found, jobs = self.look(), []
        for url, sha256, about in zip(self._urls(), self._hashes(), found["files"], strict=True):
            settings = (VERSION, self.name, self.text, self.id, self.licence, _secretless(url), sha256)
            job = Job(job_name(_shown(url)), (self._urls().index(url), *about), digest(settings), about[1] or 0)
            jobs.append(job)
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        (remote,) = self.remotes(job)
        local = fetch.download(self.place, remote, self._address(job.spec[0]))
        chunk = Chunk(self.name, remote.sha256 or remote.etag or "", local.stat().st_mtime)
        with steady(self.name, remote.path, lambda: open(local, "rb")) as file:
            yield from read_file(self, file, local.stat().st_size, remote.path, _shown(self._urls()[job.spec[0]]), chunk)
        yield chunk.take()

    def has(self, job: Job):
        """Whether its files are on this machine."""
        return all(fetch.is_whole(remote.file(self.place), remote) for remote in self.remotes(job))

    def committed(self, job: Job):
        """Its raw partitions are on the disk: the download may go."""
        fetch.cut(self.place, self.remotes(job)[0])

    def remotes(self, job: Job) -> list[Remote]:
        return [self._listed(job.spec[0], job.spec[1:])]

    def look(self) -> dict:
        """{"files": [[path that tells the kind, bytes or None, etag], ...] in the order of urls, "looked"}."""
        of = [[_secretless(url) for url in self._urls()], list(self._hashes()), self.text, self.id]
        found = fetch.remembered(self.place, self.name, of)
        if found:
            return self._as_it_is_now(found)
        if self.place.offline:
            raise UserError(f"source {self.name}: nothing is known of its addresses yet; run once without --offline")
        found, problems = {"of": of, "files": [], "looked": None, "measured": None}, []
        for number in range(len(self._urls())):
            try:
                found["files"].append(self._ask(number))
            except (FetchError, UserError) as error:
                problems.append(str(error))
        if problems:
            raise UserError("\nerror: ".join(problems))
        files = [(path, size, number) for number, (path, size, _) in enumerate(found["files"])]
        read = functools.partial(self._range, found["files"])
        try:
            found["looked"] = budget.probe(self, files, read)
        except FetchError as error:
            raise UserError(str(error)) from None
        if found["looked"]["problem"]:
            raise UserError(f"source {self.name}: {found['looked']['problem']}")
        fetch.remember(self.place, self.name, found)
        ASKED.add((self.place, self.name, str(of)))
        return found

    def _ask(self, number):
        """[path that tells the kind, bytes or None, etag] of an address."""
        url = self._urls()[number]
        size, etag, media = fetch.head(self.place, self._remote(number), self._address(number))
        path = urlsplit(url).path
        path += "" if kind_of(path)[0] else SUFFIX.get(media, "")
        if kind_of(path)[0] is None:
            raise UserError(f"source {self.name}: {_shown(url)} is {media or 'of no type'}, which no reader reads")
        return [path, size, etag]

    def _as_it_is_now(self, found):
        """Once a run: what is not here yet is asked for again, for it may have changed since; what was fetched stays."""
        once = (self.place, self.name, str(found["of"]))
        if self.place.offline or once in ASKED:
            return found
        files = list(found["files"])
        for number, about in enumerate(files):
            if not fetch.is_here(self.place, self._listed(number, about)):
                with suppress(FetchError, UserError):  # its download will tell, should it be needed at all
                    files[number] = self._ask(number)
        ASKED.add(once)
        if files != found["files"]:
            found |= {"files": files}
            fetch.remember(self.place, self.name, found)
        return found

    def _listed(self, number, about):
        """The remote file as it was listed; another size or etag is another download."""
        path, size, etag = about
        remote = self._remote(number)
        key = f"{remote.key}-{digest(size, etag)[:8]}"
        return dataclasses.replace(remote, path=path, size=size, etag=etag, key=key, resumable=bool(etag or remote.sha256))

    def _urls(self):
        return (self.urls,) if isinstance(self.urls, str) else tuple(self.urls)

    def _hashes(self):
        if self.sha256 is None or isinstance(self.sha256, str):
            return (self.sha256,) if len(self._urls()) == 1 or self.sha256 else (None,) * len(self._urls())
        return tuple(self.sha256)

    def _remote(self, number):
        url = self._urls()[number]
        return Remote(self.name, _shown(url), f"{job_name(_shown(url))}-{_secretless(url)[:12]}", sha256=self._hashes()[number])

    def _address(self, number):
        return lambda: (self._urls()[number], {})

    def _range(self, files, file, start, n):
        remote = dataclasses.replace(self._remote(file[2]), path=file[0])
        return fetch.read_range(self.place, remote, self._address(file[2]), start, n)


def _secretless(url):
    """What stands for an address in keys and files."""
    return hashlib.sha256(url.encode()).hexdigest()


def _shown(url):
    """An address without user, password and query; the query's hash tells two apart."""
    parts = urlsplit(url)
    query = f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
