"""
Trains a model on the data engine's shards.   python train.py configs/125m.py [--key=value ...]

Run it again after Ctrl-C, SIGTERM, kill -9 or a power cut: it goes on from the newest whole checkpoint in `out` and ends with
the same weights as a run that was never stopped, bit for bit, on the same machine with the same settings. (On a CPU the number
of threads decides the order of sums and so the last bits: it is kept in the checkpoint, and a change is said.)

Leaves in `out`: ckpt.pt, ckpt.prev.pt (the one before), log.jsonl (a row a logged step), loss.png, sample.txt, tokenizer/.
Exit codes: 0 done, 2 a mistake in settings or data, 130 and 143 stopped by Ctrl-C or SIGTERM with a checkpoint written.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Threads that wait for each other spin for milliseconds by default: 0.7 thousand tokens/s with 2 threads on 2 busy cores against
# 3.3 thousand with this, for about 10 % on idle ones. Read by OpenMP when torch is imported; it changes no result.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch
from tqdm import tqdm

import checkpoint
from config import UserError, load, main_guard
from data_engine import shards
from model import ModelConfig, Phoenix
from windows import Windows, windows_of_step

SAY_EVERY = 20  # seconds between two lines of progress where there is no terminal for a bar
SKIPS_IN_A_ROW = 20  # updates skipped one after the other for a loss that is not finite, before the run gives up

# settings that change what is kept and seen of a run, not its weights
NO_MATTER = ("data", "out", "verify", "eval_every", "eval_tokens", "log_every", "ckpt_every", "ckpt_minutes", "sample_tokens")


@dataclass(frozen=True)
class Train:
    data: str  # run folder of the data engine: holds shards/ and tokenizer/
    out: str  # folder of this run; a checkpoint in it is gone on from
    # model
    n_layer: int = 12  # layers
    n_head: int = 12  # heads of attention
    d_model: int = 768  # width of the residual stream
    d_ff: int = 2560  # hidden width of the SwiGLU; 2560 makes 124.3 M parameters
    vocab_size: int | None = None  # None: the data's; a number is checked against it
    qk_norm: bool = False  # normalise queries and keys (exports as Qwen3)
    # data
    verify: bool = False  # compare the shards with their sha256 before the start
    seq_len: int = 1024  # tokens a sequence, which is the model's context
    micro_batch: int = 16  # sequences at a time: as many as memory holds; the result is the same but for rounding
    tokens_per_step: int = 524_288  # of one update: micro-batches are accumulated up to it
    steps: int = 3815  # updates of the whole run
    # optimizer: AdamW
    lr: float = 6e-4  # peak learning rate
    min_lr: float = 6e-5  # where the cosine ends
    warmup: int = 256  # steps of linear rise to lr
    beta1: float = 0.9  # decay of AdamW's mean of gradients
    beta2: float = 0.95  # decay of its mean of squares
    weight_decay: float = 0.1  # on matrices, the embedding among them since it is the head too; not on the norms' weights
    clip: float = 1.0  # greatest norm of the gradient
    # machine
    device: str | None = None  # "cuda", "cpu", ...; None: cuda where there is one
    dtype: str | None = None  # of the matrix products, "bfloat16" or "float32"; None: bfloat16 where the hardware has it
    compile: bool | None = None  # torch.compile; None: on cuda only (a CPU would compile longer than the quickstart trains)
    grad_checkpointing: bool = False  # recompute activations: about 1/10 of their memory for a quarter more work
    deterministic: bool = True  # only operations that repeat to the bit: without it a resumed run on cuda may differ
    cpu_threads: int | None = None  # threads of a CPU run; None: torch's choice
    # what is seen and kept
    eval_every: int = 250  # steps between two validations; also at the start and the end
    eval_tokens: int = 1_048_576  # tokens of the validation, always the same windows, spread over the val split
    log_every: int = 1  # steps between two rows of log.jsonl
    ckpt_every: int = 1000  # steps between two checkpoints
    ckpt_minutes: float = 30.0  # minutes between two checkpoints, whichever comes first
    sample_tokens: int = 200  # tokens of text to write at the end
    seed: int = 1  # of the initial weights, the order of the data and the sample


def token_bytes(tokenizer_json):
    """
    Bytes of text of each token (V,), from the vocabulary of a byte-level BPE, which spells every byte as one character. Special
    tokens are 0: they stand for no text, and bits per byte leaves their nats out too.
    """
    described = json.loads(Path(tokenizer_json).read_text(encoding="utf-8"))
    added = described["added_tokens"]
    sizes = {i: len(text) for text, i in described["model"]["vocab"].items()}
    sizes |= {t["id"]: 0 if t["special"] else len(t["content"].encode()) for t in added}
    return torch.tensor([sizes.get(i, 0) for i in range(max(sizes) + 1)])


# ---- training --------------------------------------------------------------------------------------------------------


def lr_at(step, cfg):
    """Linear from 0 over the warm-up, reaching lr at its last step, then half a cosine that reaches min_lr at the last step."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    done = (step + 1 - cfg.warmup) / max(1, cfg.steps - cfg.warmup)
    return cfg.min_lr + (cfg.lr - cfg.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(model, cfg):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    # fused: one pass over the parameters; on 2 cores 4 ms for 4 M parameters against 12 ms unfused
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=1e-8, fused=True)


def accumulate(model, tokens_BT, targets_BT, micro_batch, device, precision):
    """
    Adds the gradient of the mean over all targets, micro-batch by micro-batch, and returns that mean, a tensor. Every part is
    divided by the total number of targets, so N micro-batches of 1 give what 1 of N gives.
    """
    total = torch.zeros((), device=device)
    parts = zip(tokens_BT.split(micro_batch), targets_BT.split(micro_batch), strict=True)
    for tokens, targets in parts:
        with precision():
            tokens, targets = tokens.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            loss = model.loss(tokens, targets, reduction="sum") / targets_BT.numel()
        loss.backward()
        total += loss.detach()
    return total


@torch.no_grad()
def validate(model, windows, chosen, micro_batch, bytes_V, device, precision):
    """{"val_loss": nats per token, "val_bpb": bits per byte of text} on the chosen windows."""
    nats, text_nats, text_bytes = 0.0, 0.0, 0
    for i in range(0, len(chosen), micro_batch):
        tokens_BT, targets_BT = (t.to(device) for t in windows.batch(chosen[i : i + micro_batch]))
        with precision():
            nats_BT = model.loss(tokens_BT, targets_BT, reduction="none").double()
        bytes_BT = bytes_V[targets_BT]
        nats += nats_BT.sum().item()
        text_nats += nats_BT[bytes_BT > 0].sum().item()
        text_bytes += bytes_BT.sum().item()
    bpb = text_nats / math.log(2) / text_bytes if text_bytes else math.nan
    return {"val_loss": nats / (len(chosen) * windows.seq_len), "val_bpb": bpb}


# ---- going on with a run ---------------------------------------------------------------------------------------------


def check_same_run(saved, now, path):
    """UserError where `now` cannot go on from the checkpoint's state; a sentence where it can, but not to the same bits."""
    for name in ("tokenizer_sha256", "shards_sha256"):
        if saved[name] != now[name]:
            raise UserError(f"{path} was trained on other data ({name} differs): give another out=, or the data it began with")
    old, new = saved["settings"] | saved["model_config"], now["settings"] | now["model_config"]
    changed = [name for name in new if old.get(name) != new[name] and name not in NO_MATTER]
    for name in changed:
        if name in now["model_config"] or name in ("seq_len", "tokens_per_step", "seed"):
            raise UserError(f"{path} has {name}={old.get(name)}, now {name}={new[name]}: give another out=, or the old value")
    if changed:
        news = ", ".join(f"{name} {old.get(name)} -> {new[name]}" for name in changed)
        say(f"changed since the checkpoint: {news}; the weights will not equal those of a straight run")


# ---- what is seen ----------------------------------------------------------------------------------------------------


def say(text):
    """A line on stdout that leaves a progress bar whole."""
    tqdm.write(text)
    sys.stdout.flush()


def read_log(path, until=math.inf):
    """The rows of log.jsonl up to a step; a last line that a kill cut in half is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if row["step"] <= until]


def plot(rows, title, path):
    """loss.png: the training loss of each logged step, its running mean, and the validation loss, over tokens."""
    from matplotlib.figure import Figure  # a second of import that --help need not pay

    train = [row for row in rows if row.get("loss") is not None]
    val = [row for row in rows if row.get("val_loss") is not None]
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    ax = figure.add_subplot()
    if train:
        tokens, loss = (np.array([row[name] for row in train]) for name in ("tokens", "loss"))
        width = max(2, len(loss) // 50)
        sums, last = np.cumsum(np.concatenate([np.zeros(1), loss])), np.arange(1, len(loss) + 1)
        first = np.maximum(0, last - width)
        ax.plot(tokens / 1e6, loss, color="#9ecae1", linewidth=0.8, label="training, each logged step")
        ax.plot(tokens / 1e6, (sums[last] - sums[first]) / (last - first), color="#08519c", label=f"training, mean of {width}")
    if val:
        points = np.array([(row["tokens"] / 1e6, row["val_loss"]) for row in val])
        label = f"validation, {val[-1]['val_loss']:.3f} at the end"
        ax.plot(*points.T, "o-", color="#d94801", markersize=4, linewidth=1, label=label)
    ax.set(xlabel="tokens trained on (millions)", ylabel="loss (nats per token)", title=title)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if train or val:
        ax.legend(frameon=False)
    figure.savefig(path.with_suffix(".tmp"), format="png")
    path.with_suffix(".tmp").replace(path)


def duration(secs):
    """90 -> "1.5 min", 7200 -> "2.0 h"."""
    return f"{secs:.0f} s" if secs < 60 else f"{secs / 60:.1f} min" if secs < 5400 else f"{secs / 3600:.1f} h"


def sample(model, tokenizer_json, eot, cfg, device):
    """Text that the model writes from nothing but <|endoftext|>; where it ends a document and begins another, an empty line."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    generator = torch.Generator(device).manual_seed(cfg.seed)
    start_BT = torch.tensor([[eot]], device=device)
    with torch.compiler.set_stance("force_eager"):  # every length would be compiled anew
        ids = model.generate(start_BT, cfg.sample_tokens, temperature=0.8, top_k=50, generator=generator)[0].tolist()
    ends = [i for i, token in enumerate(ids) if token == eot] + [len(ids)]
    return "\n\n".join(tokenizer.decode(ids[a + 1 : b]).strip() for a, b in itertools.pairwise(ends))


@contextmanager
def signals_noted():
    """A list that Ctrl-C and SIGTERM are put on, so that the step can be finished; the second of a kind acts as ever."""
    noted, usual = [], {}

    def note(number, _frame):
        noted.append(number)
        signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def commit():
    """The checkout's commit, marked where files have changed since; "unknown" where there is no git."""
    try:
        git = ["git", "-C", str(Path(__file__).resolve().parent)]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
        return head + (" with changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(argv):
    cfg = load(Train, argv)
    for name in ("seq_len", "micro_batch", "tokens_per_step", "steps", "eval_every", "log_every", "ckpt_every", "cpu_threads"):
        if getattr(cfg, name) is not None and getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 1")
    for name in ("lr", "clip", "ckpt_minutes"):
        if not 0 < getattr(cfg, name) < math.inf:
            raise UserError(f"{name}={getattr(cfg, name)} must be above 0")
    for name in ("min_lr", "warmup", "seed", "weight_decay", "sample_tokens", "eval_tokens"):
        if not 0 <= getattr(cfg, name) < math.inf:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 0")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least 0 and below 1")
    if cfg.tokens_per_step % (cfg.micro_batch * cfg.seq_len):
        micro = f"micro_batch*seq_len={cfg.micro_batch * cfg.seq_len}"
        raise UserError(f"tokens_per_step={cfg.tokens_per_step} must be a multiple of {micro}")
    if cfg.dtype not in (None, "bfloat16", "float32"):
        raise UserError(f'dtype must be "bfloat16", "float32" or None, not {cfg.dtype!r}')

    # ---- machine
    try:
        device = torch.device(cfg.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"device={cfg.device} is not known to torch: cpu, cuda or cuda:1 would be right") from error
    cuda = device.type == "cuda"
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={cfg.device} is not one that training is made for: cpu, cuda or cuda:1 would be right")
    if cuda and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU: install a CUDA build of torch, or leave device out")
    if cfg.cpu_threads:
        torch.set_num_threads(cfg.cpu_threads)
    threads = torch.get_num_threads()
    cpu = torch.cpu.get_capabilities()
    has_bf16 = cuda or cpu.get("avx512_bf16", False) or cpu.get("amx_bf16", False)  # 1.6x on such a CPU, far slower on others
    dtype = cfg.dtype or ("bfloat16" if has_bf16 else "float32")
    precision = functools.partial(torch.autocast, device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read at its first use
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that would write all memory twice
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32 for what is not bfloat16
    compiled = cfg.compile if cfg.compile is not None else cuda
    if compiled and cuda and importlib.util.find_spec("triton") is None:
        say("triton is not installed, so the model runs uncompiled: slower, and with more memory")
        compiled = False

    # ---- data
    data, out = Path(cfg.data), Path(cfg.out)
    train_split, val_split = (shards.open(data / "shards", split, verify=cfg.verify) for split in ("train", "val"))
    meta, tokenizer_json = train_split.meta, data / "tokenizer" / "tokenizer.json"
    if not tokenizer_json.is_file():
        raise UserError(f"{tokenizer_json} does not exist: data= must be a run folder with shards/ and tokenizer/")
    tokenizer_sha256 = hashlib.sha256(tokenizer_json.read_bytes()).hexdigest()
    if tokenizer_sha256 != meta["tokenizer_sha256"]:
        raise UserError(f"{tokenizer_json} is not the tokenizer that {data}/shards was written with: rerun data_engine.run")
    if cfg.vocab_size not in (None, meta["vocab_size"]):
        raise UserError(f"vocab_size={cfg.vocab_size}, but {data} has {meta['vocab_size']}: leave it out, or give other data")
    train, val = Windows(train_split, cfg.seq_len), Windows(val_split, cfg.seq_len)
    for name, split, windows in (("train", train_split, train), ("val", val_split, val)):
        if not windows.count:
            raise UserError(f"{data} has {split.tokens} tokens in its {name} split, a window is seq_len={cfg.seq_len} + 1")
    val_count = min(val.count, max(1, cfg.eval_tokens // cfg.seq_len))
    val_windows = np.arange(val_count) * val.count // val_count

    # ---- model and optimizer
    torch.manual_seed(cfg.seed)
    sizes = {name: getattr(cfg, name) for name in ("n_layer", "n_head", "d_model", "d_ff", "qk_norm")}
    model_config = ModelConfig(vocab_size=meta["vocab_size"], context=cfg.seq_len, **sizes)
    model = Phoenix(model_config).to(device)  # made on the CPU: the same initial weights on every device
    model.model.checkpointing = cfg.grad_checkpointing
    optimizer = make_optimizer(model, cfg)
    bytes_V = token_bytes(tokenizer_json).to(device)

    # ---- the run so far
    described = {
        "format": checkpoint.FORMAT,
        "version": checkpoint.FORMAT_VERSION,
        "model_config": dataclasses.asdict(model_config),
        "settings": dataclasses.asdict(cfg) | {"dtype": dtype, "compile": compiled, "cpu_threads": threads},
        "tokenizer_sha256": tokenizer_sha256,
        "shards_sha256": hashlib.sha256((data / "shards" / "shards.json").read_bytes()).hexdigest(),
    }
    # what a run's progress is, beside its tensors
    state = {"step": 0, "tokens": 0, "skipped": 0, "skipped_in_a_row": 0, "secs": 0.0}
    state |= {"first_val_loss": None, "first_val_bpb": None, "val_loss": None, "val_bpb": None}
    saved, damage = checkpoint.newest_checkpoint(out)
    if damage:
        say(damage)
    if saved:
        check_same_run(saved, described, out / "ckpt.pt")
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data / "tokenizer", out / "tokenizer", dirs_exist_ok=True)  # a checkpoint's folder is complete
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error}") from error
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"]["cpu"])
        if cuda and saved["rng"]["cuda"] is not None:
            torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
        state = {name: saved[name] for name in state}
        del saved  # a second copy of the weights and moments

    def save():
        rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device) if cuda else None}
        tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng}
        state["secs"] = secs_before + time.perf_counter() - began
        checkpoint.save_checkpoint(out, described | state | tensors)

    # ---- the arithmetic of the run
    windows_per_step = cfg.tokens_per_step // cfg.seq_len
    run_tokens, params = cfg.steps * cfg.tokens_per_step, model.parameter_count()
    name = torch.cuda.get_device_name(device) if cuda else f"{cpu.get('cpu_name', platform.machine())}, {threads} threads"
    about = {
        "arguments": " ".join(argv),
        "commit": commit(),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "device": f"{device.type} ({name}), {dtype}, {'compiled' if compiled else 'not compiled'}",
        "data": f"{data}, {train_split.tokens:,} tokens to train on, corpus {described['shards_sha256'][:12]}",
        "model": f"{params / 1e6:.1f} M parameters ({params:,}), vocabulary {meta['vocab_size']:,}",
        "step": f"{cfg.tokens_per_step:,} tokens = {windows_per_step // cfg.micro_batch} x {cfg.micro_batch} x {cfg.seq_len}",
        "run": f"{cfg.steps:,} steps = {run_tokens / 1e6:,.1f} M tokens = {run_tokens / train.count / cfg.seq_len:.2f} epochs",
        "work": f"{model.flops_per_token() / 1e6:.1f} MFLOP a token, {run_tokens * model.flops_per_token():.2e} FLOP in all",
    }
    for name, text in about.items():
        say(f"{name:<10}{text}")
    went_on = state["step"]
    if went_on >= cfg.steps:
        say(f"{out} is done already: {went_on} of {cfg.steps} steps")
    elif went_on:
        say(f"going on from step {went_on} of {cfg.steps}")
    log_path = out / "log.jsonl"
    rows = read_log(log_path, until=went_on if went_on else -1)
    temporary = log_path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.replace(log_path)  # what a killed run did after its last checkpoint is done, and logged, anew

    def log(**row):
        row = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        rows.append(row)
        with log_path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def check_val():
        result = validate(model, val, val_windows, cfg.micro_batch, bytes_V, device, precision)
        state.update(result)
        log(step=state["step"], tokens=state["tokens"], **result)
        say(f"step {state['step']}: val loss {result['val_loss']:.4f} nats per token, {result['val_bpb']:.4f} bits per byte")

    def draw():
        title = f"{out.name}: {params / 1e6:.1f} M parameters, {state['val_bpb']:.3f} bits per byte"
        plot(rows, title, out / "loss.png")

    # ---- the loop
    if compiled:
        model.model.compile()
    secs_before, began = state["secs"], time.perf_counter()
    if went_on < cfg.steps:
        log(step=went_on, tokens=state["tokens"], started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), about=about)

    def fetch(step):
        return train.batch(windows_of_step(step, windows_per_step, train.count, cfg.seed), pin=cuda)

    saved, said, rate = time.perf_counter(), time.perf_counter(), 0.0
    no_bar = not sys.stderr.isatty() or went_on >= cfg.steps
    width, height = shutil.get_terminal_size()  # never 0, where tqdm's own look at a container's terminal is, and hides the bar
    progress = tqdm(total=cfg.steps, initial=went_on, unit="step", ncols=width, nrows=height, disable=no_bar)
    with signals_noted() as stops, ThreadPoolExecutor(1) as reader, progress:
        ahead = reader.submit(fetch, went_on)
        if went_on == 0:
            check_val()
            state |= {"first_val_loss": state["val_loss"], "first_val_bpb": state["val_bpb"]}
        while state["step"] < cfg.steps:
            step_began = time.perf_counter()
            tokens_BT, targets_BT = ahead.result()
            ahead = reader.submit(fetch, state["step"] + 1)
            lr = lr_at(state["step"], cfg)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = accumulate(model, tokens_BT, targets_BT, cfg.micro_batch, device, precision).item()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip).item()
            if math.isfinite(loss) and math.isfinite(grad_norm):
                optimizer.step()
                state["skipped_in_a_row"] = 0
            else:  # one such update would make every weight NaN
                state["skipped"] += 1
                state["skipped_in_a_row"] += 1
                say(f"step {state['step'] + 1}: loss {loss}, gradient norm {grad_norm}: update skipped ({state['skipped']} in all)")
                if state["skipped_in_a_row"] == SKIPS_IN_A_ROW:
                    raise FloatingPointError(f"{SKIPS_IN_A_ROW} updates in a row up to step {state['step'] + 1} were not finite")
            optimizer.zero_grad(set_to_none=True)
            state["step"] += 1
            state["tokens"] += cfg.tokens_per_step
            step, last = state["step"], state["step"] == cfg.steps

            now = time.perf_counter()
            rate_now = cfg.tokens_per_step / (now - step_began)
            rate = rate_now if step - went_on <= 2 else 0.9 * rate + 0.1 * rate_now  # the first step warms up, or compiles
            if step % cfg.log_every == 0 or last:
                numbers = {"loss": loss, "grad_norm": grad_norm, "lr": lr, "tokens_per_sec": round(rate)}
                log(step=step, tokens=state["tokens"], **numbers, skipped=state["skipped"])
            status = f"loss {loss:.3f}  lr {lr:.1e}  {rate:,.0f} tokens/s"
            progress.set_postfix_str(status, refresh=False)
            progress.update()
            if no_bar and (now - said > SAY_EVERY or last):
                left = (cfg.steps - step) * cfg.tokens_per_step / rate
                say(f"step {step}/{cfg.steps}  {status}  {duration(left)} left")
                said = now
            if step % cfg.eval_every == 0 or last:
                check_val()
                draw()
            if step % cfg.ckpt_every == 0 or last or stops or time.perf_counter() - saved > 60 * cfg.ckpt_minutes:
                save()
                saved = time.perf_counter()
            if stops and not last:
                draw()
                name = signal.Signals(stops[0]).name
                say(f"stopped by {name} after step {step}, saved in {out / 'ckpt.pt'}: the same command goes on from there")
                return 128 + stops[0]

    # ---- the end
    if went_on < cfg.steps or not (out / "sample.txt").is_file():
        text = sample(model, out / "tokenizer" / "tokenizer.json", meta["eot"], cfg, device)
        (out / "sample.txt").write_text(text + "\n")
    draw()
    say("sample: " + (out / "sample.txt").read_text().strip())
    say(
        f"{state['step']:,} steps, {state['tokens'] / 1e6:,.1f} M tokens in {duration(state['secs'])}: "
        f"val loss {state['first_val_loss']:.3f} -> {state['val_loss']:.3f} nats per token, "
        f"{state['first_val_bpb']:.3f} -> {state['val_bpb']:.3f} bits per byte; {out / 'ckpt.pt'}, {out / 'loss.png'}"
    )
    return 0


if __name__ == "__main__":
    main_guard(main)
