"""
Sources: where documents come from. A config names them in its list `sources`.

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
from data_engine.sources.fetch import Place
from data_engine.sources.hub import HuggingFace
from data_engine.sources.local import Local
from data_engine.sources.python_docs import PythonDocs
from data_engine.sources.source import digest
from data_engine.sources.web import ASKED, Web
from phoenix.config import UserError

__all__ = ["AIKosh", "HuggingFace", "Local", "PythonDocs", "Web"]


def placed(cfg, out):
    """The sources of a run, those that fetch told where their downloads lie and how many tokens they are to give."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phoenix" / re.sub(r"\W+", "-", str(out))
    folder = cfg.downloads or (home if "://" in str(out) else Path(out).resolve() / "work" / "downloads")
    switches = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))  # huggingface_hub's
    offline = cfg.offline or any(switch in ("1", "ON", "YES", "TRUE") for switch in switches)
    ours = {"seed": cfg.seed, "offline": offline, "keep": cfg.keep_downloads, "write": not cfg.plan}
    ours |= {"folder": str(folder), "tokens_per_byte": tokens_per_byte(cfg.vocab_size)}
    steps = (cfg.extract, cfg.language, cfg.quality, cfg.pii, cfg.decontaminate, cfg.dedup)
    ours["cleaning"] = digest([dataclasses.asdict(step) for step in steps], cfg.vocab_size, cfg.val_fraction)
    sources = []
    for source in cfg.sources:
        if hasattr(source, "place"):
            tokens = None if cfg.tokens is None else round(cfg.tokens * source.share)
            source = dataclasses.replace(source, place=Place(tokens=tokens, **ours))
        sources.append(source)
    return tuple(sources)


def survey(sources):
    """Asks the servers for what the config names, before anything is fetched; UserError with a line for each that is not there."""

    def problem(source):
        try:
            source.look()
        except UserError as error:
            return str(error)
        except OSError as error:  # of the folder for the downloads
            if error.filename is None:
                raise
            return f"source {source.name}: downloads cannot lie in {source.place.folder}: {error.strerror}"

    ASKED.clear()
    asked = [source for source in sources if hasattr(source, "look")]
    with ThreadPoolExecutor(max(1, len(asked))) as pool:  # each waits for its own server
        problems = list(filter(None, pool.map(problem, asked)))
    if problems:
        raise UserError("\nerror: ".join(problems))


def learn(sources, tokens):
    """What the files of each source gave, {source: tokens to choose from}: the next run takes as many files as that tells."""
    for source in sources:
        if hasattr(source, "learn"):
            source.learn(tokens[source.name])
