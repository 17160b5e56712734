"""
Documents of word processors, books and notebooks -> their text and title. The first three are zip files of XML or HTML.

    READERS[".docx"](file, limits, most)   .docx .odt .epub; most: bytes of a part
    notebook(content)                      the bytes of an .ipynb

kept    paragraphs with an empty line between, list items as "- " lines, table rows as lines with tabs between the cells, footnotes
        (of .docx at the end, of .odt in brackets); of a notebook the text and code cells; of a book the chapters in reading order
gone    what the author has deleted, comments, fields' codes, pictures, headers and footers; output of code cells

Entities are not resolved, every byte counts against the Limits of the file.  Method: ECMA-376, ODF 1.3, EPUB 3.3, nbformat 4.
"""

import json
import posixpath
import re
import zipfile
from urllib.parse import unquote

from data_engine.sources.archives import ODD, Unpacked, open_zip
from data_engine.sources.encodings import to_utf8

MAX_DEPTH = 200  # elements inside each other; libxml2 itself allows 256
ITEM, ROW, PARAGRAPH = "item", "row", "paragraph"


class Problem(Exception):
    """(reason, detail) for the ledger."""


class Package:
    """A zip file whose parts are read by name."""

    def __init__(self, file, limits, most):
        if file.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":  # OLE: Office's form of an encrypted file, and that before 2007
            raise Problem("encrypted", "a password is needed, or the file is of Office 97")
        self.limits, self.most, self.archive = limits, most, open_zip(file)

    def part(self, name):
        """The bytes of a part; None if there is none."""
        try:
            info = self.archive.getinfo(name)
        except KeyError:
            return None
        if info.flag_bits & 1:
            raise Problem("encrypted", "a password is needed")
        self.limits.find()
        try:
            with self.archive.open(info) as stream:
                data = Unpacked(stream, self.limits).read(self.most + 1)
        except ODD as error:
            raise zipfile.BadZipFile(f"{name}: {error}") from error
        if data is None or len(data) > self.most:
            raise Problem("too_large", f"{name} has over {self.most} bytes")
        return data

    def xml(self, name):
        """The root of an XML part; None if there is no part, or no XML in it."""
        from lxml import etree

        data = self.part(name)
        options = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False, "recover": True}
        parser = etree.XMLParser(remove_comments=True, remove_pis=True, **options)
        try:
            return etree.fromstring(data, parser) if data else None
        except etree.XMLSyntaxError:
            return None


def local(element):
    """The name of an element or attribute without its namespace; "" for an entity."""
    name = element if isinstance(element, str) else element.tag
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def attribute(element, name):
    return next((value for key, value in element.items() if local(key) == name), "") if len(element.attrib) < 100 else ""


def joined(blocks):
    """[(kind, text)] -> text: items of a list and rows of a table on lines of their own, an empty line around all others."""
    pieces, before = [], None
    for kind, text in blocks:
        if pieces:
            pieces.append("\n" if kind == before and kind != PARAGRAPH else "\n\n")
        pieces.append(f"- {text}" if kind == ITEM else text)
        before = kind
    if not pieces:
        raise Problem("no_text", "no paragraph with text")
    return "".join(pieces)


def title_of(package, name):
    root = package.xml(name)
    found = [] if root is None else [e.text for e in root.iter() if local(e) == "title" and e.text]
    return " ".join(found[0].split()) if found else None


# --- .docx -------------------------------------------------------------------------------------------------------------------

DOCX_GONE = {"pPr", "rPr", "tblPr", "tcPr", "trPr", "tblGrid", "sectPr"}  # properties
DOCX_GONE |= {"Fallback", "moveFrom", "del", "delText", "instrText"}
DOCX_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}


def docx(file, limits, most):
    package = Package(file, limits, most)
    links = package.xml("_rels/.rels")
    main = [] if links is None else [e.get("Target", "") for e in links if e.get("Type", "").endswith("/officeDocument")]
    main = main[0].lstrip("/") if main else "word/document.xml"
    root = package.xml(main)
    if root is None:
        raise Problem("broken", f"{main} is missing or no XML")
    blocks = []
    _docx_blocks(root, blocks)
    for notes in ("footnotes.xml", "endnotes.xml"):
        notes = package.xml(posixpath.join(posixpath.dirname(main), notes))
        for note in () if notes is None else notes:
            if attribute(note, "type") in ("", "normal"):
                _docx_blocks(note, blocks)
    return joined(blocks), title_of(package, "docProps/core.xml")


def _docx_blocks(node, blocks, depth=0):
    for child in node if depth < MAX_DEPTH else ():
        name = local(child)
        if name == "p":
            pieces, boxes = [], []
            _docx_inline(child, pieces, boxes, depth)
            properties = [p for p in child if local(p) == "pPr"]
            is_item = any(local(p) == "numPr" for p in (properties[0] if properties else ()))
            if text := "".join(pieces).strip():
                blocks.append((ITEM if is_item else PARAGRAPH, text))
            for box in boxes:
                _docx_blocks(box, blocks, depth + 1)
        elif name == "tr":
            cells = []
            for cell in (c for c in child.iter() if local(c) == "tc" and _row_of(c) is child):
                inner = []
                _docx_blocks(cell, inner, depth + 1)
                cells.append(" ".join(" ".join(text.split()) for _, text in inner))
            if any(cells):
                blocks.append((ROW, "\t".join(cells)))
        elif name not in DOCX_GONE:
            _docx_blocks(child, blocks, depth + 1)


def _row_of(cell):
    return next((e for e in cell.iterancestors() if local(e) in ("tr", "table-row")), None)


def _docx_inline(node, pieces, boxes, depth):
    for child in node if depth < MAX_DEPTH else ():
        name = local(child)
        if name == "t":
            pieces.append(child.text or "")
        elif name in DOCX_BREAKS:
            pieces.append(DOCX_BREAKS[name])
        elif name == "txbxContent":
            boxes.append(child)
        elif name and name not in DOCX_GONE:
            _docx_inline(child, pieces, boxes, depth + 1)


# --- .odt --------------------------------------------------------------------------------------------------------------------

ODT_GONE = {"annotation", "tracked-changes", "note-citation", "ruby-text", "object"}
ODT_GONE |= {"forms", "sequence-decls", "variable-decls"}


def odt(file, limits, most):
    package = Package(file, limits, most)
    if b"encryption-data" in (package.part("META-INF/manifest.xml") or b""):
        raise Problem("encrypted", "a password is needed")
    root = package.xml("content.xml")
    body = None if root is None else next((e for e in root.iter() if local(e) == "body"), None)
    if body is None:
        raise Problem("broken", "content.xml is missing or no XML")
    blocks = []
    _odt_blocks(body, blocks)
    return joined(blocks), title_of(package, "meta.xml")


def _odt_blocks(node, blocks, kind=PARAGRAPH, depth=0):
    for child in node if depth < MAX_DEPTH else ():
        name = local(child)
        if name in ("p", "h"):
            pieces, boxes = [], []
            _odt_inline(child, pieces, boxes, depth)
            if text := "".join(pieces).strip():
                blocks.append((kind, text))
            for box in boxes:
                _odt_blocks(box, blocks, PARAGRAPH, depth + 1)
        elif name == "table-row":
            cells = []
            for cell in child:
                inner = []
                _odt_blocks(cell, inner, PARAGRAPH, depth + 1)
                cells.append(" ".join(" ".join(text.split()) for _, text in inner))
            while cells and not cells[-1]:  # spreadsheets repeat empty cells to the right
                cells.pop()
            if cells:
                blocks.append((ROW, "\t".join(cells)))
        elif name not in ODT_GONE:
            _odt_blocks(child, blocks, ITEM if name == "list-item" else kind, depth + 1)


def _odt_inline(node, pieces, boxes, depth):
    if node.text:
        pieces.append(re.sub(r"[ \t\r\n]+", " ", node.text))
    for child in node if depth < MAX_DEPTH else ():
        name = local(child)
        if name == "s":
            count = attribute(child, "c")
            pieces.append(" " * (min(int(count), 1000) if re.fullmatch(r"[0-9]{1,4}", count) else 1))
        elif name in ("tab", "line-break"):
            pieces.append("\t" if name == "tab" else "\n")
        elif name == "text-box":
            boxes.append(child)
        elif name == "note":
            inner = []
            _odt_blocks(child, inner, PARAGRAPH, depth + 1)
            pieces.append(f" [{' '.join(text for _, text in inner)}]" if inner else "")
        elif name and name not in ODT_GONE:
            _odt_inline(child, pieces, boxes, depth + 1)
        if child.tail:
            pieces.append(re.sub(r"[ \t\r\n]+", " ", child.tail))


# --- .epub -------------------------------------------------------------------------------------------------------------------

PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
HEAD = re.compile(r"(?is)<head\b.*?</head\s*>")


def epub(file, limits, most):
    from data_engine.text.html_text import decode_html, fragment_text

    package = Package(file, limits, most)
    container = package.xml("META-INF/container.xml")
    found = [] if container is None else [e.get("full-path") for e in container.iter() if local(e) == "rootfile"]
    main = found[0] if found and found[0] else next((n for n in package.archive.namelist() if n.endswith(".opf")), "")
    root = package.xml(main)
    if root is None:
        raise Problem("broken", "no list of its parts (.opf)")
    parts, order = {}, []
    for element in root.iter():
        if local(element) == "item" and element.get("media-type") in PAGES and "nav" not in element.get("properties", "").split():
            parts[element.get("id")] = posixpath.normpath(posixpath.join(posixpath.dirname(main), unquote(element.get("href", ""))))
        elif local(element) == "itemref":
            order.append(element.get("idref"))
    chapters = list(dict.fromkeys(parts[name] for name in order if name in parts)) or list(parts.values())
    locked = package.xml("META-INF/encryption.xml")
    locked = set() if locked is None else {unquote(e.get("URI", "")) for e in locked.iter() if local(e) == "CipherReference"}
    if locked & set(chapters):  # fonts may be, too, which is no matter
        raise Problem("encrypted", "its chapters are")
    texts, size = [], 0
    for name in chapters:
        page = package.part(name)
        if page:
            texts.append(fragment_text(HEAD.sub("", decode_html(page), count=1)).strip())
            size += len(texts[-1])
        if size > most:
            raise Problem("too_large", f"over {most} characters")
    if not any(texts):
        raise Problem("no_text", f"{len(chapters)} chapters without text")
    return "\n\n".join(filter(None, texts)), title_of(package, main)


READERS = {".docx": docx, ".odt": odt, ".epub": epub}


# --- .ipynb ------------------------------------------------------------------------------------------------------------------


def notebook(content):
    """(text, title) of Jupyter's notebook: Markdown as it is, code between ``` lines; the title is the first heading."""
    try:
        book = json.loads(to_utf8(content).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Problem("bad_json", str(error)) from None
    if not isinstance(book, dict):
        raise Problem("bad_json", f"{type(book).__name__} instead of an object")
    sheets = book.get("worksheets") if isinstance(book.get("worksheets"), list) else [book]  # nbformat 3 has sheets
    lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    cells = [cell for some in lists if isinstance(some, list) for cell in some if isinstance(cell, dict)]
    language = book.get("metadata") if isinstance(book.get("metadata"), dict) else {}
    language = language.get("language_info") or language.get("kernelspec") or {}
    language = str(language.get("name" if "name" in language else "language", "")) if isinstance(language, dict) else ""
    language = re.match(r"[A-Za-z+#]{0,20}", language)[0]
    pieces, title = [], None
    for cell in cells:
        source = cell.get("source", cell.get("input", ""))
        source = "".join(map(str, source)) if isinstance(source, list) else source
        if not isinstance(source, str) or not source.strip():
            continue
        source = source.strip("\n")
        if cell.get("cell_type") == "code":
            pieces.append(f"```{language}\n{source}\n```")
        elif cell.get("cell_type") == "heading":
            pieces.append(f"{'#' * min(int(cell.get('level', 1)), 6) if str(cell.get('level', 1)).isdigit() else '#'} {source}")
        elif cell.get("cell_type") in ("markdown", "html"):
            pieces.append(source)
        if title is None and (heading := re.search(r"^#{1,2} +(.+?)#*\s*$", pieces[-1] if pieces else "", re.M)):
            title = heading[1].strip()
    if not pieces:
        raise Problem("no_text", "no cell with text or code")
    return "\n\n".join(pieces), title
