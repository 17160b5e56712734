"""
What deduplication found, for the report: how sharp the search was, the keys that were capped, the clusters, the largest of them.

A cluster that grew by mistake would be a large one, so each of more than LARGE documents is listed with its survivor and some of
the documents that it removed, their similarity and the beginning of their text: a look tells whether they are copies.
"""

import html
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.dedup import chance

LARGE = 100  # documents; clusters above it are listed with samples
LISTED = 20  # of them, the largest first; and of the others as many of the largest as fill five rows
SAMPLES = 4  # removed documents shown of a cluster, the least similar first
CHARS = 100  # of a text that are shown


def found_duplicates(cfg, engine, made):
    """The figures as a dict for report.json; None where deduplication has not been reached."""
    if "duplicates" not in made:
        return None
    keys = Counter()
    for part in made["pairs"]:
        for record in part.receipt["steps"]:
            notes = record.get("notes", {})
            keys.update({name: notes[name] for name in ("keys", "capped", "capped_rows") if name in notes})
            keys["largest"] = max(keys["largest"], notes.get("largest", 0))
    table = engine.read(made["duplicates"], ["id", "kept_id", "cluster", "similarity"])
    table = table.filter(pc.not_equal(table["id"], table["kept_id"]))  # what came twice under one id is no cluster
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
    """The clusters as dicts, with the documents of each that are shown."""
    shown, ids = [], set()
    for row in clusters.to_pylist():
        members = table.filter(pc.equal(table["cluster"], row["cluster"]))
        members = members.sort_by([("similarity", "ascending"), ("id", "ascending")]).slice(0, SAMPLES).to_pylist()
        ids |= {i for member in members for i in (member["id"], member["kept_id"])}
        shown.append(row | {"removed": members})
    about = _about(engine, docs, pa.array(sorted(ids), pa.string()))
    for row in shown:
        row["removed"] = [
            {"similarity": round(m["similarity"], 4), "document": about[m["id"]], "kept": about[m["kept_id"]]}
            for m in row["removed"]
        ]
    return shown


def _about(engine, docs, ids):
    """{id: {"id", "uri", "text": its beginning}} for the given ids; text is read only of the partitions that hold one of them."""
    about = {}
    for part in docs if len(ids) else []:
        at = pc.is_in(engine.read([part], ["id"])["id"], ids)
        if pc.any(at).as_py():
            rows = engine.read([part], ["id", "uri", "text"]).filter(at)
            rows = rows.set_column(2, "text", pc.utf8_slice_codeunits(rows["text"], 0, CHARS))
            about |= {row["id"]: row for row in rows.to_pylist()}
    return about


def line(found):
    """One line for the end of a run."""
    largest = max(found["sizes"], default=0)
    text = f"duplicates: {found['removed']:,} removed, {found['clusters']:,} clusters, the largest of {largest:,}"
    text += f"; {found['bands']} x {found['rows']} finds {found['chance_at_threshold']:.3f} of the pairs at {found['threshold']:g}"
    if found["keys"]["capped"]:
        text += f"; {found['keys']['capped']:,} keys have too many documents for all to be compared"
    return text


def section(found, as_table):
    """HTML of the report's part; as_table(head, rows) makes a table."""
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
    parts = ["<h2>Duplicates</h2>", as_table(["", ""], rows)]
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
        parts += ["<h2>The largest clusters, their least similar copies first</h2>", as_table(head, rows)]
    return parts
