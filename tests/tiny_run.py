"""A run in miniature for the tests of scoring and export: tokenizer, shards and a checkpoint, made in a second."""

import dataclasses
import hashlib
import json

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model import ModelConfig, Phoenix
from phoenix import shards
from phoenix.checkpoint import FORMAT, FORMAT_VERSION

TEXT = """A man is sitting on a roof. He starts pulling up roofing on a roof. The question is which answer comes next: Question,
Answer. Sarah was a much better surgeon than Maria so Sarah always got the easier cases, and she told him to wait here. def f(x):
    return x + 1  # naïve café, 東京, 12345.678
"""
SPECIAL = ["<|endoftext|>", "<|reserved_0|>"]


def make_run(folder, qk_norm=False, context=48, vocab_size=320, std=0.3):
    """`folder` with data/ (shards, tokenizer) and run/ (ckpt.pt, tokenizer) -> the path of ckpt.pt; random, large weights."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    assert tokenizer.get_vocab_size() == vocab_size
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[0]}
    for place in (folder / "data" / "tokenizer", folder / "run" / "tokenizer"):
        place.mkdir(parents=True)
        tokenizer.save(str(place / "tokenizer.json"))
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer_sha256 = hashlib.sha256((folder / "data" / "tokenizer" / "tokenizer.json").read_bytes()).hexdigest()

    tokens = np.array([*tokenizer.encode(TEXT).ids, 0] * 3, np.uint16)
    described = {}
    for split, parts in (("train", [tokens]), ("val", np.array_split(tokens, 2))):
        described[split] = []
        for i, part in enumerate(parts):
            file = folder / "data" / "shards" / f"{split}-{i:05d}.bin"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(part.astype("<u2").tobytes())
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            described[split].append({"file": file.name, "tokens": len(part), "sha256": sha256})
    meta = {"format": shards.FORMAT, "version": shards.FORMAT_VERSION, "dtype": "<u2", "vocab_size": vocab_size, "eot": 0}
    meta |= {"tokenizer_sha256": tokenizer_sha256, "tokens": dict.fromkeys(described, len(tokens)), "shards": described}
    (folder / "data" / "shards" / "shards.json").write_text(json.dumps(meta))

    cfg = ModelConfig(vocab_size, n_layer=2, n_head=2, d_model=32, d_ff=48, context=context, rope_theta=500.0, qk_norm=qk_norm)
    torch.manual_seed(1)
    model = Phoenix(cfg)
    with torch.no_grad():  # so that every part counts: at the initial scale attention hardly matters
        for p in model.parameters():
            p.copy_(torch.rand_like(p) + 0.5 if p.dim() == 1 else torch.randn_like(p) * std)
    state = {"format": FORMAT, "version": FORMAT_VERSION, "model": model.state_dict(), "model_config": dataclasses.asdict(cfg)}
    state |= {"settings": {"data": str(folder / "data")}, "step": 7, "tokens": 1234, "tokenizer_sha256": tokenizer_sha256}
    torch.save(state, folder / "run" / "ckpt.pt")
    return folder / "run" / "ckpt.pt"
