"""
The straight line: sources -> raw -> documents -> duplicates -> tokenizer -> shards.

    python -m data_engine.run [CONFIG.py] [--setting=value ...]     default configs/corpus_quickstart.py
    python -m data_engine.run CONFIG.py --plan                      what it would read, make and need; writes nothing

A run may be stopped at any time; the same command goes on where it stopped. out/report.html shows what became of every record.
"""

import dataclasses
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from phoenix.signals import exit_on_ctrl_c, stoppable

if __name__ == "__main__":
    exit_on_ctrl_c()  # the imports below take seconds
from data_engine import download, plan, report
from data_engine.decontaminate import DecontaminateConfig, decontaminate, evaluation_grams, tasks_at_hand
from data_engine.dedup import DedupConfig, choose_bands, find_duplicates, sign, survivors
from data_engine.engine import FULL_DISK, Engine, available_cpus
from data_engine.extract import ExtractConfig, extract
from data_engine.language import LanguageConfig, identify_language
from data_engine.mix import MixConfig, allocate, encode_documents, shares
from data_engine.pii import PiiConfig, redact
from data_engine.quality import QualityConfig, filter_quality
from data_engine.shards import make_shards
from data_engine.step import EngineError, Step
from data_engine.tokenizer import TokenizerConfig, encode, make_tokenizer, tokens_per_byte
from data_engine.xlm_roberta import find_weights, second_opinion
from phoenix.config import UserError, load, main_guard, one_line
from phoenix.files import disk_is_full

STAGES = ("raw", "documents", "duplicates", "tokenizer", "shards")


@dataclass(frozen=True)
class Settings:
    sources: tuple = ()  # Local(...), PythonDocs(...), ...: only in a config file
    out: str | None = None  # folder of all output; None: data/<name of the config>
    seed: int = 1  # decides every choice: sample, mix, order, validation
    num_cpus: int | None = None  # cores to use; None: all
    ray_address: str | None = None  # a Ray cluster, "auto" or host:port; None: RAY_ADDRESS, else this machine
    partition_bytes: int = 64 << 20  # content of a raw partition, the unit of work and of resuming
    until: str = "shards"  # last stage to run: raw, documents, duplicates, tokenizer, shards
    tokens: int | None = None  # budget of the corpus; None: the most that keeps the shares without repeating a document
    vocab_size: int = 32768  # entries of the tokenizer, special tokens included
    val_fraction: float = 0.005  # fraction of the documents, chosen by hash, held out for validation
    shard_tokens: int = 100_000_000  # approximate tokens a shard
    verify: bool = False  # read all finished files and compare them with their checksums; what is damaged is made anew
    plan: bool = False  # print what the run would do, and exit
    offline: bool = False  # fetch nothing; use the downloads on this machine
    downloads: str | None = None  # folder on this machine for downloads; None: work/downloads in `out`
    keep_downloads: bool = True  # keep them after they are cut into raw/; False: a new version of a reader fetches them again
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    pii: PiiConfig = field(default_factory=PiiConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)


def pipeline(cfg, engine, made):
    """The whole line. `made` collects the partitions of every stage, for the report."""
    download.survey(cfg.sources)
    made["raw"] = raw = engine.ingest(cfg.sources)
    if cfg.until == "raw":
        return

    language = dataclasses.replace(cfg.language, second=find_weights(cfg.language, cfg.offline))
    evaluation = evaluation_grams(cfg, engine)
    clean = [Step(extract, cfg.extract), Step(identify_language, language)]
    clean += [Step(second_opinion, language, actor=True)] if language.second else []
    clean += [Step(filter_quality, cfg.quality, sources=frozenset(source.name for source in cfg.sources if source.web))]
    clean += [Step(redact, cfg.pii)]
    clean += [Step(decontaminate, side_inputs=True)] if evaluation else []
    made["documents"] = docs = engine.map("documents", raw, clean, evaluation)
    if cfg.until == "documents":
        return

    if not sum(part.receipt["rows"] for part in docs):
        download.record_yields(cfg.sources, dict.fromkeys(shares(cfg), 0))
        raise UserError(f"no document is left; {engine.out}/report.html says why")
    signatures = engine.map("signatures", docs, [Step(sign, cfg.dedup, atomic=True)], folder="work/signatures")
    made["pairs"], made["duplicates"] = find_duplicates(cfg, engine, docs, signatures)
    if cfg.until == "duplicates":
        return

    dupes = made["duplicates"]
    sizes = survivors(engine, signatures, dupes)
    sampled, encoder = make_tokenizer(cfg, engine, docs, dupes, sizes)
    if cfg.until == "tokenizer":
        return

    ratios = tokens_per_byte(cfg, engine, sampled, encoder) if cfg.tokens else None
    made["tokens"], targets, available = encode_documents(cfg, engine, docs, dupes, sizes, ratios, Step(encode, encoder))
    try:
        allocate({s: int(n) for s, n in available.items()}, shares(cfg), cfg.tokens, cfg.mix)
    except UserError:  # a source runs short and mix.short is "fail"; the next run takes more of its files
        download.record_yields(cfg.sources, available)
        raise
    made["order"], made["shards"] = make_shards(cfg, engine, made["tokens"], targets, available, encoder)
    download.record_yields(cfg.sources, available)


def check(cfg):
    """UserError for settings that no run could have, before any work."""
    if not cfg.sources:
        raise UserError("sources= is empty: a config file gives it, for example sources = [Local('mine', '/texts', share=1.0)]")
    for source in cfg.sources:
        if isinstance(source, type) or not all(hasattr(source, method) for method in ("check", "jobs", "read")):
            raise UserError(f"sources= holds {source!r}, which is no source such as Local('mine', '/texts', share=1.0)")
        source.check()
    if cfg.until not in STAGES:
        raise UserError(f"until={cfg.until!r} is not a stage; the stages are {', '.join(STAGES)}")
    names = [source.name for source in cfg.sources]
    if len(set(names)) < len(names):
        raise UserError(f"two sources have the same name: {', '.join(sorted(n for n in set(names) if names.count(n) > 1))}")
    total = sum(source.share for source in cfg.sources)
    if abs(total - 1) > 1e-6:
        raise UserError(f"the shares of the sources sum to {total:g}; they must sum to 1")
    for name, ok, wanted in (
        ("vocab_size", 300 <= cfg.vocab_size <= 65536, "300 to 65536, so that a token fits two bytes"),
        ("val_fraction", 0 <= cfg.val_fraction < 1, "0 to 1"),
        ("tokens", cfg.tokens is None or cfg.tokens > 0, "more than 0"),
        ("partition_bytes", cfg.partition_bytes >= 1 << 16, "at least 65536"),
        ("dedup.threshold", 0 < cfg.dedup.threshold <= 1, "above 0 and at most 1"),
        ("num_cpus", cfg.num_cpus is None or cfg.num_cpus > 0, "at least 1, or None for all"),
        ("shard_tokens", cfg.shard_tokens >= 1000, "at least 1000"),
        ("dedup.bands", cfg.dedup.bands is None or cfg.dedup.bands > 0, "at least 1, or None for what the threshold asks for"),
        ("dedup.rows", cfg.dedup.rows is None or cfg.dedup.rows > 0, "at least 1, or None for what the threshold asks for"),
        ("dedup.bands", (cfg.dedup.bands is None) == (cfg.dedup.rows is None), "given together with dedup.rows, or neither"),
        ("dedup.hashes", cfg.dedup.hashes >= 2, "at least 2"),
        ("dedup.ngram", cfg.dedup.ngram > 0, "at least 1"),
        ("mix.max_epochs", cfg.mix.max_epochs > 0, "at least 1"),
        ("tokenizer.sample_bytes", cfg.tokenizer.sample_bytes > 0, "more than 0"),
        ("tokenizer.document_bytes", cfg.tokenizer.document_bytes > 0, "more than 0"),
        ("language.keep", all(re.fullmatch("[a-z]{2,3}", code) for code in cfg.language.keep), "codes such as en or fr"),
        ("mix.short", cfg.mix.short in ("renormalise", "fail"), "renormalise or fail"),
    ):
        if not ok:
            raise UserError(f"{name} must be {wanted}")
    tasks_at_hand(cfg.decontaminate)
    if cfg.language.model and not Path(cfg.language.model).is_file():
        raise UserError(f"language.model={cfg.language.model} is not a file")


def main(argv):
    path = next((a for a in argv if not a.startswith("-")), "configs/corpus_quickstart.py")
    argv = [path, *(a for a in argv if a.startswith("-"))]
    cfg = load(Settings, argv)
    check(cfg)
    cfg = dataclasses.replace(cfg, dedup=choose_bands(cfg.dedup))
    out = cfg.out or f"data/{Path(path).stem}"
    cfg = dataclasses.replace(cfg, sources=download.add_download_settings(cfg, out))
    if cfg.plan:
        print(plan.describe(cfg, out, cfg.num_cpus or available_cpus()))
        return 0
    try:
        with stoppable(), Engine(out, cfg.num_cpus, cfg.ray_address, cfg.partition_bytes, cfg.verify) as engine:
            made = {}
            try:
                pipeline(cfg, engine, made)
            except (EngineError, UserError, KeyboardInterrupt):
                if "raw" in made:
                    with suppress(OSError):  # the first error is the one to print
                        report.write(cfg, engine, made, argv)
                raise
            print(report.write(cfg, engine, made, argv))
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on where it stopped ({out})", file=sys.stderr)
        return 130
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # in the driver; in a worker it is an EngineError
        full = disk_is_full(out, error)
        print(f"error: {FULL_DISK if full else f'{out}: {one_line(error)}'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main_guard(main)
