"""Laws of the model: equal to transformers with the same weights, to F.cross_entropy, to itself with and without a cache."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from model import ModelConfig, Phoenix, from_checkpoint, load_checkpoint, rotary
from phoenix import checkpoint
from phoenix.config import UserError
from phoenix.ops import CHUNK_LOGITS, IGNORED, Normalize, Rotate
from phoenix.transformers_model import as_transformers

torch.set_num_threads(1)  # tiny matrices: a second thread costs more than it brings, ten times more on a busy machine
TINY = ModelConfig(vocab_size=97, n_layer=3, n_head=4, d_model=32, d_ff=48, context=24)


def tiny(qk_norm=False, seed=0):
    """A model with norm weights other than one and large matrices, so that every part changes the result."""
    torch.manual_seed(seed)
    model = Phoenix(ModelConfig(**{**vars(TINY), "qk_norm": qk_norm}))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.rand_like(p) + 0.5 if p.dim() == 1 else torch.randn_like(p) * 0.1)
    return model


def tokens(B, T, seed=0):
    return torch.randint(TINY.vocab_size, (B, T), generator=torch.Generator().manual_seed(seed))


def test_the_reference_model_has_124_3_million_parameters():
    with torch.device("meta"):
        model = Phoenix(ModelConfig())
    assert model.parameter_count() == 124_275_456
    assert model.flops_per_token() == 6 * 124_275_456 + 12 * 12 * 768 * 1024


@pytest.mark.parametrize("qk_norm", [False, True], ids=["llama", "qwen3"])
def test_names_and_logits_are_those_of_transformers(qk_norm):
    model = tiny(qk_norm)
    pytest.importorskip("transformers")
    twin = as_transformers(model)
    assert set(model.state_dict()) == set(twin.state_dict()) - {"lm_head.weight"}
    x_BT = tokens(3, TINY.context)
    with torch.no_grad():
        ours, theirs = model(x_BT), twin(x_BT).logits
    assert theirs.std() > 0.1  # else equality would say nothing
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)  # fp32 sums in another order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_functions_with_gradients_of_their_own_are_their_formulas(dtype):
    draw = torch.Generator().manual_seed(0)
    x_BTHK = torch.randn(2, 5, 3, 8, generator=draw).to(dtype).requires_grad_()
    weight_K = (1 + torch.randn(8, generator=draw)).requires_grad_()
    cos_TK2, sin_TK2 = (part[2:7] for part in rotary(replace(TINY, d_model=24, n_head=3)))
    grad_BTHK = torch.randn(2, 5, 3, 8, generator=draw).to(dtype)
    found = []
    for normalize, turn in ((Normalize.apply, Rotate.apply), (formula_of_rms_norm, formula_of_rotate)):
        y_BTHK = turn(normalize(x_BTHK, weight_K, 1e-5), cos_TK2, sin_TK2)
        assert y_BTHK.dtype == dtype
        found.append([y_BTHK, *torch.autograd.grad(y_BTHK, (x_BTHK, weight_K), grad_BTHK)])
    for ours, formula in zip(*found, strict=True):
        torch.testing.assert_close(ours, formula)


def formula_of_rms_norm(x, weight, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), weight, eps).type_as(x)


def formula_of_rotate(x_BTHK, cos_TK2, sin_TK2):
    turned = torch.view_as_complex(torch.stack(x_BTHK.float().chunk(2, -1), -1)) * torch.complex(cos_TK2, sin_TK2)[:, None]
    return torch.cat([turned.real, turned.imag], -1).type_as(x_BTHK)


def test_logits_are_the_hidden_states_times_the_embedding():
    model = tiny()
    x_BT = tokens(2, 5)
    torch.testing.assert_close(model(x_BT), model.hidden(x_BT) @ model.model.embed_tokens.weight.T)


def test_a_token_does_not_see_those_after_it():
    model, x_BT = tiny(), tokens(1, 12)
    changed_BT = x_BT.clone()
    changed_BT[:, 7:] = (changed_BT[:, 7:] + 1) % TINY.vocab_size
    torch.testing.assert_close(model(x_BT)[:, :7], model(changed_BT)[:, :7])
    assert (model(x_BT)[:, 7:] != model(changed_BT)[:, 7:]).any(-1).all()


def test_residual_projections_start_smaller():
    torch.manual_seed(0)
    model = Phoenix(ModelConfig(vocab_size=256, n_layer=8, n_head=2, d_model=128, d_ff=256, context=8))
    layer = model.model.layers[5]
    for p, std in ((layer.mlp.up_proj, 0.02), (layer.mlp.down_proj, 0.02 / 4), (layer.self_attn.o_proj, 0.02 / 4)):
        assert abs(p.weight.std().item() / std - 1) < 0.03  # 16,384 draws: the standard error is 0.6 %


@pytest.mark.parametrize("rows", [1, 7, 40, 1000])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_chunked_loss_equals_cross_entropy_in_value_and_gradient(rows, reduction, monkeypatch):
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", rows * TINY.vocab_size)
    model, x_BT, y_BT = tiny(), tokens(4, 10), tokens(4, 10, seed=1)
    y_BT[1, 3], y_BT[3, :] = IGNORED, IGNORED
    loss = model.loss(x_BT, y_BT, reduction)
    (3 * loss).backward()  # a factor, so that the incoming gradient counts
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = F.cross_entropy(model(x_BT).flatten(0, 1), y_BT.flatten(), ignore_index=IGNORED, reduction=reduction)
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("rows", [7, 1000])
def test_z_loss_is_that_of_the_formula_in_value_and_gradient(rows, monkeypatch):
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", rows * TINY.vocab_size)
    model, x_BT, y_BT = tiny(), tokens(4, 10), tokens(4, 10, seed=1)
    y_BT[1, 3] = IGNORED
    minimised, nats = model.objective(x_BT, y_BT, z_loss=0.1)
    minimised.backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    logits_NV = model(x_BT).flatten(0, 1)
    plain = F.cross_entropy(logits_NV, y_BT.flatten(), ignore_index=IGNORED, reduction="sum")
    expected = plain + 0.1 * logits_NV.logsumexp(-1)[y_BT.flatten() != IGNORED].square().sum()
    expected.backward()
    torch.testing.assert_close(minimised, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nats, plain, rtol=1e-5, atol=1e-5)  # what the log shows
    assert not nats.requires_grad and expected > 1.05 * plain
    for found, p in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(found, p.grad, rtol=1e-4, atol=1e-4)


def test_the_loss_of_each_target_equals_cross_entropy(monkeypatch):
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", 7 * TINY.vocab_size)
    model, x_BT, y_BT = tiny(), tokens(4, 10), tokens(4, 10, seed=1)
    y_BT[2, 5] = IGNORED
    with torch.no_grad():
        expected = F.cross_entropy(model(x_BT).flatten(0, 1), y_BT.flatten(), ignore_index=IGNORED, reduction="none")
        torch.testing.assert_close(model.loss(x_BT, y_BT, "none"), expected.view(4, 10), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.loss(x_BT, y_BT), expected.sum() / 39, rtol=1e-5, atol=1e-6)


def test_the_chunked_loss_under_bfloat16_stays_near_the_exact_one():
    model, x_BT, y_BT = tiny(), tokens(4, 10), tokens(4, 10, seed=1)
    exact = model.loss(x_BT, y_BT)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x_BT, y_BT)
    loss.backward()
    assert loss.dtype == model.model.embed_tokens.weight.grad.dtype == torch.float32
    assert abs(loss.item() - exact.item()) < 0.02 * exact.item()  # bfloat16 keeps 8 bits


def test_recomputed_activations_give_the_same_gradients():
    model, x_BT, y_BT = tiny(), tokens(2, 9), tokens(2, 9, seed=1)
    grads = []
    for checkpointing in (False, True):
        model.model.checkpointing = checkpointing
        model.zero_grad()
        model.loss(x_BT, y_BT).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_greedy_with_a_cache_is_greedy_without(qk_norm):
    model, x_BT = tiny(qk_norm), tokens(3, 4)
    with torch.no_grad():
        for _ in range(TINY.context - 4):
            x_BT = torch.cat([x_BT, model(x_BT)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert len(set(x_BT[0].tolist())) > 5  # not one token for ever
    assert torch.equal(model.generate(tokens(3, 4), TINY.context - 4, temperature=0), x_BT)


def test_text_longer_than_the_context_goes_on_from_its_newer_half():
    model = tiny()
    long_BT = model.generate(tokens(2, 30), 40, temperature=0)
    assert long_BT.shape == (2, 70) and torch.equal(long_BT[:, :30], tokens(2, 30))
    # a prompt of 30 fills the context of 24 at once; then 12 are read again, and 12 fit after them
    again_BT = model.generate(long_BT[:, 19:31], 13, temperature=0)
    assert torch.equal(again_BT[:, 12:], long_BT[:, 31:44])


def test_sampling_repeats_with_its_generator_and_top_1_is_greedy():
    model, x_BT = tiny(), tokens(2, 4)
    draws = [model.generate(x_BT, 15, temperature=1.5, top_k=20, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(model.generate(x_BT, 15, temperature=1.5, top_k=1), model.generate(x_BT, 15, temperature=0))


@pytest.mark.parametrize("sizes", [dict(n_head=5), dict(n_head=16, d_model=48), dict(n_layer=0), dict(vocab_size=0)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UserError):
        ModelConfig(**{**vars(TINY), **sizes})


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def saved(folder, **more):
    state = {
        "format": checkpoint.FORMAT,
        "version": checkpoint.FORMAT_VERSION,
        "step": 3,
        "tokens": 9,
        "model": tiny().state_dict(),
        "settings": {"data": "data"},
        "tokenizer_sha256": "0" * 64,
    }
    checkpoint.save_checkpoint(folder, state | {"model_config": vars(TINY)} | more)
    return folder / "ckpt.pt"


def test_a_checkpoint_gives_the_model_back(tmp_path):
    model, found = from_checkpoint(saved(tmp_path))
    assert found["step"] == 3 and not model.training
    with torch.no_grad():
        assert torch.equal(model(tokens(2, 9)), tiny()(tokens(2, 9)))


def test_the_last_are_kept_and_the_first_of_every_so_many(tmp_path):
    for step in (0, 4, 8, 12, 16, 20, 24, 28):
        state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "step": step, "tokens": step}
        checkpoint.save_checkpoint(tmp_path, state, keep_last=2, keep_every=10)
    kept = [12, 20, 24, 28]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f"ckpt-{n:08d}.pt" for n in kept), "ckpt.pt", "manifest.json"]
    assert [row["step"] for row in checkpoint.read_manifest(tmp_path)["checkpoints"]] == kept
    assert load_checkpoint(tmp_path / "ckpt.pt")["step"] == 28
    assert checkpoint.steps_to_keep([], 2, 10) == set() and checkpoint.steps_to_keep([5, 9], 1, None) == {9}


def truncated(data):
    return data[: len(data) // 2]


def flipped(data):
    """Flips one bit of a weight, which torch.load alone would accept."""
    at = data.index(tiny().model.layers[1].mlp.up_proj.weight.detach().numpy().tobytes())
    return data[: at + 5] + bytes([data[at + 5] ^ 1]) + data[at + 6 :]


@pytest.mark.parametrize("harm", [truncated, flipped, lambda data: b"", lambda data: b"no zip file"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, harm):
    path = saved(tmp_path)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=f"^checkpoint {path} is "):
        load_checkpoint(path)


def test_a_missing_or_foreign_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "other.pt"
    with pytest.raises(UserError, match=f"{path} does not exist"):
        load_checkpoint(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=f"{path} is not a checkpoint of Phoenix"):
        load_checkpoint(path)
    torch.save({"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "code": tiny()}, path)
    with pytest.raises(UserError, match=f"{path} is not a whole torch file"):  # code in a file is never run
        load_checkpoint(path)


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = saved(tmp_path)

    def full_disk(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"step 4 could not be written to {tmp_path}/ckpt-00000004.pt.*the disk is full"):
        saved(tmp_path, step=4)
    assert load_checkpoint(path)["step"] == 3 and {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
