"""
Writes text with a model, token by token.

    python sample.py out/125m/ckpt.pt "The history of"      a text that begins so; --num=3 writes three
    python sample.py out/125m/ckpt.pt                       a conversation: each line is added to the text, and the model goes on
    python sample.py HF_FOLDER --web                        a page at http://127.0.0.1:8000, for this machine's browser alone

The model is a checkpoint of train.py, or a folder of transformers: an export, or any causal model; none of its code is run.
In a conversation Enter alone goes on with the text, /new begins another, Ctrl-C stops the text, at the prompt the program, and
Ctrl-D ends it. The same seed gives the same text. A text longer than the model's context slides: whenever the context is full,
the model reads the newer half of it again and forgets the rest.
"""

import math
import os
import random
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

from phoenix.signals import exit_on_ctrl_c

if __name__ == "__main__":
    exit_on_ctrl_c()  # the imports below take seconds
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # busy cores: see train.py
import torch

from export_hf import read_tokenizer
from model import from_checkpoint
from phoenix import page
from phoenix.checkpoint import read_manifest
from phoenix.config import UserError, build, load, main_guard, one_line
from phoenix.device import prepare_device
from phoenix.sampling import Text, reader, stream

# control characters, which could command the terminal, and those that reverse the direction of writing
CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
PAGE_SETTINGS = ("prompt", "tokens", "temperature", "top_k", "top_p", "seed")


@dataclass(frozen=True)
class Sample:
    model: str  # a checkpoint of train.py, or a folder of transformers
    prompt: str | None = None  # the text's beginning, may be empty; None: a conversation
    tokens: int = 200  # most tokens to add to a text
    temperature: float = 0.8  # 0 takes the likeliest token each time; 1 draws as the model predicts; above 1 is wilder
    top_k: int | None = 50  # draw among the k likeliest tokens; None: all
    top_p: float | None = None  # draw among the likeliest tokens that hold this much of the probability; None: all
    seed: int | None = None  # of the draws; text number i of --num has seed + i; None: another text each time
    num: int = 1  # texts to write, one after another
    web: bool = False  # open a page in place of the terminal
    port: int = 8000  # of the page; 0: any that is free
    device: str | None = None  # "cuda", "cpu", ...; None: cuda where there is one
    dtype: str | None = None  # "bfloat16" or "float32" for weights and cache; None: bfloat16 where the hardware has it


def check(cfg):
    """UserError for a setting with an impossible value."""
    for name, least in (("tokens", 1), ("num", 1), ("top_k", 1), ("seed", 0)):
        if getattr(cfg, name) is not None and not least <= getattr(cfg, name) < 2**63:
            raise UserError(f"{name}={getattr(cfg, name)} must be at least {least} and below 2^63")
    if not 0 <= cfg.temperature < math.inf:
        raise UserError(f"temperature={cfg.temperature} must be at least 0, which takes the likeliest token each time")
    if cfg.top_p is not None and not 0 < cfg.top_p <= 1:
        raise UserError(f"top_p={cfg.top_p} must be above 0 and at most 1")
    if cfg.dtype not in (None, "bfloat16", "float32"):
        raise UserError(f"dtype must be None or bfloat16 or float32, not {cfg.dtype!r}")
    if cfg.num > 1 and (cfg.prompt is None or cfg.web):
        raise UserError('num is for texts in the terminal with a prompt; "" is an empty one')


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LanguageModel:
    read: object  # of sampling.stream
    context: int  # most tokens that it reads
    encode: object  # (text, whether it is a beginning) -> tokens
    decode: object  # tokens -> text
    start: int | None  # the token of an empty text
    ends: frozenset  # tokens that end a text
    about: str


def load_model(cfg):
    """A checkpoint or a folder -> LanguageModel. UserError where it cannot be loaded or gives no next token."""
    path = Path(cfg.model)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a checkpoint (ckpt.pt) or a folder of transformers")
    device = prepare_device(SimpleNamespace(**asdict(cfg), cpu_threads=None, deterministic=True, gpu_memory_gb=None))
    if path.is_dir():
        from transformers.utils import logging

        from phoenix.transformers_model import context_of, load_folder

        logging.disable_progress_bar()
        model, tokenizer, _ = load_folder(path)
        context = context_of(model.config.get_text_config(), tokenizer)
        read, ends = reader(model), getattr(model.generation_config, "eos_token_id", None)
        ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id

        def encode(text, beginning):
            return tokenizer(text, add_special_tokens=beginning, verbose=False)["input_ids"]

        def decode(ids):
            return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    else:
        rows = (read_manifest(path.parent) or {"checkpoints": []})["checkpoints"]
        sha256s = {row["file"]: row["sha256"] for row in rows}  # ckpt.pt is a link to a file that is listed
        model, saved = from_checkpoint(path, sha256=sha256s.get(path.resolve().name))
        tokenizer, start = read_tokenizer(path.parent / "tokenizer", saved)
        read, decode, context, ends = model.read, tokenizer.decode, model.cfg.context, {start}

        def encode(text, beginning):
            return tokenizer.encode(text, add_special_tokens=beginning).ids

    def read_on_device(new_BT, cache=None):
        """Draws are made on the CPU, so that a seed gives the same ones on every device."""
        logits_BV, cache = read(new_BT.to(device.torch_device), cache)
        logits_BV = logits_BV.cpu()
        if logits_BV.isnan().any():
            raise UserError(f"{path} predicts no numbers (NaN): its weights are damaged, or it needs --dtype=float32")
        return logits_BV, cache

    size = sum(p.numel() for p in model.parameters()) / 1e6
    about = f"{path}: {size:.1f} M parameters, context {context:,}, {device.torch_device}, {device.dtype}"
    try:
        for p in model.parameters():  # the buffers stay fp32: angles of positions are too coarse in bfloat16
            p.data = p.data.to(getattr(torch, device.dtype))
        model.to(device.torch_device)
        next(stream(read_on_device, context, torch.tensor([[start or 0]])))
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:  # of transformers' many models
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UserError(f"{path} gives no next token on {device.torch_device}: {reason}") from error
    return LanguageModel(read_on_device, context, encode, decode, start, frozenset(ends), about)


# ---- the text --------------------------------------------------------------------------------------------------------


def begin(lm, prompt):
    """A Text that holds the prompt."""
    text = Text(lm.decode)
    ids = lm.encode(prompt.encode(errors="replace").decode(), True)  # an argument that is not UTF-8 holds half characters
    if not ids and lm.start is None:
        raise UserError("the tokenizer has no token that begins a text: give a prompt")
    text.extend(ids or [lm.start])
    return text


def generator_of(seed):
    return torch.Generator().manual_seed(random.randrange(2**32) if seed is None else seed)


def write(lm, text, cfg, generator):
    """Adds at most cfg.tokens tokens to the text. Yields (whole characters, the model's probability of their tokens)."""
    settings, probability = {name: getattr(cfg, name) for name in ("temperature", "top_k", "top_p")}, 1.0
    tokens = stream(lm.read, lm.context, torch.tensor([text.ids]), generator=generator, **settings)
    for new_BT, logits_BV in islice(tokens, cfg.tokens):
        token = new_BT.item()
        probability *= logits_BV.softmax(-1)[0, token].item()
        characters = text.add(token)
        if characters:
            yield characters, probability
            probability = 1.0
        if token in lm.ends:
            return


# ---- in the terminal -------------------------------------------------------------------------------------------------


def show(characters):
    print(characters.translate(CONTROLS), end="", flush=True)


def write_texts(lm, cfg):
    for i in range(cfg.num):
        if i:
            print("-" * 20)
        text = begin(lm, cfg.prompt)
        show(cfg.prompt)
        try:
            for characters, _ in write(lm, text, cfg, generator_of(None if cfg.seed is None else cfg.seed + i)):
                show(characters)
            show(text.rest())
        finally:
            print()


def converse(lm, cfg):
    """Reads lines until Ctrl-D, and adds each to the text on a line of its own, as it stands on the screen."""
    with suppress(ImportError):  # Windows; elsewhere it lets input() edit and recall lines
        import readline  # noqa: F401
    sys.stdin.reconfigure(errors="replace")
    print(f"{lm.about}\nEnter alone goes on, /new begins another text, Ctrl-C stops it, Ctrl-D ends", file=sys.stderr)
    text, generator = None, generator_of(cfg.seed)
    while True:
        try:
            line = input("> ")
        except EOFError:
            return print()
        if line == "/new":
            text = None
            continue
        try:
            if text is None:
                text = begin(lm, line)
            elif line:
                text.extend(lm.encode("\n" + line, False))
            for characters, _ in write(lm, text, cfg, generator):
                show(characters)
            if text.ids[-1] in lm.ends:
                print("\n(the model ended the text; the next line begins another)", end="")
                text = None
        except KeyboardInterrupt:
            pass
        print()


# ---- as a page -------------------------------------------------------------------------------------------------------


def answer(lm, cfg, asked):
    """The page's settings, a dict -> what it is sent: the seed, pieces of text with their probabilities, the end."""
    if unknown := asked.keys() - set(PAGE_SETTINGS):
        raise UserError(f"the page has no setting {min(unknown)!r}")
    cfg = build(Sample, asdict(cfg) | asked)
    check(cfg)
    text, generator = begin(lm, cfg.prompt or ""), generator_of(cfg.seed)
    yield {"seed": generator.initial_seed()}
    for characters, probability in write(lm, text, cfg, generator):
        yield {"text": characters, "probability": probability}
    yield {"text": text.rest(), "end": True}


# ---- the run ---------------------------------------------------------------------------------------------------------


def main(argv):
    cfg = load(Sample, argv, positional="model prompt")
    check(cfg)
    lm = load_model(cfg)
    if cfg.web:
        shown = {name: getattr(cfg, name) for name in PAGE_SETTINGS} | {"about": lm.about}
        page.serve(shown, partial(answer, lm, cfg), cfg.port)
    elif cfg.prompt is None:
        converse(lm, cfg)
    else:
        write_texts(lm, cfg)
    return 0


if __name__ == "__main__":
    main_guard(main)
