"""
HuggingFace: files of a Hub data set at one commit, checked against the Hub's own hashes.

    HuggingFace("c4", "allenai/c4", "1588ec454efa...", files="en/c4-train.*.json.gz", share=0.35, licence="ODC-BY", web=True)

No loading script runs and no split is guessed: `files` names the files, readers.py reads them, budget.py chooses how many.
HF_TOKEN (or `hf auth login`) opens gated sets, HF_ENDPOINT leads to another Hub. A file in huggingface_hub's own cache is taken
from there.

`files="a.tar!/*.jsonl.zst"` takes members of a tar that is not compressed, each as a file of its own: the survey reads the headers,
and a run fetches the members that its budget needs. The Hub lists no hash of them, so their size alone is checked.

drops  unknown_type   files that `files` matches and no reader reads; and what the readers drop
"""

import fnmatch
import os
import re
import sys
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data_engine.sources import fetch, hosts
from data_engine.sources.budget import RangeFile
from data_engine.sources.fetch import RemoteFile, RetryableError
from data_engine.sources.hosts import describe, redact_urls
from data_engine.sources.listing import RemoteFiles, load_listing
from data_engine.sources.readers import VERSION, kind_of
from data_engine.sources.source import Job, check_source, digest, job_name
from phoenix.config import UserError

HUB = "https://huggingface.co"
MAX_MEMBERS = 10_000  # of a tar whose headers are read one by one


@dataclass(frozen=True)
class HuggingFace(RemoteFiles):
    name: str  # names the source in every table and file
    repo: str  # owner/name of the data set
    revision: str  # a commit, seven hex digits or more; "main": the commit that it has at the survey, kept from then on
    files: str = "*"  # pattern of the files' paths; * also matches /; behind "!/" of the members of a tar
    share: float = 1.0  # fraction of the corpus' tokens
    text: str = "text"  # the field of a record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: path#row
    licence: str = ""  # of records that do not name their own
    web: bool = False  # pages of the open web: the quality filters apply

    @property
    def origin(self):
        return f"{HUB}/datasets/{self.repo}"

    def check(self):
        check_source(self)
        hosts.check_server(self.name, "HF_ENDPOINT")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo) or re.search(r"--|\.\.", self.repo):
            raise UserError(f"source {self.name}: {self.repo!r} is no owner/name of a data set")
        if not re.fullmatch(r"[0-9a-f]{7,40}|main", self.revision):
            raise UserError(
                f"source {self.name}: revision {self.revision!r} must be a commit (7 to 40 hex digits), or 'main', "
                "of which the first run writes down the commit: a branch or a tag moves"
            )

    def jobs(self, partition_bytes: int) -> list[Job]:
        """One job a file, as many as the budget needs; and one for the files that no reader reads."""
        listing, jobs = self.list_files(), []
        for path, size, sha256, git, *offset in self.select(listing):
            settings = (VERSION, self.name, self.text, self.id, self.licence, path, sha256 or git, *offset)
            spec = ("file", path, size, sha256, git, *offset, listing["commit"])
            jobs.append(Job(job_name(path), spec, digest(settings), size))
        others = [path for path, *_ in listing["files"] if kind_of(path)[0] is None]
        if others:
            jobs.append(Job("others", ("others", tuple(others)), digest(VERSION, self.name, others)))
        return sorted(jobs, key=lambda job: job.name)

    @property
    def taken_revision(self):
        """The full commit that the survey found."""
        return (load_listing(self.downloads, self.name, self._identity()) or {}).get("commit") or self.revision

    def _job_files(self, job):
        if job.spec[0] == "others":
            return [RemoteFile(self.name, path) for path in job.spec[1]]
        _, *file, commit = job.spec
        return [self._remote(file, {"commit": commit})]

    def _remote(self, file, listing):
        path, size, sha256, git, *offset = file  # a member of a tar has the hash of the tar, and where it begins
        return RemoteFile(
            source=self.name,
            path=path,
            key=f"{job_name(path)}-{(sha256 or git)[:12]}",
            size=size,
            sha256=None if offset else sha256,
            git=None if offset or sha256 else git,
            offset=offset[0] if offset else None,
            revision=listing["commit"],
            address=lambda: self._address(path.partition("!/")[0] if offset else path, listing["commit"]),
            refusal=self._file_refused,
        )

    # ---- questions to the Hub

    def _identity(self):
        return [self.repo, self.revision, self.files, self.text, self.id, digest(os.environ.get("HF_ENDPOINT", HUB))]

    def _subject(self):
        return self.repo

    def _ask_listing(self):
        """
        {"commit", "files": [[path, bytes, sha256 or None, git's sha1]]}; a commit never changes, so it is asked once.

        A member of a tar is [tar!/path, bytes, the tar's sha256 or None, the tar's sha1, offset of its first byte].
        """
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(os.environ.get("HF_ENDPOINT"), library_name="phoenix-data-engine")
        commit = self._ask(lambda: api.dataset_info(self.repo, revision=self.revision, timeout=fetch.TIMEOUT_SECS).sha)
        pattern, _, members = self.files.partition("!/")
        if self.revision == "main" and re.fullmatch("[0-9a-f]{40}", commit or ""):
            print(f"{self.name}: main of {self.repo} is {commit}; this folder keeps to it", file=sys.stderr, flush=True)
        elif not str(commit or "").startswith(self.revision):
            answer = f"with the commit {commit[:12]}" if commit else "without a commit"
            raise UserError(f"source {self.name}: {self.repo} was asked for at {self.revision[:12]}, the server answers {answer}")
        folder = re.match(r"(?:[^*?\[]*/)?", pattern)[0].rstrip("/") or None  # only the part of the tree that can match
        where = {"repo_type": "dataset", "revision": commit, "recursive": True}
        tree = self._ask(lambda: list(api.list_repo_tree(self.repo, folder, **where)))
        files = []
        for entry in tree:
            is_card = entry.path == "README.md" != self.files  # of the data set, which is no part of it
            if isinstance(entry, RepoFile) and fnmatch.fnmatchcase(entry.path, pattern) and not is_card:
                files.append([entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id])
        if members:
            found = [member for file in files for member in self._members(file, {"commit": commit})]
            files = [file for file in found if fnmatch.fnmatchcase(file[0].partition("!/")[2], members)]
        readable = [(path, size) for path, size, *_ in files if kind_of(path)[0]]
        if not readable:
            raise UserError(f"source {self.name}: {self.repo} at {commit[:12]} has no file {self.files!r} that can be read")
        if not any(size for _, size in readable):
            raise UserError(f"source {self.name}: {readable[0][0]} in {self.repo} has 0 bytes, as all of {self.files!r}")
        return {"commit": commit, "files": sorted(files)}

    def _members(self, file, listing):
        """The members of a tar as entries of the listing, from its headers alone."""
        path, size, *hashes = file
        stream = HeaderFile(size, lambda start, n: self._read_range(file, listing, start, n))
        found = []
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (header := archive.next()) is not None:
                    archive.members = []  # tarfile would keep every name
                    if header.isreg() and not header.issparse():
                        found.append([f"{path}!/{header.name}", header.size, *hashes, header.offset_data])
                    if len(found) > MAX_MEMBERS:
                        raise UserError(
                            f"source {self.name}: {path} has over {MAX_MEMBERS:,} members; files={path!r} takes it whole"
                        )
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"source {self.name}: {path} is no tar without compression: {error}") from None
        return found

    def _ask(self, question):
        """A question to the Hub's API, repeated while it may help; UserError for a refusal."""
        import httpx2
        from huggingface_hub import get_token
        from huggingface_hub.errors import HfHubHTTPError

        hosts.check_key(self.name, "HF_TOKEN", get_token() or "-")
        url = os.environ.get("HF_ENDPOINT", HUB)

        def attempt():
            try:
                return question()
            except HfHubHTTPError as error:
                answer = error.response
                status = answer.status_code if answer is not None else 0
                if status in fetch.RETRIED:
                    wait = hosts.slow_down(self.downloads, hosts.host_of(url), answer.headers, status)
                    raise RetryableError(f"the Hub answers {status}", wait) from None
                code = answer.headers.get("X-Error-Code", "") if answer is not None else ""
                raise UserError(self._set_refused(status, code)) from None
            except httpx2.TransportError as error:
                raise RetryableError(describe(error)) from None
            except ValueError as error:  # an answer that is no JSON, such as a proxy's page
                raise RetryableError(f"the Hub's answer is not understood: {redact_urls(error)[:100]}") from None

        return fetch.ask(self.downloads, RemoteFile(self.name, self.repo), url, attempt)

    def _set_refused(self, status, code):
        who = f"source {self.name}: {self.repo}"
        if code == "RevisionNotFound":
            return f"{who} has no commit {self.revision} (any more)"
        if code == "EntryNotFound":
            return f"{who} has no {self.files!r} at {self.revision[:12]}"
        if code == "GatedRepo" or status == 403:
            return f"{who} {self._gated()}"
        if status in (401, 404):
            return f"{who} is not on the Hub, or is private and {_token_state()}"
        return f"{who}: the Hub answers {status}"

    def _file_refused(self, status):
        if status in (401, 403):
            return self._gated()
        return f"is not in {self.repo} at {self.revision[:12]} (any more)"

    def _gated(self):
        return f"is gated: accept its terms at {HUB}/datasets/{self.repo}; {_token_state()}"

    def _address(self, path, commit):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repo, path, repo_type="dataset", revision=commit, endpoint=os.environ.get("HF_ENDPOINT"))
        return url, build_hf_headers(library_name="phoenix-data-engine")

    # ---- huggingface_hub's own cache

    def _on_disk(self, remote):
        return super()._on_disk(remote) or self._in_cache(remote) is not None

    def _local_file(self, remote):
        if not super()._on_disk(remote) and (cached := self._in_cache(remote)):
            with open(cached, "rb") as file, suppress(RetryableError):  # a damaged one is fetched anew
                fetch.verify(remote, file)
                return cached
        return super()._local_file(remote)

    def _in_cache(self, remote):
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repo, remote.path, repo_type="dataset", revision=remote.revision)
        return Path(path) if isinstance(path, str) and os.path.getsize(path) == remote.size else None


class HeaderFile(RangeFile):
    """A remote tar for tarfile, which reads its headers: each request fetches a little more than one."""

    NEAR = 4096  # bytes
    start, block = 0, b""

    def readinto(self, buffer):
        end = min(self.position + len(buffer), self.size)
        if end <= self.position:
            return 0
        if not self.start <= self.position < end <= self.start + len(self.block):
            self.start = self.position
            self.block = self.read_range(self.start, min(max(len(buffer), self.NEAR), self.size - self.start))
        data = self.block[self.position - self.start :][: len(buffer)]
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def _token_state():
    from huggingface_hub import get_token

    return "the token in HF_TOKEN (or of hf auth login) has no access" if get_token() else "HF_TOKEN is not set"
