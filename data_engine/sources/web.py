"""
Web: files at addresses, each read by its kind: the suffix of the address, or the type that the server tells.

    Web("manuals", ("https://example.org/a.pdf", "https://example.org/b.html"), share=0.1, sha256=("ab12...", "cd34..."))

With sha256 a changed file is refused. Without it a file that was fetched stays, and one that was only listed is asked for again at
the start of each run. The part of an address behind "?" may hold a secret: uris, messages and files show only its hash.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from data_engine.sources import fetch, hosts
from data_engine.sources.fetch import FetchError, RemoteFile
from data_engine.sources.hosts import redact_urls
from data_engine.sources.listing import RemoteFiles, save_listing
from data_engine.sources.readers import VERSION, kind_of
from data_engine.sources.source import Job, check_source, digest, job_name
from phoenix.config import UserError
from phoenix.files import sha256

SUFFIX = {  # of a media type, for addresses without one
    **{"text/html": ".html", "application/xhtml+xml": ".html", "text/plain": ".txt", "application/pdf": ".pdf"},
    **{"text/csv": ".csv", "application/json": ".json", "application/x-ndjson": ".jsonl", "application/zip": ".zip"},
    **{"application/x-tar": ".tar", "application/warc": ".warc", "application/vnd.apache.parquet": ".parquet"},
    **{"text/markdown": ".md", "application/epub+zip": ".epub", "application/vnd.oasis.opendocument.text": ".odt"},
    **{"application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx", "application/x-ipynb+json": ".ipynb"},
}


@dataclass(frozen=True)
class Web(RemoteFiles):
    BY_BUDGET: ClassVar[bool] = False

    name: str  # names the source in every table and file
    urls: str | tuple  # http:// or https:// addresses
    share: float = 1.0  # fraction of the corpus' tokens
    sha256: str | tuple | None = None  # of the files, in the order of urls; None, for one or for all: not checked
    licence: str = ""  # of records that do not name their own
    text: str = "text"  # the field of a .jsonl, .csv or .parquet record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: the address, with #row for a record
    web: bool = True  # pages of the open web: the quality filters apply

    @property
    def origin(self):
        shown = [_shown(url) for url in self._urls()]
        return shown[0] + (f" and {len(shown) - 1} more" if len(shown) > 1 else "")

    def check(self):
        check_source(self)
        for url in self._urls():
            if not hosts.is_address(url):
                shown = redact_urls(repr(url))
                raise UserError(f"source {self.name}: {shown} is no address such as https://example.org/a.pdf")
        if len(set(self._urls())) < len(self._urls()) or not self._urls():
            raise UserError(f"source {self.name}: urls holds an address twice, or none")
        if len(self._hashes()) != len(self._urls()):
            raise UserError(f"source {self.name}: sha256 has {len(self._hashes())} hashes for {len(self._urls())} addresses")
        for value in self._hashes():
            if value is not None and not re.fullmatch("[0-9a-f]{64}", str(value)):
                raise UserError(f"source {self.name}: {value!r} is no sha256: 64 hex digits in small letters")

    def jobs(self, partition_bytes: int) -> list[Job]:
        """One job an address."""
        listing, jobs = self.list_files(), []
        for number, (path, size, etag) in enumerate(listing["files"]):
            url, wanted = self._urls()[number], self._hashes()[number]
            settings = (VERSION, self.name, self.text, self.id, self.licence, sha256(url), wanted)
            jobs.append(Job(job_name(_shown(url)), (number, path, size, etag), digest(settings), size or 0))
        return sorted(jobs, key=lambda job: job.name)

    def _job_files(self, job):
        number, path, size, etag = job.spec
        return [self._remote((path, size, etag, number))]

    def _remote(self, file, listing=None):
        """Another size or etag makes another download."""
        path, size, etag, number = file
        url, wanted = self._urls()[number], self._hashes()[number]
        return RemoteFile(
            source=self.name,
            path=path,
            key=f"{job_name(_shown(url))}-{sha256(url)[:12]}-{digest(size, etag)[:8]}",
            size=size,
            sha256=wanted,
            etag=etag,
            resumable=bool(etag or wanted),
            uri=_shown(url),
            revision=wanted or etag or "",
            address=lambda: (url, {}),
        )

    # ---- questions to the servers

    def order(self, listing):
        """All files as they are listed: (path, bytes or None, etag, number of the address)."""
        return [(*file, number) for number, file in enumerate(listing["files"])]

    def _identity(self):
        return [[sha256(url) for url in self._urls()], list(self._hashes()), self.text, self.id]

    def _subject(self):
        return "its addresses"

    def _ask_listing(self):
        """{"files": [[path that tells the kind, bytes or None, etag or None]]} in the order of urls."""
        files, problems = [], []
        for url in self._urls():
            try:
                files.append(self._ask(url))
            except (FetchError, UserError) as error:
                problems.append(str(error))
        if problems:
            raise UserError("\nerror: ".join(problems))
        return {"files": files}

    def _ask(self, url):
        size, etag, media = fetch.read_headers(self.downloads, RemoteFile(self.name, _shown(url), address=lambda: (url, {})))
        path = urlsplit(url).path
        path += "" if kind_of(path)[0] else SUFFIX.get(media, "")
        if kind_of(path)[0] is None:
            raise UserError(f"source {self.name}: {_shown(url)} is {media or 'of no type'}, which no reader reads")
        return [path, size, etag]

    def _refreshed(self, listing):
        """Asks again for each file that has not been fetched: it may have changed since."""
        files = list(listing["files"])
        for file in self.order(listing):
            if not fetch.was_fetched(self.downloads, self._remote(file)):
                number = file[-1]
                with suppress(FetchError, UserError):  # its download will fail with a sentence, should it be needed at all
                    files[number] = self._ask(self._urls()[number])
        if files != listing["files"]:
            listing |= {"files": files}
            save_listing(self.downloads, self.name, listing)
        return listing

    def _urls(self):
        return (self.urls,) if isinstance(self.urls, str) else tuple(self.urls)

    def _hashes(self):
        if self.sha256 is None or isinstance(self.sha256, str):
            return (self.sha256,) if len(self._urls()) == 1 or self.sha256 else (None,) * len(self._urls())
        return tuple(self.sha256)


def _shown(url):
    """An address without user, password and query; the query's hash tells two apart."""
    parts = urlsplit(url)
    query = f"?{sha256(parts.query)[:8]}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
