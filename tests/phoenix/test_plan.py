"""The plan: its memory equals what the model keeps, its cards have the makers' figures, its advice fits the card."""

from types import SimpleNamespace

import pytest
import torch

import train
from model import ModelConfig, Phoenix
from phoenix import plan
from phoenix.config import UserError
from tests.training import ROOT


def config(**settings):
    return train.Train(data="no/corpus", out="", **settings)


MAKERS = {"RTX 3070": 40.6, "RTX 3080": 59.5, "RTX 3080 Ti": 68.2, "RTX 3090": 71.0, "RTX 4080": 97.5, "RTX 4090": 165.2}
MAKERS |= {"RTX 2060": 6.45, "RTX 2070 SUPER": 9.1, "RTX 2080 Ti": 13.4, "RTX A6000": 154.8}
MAKERS |= {"RTX 5070": 61.7, "RTX 5080": 112.6, "RTX 5090": 209.5}
DRIVERS = {
    "NVIDIA GeForce RTX 3080 Ti": "RTX 3080 Ti",
    "NVIDIA GeForce RTX 3080": "RTX 3080",
    "rtx 4070 ti super": "RTX 4070 Ti SUPER",
    "NVIDIA A100-SXM4-80GB": "A100-SXM4-80GB",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA A100 80GB PCIe": "A100 80GB",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H200": "H200",
    "NVIDIA GeForce RTX 3080 Ti Laptop GPU": "RTX 3080 Ti Laptop",
    "NVIDIA GeForce RTX 5090 Laptop GPU": None,
    "NVIDIA RTX A5000": "RTX A5000",
    "NVIDIA L40S": "L40S",
    "NVIDIA A10": "A10",
    "Tesla V100-SXM2-32GB": "V100 SXM2",
    "NVIDIA GeForce RTX 4090 D": None,
    "NVIDIA GeForce RTX 3070 with Max-Q Design": None,
    "Tesla T4": "T4",
    "Tesla P100-PCIE-16GB": None,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_table_gives_the_makers_figures(name):
    assert plan.card_named(name).tflops == pytest.approx(MAKERS[name], rel=0.005)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_card_is_known_by_its_drivers_name(driver):
    found = plan.card_named(driver)
    assert (found.name if found else None) == DRIVERS[driver]


def kept_bytes(n_layer, dtype, T=64, B=2):
    """Bytes that a forward pass keeps for the backward pass, the parameters and their copies aside; each storage once."""
    cfg = ModelConfig(vocab_size=64, n_layer=n_layer, n_head=4, d_model=64, d_ff=160, context=T)
    model, kept = Phoenix(cfg), {}
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}

    weights = {shape for p in model.parameters() for shape in (p.shape, p.shape[::-1])}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in own and t.shape not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
    ):
        hidden = model.model(torch.zeros(B, T, dtype=torch.long))
    assert hidden.requires_grad
    return sum(kept.values()) / (B * T)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_memory_of_activations_is_what_the_model_keeps(dtype):
    counted, cfg = kept_bytes(3, dtype) - kept_bytes(2, dtype), config(n_layer=1, n_head=4, d_model=64, d_ff=160, dtype=dtype)
    planned = plan.activation_bytes(cfg, compiled=False, checkpointing=False)
    assert counted == pytest.approx(planned, rel=0.02)  # the norms' 1/rms are not planned


# GB that torch 2.13's allocator for CUDA reserved, of configs/125m.py: (micro_batch, compiled, grad_checkpointing)
RESERVED = {
    (16, True, False): 7.20,
    (20, True, False): 8.04,
    (16, True, True): 3.96,
    (32, True, True): 4.99,
    (16, False, False): 9.58,
}


@pytest.mark.parametrize("case", RESERVED)
def test_the_plan_is_what_the_allocator_reserves(case):
    cfg = train.load(train.Train, [str(ROOT / "configs" / "125m.py")])
    with torch.device("meta"):
        model = train.build_model(cfg, 32768)
    matrices = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    planned = plan.peak_gb(cfg, 32768, model.parameter_count(), matrices, *case) - plan.CONTEXT_GB
    assert planned == pytest.approx(RESERVED[case], rel=0.03)


def test_the_reference_run_fits_its_card(capsys):
    assert train.main([str(ROOT / "configs" / "125m.py"), "--plan"]) == 0
    output = capsys.readouterr().out
    assert "RTX 3080 Ti" in output and "the config's settings fit" in output and "1.49 GB" in output
    assert train.main([str(ROOT / "configs" / "125m.py"), "--plan", "--card=RTX 3070", "--compile=False"]) == 0
    output = capsys.readouterr().out
    assert "does not fit: give --micro_batch=8; peak 6.8 GB" in output
    assert train.main([str(ROOT / "configs" / "125m.py"), "--plan", "--n_layer=96", "--d_model=3072"]) == 1
    assert "nothing fits" in capsys.readouterr().out
    with pytest.raises(UserError, match="card='GTX 970' is not known: there are RTX 3060"):
        train.main([str(ROOT / "configs" / "125m.py"), "--plan", "--card=GTX 970"])


def test_float32_takes_its_own_memory_and_rate(capsys):
    outputs = []
    for dtype in ("bfloat16", "float32"):
        train.main([str(ROOT / "configs" / "125m.py"), "--plan", "--card=RTX 3090", f"--dtype={dtype}"])
        outputs.append(capsys.readouterr().out)
    assert "71.2 TFLOPS bfloat16" in outputs[0] and "35.6 TFLOPS TF32" in outputs[1]
    assert all("calculated, and not yet measured on a GPU" in text for text in outputs)
    cfgs = [config(n_layer=12, d_model=768, d_ff=2560, dtype=dtype) for dtype in (None, "bfloat16", "float32")]
    half, same, whole = (plan.activation_bytes(cfg, compiled=True, checkpointing=False) for cfg in cfgs)
    assert half == same and whole == pytest.approx(2 * half, rel=0.01)
    assert plan.peak_gb(cfgs[2], 32768, 124e6, 85e6, 16) > 1.4 * plan.peak_gb(cfgs[0], 32768, 124e6, 85e6, 16)


def test_a_card_without_bfloat16_is_planned_in_float32(capsys):
    outputs = []
    for dtype in ("None", "float32"):
        train.main([str(ROOT / "configs" / "125m.py"), "--plan", "--card=T4", f"--dtype={dtype}"])
        outputs.append(capsys.readouterr().out)
    assert "T4 (as asked): 8.1 TFLOPS float32, 16 GiB" in outputs[0] and outputs[0] == outputs[1]


def test_the_driver_gives_the_memory_of_this_machines_card(capsys, monkeypatch):
    found = SimpleNamespace(name="NVIDIA GeForce RTX 3060", total_memory=8 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    train.main([str(ROOT / "configs" / "125m.py"), "--plan"])
    assert "RTX 3060 (in this machine): 25.5 TFLOPS bfloat16, 8 GiB" in capsys.readouterr().out


def test_muon_keeps_one_moment_of_the_layers_matrices():
    assert plan.checkpoint_gb(100, 60, "adamw") == 1200 / 1e9 and plan.checkpoint_gb(100, 60, "muon") == 960 / 1e9
    assert plan.static_gb(100, 60, "adamw", False) - plan.static_gb(100, 60, "muon", False) == pytest.approx(240 / 1e9)
