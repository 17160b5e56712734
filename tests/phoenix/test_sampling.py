"""Drawing against plain Python, the cache against none, and pieces of text against the whole."""

import itertools
import math
import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model import ModelConfig, Phoenix
from phoenix.sampling import Text, draw, probabilities, reader, stream

V, CONTEXT = 61, 24
torch.set_num_threads(1)  # as in test_model.py


def by_hand(logits, temperature, top_k, top_p):
    """The distribution in plain Python: sorts, cuts and divides."""
    kept = sorted(range(len(logits)), key=lambda i: -logits[i])[:top_k]
    weights = {i: math.exp((logits[i] - logits[kept[0]]) / temperature) for i in kept}
    total, taken, chosen = sum(weights.values()), 0.0, []
    for i in kept:
        if top_p is not None and taken >= top_p * total:
            break
        chosen.append(i)
        taken += weights[i]
    return [weights[i] / taken if i in chosen else 0.0 for i in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 7, 1000])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.5, 0.9, 1.0])
def test_top_k_and_top_p_are_those_of_plain_python(temperature, top_k, top_p):
    logits_BV = torch.randn(4, V, generator=torch.Generator().manual_seed(3)) * 3
    p_BV = probabilities(logits_BV, temperature, top_k, top_p)
    for p_V, logits_V in zip(p_BV / p_BV.sum(-1, keepdim=True), logits_BV, strict=True):
        assert p_V.tolist() == pytest.approx(by_hand(logits_V.tolist(), temperature, top_k, top_p), abs=1e-6)


def test_draws_follow_the_distribution_and_temperature_0_takes_the_likeliest():
    logits_BV = torch.tensor([[0.0, 2.0, 1.0, -1.0]]).repeat(20_000, 1)
    counts = torch.bincount(draw(logits_BV, 0.8, 3, 0.95, torch.Generator().manual_seed(0)).flatten(), minlength=4)
    expected = probabilities(logits_BV[:1], 0.8, 3, 0.95)[0]
    assert ((counts / len(logits_BV) - expected / expected.sum()).abs() < 0.01).all()  # 3 standard errors
    assert draw(logits_BV[:1], 0).item() == draw(logits_BV[:1], 1e-300).item() == 1


def phoenix(qk_norm):
    torch.manual_seed(2)
    model = Phoenix(ModelConfig(V, n_layer=3, n_head=2, d_model=32, d_ff=48, context=CONTEXT, qk_norm=qk_norm)).eval()
    return model, lambda tokens_BT: model(tokens_BT)


def transformers(kind):
    import transformers

    sizes = dict(vocab_size=V, num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=48)
    sizes |= dict(n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT) if kind == "GPT2" else dict(max_position_embeddings=CONTEXT)
    torch.manual_seed(2)
    model_class = transformers.GPT2LMHeadModel if kind == "GPT2" else transformers.LlamaForCausalLM
    model = model_class(getattr(transformers, kind + "Config")(**sizes)).eval()
    return model, lambda tokens_BT: model(tokens_BT, use_cache=False).logits


@pytest.mark.parametrize("kind", ["phoenix", "phoenix with qk_norm", "GPT2", "Llama", "phoenix in bfloat16"])
def test_a_cache_gives_the_logits_that_reading_the_whole_window_gives(kind):
    dtype, tolerance = (torch.bfloat16, 0.1) if "bfloat16" in kind else (torch.float32, 1e-4)  # bfloat16 has 8 bits
    model, forward = phoenix("qk" in kind) if kind.startswith("phoenix") else transformers(kind)
    for p in model.parameters():
        p.data = torch.nn.functional.normalize(p.data, dim=0).to(dtype) if p.dim() == 2 else p.data.to(dtype)
    read = model.read if isinstance(model, Phoenix) else reader(model)
    prompt_BT = torch.randint(V, (1, 5), generator=torch.Generator().manual_seed(0))
    tokens_BT, window = prompt_BT, 5
    for new_B1, logits_BV in itertools.islice(stream(read, CONTEXT, prompt_BT, temperature=0), 3 * CONTEXT):
        if dtype == torch.float32 or window % 12 == 0:  # a CPU compiles bfloat16 for each length, half a second each
            with torch.no_grad():
                whole_BV = forward(tokens_BT[:, -window:])[:, -1].float()
            assert (logits_BV - whole_BV).abs().max() <= tolerance
            assert dtype == torch.bfloat16 or new_B1.item() == whole_BV.argmax().item()
        tokens_BT = torch.cat([tokens_BT, new_B1], dim=1)
        window = window + 1 if window < CONTEXT else CONTEXT // 2  # a full window begins anew with its newer half
    assert len(set(tokens_BT[0].tolist())) > 3


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special, alphabet = ["<|endoftext|>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=264, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"], trainer)
    return tokenizer


def pieces(tokenizer, ids, prompt=()):
    text = Text(tokenizer.decode)
    text.extend(list(prompt))
    return [text.add(i) for i in ids] + [text.rest()]


def test_a_character_of_several_tokens_comes_whole(tokenizer):
    whole = "naïve 東京 🐈‍⬛ the cat\n"
    ids = tokenizer.encode(whole).ids
    assert len(ids) > len(whole)
    found = pieces(tokenizer, ids)
    assert "".join(found) == whole and not any("\ufffd" in piece for piece in found)
    assert {"東", "京", "ï", "the"} <= set(found)


def test_pieces_are_the_whole_text_for_any_tokens_behind_any_prompt(tokenizer):
    rng = random.Random(0)
    prompt = tokenizer.encode("東 the").ids
    for n in range(300):  # random bytes: many are no UTF-8
        ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(n % 40)]
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)
        assert tokenizer.decode(prompt) + "".join(pieces(tokenizer, ids, prompt)) == tokenizer.decode(prompt + ids)


def test_a_text_goes_on_within_a_character(tokenizer):
    a, b, c = tokenizer.encode("東").ids
    text = Text(tokenizer.decode)
    assert [text.add(a), text.add(b), text.add(c), text.rest()] == ["", "", "東", ""]


def test_the_space_before_a_word_stays_where_a_decoder_strips_the_first(tokenizer):
    def decode(ids):
        return tokenizer.decode(ids).lstrip(" ")

    text = Text(decode)
    text.extend(tokenizer.encode("the").ids)
    assert "".join(text.add(i) for i in tokenizer.encode(" cat sat").ids) == " cat sat"
