"""
Exports a checkpoint as a folder that transformers or llama.cpp loads, and proves it by loading it again.

    python export_hf.py out/125m/ckpt.pt --out=out/125m/hf                     PhoenixForCausalLM, with trust_remote_code=True
    python export_hf.py out/125m/ckpt.pt --out=out/125m/llama --format=llama   the same weight file as Llama: no code needed
    python export_hf.py out/125m/ckpt.pt --out=out/125m/gguf --format=gguf     f16 and q8_0 for llama.cpp: phoenix/gguf_files.py
    python export_hf.py out/125m/ckpt.pt --out=out/125m/hf --push=user/repo    and to the Hub, after asking

model.safetensors (fp32; the head is the embedding and stored once), config.json, generation_config.json, the tokenizer's files,
for phoenix the classes (phoenix/modeling_phoenix.py), and README.md, the model card (phoenix/model_card.py). The folder appears
whole or not at all: it is written under a temporary name, reloaded (logits equal to model.py's within 1e-4, the tokenizer equal
to the one trained with) and only then renamed, in place of an earlier export. Exit code 1 where the reloaded model differs, 2
for a mistake in the arguments.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phoenix.signals import exit_on_ctrl_c

if __name__ == "__main__":
    exit_on_ctrl_c()  # the imports below take seconds
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer

from model import from_checkpoint
from phoenix.config import UserError, load, main_guard, one_line
from phoenix.files import sha256_file
from phoenix.model_card import model_card
from phoenix.transformers_model import hf_config

MOST_LOGIT_DIFFERENCE = 1e-4  # fp32; another order of the same sums gives about 1e-5
FILES = (  # of an export besides its weights; eval.json is evaluate.py's, and is kept
    *("README.md", "config.json", "generation_config.json", "modeling_phoenix.py"),
    *("tokenizer.json", "tokenizer_config.json", "loss.png", "eval.json"),
)
HARD_TEXTS = (  # tokenizers are known to lose white space, controls, composed characters, words that look special
    "", " ", "  two  spaces\tand a tab ", "\r\n\n line ends \n", "don't 'S 12345.678", "naïve café e\u0301 ﬁ",
    "東京 🙂🏽 \u200d\u00a0", "\x00\x7f\ufffd", "<|endoftext|>", "a<|endoftext|> b", "<EMAIL> [INST] </s>",
    "def f(x):\n    return x**2  # ok",
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    checkpoint: str  # ckpt.pt of a run of train.py; the folder tokenizer/ stands beside it
    out: str  # the folder to make; an earlier export there is replaced
    format: str = "phoenix"  # phoenix: own name and classes; llama: Llama's name (Qwen3's with qk_norm), no code; gguf: llama.cpp
    push: str | None = None  # user/repo on the Hub to upload to, after asking, with the token of `hf auth login`


# ---- the files -------------------------------------------------------------------------------------------------------


def read_tokenizer(folder, checkpoint):
    """(tokenizers.Tokenizer, id of <|endoftext|>); UserError where it is not the one that the checkpoint was trained with."""
    path, vocab_size = folder / "tokenizer.json", checkpoint["model_config"]["vocab_size"]
    if not path.is_file():
        raise UserError(f"{path} does not exist: the tokenizer is copied beside ckpt.pt when training starts")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(f"{path} is damaged: {error}") from error
    if tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"the checkpoint has a vocabulary of {vocab_size:,}, the tokenizer {path} of {tokenizer.get_vocab_size():,}"
        )
    if sha256_file(path) != checkpoint["tokenizer_sha256"]:
        raise UserError(f"{path} is not the tokenizer that the checkpoint was trained with (another sha256)")
    eot = tokenizer.token_to_id("<|endoftext|>")
    if eot is None:
        raise UserError(f"{path} has no token <|endoftext|>, in which every document ends")
    return tokenizer, eot


def write_tokenizer(source, target, context):
    """Copies tokenizer.json byte for byte; its settings get padding on the left, which generation in batches needs."""
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    path = source / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    special = {f"{role}_token": "<|endoftext|>" for role in ("bos", "eos", "pad")}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", **special, "padding_side": "left", "model_max_length": context}
    settings |= {"clean_up_tokenization_spaces": False, "add_bos_token": False}
    settings["model_input_names"] = ["input_ids", "attention_mask"]  # transformers 4 adds token_type_ids, which generate refuses
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_export(folder, name, path, phoenix, checkpoint, eot, format, repo=None):
    """Writes all files of the export called `name` to a new `folder`; `repo` is where it goes on the Hub."""
    from transformers import GenerationConfig

    folder.mkdir(parents=True)
    files = []
    if format == "gguf":
        from phoenix import gguf_files

        for kind in gguf_files.KINDS:
            files.append(f"{name}-{kind}.gguf")
            gguf_files.write_gguf(folder / files[-1], phoenix, path.parent / "tokenizer" / "tokenizer.json", eot, name, kind)
    else:
        weights = {name: p.contiguous() for name, p in phoenix.state_dict().items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        os.umask(umask := os.umask(0))
        (folder / "model.safetensors").chmod(0o666 & ~umask)  # safetensors makes it readable for its owner alone
        GenerationConfig(bos_token_id=eot, eos_token_id=eot, pad_token_id=eot).save_pretrained(folder)
        write_tokenizer(path.parent / "tokenizer", folder, phoenix.cfg.context)
    (folder / "README.md").write_text(model_card(name, path, phoenix, checkpoint, format, files, repo), encoding="utf-8")
    made = {file.name: sha256_file(file) for file in folder.iterdir() if file.suffix in (".md", ".safetensors", ".gguf")}
    config = hf_config(phoenix.cfg, format, eot)
    config.phoenix = {"format": format, "step": checkpoint["step"], "tokens": checkpoint["tokens"], "files": made}
    config.save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    described["rope_theta"] = phoenix.cfg.rope_theta  # where transformers before 5 looks for it
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if format == "phoenix":
        shutil.copyfile(Path(__file__).parent / "phoenix" / "modeling_phoenix.py", folder / "modeling_phoenix.py")
    if (path.parent / "loss.png").is_file():
        shutil.copyfile(path.parent / "loss.png", folder / "loss.png")


def is_export(folder):
    """
    Whether a folder may be replaced: it is empty, or an export of this script as it was made.

    Other files in it, other weights (a fine-tuned model saved there) and an edited card forbid it.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder.is_dir()
    try:
        made = json.loads((folder / "config.json").read_text(encoding="utf-8"))["phoenix"]["files"]
        same = all(sha256_file(folder / name) == value for name, value in made.items())
        return same and {file.name for file in folder.iterdir()} <= {*FILES, *made}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


# ---- the proof -------------------------------------------------------------------------------------------------------

RELOAD = """
import json
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

folder, reference, trust = sys.argv[1], torch.load(sys.argv[2], weights_only=True), sys.argv[3] == "phoenix"
config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
with torch.no_grad():
    difference = (model(reference["tokens"]).logits - reference["logits"]).abs().max().item()
ids = [tokenizer.encode(text) for text in reference["texts"]]
set_seed(0)
start = torch.tensor([[tokenizer.bos_token_id]])
sample = model.generate(start, attention_mask=start * 0 + 1, max_new_tokens=60, do_sample=True, temperature=0.8, top_k=50)
found = {"model": type(model).__name__, "config": type(config).__name__, "difference": difference, "ids": ids,
         "texts": [tokenizer.decode(i) for i in ids], "sample": tokenizer.decode(sample[0, 1:])}
print(json.dumps(found))
"""


def random_tokens(cfg):
    """(1, T) tokens on which the logits are compared."""
    return torch.randint(cfg.vocab_size, (1, min(cfg.context, 256)), generator=torch.Generator().manual_seed(0))


def reload(folder, phoenix, tokenizer, format):
    """
    Loads the folder in a fresh process that has no checkout on its path, no Hub and no cached classes -> RELOAD's findings.

    RuntimeError where it does not load, where its logits differ from model.py's or its tokenizer from tokenizers'.
    """
    tokens = random_tokens(phoenix.cfg)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        reference = {"tokens": tokens, "logits": phoenix(tokens).float(), "texts": list(HARD_TEXTS)}
        torch.save(reference, Path(scratch, "reference.pt"))
        env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(scratch, "modules")), "PYTHONPATH": ""}
        arguments = [str(folder.resolve()), str(Path(scratch, "reference.pt")), format]
        child = subprocess.run(
            [sys.executable, "-P", "-c", RELOAD, *arguments], cwd=scratch, env=env, capture_output=True, text=True, check=False
        )
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise RuntimeError(f"the exported folder does not load: {lines[-1]}")
    found = json.loads(child.stdout.splitlines()[-1])
    if not found["difference"] <= MOST_LOGIT_DIFFERENCE:  # so that NaN is refused, too
        raise RuntimeError(
            f"the logits differ by {found['difference']:.1e} from model.py's, at most {MOST_LOGIT_DIFFERENCE:.0e} is allowed"
        )
    for text, ids, back in zip(HARD_TEXTS, found["ids"], found["texts"], strict=True):
        want = tokenizer.encode(text, add_special_tokens=False).ids
        same = text if tokenizer.normalizer is None else tokenizer.decode(want, skip_special_tokens=False)
        if ids != want or back != same:
            raise RuntimeError(f"AutoTokenizer makes {ids} = {back!r} of {text!r}, the trained tokenizer {want}")
    return found


def prove(folder, phoenix, tokenizer, format):
    """Reloads the export and yields a line for each check that it passes; RuntimeError where it is not the model."""
    if format == "gguf":
        from phoenix import gguf_files

        for kind in gguf_files.KINDS:
            (file,) = folder.glob(f"*-{kind}.gguf")
            found = gguf_files.check_gguf(file, phoenix, kind, random_tokens(phoenix.cfg), MOST_LOGIT_DIFFERENCE)
            yield f"{file.name}: read again, equal to the weights rounded; logits differ from fp32's by at most {found:.1e}"
            gguf_files.check_tokenizer(file, tokenizer, tokenizer.token_to_id("<|endoftext|>"), HARD_TEXTS)
            yield f"tokenizer: the trained one; {len(HARD_TEXTS)} hard texts encoded and decoded as by it"
            start = torch.tensor([[tokenizer.token_to_id("<|endoftext|>")]])
            draw = torch.Generator().manual_seed(0)
            sample = gguf_files.read_gguf(file, phoenix).generate(start, 60, temperature=0.8, top_k=50, generator=draw)
            yield f"sample: {tokenizer.decode(sample[0, 1:].tolist(), skip_special_tokens=False)}"
        return
    found = reload(folder, phoenix, tokenizer, format)
    yield f"reloaded in a fresh process as {found['model']}"
    yield f"logits differ from model.py's by at most {found['difference']:.1e} (fp32)"
    yield f"tokenizer: {len(HARD_TEXTS)} hard texts encoded and decoded as by the trained one"
    yield f"sample: {found['sample']}"


# ---- the Hub ---------------------------------------------------------------------------------------------------------


def push(folder, repo):
    """Uploads the folder as the model `repo`, after asking -> whether it did. UserError where the Hub refuses it."""
    import httpx2
    from huggingface_hub import HfApi

    api = HfApi()
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"upload {len(files)} files, {size:,.1f} MB, to {api.endpoint}/{repo}, public if new? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print("not uploaded")
        return False
    try:
        api.create_repo(repo, repo_type="model", exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export of Phoenix")
    except (OSError, ValueError, httpx2.HTTPError) as error:  # no token, not allowed, not a name; no network or an answer cut off
        reason = one_line(error, 300) or type(error).__name__
        raise UserError(f"the export is in {folder}, and could not be uploaded to {repo}: {reason}") from error
    print(f"uploaded: {done.commit_url}")
    return True


# ---- the run ---------------------------------------------------------------------------------------------------------


def main(argv):
    cfg = load(Export, argv, positional="checkpoint")
    if cfg.format not in ("phoenix", "llama", "gguf"):
        raise UserError(f"unknown format {cfg.format!r}: there are phoenix, llama and gguf")
    if cfg.push is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", cfg.push):
        raise UserError(f"--push={cfg.push} is not of the form user/repo")
    path, out = Path(cfg.checkpoint), Path(cfg.out).resolve()
    partial, old = (out.with_name(f".{out.name}.{word}") for word in ("partial", "old"))
    if old.exists() and not out.exists():  # an earlier run was stopped between its two renames
        old.rename(out)
    if out.exists() and not is_export(out):
        raise UserError(f"{out} exists and is not an earlier export as it was made: give a new folder, nothing else is replaced")
    phoenix, checkpoint = from_checkpoint(path)
    tokenizer, eot = read_tokenizer(path.parent / "tokenizer", checkpoint)

    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        write_export(partial, out.name, path, phoenix, checkpoint, eot, cfg.format, cfg.push)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"the export cannot be written to {partial}: {error}") from error
    print(f"{out}: {phoenix.parameter_count() / 1e6:.1f} M parameters, {cfg.format}")
    mix = Path(checkpoint["settings"]["data"], "shards", "sources.json")
    if not mix.is_file():
        print(f"note: README.md says nothing of the training data: {mix} is not here", file=sys.stderr)
    try:
        for line in prove(partial, phoenix, tokenizer, cfg.format):
            print(line)
    except RuntimeError as error:
        print(f"error: {error}\nnot exported; what was written is in {partial}", file=sys.stderr)
        return 1
    try:
        if (out / "eval.json").is_file():
            shutil.copyfile(out / "eval.json", partial / "eval.json")
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:  # a folder that is a mount, or that somebody else wrote to meanwhile
        raise UserError(f"{out} cannot be replaced ({error.strerror}): the export is in {partial}") from error
    shutil.rmtree(old, ignore_errors=True)
    if cfg.push and not push(out, cfg.push):
        return 1
    return 0


if __name__ == "__main__":
    main_guard(main)
