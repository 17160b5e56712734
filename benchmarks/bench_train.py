"""
Compares train.py with a trainer in the style of nanoGPT: tokens a second, MFU and peak memory, in one run on one device.

    python benchmarks/bench_train.py              a GPU with the shape of configs/125m.py, or a CPU with a small one
    python benchmarks/bench_train.py --gpu        all GPU figures of benchmarks/README.md, in about half an hour

The baseline follows nanoGPT: GPT-2's layers (LayerNorm, learned positions, GELU, one matrix for q, k and v), logits of the whole
batch and F.cross_entropy, fp32 residual stream under autocast, a memmap opened for each batch of random windows, one batch
prefetched to pinned memory, fused AdamW, gradient clipping, torch.compile of the whole model on a GPU. It has as many layers,
heads and columns as ours and the same vocabulary. Its hidden width is 3/2 d_ff, so that its two matrices have as many
parameters as SwiGLU's three.

nanoGPT does not use deterministic operations, so both run with deterministic=False. On a GPU, where they cost most, ours runs a
second time with deterministic=True, train.py's default.

Each trainer runs in a process of its own, in turn, for several rounds, on the same random tokens: speed does not depend on
them. A round is the mean of its steps after a warm-up, which includes compiling; the result is the median of the rounds.
"""

import argparse
import contextlib
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as in train.py, for both

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import train  # noqa: E402
from phoenix import plan, shards  # noqa: E402
from phoenix.batches import Windows, windows_of_step  # noqa: E402
from phoenix.device import compile_checked, prepare_device  # noqa: E402
from phoenix.optimizers import make_optimizer  # noqa: E402
from phoenix.run_log import commit  # noqa: E402

SHAPES = {
    "cuda": dict(
        n_layer=12, n_head=12, d_model=768, d_ff=2560, vocab_size=32768, seq_len=1024, micro_batch=16, tokens_per_step=131072
    ),
    "cpu": dict(n_layer=4, n_head=4, d_model=256, d_ff=768, vocab_size=8192, seq_len=256, micro_batch=4),
}
EXACT = "ours, deterministic"
TOKENS_PER_STEP = {"cuda": 131_072, "cpu": 2048}  # of the benchmark, so that a round is short: accumulation in both


# ---- the baseline ----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, D, n_head, hidden):
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(D, bias=False), nn.LayerNorm(D, bias=False)
        self.c_attn, self.attn_proj = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.c_fc, self.mlp_proj = nn.Linear(D, hidden, bias=False), nn.Linear(hidden, D, bias=False)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(D, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).contiguous().view(B, T, D))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        D = cfg.d_model
        self.wte, self.wpe = nn.Embedding(cfg.vocab_size, D), nn.Embedding(cfg.seq_len, D)
        self.h = nn.ModuleList(Block(D, cfg.n_head, 3 * cfg.d_ff // 2) for _ in range(cfg.n_layer))
        self.ln_f = nn.LayerNorm(D, bias=False)
        self.lm_head = nn.Linear(D, cfg.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0.0, 0.02 / (2 * cfg.n_layer) ** 0.5 if name.endswith("proj.weight") else 0.02)

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


def baseline(cfg, device, file, compiled):
    """(a function that trains one step, the number of parameters in matrix products) of the trainer in nanoGPT's style."""
    torch.manual_seed(1337)
    model = GPT(cfg).to(device.torch_device)
    params = sum(p.numel() for p in model.parameters()) - model.wpe.weight.numel()
    decay = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1}]
    decay += [{"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decay, lr=6e-4, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if compiled else model
    parts = cfg.tokens_per_step // (cfg.micro_batch * cfg.seq_len)

    def get_batch():
        data = np.memmap(file, dtype=np.uint16, mode="r")
        ix = torch.randint(len(data) - cfg.seq_len, (cfg.micro_batch,))
        x = torch.stack([torch.from_numpy(data[i : i + cfg.seq_len].astype(np.int64)) for i in ix])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + cfg.seq_len].astype(np.int64)) for i in ix])
        if device.cuda:
            return (t.pin_memory().to(device.torch_device, non_blocking=True) for t in (x, y))
        return x, y

    batch = get_batch()

    def step(_):
        nonlocal batch
        for _ in range(parts):
            x, y = batch
            with device.precision():
                loss = run(x, y) / parts
            batch = get_batch()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item() * parts

    return step, params


def ours(cfg, device, file, compiled):
    """The same of train.py, with its own functions."""
    torch.manual_seed(1337)
    data = np.memmap(file, np.uint16, "r")
    windows = Windows(shards.Split([data], len(data), {}), cfg.seq_len)
    model = train.build_model(cfg, cfg.vocab_size).to(device.torch_device)
    model.model.checkpointing = cfg.grad_checkpointing
    optimizer = make_optimizer(model, cfg)
    per_step = cfg.tokens_per_step // cfg.seq_len

    def fetch(step):
        return windows.batch(windows_of_step(step, per_step, windows.count, 1), pin=device.cuda)

    if compiled:
        tokens_BT, targets_BT = (t[: cfg.micro_batch].to(device.torch_device) for t in fetch(0))
        problem = compile_checked(model, tokens_BT, targets_BT, device, optimizer=optimizer)
        if problem:
            raise RuntimeError(problem)
    reader = ThreadPoolExecutor(1)
    next_batch = reader.submit(fetch, 0)

    def step(n):
        nonlocal next_batch
        tokens_BT, targets_BT = next_batch.result()
        next_batch = reader.submit(fetch, n + 1)
        loss = train.accumulate(model, tokens_BT, targets_BT, cfg.micro_batch, device).item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step, model.parameter_count()


# ---- one trainer in a process of its own -----------------------------------------------------------------------------


def work(job):
    """{"tokens_per_sec", "peak_gb", "loss", "flops_per_token", ...} of one trainer."""
    cfg = train.Train(data="", out="", **job["cfg"])
    device = prepare_device(cfg)
    step, params = {"ours": ours, "nanoGPT": baseline}[job["trainer"]](cfg, device, job["file"], job["compiled"])
    for n in range(job["warm_up"]):
        loss = step(n)
    began = time.perf_counter()
    for n in range(job["steps"]):
        loss = step(job["warm_up"] + n)  # ends in .item(), which waits for the device
    secs = time.perf_counter() - began
    flops = 6 * params + 12 * cfg.n_layer * cfg.d_model * cfg.seq_len
    found = {"tokens_per_sec": job["steps"] * cfg.tokens_per_step / secs, "peak_gb": device.memory_gb(), "loss": loss}
    found |= {"params": params, "device": device.name, "dtype": device.dtype}
    return found | {"mfu": found["tokens_per_sec"] * flops / device.peak_flops if device.peak_flops else None}


def in_a_process(job):
    """The job's result, or {"failed": the last line of its output}."""
    command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(cfg, file, compiled, rounds, steps, warm_up):
    """Runs the trainers in turn. -> {trainer: {median of each number}}"""
    found = {"nanoGPT": [], "ours": []} | ({} if cfg.get("device") == "cpu" else {EXACT: []})
    for n in range(rounds):
        for trainer, results in found.items():
            job = {"trainer": trainer.split(",")[0], "cfg": cfg | {"deterministic": trainer == EXACT}, "file": str(file)}
            job |= {"compiled": compiled, "steps": steps, "warm_up": warm_up}
            results.append(in_a_process(job))
            outcome = results[-1].get("failed") or f"{results[-1]['tokens_per_sec']:,.0f} tokens/s"
            print(f"  round {n + 1}, {trainer}: {outcome}", file=sys.stderr, flush=True)
    medians = {}
    for trainer, results in found.items():
        bad = [r for r in results if "failed" in r]
        if bad:
            medians[trainer] = bad[0]
            continue
        medians[trainer] = results[0] | {k: statistics.median(r[k] for r in results) for k in ("tokens_per_sec", "peak_gb", "loss")}
        medians[trainer]["mfu"] = statistics.median(r["mfu"] for r in results) if results[0]["mfu"] else None
        rates = [r["tokens_per_sec"] for r in results]
        medians[trainer]["range"] = (min(rates), max(rates))
    return medians


def row(name, found, base):
    if "failed" in found:
        return f"| {name} | {found['failed']} | | | | |"
    low, high = found["range"]
    ratios = "| | |"
    if base is not None and base is not found and "failed" not in base:
        ratios = f"| {found['tokens_per_sec'] / base['tokens_per_sec']:.2f}× | {found['peak_gb'] / base['peak_gb']:.2f}× |"
    mfu = f"{found['mfu']:.1%}" if found["mfu"] else "–"
    return f"| {name} | {found['tokens_per_sec']:,.0f} ({low:,.0f}–{high:,.0f}) | {mfu} | {found['peak_gb']:.2f} {ratios}"


HEAD = "| trainer | tokens/s (range) | MFU | peak GB | speed to nanoGPT's | memory to nanoGPT's |"
HEAD += "\n| --- | --- | --- | --- | --- | --- |"


# ---- all GPU figures ---------------------------------------------------------------------------------------


def gpu(file, rounds):
    """The throughput table, the 12 GB cap, the plan against measurement, 200 steps of configs/125m.py and resume."""
    shape = SHAPES["cuda"] | {"tokens_per_step": TOKENS_PER_STEP["cuda"]}
    print("\n### Throughput, both compiled\n\n" + HEAD)
    for micro_batch in (8, 16, 32):
        cfg = shape | {"micro_batch": micro_batch}
        found = compare(cfg, file, True, rounds if micro_batch == 16 else 1, 8, 3)
        for trainer in found:
            print(row(f"{trainer}, {micro_batch} x 1024", found[trainer], found["nanoGPT"]), flush=True)

    print("\n### 12 GB: the allocator limited as on an RTX 3080 Ti, and the plan's peak beside the measured one\n")
    print("| run | measured GB | planned GB | off by |\n| --- | --- | --- | --- |")
    for micro_batch, compiled, checkpointing in ((16, True, False), (16, True, True), (32, True, True), (8, False, False)):
        cfg = shape | {"micro_batch": micro_batch, "grad_checkpointing": checkpointing, "gpu_memory_gb": 12 - plan.CONTEXT_GB}
        found = in_a_process({"trainer": "ours", "cfg": cfg, "file": str(file), "compiled": compiled, "steps": 2, "warm_up": 2})
        name = f"{micro_batch} x 1024, {'compiled' if compiled else 'plain'}{', checkpointing' if checkpointing else ''}"
        settings = train.Train(data="", out="", **cfg)
        matrices = 12 * (4 * 768**2 + 3 * 768 * 2560)
        with torch.device("meta"):
            params = train.build_model(settings, settings.vocab_size).parameter_count()
        planned = plan.peak_gb(settings, 32768, params, matrices, micro_batch, compiled, checkpointing)
        if "failed" in found:
            print(f"| {name} | {found['failed']} | {planned:.2f} | |", flush=True)
            continue
        measured = found["peak_gb"] + plan.CONTEXT_GB  # the allocator does not count the context
        print(f"| {name} | {measured:.2f} | {planned:.2f} | {planned / measured - 1:+.1%} |", flush=True)

    print("\n### 200 steps of configs/125m.py, straight and killed after 120\n")
    with tempfile.TemporaryDirectory() as folder:
        data = corpus(Path(folder))
        if data is None:
            print("not run: ../shared/corpus/wikipedia.tar.xz is not here")
            return
        ends = {}
        for name in ("straight", "stopped"):
            command = [sys.executable, "train.py", "configs/125m.py", f"--data={data}", f"--out={folder}/{name}", "--warmup=20"]
            command += ["--tokens_per_step=131072", "--eval_every=100", "--ckpt_every=50", "--sample_tokens=50", "--steps=200"]
            if name == "stopped":
                running = subprocess.Popen(command, cwd=HERE.parent)
                log = Path(folder, name, "log.jsonl")
                while running.poll() is None and not (log.exists() and '"step": 120,' in log.read_text(encoding="utf-8")):
                    time.sleep(0.1)
                running.kill()
                running.wait()
            subprocess.run(command, cwd=HERE.parent, check=True)
            saved = torch.load(f"{folder}/{name}/ckpt.pt", weights_only=True, map_location="cpu")
            ends[name] = saved["val_loss"], saved["model"]
        same = all(torch.equal(a, ends["stopped"][1][k]) for k, a in ends["straight"][1].items())
        print(f"val loss {ends['straight'][0]:.4f} straight, {ends['stopped'][0]:.4f} killed after step 120 and gone on with;")
        print(f"the weights are {'equal to the bit' if same else 'NOT equal'}")


def corpus(folder):
    """Shards with a vocabulary of 32,768 made from ../shared/corpus; None where that is not."""
    archive = Path(os.environ.get("PHOENIX_SHARED", HERE.parent.parent / "shared"), "corpus", "wikipedia.tar.xz")
    if not archive.is_file():
        return None
    with tarfile.open(archive) as parts:
        parts.extractall(folder / "raw", filter="data")
    config = folder / "corpus.py"
    config.write_text(
        inspect.cleandoc(f"""
        from data_engine.download import Local
        out, vocab_size, val_fraction = {str(folder / "data")!r}, 32768, 0.01
        language = dict(xlm_roberta=None)
        sources = [Local("wikipedia", {str(folder / "raw")!r}, share=1.0)]
        """),
        encoding="utf-8",
    )
    subprocess.run([sys.executable, "-m", "data_engine.run", str(config)], cwd=HERE.parent, check=True)
    return folder / "data"


def main():
    about = inspect.getdoc(sys.modules["__main__"])
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="all GPU figures of benchmarks/README.md")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a round")
    parser.add_argument("--micro_batch", type=int)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"])
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None, help="both trainers; default: on a GPU")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        with contextlib.redirect_stdout(sys.stderr):
            found = work(json.loads(args.job))
        print(json.dumps(found))
        return 0
    if (args.gpu or args.device == "cuda") and not torch.cuda.is_available():
        print("error: torch sees no GPU here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tokens.bin")
        shape = SHAPES["cuda" if args.gpu else args.device]
        np.random.default_rng(0).integers(shape["vocab_size"], size=20_000_000, dtype=np.uint16).tofile(file)
        name = torch.cuda.get_device_name() if args.device == "cuda" else torch.cpu.get_capabilities().get("cpu_name", "CPU")
        threads = f", {torch.get_num_threads()} threads" if args.device == "cpu" else ""
        print(f"{name}{threads}, torch {torch.__version__}, Python {platform.python_version()}, commit {commit()}")
        if args.gpu:
            gpu(file, args.rounds)
            return 0
        cfg = (
            shape
            | {"device": args.device, "tokens_per_step": TOKENS_PER_STEP[args.device]}
            | ({"dtype": args.dtype} if args.dtype else {})
        )
        cfg |= {"micro_batch": args.micro_batch} if args.micro_batch else {}
        compiled = args.compile if args.compile is not None else args.device == "cuda"
        found = compare(cfg, file, compiled, args.rounds, args.steps, 3)
        sizes = (
            f"{found['ours'].get('params', 0) / 1e6:.1f} M parameters, {found['nanoGPT'].get('params', 0) / 1e6:.1f} M nanoGPT's"
        )
        print(
            f"{sizes}; {cfg['micro_batch']} x {cfg['seq_len']}, {found['ours'].get('dtype')}, {'compiled' if compiled else 'plain'}"
        )
        print("\n" + HEAD)
        for trainer in found:
            print(row(trainer, found[trainer], found["nanoGPT"]))
        return 1 if any("failed" in f for f in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
