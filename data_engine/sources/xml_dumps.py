"""
XML dumps -> records, read as streams: MediaWiki's export (Wikipedia's dumps) and StackExchange's Posts.xml.

    read_dump(stream, uri, folder) -> a Record or a Lost for each page or question of the file

MediaWiki   the last revision of a page in namespace 0 is a record of text/x-wiki; redirects are lost as `redirect`, pages of other
            namespaces (talk, users, templates, files) as `not_article`
Posts.xml   a question with its answers is a record of application/x-stackexchange+json, with bodies in HTML:
            {"title", "tags", "score", "body", "answers": [{"id", "score", "accepted", "body"}]}. Tag wikis and the like are
            lost as `not_question`, answers without their question as `orphan`, a question with a used number as `repeated`

Memory is bounded for any file: each element is freed once it is closed, entities are not resolved, libxml2's limits (10 MB for a
text, 256 levels) stay on. Questions and answers stand far apart in a dump, so BUCKETS temporary files collect them by the number
of the question. One bucket at a time is in memory: about 1/BUCKETS of the file.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pyarrow as pa

BUCKETS = 128  # temporary files; one of 1/128 of an 8 GB dump takes some 200 MB as Python objects
IN_MEMORY = 1 << 20  # bytes of a bucket that stay in memory, so that small dumps need no disk


class Record(NamedTuple):
    uri: str
    media_type: str
    content: bytes
    licence: str  # "" if the dump names none
    meta: dict


class Lost(NamedTuple):
    uri: str
    reason: str
    detail: str


def read_dump(stream, uri: str, folder: str) -> Iterator[Record | Lost]:
    """Records and losses in a fixed order. uri: of the file; folder: name of its folder, which names a StackExchange site."""
    from lxml import etree

    read = 0
    try:
        parsed = elements(stream)
        first = next(parsed, None)
        root = "" if first is None else local_name(first.getroottree().getroot())
        if root not in ("mediawiki", "posts"):
            yield Lost(uri, "unknown_type", f"XML of <{root}>")
            return
        reader = pages(first, parsed, uri) if root == "mediawiki" else questions(first, parsed, uri, folder)
        for found in reader:
            read += 1
            yield found
    except (OSError, pa.ArrowException, etree.LxmlError) as error:
        yield Lost(uri, "broken", f"after {read} records: {error}")
        return
    if not read:
        yield Lost(uri, "empty", f"a <{root}> without a page")


def elements(stream):
    """The elements as they close, children first. Each is emptied, and its elder siblings removed, before the next."""
    from lxml import etree

    options = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
    for _, element in etree.iterparse(stream, ("end",), remove_comments=True, remove_pis=True, **options):
        yield element
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def local_name(element):
    return element.tag.rpartition("}")[2]


# --- MediaWiki ---------------------------------------------------------------------------------------------------------------

BY_SA = re.compile(r"(?:^|\.)(?:wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage)\.org$")


def pages(first, rest, uri):
    prefix, licence, page = None, "", {}
    element = first
    while element is not None:
        name = local_name(element)
        if len(element) and name in ("title", "ns", "id", "text"):
            page["odd"] = name  # its text before the child was freed
        if name == "base" and element.text:
            prefix = element.text.strip().rpartition("/")[0] + "/"
            licence = "CC-BY-SA-4.0" if BY_SA.search(urlsplit(prefix).hostname or "") else ""
        elif name in ("title", "ns", "id"):
            page.setdefault(name, (element.text or "").strip())  # the id of the page comes before that of the revision
        elif name == "redirect":
            page["redirect"] = element.get("title", "")
        elif name in ("timestamp", "text"):
            page[name] = element.text or ""  # the last revision's stays
        elif name == "page":
            yield wiki_page(page, prefix, licence, uri)
            page = {}
        element = next(rest, None)


def wiki_page(page, prefix, licence, uri):
    title = page.get("title", "")
    where = prefix + quote(title.replace(" ", "_"), safe="/:@!$'()*,;~") if prefix and title else f"{uri}#{page.get('id', '')}"
    if "odd" in page:
        return Lost(where, "broken", f"an element or an entity inside <{page['odd']}>")
    if "redirect" in page:
        return Lost(where, "redirect", f"to {page['redirect']}")
    if page.get("ns", "0") != "0":
        return Lost(where, "not_article", f"namespace {page['ns']}")
    if not page.get("text"):
        return Lost(where, "empty", "no text")
    meta = {name: page[name] for name in ("id", "timestamp", "title") if page.get(name)}
    return Record(where, "text/x-wiki", page["text"].encode(), licence, meta)


# --- StackExchange -----------------------------------------------------------------------------------------------------------

POST_TYPES = {"3": "orphaned tag wiki", "4": "tag wiki excerpt", "5": "tag wiki", "6": "election", "7": "wiki placeholder"}
NUMBER = re.compile("[0-9]{1,18}")
NETWORK = "stackexchange|stackoverflow|superuser|serverfault|askubuntu|stackapps|mathoverflow"
SITE = re.compile(rf"((?:[a-z0-9-]+\.)*(?:{NETWORK}))(?:\.(?:com|net))?(?:-posts)?")


def questions(first, rest, uri, folder):
    site = site_of(folder)
    prefix = f"https://{site}/questions/" if site else f"{uri}#"
    with contextlib.ExitStack() as stack:
        buckets = [stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY)) for _ in range(BUCKETS)]
        element, problem = first, None
        try:
            while element is not None:
                if element.tag == "row":
                    post = dict(element.attrib)
                    kind = post.get("PostTypeId")
                    number = post.get("Id" if kind == "1" else "ParentId", "")
                    if kind in ("1", "2") and NUMBER.fullmatch(number) and NUMBER.fullmatch(post.get("Id", "")):
                        buckets[int(number) % BUCKETS].write(json.dumps(compact(post, kind, number)).encode() + b"\n")
                    else:
                        yield Lost(f"{uri}#{post.get('Id', '')}", "not_question", POST_TYPES.get(kind, f"type {kind}"))
                element = next(rest, None)
        except Exception as error:  # damage of the file; the posts before it are whole
            problem = error
        for bucket in buckets:
            bucket.seek(0)
            yield from joined(map(json.loads, bucket), prefix, site)
        if problem:
            raise problem


def site_of(folder):
    """'ai.stackexchange' -> 'ai.stackexchange.com', 'stackoverflow.com-Posts' -> 'stackoverflow.com'; None for other names."""
    found = SITE.fullmatch(folder.lower())
    return found and found[1] + (".net" if found[1].endswith("mathoverflow") else ".com")


def compact(post, kind, question):
    """(question's number, is it an answer, id, score, body, licence; a question's title, tags, accepted answer) of a post."""
    score = post.get("Score", "")
    score = int(score) if re.fullmatch(r"-?[0-9]{1,9}", score) else 0
    licence = post.get("ContentLicense", "").replace(" ", "-") or licence_on(post.get("CreationDate", ""))
    tags = re.findall(r"[^<>|]+", post.get("Tags", ""))
    accepted = post.get("AcceptedAnswerId")
    return int(question), kind == "2", int(post["Id"]), score, post.get("Body", ""), licence, post.get("Title", ""), tags, accepted


def licence_on(date):
    """The licence of posts of a day (ISO): https://stackoverflow.com/help/licensing."""
    return f"CC-BY-SA-{'2.5' if date < '2011-04-08' else '3.0' if date < '2018-05-02' else '4.0'}"


def joined(posts, prefix, site):
    """The posts of a bucket -> its questions with their answers in the order of their numbers, and the orphans."""
    threads = {}
    for post in sorted(posts, key=lambda post: post[:3]):  # the question before its answers
        threads.setdefault(post[0], []).append(post)
    for number, (question, *answers) in threads.items():
        if question[1]:
            for answer in (question, *answers):
                yield Lost(f"{prefix}{number}#{answer[2]}", "orphan", f"an answer to {number}, which is not here")
            continue
        for other in (post for post in answers if not post[1]):
            yield Lost(f"{prefix}{number}", "repeated", f"another question with the number {other[0]}")
        answers = [post for post in answers if post[1]]
        _, _, _, score, body, _, title, tags, accepted = question
        record = {"title": title, "tags": tags, "score": score, "body": body, "answers": []}
        for _, _, answer, votes, text, *_ in answers:
            record["answers"].append({"id": answer, "score": votes, "accepted": str(answer) == accepted, "body": text})
        licence = " AND ".join(sorted({post[5] for post in (question, *answers)}))
        meta = {"answers": len(answers), "id": number, "score": score, "tags": " ".join(tags), "title": title}
        if site:
            meta["site"] = site
        content = json.dumps(record, ensure_ascii=False).encode()
        yield Record(
            f"{prefix}{number}", "application/x-stackexchange+json", content, licence, meta | ({"site": site} if site else {})
        )
