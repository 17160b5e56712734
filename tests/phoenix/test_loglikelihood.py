"""Laws of scoring: every log-likelihood is that of one forward pass a request, whatever shortcut gives it."""

import functools
import gc
import json
import math
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers

import evaluate
from model import from_checkpoint
from phoenix import loglikelihood
from phoenix.config import UserError
from phoenix.loglikelihood import Sequence, answer, encode_requests, prepare, rolling_windows
from phoenix.tasks import Item, Unavailable
from tests.fixtures import SHARED
from tests.tiny_run import LLAMAS, SIZES, TEXT, make_run, random_model

torch.set_num_threads(1)
genuine = pytest.mark.skipif(
    not (SHARED / "eval" / "golden" / "golden.json").is_file(), reason="needs the tasks' data: set PHOENIX_SHARED"
)


@pytest.fixture(scope="module")
def golden():
    return json.loads((SHARED / "eval" / "golden" / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def lm(run):
    return evaluate.load_model(evaluate.Evaluate(str(run), device="cpu"))[0]


@genuine
def test_windows_are_those_of_the_harness(golden):
    for case in golden["rolling_windows_context_len_1"]:
        found = rolling_windows(case["tokens"], case["prefix"], case["max_length"])
        assert [list(map(list, window)) for window in found] == case["windows_context_continuation"]


def test_windows_score_each_token_once_with_all_the_context_that_fits():
    assert rolling_windows(list(range(1, 11)), 0, 4) == [([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])]
    assert rolling_windows([], 0, 4) == []


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


def oracle(model, lm, items):
    """[(log-likelihood, likeliest)] of every request, by one forward pass each."""
    requests = [request for item in items for request in item.requests]
    return [one_by_one(lambda tokens: model(tokens).logits, lm.tokenizer, lm.context, *request) for request in requests]


def check_scores(lm, items, want):
    """The answers of all requests, in order, are those of `want`."""
    found = [given for item in answer(lm, "piqa", items) for given in item]
    assert [ll for ll, _ in found] == pytest.approx([ll for ll, _ in want], rel=0, abs=1e-4)
    assert [likeliest for _, likeliest in found] == [likeliest for _, likeliest in want]


@pytest.mark.parametrize("qk_norm", [False, True])
def test_every_loglikelihood_is_that_of_one_sequence_alone(tmp_path, qk_norm):
    path = make_run(tmp_path, qk_norm=qk_norm)
    (lm, _), (phoenix, _) = evaluate.load_model(evaluate.Evaluate(str(path), device="cpu")), from_checkpoint(path)
    assert lm.shortcuts
    items = [*ITEMS, Item([likeliest_request(phoenix, lm.tokenizer)])]
    want = oracle(lambda tokens: SimpleNamespace(logits=phoenix(tokens)), lm, items)
    assert want[-1][1] and want[-1][1] != want[0][1]
    check_scores(lm, items, want)
    check_scores(lm, items, oracle(lm.model, lm, items))


def test_equal_choices_get_equal_scores(lm):
    same, other = ("A man is on a roof. He", " starts pulling up roofing."), ("A man is on a roof. He", " was a surgeon")
    items = [Item([same, other, same]), Item([other, same, same]), Item([same, same])]
    answers = answer(lm, "piqa", items)
    assert answers[0][0] == answers[0][2] and answers[1][1] == answers[1][2] and answers[2][0] == answers[2][1]
    assert answers[0][0] != answers[0][1]


@pytest.mark.parametrize("logits", [1, 14 * 7, 14 * 1000])
def test_log_probabilities_are_a_softmax_and_of_equals_the_first_is_the_likeliest(monkeypatch, logits):
    monkeypatch.setitem(loglikelihood.HEAD_LOGITS, "cpu", logits)
    draw = torch.Generator().manual_seed(0)
    logits_PV = torch.randint(-3, 3, (600, 14), generator=draw).float()  # many equals
    logits_PV[:50, :10] = -torch.inf
    want_PV = torch.log_softmax(logits_PV, -1)
    targets_P = torch.where(torch.rand(600, generator=draw) < 0.9, want_PV.argmax(-1), torch.randint(14, (600,), generator=draw))
    logps_P, likeliest_P = loglikelihood.log_probabilities(logits_PV.clone(), targets_P)
    assert torch.equal(logps_P, want_PV.gather(-1, targets_P[:, None]).squeeze(-1))
    assert likeliest_P.tolist() == (want_PV.argmax(-1) == targets_P).tolist() and 0 < likeliest_P.sum() < 600
    head_VD, states_PD = torch.randn(14, 5, generator=draw), torch.randn(600, 5, generator=draw)
    with torch.no_grad():
        want_PV = torch.log_softmax(states_PD @ head_VD.T, -1)
        logps_P, likeliest_P = loglikelihood.log_probabilities(states_PD, want_PV.argmax(-1), head_VD)
    torch.testing.assert_close(logps_P, want_PV.amax(-1))
    assert likeliest_P.all()


def test_a_confident_model_of_many_tokens_is_scored_as_the_harness_rounds_it(lm):
    torch.manual_seed(0)
    size, width, count = 20000, 64, 100
    cfg = {"vocab_size": size, "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 0}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**cfg, num_key_value_heads=2, intermediate_size=96)).eval()
    with torch.no_grad():
        tokens = torch.nn.functional.normalize(torch.randn(size, width), dim=-1)
        model.model.embed_tokens.weight.copy_(tokens * width**0.5)
        following = torch.nn.functional.normalize(torch.randn(size, width), dim=-1)
        following[1000 : 1001 + count] = tokens[999 : 1000 + count]  # sure of 1000 behind 999, and so on
        model.lm_head.weight.copy_(following * 20 / width**0.5)
    other, tokens = prepare(model, lm.tokenizer), (*range(990, 1000 + count),)
    sequences = [Sequence(tokens, count), Sequence((*tokens[:-1], 7), count)]
    (scores,) = loglikelihood.score(other, [sequences])
    with torch.no_grad():
        logps_NV = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits, -1)[0, -count:]
    for sequence, found in zip(sequences, scores, strict=True):
        want_N = logps_NV.gather(-1, torch.tensor(sequence.tokens[-count:])[:, None]).squeeze(-1)
        assert float(found.logps_N.sum()) == pytest.approx(float(want_N.sum()), rel=0, abs=1e-4)  # exact sums are off by 3e-3
    assert -0.5 < float(scores[0].logps_N.sum()) < 0


def test_the_size_of_a_batch_changes_no_score(lm):
    want = oracle(lm.model, lm, ITEMS)
    for batch_tokens in (1, 60, 10_000):
        check_scores(replace(lm, batch_tokens=batch_tokens), ITEMS, want)


def test_a_batch_too_large_for_memory_is_halved_and_gone_before_a_smaller_one(lm, monkeypatch):
    class Activations:
        pass

    plain, large, held = loglikelihood.score_batch, replace(lm, batch_tokens=10_000), []

    def small_memory(lm, rows, most=60):
        assert not any(activations() for activations in held)
        if sum(row.inputs() for row in rows) > most:
            activations = Activations()  # of this frame, as a batch's are of score_batch's
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(lm, rows)

    monkeypatch.setattr(loglikelihood, "score_batch", small_memory)
    gc.disable()
    try:
        check_scores(large, ITEMS, oracle(lm.model, lm, ITEMS))
    finally:
        gc.enable()
    assert held and 1 < large.batch_tokens <= 60
    monkeypatch.setattr(loglikelihood, "score_batch", functools.partial(small_memory, most=0))
    held.clear()
    with pytest.raises(torch.OutOfMemoryError):  # one row alone is too much
        answer(replace(lm, batch_tokens=1), "piqa", ITEMS)


def test_full_float32_is_set_while_scoring_and_restored_also_after_an_exception(lm, monkeypatch):
    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    seen, before, plain = [], settings(), loglikelihood.score_batch

    def noted(lm, rows):
        seen.append(settings())
        return plain(lm, rows)

    def fail(*_):
        raise ValueError("an error of the code itself")

    monkeypatch.setattr(loglikelihood, "score_batch", noted)
    torch.set_float32_matmul_precision("high")  # as train.py sets it on a GPU
    torch.backends.cudnn.allow_tf32 = True
    try:
        prepare(lm.model, lm.tokenizer)
        answer(lm, "piqa", ITEMS)
        assert set(seen) == {("highest", False, False)} and settings() == ("high", True, True)
        monkeypatch.setattr(loglikelihood, "score_batch", fail)
        for scoring in (lambda: answer(lm, "piqa", ITEMS), lambda: prepare(lm.model, lm.tokenizer)):
            with pytest.raises(ValueError, match="of the code itself"):
                scoring()
            assert settings() == ("high", True, True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[2]
    assert settings() == before


def test_what_an_items_sequences_begin_with_goes_through_the_model_once(lm):
    def rows_of(*item):
        return loglikelihood.rows_of([Sequence(*sequence) for sequence in item], True)

    assert rows_of(((5, 6, 7, 8), 1), ((5, 6, 9), 1)) == [(2, [((5, 6, 7, 8), 1), ((5, 6, 9), 1)])]
    assert [row.inputs() for row in rows_of(((5, 6, 7, 8), 1), ((5, 6, 9), 1))] == [3]
    assert rows_of(((5, 6, 7), 2), ((5, 6, 7), 1)) == [(2, [((5, 6, 7), 2), ((5, 6, 7), 1)])]
    assert [common for common, _ in rows_of(((5, 6), 1), ((6, 6), 1))] == [1, 1]  # nothing in common
    shared = [loglikelihood.rows_of(encode_requests(lm, item.requests), True) for item in ITEMS[:2]]
    assert [len(rows) for rows in shared] == [1, 1] and all(common > 5 for ((common, _),) in shared)


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 64}

LONG = {"attention_types": [[["global", "local"], 1]], "window_size": 40, "intermediate_size": 24, "max_position_embeddings": 192}

CHUNKS = {"attention_chunk_size": 40, "intermediate_size_mlp": 24, "num_local_experts": 2}

UNUSUAL = {  # attention that counts columns in a way that 32 of them do not show, ALiBi, softcaps; two plain ones to compare
    "GPTNeo": {"num_layers": 2, "num_heads": 2, **LONG},
    "Llama4": LLAMAS | CHUNKS,
    "Mistral": LLAMAS | {"sliding_window": 40},
    "Llama": LLAMAS | {"rope_parameters": DYNAMIC},
    "Bloom": {"seq_length": 192},
    "Gemma2": LLAMAS | {"final_logit_softcapping": 30.0},  # small logits hardly show it
    "Qwen2": LLAMAS,
    "GPT2": {"n_positions": 192},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_an_unusual_model_is_scored_as_one_sequence_alone(lm, kind):
    other = replace(prepare(random_model(kind, UNUSUAL[kind]), lm.tokenizer), context=192)
    assert other.shortcuts == (kind in ("Qwen2", "GPT2"))
    assert (other.batch_tokens == 1) == (kind == "Llama"), "frequencies that depend on the longest row of a batch"
    long = [(TEXT[:60], TEXT[60 : 60 + n]) for n in (30, 32, 34)]  # beginnings and branches on both sides of 40 columns
    items = [Item(long), *ITEMS[:2], Item([("x", " y")]), Item([(TEXT[:20], TEXT[20:60]), (TEXT[:20], TEXT[20:90])])]
    check_scores(other, items, oracle(other.model, other, items))


def test_a_model_that_makes_much_of_a_last_bit_is_asked_one_sequence_at_a_time(lm):
    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    cfg = transformers.LlamaConfig(vocab_size=320, max_position_embeddings=192, intermediate_size=128, **sizes)
    model = transformers.LlamaForCausalLM(cfg).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            for weights in (layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight):
                weights.mul_(30)  # attention to hardly more than one place, and which is a matter of rounding
        model.lm_head.weight.mul_(30)
    other = prepare(model, lm.tokenizer)
    assert (other.shortcuts, other.batch_tokens) == (False, 1)
    check_scores(other, ITEMS, oracle(model, other, ITEMS))


def test_a_model_that_refuses_masks_is_scored_all_the_same(lm):
    model = random_model("Qwen2", LLAMAS)
    plain = model.model.forward

    def narrow(*, attention_mask=None, **inputs):
        if attention_mask is not None:
            raise TypeError("forward() got an unexpected keyword argument 'attention_mask'")
        return plain(**inputs)

    model.model.forward = narrow
    other = prepare(model, lm.tokenizer)
    assert not other.shortcuts
    check_scores(other, ITEMS, oracle(model, other, ITEMS))


def test_what_is_no_language_model_is_refused(lm):
    torch.manual_seed(0)
    bert = transformers.BertLMHeadModel(transformers.BertConfig(**SIZES, intermediate_size=24)).eval()
    with torch.no_grad():
        for p in bert.parameters():
            p.mul_(4)
    with pytest.raises(UserError, match="BertLMHeadModel is no causal model"):
        prepare(bert, lm.tokenizer)
    model = random_model("Qwen2", LLAMAS)
    model.model.norm.weight.data[3] = math.nan
    with pytest.raises(UserError, match=r"not finite \(NaN or infinite\)"):
        prepare(model, lm.tokenizer)


def test_a_model_that_reads_less_than_the_trial_is_scored(lm):
    model = random_model("Qwen2", LLAMAS | {"max_position_embeddings": 6})
    short, tokens = prepare(model, lm.tokenizer), (5, 6, 7, 8, 9)
    assert short.context == 6
    (((logps_N, _),),) = loglikelihood.score(short, [[Sequence(tokens, 2)]])
    with torch.no_grad():
        want_TV = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    assert logps_N.tolist() == pytest.approx([want_TV[2, 8].item(), want_TV[3, 9].item()], abs=1e-5)


def test_the_progress_of_a_task_is_seen(lm, capsys):
    answer(lm, "piqa", ITEMS)
    lines = capsys.readouterr().err.splitlines()
    inputs = sum(row.inputs() for item in ITEMS for row in loglikelihood.rows_of(encode_requests(lm, item.requests), True))
    assert lines[-1].split()[:2] == ["piqa", f"{inputs}/{inputs}"]


def test_a_page_scores_the_sum_of_its_windows(lm, run):
    phoenix, _ = from_checkpoint(run)
    tokens = lm.tokenizer.encode(TEXT)
    assert len(tokens) > 2 * lm.context
    with torch.no_grad():
        want = 0.0
        for context, target in rolling_windows(tokens, 0, lm.context):
            logps = torch.log_softmax(phoenix(torch.tensor([(context + target)[:-1]]))[0], dim=-1)[-len(target) :]
            want += logps.gather(-1, torch.tensor(target)[:, None]).sum().item()
    assert answer(lm, "wikitext", [Item([(TEXT,)]), Item([("x",)])])[0][0][0] == pytest.approx(want, rel=1e-6)


def test_a_continuation_longer_than_the_context_is_refused(lm):
    with pytest.raises(Unavailable, match="does not fit the model's context of 48"):
        answer(lm, "piqa", [Item([("a", " 1" * 60)])])


def test_a_tokenizer_that_merges_across_the_boundary_follows_the_rule_of_the_harness(lm):
    cut = {"a": [1], "a b": [3], "a bc": [3, 4], "x": [7], "": [], "  ": [5], "a  ": [1, 5]}

    class Merging:
        bos_token_id, eos_token_id = None, 0

        def __call__(self, texts, verbose):
            return {"input_ids": [cut[text] for text in texts]}

    other = replace(lm, tokenizer=Merging())
    assert encode_requests(other, [("a", " bc")]) == [((1, 4), 1)]  # the context as it is cut alone
    assert encode_requests(other, [("", "x"), ("  ", ""), ("a", "  ")]) == [((0, 7), 1), ((0, 5), 1), ((1, 5), 1)]
    for request in (("a", " b"), ("a", ""), ("", "")):
        with pytest.raises(Unavailable, match="the tokenizer leaves no token to the continuation"):
            encode_requests(other, [request])
    other.tokenizer.eos_token_id = None
    for name, item in (("piqa", Item([("", "x")])), ("wikitext", Item([("x",)]))):
        with pytest.raises(Unavailable, match="neither a BOS nor an EOS token"):
            answer(other, name, [item])


def test_a_model_that_fails_in_the_middle_is_one_sentence(lm, monkeypatch):
    def fail(*_):
        raise RuntimeError("The size of tensor a (134) must match\nmore")

    monkeypatch.setattr(loglikelihood, "score_batch", fail)
    with pytest.raises(UserError, match=r"the model fails on .* tokens: The size of tensor a \(134\) must match$"):
        answer(lm, "piqa", ITEMS)


def test_a_device_that_does_not_compute_is_refused(lm):
    with pytest.raises(UserError, match="device 'meta' cannot be used"):
        prepare(lm.model, lm.tokenizer, "meta")
