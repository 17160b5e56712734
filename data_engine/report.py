"""
What became of every record: report.json, report.html and the last lines of a run.

All figures come from the partitions' receipts and tables, so a resumed run reports the same as one that was never stopped.
A mistake of deduplication would show as a large cluster: each of more than LARGE documents is listed with its survivor, some
removed documents, their similarity and the beginning of their text, for a person to check.
"""

import html
import json
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.decontaminate import items_in_detail, tasks_at_hand
from data_engine.dedup import chance
from data_engine.engine import DONE_MARKER
from data_engine.records import to_json
from data_engine.step import EngineError, plain
from phoenix.progress import duration

LEDGERS = {"tokens": "tokens", "shards-split": "order"}  # stages with a ledger after "documents" -> their key in `made`
ORDER = (
    *("raw", "extract", "identify_language", "second_opinion", "filter_quality", "redact", "decontaminate"),
    *("remove_duplicates", "take_fraction", "encode", "place"),
)
LARGE = 100  # documents; every larger cluster is listed with samples
LISTED_NAMES = 30  # unknown commands and templates that the report shows
LISTED = 20  # clusters listed at most, the largest first; at least five, whatever their size
SAMPLES = 4  # removed documents shown of a cluster, the least similar first
CHARS = 100  # shown of a text


def funnel(made):
    """
    {source: [{"step", "in", "out", "dropped": {reason: n}, "secs", "bytes"}, ...]} in the order of the line.

    EngineError if a step did not get exactly the records that the one before it kept.
    """
    sums = {}
    for stage in ("raw", "documents", "tokens", "order"):
        for part in made.get(stage, []):
            for record in part.receipt["steps"]:
                total = sums.setdefault(part.receipt["source"], {}).setdefault(record["step"], Counter())
                total.update({key: record[key] for key in ("in", "out", "secs", "bytes")})
                total.update({("dropped", reason): n for reason, n in record["dropped"].items()})
    table = {}
    for source, steps in sums.items():
        table[source], kept = [], None
        for step in ORDER:
            if step not in steps:
                continue
            total = steps[step]
            dropped = {key[1]: n for key, n in sorted((k, n) for k, n in total.items() if isinstance(k, tuple))}
            if step == "place":  # its rows are not documents: one for every epoch that takes a document
                total["out"] = total["in"] - sum(dropped.values())
            lost = sum(dropped.values())
            if total["in"] != total["out"] + lost or kept not in (None, total["in"]):
                raise EngineError(f"{source}: {step} got {total['in']} records of {kept}, kept {total['out']}, dropped {lost}")
            kept = total["out"]
            row = {"step": step, "in": total["in"], "out": total["out"], "dropped": dropped}
            table[source].append(row | {"secs": round(total["secs"], 3), "bytes": total["bytes"]})
    return table


def write(cfg, engine, made, argv):
    """report.json and report.html in out/; returns the summary that the run prints last."""
    table = funnel(made)
    data = {
        "out": engine.out,
        "arguments": " ".join(argv),
        "until": cfg.until,
        "settings": {k: v for k, v in plain(cfg).items() if k not in ("sources", "plan")},
        "sources": table,
        "stages": engine.stages,
        "duplicates": duplicates(cfg, engine, made),
        "pii": pii_counts(engine, made),
        "contaminated": contaminated(engine, made),
        "unknown_names": unknown_names(made),
        "decontaminated_against": tasks_at_hand(cfg.decontaminate),
        "shards": None,
    }
    if engine.storage.size(DONE_MARKER) is None:
        after = {"raw": ["documents"], "documents": []}.get(list(made)[-1], [])
        engine.remove_ledgers([*after, *(stage for stage in ("tokens", "shards-split") if LEDGERS[stage] not in made)])
    if "shards" in made:
        data["shards"] = json.loads(engine.storage.read(DONE_MARKER))
        data["mix"] = json.loads(engine.storage.read("shards/sources.json"))
    engine.storage.write("report.json", to_json(data))
    engine.storage.write("report.html", page(data).encode())
    return summary(data)


def pii_counts(engine, made):
    """{type: redactions} over all documents."""
    counts = Counter()
    for part in made.get("documents", []):
        for entry in engine.read([part], ["pii"])["pii"].to_pylist():
            counts.update(dict(entry or []))
    return dict(sorted(counts.items()))


def unknown_names(made):
    """[[media type, name, times], ...]: LaTeX commands and wiki templates that `extract` knows no rule for, most frequent first."""
    counts = Counter()
    for part in made.get("documents", []):
        for record in part.receipt["steps"]:
            counts.update({(media_type, name): n for media_type, name, n in record.get("notes", {}).get("unknown", [])})
    return [[*key, n] for key, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED_NAMES]]


def contaminated(engine, made):
    """{task: {"documents" dropped for one of its items, "items": different items that the ledger names, one a document}}."""
    found = {}
    for part in made.get("documents", []):
        if part.receipt.get("ledger"):
            for row in engine.read_ledger(part, "contaminated"):
                for task, item in items_in_detail(row["detail"]):
                    found.setdefault(task, []).append(item)
    return {task: {"documents": len(items), "items": len(set(items))} for task, items in sorted(found.items())}


def duplicates(cfg, engine, made):
    """Figures of deduplication: the keys compared, the clusters and the largest of them; None if the run did not reach it."""
    if "duplicates" not in made:
        return None
    keys = Counter()
    for part in made["pairs"]:
        for record in part.receipt["steps"]:
            notes = record.get("notes", {})
            keys.update({name: notes[name] for name in ("keys", "capped", "capped_rows") if name in notes})
            keys["largest"] = max(keys["largest"], notes.get("largest", 0))
    table = engine.read(made["duplicates"], ["id", "kept_id", "cluster", "similarity"])
    table = table.filter(pc.not_equal(table["id"], table["kept_id"]))  # a record that came twice under one id is no cluster
    clusters = table.group_by("cluster").aggregate([("id", "count"), ("kept_id", "count_distinct")])
    sizes = pc.add(clusters["id_count"], clusters["kept_id_count_distinct"])
    clusters = pa.table({"cluster": clusters["cluster"], "size": sizes, "kept": clusters["kept_id_count_distinct"]})
    clusters = clusters.sort_by([("size", "descending"), ("cluster", "ascending")])
    large = pc.sum(pc.greater(clusters["size"], LARGE)).as_py() or 0
    return {
        "bands": cfg.dedup.bands,
        "rows": cfg.dedup.rows,
        "threshold": cfg.dedup.threshold,
        "chance_at_threshold": round(chance(cfg.dedup.threshold, cfg.dedup), 6),
        "removed": len(table),
        "clusters": len(clusters),
        "sizes": dict(sorted(Counter(clusters["size"].to_pylist()).items())),
        "keys": {name: keys[name] for name in ("keys", "largest", "capped", "capped_rows")},
        "large_clusters": large,
        "largest_clusters": _samples(engine, made["documents"], table, clusters.slice(0, min(LISTED, max(5, large)))),
    }


def _samples(engine, docs, table, clusters):
    """The clusters as dicts, each with the documents to show."""
    shown, ids = [], set()
    for row in clusters.to_pylist():
        members = table.filter(pc.equal(table["cluster"], row["cluster"]))
        members = members.sort_by([("similarity", "ascending"), ("id", "ascending")]).slice(0, SAMPLES).to_pylist()
        ids |= {i for member in members for i in (member["id"], member["kept_id"])}
        shown.append(row | {"removed": members})
    texts = _beginnings(engine, docs, pa.array(sorted(ids), pa.string()))
    for row in shown:
        row["removed"] = [
            {"similarity": round(m["similarity"], 4), "document": texts[m["id"]], "kept": texts[m["kept_id"]]}
            for m in row["removed"]
        ]
    return shown


def _beginnings(engine, docs, ids):
    """{id: {"id", "uri", "text": its beginning}} for the given ids; reads the text of partitions that hold one of them."""
    found = {}
    for part in docs if len(ids) else []:
        at = pc.is_in(engine.read([part], ["id"])["id"], ids)
        if pc.any(at).as_py():
            rows = engine.read([part], ["id", "uri", "text"]).filter(at)
            rows = rows.set_column(2, "text", pc.utf8_slice_codeunits(rows["text"], 0, CHARS))
            found |= {row["id"]: row for row in rows.to_pylist()}
    return found


def summary(data):
    """The funnel as text: records in, kept, dropped by reason; tokens and shards; seconds a stage."""
    lines = [f"{'source':<16}{'step':<20}{'in':>10}{'kept':>10}  dropped"]
    for source, rows in data["sources"].items():
        for row in rows:
            dropped = "  ".join(f"{reason} {n:,}" for reason, n in row["dropped"].items())
            lines.append(f"{source:<16}{row['step']:<20}{row['in']:>10,}{row['out']:>10,}  {dropped}")
    if not data["decontaminated_against"]:
        lines.append("decontamination: off, no evaluation data were given (decontaminate.data)")
    if data["duplicates"]:
        lines.append(_duplicates_line(data["duplicates"]))
    if data["shards"]:
        tokens, shards = data["shards"]["tokens"], data["shards"]["shards"]
        files = len(shards["train"]) + len(shards["val"])
        lines.append(f"tokens: {tokens['train']:,} train, {tokens['val']:,} val in {files} shards")
        wanted = data["settings"]["tokens"]
        if wanted and abs(tokens["train"] - wanted) > 0.01 * wanted:
            lines.append(f"warning: the budget is {wanted:,} tokens; the sources have no more than this (mix.max_epochs)")
        for source in data["mix"]["sources"]:
            if abs(source["share"] - source["target_share"]) > 0.005 or source["epochs"] > 1.01:
                lines.append(f"warning: {_share_sentence(source)}")
    spent = "  ".join(f"{name} {stage['secs']:.1f}" for name, stage in data["stages"].items() if stage["made"])
    lines.append(f"seconds: {spent or 'all was done before'}")
    lines.append(f"report: {data['out']}/report.html")
    return "\n".join(lines)


def _share_sentence(source):
    """One sentence on a source whose share is not the wanted one, or is reached by repeating its documents."""
    shares = f"{100 * source['share']:.2f} % of the tokens, {100 * source['target_share']:.2f} % wanted"
    if source["share"] > source["target_share"]:
        return f"{source['name']} has {shares}: others ran short"
    files, more = source["files"] or {}, ""
    if files and files["taken"] < files["listed"]:
        more = f"; {files['taken']} of its {files['listed']} files are taken, and the same command takes more"
    return f"{source['name']} ran short: {shares}, each document {source['epochs']:.2f} times{more}"


def _duplicates_line(found):
    largest = max(found["sizes"], default=0)
    text = f"duplicates: {found['removed']:,} removed, {found['clusters']:,} clusters, the largest of {largest:,}"
    text += f"; {found['bands']} x {found['rows']} finds {found['chance_at_threshold']:.3f} of the pairs at {found['threshold']:g}"
    if found["keys"]["capped"]:
        text += f"; {found['keys']['capped']:,} keys have too many documents for all to be compared"
    return text


# ---------------------------------------------------------------------------------------------------- the page

STYLE = """
:root { --ink: #1d2330; --soft: #667085; --line: #e4e7ec; --kept: #2f6f9f; --lost: #d98f4e; --back: #fff; --panel: #f7f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaef; --soft: #98a2b3; --line: #343a46; --kept: #6cacd9; --lost: #e0a368; --back: #14171d; --panel: #1c2028 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
body { max-width: 64rem; margin: 2.5rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p.where { color: var(--soft); margin: .2rem 0 1.5rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem }
.tile { background: var(--panel); border-radius: .5rem; padding: .7rem .9rem }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.tile span { color: var(--soft); font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: .85rem }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; white-space: nowrap } td.bar { width: 34% }
.bar div { display: flex; height: .8rem; border-radius: .2rem; overflow: hidden; background: var(--panel); margin-top: .35rem }
.bar i { background: var(--kept) } .bar u { background: var(--lost) }
.legend i, .legend u { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin: 0 .3rem 0 0 }
.legend u { margin-left: .9rem }
.legend i { background: var(--kept) } .legend u { background: var(--lost) } .legend { color: var(--soft); font-size: .85rem }
"""


def page(data):
    """report.html: one static page, no scripts, nothing fetched."""
    first = sum(rows[0]["in"] for rows in data["sources"].values())
    last = sum(rows[-1]["out"] for rows in data["sources"].values())
    tiles = [(f"{first:,}", "records in"), (f"{last:,}", "documents kept"), (f"{first - last:,}", "dropped, each with its reason")]
    if data["shards"]:
        tokens = data["shards"]["tokens"]
        tiles += [(f"{tokens['train']:,}", "train tokens"), (f"{tokens['val']:,}", "validation tokens")]
    secs = sum(stage["secs"] for stage in data["stages"].values())
    tiles.append((duration(secs), "in all stages"))
    parts = [f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles]
    body = [f'<div class="tiles">{"".join(parts)}</div>', "<h2>From records to documents</h2>", _funnel_table(data["sources"])]
    if data["shards"]:
        body += ["<h2>Mix</h2>", _mix_table(data["mix"])]
    if data["duplicates"]:
        body += _duplicates_tables(data["duplicates"])
    if data["pii"]:
        rows = [[html.escape(kind), f"{n:,}"] for kind, n in data["pii"].items()]
        body += ["<h2>Personal data redacted</h2>", _table(["type", "redactions"], rows)]
    body.append("<h2>Evaluation data found in documents, which were dropped</h2>")
    found, none = data["contaminated"], {"documents": 0, "items": 0}
    rows = [(html.escape(task), found.get(task, none)) for task in data["decontaminated_against"]]
    rows = [[task, f"{n['documents']:,}", f"{n['items']:,}"] for task, n in rows]
    nothing = "<p>Not looked for: no evaluation data were given.</p>"
    body.append(_table(["task", "documents", "items named"], rows) if rows else nothing)
    if data["unknown_names"]:
        rows = [[html.escape(name), html.escape(kind), f"{n:,}"] for kind, name, n in data["unknown_names"]]
        body += ["<h2>Commands and templates that no rule knows</h2>", _table(["name", "kind", "times"], rows)]
    body += ["<h2>Time</h2>", _time_table(data)]
    title = html.escape(data["out"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Phoenix data engine: {title}</title><style>{STYLE}</style>"
        f'<h1>What became of every record</h1><p class="where">{title}, up to {data["until"]}</p>{"".join(body)}</html>\n'
    )


def _table(head, rows):
    """An HTML table: the first column is text, the others numbers, except cells that begin with a tag."""

    def cell(tag, i, text):
        kind = ' class="bar"' if text.startswith("<div") else ' class="n"' if i and not text.startswith("<span") else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", i, text) for i, text in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _bar(kept, lost, whole):
    share = [100 * n / whole if whole else 0 for n in (kept, lost)]
    return f'<div><i style="width:{share[0]:.2f}%"></i><u style="width:{share[1]:.2f}%"></u></div>'


def _funnel_table(sources):
    rows = []
    for source, steps in sources.items():
        whole = steps[0]["in"]
        for i, row in enumerate(steps):
            lost = row["in"] - row["out"]
            dropped = ", ".join(f"{html.escape(reason)} {n:,}" for reason, n in row["dropped"].items())
            name = f"<b>{html.escape(source)}</b> " if i == 0 else ""
            bar = _bar(row["out"], lost, whole)
            rows.append([name, f"<span>{row['step']}</span>", f"{row['in']:,}", f"{row['out']:,}", bar, f"<span>{dropped}</span>"])
    legend = '<p class="legend"><i></i>kept <u></u>dropped in this step</p>'
    head = ["source", "<span>step</span>", "in", "kept", "", "<span>dropped by reason</span>"]
    return legend + _table(head, rows)


def _mix_table(mix):
    rows = []
    for source in mix["sources"]:
        bar = _bar(source["share"], 0, 1)
        common = sorted(source["licences"].items(), key=lambda item: -item[1])
        licences = ", ".join(f"{html.escape(name)} {n:,}" for name, n in common[:5])
        licences += f", {len(common) - 5} more" if len(common) > 5 else ""
        rows.append(
            [
                html.escape(source["name"]),
                f"{source['documents']:,}",
                f"{source['epochs']:.2f}",
                f"{source['tokens']:,}",
                f"{100 * source['share']:.2f} %",
                f"{100 * source['target_share']:.2f} %",
                bar,
                f"<span>{licences}</span>",
                f"<span>{_origin(source)}</span>",
            ]
        )
    head = ["source", "documents", "epochs", "train tokens", "share", "wanted", "", "<span>licences (documents)</span>"]
    head.append("<span>from, at revision</span>")
    return _table(head, rows)


def _origin(source):
    origin, revision = html.escape(source["origin"] or ""), html.escape((source["revision"] or "")[:12])
    if origin.startswith("https://"):
        origin = f'<a href="{origin}">{origin.removeprefix("https://")}</a>'
    return f"{origin} {revision}".strip()


def _duplicates_tables(found):
    keys = found["keys"]
    rows = [
        ["bands × rows", f"{found['bands']} × {found['rows']}"],
        [f"pairs found at similarity {found['threshold']:g}, in theory", f"{100 * found['chance_at_threshold']:.2f} %"],
        ["keys that documents share", f"{keys['keys']:,}"],
        ["the most documents of one key", f"{keys['largest']:,}"],
        ["keys of so many documents that not every pair was compared", f"{keys['capped']:,}"],
        ["clusters", f"{found['clusters']:,}"],
        ["documents removed", f"{found['removed']:,}"],
        [f"clusters of more than {LARGE} documents", f"{found['large_clusters']:,}"],
    ]
    parts = ["<h2>Duplicates</h2>", _table(["", ""], rows)]
    rows = []
    for cluster in found["largest_clusters"]:
        for i, member in enumerate(cluster["removed"]):
            head = [f"{cluster['size']:,}", f"{cluster['kept']:,}"] if i == 0 else ["", ""]
            texts = [
                f"<span>{html.escape(member[k]['uri'])}<br><small>{html.escape(member[k]['text'])}</small></span>"
                for k in ("document", "kept")
            ]
            rows.append([*head, f"{member['similarity']:.3f}", *texts])
    if rows:
        head = ["documents", "kept", "similarity", "<span>removed</span>", "<span>its survivor</span>"]
        parts += ["<h2>The largest clusters, their least similar copies first</h2>", _table(head, rows)]
    return parts


def _time_table(data):
    longest = max([stage["secs"] for stage in data["stages"].values()] or [0])
    rows = []
    for name, stage in data["stages"].items():
        done = f"{stage['made']:,} of {stage['partitions']:,}"
        rows.append([html.escape(name), done, f"{stage['secs']:.1f}", _bar(stage["secs"], 0, longest)])
    table = _table(["stage", "partitions made now", "seconds", ""], rows)
    steps = Counter()
    for source in data["sources"].values():
        for row in source:
            steps.update({(row["step"], "secs"): row["secs"], (row["step"], "bytes"): row["bytes"]})
    rows = []
    for step in ORDER:
        secs, size = steps[(step, "secs")], steps[(step, "bytes")]
        if secs:
            rows.append([step, f"{size / 1e6:,.1f}", f"{secs:,.1f}", f"{size / 1e6 / secs:,.1f}"])
    return table + "<h2>Speed of each step, one core</h2>" + _table(["step", "MB in", "core seconds", "MB/s"], rows)
