"""Validation of a model: nats per token, bits per byte of text, and a sample of its text."""

import itertools
import json
import math
from contextlib import nullcontext
from pathlib import Path

import torch

from phoenix.files import write_atomic
from phoenix.progress import say


def token_bytes(tokenizer):
    """
    Bytes of text of each token (V,), int64, from the vocabulary of a byte-level BPE, which writes a byte as a character.

    Special tokens have 0: they stand for no text, and bits per byte leaves out their nats too.

    tokenizer: of the library tokenizers, or the path of its tokenizer.json.
    """
    is_path = isinstance(tokenizer, (str, Path))
    tokenizer = json.loads(Path(tokenizer).read_text(encoding="utf-8") if is_path else tokenizer.to_str())
    sizes = {i: len(text) for text, i in tokenizer["model"]["vocab"].items()}
    sizes |= {t["id"]: 0 if t["special"] else len(t["content"].encode()) for t in tokenizer["added_tokens"]}
    return torch.tensor([sizes.get(i, 0) for i in range(max(sizes) + 1)])


@torch.no_grad()
def validate(model, windows, chosen, micro_batch, bytes_V, device, precision):
    """
    {"val_loss": nats per token, "val_bpb": bits per byte of text} on the windows whose numbers are in `chosen`.

    bytes_V: of token_bytes. device: torch's. precision: a function that gives the autocast context. A smaller last batch runs
    uncompiled: its shape would be compiled anew, which takes a minute on a GPU.
    """
    nats, text_nats, text_bytes = 0.0, 0.0, 0
    for i in range(0, len(chosen), micro_batch):
        tokens_BT, targets_BT = (t.to(device) for t in windows.batch(chosen[i : i + micro_batch]))
        eager = torch.compiler.set_stance("force_eager") if len(tokens_BT) < micro_batch else nullcontext()
        with precision(), eager:
            nats_BT = model.loss(tokens_BT, targets_BT, reduction="none").double()
        bytes_BT = bytes_V[targets_BT]
        nats += nats_BT.sum().item()
        text_nats += nats_BT[bytes_BT > 0].sum().item()
        text_bytes += bytes_BT.sum().item()
    bits_per_byte = text_nats / math.log(2) / text_bytes if text_bytes else math.nan
    return {"val_loss": nats / (len(chosen) * windows.seq_len), "val_bpb": bits_per_byte}


def write_sample(path, model, data, cfg, device):
    """Prints a sample of the model's text and writes it to `path`; an error is printed, for the run is done without it too."""
    try:
        text = sample(model, data.tokenizer_json, data.eot, cfg.sample_tokens, cfg.seed, device)
        say("sample: " + text.strip())
        write_atomic(path, text + "\n")
    except Exception as error:
        say(f"{path} could not be written: {type(error).__name__}: {error}")


def sample(model, tokenizer_json, eot, n_tokens, seed, device):
    """Text that the model writes after <|endoftext|>; an empty line stands where it ends a document and begins another."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    generator = torch.Generator(device).manual_seed(seed)
    start_BT = torch.tensor([[eot]], device=device)
    with torch.compiler.set_stance("force_eager"):  # otherwise every length would be compiled anew
        ids = model.generate(start_BT, n_tokens, temperature=0.8, top_k=50, generator=generator)[0].tolist()
    ends = [i for i, token in enumerate(ids) if token == eot] + [len(ids)]
    return "\n\n".join(tokenizer.decode(ids[a + 1 : b]).strip() for a, b in itertools.pairwise(ends))
