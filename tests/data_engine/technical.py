"""
Technical passages that hold no personal data: numbers, code and citations in the shapes that redaction could take for some.

Each kind draws one fragment from a seeded generator; `passages` puts it into the prose, the code or the table that it comes in.
Real names of people and real numbers are nowhere: what stands here is drawn, or is a constant of nature or of software.
"""

# ruff: noqa: E501  (one fragment a line)
import random


def num(rng, n, first="123456789"):
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(n - 1))


def row(rng, make, low, high, by=" "):
    return by.join(make() for _ in range(rng.randint(low, high)))


def pick(rng, words):
    return rng.choice(words.split("|"))


def bits(rng, n):
    return "".join(rng.choice("01") for _ in range(n))


def decimal(rng, whole=2, places=6):
    return f"{rng.uniform(-(10**whole), 10**whole):.{rng.randint(1, places)}f}"


def signed(rng, places=8):
    return f"{rng.choice('+-')}{rng.randint(0, 180)}.{num(rng, rng.randint(4, places), '0123456789')}"


def pages(rng):
    first = rng.randint(1000, 9000)
    return f"{first}-{first + rng.randint(2, 40)}"


def steps(rng, n, width):
    start, step = rng.randrange(10 ** (width - 2), 10 ** (width - 1)), rng.choice([1, 1, 2, 5, 10, 12])
    return [f"{start + i * step:0{width}d}" for i in range(n)]


GAPS = "\t", "  ", "   "
JOURNALS = "J. Chem. Phys.|Phys. Rev. Lett.|Science|Nature|Ann. Math.|J. Am. Chem. Soc.|Appl. Opt.|Nucl. Phys. B|Proc. IEEE|Lancet"
SLOTS = "shape|T|data|dot|mean|sum|real|inverse|transpose|to|conj|grad|id|name|is|it|size|view|counts|assays|info|in|no|so|map|call|date"
KINDS = {
    "binary": [
        lambda r: f"The nibbles {row(r, lambda: bits(r, 4), 3, 6)} stand for the digits of the number",
        lambda r: f"bytes {row(r, lambda: bits(r, 8), 2, 4)} are sent first",
        lambda r: f"a codeword of the message {bits(r, 10)} has even weight",
        lambda r: f"BCD {row(r, lambda: bits(r, 4), 3, 5, '-')} and Gray code {row(r, lambda: bits(r, 3), 4, 7, r.choice(' -'))}",
        lambda r: f"the text is {row(r, lambda: bits(r, 5), 3, 5)} in the code of Baudot",
    ],
    "hex and octal": [
        lambda r: f"addresses {row(r, lambda: f'{r.randrange(10**4):04d}', 3, 5)} and 00{num(r, 2)} {num(r, 4)} {num(r, 4)}",
        lambda r: f"MD5 {row(r, lambda: f'{r.randrange(65536):04x}', 8, 8, r.choice(' :-'))}",
        lambda r: f"Test vector: key {row(r, lambda: f'{r.randrange(256):02X}', 8, 16)}",
        lambda r: f"00000{r.randrange(8)}0 {row(r, lambda: f'{r.randrange(256):02x}', 16, 16)}  |................|",
        lambda r: f"0000{r.randrange(8)}0 {row(r, lambda: f'{r.randrange(0o1000):03o}', 8, 8)}",
        lambda r: f"{bits(r, 3)} {bits(r, 4)}  {r.randrange(128):03o}  {r.randrange(128)}  {r.randrange(128):02X}  a",
        lambda r: f"the words {row(r, lambda: f'{r.randrange(65536):04x}', 4, 8)} of the block",
        lambda r: f"in decimal the bytes are {row(r, lambda: f'{r.randrange(256):03d}', 4, 8)}",
        lambda r: f"{row(r, lambda: f'{r.randrange(0o1000000):06o}', 3, 6)} as od prints them",
        lambda r: f"the winning numbers {row(r, lambda: f'{r.randrange(1, 49):02d}', 5, 7)}",
    ],
    "signed decimals": [
        lambda r: f"an offset of +{num(r, r.randint(9, 13))} from the origin",
        lambda r: f"mean {num(r, 1)}.{num(r, 9)} std 0.{num(r, 9)} std: {num(r, 2)}.{num(r, 8)}",
        lambda r: f"pH {row(r, lambda: f'{r.uniform(2, 12):.2f}', 4, 6)} at equal times",
        lambda r: f"the residual is {signed(r)} mm",
        lambda r: f"at {signed(r)} {signed(r)} the meridian",
        lambda r: f"coefficients {row(r, lambda: signed(r), 3, 6)}",
        lambda r: f"({signed(r)}, {signed(r)}) in the WGS 84 system",
        lambda r: f"gains of +{r.randint(1, 99)} {num(r, 3)} {num(r, 3)} votes",
        lambda r: f"a range from -{2 ** r.choice([31, 32, 63])} to +{2 ** r.choice([31, 32, 63]) - 1}",
        lambda r: f"p = +{num(r, 1)}.{num(r, 8)} x^2 -{num(r, 1)}.{num(r, 8)} x",
        lambda r: f"{num(r, 6)}q^4 +{num(r, 8)} q^5 +{num(r, 10)} q^6 + ...",
        lambda r: f"+{num(r, 1)}.{num(r, 10)}e{r.choice('+-')}{r.randrange(30):02d}",
        lambda r: f"{signed(r)}+{signed(r)[1:]}j and {signed(r)}-{signed(r)[1:]}j",
    ],
    "angles": [
        lambda r: (
            f"ISO 6709 gives +{num(r, 6)}-0{num(r, 6)}/ and +{r.randrange(10, 90)}.{num(r, 4)}-{r.randrange(180):03d}.{num(r, 4)}/"
        ),
        lambda r: (
            f"{r.randrange(90)}°{r.randrange(60)}'{r.randrange(60):02d}\"N {r.randrange(180)}°{r.randrange(60)}'{r.randrange(60):02d}.{num(r, 3)}\"E"
        ),
        lambda r: (
            f"RA {r.randrange(24):02d} {r.randrange(60):02d} {r.uniform(0, 60):05.2f}, Dec {r.choice('+-')}{r.randrange(90):02d} "
            f"{r.randrange(60):02d} {r.uniform(0, 60):0{r.choice([4, 5, 6])}.{r.choice([1, 2, 3])}f} (J2000)"
        ),
        lambda r: f"GPS N {r.randrange(90)} {r.uniform(0, 60):06.3f} W {r.randrange(180):03d} {r.uniform(0, 60):06.3f}",
        lambda r: f"Lat/long: {decimal(r, 1)}, {decimal(r, 2)}; {decimal(r, 1)},{decimal(r, 2)}",
        lambda r: f"the star HD {num(r, 6)} at +{r.randrange(10, 90)} {r.randrange(60):02d} {r.randrange(60):02d}.{num(r, 2)}",
        lambda r: f"+{r.randrange(10, 90)}.{num(r, 6)} -{r.randrange(180):03d}.{num(r, 6)}/",
    ],
    "citations": [
        lambda r: f"{pick(r, JOURNALS)} {r.randint(2, 400)} ({r.randint(1, 52)}) {pages(r)}, {r.randint(1950, 2020)}",
        lambda r: f"{pick(r, JOURNALS)} {r.randint(2, 400)}({r.randint(1, 12):02d}), {pages(r)} ({r.randint(1950, 2020)})",
        lambda r: f"{pick(r, JOURNALS)} ({r.randint(1, 99):02d}) {pages(r)}",
        lambda r: f"{pick(r, JOURNALS)} {r.randint(2, 400)} ({r.randint(100, 400)}) {r.randint(200, 400)}-{r.randint(4000, 9000)}",
        lambda r: (
            f"DOI: 10.{num(r, 4)}/{pick(r, 'PhysRevLett|j.cell|s')}.{num(r, 3)}.{num(r, 6)} and arXiv:{r.randrange(10, 23)}{r.randint(1, 12):02d}.{num(r, 5)}"
        ),
        lambda r: (
            f"{num(r, 3)} U.S. {num(r, 3)}, {num(r, 2)} S. Ct. {num(r, 4)}, {num(r, 2)} L. Ed. 2d {num(r, 3)} ({r.randint(1950, 2000)})"
        ),
        lambda r: (
            f"case no. {num(r, 2)}-{num(r, 2)}-{num(r, 4)}-{num(r, 4)}; file {r.randrange(20):02d}-CV-{num(r, 2)}-{num(r, 3)}-{num(r, 3)}"
        ),
        lambda r: f"PMID {num(r, 8)}, PMC{num(r, 7)}, OCLC {num(r, 9)}, LCCN {num(r, 10)}",
        lambda r: f"US Patent {num(r, 1)},{num(r, 3)},{num(r, 3)} and EP {num(r, 7)} B1, WO 20{r.randrange(10, 20)}/{num(r, 6)}",
    ],
    "product codes": [
        lambda r: f"UPC {num(r, 12)} and EAN {num(r, 13)}",
        lambda r: f"barcode {num(r, 1)} {num(r, 5)} {num(r, 5)} {num(r, 1)} on the back",
        lambda r: f"NDC {r.randrange(10000):04d}-{num(r, 4)}-{num(r, 2)} or {num(r, 5)}-{num(r, 3)}-{num(r, 2)}",
        lambda r: f"ISBN 978-{num(r, 1)}-{num(r, 2)}-{num(r, 6)}-{num(r, 1)}, {num(r, 1)}-{num(r, 3)}-{num(r, 5)}-X",
        lambda r: f"978 {num(r, 1)} {num(r, 3)} {num(r, 5)} {num(r, 1)} and 978{num(r, 10)}",
        lambda r: f"CAS {num(r, r.randint(3, 7))}-{num(r, 2)}-{num(r, 1)}, EC {num(r, 3)}-{num(r, 3)}-{num(r, 1)}",
        lambda r: f"NSN {num(r, 4)}-{r.randrange(100):02d}-{num(r, 3)}-{num(r, 4)}, part no. {num(r, 3)}-{num(r, 4)}-{num(r, 2)}",
        lambda r: f"GTIN {num(r, 14)}, ASIN B{num(r, 9)}, SKU {num(r, 9)}",
        lambda r: f"ISSN {num(r, 4)}-{num(r, 4)}, ORCID 0000-000{num(r, 1)}-{num(r, 4)}-{num(r, 4)}",
    ],
    "ids": [
        lambda r: f'{{"id":{num(r, r.choice([13, 14, 15, 16]))},"title":"Mug","price":{num(r, 4)}}}',
        lambda r: f'"product_id": {num(r, 13)}, "variant_id": {num(r, 14)}, "sku": "{num(r, 12)}"',
        lambda r: f"SELECT * FROM t WHERE id={num(r, r.choice([10, 12, 16]))};",
        lambda r: f"the record {num(r, 12)} of table {num(r, 16)}",
        lambda r: f"commit {num(r, 10)}, build {num(r, 12)}, job {num(r, 13)}",
        lambda r: f"2^{r.randint(36, 60)} = {2 ** r.randint(36, 60)} and {num(r, 2)}! = {num(r, 15)}",
        lambda r: f"the primes {num(r, 12)} and {num(r, 16)} divide it; {row(r, lambda: num(r, 13), 2, 4, ', ')}",
        lambda r: f"tracking {num(r, 4)} {num(r, 4)} {num(r, 4)} {num(r, 4)} {num(r, 2)}; tweet {num(r, 18)}",
        lambda r: f"/items/{num(r, 12)}/view?page={num(r, 16)}&ref={num(r, 10)}",
        lambda r: f"IMEI {num(r, 15)}, serial no. {num(r, 12)}, account {num(r, 11)}",
        lambda r: f"Excel stores it in cell {num(r, 9)} of the sheet",
        lambda r: f"{num(r, 8)}-{num(r, 4)}-{num(r, 4)}-{num(r, 4)}-{num(r, 12)} is the GUID",
    ],
    "times": [
        lambda r: (
            f"timestamp 20{r.randrange(10, 20)}{r.randint(1, 12):02d}{r.randint(1, 28):02d}{r.randrange(24):02d}{r.randrange(60):02d}"
        ),
        lambda r: f"t={r.randint(10**9, 2 * 10**9)} ms={r.randint(10**12, 2 * 10**12)} us={r.randint(10**15, 2 * 10**15)}",
        lambda r: f"dates 0{num(r, 1)}.0{num(r, 1)}.2003-0{num(r, 1)}.0{num(r, 1)}.2006 and 01/0{num(r, 1)}/1999 - 04/05/2006",
        lambda r: (
            f"20{r.randrange(10, 20)}-0{num(r, 1)}-1{num(r, 1)}T12:{r.randrange(10, 60)}:{r.randrange(10, 60)}.{num(r, 6)}+05:30"
        ),
        lambda r: f"the years {r.randint(1990, 2020)} {r.randint(1990, 2020)} {r.randint(1990, 2020)} and {r.randint(1990, 2020)}",
        lambda r: f"Office {r.randint(1997, 2003)}/{r.randint(2004, 2010)}/{r.randint(2010, 2016)} formats",
        lambda r: (
            f"{r.randrange(10):02d}-{r.randrange(10):02d}-{r.randrange(10):02d}-{r.randrange(10):02d}-{r.randrange(10):02d} seasons"
        ),
        lambda r: f"[{num(r, 5)}.{num(r, 6)}] usb {num(r, 1)}-{num(r, 1)}: new device {num(r, 10)} at 0x{num(r, 8)}",
        lambda r: f'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 {num(r, 9)} {num(r, 12)}',
        lambda r: (
            f"{r.randint(1950, 1999)} - {r.randint(2000, 2020)}, {r.randint(1950, 1999)}/{r.randint(10, 99)}-{r.randint(2000, 2020)}"
        ),
        lambda r: f"author <root> {r.randint(10**9, 2 * 10**9)} +0{num(r, 1)}30",
    ],
    "lists": [
        lambda r: f"frames {' '.join(steps(r, r.randint(3, 6), 3))} of the film",
        lambda r: f"frames {row(r, lambda: f'{r.randrange(1000):03d}', 3, 6)} are lost",
        lambda r: f"A table: {row(r, lambda: num(r, 4, '23456789'), 3, 6)}",
        lambda r: f"{row(r, lambda: num(r, 4), 3, 5)}\n{row(r, lambda: num(r, 4), 3, 5)}\n{row(r, lambda: num(r, 4), 3, 5)}",
        lambda r: f"| {row(r, lambda: num(r, 4), 4, 6, ' | ')} |\n| {row(r, lambda: num(r, 4), 4, 6, ' | ')} |",
        lambda r: f"int a[] = {{{row(r, lambda: num(r, r.randint(1, 4)), 6, 12, ', ')}}};",
        lambda r: f"{row(r, lambda: num(r, 1), 9, 14)}",
        lambda r: f"the text {' '.join(steps(r, 6, 2))}",
        lambda r: f"Ring {row(r, lambda: num(r, 1), 9, 9)}",
        lambda r: f"x = [{row(r, lambda: decimal(r, 1, 2), 4, 8)}; {row(r, lambda: decimal(r, 1, 2), 4, 8)}]",
        lambda r: f"M = [[{row(r, lambda: num(r, 3), 3, 4, ', ')}], [{row(r, lambda: num(r, 3), 3, 4, ', ')}]]",
        lambda r: f"& {row(r, lambda: num(r, r.randint(2, 4)), 4, 8, ' & ')} \\\\",
        lambda r: f"{row(r, lambda: num(r, 3), 5, 9)}",
        lambda r: f"{row(r, lambda: decimal(r, 2, 2).strip('-'), 5, 9)}",
        lambda r: f"(m) LLC-F {row(r, lambda: f'{r.uniform(10, 90):.2f}', 3, 6)}",
        lambda r: f"depth (m) {row(r, lambda: num(r, 4), 3, 5)}",
        lambda r: f"{row(r, lambda: f'{r.randrange(10, 99)}-{r.randrange(100, 999)}-{r.randrange(1000, 9999)}', 2, 3)}",
        lambda r: f"{row(r, lambda: num(r, r.randint(3, 5)), 4, 7, r.choice(GAPS))}",
        lambda r: f"resolution {r.choice([1280, 1920])} {r.choice([720, 1080])} 2560 1440 3840 2160",
    ],
    "quantities": [
        lambda r: f"fax at 9600 14400 28800 33600 bits a second, mobile {num(r, 4)} {num(r, 4)} {num(r, 4)} pixels",
        lambda r: f"grant {num(r, 3)}-{num(r, 2)}-{num(r, 4)}, contract no. {num(r, 3)}-{num(r, 2)}-{num(r, 4)}",
        lambda r: f"order {num(r, 3)}-{num(r, 3)}-{num(r, 4)} and invoice no. {num(r, 3)}-{num(r, 3)}-{num(r, 4)}",
        lambda r: f"The population could reach {num(r, 1)} 000 000 000 by {r.randint(2011, 2050)}",
        lambda r: f"to reach {num(r, 3)} 000 000 users",
        lambda r: f"a total of {num(r, 2)} {num(r, 3)} {num(r, 3)} {num(r, 3)} and {num(r, 1)},{num(r, 3)},{num(r, 3)},{num(r, 3)}",
        lambda r: (
            f"Rs {num(r, 5)}-{num(r, 5)}, $ {num(r, 3)}.{num(r, 3)}.{num(r, 3)} or EUR {num(r, 3)} {num(r, 3)} {num(r, 3)},{num(r, 2)}"
        ),
        lambda r: f"mobile users: {num(r, 3)} {num(r, 3)} {num(r, 3)} in all",
        lambda r: f"{num(r, 3)} {num(r, 3)} {num(r, 3)} mobile phone users and {num(r, 9)} work units",
        lambda r: f"dimensions {num(r, 3)}x{num(r, 3)}x{num(r, 4)}, {num(r, 3)} x {num(r, 4)} x {num(r, 4)} mm",
        lambda r: (
            f"a network {r.choice([784, 512, 256])}-{r.choice([128, 256, 512])}-{r.choice([1024, 1000, 2048])}, then 784-64-1024"
        ),
        lambda r: f"{num(r, 1)}.{num(r, 3)}e+{num(r, 2)}, {num(r, 1)}.{num(r, 8)}E+0{num(r, 1)} and 10^+{num(r, 2)}",
        lambda r: f"phone subscribers rose from {num(r, 9)} to {num(r, 10)}",
        lambda r: f"a system call {num(r, 10)} times; each call {num(r, 3)} {num(r, 3)} {num(r, 3)} cycles",
        lambda r: f"ZIP {num(r, 5)}-{num(r, 4)}; Post Office, Denver CO {num(r, 5)}-{num(r, 4)}",
        lambda r: f"the mean of {num(r, 9)}±{num(r, 4)} is {num(r, 3)}.{num(r, 9)} ({num(r, 2)}) {num(r, 4)}",
        lambda r: f"pi = 3.14159 26535 89793 23846 and e = 2.71828 {num(r, 5)} {num(r, 5)}",
        lambda r: f"{num(r, 12)}*x**{num(r, 1)} + {num(r, 10)}*y - {num(r, 12)}^2",
    ],
    "versions and hosts": [
        lambda r: (
            f"Rule {r.randint(33, 99)}.{num(r, 1)}.{num(r, 1)}.{num(r, 2)}, § {num(r, 1)}.{num(r, 1)}.{num(r, 2)}.{num(r, 1)}"
        ),
        lambda r: f"Mozilla/5.0 (X11) AppleWebKit/{num(r, 3)}.{num(r, 2)} Opera/{num(r, 2)}.{num(r, 2)}.{num(r, 3)}.{num(r, 1)}",
        lambda r: (
            f"libx {num(r, 1)}.{num(r, 2)}.{num(r, 1)}.{num(r, 2)}, pip install x=={r.randint(10, 19)}.{num(r, 1)}.{num(r, 1)}.{num(r, 2)}"
        ),
        lambda r: f"Chrome/{r.randint(40, 120)}.0.{num(r, r.choice([2, 3]))}.{num(r, 2)} Safari/537.{num(r, 2)}",
        lambda r: (
            f"{pick(r, 'version|release|build|kernel|firmware|Section|Chrome|Firefox|driver')} {r.randint(40, 120)}.{r.randrange(10)}.{num(r, 2)}.{num(r, 2)}"
        ),
        lambda r: f'"version": "{r.randint(33, 99)}.{num(r, 1)}.{num(r, 2)}.{num(r, 1)}"',
        lambda r: f"WWN {row(r, lambda: f'{r.randrange(256):02x}', 8, 8, ':')}",
        lambda r: (
            f"EUI-64 {row(r, lambda: f'{r.randrange(256):02X}', 8, 8, ':')}, MAC {row(r, lambda: f'{r.randrange(256):02x}', 6, 6, ':')}"
        ),
        lambda r: f"fingerprint {row(r, lambda: f'{r.randrange(256):02x}', 16, 64, ':')}",
        lambda r: f"ratio {row(r, lambda: num(r, r.randint(1, 3)), 8, 8, ':')}",
        lambda r: f"namespace {pick(r, 'dead|cafe|face|fab')}::{pick(r, 'beef|add|bed|dad')}:{num(r, 2)}:{num(r, 1)}",
        lambda r: (
            f"OID 1.3.6.1.4.{num(r, 4)}.{num(r, 2)}, 2.{num(r, 1)}.{num(r, 2)}.{num(r, 2)}; {num(r, 1)}.{num(r, 1)}.{num(r, 2)}.{num(r, 1)}"
        ),
        lambda r: (
            f"libfoo.so.{num(r, 2)}.{num(r, 1)}.{num(r, 2)}.{num(r, 1)} and foo-{num(r, 2)}.{num(r, 1)}.{num(r, 2)}.{num(r, 1)}-1"
        ),
        lambda r: f"timecode {row(r, lambda: f'{r.randrange(60):02d}', 4, 4, ':')}, 10:20:30:40:50:60:70:80",
    ],
    "at signs": [
        lambda r: (
            f"this@{pick(r, 'Main|Frame')}.{pick(r, 'name|id|to')}; malloc@libc.so.6; emp@sales.world; weights@inputs.is_cuda"
        ),
        lambda r: f"assert (q@k.{pick(r, SLOTS)}) == v; model@layer.in_features * 2; 5@6.TeV",
        lambda r: f"y = {r.choice('WXAQ')}@{r.choice('xyKV')}.{pick(r, SLOTS)}",
        lambda r: f"{r.choice('WXAQ')}@{r.choice('BKV')}.{pick(r, SLOTS)}(c)",
        lambda r: f"loss = weights@inputs.{pick(r, SLOTS)}",
        lambda r: f"pbmc@{pick(r, 'meta.data|assays.RNA|active.ident|reductions.pca|misc.id')}$cluster",
        lambda r: f"obj@{pick(r, 'data.frame|x.slot|Dim.names|i.no|p.id')} <- 3",
        lambda r: f"out = torch.relu(hidden@proj.{pick(r, SLOTS)}(0, 1))[{num(r, 1)}]",
        lambda r: f"\\pgf@x.{pick(r, 'to|in|is')} \\c@page.{num(r, 1)} \\@ifnextchar.in",
        lambda r: (
            f"lodash@{num(r, 1)}.{num(r, 2)}.{num(r, 2)} and logo@{num(r, 1)}x.{pick(r, 'png|webp|pdf|md')}, getty@tty1.service"
        ),
        lambda r: f"git@github.com:a/b.git, memcpy@@GLIBC_2.{num(r, 2)}, foo@plt.got",
        lambda r: f"we met at noon@{pick(r, 'home|work')}.{pick(r, 'It|In|To|At|No|So|My')} was late",
        lambda r: f"look at {pick(r, 'the|each|a|every|that|this')} dot {pick(r, 'in|is|at|on|so')} the middle",
        lambda r: f"temperature (at) {pick(r, 'sea level|rest|zero|the origin')}. dot in, f(at) = 0 and a [dot] b",
        lambda r: f"the book was sold at {pick(r, 'amazon|acme|ebay')} dot com, at one dot in four pages",
        lambda r: f"@decorator.{pick(r, 'in|to|call')} a @ b, std@{num(r, 1)}.{num(r, 1)}.rc, image@sha256.{num(r, 6)}",
    ],
    "games and genes": [
        lambda r: f"1-0 0-1 1/2-1/2 {num(r, 1)}-{num(r, 1)} {num(r, 2)}-{num(r, 2)} {num(r, 3)}-{num(r, 3)}",
        lambda r: (
            f"sets 6-4 3-6 7-6 6-{num(r, 1)} 6-{num(r, 1)}; innings {row(r, lambda: f'{r.randrange(10):03d}', 3, 3)} - 7 10 1"
        ),
        lambda r: f"{row(r, lambda: ''.join(r.choice('ACGT') for _ in range(10)), 3, 6)} {num(r, 3)} bp {num(r, 9)}..{num(r, 9)}",
        lambda r: f"chr{num(r, 1)}:{num(r, 8)}-{num(r, 9)} (hg19), rs{num(r, 9)}, NM_{r.randrange(10**9):09d}.2",
        lambda r: f"1 {row(r, lambda: ''.join(r.choice('acgt') for _ in range(10)), 6, 6)} {num(r, 2)}1",
        lambda r: f"ATOM {num(r, 5)} CA {row(r, lambda: f'{r.uniform(-99, 99):.3f}', 3, 3, '  ')}  1.00 {num(r, 2)}.{num(r, 2)}",
        lambda r: (
            f"1. e4 e5 2. Nf3 {num(r, 4)} {num(r, 4)}, Elo {row(r, lambda: num(r, 4, '12'), 3, 5, r.choice([' ', '/', '-']))}"
        ),
        lambda r: f"sudoku {row(r, lambda: f'{r.randrange(1000):03d}', 9, 9, r.choice([' ', '-']))}",
        lambda r: f"a score of {num(r, 3)}-{num(r, 3)}-{num(r, 2)}, {num(r, 2)}-{num(r, 3)}-{num(r, 5)}",
    ],
}
BEFORE = "", "As the table shows, ", "In this case: ", "# ", "> ", "\\item ", "Then we have ", "    ", "(see above) ", "Note that "
AFTER = ".", "", ",", "\n", " and so on.", " as before", ";", " [12]", ")", " -- see Section 3"
PROSE = (
    "The method converges for all inputs that we tried, and its error falls with the size of the step.",
    "It follows from the lemma above that the map is continuous on the whole of the interval.",
    "The default value is good enough for most uses; a larger one makes the build slower.",
    "Samples were kept dry and measured again after a week, by the same instrument.",
    "This answer is right, but the loop can be written without the extra copy.",
)


def passages(n, seed=0):
    """n pairs (kind, text), the fragments of all kinds in turn."""
    rng = random.Random(seed)
    makers = [(kind, make) for kind, makes in KINDS.items() for make in makes]
    made = []
    for i in range(n):
        kind, make = makers[i % len(makers)]
        made.append((kind, f"{rng.choice(PROSE)} {rng.choice(BEFORE)}{make(rng)}{rng.choice(AFTER)} {rng.choice(PROSE)}"))
    return made
