"""
A stage's output cannot change under the same VERSION: partitions that an older version made would be taken for new ones.

DIGESTS holds, for every function that a Step names and for the readers, its module's VERSION and a digest of its output on the
inputs made here. The digest is of the values, floats to four digits, so no format and no last bit decides.
"""

import ast
import hashlib
import importlib
import io
import json
import random
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pymupdf
import pytest

from data_engine import decontaminate, dedup, language, mix, pii, quality, shards, tokenizer, xlm_roberta
from data_engine.download import Local
from data_engine.extract import ExtractConfig, extract
from data_engine.records import RAW
from phoenix.tasks import Item
from tests.fixtures import ROOT

DIGESTS = {
    "sources.readers": (5, "e7fe7a26987fffc1"),
    "extract.extract": (3, "43385591b1318aaf"),
    "language.identify_language": (4, "21e2809411e356ad"),
    "xlm_roberta.second_opinion": (1, "394514336d3be9fc"),
    "quality.filter_quality": (1, "a9ccb9e4eb70ee9f"),
    "pii.redact": (4, "607ae50301b95d79"),
    "decontaminate.decontaminate": (2, "d08cf09196530880"),
    "dedup.sign": (5, "9c5b07caf7d10a8c"),
    "dedup.split_bands": (5, "d2b1fe415033c0be"),
    "dedup.pair": (5, "1a5796faaee77188"),
    "dedup.shingles": (5, "299add658ced84b8"),
    "dedup.cluster": (5, "0ac686a7f7bc888b"),
    "dedup.remove_duplicates": (5, "13b31239940cb5fe"),
    "tokenizer.sample": (1, "f8b3d5c5baf25408"),
    "tokenizer.pre_tokens": (1, "89ccc0635d3330e0"),
    "tokenizer.train_tokenizer": (1, "48f34306175a34dc"),
    "tokenizer.encode": (1, "83614aaca8018083"),
    "mix.take_fraction": (2, "35c54f5dcbe1bf7e"),
    "mix.place": (2, "d103e189bd6d2cea"),
    "shards.write_shard": (1, "01f03a075a8b00cb"),
}

SENTENCES = """
The harbour was quiet before dawn, and only the gulls were awake to see the first boats come in.
A keeper of the lighthouse wrote every evening in a large book what ships had passed and what the wind had been.
Nobody in the village could remember a winter that had been so long and so cold as this one.
She said that the old bridge would not hold another spring, and the council decided to have it rebuilt.
Most of the letters that he sent from the island were about the weather, the price of fish and his garden.
When the market opened, people from all the farms around came with apples, cheese and woollen clothes.
The children had been told to stay away from the mill, which was of course where they went every afternoon.
It is not known who first made a map of these mountains, but it was used for more than a hundred years.
They waited for the train with their bags, and with the two dogs that would not be left behind.
In the museum there is a clock which shows the hours, the tides and the phases of the moon.
""".strip().split("\n")
FOREIGN = {
    "de": "Der alte Mann ging jeden Morgen durch den Wald zum See, weil er dort die Vögel hören wollte, die er so liebte. ",
    "fr": "La vieille maison au bord de la rivière était vide depuis des années, mais personne ne voulait la vendre. ",
    "ru": "Каждое утро он шёл через лес к озеру, потому что там пели птицы, которых он так любил. ",
}


def prose(seed, n=12):
    """n sentences in an order of their own, in paragraphs."""
    draw = random.Random(seed)
    return "\n\n".join(" ".join(draw.sample(SENTENCES, 3)) for _ in range(n // 3))


def chatter(seed, n=12):
    """n sentences of words in an order of their own, so that no five stand there twice."""
    draw, known = random.Random(seed), sorted({word.strip(",.").lower() for line in SENTENCES for word in line.split()})
    return "\n\n".join(" ".join(draw.sample(known, 12)).capitalize() + "." for _ in range(n))


def name_of(i):
    return hashlib.sha256(str(i).encode()).hexdigest()[:32]


def documents(texts, source="a"):
    n = len(texts)
    ids = [name_of(i) for i in range(n)]
    columns = {"id": ids, "source": [source] * n, "uri": [f"u{i}" for i in range(n)], "licence": ["MIT"] * n}
    return pa.table({**columns, "title": pa.array([None] * n, pa.string()), "text": pa.array(texts, pa.large_string())})


# --- Inputs, and the outputs to digest -------------------------------------------------------------------------------------

HTML = f"""<html><head><title>On &amp; off</title><style>p {{}}</style></head>
<body><nav><a href="/">Home</a> <a href="/x">More</a></nav>
<article><h1>The harbour</h1><p>{SENTENCES[0]}<p>{SENTENCES[1]} <b>{SENTENCES[2]}</b></p><ul><li>One caf&eacute;<li>Two</ul>
<table><tr><td>a<td>b</table><pre>x = 1
  y = 2</pre><p>{SENTENCES[3]} {SENTENCES[4]}</p></article><footer>Copyright, terms, contact</footer></body></html>"""
TEX = r"""\documentclass{article}\newcommand{\N}[1]{\textbf{#1}}\title{On birds}\begin{document}\maketitle\section{Birds}
We write \N{bold} and $a^2+b^2=c^2$, see \cite{x}. % a comment
\begin{itemize}\item One.\end{itemize}\begin{equation}E=mc^2\end{equation} SENTENCE\end{document}""".replace(
    "SENTENCE", SENTENCES[0]
)
WIKI = f"""'''Harbours''' are {{{{convert|3|km}}}} wide.<ref>A book</ref> {SENTENCES[0]}
{{| class="wikitable"
| a || b
|}}
== History ==
* {SENTENCES[1]}
[[File:x.jpg|thumb|A picture]] {SENTENCES[2]} [[Bridge|bridges]] [http://example.org a link]
== References ==
{{{{reflist}}}}"""
QUESTION = {
    "title": "How long is a harbour?",
    "score": 3,
    "body": f"<p>{SENTENCES[3]}</p><pre><code>x = 1</code></pre>",
    "answers": [
        {"id": 2, "score": 5, "accepted": False, "body": f"<p>{SENTENCES[4]}</p>"},
        {"id": 3, "score": -2, "accepted": False, "body": "<p>No.</p>"},
    ],
}
BOOK = f"""The Project Gutenberg eBook of A Harbour\n\nTitle: A Harbour\n\n*** START OF THE PROJECT GUTENBERG EBOOK A HARBOUR ***\n
{prose(9)}\n\n*** END OF THE PROJECT GUTENBERG EBOOK A HARBOUR ***\n\nlicence and more"""


def pdf(*pages):
    document = pymupdf.open()
    for lines in pages:
        document.new_page().insert_text((50, 50), lines, fontsize=8)
    return document.tobytes()


def extracted():
    paragraphs = [*SENTENCES[:6], "", "A hy-", "phen at the end of a line.", *SENTENCES[6:]]
    contents = [
        ("text/plain", f"\ufeffcafe\u0301  \r\n\tcaf\u00c3\u00a9 \u200bx\x07\n\n\n{prose(1)}".encode()),
        ("text/plain", b"short"),
        ("text/plain", b"caf\xe9 " * 90),
        ("text/plain", "\n".join(prose(2).splitlines()).encode("utf-16")),
        ("text/plain", BOOK.encode()),
        ("text/html", HTML.encode()),
        ("text/html", HTML.replace("é", "e").encode("latin-1")),
        ("application/pdf", pdf(paragraphs, SENTENCES)),
        ("application/pdf", b"%PDF-1.7 and nothing more"),
        ("application/x-tex", TEX.encode()),
        ("text/x-wiki", WIKI.encode()),
        ("text/x-wiki", b"#REDIRECT [[Harbour]]"),
        ("application/x-stackexchange+json", json.dumps(QUESTION).encode()),
        ("video/mp4", b"x" * 400),
    ]
    rows = [
        {"id": name_of(i), "source": "a", "uri": f"u{i}", "media_type": kind, "content": content, "licence": "MIT", "meta": "{}"}
        for i, (kind, content) in enumerate(contents)
    ]
    kept, lost, *_ = extract(pa.Table.from_pylist(rows, schema=RAW), ExtractConfig())
    return kept, lost.drop_columns("detail")  # a PDF parser's own words


def languages():
    texts = [
        prose(1),
        "A house.",
        *(text * 4 for text in FOREIGN.values()),
        "",
        "1 2 3",
        "Iron the clothes.",
        FOREIGN["ru"] + prose(2),
    ]
    texts += [f"<p>{SENTENCES[0]}</p> $x_1$ http://example.org/a b@example.org", prose(3, 60), "Tallenna tiedosto nyt"]
    return language.identify_language(documents(texts), language.LanguageConfig(keep=("en", "de", "und")))


def relabelled():
    """With a model of the test's own: what is asked of it, and what is made of its answer."""

    def answers(texts, model):
        return ["en" if "the" in text else "fr" for text in texts], [0.95 if len(text) > 20 else 0.5 for text in texts]

    docs = documents([prose(1, 60), "la station", "the first house of the town", "a", FOREIGN["fr"] * 10])
    docs = docs.append_column("language", pa.array(["und", "en", "fr", "nl", "en"]))
    docs = docs.append_column("language_score", pa.array([0.2, 0.6, 0.4, 0.3, 0.7], pa.float32()))
    docs = docs.append_column("unsure", pa.array([True, True, True, True, False]))
    cfg = language.LanguageConfig(second=language.Weights("folder", "content"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xlm_roberta, "load", lambda path: xlm_roberta.Model(["en", "fr"], None, None))
        patch.setattr(xlm_roberta, "classify", lambda *a: tuple(map(np.array, answers(*a))))
        return xlm_roberta.second_opinion(docs, cfg)


def filtered():
    lines = chatter(4, 9).split("\n\n")
    page = "\n".join(lines)
    odd = "Mr. Smith's e-mail (a@b.com), U.S.A., don't 3.5km $5 :-) http://x.org/y?z=1 well...and/or \u201cquoted\u201d!"
    texts = [
        *("", page, chatter(2, 30), chatter(3, 3), page + "\nshort\nread our privacy policy\nIt works.[1][edit] Yes, it does.\n"),
        *("\n".join(f"- {line}" for line in lines), "word " * 60, page + "\n\n" + page, page + "{", page + "# " * 60),
        *("\n".join([*lines[:5], *lines]), "Lorem ipsum dolor sit.\n" + page, page.replace(".", ""), page.replace(".", "...\n")),
        *(" ".join([odd, *lines, odd]), FOREIGN["ru"] * 5, page.replace(" ", "\n"), page.replace("the ", "").replace("of ", "")),
        *(page + "\nIt goes on and on\nIt goes on and on", "\u2022 a b c.\n" * 3 + page, page.replace("e", "3").replace("a", "4")),
    ]
    return quality.filter_quality(documents(texts), quality.QualityConfig())


PII = """
Write to jane.doe@example.com or j%40example.org, call +44 20 7946 0958, (602) 272-9781 or 555-0123 tomorrow.
Pay to DE89 3704 0044 0532 0130 00, GB29NWBK60161331926819, not to DE89 3704 0044 0532 0130 01 or NO93 8601 1117 947.
Card 4111 1111 1111 1111, Visa 4111-1111-1111-1112, 378282246310005; SSN 078-05-1120; Aadhaar 2341 2341 2346.
Addresses 8.8.8.8, 10.0.0.1, version 4.0.130.19, 2001:4860:4860::8888, fe80::1; PAN ABCPE1234F, GSTIN 27AAPFU0939F1ZV.
ftp://user:secret@example.org/ name@okhdfcbank git@github.com logo@2x.png tel 0477 11 28 98 ISBN 978-3-16-148410-0 2024-01-02
secy[at]meity[dot]gov[dot]in, 555-123-4567,555-123-4568; Dec +41 16 07.50, 114 (12) 5149-5155, W@x.shape, 0101 1100 0011
"""


def redacted():
    docs = documents([PII, prose(1), "", PII.replace("\n", " ") * 2, None])
    return pii.redact(docs.set_column(4, "title", pa.array(["a@example.com", None, None, "t", None])), pii.PiiConfig())


def decontaminated():
    items = [" ".join(f"{word}{i}" for word in SENTENCES[i].split()) for i in range(4)]
    made = [Item([(f"Question: {text}\nAnswer:", " yes indeed")]) for text in [*items, "only four words here"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decontaminate.evaluation, "items_of", lambda task, data: (made, ""))
        grams = decontaminate.item_grams(["quiz"], "")
    texts = [
        prose(1),
        prose(2) + " " + items[0],
        items[1][:70],
        f"{items[2][:60]} or {items[2][60:]}",
        "only four words here, yes indeed",
    ]
    return grams, *decontaminate.decontaminate(documents(texts), decontaminate.DecontaminateConfig(), grams)


@cache
def docs_with_copies():
    texts = [chatter(i, 20) for i in range(12)]
    near = [texts[1].replace(" the ", " a ", 4), texts[2].replace(" of ", " ", 2), texts[2].replace(" in ", " on ", 6)]
    return documents([*texts, texts[0], *near, texts[3].upper(), "", "* * *", "two words"])


@cache
def dedup_stages():
    """Every table between documents and duplicates, by the name of its function."""
    cfg = dedup.choose_bands(dedup.DedupConfig(threshold=0.7))
    docs, made = docs_with_copies(), {}
    made["sign"] = dedup.sign(docs, cfg)
    made["split_bands"] = dedup.split_bands(made["sign"][0], {"dedup": cfg, "buckets": 3})
    made["pair"] = dedup.pair(made["split_bands"][0], cfg)
    groups = dedup.candidates(made["pair"][0], 1)
    made["shingles"] = dedup.shingles(docs, cfg, groups)
    made["cluster"] = dedup.cluster(made["shingles"][0], {"dedup": cfg, "sources": ["a"]})
    made["remove_duplicates"] = dedup.remove_duplicates(docs, cfg, made["cluster"][0])
    return made


def sampled():
    settings = {"seed": 1, "fractions": {"a": 0.5}, "document_bytes": 500}
    return tokenizer.sample(docs_with_copies(), settings)


@cache
def trained(folder):
    texts = [*(prose(i, 9) for i in range(20)), *(text * 3 for text in FOREIGN.values()), "1234 5678 \n\n\t x = y + 1"]
    counts, _ = tokenizer.pre_tokens(pa.table({"text": pa.array(texts, pa.large_string())}), None)
    tokenizer.train_tokenizer(counts, 600, folder)
    return (folder / "tokenizer.json").read_text()


def encoded(folder):
    text = trained(folder)
    cfg = tokenizer.EncodeConfig(hashlib.sha256(text.encode()).hexdigest(), text)
    texts = [
        prose(1),
        "",
        "It's 2026,  isn't it?\n\n  <|endoftext|> \u0378 a\u00a0b",
        *FOREIGN.values(),
        "x" * 5000,
        "\t\t \r\n  end",
    ]
    return tokenizer.encode(documents(texts), cfg)


def placed(folder):
    selection = {"a": {"epochs": 1, "threshold": 1 << 63, "validation": 1 << 63}}
    settings = {"seed": 1, "val_fraction": 0.3, "selection": selection, "train_shards": 2, "val_shards": 1}
    return mix.place(encoded(folder)[0].drop_columns(["bytes"]), settings)


def written(folder):
    rows = placed(folder)[0]
    made = []
    for bucket in range(3):
        index, _, files = shards.write_shard(rows.filter(pc.equal(rows["bucket"], bucket)), {"train_shards": 2})
        made += [index, {name: bytes(data).hex() for name, data in files.items()}]
    return made


def warc_record(body, kind="text/html"):
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    head = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x/\r\nContent-Type: application/http; msgtype=response\r\n"
    return f"{head}Content-Length: {len(http)}\r\n\r\n".encode() + http + b"\r\n\r\n"


def records(folder):
    """One file of every kind that Local reads."""
    folder.mkdir()
    lines = [{"text": "one", "url": "u"}, {"text": ""}, {"no": 1}, {"text": "two", "title": "T", "n": [1, 2]}]
    jsonl = "\n".join(map(json.dumps, lines)) + "\nno json\n"
    page = "<page><title>A</title><ns>0</ns><id>1</id><revision><id>2</id><text>wiki text</text></revision></page>"
    site = "<siteinfo><base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>"
    post = '<row Id="{}" PostTypeId="{}" ParentId="1" Score="2" CreationDate="2020-01-01T00:00:00.0" Title="T" Body="&lt;p&gt;b" />'
    wiki = '<doc id="1" url="https://x/1" title="T">\nT\n\nA page.\n</doc>\n'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in (("a.txt", "in a zip"), ("b/c.jsonl", jsonl), ("d.exe", "x")):
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    files = {
        **{"a.txt": "plain", "b.html": HTML, "c.pdf": "%PDF", "d.tex": TEX, "empty.txt": "", "e.doc": "x", "f.jsonl": jsonl},
        **{"g.json": json.dumps(lines), "h.csv": "text,n\none,1\n,2\n", "i.tsv": "text\tn\none\t1\n", "wiki_00": wiki},
        **{
            "j.xml": f"<mediawiki>{site}{page}</mediawiki>",
            "q.se.com/Posts.xml": f"<posts>{post.format(1, 1)}{post.format(2, 2)}</posts>",
        },
        **{"k.warc": warc_record(HTML.encode()) + warc_record(b"\x89PNG", "image/png"), "l.zip": archive.getvalue()},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    pq.write_table(pa.table({"text": ["in parquet", None, ""], "n": [1, 2, 3]}), folder / "m.parquet")
    source = Local("a", str(folder), share=1.0, licence="MIT")
    made = [part for job in source.jobs(1 << 20) for part in source.read(job)]
    kept = pa.concat_tables(kept for kept, _ in made).drop_columns("fetched_at")
    lost = pa.concat_tables(lost for _, lost in made).drop_columns("detail")  # the libraries' words
    return kept.sort_by("uri"), lost.sort_by("uri")


STAGES = {
    "sources.readers": lambda tmp: records(tmp / "files"),
    "extract.extract": lambda tmp: extracted(),
    "language.identify_language": lambda tmp: languages(),
    "xlm_roberta.second_opinion": lambda tmp: relabelled(),
    "quality.filter_quality": lambda tmp: filtered(),
    "pii.redact": lambda tmp: redacted(),
    "decontaminate.decontaminate": lambda tmp: decontaminated(),
    **{
        f"dedup.{name}": lambda tmp, name=name: dedup_stages()[name]
        for name in ("sign", "split_bands", "pair", "shingles", "cluster", "remove_duplicates")
    },
    "tokenizer.sample": lambda tmp: sampled(),
    "tokenizer.pre_tokens": lambda tmp: tokenizer.pre_tokens(docs_with_copies(), None),
    "tokenizer.train_tokenizer": lambda tmp: [trained(tmp)],
    "tokenizer.encode": encoded,
    "mix.take_fraction": lambda tmp: mix.take_fraction(docs_with_copies(), {"seed": 1, "fractions": {"a": 0.4}}),
    "mix.place": placed,
    "shards.write_shard": written,
}


# --- The laws --------------------------------------------------------------------------------------------------------------


def values(part):
    """A table or a plain value as text that no Arrow version, chunking or last bit changes."""
    if isinstance(part, pa.Table):
        return [(field.name, str(field.type), values(column.to_pylist())) for field, column in zip(part.schema, part, strict=True)]
    if isinstance(part, (list, tuple)):
        return [values(value) for value in part]
    if isinstance(part, dict):
        return {key: values(value) for key, value in part.items()}
    return f"{part:.4g}" if isinstance(part, float) else part


def digest(made):
    return hashlib.sha256(repr(values(made)).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


@pytest.mark.parametrize("name", STAGES)
def test_an_output_that_changes_has_a_new_version(name, folder):
    module = name.rpartition(".")[0] if name != "sources.readers" else name
    path, version = f"data_engine/{module.replace('.', '/')}.py", importlib.import_module(f"data_engine.{module}").VERSION
    found = version, digest(STAGES[name](folder))
    if found == DIGESTS.get(name):
        return
    if version == DIGESTS.get(name, (None,))[0]:
        pytest.fail(f"{name}'s output changed: raise VERSION in {path} and write the new digest here: {(version + 1, found[1])}")
    pytest.fail(f"VERSION of {path} changed: write here {name!r}: {found}")


def test_every_step_of_the_line_has_a_digest():
    steps = set()
    for path in (ROOT / "data_engine").glob("*.py"):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Step" and isinstance(node.args[0], ast.Name):
                steps.add(node.args[0].id)
    assert steps == {name.rpartition(".")[2] for name in STAGES} - {"readers"}
