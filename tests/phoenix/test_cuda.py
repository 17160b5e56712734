"""Faults of a GPU run that show without a GPU: torch.cuda is asked by the trainer and answered by the test."""

import platform
import shutil
import sysconfig
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from model import ModelConfig, Phoenix
from phoenix import device
from phoenix.batches import Windows
from phoenix.config import UserError
from phoenix.optimizers import make_optimizer
from phoenix.shards import Split
from tests.training import run


@pytest.fixture(autouse=True)
def torch_settings():
    """Puts back what prepare_device sets in torch."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def card(monkeypatch):
    """torch.cuda as on a machine with an RTX 3080 Ti. -> what was set, and what the test may change"""
    found = SimpleNamespace(name="NVIDIA GeForce RTX 3080 Ti", total_memory=12 * 2**30, major=8, minor=6)
    state = {"free": 11 * 2**30, "bfloat16": True}
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: found.name,
        "get_device_properties": lambda *_: found,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or state["bfloat16"],
        "mem_get_info": lambda *_: (state["free"], found.total_memory),
        "set_per_process_memory_fraction": lambda fraction, where: state.update(fraction=fraction, index=where.index),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return state


def settings(**more):
    return train.Train(data="", out="", **more)


def test_the_limit_of_memory_is_set_on_a_device_with_an_index(card):
    assert device.prepare_device(settings(gpu_memory_gb=6.0)).torch_device == torch.device("cuda:0")
    assert (card["fraction"], card["index"]) == (0.5, 0)


def test_a_gpu_beyond_the_last_is_one_sentence(card):
    with pytest.raises(UserError, match="device=cuda:1, but this machine's GPUs are cuda:0 to cuda:0"):
        device.prepare_device(settings(device="cuda:1"))


def test_deterministic_refuses_what_does_not_repeat(card):
    device.prepare_device(settings())
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


def test_bfloat16_is_asked_of_the_card(card, capsys):
    assert device.prepare_device(settings()).dtype == "bfloat16" and not capsys.readouterr().out
    card["bfloat16"] = False
    assert device.prepare_device(settings()).dtype == "float32"
    assert "RTX 3080 Ti has no bfloat16: it trains in float32" in capsys.readouterr().out
    assert device.prepare_device(settings(dtype="bfloat16")).dtype == "bfloat16"


def test_wsl2_leaves_the_memory_that_its_driver_would_spill_from(card, monkeypatch):
    device.prepare_device(settings())
    assert "fraction" not in card
    monkeypatch.setattr(platform, "release", lambda: "6.6.87.2-microsoft-standard-WSL2")
    device.prepare_device(settings())
    assert card["fraction"] == 10.5 / 12
    device.prepare_device(settings(gpu_memory_gb=3.0))
    assert card["fraction"] == 0.25


@pytest.mark.parametrize(("archs", "runs"), [("sm_75 sm_80 sm_120", True), ("sm_50 compute_50", True), ("sm_75 sm_90a", False)])
def test_a_card_that_the_build_of_torch_has_no_code_for_is_one_sentence(card, monkeypatch, archs, runs):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_arch_list", archs.split)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    if runs:
        device.prepare_device(settings())
    else:
        with pytest.raises(UserError, match=r"no code for .*3080 Ti.* 8\.6: install it from .*cu126"):
            device.prepare_device(settings())


@pytest.fixture
def unusable(monkeypatch):
    """A CUDA build of torch, a card in the machine, and a driver too old for it."""

    def too_old():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12080). Please update it.")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", too_old)
    monkeypatch.setattr("pathlib.Path.exists", lambda self: str(self) == "/dev/nvidiactl")


def test_a_gpu_that_torch_cannot_use_is_not_passed_over(unusable, monkeypatch, capsys):
    words = r"too old \(found version 12080\).* needs driver 580 or newer.*cu126 or cu128.*--device=cpu"
    for name in (None, "cuda"):
        with pytest.raises(UserError, match=words):
            device.prepare_device(settings(device=name))
    assert device.prepare_device(settings(device="cpu")).torch_device.type == "cpu"
    assert train.main(["--data=no", "--out=no", "--plan"]) == 0 and "needs driver 580" in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray gives it to tasks without a GPU
    assert device.prepare_device(settings()).torch_device.type == "cpu"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 192.00 MiB. GPU 0 has"), None])
def test_out_of_memory_is_one_sentence(tiny_data, tmp_path, monkeypatch, error):
    def full(*_):
        raise error or RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(Phoenix, "objective", full)
    with pytest.raises(UserError, match=r"out of memory: halve micro_batch=2, give --grad_checkpointing=True.*--plan") as caught:
        run(tiny_data, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "copies"), [("adamw", 2), ("muon", 1)])
def test_the_compile_check_holds_the_memory_of_the_moments(name, copies):
    model = Phoenix(ModelConfig(vocab_size=61, n_layer=2, n_head=2, d_model=16, d_ff=32, context=8))
    optimizer = make_optimizer(model, settings(optimizer=name))
    model.loss(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long)).backward()
    optimizer.step()
    parts = getattr(optimizer, "parts", [optimizer])
    moments = [t for part in parts for state in part.state.values() for t in state.values() if torch.is_tensor(t) and t.dim()]
    assert sum(t.numel() for t in device.moments_like(optimizer)) == sum(t.numel() for t in moments)


def test_what_triton_needs_beside_itself_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no C compiler" in device.missing_for_triton()
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h: install python3." in device.missing_for_triton()
    (tmp_path / "Python.h").touch()
    assert device.missing_for_triton() is None


def test_memory_that_cannot_be_pinned_is_used_unpinned(monkeypatch):
    def refused(_):
        raise RuntimeError("CUDA error: out of memory")

    tokens = np.arange(9, dtype=np.uint16)
    monkeypatch.setattr(torch.Tensor, "pin_memory", refused)
    inputs_BT, targets_BT = Windows(Split([tokens], 9, {"vocab_size": 9}), 4).batch([0, 1], pin=True)
    assert inputs_BT.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and targets_BT[1].tolist() == [5, 6, 7, 8]
