"""The start-up check of the compiled model: it is used where it agrees with the plain one, and only there."""

import pytest
import torch

from model import ModelConfig, Phoenix
from phoenix import device, ops
from tests.training import PLAIN, run

SIZES = ModelConfig(vocab_size=61, n_layer=2, n_head=2, d_model=16, d_ff=32, context=8)


@pytest.fixture
def micro_batch():
    torch.manual_seed(0)
    yield Phoenix(SIZES), torch.randint(61, (2, 8)), torch.randint(61, (2, 8))
    ops.kernel.pop("compiled", None)


@pytest.fixture
def compiler(monkeypatch):
    """Replaces torch.compile: the decoder stays plain, and the loss becomes the function that the test gives."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: None)
    return lambda found: monkeypatch.setattr(torch, "compile", lambda function, **_: found)


def test_a_compiled_model_that_agrees_is_used(micro_batch, compiler):
    compiler(ops.loss_and_gradient)
    assert device.compile_checked(*micro_batch, PLAIN) is None
    assert "compiled" in ops.kernel
    assert all(p.grad is None for p in micro_batch[0].parameters())


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_compiled_model_that_differs_is_not_used(micro_batch, compiler, factor):
    def wrong(logits_NV, targets_N, z_loss):
        loss, z, grad = ops.loss_and_gradient(logits_NV, targets_N, z_loss)
        return loss, z, grad * factor

    compiler(wrong)
    assert "compiled and plain differ" in device.compile_checked(*micro_batch, PLAIN)
    assert "compiled" not in ops.kernel and all(p.grad is None for p in micro_batch[0].parameters())


def test_a_compiler_that_fails_leaves_the_model_plain(micro_batch, compiler):
    def fails(*_):
        raise RuntimeError("no C compiler\nfound")

    compiler(fails)
    assert device.compile_checked(*micro_batch, PLAIN) == "compiling failed: RuntimeError: no C compiler found"
    model, tokens_BT, targets_BT = micro_batch
    assert model.loss(tokens_BT, targets_BT).isfinite()


def test_a_plain_model_that_fails_at_the_check_is_a_reason_too(micro_batch, compiler, monkeypatch):
    def full(*_):
        raise RuntimeError("a library fails:" + " word" * 99 + " for this reason")

    model = micro_batch[0]
    monkeypatch.setattr(device, "gradients", full)
    reason = device.compile_checked(*micro_batch, PLAIN)
    assert reason.startswith("trying the plain model failed: RuntimeError: ... ") and reason.endswith(" word for this reason")
    assert model.model.checkpointing is False and "compiled" not in ops.kernel


def test_a_check_that_runs_out_of_memory_does_not_go_on_with_the_larger_plain_model(micro_batch, compiler):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiler(full)
    with pytest.raises(torch.OutOfMemoryError):
        device.compile_checked(*micro_batch, PLAIN)


@pytest.fixture
def in_this_process():
    """The compiler without its pool of worker processes, whose start takes longer than the work for so small a model."""
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield


@pytest.mark.slow
def test_the_real_compiler_gives_the_plain_models_loss_and_gradients(micro_batch, in_this_process):
    _, tokens_BT, targets_BT = micro_batch
    model = Phoenix(ModelConfig(**(vars(SIZES) | {"n_layer": 1})))
    targets_BT[0, 3] = ops.IGNORED
    plain_loss, plain = device.gradients(model, tokens_BT, targets_BT, PLAIN, 1e-3)
    try:
        assert device.compile_checked(model, tokens_BT, targets_BT, PLAIN, 1e-3) is None
        loss, grads = device.gradients(model, tokens_BT, targets_BT, PLAIN, 1e-3)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # the decoder's and the loss's
    finally:
        device.uncompile(model)
    assert loss == pytest.approx(plain_loss, rel=1e-6) and device.relative_difference(plain, grads) < 1e-5


@pytest.mark.slow
def test_without_a_compiler_a_run_says_so_and_trains(tiny_data, tmp_path, capsys, monkeypatch, in_this_process):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "no-such-compiler"))
    torch._dynamo.reset()
    with config.patch(fx_graph_cache=False):
        assert run(tiny_data, tmp_path / "out", compile=True, steps=2, warmup=1, d_ff=40) == 0
    output = capsys.readouterr().out
    assert "the model runs uncompiled" in output and "compiling failed" in output and "float32, not compiled" in output
