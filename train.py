"""
Trains a model on the data engine's shards.   python train.py configs/125m.py [--key=value ...]
Its needs, without starting it:               python train.py configs/125m.py --plan [--card="RTX 3060"]

Run it again after Ctrl-C, SIGTERM, kill -9 or a power cut: it resumes from the newest whole checkpoint in `out` and ends with
the same weights as a run that was never stopped, bit for bit, on the same machine with the same settings. (On a CPU the number
of threads decides the order of sums and so the last bits: the checkpoint holds it, and a change is reported.)

Leaves in `out`: ckpt.pt (the newest checkpoint), ckpt-STEP.pt and manifest.json, log.jsonl (a row a logged step), tensorboard/,
loss.png, sample.txt, tokenizer/. With --nas also a verified copy of all that on a share (phoenix/nas.py).
Exit codes: 0 done, 2 a mistake in settings or data, 130 and 143 stopped by Ctrl-C or SIGTERM with a checkpoint written.
"""

import dataclasses
import os
import platform
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from phoenix.signals import exit_on_ctrl_c, stop_requests

if __name__ == "__main__":
    exit_on_ctrl_c()  # the imports below take seconds
import numpy as np

# Threads that wait for each other spin for milliseconds by default. On 2 busy cores, 2 threads made 3.3 thousand tokens/s with
# this and 0.7 thousand without; on idle ones it costs 10 %. OpenMP reads it when torch is imported; no result depends on it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch

from model import ModelConfig, Phoenix
from phoenix import checkpoint, guards, nas, plan, settings, zero_shot
from phoenix.batches import batch_of_step, open_data
from phoenix.config import UserError, load, main_guard
from phoenix.device import compile_checked, out_of_memory_explained, prepare_device, unusable_gpu
from phoenix.optimizers import lr_at, make_optimizer
from phoenix.progress import Progress, duration, say
from phoenix.run_log import RunLog, commit
from phoenix.validation import token_bytes, validate, write_sample


@dataclass(frozen=True)
class Train:
    data: str  # run folder of the data engine: holds shards/ and tokenizer/
    out: str  # folder of this run; the run resumes from a checkpoint in it
    plan: bool = False  # print memory, speed and disk that the run will need, and exit
    card: str | None = None  # GPU to plan for, such as "RTX 3080"; None: the one in this machine, else an RTX 3080 Ti
    # model
    n_layer: int = 12  # layers
    n_head: int = 12  # attention heads
    d_model: int = 768  # width of the residual stream
    d_ff: int = 2560  # hidden width of the SwiGLU; 2560 makes 124.3 M parameters
    vocab_size: int | None = None  # None: the data's; a number must equal it
    qk_norm: bool = False  # normalise queries and keys (exports as Qwen3)
    # data
    verify: bool | None = None  # check the sha256 of the shards before the start; None: on the first start of a run
    seq_len: int = 1024  # tokens a sequence; the model's context
    micro_batch: int = 16  # sequences at a time: as many as memory holds; changes the result by rounding alone
    tokens_per_step: int = 524_288  # tokens of one update: gradients of its micro-batches are accumulated
    steps: int = 3815  # updates in the whole run
    # optimizer
    optimizer: str = "adamw"  # or "muon": Muon for the layers' matrices, AdamW for the rest
    schedule: str = "cosine"  # or "wsd": warm-up, stable, decay
    lr: float = 6e-4  # peak learning rate
    min_lr: float = 6e-5  # learning rate at the end of the schedule
    warmup: int = 256  # steps of linear rise to lr
    wsd_decay: float = 0.2  # fraction of the steps, the last ones, in which "wsd" decays
    beta1: float = 0.9  # AdamW's decay of the mean gradient
    beta2: float = 0.95  # AdamW's decay of the mean square
    weight_decay: float = 0.1  # on matrices, including the embedding, which is the head too; not on the norms' weights
    clip: float = 1.0  # largest norm of the gradient
    z_loss: float = 0.0  # weight of log(Z)^2 in the loss, 1e-4 where logits drift; the log shows cross-entropy alone
    # guards
    rollback_after: int = 5  # non-finite steps in a row (each update is skipped) before the run goes back to a checkpoint
    spike_z: float | None = 8.0  # a loss so many standard deviations above the recent ones sends it back at once; None: never
    rollback_margin: int = 8  # steps before a spike whose data is left out too
    # device
    device: str | None = None  # "cuda", "cpu", ...; None: cuda where there is one
    dtype: str | None = None  # "bfloat16" or "float32" in matrix products; None: bfloat16 where the hardware has it
    compile: bool | None = None  # torch.compile; None: on cuda only (a CPU compiles longer than the quickstart trains)
    grad_checkpointing: bool = False  # recompute activations: 1/10 of their memory for a quarter more work
    deterministic: bool = True  # only operations that repeat bit for bit; without it a resumed run on cuda may differ
    cpu_threads: int | None = None  # threads of a CPU run; None: torch's choice
    gpu_memory_gb: float | None = None  # limit on the GPU's memory in GiB, to try what fits a smaller card; None: all of it
    # validation, log, checkpoints
    eval_every: int = 250  # steps between two validations; one more at the start and at the end
    eval_tokens: int = 1_048_576  # tokens of a validation, always the same windows, spread over the val split
    zero_shot_every: int | None = None  # steps between two zero-shot evaluations; None: no such evaluation
    zero_shot_tasks: tuple[str, ...] = ("hellaswag", "lambada_openai", "arc_easy")  # tasks of evaluate.py
    zero_shot_limit: int = 500  # items of each task
    zero_shot_data: str | None = None  # folder with the tasks' files; None: the Hub
    log_every: int = 1  # steps between two rows of log.jsonl
    ckpt_every: int = 1000  # steps between two checkpoints
    ckpt_minutes: float = 30.0  # minutes between two checkpoints, whichever comes first
    keep_last: int = 3  # newest checkpoints to keep
    keep_every: int | None = None  # keep also the first one at or after each multiple of so many steps
    nas: str | None = None  # smb://user@host/share/path or any fsspec URL: keeps a verified copy of `out`, in the background
    nas_password_file: str | None = None  # a file of mode 600; None: the environment variable PHOENIX_NAS_PASSWORD
    nas_wait: float = 30.0  # minutes that the run's end waits for the copy
    resume_from: str | None = None  # a folder that nas= wrote: where `out` holds no checkpoint, begin from its newest
    sample_tokens: int = 200  # tokens of sample text to write at the end
    seed: int = 1  # of the initial weights, the order of the data and the sample


def main(argv):
    cfg = load(Train, argv)
    settings.check(cfg)
    if cfg.plan:
        return plan.main(cfg, build_model, unusable_gpu())
    with checkpoint.locked(Path(cfg.out)), out_of_memory_explained(cfg):
        return run(cfg, argv)


def build_model(cfg, vocab_size):
    sizes = {name: getattr(cfg, name) for name in ("n_layer", "n_head", "d_model", "d_ff", "qk_norm")}
    return Phoenix(ModelConfig(vocab_size=vocab_size, context=cfg.seq_len, **sizes))


def accumulate(model, tokens_BT, targets_BT, micro_batch, device, z_loss=0.0):
    """
    Adds the gradient of the mean loss over all targets, micro-batch by micro-batch. -> their mean cross-entropy, a tensor

    Each micro-batch is divided by the number of all targets, so N micro-batches of 1 give the same as 1 of N.
    """
    mean_nats = torch.zeros((), device=device.torch_device)
    for tokens, targets in zip(tokens_BT.split(micro_batch), targets_BT.split(micro_batch), strict=True):
        tokens, targets = (t.to(device.torch_device, non_blocking=True) for t in (tokens, targets))
        with device.precision():
            loss, nats = model.objective(tokens, targets, z_loss)
        (loss / targets_BT.numel()).backward()
        mean_nats += nats.detach() / targets_BT.numel()
    return mean_nats


def describe(cfg, argv, device, data, model, compiled):
    """The arithmetic of the run and its versions, {name: text}: printed, and the first row of log.jsonl."""
    flops, tokens = model.flops_per_token(), cfg.steps * cfg.tokens_per_step
    micro_batches = cfg.tokens_per_step // (cfg.micro_batch * cfg.seq_len)
    epochs = tokens / (data.train.count * cfg.seq_len)
    about = {
        "arguments": " ".join(argv),
        "commit": commit(),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        "device": f"{device.torch_device.type} ({device.name}), {device.dtype}, {'compiled' if compiled else 'not compiled'}",
        "data": f"{cfg.data}, {data.train_tokens:,} tokens to train on, corpus {data.shards_sha256[:12]}",
        "model": f"{model.parameter_count() / 1e6:.1f} M parameters ({model.parameter_count():,}), vocabulary {data.vocab_size:,}",
        "step": f"{cfg.tokens_per_step:,} tokens = {micro_batches} x {cfg.micro_batch} x {cfg.seq_len}",
        "run": f"{cfg.steps:,} steps = {tokens / 1e6:,.1f} M tokens = {epochs:.2f} epochs",
        "work": f"{flops / 1e6:.1f} MFLOP a token (6 N + 12 L D T), {tokens * flops:.2e} FLOP in all",
    }
    if device.peak_flops:
        about["mfu"] = f"of {device.peak_flops / 1e12:.1f} TFLOPS, dense, fp32 sums; recomputed activations do not count as work"
    return about


def validate_and_log(model, data, cfg, bytes_V, device, state, log):
    where = device.torch_device, device.precision
    result = validate(model, data.val, data.val_windows, cfg.micro_batch, bytes_V, *where)
    state.val_loss, state.val_bpb = result["val_loss"], result["val_bpb"]
    log.row(step=state.step, tokens=state.tokens, **result)
    say(f"step {state.step}: val loss {state.val_loss:.4f} nats per token, {state.val_bpb:.4f} bits per byte")


def score_and_log(model, cfg, out, device, state, log):
    what = out / "tokenizer", cfg.zero_shot_tasks, cfg.zero_shot_limit, cfg.zero_shot_data
    if scores := zero_shot.score(model, *what, device.torch_device):
        log.row(step=state.step, tokens=state.tokens, **scores)
        say(f"step {state.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))


def measure(cfg, model, device, step_secs):
    """Numbers of a step's row in log.jsonl: speed, fraction of the card's peak, memory and power."""
    rate = cfg.tokens_per_step / step_secs
    mfu = rate * model.flops_per_token() / device.peak_flops if device.peak_flops else None
    return {"tokens_per_sec": round(rate), "mfu": mfu, "memory_gb": device.memory_gb(), "watts": device.watts()}


def show(progress, loss, lr, speed, mirror):
    notes = {"loss": f"loss {loss:.3f}", "lr": f"lr {lr:.1e}", "speed": f"{speed['tokens_per_sec']:,} tokens/s"}
    notes["mfu"] = f"MFU {speed['mfu']:.0%}" if speed["mfu"] else ""
    notes["watts"] = f"{speed['watts']:.0f} W" if speed["watts"] else ""
    notes["nas"] = mirror.status() if mirror else ""
    progress.update(1, **{name: note for name, note in notes.items() if note})


def save(out, cfg, header, state, model, optimizer, device):
    contents = header | dataclasses.asdict(state) | checkpoint.tensors(model, optimizer, device)
    checkpoint.save_checkpoint(out, contents, cfg.keep_last, cfg.keep_every)


def run(cfg, argv):
    """The run, from its newest checkpoint in `out` to its end or a signal. -> exit code"""
    # ---- data
    device = prepare_device(cfg)
    out, data = Path(cfg.out), open_data(cfg)
    if cfg.zero_shot_every:
        cfg = dataclasses.replace(cfg, zero_shot_tasks=zero_shot.fitting(data.tokenizer_json.parent, cfg))
    bytes_V = token_bytes(data.tokenizer_json).to(device.torch_device)

    # ---- model and optimizer
    torch.manual_seed(cfg.seed)
    model = build_model(cfg, data.vocab_size).to(device.torch_device)  # built on the CPU: the same weights for every device
    model.model.checkpointing = cfg.grad_checkpointing
    optimizer = make_optimizer(model, cfg)
    compiled = cfg.compile if cfg.compile is not None else device.cuda
    if compiled:
        tokens_BT, targets_BT = (t[: cfg.micro_batch].to(device.torch_device) for t in batch_of_step(data, cfg, 0))
        problem = compile_checked(model, tokens_BT, targets_BT, device, cfg.z_loss, optimizer)
        if problem:
            say(f"the model runs uncompiled, slower and with more memory, because {problem}")
            compiled = False

    # ---- the checkpoint to resume from
    if cfg.resume_from and not checkpoint.checkpoint_files(out):
        nas.fetch(cfg.resume_from, out, cfg.nas_password_file, say)
    used = dataclasses.asdict(cfg) | {"dtype": device.dtype, "compile": compiled, "cpu_threads": device.threads}
    header = checkpoint.header(model.cfg, used, data)
    saved = checkpoint.load_newest(out, header, say)
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data.tokenizer_json.parent, out / "tokenizer", dirs_exist_ok=True)  # for whoever loads the checkpoint
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error}") from error
    state = checkpoint.restore(saved, model, optimizer, device) if saved else checkpoint.RunState()
    del saved  # a second copy of the weights
    resumed_at = state.step

    # ---- the log
    log = RunLog(out, until=resumed_at or -1, left_out=state.left_out)  # -1: step 0 is validated and logged again
    mirror = nas.Mirror(cfg.nas, out, cfg.keep_last, cfg.keep_every, cfg.nas_password_file, say) if cfg.nas else None
    about = describe(cfg, argv, device, data, model, compiled)
    title = f"{out.name}: {model.parameter_count() / 1e6:.1f} M parameters"
    say("\n".join(f"{name:<10}{text}" for name, text in about.items()))
    if resumed_at >= cfg.steps:
        say(f"{out} is done already: {resumed_at} of {cfg.steps} steps")
    else:
        if resumed_at:
            say(f"going on from step {resumed_at} of {cfg.steps}")
        log.row(step=resumed_at, tokens=state.tokens, started=time.strftime("%Y-%m-%dT%H:%M:%S%z"), about=about)

    # ---- the loop
    saved_at, started = time.perf_counter(), time.perf_counter() - state.secs
    rollbacks, progress, stopped = guards.Rollbacks(out, cfg), Progress("training", cfg.steps, state.step, "step"), False
    with stop_requests() as stops, ThreadPoolExecutor(1) as reader, progress:
        next_batch = reader.submit(batch_of_step, data, cfg, state.step, state.left_out, device.cuda)
        if state.step == 0:
            validate_and_log(model, data, cfg, bytes_V, device, state, log)
            state.first_val_loss, state.first_val_bpb = state.val_loss, state.val_bpb
            if not checkpoint.checkpoint_files(out):  # this one serves rollbacks, and finds an unwritable disk before training
                save(out, cfg, header, state, model, optimizer, device)
        if mirror:
            mirror.changed()
        while state.step < cfg.steps and not stopped:
            step_began = time.perf_counter()
            tokens_BT, targets_BT = next_batch.result()
            next_batch = reader.submit(batch_of_step, data, cfg, state.step + 1, state.left_out, device.cuda)
            lr = lr_at(state.step, cfg)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = accumulate(model, tokens_BT, targets_BT, cfg.micro_batch, device, cfg.z_loss).item()
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip).item()
            action, reason = guards.check_step(state, loss, grad_norm, cfg)
            if action == "update":
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if action == "skip":
                say(f"step {state.step + 1}: {reason}: update skipped ({state.skipped} in all)")
            if action == "roll back":
                bad_step = state.step + 1
                state = checkpoint.restore(rollbacks.go_back(state, reason), model, optimizer, device)
                log.rewind(state.step, state.left_out)
                log.row(step=state.step, tokens=state.tokens, rollback_from=bad_step, reason=reason, left_out=state.left_out)
                progress.rewind(state.step)
                next_batch = reader.submit(batch_of_step, data, cfg, state.step, state.left_out, device.cuda)
                continue
            state.step += 1
            state.tokens += cfg.tokens_per_step
            last, stopped = state.step == cfg.steps, bool(stops)  # stops is read once: a signal during a save is the next step's
            step_secs = time.perf_counter() - step_began
            speed = measure(cfg, model, device, step_secs)
            state.kwh += (speed["watts"] or 0.0) * step_secs / 3.6e6
            if last or state.step % cfg.log_every == 0:
                update = {"loss": loss, "grad_norm": grad_norm, "lr": lr}
                log.row(step=state.step, tokens=state.tokens, **update, **speed, skipped=state.skipped)
            show(progress, loss, lr, speed, mirror)
            if last or state.step % cfg.eval_every == 0:
                validate_and_log(model, data, cfg, bytes_V, device, state, log)
                if not last:
                    log.plot(f"{title}, {state.val_bpb:.3f} bits per byte")
            score = cfg.zero_shot_every and (last or state.step % cfg.zero_shot_every == 0)
            minutes = (time.perf_counter() - saved_at) / 60
            if last or stopped or score or state.step % cfg.ckpt_every == 0 or minutes > cfg.ckpt_minutes:
                saved_at, state.secs = time.perf_counter(), time.perf_counter() - started
                log.flush()
                save(out, cfg, header, state, model, optimizer, device)
                if mirror:
                    mirror.changed()
            if score:
                score_and_log(model, cfg, out, device, state, log)

    # ---- the end
    log.plot(f"{title}, {state.val_bpb:.3f} bits per byte")
    log.close()
    if state.step < cfg.steps:
        if mirror:
            say(mirror.close(secs=10))  # a user who stops a run does not want to wait
        name = signal.Signals(stops[0]).name
        say(f"stopped by {name} after step {state.step}, saved in {out / 'ckpt.pt'}: the same command goes on from there")
        return 128 + stops[0]
    write_sample(out / "sample.txt", model, data, cfg, device.torch_device)
    if mirror:
        say(mirror.close(secs=60 * cfg.nas_wait))
    cost = f"in {duration(state.secs)}" + (f", {state.kwh:.2f} kWh" if state.kwh else "")
    loss = f"val loss {state.first_val_loss:.3f} -> {state.val_loss:.3f} nats per token"
    bits = f"{state.first_val_bpb:.3f} -> {state.val_bpb:.3f} bits per byte"
    say(f"{state.step:,} steps, {state.tokens / 1e6:,.1f} M tokens {cost}: {loss}, {bits}; {out / 'ckpt.pt'}, {out / 'loss.png'}")
    return 0


if __name__ == "__main__":
    main_guard(main)
