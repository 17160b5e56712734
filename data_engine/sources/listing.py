"""
What HuggingFace, AIKosh and Web share: a survey of the server, a choice of files, downloads, records.

A source asks its server once for the list of its files and reads the beginning of some of them. The result, the listing, is kept
in DOWNLOADS/SOURCE/listing.json:

    of         what was asked for; another config asks again
    files      [[path, bytes, ...]]
    looked     what budget.probe found in the first files
    measured   what an earlier run's files gave, or None
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from data_engine.sources import budget, fetch
from data_engine.sources.fetch import DownloadSettings, FetchError, RemoteFile
from data_engine.sources.readers import kind_of, read_file
from data_engine.sources.source import Chunk, Chunks, Job, retrying_file
from phoenix.config import UserError
from phoenix.files import write_atomic

UNKNOWN_BYTES = 1 << 20  # assumed for a file whose size is not listed

PLAN_LISTINGS = {}  # {path: listing} of a plan, which writes nothing


@dataclass(frozen=True)
class RemoteFiles:
    """
    Base of the sources whose files lie on a server. A source adds

    _identity()               what its listing depends on, as JSON values
    _subject()                the words for it in a message
    _ask_listing()            asks the server: {"files": [[path, bytes, ...]], ...}
    _remote(file, listing)    the RemoteFile of an entry of `files`
    _job_files(job)           the RemoteFiles of a job, with those that no reader reads
    """

    BY_BUDGET: ClassVar[bool] = True  # False: takes all files, in the order of the listing

    # the run's settings, not the user's
    downloads: DownloadSettings = field(
        default=DownloadSettings(), kw_only=True, repr=False, compare=False, metadata={"in_key": False}
    )

    # ---- the survey

    def list_files(self, refresh=False) -> dict:
        """
        The listing, asked of the server where it is not known yet; UserError if the server has not what the config says.

        refresh: at the start of a run, asks again for what may have changed since
        """
        listing = load_listing(self.downloads, self.name, self._identity())
        if listing:
            return self._refreshed(listing) if refresh and not self.downloads.offline else listing
        if self.downloads.offline:
            raise UserError(f"source {self.name}: nothing is known of {self._subject()} yet; run once without --offline")
        try:
            listing = {"of": self._identity(), "looked": None, "measured": None} | self._ask_listing()
            if files := self.order(listing):
                listing["looked"] = budget.probe(self, files, lambda file, *span: self._read_range(file, listing, *span))
        except FetchError as error:
            raise UserError(str(error)) from None
        if files and listing["looked"]["problem"]:
            raise UserError(f"source {self.name}: {listing['looked']['problem']}")
        save_listing(self.downloads, self.name, listing)
        return listing

    def _refreshed(self, listing):
        return listing

    def _read_range(self, file, listing, start, n):
        return fetch.read_range(self.downloads, self._remote(file, listing), start, n)

    # ---- the choice of files

    def order(self, listing):
        """The readable files, [(path, bytes, ...)], in the order in which runs take them."""
        return budget.in_order([tuple(file) for file in listing["files"] if kind_of(file[0])[0]], self.downloads.seed)

    def select(self, listing):
        """The files that this run takes, from the front of order()."""
        files = self.order(listing)
        if not files or not self.BY_BUDGET:
            return files
        return files[: budget.count(_sized(files), self.downloads, listing["looked"], self.web, listing["measured"])]

    def file_counts(self):
        """{"taken", "listed"}: files of this run, files there are; None if the budget has no say."""
        listing = self.list_files()
        return {"taken": len(self.select(listing)), "listed": len(self.order(listing))} if self.BY_BUDGET else None

    def record_yield(self, tokens):
        """Notes after a run how many tokens its files gave; the next run takes as many files as that tells."""
        listing, settings = self.list_files(), self.downloads
        files = self.select(listing)
        if files and self.BY_BUDGET and settings.tokens is not None and not settings.offline:
            save_listing(settings, self.name, listing | {"measured": budget.measured(settings, tokens, _sized(files))})

    # ---- the files of a job

    def remotes(self, job: Job) -> list[RemoteFile]:
        """The files that a job needs on this machine."""
        return [remote for remote in self._job_files(job) if kind_of(remote.path)[0]]

    def has(self, job: Job):
        """True if the files of a job are on this machine."""
        return all(self._on_disk(remote) for remote in self.remotes(job))

    def _on_disk(self, remote):
        return fetch.is_complete(remote.file(self.downloads), remote)

    def _local_file(self, remote):
        return fetch.download(self.downloads, remote)

    def _read_files(self, job: Job, source) -> Chunks:
        """The records of a job's files; `source` says how they are read."""
        chunk = Chunk(self.name)
        for remote in self._job_files(job):
            if kind_of(remote.path)[0] is None:
                chunk.drop(remote.path, "unknown_type", os.path.splitext(remote.path)[1][:20] or "no suffix")
                continue
            local = self._local_file(remote)
            info = local.stat()
            chunk.revision, chunk.fetched_at = remote.revision, int(info.st_mtime)
            with retrying_file(self.name, remote.path, lambda local=local: open(local, "rb")) as file:
                yield from read_file(source, file, info.st_size, remote.path, remote.uri or remote.path, chunk)
        yield chunk.take()

    def read(self, job: Job) -> Chunks:
        return self._read_files(job, self)

    def committed(self, job: Job):
        """Called when a job's raw partitions are on the disk: the downloads may go."""
        for remote in self.remotes(job):
            fetch.mark_cut(self.downloads, remote)


def is_available(source, job):
    """True if a job of any source can be done: offline its files must be on this machine."""
    return not isinstance(source, RemoteFiles) or not source.downloads.offline or source.has(job)


def load_listing(downloads, source, identity):
    """The listing of this run or an earlier one that asked for the same; else None."""
    path = _listing_path(downloads, source)
    listing = PLAN_LISTINGS.get(str(path)) if not downloads.write else None
    if listing is None and downloads.folder and path.is_file():
        with suppress(ValueError):  # a file that was cut short: the server is asked again
            listing = json.loads(path.read_text(encoding="utf-8"))
    return listing if isinstance(listing, dict) and listing.get("of") == identity else None


def save_listing(downloads, source, listing):
    path = _listing_path(downloads, source)
    if not downloads.write:
        PLAN_LISTINGS[str(path)] = listing
    elif downloads.folder:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(listing, indent=1))


def _listing_path(downloads, source):
    return Path(downloads.folder) / source / "listing.json"


def _sized(files):
    """[(path, bytes)] for the budget."""
    return [(path, UNKNOWN_BYTES if size is None else size) for path, size, *_ in files]
