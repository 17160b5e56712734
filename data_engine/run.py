"""
The straight line: sources -> raw -> documents -> duplicates -> tokenizer -> shards.

    python -m data_engine.run [CONFIG.py] [--setting=value ...]     default configs/corpus_quickstart.py
    python -m data_engine.run CONFIG.py --plan                      what it would read, make and need; writes nothing

A run may be stopped at any time; the same command goes on where it was. out/report.html shows what became of every record.
"""

import dataclasses
import errno
import math
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_engine import download, plan, report
from data_engine.decontaminate import DecontaminateConfig, decontaminate, item_grams, tasks_at_hand
from data_engine.dedup import (
    DedupConfig,
    candidates,
    choose_bands,
    cluster,
    distinct,
    pair,
    remove_duplicates,
    repeated,
    shingles,
    sign,
    split_bands,
    unpack_ids,
)
from data_engine.engine import FULL_DISK, Engine, EngineError, Step, available_cpus, digest, stoppable
from data_engine.extract import ExtractConfig, extract
from data_engine.language import LanguageConfig, identify_language
from data_engine.mix import MixConfig, choose, is_validation, place, plan_mix, take_fraction
from data_engine.pii import PiiConfig, redact
from data_engine.quality import QualityConfig, filter_quality
from data_engine.shards import describe, write_shard
from data_engine.storage import sha256
from data_engine.tokenizer import EncodeConfig, TokenizerConfig, choose_encoder, encode, sample, train_tokenizer
from data_engine.xlm_roberta import find_weights, second_opinion
from phoenix.config import UserError, load, main_guard
from phoenix.tasks import TASKS

STAGES = ("raw", "documents", "duplicates", "tokenizer", "shards")
MARGIN = 1.1  # documents encoded beyond what the budget is estimated to take; the exact choice follows from their tokens
BAND_ROWS = 5_000_000  # (key, id) rows that one bucket of the candidate search holds in memory: about 0.4 GB with their order
BUCKET_TEXT = 256 << 20  # bytes of documents, were all of them candidates, whose 5-grams one bucket of verification holds: 0.5 GB


@dataclass(frozen=True)
class Settings:
    sources: tuple = ()  # Local(...), PythonDocs(...), ...: only in a config file
    out: str | None = None  # folder of everything that the run makes; None: data/<name of the config>
    seed: int = 1  # of every choice: sample, mix, order, validation
    num_cpus: int | None = None  # cores to use; None: all
    ray_address: str | None = None  # a Ray cluster, "auto" or host:port; None: RAY_ADDRESS, else this machine
    partition_bytes: int = 64 << 20  # content of a raw partition, the unit of work and of resuming
    until: str = "shards"  # last stage to run: raw, documents, duplicates, tokenizer, shards
    tokens: int | None = None  # budget of the corpus; None: the most that keeps the shares without repeating a document
    vocab_size: int = 32768  # entries of the tokenizer, special tokens included
    val_fraction: float = 0.005  # of the documents, by hash, held out for validation
    shard_tokens: int = 100_000_000  # tokens a shard, about
    plan: bool = False  # print what the run would do, and do nothing
    offline: bool = False  # fetch nothing: take what is on this machine
    downloads: str | None = None  # folder on this machine for what is fetched; None: work/downloads in `out`
    keep_downloads: bool = True  # when they have been cut into raw/; without them a new version of a reader fetches again
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    pii: PiiConfig = field(default_factory=PiiConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)


def pipeline(cfg, engine, made):
    """The whole engine. `made` gets the partitions of every stage as it is done, for the report."""
    download.survey(cfg.sources)
    made["raw"] = raw = engine.ingest(cfg.sources)
    if cfg.until == "raw":
        return

    language = dataclasses.replace(cfg.language, second=find_weights(cfg.language))
    evaluation = evaluation_grams(cfg, engine)
    clean = [Step(extract, cfg.extract), Step(identify_language, language)]
    clean += [Step(second_opinion, language, actor=True)] if language.second else []
    clean += [Step(filter_quality, cfg.quality, sources=frozenset(source.name for source in cfg.sources if source.web))]
    clean += [Step(redact, cfg.pii)]
    clean += [Step(decontaminate, beside=True)] if evaluation else []
    made["documents"] = docs = engine.map("documents", raw, clean, evaluation)
    if cfg.until == "documents":
        return

    if not sum(part.receipt["rows"] for part in docs):
        download.learn(cfg.sources, dict.fromkeys(shares(cfg), 0))
        raise UserError(f"no document is left; {engine.out}/report.html says why")
    signatures = engine.map("signatures", docs, [Step(sign, cfg.dedup, whole=True)], folder="work/signatures")
    made["pairs"], dupes = find_duplicates(cfg, engine, docs, signatures)
    made["duplicates"] = dupes
    if cfg.until == "duplicates":
        return

    sizes = survivors(engine, signatures, dupes)
    tokenizer, encoder = make_tokenizer(cfg, engine, docs, dupes, sizes)
    if cfg.until == "tokenizer":
        return

    made["tokens"], targets, found = encode_documents(cfg, engine, docs, dupes, sizes, tokenizer, encoder)
    try:
        plan_mix({s: int(n) for s, n in found.items()}, shares(cfg), cfg.tokens, cfg.mix)
    except UserError:  # a source runs short, and the config asks to end here: the next run takes more files of it
        download.learn(cfg.sources, found)
        raise
    made["order"], made["shards"] = make_shards(cfg, engine, made["tokens"], targets, found, encoder)
    download.learn(cfg.sources, found)


def evaluation_grams(cfg, engine):
    """The runs of words that no document may hold, as the one partition in a list; an empty list where no data are at hand."""
    tasks = tasks_at_hand(cfg.decontaminate)
    if not tasks:
        return []
    known_by = [(task, TASKS[task].requests_sha256, TASKS[task].gold_sha256) for task in tasks]
    key = digest(Step(decontaminate).identity(), known_by)
    return engine.save("evaluation", key, lambda: [("all", item_grams(tasks, cfg.decontaminate.data))], "work/evaluation")


def find_duplicates(cfg, engine, docs, signatures):
    """Pairs, and duplicates, one partition for each of `docs`: bands -> keyed shuffle -> pairs -> exact check -> survivors."""
    rows = sum(part.receipt["rows"] for part in signatures) * (cfg.dedup.bands + 1)
    buckets = 1 + rows // BAND_ROWS
    split = Step(split_bands, {"dedup": cfg.dedup, "buckets": buckets}, expand=True)
    _, pairs = engine.exchange("pairs", signatures, split, Step(pair, cfg.dedup, expand=True), buckets)

    buckets = 1 + sum(part.receipt["steps"][0]["bytes"] for part in signatures) // BUCKET_TEXT
    key = digest(Step(shingles).identity(), buckets, [p.content for p in pairs])

    def groups():
        yield "all", candidates(distinct(engine.read(pairs, ["left", "right"])), buckets)

    alike = engine.save("candidates", key, groups, "work/candidates")
    split = Step(shingles, cfg.dedup, beside=True, expand=True)
    merge = Step(cluster, {"dedup": cfg.dedup, "sources": [source.name for source in cfg.sources]}, expand=True)
    _, found_in = engine.exchange("clusters", docs, split, merge, buckets, beside=alike)

    def tables():
        found = engine.read(found_in, None)
        ids = [engine.read([part], ["id"])["id"].combine_chunks() for part in docs]
        again, start = repeated(pa.concat_arrays([pa.array([], pa.string()), *ids])), 0
        for part, mine in zip(docs, ids, strict=True):
            copies = found.filter(pc.is_in(found["id"], mine))
            twice = mine.filter(pa.array(again[start : start + len(mine)]))
            twice = twice.filter(pc.invert(pc.is_in(twice, copies["id"].combine_chunks())))
            itself = pa.table([twice, twice, twice, pa.array([1.0] * len(twice), pa.float32())], schema=found.schema)
            yield part.name, pa.concat_tables([copies, itself])
            start += len(mine)

    return pairs, engine.save("duplicates", digest([p.content for p in (*docs, *found_in)]), tables)


def survivors(engine, signatures, dupes):
    """(id, source, bytes) of the documents that are no duplicates: a few bytes a document, held in the driver."""
    table = engine.read(signatures, ["id", "source", "bytes"])
    table = table.filter(pa.array(~repeated(table["id"].combine_chunks())))  # of a record that came twice the first stays
    gone = engine.read(dupes, ["id", "kept_id"])
    gone = gone.filter(pc.not_equal(gone["id"], gone["kept_id"]))["id"].combine_chunks()
    table = table.set_column(0, "id", unpack_ids(table["id"]))
    return table.filter(pc.invert(pc.is_in(table["id"], gone)))


def make_tokenizer(cfg, engine, docs, dupes, sizes):
    """The folder tokenizer/, and the settings of the stage that encodes with it."""
    available = bytes_by_source(cfg, sizes)
    quota = plan_mix(available, shares(cfg), min(cfg.tokenizer.sample_bytes, sum(available.values())), MixConfig(max_epochs=1))
    fractions = {s: quota[s] / available[s] if available[s] else 0.0 for s in quota}
    settings = {"seed": cfg.seed, "fractions": fractions, "document_bytes": cfg.tokenizer.document_bytes}
    steps = [Step(remove_duplicates, beside=True, expand=True), Step(sample, settings, expand=True)]
    parts = engine.map("sample", docs, steps, [dupes], "work/sample", aside=True)

    def make(folder):
        texts = (text for part in parts for text in engine.read([part], ["text"])["text"].to_pylist())
        train_tokenizer(texts, cfg.vocab_size, folder)

    key = digest(Step(train_tokenizer).identity(), cfg.vocab_size, [p.content for p in parts])
    engine.once("tokenizer", key, make)
    text = engine.storage.read("tokenizer/tokenizer.json").decode()
    texts = (text for part in parts for text in engine.read([part], ["text"])["text"].to_pylist())
    return parts, choose_encoder(EncodeConfig(sha256(text), text), texts)


def encode_documents(cfg, engine, docs, dupes, sizes, sampled, encoder):
    """Tokens of the documents that the budget can take; how many to take of every source, exactly; how many it would have."""
    margin, mix = MARGIN, dataclasses.replace(cfg.mix, short="renormalise")  # whether it may run short is asked in the end
    while True:
        fractions = {source.name: 1.0 for source in cfg.sources}
        if cfg.tokens is not None:
            available = bytes_by_source(cfg, sizes)
            ratio = tokens_per_byte(cfg, engine, sampled, encoder)
            wanted = plan_mix({s: round(b * ratio[s]) for s, b in available.items()}, shares(cfg), cfg.tokens, mix)
            parts = {s: wanted[s] / max(1.0, available[s] * ratio[s]) for s in wanted}
            documents = {row["values"]: row["counts"] for row in pc.value_counts(sizes["source"].combine_chunks()).to_pylist()}
            # few documents spread more: with this another round, which every rerun would begin anew, is rare
            spread = {s: 2 / math.sqrt(max(1.0, parts[s] * documents.get(s, 0))) for s in parts}
            fractions = {s: min(1.0, (margin + spread[s]) * parts[s]) for s in parts}
        steps = [
            Step(remove_duplicates, beside=True),
            Step(take_fraction, {"seed": cfg.seed, "fractions": fractions}),
            Step(encode, encoder),
        ]
        tokens = engine.map("tokens", docs, steps, [dupes], "work/tokens")
        counts = engine.read(tokens, ["id", "source", "length"])
        train = counts.filter(pa.array(~is_validation(counts["id"], cfg.seed, cfg.val_fraction)))
        sums = train.group_by("source").aggregate([("length", "sum")])
        found = dict(zip(sums["source"].to_pylist(), sums["length_sum"].to_pylist(), strict=True))
        # a source of which only a part was encoded has at least as much again as its share needs
        found = {s: found.get(s, 0) / fractions[s] if fractions[s] else 0 for s in fractions}
        targets = plan_mix({s: int(n) for s, n in found.items()}, shares(cfg), cfg.tokens, mix)
        short = [s for s in targets if fractions[s] < 1 and targets[s] > found[s] * fractions[s]]
        if not short:
            return tokens, targets, found
        margin *= 1.5


def make_shards(cfg, engine, tokens, targets, available, encoder):
    """shards/: the chosen documents in the order of a hash, cut into files; index.parquet, sources.json, shards.json."""
    counts = engine.read(tokens, ["id", "source", "length"]).rename_columns(["id", "source", "tokens"])
    selection = choose(counts, targets, available, cfg.seed, cfg.val_fraction)
    total = sum(targets.values())
    train_shards = -(-total // cfg.shard_tokens) or 1
    val_shards = -(-int(total * cfg.val_fraction) // cfg.shard_tokens) or 1
    settings = {"seed": cfg.seed, "val_fraction": cfg.val_fraction, "selection": selection}
    settings |= {"train_shards": train_shards, "val_shards": val_shards}
    split, merge = Step(place, settings, expand=True), Step(write_shard, {"train_shards": train_shards}, whole=True)
    buckets = train_shards + val_shards
    order, parts = engine.exchange("shards", tokens, split, merge, buckets, files_to="shards")
    files = [(f["file"], f["bytes"], f["sha256"]) for part in parts for f in part.receipt.get("files", [])]
    index = engine.read(parts, ["shard", "id", "source", "licence", "length"])
    placed, lost = pc.count_distinct(index["id"]).as_py(), sum(sum(p.receipt["steps"][-1]["dropped"].values()) for p in order)
    if placed + lost != len(counts):
        raise EngineError(f"shards: {len(counts)} documents in, {placed} placed + {lost} dropped")
    last = {
        "index.parquet": parts,
        "sources.json": report.to_json(report.attribution(cfg.sources, index, targets, shares(cfg))),
        "shards.json": report.to_json(describe(files, cfg.vocab_size, encoder.sha256)),
    }
    engine.publish("shards", last, digest([part.content for part in parts]), keep=[name for name, _, _ in files])
    return order, parts


def tokens_per_byte(cfg, engine, sampled, encoder):
    """{source: tokens a byte}, measured on up to 2 MB of each in the tokenizer's sample; a quarter where there is none."""
    table = engine.read(sampled, ["source", "text"])
    ratio = {source.name: 0.25 for source in cfg.sources}
    for source in pc.unique(table["source"]).to_pylist():
        texts = table.filter(pc.equal(table["source"], source))["text"]
        ends = pc.cumulative_sum(pc.binary_length(texts).cast(pa.int64())).to_numpy()
        texts = texts.slice(0, 1 + int((ends < 2_000_000).sum()))
        blank = pa.array([""] * len(texts))
        docs = pa.table({"id": blank, "source": blank, "uri": blank, "licence": blank, "text": texts})
        counted = encode(docs, encoder)[0]
        ratio[source] = pc.sum(counted["length"]).as_py() / max(1, pc.sum(counted["bytes"]).as_py())
    return ratio


def bytes_by_source(cfg, sizes):
    """{source: bytes of its documents}, 0 for one of which nothing is left."""
    sums = sizes.group_by("source").aggregate([("bytes", "sum")])
    found = dict(zip(sums["source"].to_pylist(), sums["bytes_sum"].to_pylist(), strict=True))
    return {source.name: found.get(source.name, 0) for source in cfg.sources}


def shares(cfg):
    return {source.name: source.share for source in cfg.sources}


def check(cfg):
    """UserError for what can be seen to be wrong before any work."""
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
    cfg = dataclasses.replace(cfg, sources=download.placed(cfg, out))
    if cfg.plan:
        print(plan.text(cfg, out, cfg.num_cpus or available_cpus()))
        return 0
    try:
        with stoppable(), Engine(out, cfg.num_cpus, cfg.ray_address, cfg.partition_bytes) as engine:
            made = {}
            try:
                pipeline(cfg, engine, made)
            except (EngineError, UserError, KeyboardInterrupt):
                if "raw" in made:
                    with suppress(OSError):  # what ended the run is what is said
                        report.write(cfg, engine, made, argv)
                raise
            print(report.write(cfg, engine, made, argv))
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on where it was ({out})", file=sys.stderr)
        return 130
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # of the driver's own files; the workers' come as EngineError
        full = error.errno == errno.ENOSPC
        print(f"error: {FULL_DISK if full else f'{out}: ' + ' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main_guard(main)
