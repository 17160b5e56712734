"""
Log-likelihoods of texts under a language model: those of one forward pass a request, within 1e-4 nats, in less time.

    lm = prepare(model, tokenizer)                 # a causal model of transformers; tries on it what follows
    answer(lm, "piqa", items)                      # -> of each item, of each request, (log-likelihood, likeliest)
    score(lm, [[Sequence(tokens, 3)]])             # -> of each sequence, the log-probability of each of its last 3 tokens

Three shortcuts save time: sequences of one item share the pass over their common beginning, rows of like length share a
batch, and the head is applied only to positions that predict a scored token.

Shapes: B rows of a batch, T columns, P scored tokens, R some of them, N those of one sequence, V vocabulary.
"""

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import torch

from phoenix.config import UserError
from phoenix.device import default_device
from phoenix.progress import Progress
from phoenix.tasks import TASKS, Answer, Unavailable, wikitext
from phoenix.transformers_model import context_of

BATCH_TOKENS = {"cuda": 32768, "cpu": 512}  # inputs of a forward pass at first, as many as a CPU's cache takes; halved at need
HEAD_LOGITS = {"cuda": 2**26, "cpu": 2**23}  # logits at a time, in one reused buffer: new memory costs a CPU a quarter more
TOLERANCE = 1e-4  # nats by which shortcuts may change a token's log-probability in the trial

# Types whose attention follows the given mask and positions alone, and whose logits are the head's product alone. Others
# (sliding windows, chunks, ALiBi, softcaps) may pass a trial on short inputs and differ on long ones.
SHARING_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "opt", "phoenix", "phoenix_qk_norm")
BY_LENGTH = ("dynamic", "longrope")  # rotary frequencies that depend on the longest row of a batch


class Sequence(NamedTuple):
    tokens: tuple[int, ...]
    scored: int  # how many tokens at the end


class Row(NamedTuple):
    """Sequences that share one row of a batch, and how many inputs they have in common at the start."""

    common: int
    sequences: list[Sequence]

    def inputs(self):
        return self.common + sum(len(tokens) - 1 - self.common for tokens, _ in self.sequences)


class Score(NamedTuple):
    logps_N: torch.Tensor  # log-probability of each scored token, fp32 on the CPU
    likeliest: bool  # each of them was the model's first choice

    def total(self):
        return float(self.logps_N.sum())  # in float32, as the harness sums


@dataclass
class LanguageModel:
    model: torch.nn.Module  # of transformers, fp32
    tokenizer: object
    context: int  # tokens that the model reads at most
    batch_tokens: int  # inputs of a forward pass
    shortcuts: bool  # whether sequences share rows and the head sees scored positions alone


# ---- loading ---------------------------------------------------------------------------------------------------------


def prepare(model, tokenizer, device=None, batch_tokens=None):
    """model of transformers -> LanguageModel, on the device. UserError where the device or the model cannot score."""
    try:
        torch.zeros(1, device=(device := device or default_device())).item()  # "meta" has no values
        model = model.eval().to(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
    batch_tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])
    lm = LanguageModel(model, tokenizer, context_of(model.config.get_text_config(), tokenizer), batch_tokens, shortcuts=True)
    choose_shortcuts(lm)
    return lm


@contextmanager
def full_precision():
    """fp32 products in full within, never TF32; the settings are as before at the end, also after an exception."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@full_precision()
@torch.inference_mode()
def choose_shortcuts(lm):
    """
    Sets lm.shortcuts and lm.batch_tokens: one sequence at a time, unless shortcuts give random tokens the same scores.

    UserError where a token's logits depend on later ones, which no causal model's do, or where they are no numbers.
    """
    cfg = lm.model.config.get_text_config()
    size = max(1, min(64, lm.context // 2))
    start, *ends = torch.randint(cfg.vocab_size, (4, size), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = torch.tensor([start + end for end in ends[:2]], device=lm.model.device)
    logits_2TV = lm.model(tokens, use_cache=False).logits
    if (logits_2TV[0, :size] - logits_2TV[1, :size]).abs().max() > 1e-4 * logits_2TV.abs().max():
        raise UserError(f"{type(lm.model).__name__} is no causal model: what comes later changes its answer to what comes before")
    item = [Sequence((*start, *end), len(end)) for end in (ends[0], ends[1][: size // 2 + 1], ends[2][: size // 4 + 1])]
    rope = getattr(cfg, "rope_parameters", None) or {}
    kinds = {value.get("rope_type") for value in (rope, *rope.values()) if isinstance(value, dict)}
    fast, slow = (shares_exactly(cfg), lm.batch_tokens), (False, 1)
    lm.shortcuts, lm.batch_tokens = slow
    (want,) = score(lm, [item])
    if not kinds & set(BY_LENGTH):
        try:
            lm.shortcuts, lm.batch_tokens = fast
            (found,) = score(lm, [item])
            same = all((a.logps_N - b.logps_N).abs().max() <= TOLERANCE for a, b in zip(found, want, strict=True))
        except (TypeError, ValueError, AttributeError, RuntimeError, UserError):  # the model refuses a mask or positions
            same = False
        lm.shortcuts, lm.batch_tokens = fast if same else slow


def shares_exactly(cfg):
    """Whether all layers of a model with this config see every earlier column that the mask shows, and nothing else."""
    full = set(getattr(cfg, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    return cfg.model_type in SHARING_TYPES and full and not getattr(cfg, "sliding_window", None)


# ---- texts to tokens -------------------------------------------------------------------------------------------------


def encode(lm, texts):
    """Token ids of each text, with a BOS only where the tokenizer adds one by itself."""
    return lm.tokenizer(texts, verbose=False)["input_ids"] if texts else []


def prefix_token(lm):
    """The token before a text without context: BOS, else EOS. Unavailable where the tokenizer has neither."""
    bos, eos = lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id
    if bos is None and eos is None:
        raise Unavailable("the tokenizer has neither a BOS nor an EOS token, one of which must stand before a text without context")
    return eos if bos is None else bos


def encode_requests(lm, requests):
    """
    (context, continuation) texts -> Sequences, at most the last context + 1 tokens: the model does not read the final one.

    Both are encoded as one text, and the continuation's tokens are those behind as many as the context has alone: encoded
    alone it would get other tokens, and a space at the context's end belongs to the next word. Where a tokenizer merges
    across the boundary, the context keeps the tokens it has alone, as in the harness. Unavailable where
    a continuation is longer than the model's context, or has no token of its own.
    """
    contexts = [context.rstrip() for context, _ in requests]
    distinct = list(dict.fromkeys(contexts))
    ids = dict(zip(distinct, encode(lm, distinct), strict=True))
    sequences = []
    for context, request, whole in zip(contexts, requests, encode(lm, [a + b for a, b in requests]), strict=True):
        before = ids[context] if context else [prefix_token(lm)]
        after = whole[len(before) :] if context or whole[:1] == before else whole
        if not after:
            raise Unavailable(f"the tokenizer leaves no token to the continuation {request[1]!r} of {request[0][-40:]!r}")
        if len(after) > lm.context:
            raise Unavailable(f"a continuation of {len(after)} tokens does not fit the model's context of {lm.context}")
        sequences.append(Sequence(tuple((before + after)[-(lm.context + 1) :]), len(after)))
    return sequences


def rolling_windows(tokens, prefix, length):
    """
    (context ids, continuation ids) that score each token once with as much context as there is, at most `length` inputs each.

    1..10, prefix 0, length 4 -> [0]|1-4, [4]|5-8, [6,7,8]|9,10
    """
    windows = [([prefix], tokens[:length])] if tokens else []
    for seen in range(length, len(tokens), length):
        end = min(seen + length, len(tokens))
        windows.append((tokens[end - length - 1 : seen], tokens[seen:end]))
    return windows


# ---- answers ---------------------------------------------------------------------------------------------------------


def answer(lm, name, items):
    """For each item of a task, an Answer for each of its requests."""
    if TASKS[name].build is wikitext:  # a page is encoded once; its log-likelihood is the sum over its windows
        texts = encode(lm, [item.requests[0][0] for item in items])
        pages = [rolling_windows(tokens, prefix_token(lm), lm.context) for tokens in texts]
        windows = [[Sequence((*context, *target), len(target))] for page in pages for context, target in page]
        scores = iter(score(lm, windows, name))
        return [[Answer(sum(next(scores)[0].total() for _ in page), False)] for page in pages]
    sequences = iter(encode_requests(lm, [request for item in items for request in item.requests]))
    by_item = [[next(sequences) for _ in item.requests] for item in items]
    distinct = [list(dict.fromkeys(item)) for item in by_item]  # equal choices get equal scores: ties go to the first
    answers = []
    for item, asked, scores in zip(by_item, distinct, score(lm, distinct, name), strict=True):
        found = {s: Answer(got.total(), got.likeliest) for s, got in zip(asked, scores, strict=True)}
        answers.append([found[s] for s in item])
    return answers


# ---- tokens to log-probabilities -------------------------------------------------------------------------------------


@full_precision()
@torch.inference_mode()
def score(lm, items, label=None):
    """
    Items of Sequences -> for each item and sequence its Score. Progress is shown under the `label`, if any.

    The longest rows go first, so that little is padded and a batch too large for memory fails at once. Such a batch is
    halved, with all that follow. UserError where the model fails or gives no numbers.
    """
    rows = [(i, row) for i, item in enumerate(items) for row in rows_of(item, lm.shortcuts)]
    order = sorted(range(len(rows)), key=lambda r: -rows[r][1].inputs())
    scores = [None] * len(rows)
    inputs = sum(row.inputs() for _, row in rows)
    with Progress(label, inputs if label else 0, unit="tok", file=sys.stderr) as progress:
        while order:
            longest = rows[order[0]][1].inputs()
            batch = order[: max(1, lm.batch_tokens // max(1, longest))]
            found = None
            try:
                found = score_batch(lm, [rows[r][1] for r in batch])
            except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises it bare
                if not ("out of memory" in str(error) or "can't allocate" in str(error)):
                    message = f"{longest:,} tokens: {str(error).splitlines()[0]}"
                    raise UserError(f"the model fails on {len(batch)} rows of up to {message}") from error
                if len(batch) == 1:
                    raise
            if found is None:  # the error is gone, and with its traceback the tensors of the batch
                lm.batch_tokens = max(1, min(lm.batch_tokens, longest * len(batch)) // 2)
                continue
            for r in batch:
                scores[r] = [next(found) for _ in rows[r][1].sequences]
                if not all(scored.logps_N.isfinite().all() for scored in scores[r]):
                    raise UserError(
                        "the model gives log-likelihoods that are not finite (NaN or infinite): its weights are damaged"
                    )
            order = order[len(batch) :]
            progress.update(sum(rows[r][1].inputs() for r in batch))
    by_item = [[] for _ in items]
    for (i, _), found in zip(rows, scores, strict=True):
        by_item[i] += found
    return by_item


def rows_of(item, shortcuts):
    """
    The Sequences of an item as Rows: one for all, or one each where nothing is common or no row may be shared.

    A sequence's last token is no input, so it is never in the beginning.
    [([5, 6, 7, 8], 1), ([5, 6, 9], 1)] -> [(2, both)], which is 2 + 1 + 0 inputs in place of 3 + 2
    """
    inputs = [tokens[:-1] for tokens, _ in item]
    common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*inputs, strict=False)))
    if len(item) == 1 or not common or not shortcuts:
        return [Row(len(sequence.tokens) - 1, [sequence]) for sequence in item]
    return [Row(common, item)]


def score_batch(lm, rows):
    """
    An iterator of the Scores of all rows' sequences, by one forward pass.

    A row's inputs are the common beginning (branch 0), then the rest of each sequence (branch 1, 2, ...). A branch sees the
    beginning and itself, and its positions go on from the beginning's end.
    """
    device, columns, predicting, targets = lm.model.device, [], [], []
    for b, (common, sequences) in enumerate(rows):
        row = [(token, t, 0) for t, token in enumerate(sequences[0].tokens[:common])]  # (token, position, branch)
        for branch, (tokens, scored) in enumerate(sequences, 1):
            shift = len(row) - common  # columns that earlier branches take
            predicting += [(b, t if t < common else t + shift) for t in range(len(tokens) - 1 - scored, len(tokens) - 1)]
            targets += tokens[-scored:]
            row += [(token, t, branch) for t, token in enumerate(tokens[common:-1], common)]
        columns.append(row)
    longest = max(map(len, columns))
    padded = torch.tensor([row + [(0, 0, -1)] * (longest - len(row)) for row in columns], device=device)
    tokens_BT, positions_BT, branch_BT = padded.unbind(-1)
    inputs = {"input_ids": tokens_BT, "use_cache": False}
    if any(len(sequences) > 1 for _, sequences in rows):  # else plain causal: padding behind a token does not touch it
        sees_BTT = (branch_BT[:, None, :] == branch_BT[:, :, None]) | (branch_BT[:, None, :] == 0)
        mask_BTT = torch.zeros(sees_BTT.shape, device=device).masked_fill(~sees_BTT.tril(), torch.finfo(torch.float32).min)
        inputs |= {"attention_mask": mask_BTT[:, None], "position_ids": positions_BT}
    head = lm.model.get_output_embeddings().weight if lm.shortcuts else None  # without a bias, as the trial shows
    states_BTX = lm.model.base_model(**inputs).last_hidden_state if lm.shortcuts else lm.model(**inputs).logits
    row_P, column_P = torch.tensor(predicting, device=device).T
    logps_P, likeliest_P = log_probabilities(states_BTX[row_P, column_P], torch.tensor(targets, device=device), head)
    lengths = [scored for _, sequences in rows for _, scored in sequences]
    likeliest = (bool(tokens.all()) for tokens in likeliest_P.cpu().split(lengths))
    return map(Score, logps_P.cpu().split(lengths), likeliest)


def log_probabilities(states_PX, targets_P, head_VX=None):
    """
    (log-probability of each target, whether it is the first of the likeliest tokens), of hidden states with the head's weight,
    or of logits, which are overwritten.

    log_softmax of the whole vocabulary in float32 is the harness's rule; a more exact sum differs by up to 3e-5 nats a token.
    """
    vocabulary, found = (states_PX if head_VX is None else head_VX.T).shape[1], []
    rows = max(1, HEAD_LOGITS.get(states_PX.device.type, HEAD_LOGITS["cpu"]) // vocabulary)
    memory_RV = None if head_VX is None else states_PX.new_empty(min(rows, len(states_PX)), vocabulary)
    for states_RX, targets_R in zip(states_PX.split(rows), targets_P.split(rows), strict=True):
        logits_RV = states_RX if head_VX is None else torch.mm(states_RX, head_VX.T, out=memory_RV[: len(states_RX)])
        logps_RV = torch.log_softmax(logits_RV, -1, out=logits_RV)
        logp_R = logps_RV.gather(-1, targets_R[:, None]).squeeze(-1)
        first_R = logp_R == logps_RV.amax(-1)
        first_R[first_R.clone()] = logps_RV[first_R].argmax(-1) == targets_R[first_R]  # ties; argmax is slow, and few rows need it
        found.append((logp_R, first_R))
    return tuple(map(torch.cat, zip(*found, strict=True)))
