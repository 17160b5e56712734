"""What a model can do: its loss on the validation set, in bits per byte too, and text that it writes."""

import itertools
import json
import math
from pathlib import Path

import torch


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
