"""
The device that trains: its dtype, memory and power, and compiling where that is safe.

A compiled model is compared with the plain one before the first step, since compilers have given NaN on some machines and not
on others. Where loss or gradients of one micro-batch differ, or no compiler is installed, the run goes on uncompiled and says so.
"""

import contextlib
import functools
import importlib.util
import os
import platform
import re
import shutil
import sysconfig
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._functorch.config

from phoenix import ops
from phoenix.config import UserError, one_line
from phoenix.plan import card_named
from phoenix.progress import say

DRIVERS = {13: 580, 12: 525}  # the oldest Linux driver of each major version of CUDA: NVIDIA's release notes of the toolkit
WSL_SPARE = 2**29  # bytes of the GPU that stay free under WSL2, for what Windows draws


@dataclass(frozen=True)
class Device:
    torch_device: torch.device
    dtype: str  # of the matrix products, "bfloat16" or "float32"
    name: str
    threads: int  # of the CPU
    peak_flops: float | None  # a second, as plan.Card counts them; None: the card is not in plan.py's table

    @property
    def cuda(self):
        return self.torch_device.type == "cuda"

    def precision(self):
        """The autocast of a forward pass, a context manager."""
        return torch.autocast(self.torch_device.type, torch.bfloat16) if self.dtype == "bfloat16" else nullcontext()

    def rng_state(self):
        """The state of torch's random generators: {"cpu": ..., "cuda": ... or None}."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(self.torch_device) if self.cuda else None}

    def set_rng_state(self, state):
        torch.set_rng_state(state["cpu"])
        if self.cuda and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.torch_device)

    def memory_gb(self):
        """Peak memory so far: what the GPU's allocator holds, or the process on a CPU; None where the system does not say."""
        if self.cuda:
            return torch.cuda.max_memory_reserved(self.torch_device) / 1e9
        with contextlib.suppress(ImportError):  # Windows has no resource
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        return None

    @functools.cached_property
    def _has_nvml(self):
        return self.cuda and importlib.util.find_spec("pynvml") is not None

    def watts(self):
        """Power that the GPU draws now; None where NVML does not answer."""
        if self._has_nvml:
            with contextlib.suppress(Exception):  # a driver's or container's error must not end a run for a number in its log
                return torch.cuda.power_draw(self.torch_device) / 1000
        return None


def unusable_gpu():
    """A sentence on why torch cannot use the GPU that this machine shows, or None where it can, or has none to use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")  # the user, or Ray for its CPU tasks, wants none
    wsl = Path("/dev/dxg").exists() and Path("/usr/lib/wsl/lib/libcuda.so.1").exists()  # other makers' GPUs have /dev/dxg too
    if torch.cuda.is_available() or torch.version.cuda is None or hidden or not (wsl or Path("/dev/nvidiactl").exists()):
        return None
    try:
        torch.cuda.init()
        reason = "no GPU was found"
    except Exception as error:
        reason = str(error).split(". ")[0].split("\n")[0]
    needs = DRIVERS.get(int(torch.version.cuda.split(".")[0]))
    return (
        f"torch cannot use this machine's NVIDIA GPU ({reason}): torch {torch.__version__} is built for CUDA {torch.version.cuda}"
        + (f", which needs driver {needs} or newer" if needs else "")
        + ": update the driver, or install torch from https://download.pytorch.org/whl/cu126 or cu128 for an older one,"
        + " or give --device=cpu"
    )


def unsupported_gpu(torch_device):
    """A sentence on why this build of torch has no code for the card, or None."""
    archs = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", arch) for arch in torch.cuda.get_arch_list()]
    own = torch.cuda.get_device_capability(torch_device)
    of_archs = [(match[1], (int(match[2]), int(match[3]))) for match in archs if match]
    runs = [arch <= own and (kind == "compute" or arch[0] == own[0]) for kind, arch in of_archs]
    if any(runs) or not runs:
        return None
    return (
        f"torch {torch.__version__} has no code for {torch.cuda.get_device_name(torch_device)}, whose compute capability is"
        f" {own[0]}.{own[1]}: install it from https://download.pytorch.org/whl/cu126, for older cards, or give --device=cpu"
    )


def default_device():
    """ "cuda" where torch sees a GPU, else "cpu". UserError for a GPU that it cannot use: hours there are weeks on a CPU."""
    if problem := unusable_gpu():
        raise UserError(problem)
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare_device(cfg):
    """The device that the settings name, with torch set up for it. UserError where the machine has no such device."""
    try:
        torch_device = torch.device(cfg.device or default_device())
    except RuntimeError as error:
        raise UserError(f"device={cfg.device} is not known to torch: cpu, cuda or cuda:1 would be right") from error
    cuda = torch_device.type == "cuda"
    if torch_device.type not in ("cpu", "cuda"):
        raise UserError(f"device={cfg.device} is not supported for training: cpu, cuda or cuda:1 would be right")
    if cuda and not torch.cuda.is_available():
        raise UserError(unusable_gpu() or "device=cuda, but torch sees no GPU: install a CUDA build of torch, or leave device out")
    if cfg.cpu_threads:
        torch.set_num_threads(cfg.cpu_threads)
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it, and reads it at its first use
        torch.use_deterministic_algorithms(True)  # with warn_only, flash attention's backward would add in any order
        torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that writes all memory twice
    threads, cpu = torch.get_num_threads(), torch.cpu.get_capabilities()
    if not cuda:
        name = f"{cpu.get('cpu_name', platform.machine())}, {threads} threads"
        has_bf16 = cpu.get("amx_bf16", False)  # AMX makes bfloat16 1.6x as fast as float32, AVX-512 alone 0.6x
        return Device(torch_device, cfg.dtype or ("bfloat16" if has_bf16 else "float32"), name, threads, None)
    torch_device = prepare_gpu(torch_device, cfg.gpu_memory_gb)
    name = torch.cuda.get_device_name(torch_device)
    dtype = cfg.dtype or ("bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32")
    if dtype != (cfg.dtype or "bfloat16"):
        say(f"{name} has no bfloat16: it trains in float32, slower and with more memory")
    card = card_named(name)
    return Device(torch_device, dtype, name, threads, card.tflops * 1e12 if card else None)


def prepare_gpu(torch_device, limit_gb):
    """Sets the precision and the memory limit of a GPU. -> its device with an index, which some functions of torch require"""
    torch_device = torch.device("cuda", torch.cuda.current_device() if torch_device.index is None else torch_device.index)
    if torch_device.index >= torch.cuda.device_count():
        raise UserError(f"device={torch_device}, but this machine's GPUs are cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if torch.version.cuda and (problem := unsupported_gpu(torch_device)):
        raise UserError(problem)
    torch.set_float32_matmul_precision("high")  # TF32 for products that are not bfloat16
    total, limits = torch.cuda.get_device_properties(torch_device).total_memory, []
    if limit_gb is not None:
        limits.append(limit_gb * 2**30)
    if "microsoft" in platform.release().lower():  # WSL2: its driver spills into the system's memory, slowly, instead of failing
        limits.append(max(torch.cuda.mem_get_info(torch_device)[0] - WSL_SPARE, WSL_SPARE))
    if limits:
        torch.cuda.set_per_process_memory_fraction(min(1.0, min(limits) / total), torch_device)
    return torch_device


OUT_OF_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "DefaultCPUAllocator: can't allocate memory")


@contextlib.contextmanager
def out_of_memory_explained(cfg):
    """Turns torch's out-of-memory errors into a UserError that says what to change."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        half = "" if cfg.micro_batch == 1 else f"halve micro_batch={cfg.micro_batch}, "
        checkpointing = "" if cfg.grad_checkpointing else "give --grad_checkpointing=True, "
        reason = ". ".join(str(error).split("\n")[0].split(". ")[:2]).rstrip(".")
        advice = f"{half}{checkpointing}or end other programs"
        raise UserError(f"out of memory: {advice}; --plan says which micro_batch fits ({reason})") from error


# ---- compiling -------------------------------------------------------------------------------------------------------


def gradients(model, tokens_BT, targets_BT, device, z_loss):
    """(mean loss, [gradient of each parameter]) of one micro-batch; leaves no gradient in the model."""
    with device.precision():
        loss, _ = model.objective(tokens_BT, targets_BT, z_loss)
    (loss / targets_BT.numel()).backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return loss.item() / targets_BT.numel(), grads


def relative_difference(grads, others):
    """|a - b| / |a| over the gradients of all parameters together."""
    squares = sum((a - b).square().sum() for a, b in zip(grads, others, strict=True)) / sum(a.square().sum() for a in grads)
    return squares.sqrt().item()


def missing_for_triton():
    """What Triton needs to build its launchers and this machine lacks, a sentence, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton finds no C compiler: install gcc (the package build-essential), or name one in CC"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        return f"Triton needs {header}: install python{sysconfig.get_python_version()}-dev (python3-devel on Fedora)"
    return None


def moments_like(optimizer):
    """Memory of the size that the optimizer's moments will take: AdamW keeps two of each parameter, Muon one."""
    groups = [(2 if "betas" in group else 1, group["params"]) for group in optimizer.param_groups]
    return [torch.empty_like(p) for copies, params in groups for p in params for _ in range(copies)]


def compile_checked(model, tokens_BT, targets_BT, device, z_loss=0.0, optimizer=None):
    """
    Compiles the decoder and the loss, and compares them with the plain model on this micro-batch.

    Returns None, or the reason why the model stays uncompiled. Allowed in bfloat16, which keeps 8 bits: 2 % in the loss, 10 % in
    the gradients (1 % was seen on a CPU); a tenth of that in TF32, a hundredth in fp32. Out of memory is raised: the check holds
    what a step will hold, and the plain model needs more.
    """
    if device.cuda and (lacks := missing_for_triton()):
        return lacks
    checkpointing = model.model.checkpointing
    tolerance = 1.0 if device.dtype == "bfloat16" else 0.1 if device.cuda else 0.01
    phase, moments = "trying the plain model", None
    try:
        model.model.checkpointing = True  # without it the plain activations of a full micro-batch may not fit
        # kept: they take the room of the gradients that a step's second micro-batch is added to
        plain_loss, plain_grads = gradients(model, tokens_BT, targets_BT, device, z_loss)
        model.model.checkpointing, phase = checkpointing, "compiling"
        moments = moments_like(optimizer) if device.cuda and optimizer else None
        # for the backward pass, keep the results of matrix products and attention and recompute the rest, fused into the
        # kernels that read it: see dev/LOG.md for the memory it saves
        torch._functorch.config.aggressive_recomputation = True
        # one graph a shape: guessing which sizes may vary makes slower kernels
        model.model.compile(dynamic=False)
        ops.kernel["compiled"] = torch.compile(ops.loss_and_gradient, dynamic=False)
        loss, grads = gradients(model, tokens_BT, targets_BT, device, z_loss)
        grads_apart, loss_apart = relative_difference(plain_grads, grads), abs(loss - plain_loss) / abs(plain_loss)
        if grads_apart <= 0.1 * tolerance and loss_apart <= 0.02 * tolerance:  # false for NaN
            return None
        reason = f"compiled and plain differ: loss {loss:.5f} and {plain_loss:.5f}, gradients by {grads_apart:.2%}"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler may raise anything, and the plain model trains without it
        text = one_line(error)
        reason = f"{phase} failed: {type(error).__name__}: {text if len(text) <= 300 else '... ' + text[-300:]}"  # causes come last
    finally:
        del moments
        plain_grads = grads = None
        if device.cuda:
            torch.cuda.empty_cache()  # the run's peak memory must not count the check's
            torch.cuda.reset_peak_memory_stats(device.torch_device)
    model.model.checkpointing = checkpointing
    model.zero_grad(set_to_none=True)
    uncompile(model)
    return reason


def uncompile(model):
    """Makes the model and the loss plain again."""
    model.model._compiled_call_impl = None
    ops.kernel.pop("compiled", None)
    torch._dynamo.reset()
