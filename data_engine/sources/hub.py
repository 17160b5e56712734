"""
HuggingFace: files of a data set of the Hub at one commit, fetched by pinned revision and checked against the Hub's own hashes.

    HuggingFace("c4", "allenai/c4", "1588ec454efa...", files="en/c4-train.*.json.gz", share=0.35, licence="ODC-BY", web=True)

No loading script is run and no split is guessed: `files` names the files, readers.py reads them. HF_TOKEN (or `hf auth login`)
opens gated sets, HF_ENDPOINT leads to another Hub. A file that huggingface_hub's own cache holds is taken from there. How many of
the files a run takes: budget.py.

drops  unknown_type   files that `files` takes in and no reader reads; and what the readers drop
"""

import fnmatch
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from data_engine.sources import budget, fetch
from data_engine.sources.fetch import Failure, FetchError, Place, Remote
from data_engine.sources.readers import VERSION, kind_of, read_file
from data_engine.sources.source import Chunk, Chunks, Job, check_source, digest, job_name, steady
from phoenix.config import UserError

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HuggingFace:
    name: str  # names the source in every table and file
    repo: str  # owner/name of the data set
    revision: str  # a commit: seven hex digits or more, for a branch moves
    files: str = "*"  # of the data set: a pattern in which * also stands for /
    share: float = 1.0  # fraction of the corpus' tokens
    text: str = "text"  # the field of a record that holds its text
    id: str | None = None  # the field that becomes the document's uri; None: path#row
    licence: str = ""  # of records that do not name their own
    web: bool = False  # pages of the open web: the quality filters sift them
    place: Place = field(default=Place(), repr=False, compare=False, metadata={"in_key": False})  # the run's, not the user's

    @property
    def origin(self):
        return f"{HUB}/datasets/{self.repo}"

    def counted(self):
        """How many of the files a run takes."""
        found = self.look()
        return {"taken": len(self.taken(found)), "listed": len(self.ordered(found))}

    def check(self):
        check_source(self)
        fetch.usable_server(self.name, "HF_ENDPOINT")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo) or re.search(r"--|\.\.", self.repo):
            raise UserError(f"source {self.name}: {self.repo!r} is no owner/name of a data set")
        if not re.fullmatch(r"[0-9a-f]{7,40}", self.revision):
            raise UserError(
                f"source {self.name}: revision {self.revision!r} must be a commit (7 to 40 hex digits): a branch or a tag moves"
            )

    def jobs(self, partition_bytes: int) -> list[Job]:
        """A file a job, as many as the budget needs."""
        found = self.look()
        jobs, others = [], []
        for path, size, sha256, git in self.taken(found):
            settings = (VERSION, self.name, self.text, self.id, self.licence, path, sha256 or git)
            spec = ("file", path, size, sha256, git, found["commit"])
            jobs.append(Job(job_name(path), spec, digest(settings), size))
        for path, *_ in found["files"]:
            if kind_of(path)[0] is None:
                others.append(path)
        if others:
            jobs.append(Job("others", ("others", tuple(others)), digest(VERSION, self.name, others)))
        return sorted(jobs, key=lambda job: job.name)

    def read(self, job: Job) -> Chunks:
        if job.spec[0] == "others":
            chunk = Chunk(self.name)
            for path in job.spec[1]:
                chunk.drop(path, "unknown_type", os.path.splitext(path)[1][:20] or "no suffix")
            yield chunk.take()
            return
        _, path, size, _, _, commit = job.spec
        (remote,) = self.remotes(job)
        local = self._cached(remote, commit) or fetch.download(
            self.place, remote, self._address(path, commit), lambda status: self._gone(status, path)
        )
        chunk = Chunk(self.name, commit, local.stat().st_mtime)
        with steady(self.name, path, lambda: open(local, "rb")) as file:
            yield from read_file(self, file, size, path, path, chunk)
        yield chunk.take()

    def has(self, job: Job):
        """Whether its file is on this machine."""
        whole = (fetch.is_whole(r.file(self.place), r) or self._in_cache(r, job.spec[-1]) is not None for r in self.remotes(job))
        return all(whole)

    def committed(self, job: Job):
        """Its raw partitions are on the disk: the download may go."""
        for remote in self.remotes(job):
            fetch.cut(self.place, remote)

    def remotes(self, job: Job) -> list[Remote]:
        if job.spec[0] == "others":
            return []
        _, path, size, sha256, git, _ = job.spec
        return [self._remote((path, size, sha256, git))]

    def _remote(self, file):
        path, size, sha256, git = file
        return Remote(self.name, path, f"{job_name(path)}-{(sha256 or git)[:12]}", size, sha256, None if sha256 else git)

    # ---- what the Hub says

    def look(self) -> dict:
        """
        {"commit", "files": [[path, bytes, sha256, git's sha1]], "looked": of budget.probe, "measured"}; UserError where it is not
        what the config says. A commit never changes, so what was seen once is not asked again; it is kept with the downloads.
        """
        saved = fetch.remembered(self.place, self.name, self._identity())
        if saved:
            return saved
        if self.place.offline:
            raise UserError(f"source {self.name}: nothing is known of {self.repo} yet; run once without --offline")
        try:
            commit, files = self._listing()
            found = {"of": self._identity(), "commit": commit, "files": files, "looked": None, "measured": None}
            readable = self.ordered(found)
            if not readable:
                raise UserError(f"source {self.name}: {self.repo} at {commit[:12]} has no file {self.files!r} that can be read")
            if not any(size for _, size, *_ in readable):
                raise UserError(f"source {self.name}: {readable[0][0]} in {self.repo} has 0 bytes, as all of {self.files!r}")
            found["looked"] = budget.probe(self, readable, lambda file, start, n: self._range(file, commit, start, n))
        except FetchError as error:
            raise UserError(str(error)) from None
        if found["looked"]["problem"]:
            raise UserError(f"source {self.name}: {found['looked']['problem']}")
        fetch.remember(self.place, self.name, found)
        return found

    def ordered(self, found):
        """The readable files in the order in which they are taken."""
        return budget.in_order([file for file in found["files"] if kind_of(file[0])[0]], self.place.seed)

    def taken(self, found):
        files = self.ordered(found)
        return files[: budget.count(files, self.place, found["looked"], self.web, found["measured"])]

    def learn(self, tokens):
        """After a run: its files gave so many tokens to choose from. The next run takes as many files as that tells it."""
        found = self.look()
        if self.place.tokens is not None and not self.place.offline:
            measured = budget.measured(self.place, tokens, self.taken(found))
            fetch.remember(self.place, self.name, found | {"measured": measured})

    def _identity(self):
        return [self.repo, self.revision, self.files, self.text, self.id, digest(os.environ.get("HF_ENDPOINT", HUB))]

    def _listing(self):
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api, about = HfApi(os.environ.get("HF_ENDPOINT"), library_name="phoenix-data-engine"), Remote(self.name, self.repo, "")
        commit = self._ask(about, lambda: api.dataset_info(self.repo, revision=self.revision, timeout=fetch.TIMEOUT_SECS).sha)
        if not str(commit or "").startswith(self.revision):
            said = f"with the commit {commit[:12]}" if commit else "without a commit"
            raise UserError(f"source {self.name}: {self.repo} was asked for at {self.revision[:12]}, the server answers {said}")
        folder = re.match(r"(?:[^*?\[]*/)?", self.files)[0].rstrip("/") or None  # only the part of the tree that can match
        where = {"repo_type": "dataset", "revision": commit, "recursive": True}
        tree = self._ask(about, lambda: list(api.list_repo_tree(self.repo, folder, **where)))
        files = []
        for entry in tree:
            if isinstance(entry, RepoFile) and fnmatch.fnmatchcase(entry.path, self.files):
                files.append([entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id])
        return commit, sorted(files)

    def _ask(self, about, question):
        """A question to the Hub's API; Failure where it may be asked again, UserError where the answer is no."""
        import httpx2
        from huggingface_hub import get_token
        from huggingface_hub.errors import HfHubHTTPError

        fetch.usable_key(self.name, "HF_TOKEN", get_token() or "-")
        url = os.environ.get("HF_ENDPOINT", HUB)

        def ask():
            try:
                return question()
            except HfHubHTTPError as error:
                answer = error.response
                status = answer.status_code if answer is not None else 0
                if status in fetch.RETRIED:
                    raise fetch.busy(self.place, url, answer.headers, status, f"the Hub answers {status}") from None
                code = answer.headers.get("X-Error-Code", "") if answer is not None else ""
                raise UserError(self._refused(status, code)) from None
            except httpx2.TransportError as error:
                raise Failure(fetch.told(error)) from None
            except ValueError as error:  # an answer that is no JSON, such as a page of a proxy
                raise Failure(f"the Hub's answer is not understood: {fetch.hide(error)[:100]}") from None

        return fetch.call(self.place, about, url, ask)

    def _refused(self, status, code):
        who = f"source {self.name}: {self.repo}"
        if code == "RevisionNotFound":
            return f"{who} has no commit {self.revision} (any more)"
        if code == "EntryNotFound":
            return f"{who} has no {self.files!r} at {self.revision[:12]}"
        if code == "GatedRepo" or status == 403:
            return f"{who} {self._gated()}"
        if status in (401, 404):
            return f"{who} is not on the Hub, or is private and {_token_said()}"
        return f"{who}: the Hub answers {status}"

    def _gone(self, status, path):
        if status in (401, 403):
            return self._gated()
        return f"is not in {self.repo} at {self.revision[:12]} (any more)"

    def _gated(self):
        return f"is gated: accept its terms at {HUB}/datasets/{self.repo}; {_token_said()}"

    def _address(self, path, commit):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repo, path, repo_type="dataset", revision=commit, endpoint=os.environ.get("HF_ENDPOINT"))
        return lambda: (url, build_hf_headers(library_name="phoenix-data-engine"))

    def _range(self, file, commit, start, n):
        path = file[0]
        return fetch.read_range(
            self.place, self._remote(file), self._address(path, commit), start, n, lambda status: self._gone(status, path)
        )

    # ---- huggingface_hub's own cache

    def _in_cache(self, remote, commit):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, remote.path, repo_type="dataset", revision=commit)
        return Path(found) if isinstance(found, str) and os.path.getsize(found) == remote.size else None

    def _cached(self, remote, commit):
        if fetch.is_whole(remote.file(self.place), remote):
            return None
        found = self._in_cache(remote, commit)
        if found is None:
            return None
        with open(found, "rb") as file:
            try:
                fetch.verify(remote, file)
            except Failure:
                return None  # damaged there: fetched anew
        return found


def _token_said():
    from huggingface_hub import get_token

    return "the token in HF_TOKEN (or of hf auth login) has no access" if get_token() else "HF_TOKEN is not set"
