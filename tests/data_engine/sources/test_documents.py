"""Office documents, books, notebooks and arXiv's submissions -> their text."""

import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter

import pytest

from data_engine.download import Local
from data_engine.sources import archives
from data_engine.sources.readers import kind_of
from tests.data_engine.sources.test_archives import make_tar, make_zip
from tests.data_engine.sources.test_download import read

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:mc="http://x/mc" xmlns:m="http://x/m"'
STRICT = W.replace("http://schemas.openxmlformats.org", "http://purl.oclc.org/ooxml")
BODY = """<w:p><w:pPr><w:pStyle w:val="Title"/><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr><w:r><w:t>The title</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">One </w:t></w:r><w:r><w:rPr><w:b/></w:rPr><w:t>para</w:t></w:r><w:r><w:t>graph &amp; more</w:t>
<w:tab/><w:t>after</w:t>
<w:br/><w:t>a line</w:t></w:r><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del><w:ins><w:r><w:t> inserted</w:t></w:r></w:ins>
<w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom><w:r><w:instrText>PAGE</w:instrText></w:r>
<m:oMath><m:r><m:t>x=1</m:t></m:r></m:oMath></w:p>
<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>first</w:t></w:r></w:p><w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>second</w:t></w:r></w:p>
<w:tbl><w:tblPr/><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc>
<w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p/></w:tc><w:tc><w:tbl><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:tc></w:tr></w:tbl>
<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></mc:Choice>
<mc:Fallback>
<w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></mc:Fallback></mc:AlternateContent></w:r></w:p>
<w:sdt><w:sdtContent><w:p><w:hyperlink><w:r><w:t>a link</w:t></w:r></w:hyperlink></w:p></w:sdtContent></w:sdt>"""
NOTES = """<w:footnotes {w}><w:footnote w:type="separator"><w:p><w:r><w:t>---</w:t></w:r></w:p></w:footnote>
<w:footnote><w:p><w:r><w:t>a note</w:t></w:r></w:p></w:footnote></w:footnotes>"""
DOCX_TEXT = "The title\n\nOne paragraph & more\tafter\na line insertedx=1\n\n- first\n- second\n\n"
DOCX_TEXT += "a\tb c\n\tinner\n\nin a box\n\na link\n\na note"


def docx(w=W, main="word/document.xml", body=BODY, notes=NOTES):
    link = f'<Relationships><Relationship Type="http://x/officeDocument" Target="/{main}"/></Relationships>'
    core = '<cp:p xmlns:cp="x" xmlns:dc="y"><dc:title>A &lt;title&gt;</dc:title></cp:p>'
    parts = {"_rels/.rels": link, main: f"<w:document {w}><w:body>{body}</w:body></w:document>", "docProps/core.xml": core}
    return make_zip({name: data.encode() for name, data in (parts | {"word/footnotes.xml": notes.format(w=w)}).items()})


O = 'xmlns:office="o" xmlns:text="t" xmlns:table="b" xmlns:draw="d"'  # noqa: E741
CONTENT = f"""<office:document-content {O}><office:automatic-styles><x>style</x></office:automatic-styles><office:body><office:text>
<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:h>The title</text:h>
<text:p>One  <text:span>para</text:span>graph<text:s text:c="3"/>and
 more<text:tab/>x<text:line-break/>y<text:note><text:note-citation>1</text:note-citation><text:note-body>
<text:p>a note</text:p></text:note-body>
</text:note> end<office:annotation><text:p>a comment</text:p></office:annotation>.</text:p>
<text:list><text:list-item><text:p>first</text:p></text:list-item><text:list-item><text:p>second</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>
<table:table-cell><text:p>b</text:p></table:table-cell>
<table:table-cell/></table:table-row></table:table>
<text:p><draw:frame><draw:text-box><text:p>in a box</text:p></draw:text-box></draw:frame></text:p>
</office:text></office:body></office:document-content>"""
ODT_TEXT = "The title\n\nOne paragraph   and more\tx\ny [a note] end.\n\n- first\n- second\n\na\tb\n\nin a box"


def odt(content=CONTENT, manifest=""):
    parts = {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content, "META-INF/manifest.xml": manifest}
    return make_zip({name: data.encode() for name, data in parts.items()})


CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
OPF = """<package xmlns:dc="d"><metadata><dc:title>A book</dc:title></metadata><manifest>
<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="b%20two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="../a.xhtml" media-type="application/xhtml+xml"/><item id="p" href="p.png" media-type="image/png"/></manifest>
<spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/><itemref idref="a"/><itemref idref="gone"/></spine></package>"""


def epub(**more):
    page = (
        "<html><head><title>no text</title></head><body><h1>{0}</h1><p>It <i>was</i> caf\u00e9.</p><pre>x\n  y</pre></body></html>"
    )
    parts = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": OPF,
        "OEBPS/nav.xhtml": page.format("Contents"),
        "OEBPS/p.png": "x",
    }
    parts |= {"OEBPS/b two.xhtml": page.format("Two"), "a.xhtml": page.format("One")}
    return make_zip({name: data.encode() for name, data in (parts | more).items()})


EPUB_TEXT = "One\n\nIt was café.\n\nx\n  y\n\nTwo\n\nIt was café.\n\nx\n  y"
CELLS = [
    {"cell_type": "markdown", "source": ["# A title\n", "text & more"]},
    {"cell_type": "code", "source": "x = 1\nprint(x)\n", "outputs": [{"text": ["never seen"]}]},
    {"cell_type": "code", "source": []},
    {"cell_type": "raw", "source": "raw"},
]
BOOK = {"cells": CELLS, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
OLD_CELLS = [{"cell_type": "heading", "level": 1, "source": ["A title"]}, {"cell_type": "code", "input": ["x = 1"]}]
OLD = {"worksheets": [{"cells": OLD_CELLS}], "metadata": {}, "nbformat": 3}


def test_the_text_of_every_document_is_read(tmp_path):
    files = {
        "a.docx": (docx(), DOCX_TEXT, "A <title>"),
        "strict.docx": (docx(STRICT, "word/document2.xml"), DOCX_TEXT, "A <title>"),
        "b.odt": (odt(), ODT_TEXT, None),
        "c.epub": (epub(), EPUB_TEXT, "A book"),
        "d.ipynb": (json.dumps(BOOK).encode(), "# A title\ntext & more\n\n```python\nx = 1\nprint(x)\n```", "A title"),
        "old.ipynb": (json.dumps(OLD).encode("utf-16"), "# A title\n\n```\nx = 1\n```", "A title"),
        "e.md": ("# Head\n\ncafé *x*\n".encode(), "# Head\n\ncafé *x*\n", None),
        "f.rst": (b"Head\n====\n", "Head\n====\n", None),
        "g.markdown": (b"x", "x", None),
    }
    for name, (data, _, _) in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "h.tar").write_bytes(make_tar({f"d/{name}": data for name, (data, _, _) in files.items()}))
    kept, lost = read(Local("s", str(tmp_path)))
    assert not lost and {r["media_type"] for r in kept} == {"text/plain"}
    found = {r["uri"]: (r["content"].decode(), json.loads(r["meta"]).get("title")) for r in kept}
    wanted = {name: (text, title) for name, (_, text, title) in files.items()}
    assert found == wanted | {f"h.tar!/d/{name}": pair for name, pair in wanted.items()}


def test_what_is_no_document_is_one_ledger_row(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    entity = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    locked = '<encryption><EncryptedData><CipherReference URI="a.xhtml"/></EncryptedData></encryption>'
    fonts = locked.replace("a.xhtml", "OEBPS/font.ttf")
    files = {
        "broken": {
            "a.docx": docx()[:-40],
            "b.odt": b"no zip",
            "c.epub": make_zip({"x.txt": b"x"}),
            "d.docx": make_zip({"x": b"x"}),
        },
        "encrypted": {
            "e.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
            "f.epub": epub(**{"META-INF/encryption.xml": locked}),
        },
        "no_text": {"h.docx": docx(body="", notes=""), "i.odt": odt("<o:x xmlns:o='o'><o:body/></o:x>")},
        "quarantined": {"j.docx": docx(body="<w:p><w:r><w:t>" + "x" * 9_000_000 + "</w:t></w:r></w:p>")},
        "bad_json": {"k.ipynb": b"{", "l.ipynb": b"[1]", "m.ipynb": b"[" * 100_000},
    }
    files["encrypted"]["g.odt"] = odt(manifest="<manifest:encryption-data/>")
    files["no_text"] |= {"n.ipynb": b'{"cells": [1, {"cell_type": 3}, {"source": {}}]}', "o.ipynb": b'{"cells": 5}'}
    for some in files.values():
        for name, data in some.items():
            (tmp_path / name).write_bytes(data)
    (tmp_path / "p.epub").write_bytes(epub(**{"META-INF/encryption.xml": fonts}))
    (tmp_path / "q.odt").write_bytes(odt(entity + CONTENT.replace("The title", "&a;&f;The title")))
    kept, lost = read(Local("s", str(tmp_path)))
    assert {r["uri"]: r["reason"] for r in lost} == {name: reason for reason, some in files.items() for name in some}
    assert {r["uri"]: r["content"].decode() for r in kept} == {"p.epub": EPUB_TEXT, "q.odt": ODT_TEXT}


@pytest.mark.parametrize("make", [docx, odt, epub])
def test_a_damaged_document_raises_nothing(tmp_path, make):
    good, name = make(), f"a.{make.__name__}"
    for i in range(0, len(good), 37):
        data = bytearray(good)
        data[i] ^= 0x55
        (tmp_path / name).write_bytes(data)
        kept, lost = read(Local("s", str(tmp_path)))
        assert len(kept) + len(lost) == 1


# --- arXiv -------------------------------------------------------------------------------------------------------------------

TEX = b"\\documentclass{article}\\begin{document}A paper.\\end{document}"


def old_tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return file.getvalue()


SUBMISSIONS = {
    "2001.00001.gz": (gzip.compress(TEX), {"": "application/x-tex"}),
    "2001.00002.gz": (
        gzip.compress(make_tar({"main.tex": TEX, "sec/a.tex": b"text", "f.png": b"x"})),
        {"!/main.tex": "application/x-tex", "!/sec/a.tex": "application/x-tex"},
    ),
    "2001.00003v2.gz": (gzip.compress(old_tar({"main.tex": TEX})), {"!/main.tex": "application/x-tex"}),
    "2001.00004.pdf": (b"%PDF-1.5 x", {"": "application/pdf"}),
    "2001.00005": (gzip.compress(TEX), {"": "application/x-tex"}),
    "2001.00006": (b"%PDF-1.5 x", {"": "application/pdf"}),
    "hep-th9901001.gz": (gzip.compress(b"%&plain\n\\magnification=1200 Old \\bye"), {"": "application/x-tex"}),
    "math.AG0001001.tar.gz": (gzip.compress(make_tar({"p.tex": TEX})), {"!/p.tex": "application/x-tex"}),
    "cond-mat0001002.gz": (gzip.compress(b"<!DOCTYPE html><html><p>x"), {"": "text/html"}),
}  # fmt: skip


@pytest.mark.parametrize("form", ["a folder", "its bulk tar"])
def test_the_submissions_of_arxiv_are_read_as_it_gives_them(tmp_path, form):
    others = {
        "2001.00007.gz": gzip.compress(b"%!PS-Adobe-3.0"),
        "2001.00008.gz": gzip.compress(b""),
        "2001.00009.gz": gzip.compress(TEX)[:-9],
    }
    files = {f"2001/{name}": data for name, (data, _) in SUBMISSIONS.items()} | {
        f"2001/{name}": data for name, data in others.items()
    }
    if form == "a folder":
        (tmp_path / "2001").mkdir()
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        prefix = ""
    else:
        (tmp_path / "arXiv_src_2001_001.tar").write_bytes(make_tar(files))
        prefix = "arXiv_src_2001_001.tar!/"
    kept, lost = read(Local("s", str(tmp_path)))
    wanted = {f"{prefix}2001/{name}{inner}": kind for name, (_, found) in SUBMISSIONS.items() for inner, kind in found.items()}
    assert {r["uri"]: r["media_type"] for r in kept} == wanted
    assert Counter(r["reason"] for r in lost) == {"unknown_type": 2, "empty": 1, "broken": 1}


def test_tex_lies_in_folders_and_the_home_has_a_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("paper/main.tex", "paper/sections/intro.tex", "paper/old.ltx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(TEX)
    for path in ("~", "~/", str(tmp_path)):
        assert [r["uri"] for r in read(Local("s", path))[0]] == ["paper/main.tex", "paper/old.ltx", "paper/sections/intro.tex"]
    assert [r["uri"] for r in read(Local("s", "~/paper/main.tex"))[0]] == ["main.tex"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *(("a/B.NDJSON.gz", (".jsonl", "gzip")), ("2001/2001.00001.gz", ("arxiv", "gzip")), ("1.5.txt", (".txt", None))),
        *(("hep-th9901001", ("arxiv", None)), ("data-2001.00001.csv", (".csv", None)), ("photo1234567", (None, None))),
        *(
            ("x.docx", (".docx", None)),
            ("x.docx.gz", (None, None)),
            ("notes2001.00001.bin", (None, None)),
            ("v1.2345", (None, None)),
        ),
    ],
)
def test_a_name_tells_the_kind(path, kind):
    assert kind_of(path) == kind


def test_zip_files_of_documents_are_zip_files():
    for data in (docx(), odt(), epub()):
        assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
