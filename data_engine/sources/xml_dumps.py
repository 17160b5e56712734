"""
XML dumps -> records, read as streams: MediaWiki's export (Wikipedia's dumps) and StackExchange's Posts.xml.

    read_dump(stream, uri, folder) -> a Record or a Lost for each page or question of the file

MediaWiki   the last revision of a page in namespace 0 is a record of text/x-wiki; redirects are lost as `redirect`, pages of other
            namespaces (talk, users, templates, files) as `not_article`
Posts.xml   a question with its answers is a record of application/x-stackexchange+json, with bodies in HTML:
            {"title", "tags", "score", "body", "answers": [{"id", "score", "accepted", "body"}]}. Tag wikis and the like are
            lost as `not_question`, answers without their question as `orphan`, a question with a used number as `repeated`

The file is cut at its <page> or <row> tags, and the parser gets some of them at a time (units). One that is not well-formed costs
itself. Characters that XML forbids are removed before, as references (&#x0E;) and as bytes. A file that ends before its root
does is `broken` beside what came before.

Memory is bounded for any file: entities are not resolved, libxml2's limits (10 MB for a text, 256 levels) stay on, of a longer
page only the last revision is kept. Questions and answers stand far apart in a dump, so BUCKETS temporary files collect them by the
number of the question. One bucket at a time is in memory: about 1/BUCKETS of the file.
"""

import contextlib
import html
import json
import re
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pyarrow as pa

from data_engine.sources.archives import Rejoined
from data_engine.sources.encodings import Utf8Stream, beginning

BUCKETS = 128  # temporary files; one of 1/128 of an 8 GB dump takes some 200 MB as Python objects
IN_MEMORY = 1 << 20  # bytes of a bucket that stay in memory, so that small dumps need no disk
MAX_HEAD = 1 << 20  # bytes before the first page, with all that the root and <siteinfo> say
MAX_UNIT = 16 << 20  # bytes of a page, or of its last revision; libxml2 refuses a text of 10 MB
UNIT = {"mediawiki": "page", "posts": "row"}  # root -> the element that is cut out
OPTIONS = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


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
    read = 0
    try:
        units = Units(stream)
        if units.root not in UNIT:
            yield Lost(uri, "unknown_type", f"XML of <{units.root}>")
            return
        for found in pages(units, uri) if units.root == "mediawiki" else questions(units, uri, folder):
            read += 1
            yield found
    except (OSError, pa.ArrowException, EOFError) as error:
        yield Lost(uri, "broken", f"after {read} records, the number of those behind is unknown: {error}")
        return
    if not read:
        yield Lost(uri, "empty", f"a <{units.root}> without a page")


# --- Cutting -----------------------------------------------------------------------------------------------------------------

CONTROLS = bytes(set(range(32)) - {9, 10, 13})
DECLARED = re.compile(rb"<\?xml\b[^>]{0,200}?\bencoding\s*=\s*[\"']([\w.:-]+)")
PROLOGUE = re.compile(rb"\s*(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>)", re.S)
ROOT = re.compile(rb"\s*<([\w.:-]+)(?:[^<>\"']|\"[^<\"]*\"|'[^<']*')*>")
REFERENCE = re.compile(rb"&#(?:(0*(?:[0-8]|1[124-9]|2\d|3[01]|\d{5,}))|x(0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]|[0-9a-fA-F]{4,})));")
PAIR = re.compile(rb"(?i)&#x(d[89ab][0-9a-f]{2});&#x(d[c-f][0-9a-f]{2});")
AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)(?:([A-Za-z][A-Za-z0-9]{0,31});)?")


def legal(text):
    """XML without the characters that it forbids; a pair of references to surrogates is the letter that they mean."""
    if b"&#" in text:
        if b"&#xD" in text or b"&#xd" in text:
            text = PAIR.sub(_letter, text)
        text = REFERENCE.sub(_legal_reference, text)
    if b"\xef\xbf" in text:
        text = text.replace(b"\xef\xbf\xbe", b"\xef\xbf\xbd").replace(b"\xef\xbf\xbf", b"\xef\xbf\xbd")
    return text


def _legal_reference(found):
    digits = (found[1] or found[2]).lstrip(b"0") or b"0"
    number = int(digits, 10 if found[1] else 16) if len(digits) <= 8 else 1 << 32
    if number < 32 and number not in (9, 10, 13):
        return b""
    is_legal = number < 0xD800 or 0xDFFF < number < 0xFFFE or 0xFFFF < number < 0x110000
    return found[0] if is_legal else "\ufffd".encode()


def _letter(pair):
    high, low = (int(part, 16) for part in pair.groups())
    return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00).encode()


def _escape(found):
    """A bare & is a letter; an entity of HTML that XML does not know is what HTML means by it."""
    if not found[1]:
        return b"&amp;" + found[0][1:]
    name = found[1].decode() + ";"
    return html.escape(html.entities.html5[name]).encode() if name in html.entities.html5 else found[0]


class Units:
    """
    The elements UNIT of a dump, each a Lost, or an element of lxml that lives until the next.

    root    name of the root element, "" for what is no XML
    head    what stands between the root's tag and the first unit, parsed: an element
    """

    def __init__(self, stream):
        first = beginning(stream)
        declared = DECLARED.search(first[:400])
        self.stream = Utf8Stream(Rejoined(first, stream), declared and declared[1].decode())
        text = b""
        while len(text) < MAX_HEAD and (block := self._block()):
            text += block
            if self._open(text):
                return
        self._open(text, ended=True)

    def _block(self):
        while block := self.stream.read():
            if block := block.translate(None, CONTROLS):
                return block
        return b""

    def _open(self, text, ended=False):
        """True once the root and the first unit are there; a file that ends before is OSError or has no unit."""
        at = 0
        while found := PROLOGUE.match(text, at):
            at = found.end()
        found = ROOT.match(text, at)
        self.root = found[1].rpartition(b":")[2].decode() if found else ""
        prefix = found[1][: -len(self.root)] if found else b""  # of a namespace
        name = re.escape(prefix) + UNIT.get(self.root, "page").encode()
        self.begin = re.compile(rb"<%s[\s/>]" % name)
        self.end = re.compile(rb"</%s\s*>%s" % (name, b"|/>" if self.root == "posts" else b""))
        self.close = b"</%s>" % found[1] if found else b""
        if not found:
            if ended:
                raise OSError("no XML" if text.strip() else "the file is empty")
            return False
        unit = self.begin.search(text, found.end())
        if not unit and not ended and self.close not in text[found.end() :] and self.root in UNIT:
            return False
        self.tag = text[at : found.end()].lstrip()
        if self.tag.endswith(b"/>"):
            self.tag, text = self.tag[:-2] + b">", text[: found.end()] + self.close + text[found.end() :]
        start = unit.start() if unit else max(found.end(), text.find(self.close, found.end()))
        self.head = self._parse(text[found.end() : start], recover=True)
        self.text = text[start:]
        return True

    def _parse(self, units, recover=False):
        from lxml import etree

        parser = etree.XMLParser(remove_comments=True, remove_pis=True, recover=recover, **OPTIONS)
        return etree.fromstring(b"".join((self.tag, legal(units), self.close)), parser)

    def __iter__(self):
        """The units; at last OSError if the file ends before its root does."""
        text, self.text, closed, too_long = self.text, b"", False, 0
        while True:
            starts = [found.start() for found in self.begin.finditer(text)]
            end = text.find(self.close)
            closed = closed or end >= 0
            cut = starts[-1] if starts else 0
            if cut:
                yield from self._units(text[:cut], starts, too_long)
                text, too_long = text[cut:], 0
            if len(text) > MAX_UNIT // 4:  # of a page with its history the last revision is enough
                first, last = text.find(b"<revision>"), text.rfind(b"<revision>")
                text = text[:first] + text[last:] if 0 <= first < last else text
            if len(text) > MAX_UNIT:
                too_long += len(text) - MAX_UNIT // 2
                text = text[: MAX_UNIT // 2]
            try:
                block = self._block()
            except Exception:  # raised again below: the unit before the damage comes first, then the reader's ledger row
                if text:
                    yield from self._last(text, too_long, closed, damaged=True)
                raise
            if not block:
                break
            text = text + block
        yield from self._last(text, too_long, closed)

    def _last(self, text, too_long, closed, damaged=False):
        """The unit at the end of the file, which must be whole and in front of the root's end."""
        end = text.rfind(self.close)
        if self.begin.match(text):
            whole = (text[:end] if end >= 0 else text).rstrip()
            if end < 0 and max((found.end() for found in self.end.finditer(whole)), default=0) < len(whole):
                if not damaged:
                    raise OSError("the file ends in the middle of an element")
                return
            yield from self._units(whole, [0, len(whole)], too_long)
        if not closed and end < 0 and not damaged:
            raise OSError(f"the file ends before {self.close.decode('utf-8', 'replace')}")

    def _units(self, text, bounds, too_long):
        """The units of a text with their starts and its end; together if they are well-formed, else one by one."""
        from lxml import etree

        if not too_long:
            try:
                parsed = [element for element in self._parse(text) if local_name(element) == UNIT[self.root]]
                if len(parsed) == len(bounds) - 1:
                    yield from parsed
                    return
            except etree.LxmlError:
                pass
        unit = b""
        for start, end in pairwise(bounds):
            unit += text[start:end]
            if unit.rfind(b"<![CDATA[") > unit.rfind(b"]]>") and end != bounds[-1]:
                continue  # the tag of the next unit is part of a text
            yield from self._one(unit, too_long if start == bounds[0] else 0)
            unit = b""

    def _one(self, unit, too_long):
        """A unit by itself; behind its own end may stand what is left of another that has lost its beginning."""
        from lxml import etree

        if (end := unit.find(self.close)) >= 0:
            unit = unit[:end]
        if too_long or len(unit) > MAX_UNIT:
            yield Lost(self._name(unit), "broken", f"an element of {len(unit) + too_long:,} bytes")
            return
        own_end = self.end.search(unit)
        tries = [(unit, b""), (AMPERSAND.sub(_escape, unit), b"")]
        if own_end and unit[own_end.end() :].strip():
            tries.append((unit[: own_end.end()], unit[own_end.end() :]))
        problems = []
        for text, rest in tries:
            try:
                yield self._parse(text)[0]
            except (etree.LxmlError, IndexError) as error:
                problems.append(str(error))
                continue
            if rest:
                yield Lost(self._name(rest), "broken", problems[0])
            return
        yield Lost(self._name(unit), "broken", problems[0])

    def _name(self, unit):
        """The number or title of an element that cannot be parsed."""
        found = re.search(rb"<id>\s*(\d{1,18})\s*</id>|\bId\s*=\s*[\"'](\d{1,18})[\"']", unit[:4096])
        return (found[1] or found[2]).decode() if found else ""


def local_name(element):
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""  # an entity has no name


# --- MediaWiki ---------------------------------------------------------------------------------------------------------------

BY_SA = re.compile(r"(?:^|\.)(?:wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage)\.org$")


def pages(units, uri):
    prefix, licence = None, ""
    for element in units.head.iter():
        if local_name(element) == "base" and element.text:
            prefix = element.text.strip().rpartition("/")[0] + "/"
            try:
                licence = "CC-BY-SA-4.0" if BY_SA.search(urlsplit(prefix).hostname or "") else ""
            except ValueError:  # "[::1" without its end
                licence = ""
    for unit in units:
        if isinstance(unit, Lost):
            yield unit._replace(uri=f"{uri}#{unit.uri}")
        else:
            yield wiki_page(page_fields(unit), prefix, licence, uri)


def page_fields(page):
    fields = {}
    for element in page.iter():
        name = local_name(element)
        if name in ("title", "ns", "id", "text") and len(element):
            fields["odd"] = name  # an element or an entity inside
        if name in ("title", "ns", "id"):
            fields.setdefault(name, (element.text or "").strip())  # the id of the page comes before that of the revision
        elif name == "redirect":
            fields["redirect"] = element.get("title", "")
        elif name in ("timestamp", "text"):
            fields[name] = element.text or ""  # the last revision's stays
    return fields


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
FIELDS = ["Id", "PostTypeId", "ParentId", "Score", "Body", "ContentLicense", "CreationDate", "Title", "Tags", "AcceptedAnswerId"]
SITE = re.compile(rf"((?:[a-z0-9-]+\.)*(?:{NETWORK}))(?:\.(?:com|net))?(?:-posts)?")


def questions(units, uri, folder):
    site = site_of(folder)
    prefix = f"https://{site}/questions/" if site else f"{uri}#"
    with contextlib.ExitStack() as stack:
        buckets = [stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY)) for _ in range(BUCKETS)]
        problem = None
        try:
            for unit in units:
                if isinstance(unit, Lost):
                    yield unit._replace(uri=f"{uri}#{unit.uri}")
                    continue
                post = {name: value for name in FIELDS if (value := unit.get(name)) is not None}
                kind = post.get("PostTypeId")
                number = post.get("Id" if kind == "1" else "ParentId", "")
                if kind in ("1", "2") and NUMBER.fullmatch(number) and NUMBER.fullmatch(post.get("Id", "")):
                    buckets[int(number) % BUCKETS].write(json.dumps(compact(post, kind, number)).encode() + b"\n")
                else:
                    yield Lost(f"{uri}#{post.get('Id', '')}", "not_question", POST_TYPES.get(kind, f"type {kind}"))
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
        yield Record(f"{prefix}{number}", "application/x-stackexchange+json", content, licence, meta)
