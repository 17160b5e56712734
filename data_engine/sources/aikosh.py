"""
AIKosh: files of a data set of India's AI platform, by the UUID under which the platform lists it.

    AIKosh("soil", "403283a7-2042-4b42-946b-b51babcc58b3", share=0.01)      AIKOSH_API_KEY opens it

The platform's own package asks for metadata, file listing and signed addresses. Its download is not used: it neither resumes nor
verifies, writes under the final name, and reports success for a set that lies elsewhere. fetch.py downloads every file, with a
new signed address for each attempt, and checks the listed size and the MD5 that the store tells. Where the store tells none, a
damaged body of the right length goes unnoticed. The archive of a complete set is not used: it cannot be asked for by version.

drops  external   the set lies with somebody else; the ledger's row says where
"""

import dataclasses
import fnmatch
import functools
import os
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass

from data_engine.sources import fetch, hosts
from data_engine.sources.fetch import FetchError, RemoteFile, RetryableError
from data_engine.sources.hosts import describe, redact_urls
from data_engine.sources.listing import UNKNOWN_BYTES, RemoteFiles, load_listing
from data_engine.sources.readers import VERSION, kind_of
from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, group, job_name
from phoenix.config import UserError

PAGE_FILES = 100  # files in one answer
SIZES = ("size", "fileSize", "sizeInBytes", "file_size")  # names that listings may have for it
PATHS = ("relativeUrl", "filePath", "path", "name")
VERSIONS = ("versionId", "version_id", "latestVersionId", "currentVersionId", "version")


@dataclass(frozen=True)
class AIKosh(RemoteFiles):
    name: str  # names the source in every table and file
    dataset: str  # its id, a UUID
    version: str | None = None  # id of a version, a UUID; None: the newest
    share: float = 1.0  # fraction of the corpus' tokens
    files: str = "*"  # pattern of the files' paths; * also matches /
    text: str = "text"  # the field of a .csv, .jsonl or .parquet record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: path#row
    licence: str = ""  # of records that do not name their own; "": the platform's
    web: bool = False  # pages of the open web: the quality filters apply

    @property
    def taken_revision(self):
        """The version that the survey found."""
        return (load_listing(self.downloads, self.name, self._identity()) or {}).get("version") or self.version

    @property
    def origin(self):
        return f"AIKosh {self.dataset}"

    def check(self):
        check_source(self)
        hosts.check_server(self.name, "AIKOSH_API_BASE_URL")
        for field, value in (("dataset", self.dataset), ("version", self.version)):
            try:
                uuid.UUID(str(value)) if value is not None or field == "dataset" else None
            except ValueError:
                raise UserError(f"source {self.name}: {field} {value!r} is no id (a UUID, as AIKosh's lists give it)") from None

    def jobs(self, partition_bytes: int) -> list[Job]:
        """Files of more than a third of a partition are a job each; the others are grouped to two thirds of one."""
        listing = self.list_files()
        licence, version = self.licence or listing["licence"], listing["version"]
        settings = (VERSION, self.name, self.text, self.id, licence, version, self.dataset)
        if listing["external"]:
            return [Job("external", ("external", listing["external"]), digest(settings, listing["external"]))]
        files = sorted(self.select(listing) + [tuple(file) for file in listing["files"] if kind_of(file[0])[0] is None])
        large = [[file] for file in files if (file[1] or 0) * 3 > partition_bytes]
        small = [(path, UNKNOWN_BYTES if size is None else size, size) for path, size in files]
        small = [file for file in small if (file[2] or 0) * 3 <= partition_bytes]
        groups = large + [[(path, size) for path, _, size in g] for g in group(small, partition_bytes * 2 // 3)]
        jobs = []
        for g in groups:
            size = sum(size or 0 for _, size in g)
            jobs.append(Job(job_name(g[0][0]), ("files", tuple(g), version, licence), digest(settings, g), size))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        if job.spec[0] == "external":
            chunk = Chunk(self.name)
            chunk.drop(f"aikosh:{self.dataset}", "external", job.spec[1])
            yield chunk.take()
        else:
            yield from self._read_files(job, dataclasses.replace(self, licence=job.spec[3]))

    def _job_files(self, job):
        if job.spec[0] == "external":
            return []
        _, files, version, _ = job.spec
        return [self._remote(file, {"version": version}) for file in files]

    def _remote(self, file, listing):
        (path, size), version = file, listing["version"]
        return RemoteFile(
            source=self.name,
            path=path,
            key=f"{job_name(path)}-{digest(self.dataset, version, path, size)[:12]}",
            size=size,
            resumable=bool(version),
            revision=version or "",
            address=lambda: self._address(path, version),
            refusal=_address_refused,
        )

    # ---- questions to the platform

    def _identity(self):
        return [self.dataset, self.version, self.files, self.text, self.id, digest(os.environ.get("AIKOSH_API_BASE_URL", ""))]

    def _subject(self):
        return self.dataset

    def _ask_listing(self):
        """{"version", "licence", "external": where the set lies instead, or "", "files": [[path, bytes or None]]}."""
        about = self._ask("get_dataset_metadata", dataset_id=self.dataset)
        listing = {"version": self.version or _version(about), "licence": _licence(about), "external": "", "files": []}
        if _find(about, ("externally_hosted",)) in (True, "true", "True"):
            return listing | {"external": _external(_find(about, ("dataset_source",)), _find(about, ("dataset_external_url",)))}
        files, folders, seen = {}, [""], {""}
        while folders:
            folder, page, pages = folders.pop(), 1, 1
            while page <= pages:
                asked = {"dataset_id": self.dataset, "version_id": listing["version"], "folder_path": folder}
                answer = self._ask("list_file_details", **asked, page=page, limit=PAGE_FILES)
                if "externalUrl" in answer:
                    return listing | {"external": _external(answer.get("source"), answer["externalUrl"])}
                for entry in answer.get("files") or ():
                    path = self._path(entry).lstrip("/")
                    if fnmatch.fnmatchcase(path, self.files):
                        files.setdefault(path, _size(entry))  # pages may repeat a file
                for entry in answer.get("directories") or ():
                    path = self._path(entry).strip("/")
                    if path not in seen:  # pages may repeat a folder
                        seen.add(path)
                        folders.append(path)
                page, pages = page + 1, int(answer.get("totalPages") or 1)
        if not any(kind_of(path)[0] for path in files):
            raise UserError(f"source {self.name}: the data set {self.dataset} has no file {self.files!r} that can be read")
        return listing | {"files": [list(file) for file in sorted(files.items())]}

    def _path(self, entry):
        """The path of an entry of a listing."""
        path = next((entry[key] for key in PATHS if entry.get(key)), None) if isinstance(entry, dict) else None
        if path is None:
            raise UserError(f"source {self.name}: AIKosh lists a file of {self.dataset} without a path that is known here")
        return str(path)

    def _ask(self, question, remote=None, **asked):
        """A function of the platform's package, repeated while it may help; UserError for a refusal."""
        import httpx
        from aikosh.config import get_access_key
        from aikosh.datasets import api
        from aikosh.environment import get_sdk_api_base_url
        from aikosh.exceptions import APIError, ConfigurationError

        try:
            key = get_access_key()
        except ConfigurationError:
            raise UserError(
                f"source {self.name}: AIKOSH_API_KEY is not set; AIKosh gives one under My profile, Account settings"
            ) from None
        hosts.check_key(self.name, "AIKOSH_API_KEY", key)
        url, kind = get_sdk_api_base_url(), str if question == "get_file_download_url" else dict

        def attempt():
            try:
                answer = getattr(api, question)(access_key=key, timeout=fetch.TIMEOUT_SECS, transport=transport(), **asked)
                if not isinstance(answer or kind(), kind):
                    raise RetryableError(f"AIKosh answers with something else ({type(answer).__name__}) than was asked for")
                return answer or kind()
            except APIError as error:
                status = error.status_code if isinstance(error.status_code, int) else 0
                if status in fetch.RETRIED:
                    wait = hosts.slow_down(self.downloads, hosts.host_of(url), transport().headers, status)
                    raise RetryableError(f"AIKosh answers {status}", wait) from None
                if "not valid JSON" in str(error):
                    raise RetryableError("AIKosh sends a page in place of data") from None
                if status in (401, 403):
                    raise UserError(f"source {self.name}: AIKosh refuses the key in AIKOSH_API_KEY for {self.dataset}") from None
                if status == 404:
                    raise UserError(f"source {self.name}: AIKosh has no data set {self.dataset}, or not in this version") from None
                message = re.sub(re.escape(key), "...", redact_urls(error))[:150]
                raise UserError(f"source {self.name}: AIKosh refuses {self.dataset}: {message}") from None
            except httpx.TransportError as error:
                raise RetryableError(describe(error)) from None

        return fetch.ask(self.downloads, remote or RemoteFile(self.name, f"data set {self.dataset}"), url, attempt)

    def _address(self, path, version):
        """A new signed address: they expire."""
        try:
            asked = {"dataset_id": self.dataset, "version_id": version, "file_path": path}
            return self._ask("get_file_download_url", RemoteFile(self.name, path), **asked), {}
        except UserError as error:
            raise FetchError(f"{error} ({path})") from None


def _address_refused(status):
    if status in (401, 403):  # the store refuses the address, not the platform the key
        raise RetryableError(f"the signed address is refused ({status})")
    return "is not where AIKosh says it is"


@functools.cache
def transport():
    """For the package's requests: keeps the headers of the last answer, which the package does not show."""
    import httpx

    class HeaderRecorder(httpx.BaseTransport):
        def __init__(self):
            self.inner, self.headers = httpx.HTTPTransport(), {}

        def handle_request(self, request):
            answer = self.inner.handle_request(request)
            self.headers = answer.headers
            return answer

        def close(self):
            """Does nothing: the package closes its client after each question, and the connections serve the next one."""

    return HeaderRecorder()


def _values(value, names):
    """The values under one of the names at any depth of an answer, outer ones first."""
    queue = [value]
    while queue:
        inner = queue.pop(0)
        if isinstance(inner, dict):
            yield from (inner[name] for name in names if inner.get(name) not in (None, "", [], {}))
            queue += inner.values()
        elif isinstance(inner, list):
            queue += inner


def _find(value, names):
    return next(_values(value, names), None)


def _version(about):
    for found in _values(about, VERSIONS):
        with suppress(ValueError):  # "1.0" is none
            return str(uuid.UUID(str(found)))
    return None


def _licence(about):
    found = _find(about, ("license", "licence", "licenseName"))
    if isinstance(found, list):
        found = found[0]
    if isinstance(found, dict):
        found = found.get("name") or found.get("title")
    return str(found or "")[:200]


def _size(entry):
    value = next((entry[key] for key in SIZES if entry.get(key) is not None), None)
    size = int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else 0
    return size or None  # a listed 0 may mean unknown


def _external(source, url):
    return f"the set lies with {source or 'somebody else'}: {url or 'no address is given'}"
