"""
The reference corpus: 2 B tokens of English from six sources, or seven with a key of AIKosh.

    python -m data_engine.run configs/corpus_2b.py --plan      checks every id below, prints what the run will fetch and need
    python -m data_engine.run configs/corpus_2b.py             writes data/corpus_2b, which configs/125m.py trains on

Estimated from the known sizes: 7 GB to fetch, 40 GB of disk, an hour of work on 2 cores; --plan estimates it for this machine. A
run may be stopped at any time. AIKosh is a source if AIKOSH_API_KEY or AIKOSH_ACCESS_KEY is set; else Wikipedia takes its share.

The Hub was out of reach when this was written (2026-11-25). Each id stands in public code, that of OpenWebText2 without a commit:
    wikipedia       id, commit, fields, licence: ten repositories, and the card
    c4              id, commit, file names, fields: ten repositories; licence: the card
    openwebtext     id and file name of OpenWebText2: public code of 2026. Nobody pins it, so the first run writes down the commit
                    of main. Its tar holds a file a month, and a run fetches the months that it needs. The fallback, the first
                    OpenWebText: id and commit: ten repositories; its Parquet files: one
    gutenberg       id and commit: nine files; file names: two, each with the size and sha256 of a file
    stackexchange   id, commit, field: three repositories; file names: one that listed the tree
    arxiv           id, commit, field, count and size of the files: five repositories
    aikosh          id: two programs. Nobody confirms what its files hold; the platform tells the licence. Prefer ids of sets that
                    you have seen: `aikosh.list_directory("dataset")`
The run asks the Hub for all of them before it fetches anything, and prints a sentence for each that differs from this config.
"""

import os
import sys

from data_engine.download import AIKosh, HuggingFace

tokens = 2_000_000_000
_aikosh = 0.01 if os.environ.get("AIKOSH_API_KEY") or os.environ.get("AIKOSH_ACCESS_KEY") else 0.0
_openwebtext = ("segyges/OpenWebText2", "main", "openwebtext2.jsonl.zst.tar!/*.jsonl.zst")
# _openwebtext = ("Skylion007/openwebtext", "b4325f019c648b1641a1784748667e8b74e5e064", "plain_text/*.parquet")  # fallback, CC0-1.0

sources = [
    HuggingFace(
        "wikipedia",
        "wikimedia/wikipedia",
        "b04c8d1ceb2f5cd4588862100d08de323dccfbaa",
        files="20231101.en/*.parquet",
        share=0.25 - _aikosh,
        id="url",
        licence="CC-BY-SA-3.0 AND GFDL-1.3-or-later",
    ),
    HuggingFace(
        "c4",
        "allenai/c4",
        "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        files="en/c4-train.*.json.gz",
        share=0.30,
        id="url",
        licence="ODC-BY-1.0",
        web=True,
    ),
    HuggingFace(
        "openwebtext",
        *_openwebtext,
        share=0.15,
        licence="MIT",  # of the collection; the pages' own copyright remains
        web=True,
    ),
    HuggingFace(
        "gutenberg",
        "common-pile/project_gutenberg_filtered",
        "3cdf6879c807f4e4e063f2ceb23bc268d8c29ab7",
        files="project_gutenberg-dolma-*.json.gz",
        share=0.08,
        id="id",
        licence="LicenseRef-public-domain-US",
    ),
    HuggingFace(
        "stackexchange",
        "common-pile/stackexchange_filtered",
        "c0ac7373830c688a43fc12d1988c4b19ccd884ab",
        files="stackexchange-dolma-*.json.gz",
        share=0.12,
        id="id",
        licence="CC-BY-SA-4.0",  # of a document that does not name its own
    ),
    HuggingFace(
        "arxiv",
        "common-pile/arxiv_papers_filtered",
        "033cf7f53f9b348deec868c1a5a48484f3ee9e52",
        files="arxiv-papers-*.json.gz",
        share=0.10,
        id="id",
        licence="CC-BY-4.0",  # of a document that does not name its own: CC BY, CC BY-SA or CC0
    ),
]
if not _aikosh:
    print("AIKOSH_API_KEY is not set: the corpus is made without AIKosh, Wikipedia takes its share", file=sys.stderr)
else:
    sources.append(AIKosh("aikosh", "403283a7-2042-4b42-946b-b51babcc58b3", share=_aikosh))
