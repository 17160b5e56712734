"""
AIKosh: files of a data set of India's AI platform, by the id that the platform lists it under (a UUID).

    AIKosh("soil", "403283a7-2042-4b42-946b-b51babcc58b3", share=0.01)      AIKOSH_API_KEY opens it

The platform's own package asks the questions: metadata, file listing, signed addresses. Its download is not used, for it neither
resumes nor checks, writes under the final name and calls a set that lies elsewhere a success: here every file is fetched by itself
(fetch.py), with a signed address of its own for each attempt, against the size of the listing and the MD5 that the store tells;
where it tells none, a damaged body of the right length is not noticed. The archive of a whole set is not used either: it cannot be
asked for by version.

drops  external   the set lies with somebody else; the ledger's row says where
"""

import fnmatch
import functools
import os
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

from data_engine.sources import budget, fetch
from data_engine.sources.fetch import Failure, FetchError, Place, Remote
from data_engine.sources.readers import VERSION, kind_of, read_file
from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, group, job_name, steady
from phoenix.config import UserError

LISTED = 100  # files in one answer
UNKNOWN = 1 << 20  # bytes that a file is taken for whose size is not listed
SIZES = ("size", "fileSize", "sizeInBytes", "file_size")  # what a listing may call them
PATHS = ("relativeUrl", "filePath", "path", "name")
VERSIONS = ("versionId", "version_id", "latestVersionId", "currentVersionId", "version")


@dataclass(frozen=True)
class AIKosh:
    name: str  # names the source in every table and file
    dataset: str  # its id, a UUID
    version: str | None = None  # id of a version, a UUID; None: the newest
    share: float = 1.0  # fraction of the corpus' tokens
    files: str = "*"  # of the data set: a pattern in which * also stands for /
    text: str = "text"  # the field of a .csv, .jsonl or .parquet record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: path#row
    licence: str = ""  # of records that do not name their own; "": what the platform says
    web: bool = False  # pages of the open web: the quality filters sift them
    place: Place = field(default=Place(), repr=False, compare=False, metadata={"in_key": False})  # the run's, not the user's

    @property
    def revision(self):
        """The version that was taken."""
        return (fetch.remembered(self.place, self.name, self._identity()) or {}).get("version") or self.version

    @property
    def origin(self):
        return f"AIKosh {self.dataset}"

    def check(self):
        check_source(self)
        fetch.usable_server(self.name, "AIKOSH_API_BASE_URL")
        for what, value in (("dataset", self.dataset), ("version", self.version)):
            try:
                uuid.UUID(str(value)) if value is not None or what == "dataset" else None
            except ValueError:
                raise UserError(f"source {self.name}: {what} {value!r} is no id (a UUID, as AIKosh's lists give it)") from None

    def jobs(self, partition_bytes: int) -> list[Job]:
        """Files of more than a third of a partition are a job each; the others are grouped to two thirds of one."""
        found = self.look()
        settings = (VERSION, self.name, self.text, self.id, self.licence or found["licence"], found["version"], self.dataset)
        if found["external"]:
            return [Job("external", ("external", found["external"]), digest(settings, found["external"]))]
        files = sorted(self.taken(found) + [tuple(file) for file in found["files"] if kind_of(file[0])[0] is None])
        large = [[file] for file in files if (file[1] or 0) * 3 > partition_bytes]
        small = [(path, UNKNOWN if size is None else size, size) for path, size in files if (size or 0) * 3 <= partition_bytes]
        groups = large + [[(path, size) for path, _, size in g] for g in group(small, partition_bytes * 2 // 3)]
        about, jobs = (found["version"], self.licence or found["licence"]), []
        for g in groups:
            size = sum(size or 0 for _, size in g)
            jobs.append(Job(job_name(g[0][0]), ("files", tuple(g), *about), digest(settings, g), size))
        return sorted(jobs, key=lambda job: job.name)

    def ordered(self, found):
        """The readable files in the order in which they are taken."""
        return budget.in_order([tuple(file) for file in found["files"] if kind_of(file[0])[0]], self.place.seed)

    def taken(self, found):
        files = self.ordered(found)
        if not found["looked"]:
            return files
        return files[: budget.count(_sized(files), self.place, found["looked"], self.web, found["measured"])]

    def counted(self):
        """How many of the files a run takes."""
        found = self.look()
        return {"taken": len(self.taken(found)), "listed": len(self.ordered(found))}

    def learn(self, tokens):
        """After a run: its files gave so many tokens to choose from. The next run takes as many files as that tells it."""
        found = self.look()
        if self.place.tokens is not None and not self.place.offline and not found["external"]:
            measured = budget.measured(self.place, tokens, _sized(self.taken(found)))
            fetch.remember(self.place, self.name, found | {"measured": measured})

    def read(self, job: Job) -> Chunks:
        if job.spec[0] == "external":
            chunk = Chunk(self.name)
            chunk.drop(f"aikosh:{self.dataset}", "external", job.spec[1])
            yield chunk.take()
            return
        _, files, version, licence = job.spec
        chunk = Chunk(self.name, version or "")
        source = _Reading(self.name, self.text, self.id, licence)
        for path, size in files:
            if kind_of(path)[0] is None:
                chunk.drop(path, "unknown_type", os.path.splitext(path)[1][:20] or "no suffix")
                continue
            remote = self._remote((path, size), version)
            local = fetch.download(self.place, remote, lambda p=path: self._address(p, version), self._gone)
            chunk.fetched_at = int(local.stat().st_mtime)
            with steady(self.name, path, lambda local=local: open(local, "rb")) as file:
                yield from read_file(source, file, local.stat().st_size, path, path, chunk)
        yield chunk.take()

    def has(self, job: Job):
        """Whether its files are on this machine."""
        return all(fetch.is_whole(remote.file(self.place), remote) for remote in self.remotes(job))

    def committed(self, job: Job):
        """Its raw partitions are on the disk: the downloads may go."""
        for remote in self.remotes(job):
            fetch.cut(self.place, remote)

    def remotes(self, job: Job) -> list[Remote]:
        if job.spec[0] == "external":
            return []
        return [self._remote(file, job.spec[2]) for file in job.spec[1] if kind_of(file[0])[0]]

    def _remote(self, file, version):
        path, size = file
        key = f"{job_name(path)}-{digest(self.dataset, version, path, size)[:12]}"
        return Remote(self.name, path, key, size, resumable=bool(version))

    # ---- what the platform says

    def look(self) -> dict:
        """{"version", "licence", "external": where it lies instead, or "", "files": [[path, bytes or None]], "looked"}."""
        saved = fetch.remembered(self.place, self.name, self._identity())
        if saved:
            return saved
        if self.place.offline:
            raise UserError(f"source {self.name}: nothing is known of {self.dataset} yet; run once without --offline")
        try:
            found = self._listing()
            if not found["external"]:
                readable = self.ordered(found)
                if not readable:
                    raise UserError(f"source {self.name}: the data set {self.dataset} has no file {self.files!r} that can be read")
                read = functools.partial(self._range, found["version"])
                found["looked"] = budget.probe(self, readable, read)
                if found["looked"]["problem"]:
                    raise UserError(f"source {self.name}: {found['looked']['problem']}")
        except FetchError as error:
            raise UserError(str(error)) from None
        fetch.remember(self.place, self.name, found)
        return found

    def _identity(self):
        return [self.dataset, self.version, self.files, self.text, self.id, digest(os.environ.get("AIKOSH_API_BASE_URL", ""))]

    def _listing(self):
        about = self._ask("get_dataset_metadata", dataset_id=self.dataset)
        listed = {}
        found = {"of": self._identity(), "version": self.version or _version(about), "licence": _licence(about)}
        found |= {"external": "", "files": [], "looked": None, "measured": None}
        if _find(about, ("externally_hosted",)) in (True, "true", "True"):
            found["external"] = _external(_find(about, ("dataset_source",)), _find(about, ("dataset_external_url",)))
            return found
        folders, seen = [""], {""}
        while folders:
            folder, page, pages = folders.pop(), 1, 1
            while page <= pages:
                what = {"dataset_id": self.dataset, "version_id": found["version"], "folder_path": folder}
                answer = self._ask("list_file_details", **what, page=page, limit=LISTED)
                if "externalUrl" in answer:
                    found["external"] = _external(answer.get("source"), answer["externalUrl"])
                    return found
                for entry in answer.get("files") or ():
                    path = self._path(entry).lstrip("/")
                    if fnmatch.fnmatchcase(path, self.files):
                        listed.setdefault(path, _size(entry))  # a page may repeat what an earlier one had
                for entry in answer.get("directories") or ():
                    path = self._path(entry).strip("/")
                    if path not in seen:  # some platforms repeat them on each page
                        seen.add(path)
                        folders.append(path)
                page, pages = page + 1, int(answer.get("totalPages") or 1)
        found["files"] = [list(file) for file in sorted(listed.items())]
        return found

    def _path(self, entry):
        """The path of an entry of a listing."""
        path = next((entry[key] for key in PATHS if entry.get(key)), None) if isinstance(entry, dict) else None
        if path is None:
            raise UserError(f"source {self.name}: AIKosh lists a file of {self.dataset} without a path that is known here")
        return str(path)

    def _ask(self, question, remote=None, **what):
        """A question of the platform's package; Failure where it may be asked again, UserError where the answer is no."""
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
        fetch.usable_key(self.name, "AIKOSH_API_KEY", key)
        url, kind = get_sdk_api_base_url(), str if question == "get_file_download_url" else dict

        def ask():
            try:
                answer = getattr(api, question)(access_key=key, timeout=fetch.TIMEOUT_SECS, transport=transport(), **what)
                if not isinstance(answer or kind(), kind):
                    raise Failure(f"AIKosh answers with something else ({type(answer).__name__}) than was asked for")
                return answer or kind()
            except APIError as error:
                status = error.status_code if isinstance(error.status_code, int) else 0
                if status in fetch.RETRIED:
                    raise fetch.busy(self.place, url, transport().headers, status, f"AIKosh answers {status}") from None
                if "not valid JSON" in str(error):
                    raise Failure("AIKosh sends a page in place of data") from None
                if status in (401, 403):
                    raise UserError(f"source {self.name}: AIKosh refuses the key in AIKOSH_API_KEY for {self.dataset}") from None
                if status == 404:
                    raise UserError(f"source {self.name}: AIKosh has no data set {self.dataset}, or not in this version") from None
                said = re.sub(re.escape(key), "...", fetch.hide(error))[:150]
                raise UserError(f"source {self.name}: AIKosh refuses {self.dataset}: {said}") from None
            except httpx.TransportError as error:
                raise Failure(fetch.told(error)) from None

        return fetch.call(self.place, remote or Remote(self.name, f"data set {self.dataset}", ""), url, ask)

    def _address(self, path, version):
        """A signed address of its own for each attempt: they expire."""
        remote = Remote(self.name, path, "")
        try:
            what = {"dataset_id": self.dataset, "version_id": version, "file_path": path}
            return self._ask("get_file_download_url", remote, **what), {}
        except UserError as error:
            raise FetchError(f"{error} ({path})") from None

    def _gone(self, status):
        if status in (401, 403):  # the store refuses the address, not the platform the key
            raise Failure(f"the signed address is refused ({status})")
        return "is not where AIKosh says it is"

    def _range(self, version, file, start, n):
        remote = self._remote(tuple(file), version)
        return fetch.read_range(self.place, remote, lambda: self._address(file[0], version), start, n, self._gone)


@dataclass(frozen=True)
class _Reading:
    """What the readers ask of a source, the licence being the platform's."""

    name: str
    text: str
    id: str | None
    licence: str


@functools.cache
def transport():
    """Of the package's requests: it notes the headers of the last answer, which the package keeps to itself."""
    import httpx

    class Noting(httpx.BaseTransport):
        def __init__(self):
            self.inner, self.headers = httpx.HTTPTransport(), {}

        def handle_request(self, request):
            answer = self.inner.handle_request(request)
            self.headers = answer.headers
            return answer

        def close(self):
            """Each question closes its client; the connections are for the next one."""

    return Noting()


def _sized(files):
    """The files with a size each, for the budget."""
    return [(path, UNKNOWN if size is None else size) for path, size in files]


def _values(value, names):
    """The values under one of the names, wherever in the answer they stand; those further out first."""
    todo = [value]
    while todo:
        inner = todo.pop(0)
        if isinstance(inner, dict):
            yield from (inner[name] for name in names if inner.get(name) not in (None, "", [], {}))
            todo += inner.values()
        elif isinstance(inner, list):
            todo += inner


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
    return size or None  # 0 may stand for a size that is not known: the file tells


def _external(source, url):
    return f"the set lies with {source or 'somebody else'}: {url or 'no address is given'}"
