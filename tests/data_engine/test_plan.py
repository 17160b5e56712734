"""The text of --plan; test_corpus_2b.py holds its figures against those of a run."""

import dataclasses
import re
import shutil
from collections import namedtuple

import pytest

from data_engine import download, plan
from data_engine.download import HuggingFace, Local, PythonDocs
from data_engine.run import Settings
from data_engine.sources import budget
from phoenix.config import UserError
from tests import corpus
from tests.servers.hub import COMMIT, Hub

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    corpus.write(tmp_path / "in", slice(0, 120))
    with Hub({"owner/set": {f"part-{i}.txt": text.encode() for i, text in enumerate(corpus.texts()[120:160])}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        sources = (
            Local("first", str(tmp_path / "in"), share=0.8),
            HuggingFace("second", "owner/set", COMMIT, files="*.txt", share=0.2),
        )
        yield dataclasses.replace(Settings(), sources=sources, tokens=40_000, vocab_size=2048, plan=True)


def planned(cfg, tmp_path):
    cfg = dataclasses.replace(cfg, sources=download.add_download_settings(cfg, tmp_path / "out"))
    return plan.describe(cfg, tmp_path / "out", 2)


def test_a_plan_shows_what_each_source_gives_and_writes_nothing(cfg, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    text = planned(cfg, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    files = len([path for path in (tmp_path / "in").iterdir()])
    assert rows["first"][3:6] == [str(files), "of", str(files)] and float(rows["first"][6]) == 0
    assert 0 < int(rows["second"][3]) < 40 and float(rows["second"][6]) > 0
    assert float(rows["first"][9]) == pytest.approx(0.032) and float(rows["second"][9]) == pytest.approx(0.008)
    for word in ("budget", "fetch", "disk", "memory", "shm", "time"):
        assert rows[word]
    assert "warning" not in text


def test_the_records_of_files_on_disk_are_estimated(cfg):
    texts = sum(len(text.encode()) for text in corpus.texts()[:120])
    found = plan.estimate(cfg.sources[0], cfg)
    assert found.records == pytest.approx(122, rel=0.15) and found.text == pytest.approx(texts, rel=0.3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("disk", "the disk is too small"),
        ("memory", "the memory is too small"),
        ("shm", "/dev/shm is smaller than the object store"),
    ],
)
def test_a_machine_that_is_too_small_gets_a_warning(cfg, tmp_path, monkeypatch, name, words):
    if name == "memory":
        monkeypatch.setattr(plan, "available_ram", lambda: 1 << 30)
    else:
        real = shutil.disk_usage
        tight = lambda path: Usage(1, 1, 1000) if (str(path) == "/dev/shm") == (name == "shm") else real(path)  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", tight)
    assert words in planned(cfg, tmp_path)


def test_a_source_that_will_run_short_gets_a_warning(cfg, tmp_path):
    text = planned(dataclasses.replace(cfg, tokens=4_000_000), tmp_path)
    assert re.search(r"warning: second has about 0\.\d+ M of the 0\.80 M tokens of its share", text)
    assert "40 of 40" in text, "all its files are taken"


def test_a_source_that_has_moved_ends_the_plan(cfg, tmp_path):
    moved = dataclasses.replace(cfg.sources[1], repo="owner/gone")
    with pytest.raises(UserError, match="owner/gone is not on the Hub"):
        planned(dataclasses.replace(cfg, sources=(cfg.sources[0], moved)), tmp_path)


@pytest.mark.slow
def test_the_quickstart_can_be_planned(tmp_path):
    cfg = dataclasses.replace(Settings(), sources=(PythonDocs("python"),), plan=True)
    assert re.search(r"^python +PythonDocs +1\.000", planned(cfg, tmp_path), re.M)


def test_tokens_a_byte_fall_with_the_vocabulary():
    values = [budget.tokens_per_byte(size) for size in (300, 512, 700, 2048, 10_000, 32768, 65536)]
    assert values == sorted(values, reverse=True) and 0.2 < values[-1] < values[0] < 0.6
