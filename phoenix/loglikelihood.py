"""
A language model as a function: token sequences -> the log-probability of their last tokens, with as little work as possible.

    lm = load_model("out/125m/ckpt.pt")
    score(lm, [[(tokens, 3)]])            # the last 3 of the tokens -> [[(log-probabilities (3,), were they all the likeliest?)]]

Six things make it fast, and change a score by float32's rounding alone: the sequences of one item share the forward pass of what
they have in common at the start, rows of like length share a batch, the head and the last layer's feed-forward part are left out
where no token is scored, the logits are made in one place of memory again and again, on a CPU each core has a batch of its own,
and on an AMD processor oneDNN multiplies in place of MKL.

Shapes: B rows of a batch, T positions, P scored tokens, S places that predict them (fewer, where choices begin alike), D width
of the states, V vocabulary; R and C are some of the places at a time, Q the tokens that those predict.
"""

import math
import os
import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile
from pathlib import Path

# Threads that wait for each other spin for milliseconds by default, which on busy cores costs several times the work itself. Read
# by OpenMP when torch is imported; it changes no result.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from export_hf import as_transformers
from model import from_checkpoint
from phoenix.config import UserError
from phoenix.model_card import sha256_file
from phoenix.results import progress

BATCH_TOKENS = {"cuda": 32768, "cpu": 1024}  # at most, to begin with; halved where memory does not take it
BATCH_STATE = 400_000  # floats of a batch's hidden states on a CPU: with more, what passes between the layers leaves the cache
HEAD_LOGITS = {"cuda": 2**25, "cpu": 2**24}  # in a product of the head; a CPU makes them in memory that each thread keeps
HEAD_ROWS = 256  # positions in it on a CPU: with 80 a core does 108 GFLOP/s of 128 x 50,257 (Xeon), with 256 it does 131
FRESH_LOGITS = 2**22  # in it where it cannot be made in memory that is kept: of more than 32 MB malloc gives the pages back
SOFTMAX_LOGITS = {"cuda": 2**25, "cpu": 2**19}  # that go through log_softmax at a time and stay in the cache
MKL_ROWS = 16  # of fewer MKL's products may have other bits than of many
PACKED_BYTES = 2**31  # of a model whose weights are kept a second time, packed
TOLERANCE = 1e-4  # nats between a log-likelihood and the harness's
ROUNDING = 1e-6  # nats by which the shortcuts are taken to move a log-probability at least
SHOWING = 8  # of the sequences that are scored again, which show by how much it is
DRAWS = 256  # of what float32 makes of a sum: 64 missed by more than a step once in 40,000

# Whose attention is decided by the mask and the positions given to it alone, so that columns may stand where they like. Any other
# (windows, chunks, recurrence, a cache of its own) reads one sequence a row: a trial on short inputs does not show a long window.
SHARING_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "opt", "phoenix", "phoenix_qk_norm")
BY_LENGTH = ("dynamic", "longrope")  # rotary frequencies that depend on the longest row of a batch: such rows go alone


@dataclass
class LanguageModel:
    model: torch.nn.Module  # of transformers, fp32
    tokenizer: object
    context: int  # the most tokens that the model reads
    batch_tokens: int  # of a forward pass
    about: dict  # what the JSON says of it
    shares: int  # inputs up to which sequences may share their beginning: 0 where the model's positions forbid it
    rounding: float = ROUNDING  # nats by which the shortcuts, which add in other orders, move a log-probability
    headed: bool = True  # the logits are the head's product with the last hidden state, no more
    last_mlp: "OnlyAt | None" = None  # of the last layer, where it may be left out at positions that are not scored
    onednn: "OneDNN | None" = None  # what multiplies in place of torch's own
    workers: int = 1  # threads that score a batch each, on one core each; 1: one batch at a time, on all cores
    steady: bool = False  # whether one core, and the head's product with some of the places, give the bits of all
    one_by_one: bool = False  # whether each row has a forward pass of its own, and a batch shares products of the head only
    kept: threading.local = field(default_factory=threading.local)  # the memory of each thread's logits


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_model(path, device=None, batch_tokens=None):
    """
    A checkpoint's weights in transformers' class of the same architecture (their names are the same), or a folder's model.

    So one scorer serves every model, and what is scored is what export_hf.py exports. UserError where neither can be loaded.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = Path(path)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if path.is_dir():
        model, tokenizer, unused = load_folder(path)
        weights, tokens = sorted([*path.glob("*.safetensors"), *path.glob("pytorch_model*.bin")]), path / "tokenizer.json"
        about = {"model": str(path), "checkpoint": None, "unused_weights": unused}
    else:
        phoenix, checkpoint = from_checkpoint(path)
        model, weights, tokens = as_transformers(phoenix), [path], path.parent / "tokenizer" / "tokenizer.json"
        if not tokens.is_file() or sha256_file(tokens) != checkpoint["tokenizer_sha256"]:
            raise UserError(f"{tokens} is not the tokenizer that {path} was trained with: copy it from the run's data")
        tokenizer = AutoTokenizer.from_pretrained(tokens.parent)
        about = {"model": str(path), "checkpoint": {k: checkpoint[k] for k in ("step", "tokens", "settings", "model_config")}}
    about |= {
        "parameters": model.num_parameters(),
        "weights_sha256": {file.name: sha256_file(file) for file in weights},
        "tokenizer_sha256": sha256_file(tokens) if tokens.is_file() else None,
        "files_sha256": {file.name: sha256_file(file) for file in described_by(tokens.parent)},
    }
    context = context_of(model.config.get_text_config(), tokenizer)
    try:
        torch.zeros(1, device=device).item()  # whether it computes: "meta" does not
        batch_tokens = batch_tokens or tokens_that_pay(torch.device(device).type, model.get_input_embeddings().weight.shape[1])
        lm = LanguageModel(model.eval().to(device), tokenizer, context, batch_tokens, about, shares=context)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    check_shortcuts(lm)
    return lm


def context_of(cfg, tokenizer):
    """The most tokens that a model reads, looked for where the harness does: in its config, then in its tokenizer's."""
    lengths = [getattr(cfg, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx")]
    lengths += [tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None, 2048]  # 10^30 stands for none
    return int(next(length for length in lengths if length is not None))


def tokens_that_pay(kind, width):
    """Tokens of a forward pass on a device of this kind: on a CPU 1,024 for hidden states of up to 390 floats, 520 for 768."""
    most = BATCH_TOKENS.get(kind, BATCH_TOKENS["cpu"])
    return most if kind != "cpu" else max(1, min(most, BATCH_STATE // width))


def described_by(folder):
    """The files beside the weights on which a score depends: the config, and all that a tokenizer is read from."""
    patterns = ("config.json", "*token*.json", "vocab*", "merges*", "*.model", "*.tiktoken", "*.spm", "*.bpe")
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def load_folder(path):
    """
    (model, tokenizer, names of the weights that its config.json has no place for) of a folder of transformers; no code of the
    folder is run, our own exports' classes are known here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from phoenix.modeling_phoenix import PhoenixConfig, PhoenixForCausalLM, PhoenixQKNormConfig, PhoenixQKNormForCausalLM

    if not (path / "config.json").is_file():
        raise UserError(f"{path} is a folder without config.json: give a checkpoint (ckpt.pt) or a folder of transformers")
    for config, model in ((PhoenixConfig, PhoenixForCausalLM), (PhoenixQKNormConfig, PhoenixQKNormForCausalLM)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)
    try:
        closed = {"trust_remote_code": False, "local_files_only": True}
        model, report = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True, **closed)
        tokenizer = AutoTokenizer.from_pretrained(path, **closed)
    except Exception as error:  # damaged files make transformers and tokenizers raise what they like
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"{path} cannot be loaded by transformers: {reason}") from error
    if report["missing_keys"]:  # transformers only warns, and draws them at random
        raise UserError(f"{path} lacks weights that its config.json asks for: {', '.join(sorted(report['missing_keys'])[:3])}")
    unused = sorted(report["unexpected_keys"])
    if unused:
        print(f"warning: {path}: config.json has no place for {len(unused)} weights, such as {unused[0]}", file=sys.stderr)
    last, size = max(tokenizer.get_vocab().values(), default=-1), model.get_input_embeddings().weight.shape[0]
    if last >= size:
        raise UserError(
            f"the tokenizer in {path} has a token with the id {last:,}, the model knows {size:,} tokens: not its tokenizer"
        )
    if len(set(tokenizer("The quick brown fox jumps over 13 lazy dogs.", add_special_tokens=False)["input_ids"])) < 2:
        raise UserError(f"the tokenizer in {path} knows no text: its files (tokenizer.json or a vocabulary) are missing or empty")
    return model, tokenizer, unused


def check_shortcuts(lm):
    """
    Tries on random tokens whether the shortcuts are exact for this model, and leaves them off where not: a softcap forbids the
    bare head, positions or attention that count columns forbid a shared beginning, and a model that makes much of the last bit of
    a number is asked one sequence at a time. UserError where the scores are no numbers, or where a token sees later ones, which is
    no language model that can be scored.
    """
    if ropes(lm.model.config.get_text_config()) & set(BY_LENGTH):
        lm.batch_tokens = 1
    draw = torch.Generator().manual_seed(0)
    size = max(1, min(64, lm.context // 2))
    start, *ends = torch.randint(lm.model.config.get_text_config().vocab_size, (4, size), generator=draw).tolist()
    tokens = torch.tensor([start + end for end in ends[:2]], device=lm.model.device)
    with torch.inference_mode():
        logits = lm.model(tokens, use_cache=False).logits
    if (logits[0, : len(start)] - logits[1, : len(start)]).abs().max() > 1e-4 * logits.abs().max():
        raise UserError(f"{type(lm.model).__name__} is no causal model: what comes later changes its answer to what comes before")
    item = [(start + end, len(end)) for end in (ends[0], ends[1][: size // 2 + 1], ends[2][: size // 4 + 1])]
    apart = [[sequence] for sequence in item]
    lm.headed, lm.last_mlp, lm.onednn = False, None, None
    want = [scored for row in score(alone(lm), apart) for scored in row]
    lm.batch_tokens = lm.batch_tokens if agrees(lm, apart, 0, want) else 1
    lm.headed = bare_head(lm.model, tokens, logits)
    lm.headed = lm.headed and agrees(lm, apart, 0, want)
    lm.last_mlp = last_mlp(lm.model)
    lm.last_mlp = lm.last_mlp if agrees(lm, apart, 0, want) else None
    lm.onednn = OneDNN(lm.model) if lm.model.device.type == "cpu" and is_amd() else None
    lm.onednn = lm.onednn if agrees(lm, apart, 0, want) else None
    may_share = shares_exactly(lm.model.config.get_text_config())
    lm.shares = lm.shares if may_share and agrees(lm, [item], lm.shares, want) else 0
    if may_share and not lm.shares:  # what it differs by are last bits, then, as of attention with huge weights
        lm.batch_tokens, lm.last_mlp, lm.onednn = 1, None, None
    lm.rounding = rounding_of(differences(lm, [item], lm.shares, want))
    lm.workers = torch.get_num_threads() if lm.shares and lm.model.device.type == "cpu" else 1  # whose layers keep nothing
    lm.steady = bool(lm.shares) and lm.headed and lm.model.device.type == "cpu" and is_steady(lm)


@torch.inference_mode()
def bare_head(model, tokens, logits):
    """Whether the logits are the head's product with the last hidden state, to the bit: a softcap hardly changes small ones."""
    try:
        return torch.equal(model.get_output_embeddings()(model.base_model(tokens, use_cache=False).last_hidden_state), logits)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False


def is_amd():
    """Whether the processor is one of AMD's. False where that cannot be read."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


class OneDNN(TorchFunctionMode):
    """
    Within it a linear layer is oneDNN's product, of weights packed once for it. torch takes MKL, which leaves half of the vector
    width of an AMD processor unused: 108 GFLOP/s on one core that does 253 (1,024 x 192 x 512). The sums have another order.

    Packed weights are kept, by their address, of a model of up to PACKED_BYTES: they take as much memory again. Only what is the
    model's own stays where it is; weights that a layer makes for one product are taken as they lie.
    """

    def __init__(self, model):
        super().__init__()
        own = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
        self.own = own.keys() if sum(own.values()) <= PACKED_BYTES else set()
        self.packed = {}  # (address, shape, strides) of weights -> packed

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.linear and not kwargs:
            return self.product(*args)
        if function is torch.addmm and not kwargs:  # a linear layer of GPT-2
            bias, x, weight = args
            return self.product(x, weight.t(), bias)
        return function(*args, **(kwargs or {}))

    def product(self, x, weight, bias=None):
        if weight.untyped_storage().data_ptr() in self.own:
            key = weight.data_ptr(), weight.shape, weight.stride()
            if key not in self.packed:
                self.packed[key] = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), x.numel() // x.shape[-1])
            weight = self.packed[key]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def last_mlp(model):
    """
    OnlyAt of the feed-forward part of the last layer, which adds to each position by itself what nothing but the head reads. None
    where the model is of no kind that is known to be built so.
    """
    cfg = model.config.get_text_config()
    lists = [module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = next((layers for layers in lists if len(layers) == cfg.num_hidden_layers), None)
    mlp = getattr(layers[-1], "mlp", None) if layers is not None and cfg.model_type in SHARING_TYPES else None
    return OnlyAt(mlp) if mlp is not None else None


class OnlyAt:
    """
    A module that works on each position by itself, and within `with only_at(row_P, column_P)` at these alone; at the others it
    gives zeros. What one thread asks for is nothing to the others.
    """

    def __init__(self, module):
        self.module, self.asked = module, threading.local()
        module.register_forward_pre_hook(self.take)
        module.register_forward_hook(self.put)

    @contextmanager
    def __call__(self, row_P, column_P):
        self.asked.places = row_P, column_P
        try:
            yield
        finally:
            del self.asked.places

    def take(self, _, args):
        if places := getattr(self.asked, "places", None):
            self.asked.shape = args[0].shape
            args = args[0][places], *args[1:]
        return args

    def put(self, _, args, result):
        if places := getattr(self.asked, "places", None):
            result_BTD = result.new_zeros(*self.asked.shape[:2], result.shape[-1])
            result_BTD[places] = result
            return result_BTD
        return result


def ropes(cfg):
    """The kinds of rotary frequencies in a config of transformers: one, or one a kind of layer."""
    parameters = getattr(cfg, "rope_parameters", None) or {}
    return {value.get("rope_type") for value in (parameters, *parameters.values()) if isinstance(value, dict)}


def shares_exactly(cfg):
    """Whether a config of transformers is of a kind whose layers all see every earlier column that the mask shows."""
    full = set(getattr(cfg, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    by_length = ropes(cfg) & set(BY_LENGTH)
    return cfg.model_type in SHARING_TYPES and full and not by_length and not getattr(cfg, "sliding_window", None)


def agrees(lm, items, shared, want):
    """Whether the items get the log-probabilities of `want`; no, too, where the model does not take its inputs."""
    try:
        return bool((differences(lm, items, shared, want).abs() <= 1e-4).all())
    except (TypeError, ValueError, AttributeError, RuntimeError, UserError):
        return False


def differences(lm, items, shared, want):
    """By how much the items' log-probabilities are not those of `want`, one after the other."""
    got = [scored for item in score(lm, items, shared=shared) for scored in item]
    return torch.cat([a[0] - b[0] for a, b in zip(got, want, strict=True)])


# ---- rows: what goes through the model -------------------------------------------------------------------------------


def rows_of(item, shared):
    """
    The sequences of an item as rows (length of the common beginning, sequences): one row, or one a sequence where nothing is
    common or one has more than `shared` inputs. A sequence's last token is no input, so it is never in the beginning.

    [([5, 6, 7, 8], 1), ([5, 6, 9], 1)] -> [(2, both)], which is 2 + 1 + 0 inputs in place of 3 + 2
    """
    inputs = [tokens[:-1] for tokens, _ in item]
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*inputs, strict=False)))
    if len(item) == 1 or not common or max(map(len, inputs)) > shared:
        return [(len(tokens) - 1, [(tokens, scored)]) for tokens, scored in item]
    return [(common, item)]


def inputs_of(row):
    """Inputs of a row."""
    common, sequences = row
    return common + sum(len(tokens) - 1 - common for tokens, _ in sequences)


def score(lm, items, label=None, shared=None):
    """
    Items of sequences (tokens, how many at the end are scored) -> for each item and sequence (log-probability of each scored
    token, an fp32 tensor on the CPU; whether each was the likeliest). `shared` is lm.shares unless given.

    Rows of like length share a batch, so little is padded; the longest go first, so that a batch too large fails at once. On a CPU
    each core has a batch of its own: the small products and sums of a batch do not keep several busy.
    """
    rows = [(i, row) for i, item in enumerate(items) for row in rows_of(item, lm.shares if shared is None else shared)]
    order = sorted(range(len(rows)), key=lambda r: -inputs_of(rows[r][1]))
    total = sum(inputs_of(row) for _, row in rows)
    advance = progress(label, total)
    scored, running = [None] * len(rows), deque()  # batches of rows' numbers with their futures, the oldest first
    if lm.one_by_one:  # the size of a batch changes no bit: small enough that each core has four
        lm = replace(lm, batch_tokens=max(1, min(lm.batch_tokens, total // (4 * lm.workers))))
    workers = lm.workers if total >= 4 * lm.workers * lm.batch_tokens else 1
    with executor(workers) as pool:
        while order or running:
            while order and len(running) < 2 * workers - 1:
                count = max(1, lm.batch_tokens // max(1, inputs_of(rows[order[0]][1])))
                batch, order = order[:count], order[count:]
                running.append((batch, pool.submit(score_batch, lm, [rows[r][1] for r in batch])))
            batch, future = running.popleft()
            sizes = [inputs_of(rows[r][1]) for r in batch]
            try:
                results = future.result()
            except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises it bare
                if not ("out of memory" in str(error) or "can't allocate" in str(error)):
                    said = f"{sizes[0]:,} tokens: {str(error).splitlines()[0]}"
                    raise UserError(f"the model fails on {len(batch)} rows of up to {said}") from error
                if len(batch) == 1:
                    raise
                lm.batch_tokens = max(1, min(lm.batch_tokens, sum(sizes) // 2))
                order, future = batch + order, None  # whose traceback holds all that the batch had in memory
                continue
            for r, result in zip(batch, results, strict=True):
                if not all(logps.isfinite().all() for logps, _ in result):
                    raise UserError(
                        "the model gives log-likelihoods that are not finite (NaN or infinite): its weights are damaged"
                    )
                scored[r] = result
            advance(sum(sizes))
    found = [[] for _ in items]
    for (i, _), result in zip(rows, scored, strict=True):
        found[i] += result
    return found


@contextmanager
def executor(workers):
    """What runs batches in so many threads of one core each; where that is one, in this thread, at once, on all cores."""
    if workers == 1:
        yield InThisThread()
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with which threads begin
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class InThisThread:
    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
            return future
        except Exception as error:
            future.set_exception(error)
            return future
        finally:
            del future  # else it holds the error, whose traceback holds it, and all that the batch had in memory


def score_choices(lm, items, label=None):
    """
    `score`, summed: for each item and sequence (log-likelihood, whether each token was the likeliest), within TOLERANCE of the
    harness. Where its float32 sum cannot be told so closely, as of some above 512 nats and all above 1,024, the sequence is
    scored again as `alone` does it. Few continuations are so long or so unlikely.

    The first of these show how far the shortcuts move the log-probabilities of this text; the trial of random tokens, which no
    model expects, says two to three times as much, and leaves more in doubt.
    """
    distinct = [{(*tokens, scored): (tokens, scored) for tokens, scored in item} for item in items]  # equal choices, equal scores
    sequences = [sequence for item in distinct for sequence in item.values()]
    scored = [given for item in score(lm, [list(item.values()) for item in distinct], label) for given in item]
    logps, likeliest = zip(*scored, strict=True)
    again, rounding = {}, lm.rounding  # log-probabilities of what is scored again
    for most in (SHOWING, len(sequences)):
        sums, doubts = float32_sums(logps, rounding, lm.model.device)
        doubtful = [s for s, doubt in enumerate(doubts) if doubt > TOLERANCE and s not in again][:most]
        if not doubtful:
            break
        rescored = score(alone(lm), [[sequences[s]] for s in doubtful], label and f"{label}, sums in doubt")
        again |= {s: logps_N for s, ((logps_N, _),) in zip(doubtful, rescored, strict=True)}
        rounding = rounding_of(torch.cat([logps_N - logps[s] for s, logps_N in again.items()]))
    sums = [float(again[s].sum()) if s in again else drawn for s, drawn in enumerate(sums)]
    answers = zip(sums, likeliest, strict=True)
    found = [{key: next(answers) for key in item} for item in distinct]
    return [[of_item[*tokens, scored] for tokens, scored in item] for item, of_item in zip(items, found, strict=True)]


def rounding_of(moved_N):
    """The bound of a uniform distribution that has the spread of these differences in nats; at least ROUNDING."""
    return max(ROUNDING, float(moved_N.square().mean().sqrt()) * 3**0.5)


def float32_sums(logps, rounding, device="cpu"):
    """
    What the harness's sum of each sequence's log-probabilities is likely to be, and how far it may be from that, in nats.

    It adds them in float32, where log-probabilities that differ in their last bit may come to sums several steps apart. So the sum
    is drawn: torch's own on the device, in its own order, of log-probabilities moved by up to `rounding`. Taken is the middle of
    what comes out; the harness's is expected to be among it, or one step of float32 beyond.
    """
    sums, doubts, of_length = [0.0] * len(logps), [0.0] * len(logps), {}
    for s, logps_N in enumerate(logps):
        of_length.setdefault(len(logps_N), []).append(s)
    draw = torch.Generator().manual_seed(0)
    moved_KN = torch.rand((DRAWS // 2, max(of_length, default=0)), generator=draw) * 2 - 1
    moved_KN = rounding * torch.cat([moved_KN, -moved_KN])
    for length, members in of_length.items():
        drawn_MKN = torch.stack([logps[s] for s in members])[:, None] + moved_KN[:, :length]
        low_M, high_M = (x_M.double().cpu() for x_M in drawn_MKN.to(device).sum(-1).aminmax(dim=-1))
        step_M = torch.exp2(torch.frexp(low_M).exponent - 24.0)
        for s, middle, doubt in zip(members, (low_M + high_M) / 2, (high_M - low_M) / 2 + step_M, strict=True):
            sums[s], doubts[s] = float(middle), float(doubt)
    return sums, doubts


def alone(lm):
    """
    The model as the harness asks it at its default batch size, for the same bits: one sequence at a time, logits of all positions.

    Where a trial shows that it changes no bit, each core has sequences of its own, and the head's products are of the scored
    places of several. The trial is of 20 tokens and more, or of the whole context where that is shorter: of a sequence of fewer
    than MKL_ROWS tokens the last bit may differ.
    """
    fast = {"workers": lm.workers, "batch_tokens": BATCH_TOKENS["cpu"]}
    slow = {"workers": 1, "batch_tokens": 1, "headed": False}
    return replace(lm, one_by_one=True, shares=0, last_mlp=None, onednn=None, **(fast if lm.steady else slow))


def is_steady(lm):
    """
    Whether random sequences, up to the longest that the model reads, have the same hidden states on one core as on all, to the
    bit, and some of these the same logits as all of them. Log-probabilities would not do: they round much of it away.
    """
    lm, draw, head = replace(alone(lm), headed=True), torch.Generator().manual_seed(0), lm.model.get_output_embeddings()

    @torch.inference_mode()
    def logits_of(few):
        return product(head, torch.cat(few), None, HEAD_ROWS)

    states_of, found, cores = torch.inference_mode()(scored_states), [], torch.get_num_threads()
    for length in sorted({min(length, lm.context) for length in (20, 64, 150, 1024)}):
        tokens = torch.randint(lm.model.config.get_text_config().vocab_size, (length + 1,), generator=draw).tolist()
        rows = [(length, [(tokens, length)])]
        states_TD, _ = states_of(lm, rows)
        with executor(cores) as pool:
            on_one_TD, _ = pool.submit(states_of, lm, rows).result()
        if not torch.equal(states_TD, on_one_TD):
            return False
        found.append((states_TD, torch.inference_mode()(head)(states_TD)))
    for places in (1, 2, HEAD_ROWS // len(found)):  # of each sequence
        with executor(cores) as pool:
            few_RV = pool.submit(logits_of, [states_TD[-places:] for states_TD, _ in found]).result()
        if not torch.equal(few_RV, torch.cat([logits_TV[-places:] for _, logits_TV in found])):
            return False
    return True


@torch.inference_mode()
def score_batch(lm, rows):
    """What `score` says of these rows: one forward pass, or one a row where they go one by one, and products of the head."""
    passes = [[row] for row in rows] if lm.one_by_one else [rows]
    sequences = [sequence for _, sequences in rows for sequence in sequences]
    targets_P = torch.tensor([token for tokens, scored in sequences for token in tokens[-scored:]], device=lm.model.device)
    with lm.onednn or nullcontext():
        states, where = zip(*(scored_states(lm, part) for part in passes), strict=True)
        before = accumulate(map(len, states), initial=0)
        where_P = torch.cat([where_P + count for where_P, count in zip(where, before, strict=False)])
        head = lm.model.get_output_embeddings() if lm.headed else None
        logps_P, likeliest_P = log_probabilities(torch.cat(states), where_P, targets_P, head, None if lm.onednn else lm.kept)
    lengths = [scored for _, scored in sequences]
    logps, likeliest = (x_P.cpu().split(lengths) for x_P in (logps_P, likeliest_P))
    results = zip(logps, (bool(tokens.all()) for tokens in likeliest), strict=True)
    return [[next(results) for _ in sequences] for _, sequences in rows]


def scored_states(lm, rows):
    """
    (states (S, D), which of them predicts each scored token of the rows (P,)): the last hidden states, or the logits (S, V) of a
    model whose head is not bare. One forward pass. The first tokens of several choices are predicted at one place.

    A row's inputs are the common beginning (branch 0) and behind it the rest of every sequence (branch 1, 2, ...). Each sees the
    beginning and its own branch, and its position is counted as if the other branches were not there.
    """
    columns, places = [], []  # (token, position, branch) of each input; (row, column) that predicts each scored token
    for b, (common, sequences) in enumerate(rows):
        row = [(token, t, 0) for t, token in enumerate(sequences[0][0][:common])]
        for branch, (tokens, scored) in enumerate(sequences, 1):
            moved = len(row) - common  # columns that earlier branches take
            places += [(b, t if t < common else t + moved) for t in range(len(tokens) - 1 - scored, len(tokens) - 1)]
            row += [(token, t, branch) for t, token in enumerate(tokens[common:-1], common)]
        columns.append(row)
    longest = max(map(len, columns))
    device = lm.model.device
    padded = torch.tensor([row + [(0, 0, -1)] * (longest - len(row)) for row in columns], device=device)
    tokens_BT, positions_BT, branch_BT = padded.unbind(-1)
    inputs = {"input_ids": tokens_BT, "use_cache": False}
    if any(len(sequences) > 1 for _, sequences in rows):  # else plain causal: padding behind a token does not touch it
        same_BTT = branch_BT[:, None, :] == branch_BT[:, :, None]
        sees_BTT = (same_BTT | (branch_BT[:, None, :] == 0)).tril()
        mask_BTT = torch.zeros(sees_BTT.shape, device=device).masked_fill(~sees_BTT, torch.finfo(torch.float32).min)
        inputs |= {"attention_mask": mask_BTT[:, None], "position_ids": positions_BT}
    number = {place: s for s, place in enumerate(dict.fromkeys(places))}
    row_S, column_S = torch.tensor(list(number), device=device).T
    with lm.last_mlp(row_S, column_S) if lm.last_mlp is not None else nullcontext():
        # most positions only carry context: the head, a fifth of a small model's work, is left out there
        states_BTD = lm.model.base_model(**inputs).last_hidden_state if lm.headed else lm.model(**inputs).logits
    return states_BTD[row_S, column_S], torch.tensor([number[place] for place in places], device=device)


def log_probabilities(states_SD, where_P, targets_P, head=None, kept=None):
    """
    (log-probability of each target, whether it is the first of the likeliest tokens), of the states with the numbers where_P.
    Without a head the states are the logits, and are overwritten. `kept` is where a thread keeps the memory of its logits.

    It is torch.log_softmax of the whole vocabulary, as the harness has it: where a token is nearly certain, float32 loses a part of
    the other 50,000 in it, up to 3e-5 nats a token, and what adds them more exactly is further off.
    """
    kind, vocabulary = states_SD.device.type, states_SD.shape[1] if head is None else len(head.weight)
    kept = kept if kind == "cpu" and type(head) is torch.nn.Linear and head.bias is None else None
    head_rows, softmax_rows = (x.get(kind, x["cpu"]) // vocabulary for x in (HEAD_LOGITS, SOFTMAX_LOGITS))
    if kind == "cpu":
        head_rows = min(HEAD_ROWS, head_rows if kept else FRESH_LOGITS // vocabulary)
    head_rows, softmax_rows = max(MKL_ROWS, head_rows), max(1, softmax_rows)
    logp_P, first_P = torch.empty(len(targets_P), device=states_SD.device), torch.empty_like(targets_P, dtype=torch.bool)
    start = 0
    for states_RD in states_SD.tensor_split(math.ceil(len(states_SD) / head_rows)):
        logps_RV, likeliest = (states_RD if head is None else product(head, states_RD, kept, head_rows)).float(), []
        for logps_CV in logps_RV.split(softmax_rows):
            torch.log_softmax(logps_CV, -1, out=logps_CV)
            likeliest.append(logps_CV.amax(-1))
        here_Q = ((where_P >= start) & (where_P < start + len(states_RD))).nonzero().squeeze(1)
        row_Q, targets_Q = where_P[here_Q] - start, targets_P[here_Q]
        logp_Q = logps_RV[row_Q, targets_Q]
        first_Q = logp_Q == torch.cat(likeliest)[row_Q]
        firsts = [logps_RV[some].argmax(-1) for some in row_Q[first_Q].split(softmax_rows)]  # slow, and few rows need it
        first_Q[first_Q.clone()] = torch.cat(firsts) == targets_Q[first_Q]
        logp_P[here_Q], first_P[here_Q] = logp_Q, first_Q
        start += len(states_RD)
    return logp_P, first_P


def product(head, states_RD, kept, most):
    """
    The head's logits (R, V), from a product of MKL_ROWS rows at least; in memory for `most` rows that the thread keeps, or fresh
    where `kept` is None.
    """
    rows = len(states_RD)
    states_RD = F.pad(states_RD, (0, 0, 0, max(0, MKL_ROWS - rows)))
    if kept is None:
        return head(states_RD)[:rows]
    if not hasattr(kept, "logits") or kept.logits.shape != (most, len(head.weight)):
        kept.logits = states_RD.new_empty(most, len(head.weight))
    return torch.mm(states_RD, head.weight.t(), out=kept.logits[: len(states_RD)])[:rows]
