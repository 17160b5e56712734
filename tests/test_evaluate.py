"""Laws of scoring: the requests, windows and metrics of lm-evaluation-harness; every log-likelihood that of one plain sequence."""

import errno
import functools
import gc
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import evaluate
import export_hf
import train
from model import from_checkpoint
from phoenix import loglikelihood, shards
from phoenix import results as eval_report
from phoenix import tasks as eval_tasks
from phoenix.batches import Windows
from phoenix.config import UserError
from phoenix.results import FORMAT, FORMAT_VERSION, VERSION, earlier_results, results_path, write_json
from phoenix.tasks import TASKS, Item, Unavailable, items_of, sha256_json
from tests.fixtures import SHARED
from tests.servers import loopback_hub
from tests.tiny_run import TEXT, make_run

torch.set_num_threads(1)
genuine = pytest.mark.skipif(
    not (SHARED / "eval" / "golden" / "golden.json").is_file(), reason="needs the tasks' data: set PHOENIX_SHARED"
)
SIX = ("hellaswag", "winogrande", "arc_easy", "lambada_openai", "piqa", "wikitext")


@pytest.fixture(scope="module")
def golden():
    return json.loads((SHARED / "eval" / "golden" / "golden.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def lm(run):
    return evaluate.load_model(evaluate.Evaluate(str(run)))


# ---- requests and metrics --------------------------------------------------------------------------------------------


def test_a_row_becomes_the_requests_worked_by_hand():
    row = {"activity_label": "Roof", "ctx_a": "[step] A  man [title] sits.", "ctx_b": "he SAYS", "label": "1"}
    assert eval_tasks.hellaswag(row | {"endings": ["is  here. [sub]", "runs."]}) == Item(
        [("Roof: A man. sits. He says", " is here. "), ("Roof: A man. sits. He says", " runs.")], 1
    )
    row = {"sentence": "Ann met Bo so _ waved _ off. ", "option1": "Ann", "option2": "Bo", "answer": "2"}
    assert eval_tasks.winogrande(row) == Item([("Ann met Bo so Ann", " waved _ off."), ("Ann met Bo so Bo", " waved _ off.")], 1)
    row = {"question": "Why?", "choices": {"text": ["a ", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "3"}
    asked = "Question: Why?\nAnswer:"
    assert eval_tasks.arc_easy(row) == Item([(asked, " a "), (asked, " b"), (asked, " c")], 2)
    row = {"goal": "Why?", "sol1": " a", "sol2": "b ", "label": "0"}
    assert eval_tasks.piqa(row) == Item([(asked, "  a"), (asked, " b ")], 0)
    assert eval_tasks.lambada_openai({"text": "she\u00a0told  Li\nam"}) == Item([("she\u00a0told ", " Li\nam")], 0)
    page = ' = Ann = \n He said : " no " ( 1 @,@ 000 @.@ 5 ) , \n it \'s 3 ° N '
    assert eval_tasks.wikitext({"page": page}) == Item([(' = Ann =\nHe said: "no" (1,000.5),\nit\'s 3°N ',)], (24, 65))


def test_a_title_opens_a_page_and_a_section_does_not():
    text = " \n = A = \n x \n = = B = = \n y \n = C = \n z \n"
    assert eval_tasks.wikitext_pages(text) == [" = A = \n x \n = = B = = \n y ", " = C = \n z \n"]


@genuine
def test_requests_are_those_of_the_harness(golden):
    now, old = golden["lm_eval_0_4_13_offline_run"], golden["legacy_v0_3_request_hashes"]
    for name in SIX:
        items, _ = items_of(name, SHARED / "eval")  # checks number and hashes
        assert TASKS[name].requests_sha256 == now["sha256_of_json_dumps_of_request_list_in_dataset_order"][f"loc_{name}"]
        shuffled = list(items)
        random.Random(42).shuffle(shuffled)
        requests = [list(request) for item in shuffled for request in item.requests * (2 if name == "lambada_openai" else 1)]
        dumped = json.dumps(requests, sort_keys=True)
        assert hashlib.sha256(dumped.encode()).hexdigest() == old["hashes"][name]
    assert len(items_of("arc_easy:validation", SHARED / "eval")[0]) == 570


@genuine
@pytest.mark.slow
def test_metrics_are_those_of_the_harness_for_its_fake_model(golden):
    def fake(context, continuation=None):
        text = context if continuation is None else f"{context}\0{continuation}"
        digest = hashlib.sha256(text.encode()).digest()
        fraction = int.from_bytes(digest[:6], "big") / 2**48
        return -(0.5 + fraction) * len(context if continuation is None else continuation), digest[6] % 3 == 0

    for name in SIX:
        items, _ = items_of(name, SHARED / "eval")
        answers = [[fake(*request) for request in item.requests] for item in items]
        want = golden["lm_eval_0_4_13_offline_run"]["results"][f"loc_{name}"]
        for metric, (value, stderr) in evaluate.metrics_of(name, items, answers, draws=1000).items():
            assert value == pytest.approx(want[f"{metric},none"], rel=1e-12)
            assert stderr is None or stderr == pytest.approx(want[f"{metric}_stderr,none"], rel=1e-12)


@genuine
def test_windows_are_those_of_the_harness(golden):
    for case in golden["rolling_windows_context_len_1"]:
        found = evaluate.rolling_windows(case["tokens"], case["prefix"], case["max_length"])
        assert [list(map(list, window)) for window in found] == case["windows_context_continuation"]


def test_windows_score_each_token_once_with_all_the_context_that_fits():
    assert evaluate.rolling_windows(list(range(1, 11)), 0, 4) == [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])]
    assert evaluate.rolling_windows([], 0, 4) == []


def test_the_bootstrap_draws_what_random_choices_draws():
    lls = np.random.default_rng(0).normal(-3, 1, 37)
    replicates = []
    for seed in range(2):
        draw = random.Random(seed)
        replicates += [math.exp(-np.mean(draw.choices(list(lls), k=37))) for _ in range(1000)]
    assert evaluate.bootstrap_stderr(lls, 2000) == pytest.approx(np.std(replicates, ddof=1), rel=1e-12)


def test_ties_go_to_the_first_and_lengths_count_without_the_delimiter():
    items = [Item([("c", " ab"), ("c", "  b")], 0), Item([("c", " a"), ("c", " abcd")], 1)]
    answers = [[(-2.0, False), (-2.0, False)], [(-1.0, False), (-3.0, False)]]
    found = evaluate.metrics_of("piqa", items, answers)
    assert found == {"acc": (0.5, 0.5), "acc_norm": (1.0, 0.0)}
    assert evaluate.metrics_of("piqa", items[:1], answers[:1])["acc"] == (1.0, None)  # one item has no spread


# ---- log-likelihoods -------------------------------------------------------------------------------------------------

REQUESTS = [
    ("A man is sitting on a roof. He", " starts pulling up roofing."),
    ("A man is sitting on a roof. He", " was a surgeon"),
    ("A man is sitting on a roof. He", " x"),
    ("A man is sitting on a roof. He", "  two spaces"),
    ("Sarah was a much better surgeon than Maria so Sarah", " got"),
    ("Sarah was a much better surgeon than Maria so Maria", " got"),
    ("ends in a space ", "word"),
    ("", "no context"),
    ("", "<|endoftext|>begins with it"),
    ("1234567890" * 4, " more than fits"),  # 40 + 15 tokens, a context of 48
    ("1234567890" * 4, " z"),
    ("A man", " naïve 東京"),
]

ITEMS = [Item(REQUESTS[:4]), Item(REQUESTS[4:6]), Item(REQUESTS[6:9]), Item(REQUESTS[9:])]


def loglikelihoods(lm):
    return [ll for item in evaluate.answer(lm, "piqa", ITEMS) for ll, _ in item]


def one_by_one(logits_of, tokenizer, context_size, context, continuation):
    """The rule of section 2 in plain words: one sequence, no batch, no shared context."""
    moved = len(context) - len(context.rstrip())
    if moved:
        context, continuation = context[:-moved], context[-moved:] + continuation
    head = tokenizer.encode(context) or [tokenizer.bos_token_id]
    tail = tokenizer.encode(context + continuation)[len(head) if context else 0 :]
    tail = tail[1:] if not context and tail[0] == head[0] else tail
    tokens = (head + tail)[-(context_size + 1) :]
    with torch.no_grad():
        logps = torch.log_softmax(logits_of(torch.tensor([tokens[:-1]]))[0], dim=-1)[-len(tail) :]
    found = sum(logps[i, token].item() for i, token in enumerate(tail))
    return found, all(logps[i].argmax() == token for i, token in enumerate(tail))


def likeliest_request(phoenix, tokenizer):
    """A context and the token that the model finds likeliest there, the first that is cut the same way as one text."""
    for end in range(1, len(TEXT)):
        ids = tokenizer.encode(TEXT[:end].rstrip())
        longer = phoenix.generate(torch.tensor([ids]), 1, temperature=0)[0].tolist()
        context, both = tokenizer.decode(ids), tokenizer.decode(longer)
        if tokenizer.encode(both) == longer and tokenizer.encode(context) == ids:
            return context, both[len(context) :]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_every_loglikelihood_is_that_of_one_sequence_alone(tmp_path, qk_norm):
    path = make_run(tmp_path, qk_norm=qk_norm)
    lm, (phoenix, _) = evaluate.load_model(evaluate.Evaluate(str(path))), from_checkpoint(path)
    assert lm.shares and lm.headed
    items = [*ITEMS, Item([likeliest_request(phoenix, lm.tokenizer)])]
    answers = [given for item in evaluate.answer(lm, "piqa", items) for given in item]
    for request, (ll, likeliest) in zip([request for item in items for request in item.requests], answers, strict=True):
        for logits_of in (phoenix, lambda tokens: lm.model(tokens).logits):
            want, want_likeliest = one_by_one(logits_of, lm.tokenizer, lm.context, *request)
            assert ll == pytest.approx(want, abs=1e-4)
            assert likeliest == want_likeliest
    assert answers[-1][1]


@pytest.mark.parametrize("logits", [1, 14 * 7, 14 * 1000])
@pytest.mark.parametrize("kept", [None, threading.local()])
def test_log_probabilities_are_a_softmax_and_of_equals_the_first_is_the_likeliest(monkeypatch, kept, logits):
    monkeypatch.setattr(loglikelihood, "FRESH_LOGITS", logits)
    monkeypatch.setitem(loglikelihood.SOFTMAX_LOGITS, "cpu", logits)
    draw = torch.Generator().manual_seed(0)
    logits_SV = torch.randint(-3, 3, (600, 14), generator=draw).float()  # many equals
    logits_SV[:50, :10] = -torch.inf
    where_P = torch.cat([torch.arange(600), torch.randint(600, (300,), generator=draw)])[torch.randperm(900, generator=draw)]
    logps_PV = torch.log_softmax(logits_SV, -1)[where_P]
    targets_P = torch.where(torch.rand(900, generator=draw) < 0.9, logps_PV.argmax(-1), torch.randint(14, (900,), generator=draw))
    logp_P, likeliest_P = loglikelihood.log_probabilities(logits_SV, where_P, targets_P)
    assert torch.equal(logp_P, logps_PV.gather(-1, targets_P[:, None]).squeeze(-1))
    assert likeliest_P.tolist() == (logps_PV.argmax(-1) == targets_P).tolist()
    assert 0 < likeliest_P.sum() < 900
    for head in (torch.nn.Linear(5, 14), torch.nn.Linear(5, 14, bias=False), torch.nn.Linear(5, 15, bias=False)):
        states_SD = torch.randn(600, 5, generator=draw)
        with torch.no_grad():
            want_PV = torch.log_softmax(head(states_SD), -1)[where_P]
            targets_P[:700] = want_PV[:700].argmax(-1)
            logp_P, likeliest_P = loglikelihood.log_probabilities(states_SD, where_P, targets_P, head, kept)
        torch.testing.assert_close(logp_P, want_PV.gather(-1, targets_P[:, None]).squeeze(-1))
        assert likeliest_P[:700].all() and likeliest_P.tolist() == (want_PV.argmax(-1) == targets_P).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100, 257, 259, 515])
def test_a_sequence_by_itself_has_the_bits_of_a_product_of_all_its_positions(count):
    draw = torch.Generator().manual_seed(count)
    head, states_TD = torch.nn.Linear(192, 8192, bias=False), torch.randn(600, 192, generator=draw)
    targets_P, where_P = torch.randint(8192, (count,), generator=draw), torch.randint(count, (count,), generator=draw)
    picked_S = torch.randperm(600, generator=draw)[:count]  # as of several sequences
    with torch.no_grad():
        logits_TV = head(states_TD)
        if not all(torch.equal(head(states_TD[-rows:]), logits_TV[-rows:]) for rows in (16, 100, 128, 256)):
            pytest.skip("this processor's products have other bits for other numbers of rows")
        want_PV = torch.log_softmax(logits_TV, -1)[picked_S][where_P]
        for kept in (None, threading.local()):
            logp_P, _ = loglikelihood.log_probabilities(states_TD[picked_S], where_P, targets_P, head, kept)
            assert torch.equal(logp_P, want_PV.gather(-1, targets_P[:, None]).squeeze(-1))


def test_a_confident_model_of_many_tokens_is_scored_as_the_harness_rounds_it(lm):
    import transformers

    torch.manual_seed(0)
    size, width, count = 50257, 64, 100
    cfg = {"vocab_size": size, "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 0}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**cfg, num_key_value_heads=2, intermediate_size=96)).eval()
    with torch.no_grad():
        tokens = torch.nn.functional.normalize(torch.randn(size, width), dim=-1)
        model.model.embed_tokens.weight.copy_(tokens * width**0.5)
        following = torch.nn.functional.normalize(torch.randn(size, width), dim=-1)
        following[1000 : 1001 + count] = tokens[999 : 1000 + count]  # sure of 1000 behind 999, and so on
        model.lm_head.weight.copy_(following * 20 / width**0.5)
    other = replace(lm, model=model, context=512, shares=512)
    loglikelihood.check_shortcuts(other)
    tokens = list(range(990, 1000 + count))
    ((likely, _), (unlikely, _)), _ = loglikelihood.score_choices(
        other, [[(tokens, count), ([*tokens[:-1], 7], count)], [(tokens, 1)]]
    )
    with torch.no_grad():
        logps_NV = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits, -1)[0, -count:]
    for last, found in ((tokens[-1], likely), (7, unlikely)):
        want = float(logps_NV.gather(-1, torch.tensor([*tokens[-count:-1], last])[:, None]).sum())
        assert found == pytest.approx(want, rel=0, abs=1e-4)  # more exact sums are off by 3e-3
    assert -0.5 < likely < 0


def test_equal_choices_get_equal_scores(lm):
    same, other = ("A man is on a roof. He", " starts pulling up roofing."), ("A man is on a roof. He", " was a surgeon")
    items = [Item([same, other, same]), Item([other, same, same]), Item([same, same])]
    answers = evaluate.answer(lm, "piqa", items)
    assert answers[0][0] == answers[0][2] and answers[1][1] == answers[1][2] and answers[2][0] == answers[2][1]
    assert answers[0][0] != answers[0][1]


@pytest.mark.parametrize("kind", ["Phoenix", "Qwen2", "Bloom"])
def test_the_last_feed_forward_part_works_on_scored_positions_only(lm, kind):
    if kind != "Phoenix":
        lm = replace(lm, model=random_model(kind, LLAMAS if kind == "Qwen2" else {}))
        loglikelihood.check_shortcuts(lm)
    want, seen = loglikelihoods(replace(lm, last_mlp=None)), []
    if kind == "Bloom":  # not of a kind that is known to be built so
        assert lm.last_mlp is None
        return
    hook = lm.last_mlp.module.register_forward_hook(lambda _, args, result: seen.append(args[0].shape[:-1].numel()))
    assert loglikelihoods(lm) == pytest.approx(want, rel=0, abs=3e-5)
    scored = sum(scored for _, scored in evaluate.encode_requests(lm, REQUESTS))
    assert sum(seen) == scored - 3  # the four choices of the first item begin behind one place
    seen.clear()
    loglikelihoods(loglikelihood.alone(lm))
    assert sum(seen) > sum(scored for _, scored in evaluate.encode_requests(lm, REQUESTS))
    hook.remove()


def test_packed_weights_give_the_bits_of_weights_as_they_lie(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    layer, x_BTI = torch.nn.Linear(48, 70), torch.randn((3, 9, 48), generator=draw)
    onednn, plain = loglikelihood.OneDNN(layer), torch.ops.mkldnn._linear_pointwise
    with torch.inference_mode(), onednn:
        for _ in range(2):  # packed, and taken from where they are kept
            assert torch.equal(layer(x_BTI), plain(x_BTI, layer.weight, layer.bias, "none", [], ""))
            part = torch.nn.functional.linear(x_BTI, layer.weight[:30])  # begins where the whole does
            assert torch.equal(part, plain(x_BTI, layer.weight[:30], None, "none", [], ""))
            conv = torch.addmm(layer.bias[:48], x_BTI.flatten(0, 1), layer.weight[:48])
            torch.testing.assert_close(conv, x_BTI.flatten(0, 1) @ layer.weight[:48] + layer.bias[:48])
        for i in range(5):  # weights of a moment, that may lie where others lay
            weight_OI = torch.full((70, 48), float(i))
            assert torch.equal(torch.nn.functional.linear(x_BTI, weight_OI), plain(x_BTI, weight_OI, None, "none", [], ""))
            del weight_OI
    assert len(onednn.packed) == 3
    monkeypatch.setattr(loglikelihood, "PACKED_BYTES", 48 * 70 * 4)  # the layer has a bias besides
    with torch.inference_mode(), (large := loglikelihood.OneDNN(layer)):
        assert torch.equal(layer(x_BTI), plain(x_BTI, layer.weight, layer.bias, "none", [], ""))
    assert not large.packed


@pytest.mark.parametrize("tolerance", [1e-5, 1e-4])
def test_a_sum_in_doubt_is_the_harness_to_the_bit(lm, monkeypatch, tolerance):
    monkeypatch.setattr(loglikelihood, "TOLERANCE", tolerance)
    sequences, plain, seen = evaluate.encode_requests(lm, REQUESTS), loglikelihood.score_batch, []

    def spy(lm, rows):
        seen.append((lm.onednn, lm.one_by_one, rows))
        return plain(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", spy)
    found = loglikelihoods(lm)
    rows = [row for onednn, one_by_one, rows in seen for row in rows if one_by_one and onednn is None]
    assert all(len(sequences) == 1 for _, sequences in rows)
    alone = [sequences[0] for _, sequences in rows]
    _, doubts = loglikelihood.float32_sums(
        [logps for ((logps, _),) in loglikelihood.score(lm, [[s] for s in sequences])], lm.rounding
    )
    assert sorted(alone) == sorted(s for s, doubt in zip(sequences, doubts, strict=True) if doubt > tolerance)
    assert alone if tolerance < 1e-4 else not alone
    for (tokens, scored), ll in zip(sequences, found, strict=True):
        with torch.inference_mode():
            logps_1TV = torch.log_softmax(lm.model(torch.tensor([tokens[:-1]])).logits, dim=-1)[:, -scored:]
        want = float(torch.gather(logps_1TV, 2, torch.tensor(tokens[-scored:])[None, :, None]).squeeze(-1).sum())
        assert ll == (want if (tokens, scored) in alone else pytest.approx(want, rel=0, abs=3e-5))


def test_how_much_is_scored_again_is_learnt_from_the_first_of_it(lm, monkeypatch):
    again, plain = [], loglikelihood.alone
    monkeypatch.setattr(loglikelihood, "SHOWING", 3)
    monkeypatch.setattr(loglikelihood, "alone", lambda lm: replace(plain(lm), tokenizer="of alone"))
    scored = loglikelihood.score_batch

    def spy(lm, rows):
        again.extend(rows if lm.tokenizer == "of alone" else [])
        return scored(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", spy)
    draw = torch.Generator().manual_seed(5)
    sequences = [([7, *torch.randint(150, (40,), generator=draw).tolist()], 40) for _ in range(12)]
    for rounding, shown, rescored in ((1e-3, 1e-6, 3), (1e-3, 1e-3, 12), (1e-6, 1e-6, 0)):  # all in doubt, then few; all; none
        again.clear()
        monkeypatch.setattr(loglikelihood, "rounding_of", lambda moved_N, shown=shown: shown)
        (found,) = loglikelihood.score_choices(replace(lm, rounding=rounding), [sequences])
        assert len(again) == rescored
        (want,) = loglikelihood.score_choices(lm, [sequences])
        assert [ll for ll, _ in found] == pytest.approx([ll for ll, _ in want], rel=0, abs=1e-4)
    assert len({round(ll, 4) for ll, _ in found}) == 12


def test_a_float32_sum_is_foretold_or_in_doubt():
    draw, drawn = torch.Generator().manual_seed(1), functools.partial(torch.normal, 0.0)
    lengths = [1 + i % 150 for i in range(3000)]
    exact = [-(drawn(10.0 / (1 + i % 3), (n,), generator=draw).abs().double() + 1e-3) for i, n in enumerate(lengths)]
    ours, theirs = ([(x + drawn(3e-7, x.shape, generator=draw)).float() for x in exact] for _ in range(2))
    sums, doubts = loglikelihood.float32_sums(ours, 1e-6)
    want = torch.tensor([float(x.sum()) for x in theirs], dtype=torch.float64)
    off, doubts = (torch.tensor(sums, dtype=torch.float64) - want).abs(), torch.tensor(doubts)
    sure = doubts <= loglikelihood.TOLERANCE
    assert off[sure].max() < loglikelihood.TOLERANCE
    assert sure[want > -256].all() and not sure[want < -1024].any()
    middle = (want < -512) & (want > -1024)
    assert middle.sum() > 300 and sure[middle].float().mean() > 0.3  # how many depends on the width of the processor's vectors
    assert (off > doubts).sum() < 10


def test_rows_of_a_tensor_are_summed_in_the_order_of_a_vector():
    draw = torch.Generator().manual_seed(2)
    for length in (1, 2, 3, 7, 8, 9, 31, 33, 64, 100, 129, 1000):
        rows_MKN = torch.rand((3, 5, length), generator=draw) * -20
        alone = [float(row_N.clone().sum()) for row_N in rows_MKN.flatten(0, 1)]
        assert rows_MKN.sum(-1).flatten().tolist() == alone


def test_the_size_of_a_batch_changes_no_score(lm):
    want = loglikelihoods(lm)
    for batch_tokens in (1, 60):
        found = loglikelihoods(replace(lm, batch_tokens=batch_tokens))
        assert found == pytest.approx(want, rel=0, abs=3e-5)  # a few steps of float32 at 100 nats


def test_a_batch_too_large_for_memory_is_halved_until_it_fits(lm, monkeypatch):
    want, small, plain = loglikelihoods(lm), replace(lm, batch_tokens=10_000), loglikelihood.score_batch

    def small_memory(lm, rows):
        if sum(map(loglikelihood.inputs_of, rows)) > 60:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", small_memory)
    assert loglikelihoods(small) == pytest.approx(want, rel=0, abs=3e-5)
    assert small.batch_tokens <= 60
    monkeypatch.setattr(loglikelihood, "inputs_of", lambda row: 61)
    with pytest.raises(torch.OutOfMemoryError):  # one row alone is too much
        loglikelihoods(small)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_batch_too_large_had_in_memory_is_gone_before_a_smaller_one(lm, monkeypatch, workers):
    class Activations:
        pass

    plain, held, seen = loglikelihood.score_batch, [], []

    def small_memory(lm, rows):
        seen.append([activations() is not None for activations in held])
        if len(rows) > 1:
            here = Activations()  # of this frame, as a batch's are of score_batch's
            held.append(weakref.ref(here))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", small_memory)
    items = [[sequence] for sequence in evaluate.encode_requests(lm, REQUESTS * 20)]
    gc.disable()
    try:
        loglikelihood.score(replace(lm, batch_tokens=60, workers=workers), items)
        assert held and not any(activations() for activations in held)
    finally:
        gc.enable()
    assert workers > 1 or not any(alive for there in seen for alive in there)


def test_a_thread_a_core_gives_the_scores_of_one_thread(lm, monkeypatch):
    assert lm.workers == torch.get_num_threads() == 1
    one, many, plain, seen = replace(lm, batch_tokens=30), replace(lm, batch_tokens=30, workers=3), loglikelihood.score_batch, []

    def noted(lm, rows):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return plain(lm, rows)

    want = evaluate.answer(one, "piqa", ITEMS * 20)
    monkeypatch.setattr(loglikelihood, "score_batch", noted)
    torch.set_num_threads(2)
    try:
        assert evaluate.answer(many, "piqa", ITEMS * 20) == want
        assert threading.get_ident() not in {thread for thread, _ in seen} and {cores for _, cores in seen} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)

    def small_memory(lm, rows):
        if len(rows) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 bytes")
        return plain(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", small_memory)
    found = evaluate.answer(many, "piqa", ITEMS * 20)
    assert [ll for item in found for ll, _ in item] == pytest.approx([ll for item in want for ll, _ in item], rel=0, abs=3e-5)

    def fail(*_):
        raise ValueError("an error of the code itself")

    monkeypatch.setattr(loglikelihood, "score_batch", fail)
    with pytest.raises(ValueError, match="of the code itself"):
        evaluate.answer(many, "piqa", ITEMS * 20)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_what_must_have_the_harnesss_bits_shares_cores_and_products_only_where_a_trial_shows_them(lm):
    for workers, steady, want in ((2, True, (2, 1024, True)), (2, False, (1, 1, False))):
        alone = loglikelihood.alone(replace(lm, workers=workers, steady=steady))
        assert (alone.workers, alone.batch_tokens, alone.headed) == want
        assert alone.one_by_one and not (alone.shares or alone.last_mlp or alone.onednn)


@pytest.mark.parametrize("what", ["nothing", "states", "logits"])
def test_the_trial_sees_the_last_bit_of_one_state_and_of_one_logit(lm, monkeypatch, what):
    scored_states, product, asked = loglikelihood.scored_states, loglikelihood.product, []

    def states(lm, rows):
        states_SD, where_P = scored_states(lm, rows)
        asked.append(len(states_SD))
        if what == "states" and asked == [20, 20, 48, 48]:  # of the second sequence, as long as the model reads
            states_SD[30, 5] = torch.nextafter(states_SD[30, 5], torch.tensor(torch.inf))
        return states_SD, where_P

    def logits(head, states_RD, *others):
        logits_RV = product(head, states_RD, *others)
        if what == "logits" and len(states_RD) == 4:  # two places of each
            logits_RV[3, 7] = torch.nextafter(logits_RV[3, 7], torch.tensor(torch.inf))
        return logits_RV

    assert lm.context == 48
    monkeypatch.setattr(loglikelihood, "scored_states", states)
    monkeypatch.setattr(loglikelihood, "product", logits)
    assert loglikelihood.is_steady(lm) == (lm.steady and what == "nothing")


def test_a_threads_logits_lie_in_memory_of_its_own_that_is_kept(lm):
    head, states_RD, kept, start = torch.nn.Linear(8, 50, bias=False), torch.randn(20, 8), lm.kept, threading.Barrier(2)

    def in_a_thread(_):
        start.wait()
        with torch.inference_mode():
            logits = [loglikelihood.product(head, states_RD[:rows], kept, 32) for rows in (20, 3, 20)]
            assert torch.equal(logits[2], head(states_RD)) and logits[1].shape == (3, 50)
            return [x.data_ptr() for x in logits]

    with ThreadPoolExecutor(2) as pool:
        (one, *others), (another, *more) = pool.map(in_a_thread, range(2))
    assert one != another and set(others) == {one} and set(more) == {another}
    with torch.inference_mode():
        for size in (50, 60):
            assert loglikelihood.product(torch.nn.Linear(8, size, bias=False), states_RD, kept, 32).shape == (20, size)
            assert kept.logits.shape == (32, size)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_word_of_lambada_is_that_of_one_sequence_alone(lm, monkeypatch, workers):
    batches, passes, scored_states, score_batch = [], [], loglikelihood.scored_states, loglikelihood.score_batch

    def noted(lm, rows):
        assert lm.onednn is None and lm.last_mlp is None
        passes.append(len(rows))
        return scored_states(lm, rows)

    def noted_batch(lm, rows):
        batches.append(len(rows))
        return score_batch(lm, rows)

    items = [Item([request], 0) for request in REQUESTS]
    by_themselves = evaluate.answer(replace(lm, steady=False), "lambada_openai", items)
    monkeypatch.setattr(loglikelihood, "scored_states", noted)
    monkeypatch.setattr(loglikelihood, "score_batch", noted_batch)
    many = replace(lm, steady=True, workers=workers, kept=threading.local())
    found = evaluate.answer(many, "lambada_openai", items)
    assert hasattr(many.kept, "logits") == (workers == 1)  # else each of the other threads had its own
    assert passes == [1] * len(items) and sum(batches) == len(items) > len(batches)  # the head's product is of several
    if lm.steady:
        assert found == by_themselves
    with torch.no_grad():
        for (tokens, scored), ((ll, likeliest),) in zip(evaluate.encode_requests(lm, REQUESTS), found, strict=True):
            logps_TV = torch.log_softmax(lm.model(torch.tensor([tokens[:-1]])).logits[0], -1)[-scored:]
            logps_T = logps_TV[range(scored), tokens[-scored:]]
            assert ll == pytest.approx(float(logps_T.sum()), rel=0, abs=2e-6 * scored)
            assert likeliest == (logps_TV.argmax(-1).tolist() == tokens[-scored:])


def test_one_thread_asks_for_positions_and_another_has_all():
    double, here, found = loglikelihood.OnlyAt(torch.nn.Linear(3, 2)), torch.ones(2, 4, 3), []
    with torch.no_grad(), double(torch.tensor([1]), torch.tensor([2])):
        some = double.module(here)
        other = threading.Thread(target=lambda: found.append(double.module(here).detach()))
        other.start()
        other.join()
    assert [tuple(at) for at in some.any(-1).nonzero().tolist()] == [(1, 2)]
    assert found[0].any(-1).all() and torch.allclose(found[0][1, 2], some[1, 2])
    assert torch.equal(double.module(here), found[0])


def test_what_an_items_sequences_begin_with_goes_through_the_model_once(lm):
    assert loglikelihood.rows_of([([5, 6, 7, 8], 1), ([5, 6, 9], 1)], 48) == [(2, [([5, 6, 7, 8], 1), ([5, 6, 9], 1)])]
    assert loglikelihood.rows_of([([5, 6, 7], 2), ([5, 6, 7], 1)], 48) == [(2, [([5, 6, 7], 2), ([5, 6, 7], 1)])]
    assert [common for common, _ in loglikelihood.rows_of([([5, 6], 1), ([6, 6], 1)], 48)] == [1, 1]  # nothing in common
    assert len(loglikelihood.rows_of([([5] * 9, 1), ([5] * 8, 1)], 7)) == 2  # longer than may be shared
    shared = [loglikelihood.rows_of(evaluate.encode_requests(lm, item.requests), lm.shares) for item in ITEMS]
    assert [len(rows) for rows in shared[:2]] == [1, 1] and all(common > 5 for ((common, _),) in shared[:2])


def test_a_page_scores_the_sum_of_its_windows(lm, run):
    phoenix, _ = from_checkpoint(run)
    tokens = lm.tokenizer.encode(TEXT)
    assert len(tokens) > 2 * lm.context
    with torch.no_grad():
        want = 0.0
        for context, target in evaluate.rolling_windows(tokens, 0, lm.context):
            logps = torch.log_softmax(phoenix(torch.tensor([(context + target)[:-1]]))[0], dim=-1)[-len(target) :]
            want += logps.gather(-1, torch.tensor(target)[:, None]).sum().item()
    assert evaluate.answer(lm, "wikitext", [Item([(TEXT,)]), Item([("x",)])])[0][0][0] == pytest.approx(want, rel=1e-6)


def test_a_continuation_longer_than_the_context_is_refused(lm):
    with pytest.raises(Unavailable, match="does not fit the model's context of 48"):
        evaluate.answer(lm, "piqa", [Item([("a", " 1" * 60)])])


def test_a_tokenizer_that_merges_across_the_boundary_follows_the_rule_of_the_harness(lm):
    cut = {"a": [1], "a b": [3], "a bc": [3, 4], "x": [7], "": [], "  ": [5], "a  ": [1, 5]}

    class Merging:
        bos_token_id, eos_token_id = None, 0

        def __call__(self, texts, verbose):
            return {"input_ids": [cut[text] for text in texts]}

    other = replace(lm, tokenizer=Merging())
    assert evaluate.encode_requests(other, [("a", " bc")]) == [([1, 4], 1)]  # the context as it is cut alone
    assert evaluate.encode_requests(other, [("", "x"), ("  ", ""), ("a", "  ")]) == [([0, 7], 1), ([0, 5], 1), ([1, 5], 1)]
    for request in (("a", " b"), ("a", ""), ("", "")):
        with pytest.raises(Unavailable, match="the tokenizer leaves no token to the continuation"):
            evaluate.encode_requests(other, [request])
    other.tokenizer.eos_token_id = None
    for name, item in (("piqa", Item([("", "x")])), ("wikitext", Item([("x",)]))):
        with pytest.raises(Unavailable, match="neither a BOS nor an EOS token"):
            evaluate.answer(other, name, [item])


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.model"])
def test_scores_are_stale_when_a_file_of_the_folder_changes(tmp_path, file):
    about = {"weights_sha256": {}, "tokenizer_sha256": None}
    (tmp_path / file).write_text("{}")
    (tmp_path / "eval.json").write_text("[]")

    def described():
        found = loglikelihood.described_by(tmp_path)
        return about | {"files_sha256": {file.name: loglikelihood.sha256_file(file) for file in found}}

    old = {"format": FORMAT, "version": FORMAT_VERSION, "versions": {"evaluate": VERSION}, "results": {"piqa": {}}}
    assert earlier_results(tmp_path / "eval.json", described()) == {}
    (tmp_path / "eval.json").write_text(json.dumps(old | described()))
    assert earlier_results(tmp_path / "eval.json", described()) == {"piqa": {}}
    (tmp_path / file).write_text("{} ")
    assert earlier_results(tmp_path / "eval.json", described()) == {}


SIZES = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 0}
LLAMAS = {"intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 192}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"attention_types": [[["global", "local"], 1]], "window_size": 40, "intermediate_size": 24, "max_position_embeddings": 192}
CHUNKS = {"attention_chunk_size": 40, "intermediate_size_mlp": 24, "num_local_experts": 2}
COLUMNS = {  # models whose attention counts columns in a way that 32 of them do not show; and one that does not, to compare
    "GPTNeo": {"num_layers": 2, "num_heads": 2, **LONG},
    "Llama4": LLAMAS | CHUNKS,
    "Mistral": LLAMAS | {"sliding_window": 40},
    "Llama": LLAMAS | {"rope_parameters": DYNAMIC},
    "Qwen2": LLAMAS,
}


def random_model(kind, sizes):
    import transformers

    torch.manual_seed(0)
    config = "Llama4TextConfig" if kind == "Llama4" else f"{kind}Config"
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, config)(**SIZES | sizes)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)
    return model


@pytest.mark.parametrize("kind", COLUMNS)
def test_attention_that_counts_columns_is_scored_as_one_sequence_alone(lm, kind):
    other = replace(lm, model=random_model(kind, COLUMNS[kind]), context=192, shares=192)
    loglikelihood.check_shortcuts(other)
    assert (other.shares > 0) == (kind == "Qwen2")
    long = [(TEXT[:60], TEXT[60 : 60 + n]) for n in (30, 32, 34)]  # beginnings and branches on both sides of 40 columns
    items = [Item(long), *ITEMS[:2], Item([("x", " y")]), Item([(TEXT[:20], TEXT[20:60]), (TEXT[:20], TEXT[20:90])])]
    answers = [given for item in evaluate.answer(other, "piqa", items) for given in item]
    for request, (ll, _) in zip([request for item in items for request in item.requests], answers, strict=True):
        want, _ = one_by_one(lambda tokens: other.model(tokens).logits, lm.tokenizer, 192, *request)
        assert ll == pytest.approx(want, abs=2e-4)


def test_a_model_that_makes_much_of_a_last_bit_is_asked_one_sequence_at_a_time(lm):
    import transformers

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 96,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
    }
    cfg = transformers.LlamaConfig(vocab_size=320, max_position_embeddings=192, **sizes)
    model = transformers.LlamaForCausalLM(cfg).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            for weights in (layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight):
                weights.mul_(30)  # attention to hardly more than one place, and which is a matter of rounding
        model.lm_head.weight.mul_(30)
    other = replace(lm, model=model, context=192, shares=192)
    loglikelihood.check_shortcuts(other)
    assert (other.shares, other.batch_tokens, other.last_mlp, other.onednn) == (0, 1, None, None)
    for item, answers in zip(ITEMS, evaluate.answer(other, "piqa", ITEMS), strict=True):
        for request, (ll, _) in zip(item.requests, answers, strict=True):
            assert ll == pytest.approx(one_by_one(lambda tokens: model(tokens).logits, lm.tokenizer, 192, *request)[0], abs=1e-4)


def test_a_context_too_short_for_a_product_of_many_rows_is_not_steady(lm):
    import transformers

    cfg = {"n_layer": 1, "n_head": 4, "n_embd": 512, "n_positions": 8, "vocab_size": 8192}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**cfg)).eval()
    states_TD = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        few, many = model.lm_head(states_TD), model.lm_head(torch.nn.functional.pad(states_TD, (0, 0, 0, 8)))[:8]
    if torch.equal(few, many):
        pytest.skip("this processor's products of 8 rows have the bits of 16")
    other = replace(lm, model=model, context=8, shares=8)
    loglikelihood.check_shortcuts(other)
    assert not other.steady


def test_a_model_of_coarser_logits_has_its_sums_in_doubt_sooner(lm):
    roundings, draw = [], torch.Generator().manual_seed(4)
    sequences = [([7, *torch.randint(150, (n,), generator=draw).tolist()], n) for n in range(20, 100, 2)]
    for common in (0.0, 400.0):  # in all logits: it changes no probability, but their steps are wider, as those of a real GPT-2
        model = random_model("Qwen2", LLAMAS)
        with torch.no_grad():
            model.lm_head.weight.mul_(2)  # else hardly any of them is rounded to another step
            model.model.norm.weight[0], model.lm_head.weight[:, 0] = common, -1.0
        other = replace(lm, model=model, context=192, shares=192)
        loglikelihood.check_shortcuts(other)
        roundings.append(other.rounding)
        (found,) = loglikelihood.score_choices(other, [sequences])
        alone = loglikelihood.score(loglikelihood.alone(other), [[s] for s in sequences])
        want = [float(logps.sum()) for ((logps, _),) in alone]
        assert [ll for ll, _ in found] == pytest.approx(want, rel=0, abs=1e-4)
    assert 3 * roundings[0] < roundings[1]


def test_a_model_that_sees_what_comes_later_is_refused(lm):
    import transformers

    torch.manual_seed(0)
    bert = transformers.BertLMHeadModel(transformers.BertConfig(**SIZES, intermediate_size=24)).eval()
    with torch.no_grad():
        for p in bert.parameters():
            p.mul_(4)
    with pytest.raises(UserError, match="BertLMHeadModel is no causal model"):
        loglikelihood.check_shortcuts(replace(lm, model=bert))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(lm, tmp_path):
    for size in (319, 320):
        random_model("Qwen2", LLAMAS | {"vocab_size": size}).save_pretrained(tmp_path)
        lm.tokenizer.save_pretrained(tmp_path)
        with (
            nullcontext() if size == 320 else pytest.raises(UserError, match="a token with the id 319, the model knows 319 tokens")
        ):
            loglikelihood.load_folder(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_the_scores_before(tmp_path, monkeypatch):
    path = tmp_path / "eval.json"
    write_json(path, {"results": {"old": 1}})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written to .*eval.json \(No space left on device\)"):
        write_json(path, {"results": {"new": 2}})
    assert json.loads(path.read_text()) == {"results": {"old": 1}} and list(tmp_path.iterdir()) == [path]


def test_scores_that_are_no_numbers_are_refused(lm):
    model = random_model("Qwen2", LLAMAS)
    model.model.norm.weight.data[3] = math.nan
    with pytest.raises(UserError, match=r"not finite \(NaN or infinite\)"):
        loglikelihood.check_shortcuts(replace(lm, model=model))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Bloom", "Gemma2", "GPT2"])
def test_a_shortcut_that_is_not_exact_for_a_model_is_not_taken(lm, kind):
    import transformers

    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 0}
    more = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16, "final_logit_softcapping": 1.0}
    config = getattr(transformers, f"{kind}Config")(**sizes | (more if kind == "Gemma2" else {}))
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)
    other = replace(lm, model=model)
    loglikelihood.check_shortcuts(other)
    assert (other.shares > 0, other.headed) == {"Bloom": (False, True), "Gemma2": (False, False), "GPT2": (True, True)}[kind]
    answers = [given for item in evaluate.answer(other, "piqa", ITEMS) for given in item]
    for request, (ll, _) in zip(REQUESTS, answers, strict=True):
        want, _ = one_by_one(lambda tokens: model(tokens).logits, lm.tokenizer, lm.context, *request)
        assert ll == pytest.approx(want, abs=1e-4)


@pytest.mark.slow
def test_a_softcap_that_small_logits_hardly_show_is_not_left_out(lm):
    import transformers

    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 0}
    more = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16, "final_logit_softcapping": 30.0}
    torch.manual_seed(0)
    other = replace(lm, model=transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes | more)).eval())
    loglikelihood.check_shortcuts(other)
    assert not other.headed


@pytest.mark.parametrize(
    ("cfg", "tokenizer", "length"),
    [
        ({"n_positions": 3, "max_position_embeddings": 4}, 5, 3),
        ({"max_position_embeddings": 4, "n_ctx": 6}, 5, 4),
        ({"n_ctx": 6}, 5, 6),
        ({"max_position_embeddings": None}, 5, 5),
        ({}, int(1e30), 2048),
    ],
)
def test_the_context_is_the_one_that_the_harness_takes(cfg, tokenizer, length):
    assert loglikelihood.context_of(SimpleNamespace(**cfg), SimpleNamespace(model_max_length=tokenizer)) == length


def test_a_diverged_model_is_one_sentence_and_takes_no_other_task_with_it():
    lambada = [Item([("a", " b")], 0)] * 3
    with pytest.raises(Unavailable, match=r"a perplexity of e\^4,000 is beyond any number"):
        evaluate.metrics_of("lambada_openai", lambada, [[(-4000.0, False)]] * 3, draws=1000)
    with pytest.raises(Unavailable, match="beyond any number"):
        evaluate.metrics_of("wikitext", [Item([("a b",)], (2, 3))], [[(-4000.0, False)]])


def test_a_model_that_fails_in_the_middle_is_one_sentence(lm, monkeypatch):
    def fail(*_):
        raise RuntimeError("The size of tensor a (134) must match\nmore")

    monkeypatch.setattr(loglikelihood, "score_batch", fail)
    with pytest.raises(UserError, match=r"the model fails on .* tokens: The size of tensor a \(134\) must match$"):
        loglikelihoods(lm)


def test_weights_that_the_config_has_no_place_for_are_told(lm, tmp_path, capsys):
    random_model("Qwen2", LLAMAS).save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1, "layer_types": ["full_attention"]}))
    assert any("layers.1." in name for name in loglikelihood.load_model(tmp_path).about["unused_weights"])
    assert "config.json has no place for" in capsys.readouterr().err


def a_folder(lm, folder):
    random_model("Qwen2", LLAMAS).save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_whose_tokenizer_knows_no_text_is_refused(lm, tmp_path):
    for file in a_folder(lm, tmp_path).glob("*token*"):
        file.unlink()  # transformers makes an empty one then, and every page of WikiText has no tokens: a perplexity of 1
    with pytest.raises(UserError, match=r"knows no text: its files .* are missing or empty"):
        loglikelihood.load_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"), [("tokenizer_config.json", "[1]"), ("config.json", '{"model_type": "qwen2", "hidden_size": "x"}')]
)
def test_a_folder_with_damaged_files_is_one_sentence(lm, tmp_path, file, content):
    (a_folder(lm, tmp_path) / file).write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path} cannot be loaded by transformers: [A-Z]\\w+: [^\n]+$"):
        loglikelihood.load_model(tmp_path)


def test_code_in_a_folder_is_not_run(lm, tmp_path):
    config = json.loads((a_folder(lm, tmp_path) / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    for model_type in ("qwen2", "evil"):  # one that transformers knows is loaded as it knows it
        (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": model_type}))
        if model_type == "qwen2":
            assert type(loglikelihood.load_model(tmp_path).model).__module__.startswith("transformers.")
        else:
            with pytest.raises(UserError, match="cannot be loaded by transformers"):
                loglikelihood.load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_reads_less_than_the_trial_is_scored(lm):
    model = random_model("Qwen2", LLAMAS | {"max_position_embeddings": 6})
    short = replace(lm, model=model, context=6)
    loglikelihood.check_shortcuts(short)
    sequence = ([5, 6, 7, 8, 9], 2)
    (((logps_N, _),),) = loglikelihood.score(short, [[sequence]])
    with torch.no_grad():
        want_TV = model(torch.tensor([sequence[0]])).logits[0].log_softmax(-1)
    assert logps_N.tolist() == pytest.approx([want_TV[2, 8].item(), want_TV[3, 9].item()], abs=1e-5)


def test_a_device_that_does_not_compute_is_refused(run):
    with pytest.raises(UserError, match="device 'meta' cannot be used"):
        loglikelihood.load_model(run, "meta")


@genuine
@pytest.mark.slow
def test_the_harness_gives_the_same_to_every_request(tmp_path):
    """A small part of `make parity`: one item of 1,200 of each task."""
    root = Path(evaluate.__file__).parent
    if not (root / ".venv-lm-eval" / "bin" / "python").exists():
        pytest.skip("needs .venv-lm-eval: run `make peers`")
    export = tmp_path / "hf"
    assert export_hf.main([str(make_run(tmp_path, context=512, std=0.1)), f"--out={export}"]) == 0
    command = [sys.executable, root / "benchmarks" / "bench_eval.py", f"--ours={export}", f"--data={SHARED / 'eval'}"]
    done = subprocess.run(
        [*command, "--every=1200", f"--scratch={tmp_path / 'parity'}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for model in ("ours", "gpt2"):
        assert f"{model}: equal" in done.stdout
    assert all(done.stdout.count(f"| {name} | {len(range(0, TASKS[name].items, 1200))} |") == 2 for name in SIX)


def test_a_perplexity_beyond_four_decimals_is_told_and_a_wrong_one_is_not_equal(monkeypatch):
    monkeypatch.syspath_prepend(Path(evaluate.__file__).parent / "benchmarks")
    import bench_eval

    def compared(ours):
        mine = {"lambada_openai": {"lls": [[-1.0]], "metrics": {"perplexity": (ours, None)}}}
        theirs = {"lambada_openai": {"perplexity,none": 675765.3801, "perplexity_stderr,none": "N/A"}}
        ((*_, cell),), equal = bench_eval.compare(mine, theirs, {"lambada_openai": [[-1.0]]})
        return cell, equal

    assert compared(675765.3801) == ("equal", True)
    assert compared(675765.1818) == ("perplexity 675765.1818 for 675765.3801 (3e-07)", True)
    assert compared(675700.0)[1] is False


# ---- bits per byte ---------------------------------------------------------------------------------------------------


def test_tokens_of_a_text_have_as_many_bytes_as_the_text(lm, run):
    sizes = evaluate.token_bytes(lm.tokenizer)
    for text in ("", "  two\n", "naïve café 東京 🙂", "\x00\u200b", TEXT):
        assert sizes[lm.tokenizer.encode(text)].sum() == len(text.encode())
    assert sizes[0] == sizes[1] == 0  # special tokens stand for no text
    assert sizes.tolist() == train.token_bytes(run.parent / "tokenizer" / "tokenizer.json").tolist()


@pytest.mark.parametrize("windows", [None, 3])
def test_bits_per_byte_is_what_training_validates(lm, run, windows):
    cut = Windows(shards.open(run.parents[1] / "data" / "shards", "val"), lm.context)
    found, counts = evaluate.bits_per_byte(lm, cut, windows)
    count = windows or cut.count
    chosen, bytes_V = np.arange(count) * cut.count // count, torch.tensor(evaluate.token_bytes(lm.tokenizer))
    want = train.validate(from_checkpoint(run)[0], cut, chosen, 2, bytes_V, torch.device("cpu"), nullcontext)
    assert found["bits_per_byte"][0] == pytest.approx(want["val_bpb"], rel=1e-6)
    assert found["loss"][0] == pytest.approx(want["val_loss"], rel=1e-6)
    assert (counts["items"], counts["of"], counts["tokens"]) == (count, cut.count, count * lm.context)


# ---- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_has_each_value_in_its_column(capsys):
    lambada = {"metrics": {"acc": (0.25, 0.0123), "perplexity": (38.5, 1.5)}, "items": 1000, "of": 5153, "chance": 0.0}
    eval_report.print_table({"lambada_openai": lambada, "piqa": lambada | {"metrics": {"acc_norm": (0.5, None)}, "chance": 0.5}})
    heads, acc, perplexity, piqa = ([cell for cell in line.split() if cell != "±"] for line in said(capsys))
    assert heads == ["task", "metric", "value", "stderr", "items", "chance", "GPT-2", "124M", "Pythia-160M", "Cerebras-GPT-111M"]
    assert acc == ["lambada_openai", "acc", "0.2500", "0.0123", "1,000", "of", "5,153", "0", "0.326", "0.328", "0.194"]
    assert perplexity == ["lambada_openai", "perplexity", "38.5000", "1.5000", "1,000", "of", "5,153", "–", "40.06", "–", "–"]
    assert piqa == ["piqa", "acc_norm", "0.5000", "1,000", "of", "5,153", "0.5", "0.625", "0.616", "–"]


@genuine
def test_the_anchors_are_those_of_the_notes():
    lines = (SHARED / "field_notes" / "trainer.md").read_text().splitlines()
    published = ("| GPT-2 124M | WebText |", "| Pythia-160M final |", "| **Cerebras-GPT-111M** |")
    rows = [next(line for line in lines if line.startswith(start)) for start in published]
    for scores in eval_report.ANCHOR_SCORES.values():
        for score, row in zip(scores, rows, strict=True):
            assert score is None or (f"{score:.3f}"[1:] if score < 1 else f"{score}") in row


def said(capsys):
    return capsys.readouterr().out.strip().splitlines()


# ---- data and arguments ----------------------------------------------------------------------------------------------

ROWS = [{"goal": f"goal {i}", "sol1": "a man", "sol2": "a roof", "label": i % 2} for i in range(5)]


@pytest.fixture
def five_items(monkeypatch, tmp_path):
    """piqa with five items, and a folder of data that holds them."""
    items = [eval_tasks.piqa(row) for row in ROWS]
    known = {
        "items": 5,
        "requests_sha256": sha256_json([request for item in items for request in item.requests]),
        "gold_sha256": sha256_json([item.gold for item in items]),
    }
    monkeypatch.setitem(TASKS, "piqa", replace(TASKS["piqa"], **known))
    folder = tmp_path / "eval" / "piqa"
    folder.mkdir(parents=True)
    bare = [{k: v for k, v in row.items() if k != "label"} for row in ROWS]
    (folder / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    (folder / "valid-labels.lst").write_text("".join(f"{row['label']}\n" for row in ROWS))
    return folder.parent


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)


def test_a_run_writes_every_items_loglikelihoods_and_names_what_is_missing(run, five_items, no_network, tmp_path, capsys):
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--limit=4"]
    assert evaluate.main(argv) == 0
    report, printed = json.loads(out.read_text()), capsys.readouterr().out
    piqa = report["results"]["piqa"]
    assert (piqa["items"], piqa["of"], piqa["chance"], piqa["gold"]) == (4, 5, 0.5, [0, 1, 0, 1])
    assert [len(lls) for lls in piqa["loglikelihoods"]] == [2] * 4
    assert report["results"]["bits_per_byte"]["metrics"]["bits_per_byte"][0] > 0
    assert set(report["missing"]) == set(SIX) - {"piqa"}
    assert "not scored: hellaswag: Rowan/hellaswag cannot be had from the Hub: Name or service not known" in printed
    assert report["weights_sha256"]["ckpt.pt"] == hashlib.sha256(run.read_bytes()).hexdigest()
    assert evaluate.main([*argv, "--tasks=piqa,winogrande"]) == 1  # asked for by name, and not scored
    assert evaluate.main([*argv, "--tasks=bits_per_byte"]) == 0
    assert set(json.loads(out.read_text())["results"]) == {"bits_per_byte", "piqa"}  # what the file had stays


def test_two_runs_that_share_a_file_keep_each_others_results(run, five_items, tmp_path, monkeypatch):
    shutil.copytree(five_items / "piqa", tmp_path / "eval" / "arc_easy")
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl"))
    out, plain = tmp_path / "scores.json", evaluate.answer
    argv = [str(run), f"--data={five_items}", f"--json={out}"]

    def another_run_meanwhile(lm, name, items):
        monkeypatch.setattr(evaluate, "answer", plain)
        assert evaluate.main([*argv, "--tasks=arc_easy"]) == 0
        return plain(lm, name, items)

    monkeypatch.setattr(evaluate, "answer", another_run_meanwhile)
    assert evaluate.main([*argv, "--tasks=piqa"]) == 0
    assert set(json.loads(out.read_text())["results"]) == {"piqa", "arc_easy"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eval", "scores.json"]


def test_what_an_earlier_run_says_is_reckoned_again_and_what_is_damaged_scored_again(run, five_items, tmp_path, capsys):
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"]
    assert evaluate.main(argv) == 0
    report = json.loads(out.read_text())
    first = report["results"]["piqa"]
    lls, known = first["loglikelihoods"], {key: first[key] for key in first if key != "secs"}
    for change, said in (
        ({"metrics": {"acc": [9.0, None]}}, "scored before"),
        ({"loglikelihoods": lls[:3]}, "5 items in"),
        ({"loglikelihoods": [given[:1] for given in lls]}, "5 items in"),
        ({"loglikelihoods": [["-1.5", "-2"]] * 5}, "5 items in"),
        ({"likeliest": None}, "5 items in"),
        ([], "5 items in"),
    ):
        out.write_text(json.dumps(report | {"results": {"piqa": first | change if change else change}}))
        capsys.readouterr()
        assert evaluate.main(argv) == 0
        printed = capsys.readouterr().out
        assert f"piqa: {'5 items, ' if said == 'scored before' else ''}{said}" in printed and "9.0000" not in printed
        if "metrics" not in change:
            found = json.loads(out.read_text())["results"]["piqa"]
            assert {key: found[key] for key in known} == known


def test_a_run_that_scores_nothing_fails_and_leaves_the_scores_before_it(run, no_network, tmp_path, capsys):
    path = shutil.copytree(run.parent, tmp_path / "run") / "ckpt.pt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"settings": {"data": "gone"}}, path)
    scores = path.parent / "eval.json"
    scores.write_text(before := json.dumps({"format": FORMAT}))
    assert evaluate.main([str(path)]) == 1
    assert scores.read_text() == before
    assert "not scored: bits_per_byte: gone/shards/shards.json" in capsys.readouterr().out


def test_a_stopped_run_is_taken_up_at_the_first_task_that_it_had_not_finished(run, five_items, tmp_path, monkeypatch, capsys):
    shutil.copytree(five_items / "piqa", tmp_path / "eval" / "arc_easy")
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl"))
    out = tmp_path / "scores.json"
    argv = [str(run), f"--data={five_items}", f"--json={out}", "--tasks=bits_per_byte,piqa,arc_easy"]
    plain, asked = evaluate.answer, []

    def stopped_at_arc_easy(lm, name, items):
        asked.append(name)
        if name == "arc_easy" and asked.count(name) == 1:
            raise KeyboardInterrupt
        return plain(lm, name, items)

    monkeypatch.setattr(evaluate, "answer", stopped_at_arc_easy)
    assert evaluate.main(argv) == 130
    assert f"stopped; the scores of bits_per_byte, piqa are in {out}" in capsys.readouterr().err
    first = json.loads(out.read_text())["results"]
    assert set(first) == {"bits_per_byte", "piqa"}
    assert evaluate.main(argv) == 0
    assert asked == ["piqa", "arc_easy", "arc_easy"]
    said = capsys.readouterr().out
    assert "piqa: 5 items, scored before" in said and "arc_easy: 5 items in" in said
    last = json.loads(out.read_text())["results"]
    assert {name: last[name] for name in first} == first and "arc_easy" in last
    assert evaluate.main([*argv, "--limit=3"]) == 0
    assert asked == ["piqa", "arc_easy", "arc_easy"], "the first of what was scored"
    said = capsys.readouterr().out
    assert "piqa: 3 items, scored before" in said and re.search(r"piqa +acc .* 3 of 5", said)
    report = json.loads(out.read_text())
    assert report["results"] == last, "a short rerun takes nothing of a long one away"
    out.write_text(json.dumps(report | {"weights_sha256": {"ckpt.pt": "another model's"}}))
    assert evaluate.main([*argv, "--limit=3"]) == 0
    assert asked[3:] == ["piqa", "arc_easy"]
    short = json.loads(out.read_text())["results"]["piqa"]
    assert short["items"] == 3 and short["loglikelihoods"] == last["piqa"]["loglikelihoods"][:3]
    assert evaluate.main(argv) == 0 and asked[5:] == ["piqa", "arc_easy"], "more items than before are scored anew"


@pytest.mark.parametrize("content", ['{"precious": 1}', "{", "[1]", "[" * 200_000])
def test_a_file_that_is_no_result_is_not_overwritten(run, five_items, tmp_path, content):
    out = tmp_path / "scores.json"
    out.write_text(content)
    with pytest.raises(UserError, match="is no result of evaluate"):
        evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"])
    assert out.read_text() == content


def test_what_is_no_file_is_not_replaced_by_results(run, five_items, tmp_path):
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)  # stands for /dev/null and other devices, which tests leave alone
    link.symlink_to(pipe)
    folder.mkdir()
    for out in (pipe, link, folder):
        before = out.lstat()
        with pytest.raises(UserError, match="is a folder, a pipe or a device, not a file: give another --json"):
            evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"])
        assert (out.lstat().st_ino, out.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert pipe.is_fifo() and not list(folder.iterdir())


def test_results_go_where_a_link_points_and_into_an_empty_file(run, five_items, tmp_path):
    link, target, empty = tmp_path / "link.json", tmp_path / "disk.json", tmp_path / "empty.json"
    link.symlink_to(target)
    empty.touch()
    for out in (link, link, empty):  # the target is made, then taken up
        assert evaluate.main([str(run), f"--data={five_items}", f"--json={out}", "--tasks=piqa"]) == 0
        assert "piqa" in json.loads(out.read_text())["results"]
    assert link.is_symlink() and target.is_file()


def test_checkpoints_of_one_run_have_a_result_each(run, five_items, tmp_path):
    path = shutil.copytree(run.parent, tmp_path / "run") / "ckpt.pt"
    other = path.with_name("ckpt-00000300.pt")
    shutil.copyfile(path, other)
    for checkpoint in (path, other):
        assert evaluate.main([str(checkpoint), f"--data={five_items}", "--tasks=piqa"]) == 0
    for name, checkpoint in (("eval.json", path), ("eval-ckpt-00000300.json", other)):
        assert set(json.loads((path.parent / name).read_text())["weights_sha256"]) == {checkpoint.name}
    assert results_path(path.parent) == path.parent / "eval.json"


def test_a_task_that_does_not_fit_the_model_is_named_and_the_rest_goes_on(run, five_items, tmp_path, monkeypatch, capsys):
    long = tmp_path / "eval" / "arc_easy"
    long.mkdir()
    row = {"goal": "1", "sol1": "1 " * 60, "sol2": "2", "label": 0}
    (long / "valid.jsonl").write_text(json.dumps(row) + "\n")
    (long / "valid-labels.lst").write_text("0\n")
    item = eval_tasks.piqa(row)
    known = {"items": 1, "requests_sha256": sha256_json(item.requests), "gold_sha256": sha256_json([0])}
    monkeypatch.setitem(TASKS, "arc_easy", replace(TASKS["piqa"], file="arc_easy/valid.jsonl", **known))
    argv = [str(run), f"--data={five_items}", f"--json={tmp_path / 'scores.json'}", "--tasks=arc_easy,piqa"]
    assert evaluate.main(argv) == 1
    said = capsys.readouterr().out
    assert "piqa: 5 items in" in said and set(json.loads((tmp_path / "scores.json").read_text())["missing"]) == {"arc_easy"}
    assert re.search(r"not scored: arc_easy: a continuation of \d+ tokens does not fit the model's context of 48", said)


def test_data_of_the_hub_come_at_their_revision_and_once(five_items, monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    repo, revision, _ = TASKS["piqa"].hub
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    data = table.getvalue().to_pybytes()
    with loopback_hub.running(monkeypatch, tmp_path / "cache") as hub:
        hub.datasets[repo, revision] = {"piqa_validation.parquet": data, "piqa_train.parquet": b"never asked for"}
        items, source = items_of("piqa", None)
        assert items == items_of("piqa", five_items)[0] and source == f"{repo} on the Hub at {revision}"
        assert not any("train" in path for _, path, _ in hub.requests)
        hub.datasets.clear()  # the Hub no longer answers for it: the cache has it, at this revision
        assert items_of("piqa", None)[0] == items
        with pytest.raises(Unavailable, match="Rowan/hellaswag cannot be had from the Hub: "):
            items_of("hellaswag", None)
        shutil.rmtree(tmp_path / "cache")
        hub.datasets[repo, revision] = {"piqa_validation.parquet": data[:-1]}
        with pytest.raises(Unavailable, match="is not the data of piqa"):
            items_of("piqa", None)


def test_a_hub_that_does_not_answer_is_given_up_once(monkeypatch, tmp_path):
    asked, stop = [], threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            stop.wait(20)

        def log_message(self, *_):
            pass

    with loopback_hub.running(monkeypatch, tmp_path / "cache", lambda hub: Silent):
        monkeypatch.setattr(eval_tasks, "unreachable", {})
        monkeypatch.setattr(eval_tasks, "SILENCE_SECS", 0.2)
        for name in ("piqa", "hellaswag"):
            with pytest.raises(Unavailable, match=r"cannot be had from the Hub: http.* has sent nothing for 0\.2 s"):
                items_of(name, None)
            assert len(asked) == 1  # not for the second
        stop.set()


def test_an_answer_of_the_hub_that_is_cut_off_is_one_sentence(monkeypatch):
    import httpx2

    asked = []

    def cut(*_, local_files_only, **__):
        asked.append(local_files_only)
        raise httpx2.RemoteProtocolError("peer closed connection") from OSError("of the layer below")

    monkeypatch.setattr(eval_tasks, "unreachable", {})
    monkeypatch.setattr("huggingface_hub.snapshot_download", cut)
    for name in ("piqa", "hellaswag"):
        with pytest.raises(Unavailable, match="cannot be had from the Hub: "):
            items_of(name, None)
    assert asked == [False, True, True]  # the cache is looked into, and only it for the second


def test_a_file_of_the_hub_is_checked_like_any_other(five_items, monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "snapshot" / "piqa_validation.parquet"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / "snapshot"))
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    assert items_of("piqa", None)[0] == items_of("piqa", five_items)[0]
    for wrong in (ROWS[:4], [{"text": "another data set"}] * 5, [row | {"label": 0} for row in ROWS]):
        pq.write_table(pa.Table.from_pylist(wrong), file)
        with pytest.raises(Unavailable, match="is not the data of piqa"):
            items_of("piqa", None)
    file.unlink()
    with pytest.raises(Unavailable, match=r"baber/piqa has no \*validation\*\.parquet at revision 142f6d73"):
        items_of("piqa", None)


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("valid.jsonl", lambda text: text.split("\n", 1)[1], "is not the data of piqa"),  # 4 rows, 5 answers
        ("valid.jsonl", lambda text: text.replace("a man", "a  man"), "requests_sha256 differs"),
        ("valid.jsonl", lambda text: text[:-20], "JSONDecodeError"),
        ("valid.jsonl", lambda text: "", "0 items, 5 are expected"),
        ("valid.jsonl", lambda text: text.replace("goal", "query"), "KeyError: 'goal'"),
        ("valid-labels.lst", lambda text: text.replace("1", "0"), "gold_sha256 differs"),
        ("valid-labels.lst", lambda text: "yes\n" * 5, "is not the data of piqa"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_scored(five_items, file, change, sentence):
    path = five_items / "piqa" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=sentence):
        items_of("piqa", five_items)


def test_a_users_mistake_is_one_sentence(run, tmp_path, no_network):
    foreign = tmp_path / "foreign.pt"
    foreign.write_bytes(b"not a checkpoint")
    (tmp_path / "empty").mkdir()
    for argv, sentence in (
        (["no/ckpt.pt"], "no/ckpt.pt does not exist"),
        ([str(foreign), "--tasks=bits_per_byte"], "is not a whole torch file"),
        ([str(tmp_path / "empty"), "--tasks=bits_per_byte"], "a folder without config.json"),
        ([str(run), "--tasks=hellaswog"], "unknown task 'hellaswog': there are hellaswag, winogrande"),
        ([str(run), "--tasks=()"], "--tasks names no task"),
        ([str(run), "--limit=0"], "must be at least 1"),
        ([str(run), "--data=no/folder"], "--data=no/folder is not a folder"),
        ([str(run), "--tasks=bits_per_byte", "--shards=no/folder"], "no/folder/shards.json does not exist"),
        ([str(run), "--tasks=bits_per_byte", "--device=nonsense"], "device 'nonsense' cannot be used"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate.main(argv)


def test_a_tokenizer_other_than_the_trained_one_is_refused(tmp_path, capsys):
    path = make_run(tmp_path)
    meta = tmp_path / "data" / "shards" / "shards.json"
    meta.write_text(meta.read_text().replace('"tokenizer_sha256": "', '"tokenizer_sha256": "0'))
    assert evaluate.main([str(path), "--tasks=bits_per_byte"]) == 1
    assert "not scored: bits_per_byte" in (said := capsys.readouterr().out) and "were made with another tokenizer" in said
    with pytest.raises(UserError, match="were made with another tokenizer"):
        evaluate.main([str(path), "--tasks=bits_per_byte", f"--shards={meta.parent}"])
    tokens = path.parent / "tokenizer" / "tokenizer.json"
    tokens.write_text(tokens.read_text() + " ")
    with pytest.raises(UserError, match="is not the tokenizer that"):
        evaluate.main([str(path), "--tasks=bits_per_byte"])
