"""The laws of redact, numbers with right and wrong check digits, floors on labelled cases and on technical passages."""

import html
import io
import json
import random
import re
import string
import tarfile

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_engine import pii as module
from data_engine.pii import TAGS, PiiConfig, redact
from data_engine.records import LEDGER
from tests.data_engine.technical import passages
from tests.fixtures import SHARED

TAG = re.compile("<(?:" + "|".join(TAGS) + ")>")


def documents(texts):
    return pa.table({"id": pa.array([f"d{i}" for i in range(len(texts))], pa.string()), "text": pa.array(texts, pa.large_string())})


def redacted(text, **config):
    docs, dropped = redact(documents([text]), PiiConfig(**config))
    assert dropped.num_rows == 0
    return docs["text"][0].as_py()


def counts(text, **config):
    return dict(redact(documents([text]), PiiConfig(**config))[0]["pii"][0].as_py())


# --- Numbers with check digits, made here --------------------------------------------------------------------------------------

BASE36 = string.digits + string.ascii_uppercase
# Verhoeff 1969: multiplication in the dihedral group D5, and the permutation of a place
D5 = [[(a + b) % 5 if b < 5 else 5 + (a + b) % 5 for b in range(10)] for a in range(5)]
D5 += [[5 + (a - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)] for a in range(5, 10)]
PLACE = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]


def digits(rng, n, first="123456789"):
    return rng.choice(first) + "".join(rng.choice(string.digits) for _ in range(n - 1))


def luhn(body):
    total = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def verhoeff(body):
    check = 0
    for i, digit in enumerate(reversed(body), 1):
        value = int(digit)
        for _ in range(i % 8):
            value = PLACE[value]
        check = D5[check][value]
    return body + next(d for d in string.digits if D5[check][int(d)] == 0)


def iban(country, account):
    number = "".join(str(BASE36.index(c)) for c in account + country + "00")
    return f"{country}{98 - int(number) % 97:02}{account}"


def pan(rng):
    letters = [rng.choice(string.ascii_uppercase) for _ in range(5)]
    letters[3] = rng.choice("ABCFGHJLPT")
    return "".join(letters) + digits(rng, 4) + rng.choice(string.ascii_uppercase)


def gstin(rng):
    body = f"{rng.choice(['07', '24', '27', '29', '33', '36'])}{pan(rng)}{rng.randint(1, 9)}Z"
    total = sum(sum(divmod(BASE36.index(c) * (1 + i % 2), 36)) for i, c in enumerate(body))
    return body + BASE36[-total % 36]


def one_digit_off(number, rng):
    at = rng.choice([i for i, c in enumerate(number) if c.isdigit() and i > 4])
    return number[:at] + str((int(number[at]) + rng.randint(1, 9)) % 10) + number[at + 1 :]


def grouped(number, sizes, by):
    at, pieces = 0, []
    for size in sizes:
        pieces.append(number[at : at + size])
        at += size
    return by.join(pieces)


SENTENCES = ["{}", "It is {}.", "Please note {}, thanks", "({})", "value: {}\nnext", 'said "{}" twice', "यह {} है।", "id={}; ok"]
SENTENCES += ["Regd. No. {} of 2019", "Asha Rao,{},Pune", "**{}** (self-attested)", "| {} |", "संख्या:{}"]
NAMED = ["my registered Aadhaar is {}", "Contact: account no. {}", "text the code {}", "Office order: {}"]


UNDIVIDED = {
    "AADHAAR": ["my Aadhaar is {}.", "UID: {}", "आधार {} है"],
    "CREDIT_CARD": ["my card {} is lost", '{{"card_number": "{}"}}', "{} (Visa)", "the bill for cc {} on"],
}


def check(make, tag, n=60):
    """Every number that `make` gives is redacted in every sentence, undivided ones beside a word, and nothing else of it."""
    rng = random.Random(tag)
    for _ in range(n):
        number = make(rng)
        sentence = rng.choice(UNDIVIDED[tag] if tag in UNDIVIDED and number.isdigit() else SENTENCES)
        assert redacted(sentence.format(number)) == sentence.format(f"<{tag}>"), (number, sentence)


def aadhaar(rng):
    number = verhoeff(digits(rng, 11, "23456789"))
    return rng.choice([number, grouped(number, (4, 4, 4), " "), grouped(number, (4, 4, 4), "-")])


def card(rng):
    if rng.random() < 0.2:
        return grouped(luhn("37" + digits(rng, 12)), (4, 6, 5), " ")
    number = luhn(rng.choice(["4929", "5100", "5542", "2221", "6011", "6521"]) + digits(rng, 11))
    return rng.choice([number, grouped(number, (4, 4, 4, 4), " "), grouped(number, (4, 4, 4, 4), "-")])


def account(rng):
    countries = {"DE": digits(rng, 18), "GB": "WEST" + digits(rng, 14), "FR": digits(rng, 23), "NL": "ABNA" + digits(rng, 10)}
    number = iban(*rng.choice(list(countries.items())))
    return rng.choice([number, number.lower(), grouped(number, (4,) * 8, " ").rstrip()])


def indian_phone(rng):
    number = digits(rng, 10, "6789")
    country = rng.choice(["+91 ", "+91-", "+91", "(+91) ", "0091 ", "+91 (0)"])
    return country + rng.choice([number, *(grouped(number, sizes, by) for sizes in ((5, 5), (3, 3, 4), (4, 6)) for by in " -")])


def test_aadhaar_with_a_right_check_digit_is_redacted():
    check(aadhaar, "AADHAAR")


def test_cards_with_a_right_check_digit_are_redacted():
    check(card, "CREDIT_CARD")


def test_ibans_with_right_check_digits_are_redacted():
    check(account, "IBAN")


def test_pan_is_redacted():
    check(pan, "PAN")


def test_gstin_with_a_right_check_digit_is_redacted():
    check(gstin, "GSTIN")


def test_upi_addresses_are_redacted():
    handles = ["okhdfcbank", "oksbi", "ybl", "paytm", "upi", "okaxis", "ibl"]
    check(lambda rng: f"{rng.choice(['asha.rao', 'r-k99', '9876501234'])}@{rng.choice(handles)}", "UPI")


def test_indian_phones_are_redacted():
    check(indian_phone, "PHONE")


@pytest.mark.parametrize("make", [aadhaar, card, account, gstin])
def test_a_wrong_check_digit_is_left_alone(make):
    """Also beside a word that would make a phone of it."""
    rng = random.Random(make.__name__)
    for _ in range(60):
        text = rng.choice(SENTENCES + NAMED).format(one_digit_off(make(rng), rng))
        assert redacted(text) == text


def test_a_card_has_the_first_digits_and_the_length_of_a_network():
    for body in ("411111111111111", "222300312200322", "37828224631000", "3056930902590", "652111111111111", "810000000000000"):
        assert redacted("card " + luhn(body)) == "card <CREDIT_CARD>"
    for body in ("222000312200322", "42424573758553702", "2068096234297", "918594685850177", "37828224631"):
        assert redacted("card " + luhn(body)) == "card " + luhn(body)
    assert redacted("2005 2004 2003 2002") == "2005 2004 2003 2002"  # right by Luhn


def test_the_generator_agrees_with_numbers_from_the_standards():
    assert luhn("7992739871") == "79927398713"  # ISO 7812's usual example
    assert verhoeff("236") == "2363"  # Verhoeff's
    assert iban("GB", "WEST12345698765432") == "GB82WEST12345698765432"  # the IBAN registry's


# --- Other types -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Write to [asha.rao+news@mail.example.co.in], please",
        "mailto:[o'neil_7@example.org]. Done",
        "<[info@example.com]>",
        "/profile?email=[asha.rao%40example.com]&lang=en",
        "по-русски: [иван@пример.рф], und [jörg@müller.example]",
        "look alike: [asha@gmаil.cоm]",  # а and о are Cyrillic
        "[asha@example.com](work)",
        "почта [иван@example.com]",
        "José [josé@example.es]; 邮箱[a1@example.cn]。",
    ],
)
def test_emails(text):
    assert redacted(re.sub(r"[\[\]]", "", text)) == re.sub(r"\[.*?\]", "<EMAIL>", text)


SURE_PHONES = """
+1 (733) 709-5942|(602)272-9781|618-226-1460|636.840.1227|1-800-555-0199|001-321-194-8268|(027) 0336-972|+41 (0)62 585 51 90
+447700 921 916|+49 30 901820|618-226-1460 x123|+1-919-555-1122|+919876543210|+91 (11) 2338-5210|0091 98765 01234|+34 612 345 678
"""
WORDED_PHONES = "0477 11 28 98|02.27.96.63.08|042 078 6381|06-65334860|(03) 5327 5996|020 7946 0958|01691 672976|(64) 3591-3246"
IN_CONTEXT = """
Contact no. [080-1706-6907]|Mobile No. [98765 01234]|Ph no. [03144559248]|PH: [04542- 241675]|Ph.[9876501234]|(M) [98765-01234]
Mob-[9876501234]|Tel.[+91 98765 01234]|Tel: [0731 / 153 87-0]|Telefon: [017656998944]|My number is [0750704999]
Tel [(351) 969141777]|Fax:-[01691 662197]|call [+43 6248906828]|Examples: [(015394) 52749]|registered [8 066 907 43 91]
Tel: [0674 - 2391234], Fax [011-2338 6162], STD [0172-2740001]|[0800 1234 567] helpline
Contact the office at [011 788 4837]|Phone: **[98765 01234]**
Phones: [0674-2391234]/[0674-2391235]|F: [0117 928 8276]|Fax Phone: [+1.4806242599]|call\\   [0870 836 0875]
"""


@pytest.mark.parametrize("text", IN_CONTEXT.strip().replace("\n", "|").replace("\\", "\n").split("|"))
def test_phones_beside_the_words_that_people_write(text):
    assert redacted(re.sub(r"[\[\]]", "", text)) == re.sub(r"\[.*?\]", "<PHONE>", text)


@pytest.mark.parametrize("number", SURE_PHONES.strip().replace("\n", "|").split("|"))
def test_phones_that_need_no_word(number):
    for sentence in ("Call {}.", "{} (office)", "a, {}, b", "Phone:{}\n", "1,{},2"):
        assert redacted(sentence.format(number)) == sentence.format("<PHONE>")


@pytest.mark.parametrize("number", WORDED_PHONES.split("|"))
def test_phones_that_need_a_word(number):
    for sentence in ("Call {}.", "{} (office)", "{}-Fax", "Phone:{}\n", "call me on {}", "Desk: {}"):
        assert redacted(sentence.format(number)) == sentence.format("<PHONE>")
    for sentence in ("a, {}, b", "{}", "It is {}."):
        assert redacted(sentence.format(number)) == sentence.format(number)


@pytest.mark.parametrize("by", [",", ":", "; ", ", ", "|", " or "])
def test_a_list_is_redacted_in_one_pass(by, monkeypatch):
    """A pass more finds that there is nothing left; the time of a list is linear in its length."""
    passes, find = [], module.find_spans
    monkeypatch.setattr(module, "find_spans", lambda *args: passes.append(1) or find(*args))
    for number in ("555-123-4567", "+91 98765 01234"):
        assert redacted(by.join([number] * 500)) == by.join(["<PHONE>"] * 500)
    assert redacted("Phones: " + by.join(["98765 01234"] * 50)).count("<PHONE>") in (0, 50)  # ":" and " or " may end a list
    assert len(passes) <= 6


def test_bare_digits_are_a_phone_only_beside_a_word_that_says_so():
    assert redacted("mobile 9876501234, room 9876501234") == "mobile <PHONE>, room 9876501234"
    assert redacted("Phones: 9876501234, 9876501235 or 9876501236") == "Phones: <PHONE>, <PHONE> or <PHONE>"
    assert redacted("Desk: 98765 01234") == "Desk: <PHONE>"
    assert redacted("5403926876-Office") == "<PHONE>-Office"


@pytest.mark.parametrize("number", ["912.5.8.11", "81.2.69.142", "2001:db9:85a3::8a2e:370:7334", "2a00:1450:4001:81b:0:0:0:200e"])
def test_addresses_of_public_networks(number):
    text = f"from {number} at noon, port 80 {number}"
    expected = text if number.startswith("912") else "from <IP> at noon, port 80 <IP>"
    assert redacted(text) == expected


def test_private_addresses_and_versions_are_left_alone_by_setting():
    text = "192.168.1.10, 10.1.2.3, 127.0.0.1, fe80::1:2:3, ::1; version 81.0.69.142, v9.5.3.72, OID 2.5.29.46"
    assert redacted(text) == text
    both = redacted(text, private_ips=True, version_ips=True)
    assert both == "<IP>, <IP>, <IP>, <IP>, ::1; version <IP>, v9.5.3.72, OID <IP>"


def test_social_security_numbers():
    assert redacted("SSN 536-22-8726; his ssn: 536 22 8726") == "SSN <US_SSN>; his ssn: <US_SSN>"
    for never_issued in ("000-22-8726", "666-22-8726", "536-00-8726", "536-22-0000", "order 536 22 8726"):
        assert redacted(never_issued) == never_issued


def test_user_and_password_in_a_url():
    assert redacted("https://asha:s3cr!t@db.example.com:5432/x") == "https://<CREDENTIALS>@db.example.com:5432/x"
    for harmless in ("ssh://git@example.com/x", "https://example.com/@asha", "http://example.com:80/a", "git@github.com:a/b.git"):
        assert redacted(harmless) == harmless


@pytest.mark.parametrize(
    "text",
    [
        "Write to [secy[at]meity[dot]gov[dot]in] or [x at gov dot in], [ram(dot)k(at)gov(dot)in].",
        "[name[at]dept[dot]gov[dot]in], [a.b (at) nic.in]; [foo {at} bar.org]",
        "[name@dept[dot]gov[dot]in] and [JOINT.SECY-DOP[AT]NIC[DOT]IN]",
        "E-mail: [director at iitb dot ac dot in]\n[ram.kumar at example dot com]",
        "contact [a-b-at-c-dot-org] or [asha-at-club-dot-net]",
    ],
)
def test_emails_that_are_written_out(text):
    marks = re.compile(r"\[((?:[^\[\]]|\[(?:at|dot|AT|DOT)\])+)\]")
    plain = marks.sub(r"\1", text)
    assert redacted(plain) == marks.sub("<EMAIL>", text)


@pytest.mark.parametrize(
    "text",
    [
        "look at the dot in the middle, at each dot in turn, and at one dot in four",
        "sold at amazon dot com, the dot com boom at its height; temperature (at) sea level. In",
        "y = W@x.shape, A@B.dot(c), q@k.to(device), pbmc@meta.data$cluster, obj@p.id <- 3, this@Main.name",
        "noon@home.It was; malloc@libc.so.6; emp@sales.world; \\pgf@x.to; logo@2x.md; f(at) = 0",
    ],
)
def test_code_and_prose_with_an_at_are_no_emails(text):
    assert redacted(text) == text


def test_a_uri_loses_passwords_and_tokens():
    uris = {
        "https://asha:s3cr!t@example.com/a?x=1&token=abc&y=2": "https://example.com/a?x=1&token=&y=2",
        "ftp://u:p@h/f#access_token=k": "ftp://h/f#access_token=",
        "s3://b/k?X-Amz-Signature=ab&X-Amz-Credential=c&page=3": "s3://b/k?X-Amz-Signature=&X-Amz-Credential=&page=3",
        "https://example.com/@asha?monkey=1&tokens=2#key": "https://example.com/@asha?monkey=1&tokens=2#key",
        "file.jsonl#7": "file.jsonl#7",
    }
    docs = documents([""] * len(uris)).append_column("uri", pa.array(list(uris), pa.string()))
    assert redact(docs, PiiConfig())[0]["uri"].to_pylist() == list(uris.values())
    assert redact(docs, PiiConfig(redact=False))[0]["uri"].to_pylist() == list(uris)


LOOK_ALIKES = """
The nibbles 0101 1100 0011, BCD: 0010 0101 0111, codeword of the message 1000000001
J. Chem. Phys. 114 (12) 5149-5155, 2001; Science 294 (11) 1234-1238; Nature 412 (602) 272-9781
key 01 23 45 67 89 AB CD EF, drawn: 03 12 25 36 44, 010 0001 041 33 21, 001 1001 134 111
RA 00 42 44.33, Dec +41 16 07.50; +51.477812 -0.001475; +404121-0740240/; residual +1.23456789 mm
gains of +12 345 678 votes; could reach 7 000 000 000 by 2011; mobile users: 605 376 467 in all
cell 123456789 of the sheet; Office 2003/2007/2010 formats; Ring 1 2 3 4 5 6 7 8 9; the text 10 20 30 40 50 60
UPC 885909950805, EAN 4006381333931, timestamp 201303151200, 2^38 = 274877906944, "id":39441743249469
the years 2001 2002 2003 and 2004 2008 2012; frames 001 002 003 004; NDC 0069-3060-30; (m) LLC-F 54.12 47.33 52.31
WWN 50:06:01:60:3b:20:41:50, Chrome/91.0.44.12, "version": "91.0.44.12", dead::beef:1:2, OID 2.4.77.65
A 4-column table: 5123 5234 5345 5456; layers 784-64-1024; fax at 9600 14400 28800; ZIP 90210-1234
the loop from -2147483648 to +2147483647, x^4 +91604570012 x; author <root> 1365422022 +0530
ISBN 978-0-9700027-2-6, ISBN 0-448-05075-7, ISBN 81-88204-35-8
LNCS 7318(2012):78-88; 114 (3) 1234-1250
arXiv:1710.05867 and 1712.06884; 10.1038/s41586-020-2649-2
seasons 1980/81-1985/86 and 1986/87-1996/97
1992-02-08 20:15:24, 05.11.2013 12:30, 2012-2013, 10:20:30:40
(64.1541667, -141.4597222), 3.14159265358979
0.84245754+0.j 6.96035067+0.j 10.99804383+0.j
0000040 00 00 00 00 01 00 00 00 00 00 00 00
1,234,567,890 and 12 345 678 901; id 1512345678901; Rs 67000-79000
@decorator a @ b, x@y, foo@1.2.3, std::vector<a::b> dead::beef
ABCDE12345, ABCDE1234, abcde1234f
atol(A, L@D@L.conjugate()), x@w.transpose(0, 1), logo@2x.png
- 237550027104*x3**6 + 339559038852*uk_49 - 234123412346^2
994124q^4 +16045700 q^5, + 10684800
Linux with kernel 81.6.38.6; ABN 14 001 592 650; no. 618-226-1460
J. Phys. A 32 (1999) 7779-7789; grant agreement #075-15-2021-588
doi 10.1016/j.cell.2017.10.049, babel.org/pt?id=uiug.30112003608368
"""


@pytest.mark.parametrize("text", LOOK_ALIKES.strip().split("\n"))
def test_numbers_that_only_look_like_personal_data(text):
    assert redacted(text) == text


# --- Laws ------------------------------------------------------------------------------------------------------------------------

PIECES = [*"é语🙂\n@+(-07:.x ", "phone ", "ssn ", "<EMAIL>", "asha@example.com", "a@ybl", "https://u:p@h.in/", "+91 98765 01234"]
PIECES += ["618-226-1460", "(03) 5327 5996", "4111 1111 1111 1111", "2341 2341 2346", "GB82 WEST 1234 5698 7654 32", "ABCPE1234F"]
PIECES += ["иван%40пример.рф", "27AAPFU0939F1ZV", "81.2.69.142", "2a00:1450::81b:200e", "536-22-8726", "9876501234", "DE"]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(alphabet="@.:+-() 0123456789aZé语<", max_size=60),
    st.text(),
)


@settings(max_examples=200, deadline=None)
@given(texts)
@example("phone 9876501234 9876501235")
def test_redacting_twice_is_redacting_once(text):
    once = redacted(text)
    assert redacted(once) == once and counts(once) == {}


@settings(max_examples=200, deadline=None)
@given(texts)
def test_only_whole_characters_go_and_the_rest_stays(text):
    """Between the new tags stands the old text: the pieces fit one after the other, at both ends too."""
    found = counts(text)
    kept = [re.escape(piece) for piece in TAG.split(redacted(text))]
    assert len(kept) - 1 == sum(found.values()) + len(TAG.findall(text))
    assert re.fullmatch("(?s:.+?)".join(kept), text)


@settings(max_examples=100, deadline=None)
@given(texts)
def test_without_redaction_the_counts_are_the_same_and_the_text_too(text):
    assert redacted(text, redact=False) == text
    assert counts(text, redact=False) == counts(text)


def mixed(n):
    rng = random.Random(7)
    return [None if rng.random() < 0.1 else " ".join(rng.choices(PIECES, k=rng.randint(0, 8))) for _ in range(n)]


def test_every_row_stays_in_order():
    docs = documents(mixed(200))
    kept, dropped = redact(docs, PiiConfig())
    assert kept["id"].equals(docs["id"]) and dropped.schema.equals(LEDGER) and dropped.num_rows == 0
    assert kept["text"].is_null().equals(docs["text"].is_null())


def test_cut_anywhere_gives_the_same_rows():
    docs = documents(mixed(200))
    whole = redact(docs, PiiConfig())[0].combine_chunks()
    for seed in range(10):
        cuts = sorted(random.Random(seed).sample(range(201), 4))
        parts = [docs.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, 200], strict=True)]
        assert pa.concat_tables([redact(part, PiiConfig())[0] for part in parts]).combine_chunks().equals(whole)
        assert redact(pa.concat_tables(parts), PiiConfig())[0].combine_chunks().equals(whole)


def test_a_document_says_nothing_about_its_neighbours():
    """What stands before or after in the buffer must not be context: neither a word nor a digit."""
    docs = redact(documents(["mobile", "9876501234", "-Office", "4", "111 1111 1111 1111", "618-226-1460", "7"]), PiiConfig())[0]
    assert docs["text"].to_pylist() == ["mobile", "9876501234", "-Office", "4", "111 1111 1111 1111", "<PHONE>", "7"]


def test_empty_keeps_types():
    full, empty = redact(documents(["a@example.com"]), PiiConfig()), redact(documents([]), PiiConfig())
    assert [part.schema for part in empty] == [part.schema for part in full]
    assert full[0].schema.field("pii").type == pa.map_(pa.string(), pa.int32())


def test_counts_by_type():
    assert counts("a@example.com, b@example.com, SSN 536-22-8726") == {"EMAIL": 2, "US_SSN": 1}
    assert counts("nothing here") == {} and redact(documents([None]), PiiConfig())[0]["pii"][0].as_py() == []


@pytest.mark.slow
def test_long_and_hostile_texts_end():
    for text in ("1 ", "@", "%40", "a@", "::", "+1", "4", "0 ", "(0", "1.", "a" * 65 + "@b ", "<a ", "phone "):
        text *= 100_000 // len(text)
        assert redacted(text, redact=False) == text and TAG.sub("", redacted(text)) in text


@pytest.mark.slow
def test_quality_on_labelled_cases():
    """Floors a little under what is measured: recall 0.9998, one false alarm in 500 clean passages."""
    archive = SHARED / "cases.tar.xz"
    if not archive.exists():
        pytest.skip(f"labelled cases are not at {archive}: set PHOENIX_SHARED")
    with tarfile.open(archive) as tar:
        member = next(m for m in tar if m.name.endswith("pii.jsonl"))
        cases = [json.loads(line) for line in io.TextIOWrapper(tar.extractfile(member), encoding="utf-8")]
    docs = redact(documents([case["text"] for case in cases]), PiiConfig())[0]
    spans = found = alarms = 0
    for case, text, pii in zip(cases, docs["text"].to_pylist(), docs["pii"].to_pylist(), strict=True):
        if case["id"].startswith("clean/"):
            alarms += sum(n for _, n in pii)
        for span in case["spans"]:
            if not span["type"].startswith("OTHER:"):
                spans += 1
                found += case["text"][span["start"] : span["end"]] not in text
    assert found / spans >= 0.985
    assert alarms <= 5


def false_tags(texts):
    """All tags but those of mail addresses: of real texts an upper bound, which counts real numbers too."""
    return sum(n for pii in redact(documents(texts), PiiConfig())[0]["pii"].to_pylist() for tag, n in pii if tag != "EMAIL")


def test_technical_passages_that_are_made_stay_whole():
    made = [text for _, text in passages(4000)]
    assert sum(map(len, redact(documents(made), PiiConfig())[0]["pii"].to_pylist())) <= 8  # 2 in 1,000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arxiv_tex", "stackexchange", "wikipedia"])
def test_technical_passages_of_the_corpora_stay_whole(name):
    """Passages with nine digits or more."""
    archive = SHARED / "corpus" / f"{name}.tar.xz"
    if not archive.exists():
        pytest.skip(f"raw corpora are not at {archive}: set PHOENIX_SHARED")
    texts = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and (member.name.endswith((".tex", "Posts.xml")) or "/en_wikiextractor_a/" in member.name):
                text = tar.extractfile(member).read().decode("utf-8", "replace")
                if name == "stackexchange":
                    bodies = re.findall(r' Body="([^"]*)"', text)
                    texts += [html.unescape(re.sub("<[^>]*>", "", html.unescape(body))) for body in bodies]
                else:
                    texts += re.split(r"\n\s*\n" if name == "arxiv_tex" else r"\n", text)
    texts = [text for text in texts if sum(c.isdigit() for c in text) >= 9]
    assert len(texts) > 500 and false_tags(texts) <= max(2, len(texts) / 500)


def test_a_title_is_redacted_too_and_keeps_its_type():
    columns = {
        "title": pa.array(["Mail to john.doe@example.com", None], pa.string()),
        "text": pa.array(["x", "y"], pa.large_string()),
    }
    docs, _ = redact(pa.table(columns), PiiConfig())
    assert docs["title"].to_pylist() == ["Mail to <EMAIL>", None] and docs.schema.field("title").type == pa.string()
    assert docs["text"].to_pylist() == ["x", "y"] and docs["pii"].to_pylist() == [[], []]
    kept, _ = redact(pa.table(columns), PiiConfig(redact=False))
    assert kept["title"].to_pylist() == columns["title"].to_pylist()
