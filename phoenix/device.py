"""
The machine that trains: device and dtype, compiled where that is safe, its memory and power.

A compiled model is tried before the first step: the loss and the gradients of one micro-batch must be those of the plain model,
for compilers have been known to give NaN on some machines and not on others. Where they are not, or there is no compiler, the run
goes on uncompiled and says so.
"""

import contextlib
import functools
import importlib.util
import os
import platform
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch._functorch.config

from phoenix import cross_entropy
from phoenix.config import UserError
from phoenix.plan import card_named


@dataclass(frozen=True)
class Machine:
    device: torch.device
    dtype: str  # of the matrix products, "bfloat16" or "float32"
    name: str
    threads: int  # of the CPU
    peak_flops: float | None  # a second, dense bfloat16 with fp32 sums; None where the card is not in plan.py's table

    @property
    def cuda(self):
        return self.device.type == "cuda"

    def precision(self):
        """The autocast of a forward pass, a context."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bfloat16" else nullcontext()

    def memory_gb(self):
        """Greatest memory of the tensors so far: of the GPU; of the process on a CPU."""
        if self.cuda:
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        with contextlib.suppress(ImportError):  # Windows has no resource
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        return None

    @functools.cached_property
    def _has_nvml(self):
        return self.cuda and importlib.util.find_spec("pynvml") is not None

    def watts(self):
        """Power that the GPU draws now, where NVML answers; else None."""
        if self._has_nvml:
            with contextlib.suppress(Exception):  # whatever a driver or a container says: it is a number in the log
                return torch.cuda.power_draw(self.device) / 1000
        return None


def prepare(cfg):
    """The machine that the settings ask for, torch set up for it. UserError where there is none."""
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
    cpu = torch.cpu.get_capabilities()
    has_bf16 = cuda or cpu.get("amx_bf16", False)  # 1.6x the speed of float32 there; with AVX-512 alone 0.6x
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; read at its first use
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that would write all memory twice
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32 for what is not bfloat16
        if cfg.gpu_memory_gb is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, cfg.gpu_memory_gb * 2**30 / total), device)
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if cuda else f"{cpu.get('cpu_name', platform.machine())}, {threads} threads"
    card = card_named(name) if cuda else None
    dtype = cfg.dtype or ("bfloat16" if has_bf16 else "float32")
    return Machine(device, dtype, name, threads, card.tflops * 1e12 if card else None)


# ---- compiling -------------------------------------------------------------------------------------------------------


def gradients(model, tokens_BT, targets_BT, machine, z_loss):
    """(loss, [gradient of each parameter]) of one micro-batch; the gradients of the model are as before: none."""
    with machine.precision():
        loss, _ = model.objective(tokens_BT, targets_BT, z_loss)
    (loss / targets_BT.numel()).backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return loss.item() / targets_BT.numel(), grads


def difference(ones, others):
    """|a - b| / |a| over all the parameters' gradients together."""
    squares = sum((a - b).square().sum() for a, b in zip(ones, others, strict=True)) / sum(a.square().sum() for a in ones)
    return squares.sqrt().item()


def compile_checked(model, tokens_BT, targets_BT, machine, z_loss=0.0):
    """
    Compiles the decoder and the loss, and compares with the plain model on this micro-batch: loss within 2 %, gradients within
    10 % in bfloat16, which keeps 8 bits (1 % apart on a CPU); a tenth of that in TF32, a hundredth in fp32. -> None, or the reason
    why the model stays as it was.
    """
    if machine.cuda and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    as_set, exact = model.model.checkpointing, 1.0 if machine.dtype == "bfloat16" else 0.1 if machine.cuda else 0.01
    doing = "trying the plain model"
    try:
        model.model.checkpointing = True  # plain and whole, the activations of a full micro-batch may not fit
        plain_loss, plain = gradients(model, tokens_BT, targets_BT, machine, z_loss)
        model.model.checkpointing, doing = as_set, "compiling"
        # of what a backward pass needs, keep the results of matrix products and attention and make the rest again, fused into
        # the kernels that read it: see dev/LOG.md for what that saves
        torch._functorch.config.aggressive_recomputation = True
        # a graph for each shape: guessing which sizes may vary makes slower kernels
        model.model.compile(dynamic=False)
        cross_entropy.kernel["compiled"] = torch.compile(cross_entropy.loss_and_gradient, dynamic=False)
        loss, grads = gradients(model, tokens_BT, targets_BT, machine, z_loss)
        apart, loss_apart = difference(plain, grads), abs(loss - plain_loss) / abs(plain_loss)
        if machine.cuda:
            torch.cuda.empty_cache()  # the memory of the check is not that of the run
            torch.cuda.reset_peak_memory_stats(machine.device)
        if apart <= 0.1 * exact and loss_apart <= 0.02 * exact:  # NaN is not
            return None
        reason = f"compiled and plain differ: loss {loss:.5f} and {plain_loss:.5f}, gradients by {apart:.2%}"
    except Exception as error:  # whatever a compiler raises: there is a way without it
        reason = f"{doing} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    model.model.checkpointing = as_set
    model.zero_grad(set_to_none=True)
    uncompile(model)
    return reason


def uncompile(model):
    model.model._compiled_call_impl = None
    cross_entropy.kernel.pop("compiled", None)
    torch._dynamo.reset()
