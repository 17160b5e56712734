"""
The plan of a training run: memory, speed, energy and disk, from its config and the card alone.

    python train.py configs/125m.py --plan [--card="RTX 3060"]

Memory is counted tensor by tensor; time follows from the card's peak and the share of it that such a model reaches.
benchmarks/README.md compares both with measurements.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from phoenix import shards
from phoenix.config import UserError
from phoenix.progress import duration

GEFORCE = 512  # FLOP a clock and SM since Ampere, dense bfloat16 with fp32 sums: half the rate of fp16 sums
TURING = 128  # FLOP a clock and SM in float32: 64 multiply-adds
CONTEXT_GB = 0.45  # CUDA's context and the libraries' workspaces
# what torch's allocator reserves beyond the tensors, compiled or not: its CUDA build ran configs/125m.py on a stand-in for the
# driver, which counts memory and computes nothing. tests/phoenix/test_plan.py has the figures.
RESERVED_GB = {True: 0.75, False: 0.29}
DESKTOP_GB = 0.6  # of a screen on the same card
UTILISATION = {"GeForce": 0.50, "data centre": 0.42}  # of the peak, compiled: see benchmarks/README.md


@dataclass(frozen=True)
class Card:
    name: str
    tflops: float  # 1e12 FLOP a second: dense bfloat16 with fp32 accumulation, or float32 where the card has no bfloat16
    gib: float  # memory
    watts: int  # board power
    kind: str = "GeForce"
    bfloat16: bool = True


def geforce(name, sms, ghz, gib, watts):
    return Card(name, sms * GEFORCE * ghz / 1e3, gib, watts)


def turing(name, sms, ghz, gib, watts):
    return Card(name, sms * TURING * ghz / 1e3, gib, watts, bfloat16=False)


# SMs, boost clock, memory and power: NVIDIA's product pages and the appendices of its architecture papers (GA102 v2.1, Ada v2.1,
# RTX Blackwell v1.1), whose own figures for bfloat16 with fp32 sums the product gives: 3070 40.6, 3080 59.5, 3090 71, 4080 97.5,
# 4090 165.2, 5070 61.7, 5080 112.6, 5090 209.5. Data centre: the data sheets of the A100, H100 and H200, without sparsity;
# of the A10, L4 and L40S likewise; T4 and V100 in float32. RTX A4000 to A6000: their data sheets' tensor performance, halved for
# sparsity (the GA102 paper has it at fp32 sums too: 154.8 of the A6000). RTX 20xx: the reference clocks of the Turing paper and
# of NVIDIA's product pages. Laptop chips: the upper ends of clock and power on NVIDIA's page that compares them; the maker of
# the laptop sets the power, so theirs are upper bounds.
CARDS = [
    geforce("RTX 3060", 28, 1.777, 12, 170),
    geforce("RTX 3060 Ti", 38, 1.665, 8, 200),
    geforce("RTX 3070", 46, 1.725, 8, 220),
    geforce("RTX 3070 Ti", 48, 1.770, 8, 290),
    geforce("RTX 3080", 68, 1.710, 10, 320),
    geforce("RTX 3080 Ti", 80, 1.665, 12, 350),
    geforce("RTX 3090", 82, 1.695, 24, 350),
    geforce("RTX 3090 Ti", 84, 1.860, 24, 450),
    geforce("RTX 4060", 24, 2.460, 8, 115),
    geforce("RTX 4060 Ti", 34, 2.535, 8, 160),
    geforce("RTX 4070", 46, 2.475, 12, 200),
    geforce("RTX 4070 SUPER", 56, 2.475, 12, 220),
    geforce("RTX 4070 Ti", 60, 2.610, 12, 285),
    geforce("RTX 4070 Ti SUPER", 66, 2.610, 16, 285),
    geforce("RTX 4080", 76, 2.505, 16, 320),
    geforce("RTX 4080 SUPER", 80, 2.550, 16, 320),
    geforce("RTX 4090", 128, 2.520, 24, 450),
    geforce("RTX 5060", 30, 2.497, 8, 145),
    geforce("RTX 5060 Ti", 36, 2.572, 16, 180),
    geforce("RTX 5070", 48, 2.512, 12, 250),
    geforce("RTX 5070 Ti", 70, 2.452, 16, 300),
    geforce("RTX 5080", 84, 2.617, 16, 360),
    geforce("RTX 5090", 170, 2.407, 32, 575),
    turing("RTX 2060", 30, 1.680, 6, 160),
    turing("RTX 2060 SUPER", 34, 1.650, 8, 175),
    turing("RTX 2070", 36, 1.620, 8, 175),
    turing("RTX 2070 SUPER", 40, 1.770, 8, 215),
    turing("RTX 2080", 46, 1.710, 8, 215),
    turing("RTX 2080 SUPER", 48, 1.815, 8, 250),
    turing("RTX 2080 Ti", 68, 1.545, 11, 250),
    geforce("RTX 3060 Laptop", 30, 1.703, 6, 115),
    geforce("RTX 3070 Laptop", 40, 1.620, 8, 125),
    geforce("RTX 3070 Ti Laptop", 46, 1.485, 8, 125),
    geforce("RTX 3080 Laptop", 48, 1.710, 8, 150),  # or 16 GiB
    geforce("RTX 3080 Ti Laptop", 58, 1.590, 16, 150),
    geforce("RTX 4050 Laptop", 20, 2.370, 6, 115),
    geforce("RTX 4060 Laptop", 24, 2.370, 8, 115),
    geforce("RTX 4070 Laptop", 36, 2.175, 8, 115),
    geforce("RTX 4080 Laptop", 58, 2.280, 12, 150),
    geforce("RTX 4090 Laptop", 76, 2.040, 16, 150),
    Card("RTX A4000", 76.7, 16, 140),
    Card("RTX A5000", 111.1, 24, 230),
    Card("RTX A6000", 154.8, 48, 300),
    Card("T4", 8.1, 16, 70, "data centre", bfloat16=False),
    Card("V100", 14.0, 16, 250, "data centre", bfloat16=False),  # -PCIE
    Card("V100 SXM2", 15.7, 16, 300, "data centre", bfloat16=False),
    Card("L4", 121, 24, 72, "data centre"),
    Card("A10", 125, 24, 150, "data centre"),
    Card("L40S", 362, 48, 350, "data centre"),
    Card("A100", 312, 40, 400, "data centre"),  # -SXM4-40GB, -PCIE-40GB
    Card("A100-SXM4-80GB", 312, 80, 400, "data centre"),
    Card("A100 80GB", 312, 80, 300, "data centre"),
    Card("H100 PCIe", 756, 80, 350, "data centre"),
    Card("H100 NVL", 835, 94, 400, "data centre"),
    Card("H100", 989, 80, 700, "data centre"),
    Card("H200", 989, 141, 700, "data centre"),
]


def card_named(text):
    """The card that a driver or a user names so; None where unknown, as a Max-Q or a "D", other chips under the same name."""
    words = f" {' '.join(re.split(r'[^a-z0-9]+', text.lower()))} "
    found = [card for card in CARDS if f" {card.name.lower().replace('-', ' ')} " in words]
    if " laptop " in words:
        found = [card for card in found if card.name.endswith("Laptop")]
    other_chip = re.search(r" (mobile|max q|d) ", words)
    return None if other_chip else max(found, key=lambda card: len(card.name), default=None)


# ---- memory ----------------------------------------------------------------------------------------------------------


def static_gb(params, matrices, optimizer, copied):
    """
    Memory of weights, gradients and moments in fp32, and where `copied` of autocast's copy of the weights in bfloat16.

    params: their number; matrices: the number of those in the layers' matrices, for which Muon keeps one moment, not two.
    """
    moments = 8 * params - (4 * matrices if optimizer == "muon" else 0)
    return (4 * params + 4 * params + moments + (2 * params if copied else 0)) / 1e9


def activation_bytes(cfg, compiled, checkpointing):
    """
    Bytes a token that all layers keep for the backward pass, in cfg.dtype.

    Compiled: the residual stream twice, q, k, v, attention's output, gate and up; kernels recompute the rest. Plain: also the
    inputs of the matrix products, silu(gate) and its product with up.
    """
    D, F, H = cfg.d_model, cfg.d_ff, cfg.n_head
    width = WIDTH[cfg.dtype]
    per_D, per_F = (6 * width, 2 * width) if compiled else EAGER[cfg.dtype]
    layer = per_D * D + per_F * F + 4 * H
    return cfg.n_layer * width * D + layer if checkpointing else cfg.n_layer * layer


WIDTH = {None: 2, "bfloat16": 2, "float32": 4}  # bytes of a number that the matrix products read and write
# bytes a token that a plain layer keeps for each unit of d_model and d_ff: tests/phoenix/test_plan.py counts them
EAGER = {None: (16, 8), "bfloat16": (16, 8), "float32": (32, 16)}


def peak_gb(cfg, vocab_size, params, matrices, micro_batch, compiled=True, checkpointing=False):
    """Peak memory that the card must have for a step: the CUDA context and what torch's allocator reserves."""
    tokens, D, width = micro_batch * cfg.seq_len, cfg.d_model, WIDTH[cfg.dtype]
    copied = width == 2
    chunk = min(2**25, tokens * vocab_size) * (width + 4 + width + (0 if compiled else 4))  # logits, log p, gradient, a temporary
    # the head's gradient of a micro-batch and its rounded weight; hidden states and their gradient
    head = vocab_size * D * (4 + (width if copied else 0)) + tokens * D * 2 * width
    layer = tokens * width * (3 * cfg.d_ff + 4 * D)  # gradients inside the layer whose backward pass runs
    activations = tokens * activation_bytes(cfg, compiled, checkpointing)
    static = static_gb(params, matrices, cfg.optimizer, copied and not compiled)
    return CONTEXT_GB + RESERVED_GB[compiled] + static + (activations + max(chunk + head, head + layer)) / 1e9


def checkpoint_gb(params, matrices, optimizer):
    """Size of one checkpoint file: weights and moments in fp32."""
    return (12 * params - (4 * matrices if optimizer == "muon" else 0)) / 1e9


# ---- the plan --------------------------------------------------------------------------------------------------------


def choose(cfg, peaks, room):
    """
    The best (micro-batch, checkpointing) that fits into `room` GB and divides the step; None where none does.

    The largest up to 16,384 tokens, beyond which little is gained. Recomputing costs a quarter of the speed, so any micro-batch
    from 4,096 tokens up is preferred to it.
    """
    fits = [(m, c) for (m, c), gb in peaks.items() if gb <= room and cfg.tokens_per_step % (m * cfg.seq_len) == 0]
    fits = [(m, c) for m, c in fits if m * cfg.seq_len <= max(16384, cfg.seq_len)]
    plain = [(m, c) for m, c in fits if not c and m * cfg.seq_len >= 4096]
    return max(plain or fits, default=None)


def forecast(cfg, model, vocab_size, card, card_from, train_tokens=None):
    """(the lines that --plan prints, whether anything fits). model: on the meta device; card_from: why this card."""
    params = model.parameter_count()
    matrices = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    compiled, geforce = cfg.compile is not False, card.kind == "GeForce"
    if not card.bfloat16:
        cfg = replace(cfg, dtype="float32")
    room = card.gib * 2**30 / 1e9 - (DESKTOP_GB if geforce else 0)
    sizes = [2**n for n in range(8)]
    peaks = {(m, c): peak_gb(cfg, vocab_size, params, matrices, m, compiled, c) for m in sizes for c in (False, True)}
    best = choose(cfg, peaks, room)
    tflops, precision = (card.tflops, "float32") if not card.bfloat16 else (card.tflops, "bfloat16")
    if cfg.dtype == "float32" and card.bfloat16:
        tflops, precision = card.tflops / 2, "TF32"  # on all these cards
    size = f"{params / 1e6:.1f} M parameters, {model.flops_per_token() / 1e6:.1f} MFLOP a token, context {cfg.seq_len}"
    lines = [f"card      {card.name} ({card_from}): {tflops:.1f} TFLOPS {precision}, {round(card.gib, 1):g} GiB, {card.watts} W"]
    lines += [f"model     {size}"]
    if train_tokens is not None:
        lines += [f"data      {train_tokens:,} tokens, {cfg.steps * cfg.tokens_per_step / train_tokens:.2f} epochs"]
    lines += [f"memory    {room:.1f} GB of the card may be used" + (f", {DESKTOP_GB} are left to a screen" if geforce else "")]
    lines += ["          micro_batch   peak GB             with grad_checkpointing"]
    for m in sizes:
        cells = [f"{peaks[m, c]:7.1f} {'fits' if peaks[m, c] <= room else 'does not fit'}" for c in (False, True)]
        mark = "  <- micro_batch of the config" if m == cfg.micro_batch else ""
        lines += [f"          {m:6}      {cells[0]:22}{cells[1]}{mark}"]
    if best is None:
        smaller = "make seq_len, n_layer or d_model smaller"
        return [*lines, f"          nothing fits: {card.name} cannot train this model; {smaller}"], False
    own_gb = peak_gb(cfg, vocab_size, params, matrices, cfg.micro_batch, compiled, cfg.grad_checkpointing)
    if own_gb <= room:
        advice, (micro_batch, checkpointing) = "the config's settings fit", (cfg.micro_batch, cfg.grad_checkpointing)
    else:
        micro_batch, checkpointing = best
        advice = f"the config's micro_batch={cfg.micro_batch} does not fit: give --micro_batch={micro_batch}"
        advice += " --grad_checkpointing=True" if checkpointing else ""
    peak = peak_gb(cfg, vocab_size, params, matrices, micro_batch, compiled, checkpointing)
    lines += [f"          {advice}; peak {peak:.1f} GB"]
    if compiled:
        lines += ["          the peak of the compiled model is calculated, and not yet measured on a GPU"]
    utilisation = UTILISATION[card.kind] * (0.78 if checkpointing else 1.0) * (1.0 if compiled else 0.6)
    rate = utilisation * tflops * 1e12 / model.flops_per_token()
    secs, step_secs = cfg.steps * cfg.tokens_per_step / rate, cfg.tokens_per_step / rate
    disk, every = checkpoint_gb(params, matrices, cfg.optimizer), min(cfg.ckpt_every * step_secs, cfg.ckpt_minutes * 60)
    kept = cfg.keep_last + (math.ceil(cfg.steps / cfg.keep_every) if cfg.keep_every else 0)
    why = "steps" if cfg.ckpt_every * step_secs < cfg.ckpt_minutes * 60 else "ckpt_minutes"
    return [
        *lines,
        f"speed     about {rate:,.0f} tokens/s at {utilisation:.0%} of the peak, {step_secs:.1f} s a step, {duration(secs)} in all",
        f"energy    about {card.watts * secs / 3.6e6:.1f} kWh at {card.watts} W",
        f"disk      a checkpoint of {disk:.2f} GB every {duration(every)} ({why}), {kept} kept: {(kept + 1) * disk:.1f} GB",
        f"nas       a checkpoint takes {disk * 8 / 0.9:.0f} s of gigabit Ethernet up, and as long to be read back",
    ], True


def main(cfg, build_model, problem=None):
    """
    Prints the plan; neither the corpus nor the card need be here. Exit code 0 where the model fits, 1 where nothing does.

    build_model: a function of (cfg, vocab_size). problem: why torch cannot use this machine's GPU.
    """
    if problem and cfg.device is None:
        print(problem)
    if cfg.card is not None:
        card, card_from = card_named(cfg.card), "as asked"
        if card is None:
            raise UserError(f"card={cfg.card!r} is not known: there are {', '.join(c.name for c in CARDS)}")
    else:
        card, card_from = None, "in this machine"
        if torch.cuda.is_available():
            found = torch.cuda.get_device_properties(cfg.device if (cfg.device or "").startswith("cuda") else "cuda")
            card = card_named(found.name)
            card = card and replace(card, gib=found.total_memory / 2**30)  # some names stand for several sizes
        if card is None:
            card, card_from = card_named("RTX 3080 Ti"), "no known card in this machine: --card= names another"
    vocab_size, train_tokens = cfg.vocab_size or 32768, None
    if Path(cfg.data, "shards", "shards.json").is_file():
        split = shards.open(Path(cfg.data, "shards"), "train")
        vocab_size, train_tokens = split.meta["vocab_size"], split.tokens
    with torch.device("meta"):
        model = build_model(cfg, vocab_size)
    lines, fits = forecast(cfg, model, vocab_size, card, card_from, train_tokens)
    print("\n".join(lines))
    return 0 if fits else 1
