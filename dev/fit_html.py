"""
Fits the trees of data_engine/text/html_content.py to pages whose content people have marked.

    python dev/fit_html.py SHARED OUT.npz            writes the model; 8 min on 2 cores
    python dev/fit_html.py SHARED --check            5 folds without shared templates, then each set left out; 20 min

SHARED is the folder with corpus/html.tar.xz and scorers/extraction.py. Needs lightgbm 4.7 besides the pinned requirements.

The words of a page are aligned with those of its gold text (matches in runs count more than scattered ones); a block's label is
the share of its words that were matched. Its weight is what its words are worth in its set's mean F1, so that every set counts the
same. Pages with must and must-not segments label the blocks that hold these, and no others. Readers' comments in dragnet's gold
have no weight, because they may stay or go. A page whose gold text is that of another page has no weight. Pydoc's pages are content
from end to end.
"""

import gzip
import importlib
import json
import re
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import lightgbm
import numpy as np
from numba import njit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from data_engine.text.html_blocks import parse
from data_engine.text.html_content import (
    FOREST_TYPES,
    STOP_WORDS,
    Forest,
    block_features,
    columns,
    context_features,
    evaluate,
    select,
    word_set,
)
from data_engine.text.html_text import decode_html, page_title, weigh_comments

SEED = 1
FOLDS = 5
LEARNING = dict(
    objective="cross_entropy", learning_rate=0.1, num_leaves=24, min_data_in_leaf=60, min_sum_hessian_in_leaf=1e-3, lambda_l2=5.0,
    feature_fraction=0.35, bagging_fraction=0.7, bagging_freq=1, max_bin=63, seed=SEED, deterministic=True, force_row_wise=True,
    num_threads=2, verbose=-1,
)  # fmt: skip
TREES = 100
DOCUMENTED = """
argparse asyncio.events calendar collections csv datetime decimal difflib email.message fractions http.client inspect json logging
os pathlib random re shutil socket sqlite3 statistics string subprocess tarfile threading typing
unittest.mock urllib.request
"""


# --- Pages and labels ------------------------------------------------------------------------------------------------------


class Page:
    def __init__(self, name, content, golds=None, segments=None):
        content = decode_html(content).encode("utf-8", "replace")
        self.set, self.golds, self.segments = name, golds, segments
        self.blocks = parse(content)
        title = page_title(content, self.blocks)
        self.seen = block_features(self.blocks, word_set(STOP_WORDS), word_set(title[:1000]), len(content))
        text = self.blocks.text
        self.texts = [text[a:b].tobytes().decode() for a, b in zip(self.blocks.start, self.blocks.end, strict=True)]
        self.words = [re.findall(r"\w+", text.lower()) for text in self.texts]
        self.n_words = np.array([len(words) for words in self.words], np.int64)
        self.n = len(self.texts)


def read_pages(shared, folder):
    """All pages of the seven sets of the scorer, and pydoc's."""
    sys.path.insert(0, str(shared / "scorers"))
    scorer = importlib.import_module("extraction")
    with tarfile.open(shared / "corpus" / "html.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    root = next(Path(folder).rglob("dragnet")).parent
    sets = {name: scorer.cleaneval(root, name) for name in ("cleaneval_dev", "cleaneval_final", "cleanportaleval")}
    sets |= dict(
        dragnet=scorer.dragnet(root), scrapinghub_aeb=scorer.scrapinghub(root), mozilla_readability=scorer.readability(root)
    )
    pages = [Page(name, content(path), golds) for name, members in sets.items() for path, golds in members]
    for item in json.loads((root / "trafilatura_eval" / "evaldata.json").read_text(encoding="utf-8")).values():
        path = root / "trafilatura_eval" / item["file"]
        if path.exists():
            pages.append(
                Page("trafilatura_eval", content(path), segments=[list(map(squeeze, item[k])) for k in ("with", "without")])
            )
    pydoc = importlib.import_module("data_engine.sources.pydoc_child")
    return pages + [Page("pydoc", pydoc.render(name)[0].encode("utf-8", "replace")) for name in DOCUMENTED.split()]


def content(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


def label(page, n_pages, n_required):
    """Label and weight of each block: float (n,) each."""
    weight = (page.n_words + 0.5) / n_pages
    if page.set == "pydoc":
        return np.ones(page.n), weight / weight.sum() / n_pages
    if page.segments:
        return label_segments(page, n_required)
    numbers = {}
    found = np.array([numbers.setdefault(word, len(numbers)) for words in page.words for word in words], np.int32)
    gold = re.findall(r"\w+", page.golds[-1].lower())
    wanted = np.array([numbers.setdefault(word, len(numbers)) for word in gold], np.int32)
    n_article = len(re.findall(r"\w+", page.golds[0].lower()))
    match = align(found[:40000], wanted[:15000])
    block = np.repeat(np.arange(page.n), page.n_words)
    hits = np.bincount(block[match[match >= 0]], minlength=page.n) / np.maximum(page.n_words, 1)
    comments = match[n_article:][match[n_article:] >= 0]
    weight /= 2 * max(n_article, 50)
    weight[np.bincount(block[comments], minlength=page.n) > 0.3 * page.n_words] = 0
    weight *= min(1, 4 / n_pages / max(weight.sum(), 1e-9))
    if n_article > 20 and (match[:n_article] >= 0).sum() < 0.3 * min(n_article, 15000):
        weight[:] = 0  # the gold is that of another page
    return hits, weight


def label_segments(page, n_required):
    labels, weight = np.zeros(page.n), np.zeros(page.n)
    texts = [squeeze(text) for text in page.texts]
    joined, ends = " ".join(texts), np.cumsum([len(text) + 1 for text in texts])
    for wanted, segments in zip((1, 0), page.segments, strict=True):
        for segment in segments:
            starts = [match.start() for match in re.finditer(re.escape(segment), joined)] if segment else []
            for start in starts:
                first, last = np.searchsorted(ends, [start, start + len(segment) - 1], "right")
                labels[first : last + 1] = wanted
                weight[first : last + 1] += 1 / (2 * n_required * len(starts) * (last - first + 1))
    return labels, weight


@njit(cache=True)
def align(found, wanted):
    """For each wanted word its position in found, or -1, by the alignment with the longest runs. A run of n scores n - 0.8."""
    n, m = len(found), len(wanted)
    steps = np.zeros((n + 1, m + 1), np.uint8)  # 0 skips a found word, 1 a wanted one, 2 matches; 4: the match continues a run
    best, run = np.zeros(m + 1, np.float32), np.full(m + 1, -1e9, np.float32)
    for i in range(1, n + 1):
        best_before, run_before = best[0], run[0]
        for j in range(1, m + 1):
            match, step = np.float32(-1e9), 0
            if found[i - 1] == wanted[j - 1]:
                match = best_before + np.float32(0.2)
                if run_before + 1 >= match:
                    match, step = run_before + np.float32(1), 4
            best_before, run_before = best[j], run[j]
            run[j] = match
            if best[j - 1] > best[j]:
                best[j] = best[j - 1]
                step |= 1
            if match >= best[j]:
                best[j] = match
                step = step & 4 | 2
            steps[i, j] = step
    position, i, j, inside = np.full(m, -1, np.int64), n, m, False
    while i and j:
        step = steps[i, j]
        if inside or step & 2:
            position[j - 1] = i - 1
            inside = step & 4 > 0
            i -= 1
            j -= 1
        elif step & 1:
            j -= 1
        else:
            i -= 1
    return position


# --- Fitting ---------------------------------------------------------------------------------------------------------------


def fit(x, y, weight):
    use = weight > 0
    data = lightgbm.Dataset(x[use], y[use], weight=weight[use] / weight[use].mean())
    return forest(lightgbm.train(LEARNING, data, TREES))


def forest(booster):
    """LightGBM's trees as a Forest."""
    roots, nodes = [], []
    for tree in booster.dump_model()["tree_info"]:
        roots.append(len(nodes))
        nodes.append(None)
        todo = [(len(nodes) - 1, tree["tree_structure"])]
        for at, node in todo:
            if "leaf_value" in node:
                nodes[at] = -1, node["leaf_value"], 0
            else:
                nodes[at] = node["split_feature"], node["threshold"], len(nodes)
                todo += (len(nodes), node["left_child"]), (len(nodes) + 1, node["right_child"])
                nodes += None, None
    arrays = [roots, *zip(*nodes, strict=True)]
    return Forest(*(np.array(values, kind) for values, (_, kind) in zip(arrays, FOREST_TYPES, strict=True)))


class Data:
    """Pages as one table of blocks."""

    def __init__(self, pages):
        self.pages = pages
        n_pages = Counter(page.set for page in pages)
        n_required = sum(len(page.segments[0]) for page in pages if page.segments)
        labels = [label(page, n_pages[page.set], n_required) for page in pages]
        self.y, self.weight = (np.concatenate(column) for column in zip(*labels, strict=True))
        self.x = np.concatenate([columns(page.seen.features) for page in pages])
        self.page = np.repeat(np.arange(len(pages)), [page.n for page in pages])
        self.ends = np.cumsum([page.n for page in pages])
        templates = groups(pages)
        self.fold = np.random.default_rng(SEED).permutation(len(pages))[templates] % FOLDS

    def second(self, p):
        """Features of the second round. p: out_of_fold of the first one."""
        split = zip(self.pages, np.split(p, self.ends[:-1]), strict=True)
        context = [columns(context_features(page.blocks, page.seen, q)) for page, q in split]
        return np.hstack([np.concatenate(context), self.x])

    def rows(self, pages):
        return np.isin(self.page, np.flatnonzero(pages))

    def out_of_fold(self, x, pages):
        """Probabilities of these pages' blocks, each by trees that were fitted to the other folds."""
        p = np.zeros(len(self.y), np.float32)
        for fold in range(FOLDS):
            train, test = self.rows(pages & (self.fold != fold)), self.rows(pages & (self.fold == fold))
            p[test] = evaluate(fit(x[train], self.y[train], self.weight[train]), x[test])
        return p

    def both(self, pages, first):
        """The two forests fitted to these pages. first: out_of_fold of self.x."""
        rows = self.rows(pages)
        second = self.second(first)
        return fit(self.x[rows], self.y[rows], self.weight[rows]), fit(second[rows], self.y[rows], self.weight[rows])


def groups(pages):
    """int (pages,): the same number for pages that share a third of the templates of the one with fewer."""
    kinds = [set(page.blocks.kind.tolist()) for page in pages]
    having = defaultdict(list)
    for number, members in enumerate(kinds):
        for kind in members:
            having[kind].append(number)
    rare = {kind for kind, members in having.items() if len(members) <= 60}
    sizes, common = [len(members & rare) for members in kinds], Counter()
    for kind in rare:
        common.update((a, b) for b in having[kind] for a in having[kind] if a < b)
    group = np.arange(len(pages))
    for (a, b), n in common.items():
        if n >= 4 and n > 0.3 * min(sizes[a], sizes[b]):
            group[group == group[b]] = group[a]
    return group


# --- The score -------------------------------------------------------------------------------------------------------------


def score(pages, p, comments=False):
    """Prints F1 of each set and the mean as scorers/extraction.py computes them. p: one array a page."""
    f1, found, required, forbidden = defaultdict(list), 0, 0, 0
    for page, q in zip(pages, p, strict=True):
        keep = select(weigh_comments(q, page.seen, comments), page.seen.words)
        if page.segments:
            text = squeeze(" ".join(page.texts[i] for i in np.flatnonzero(keep)))
            found += sum(segment in text for segment in page.segments[0])
            forbidden += sum(segment in text for segment in page.segments[1])
            required += len(page.segments[0])
        elif page.golds:
            got = Counter(word for i in np.flatnonzero(keep) for word in page.words[i])
            golds = [Counter(re.findall(r"\w+", gold.lower())) for gold in page.golds]
            f1[page.set].append(max(2 * (gold & got).total() / max(1, gold.total() + got.total()) for gold in golds))
        else:
            f1[page.set].append((page.n_words * keep).sum() / page.n_words.sum())
    means = {name: float(np.mean(values)) for name, values in f1.items()}
    if required:
        means["trafilatura_eval"] = 2 * found / (required + found + forbidden)
    print(*(f"{name} {value:.4f}" for name, value in means.items()), end="  ")
    print(f"mean {np.mean([value for name, value in means.items() if name != 'pydoc']):.4f}", flush=True)
    return means


def check(data):
    every = np.ones(len(data.pages), bool)
    first = data.out_of_fold(data.x, every)
    p = np.split(data.out_of_fold(data.second(first), every), data.ends[:-1])
    print(f"{FOLDS} folds, first round:", end=" ")
    score(data.pages, np.split(first, data.ends[:-1]))
    for comments in (False, True):
        print(f"{FOLDS} folds, comments={comments}:", end=" ")
        score(data.pages, p, comments)
    names = np.array([page.set for page in data.pages])
    means = {}
    for name in dict.fromkeys(names):
        forests = data.both(names != name, first)
        pages = [page for page in data.pages if page.set == name]
        print("left out:", end=" ")
        means |= score(pages, [predict(page, *forests) for page in pages])
    print(f"mean of the sets left out: {np.mean([value for name, value in means.items() if name != 'pydoc']):.4f}")


def predict(page, first, second):
    features = columns(page.seen.features)
    p = evaluate(first, features)
    return evaluate(second, np.hstack([columns(context_features(page.blocks, page.seen, p)), features]))


def main(shared, out):
    with tempfile.TemporaryDirectory() as folder:
        data = Data(read_pages(Path(shared), folder))
    if out == "--check":
        return check(data)
    every = np.ones(len(data.pages), bool)
    forests = data.both(every, data.out_of_fold(data.x, every))
    score(data.pages, [predict(page, *forests) for page in data.pages])
    arrays = {f"{name}{stage}": values for stage, trees in enumerate(forests, 1) for name, values in trees._asdict().items()}
    small = {name: values.astype(np.uint16) if name.startswith("left") else values for name, values in arrays.items()}
    np.savez_compressed(out, **small)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
