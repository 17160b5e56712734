"""
Sources of documents, for the list `sources` of a config.

    Local(name, path, share=1.0)                      files on disk or in a store                          local.py
    HuggingFace(name, repo, revision, files="*")      files of a data set of the Hub, at a commit          hub.py
    AIKosh(name, dataset, version=None)               files of a data set of AIKosh, by its id             aikosh.py
    Web(name, urls, sha256=None)                      files at addresses                                   web.py
    PythonDocs(name)                                  documentation of the installed Python: the default   python_docs.py
"""

import dataclasses
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_engine.sources.aikosh import AIKosh
from data_engine.sources.budget import tokens_per_byte
from data_engine.sources.fetch import DownloadSettings
from data_engine.sources.hub import HuggingFace
from data_engine.sources.listing import RemoteFiles
from data_engine.sources.local import Local
from data_engine.sources.python_docs import PythonDocs
from data_engine.sources.source import digest
from data_engine.sources.web import Web
from phoenix.config import UserError

__all__ = ["AIKosh", "HuggingFace", "Local", "PythonDocs", "Web"]


def add_download_settings(cfg, out):
    """The sources of a run; those that download get the folder, the budget and the switches."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phoenix" / re.sub(r"\W+", "-", str(out))
    folder = cfg.downloads or (cache if "://" in str(out) else Path(out).resolve() / "work" / "downloads")
    switches = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))  # huggingface_hub's
    steps = (cfg.extract, cfg.language, cfg.quality, cfg.pii, cfg.decontaminate, cfg.dedup)
    settings = DownloadSettings(
        folder=str(folder),
        tokens_per_byte=tokens_per_byte(cfg.vocab_size),
        cleaning=digest([dataclasses.asdict(step) for step in steps], cfg.vocab_size, cfg.val_fraction),
        seed=cfg.seed,
        offline=cfg.offline or any(switch in ("1", "ON", "YES", "TRUE") for switch in switches),
        keep=cfg.keep_downloads,
        write=not cfg.plan,
    )
    sources = []
    for source in cfg.sources:
        if isinstance(source, RemoteFiles):
            tokens = None if cfg.tokens is None else round(cfg.tokens * source.share)
            source = dataclasses.replace(source, downloads=dataclasses.replace(settings, tokens=tokens))
        sources.append(source)
    return tuple(sources)


def survey(sources):
    """Asks the servers for what the config names before anything is fetched; UserError with a line for each source that fails."""

    def problem(source):
        try:
            source.list_files(refresh=True)
        except UserError as error:
            return str(error)
        except OSError as error:  # of the folder for the downloads
            if error.filename is None:
                raise
            return f"source {source.name}: downloads cannot lie in {source.downloads.folder}: {error.strerror}"

    remote = [source for source in sources if isinstance(source, RemoteFiles)]
    with ThreadPoolExecutor(max(1, len(remote))) as pool:  # each waits for its own server
        problems = list(filter(None, pool.map(problem, remote)))
    if problems:
        raise UserError("\nerror: ".join(problems))


def record_yields(sources, tokens):
    """Notes {source: tokens that its files gave}: the next run takes as many files as that tells."""
    for source in sources:
        if isinstance(source, RemoteFiles):
            source.record_yield(tokens[source.name])
