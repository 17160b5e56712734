"""Laws of the export: the same logits and tokens in a fresh process, one weight file for both formats, whole or not at all."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import evaluate
import export_hf
from config import UserError
from model import from_checkpoint
from tests.tiny_run import make_run

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """In the fresh processes too: on a busy machine a second thread makes a tiny model ten times slower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory):
    """Both formats, each reloaded in a fresh process as always."""
    folder = tmp_path_factory.mktemp("exports")
    for format in ("phoenix", "llama"):
        assert export_hf.main([str(run), f"--out={folder / format}", f"--format={format}"]) == 0
    return folder


@pytest.fixture
def not_reloaded(monkeypatch):
    monkeypatch.setattr(export_hf, "reload", lambda *_: {"model": "", "difference": 0.0, "sample": ""})


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_both_formats_hold_the_same_weight_file_and_what_travels_with_it(exports, run):
    phoenix, llama = exports / "phoenix", exports / "llama"
    assert sha256(phoenix / "model.safetensors") == sha256(llama / "model.safetensors")
    assert sha256(phoenix / "tokenizer.json") == sha256(run.parent / "tokenizer" / "tokenizer.json")
    both = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert {file.name for file in llama.iterdir()} == both
    assert {file.name for file in phoenix.iterdir()} == both | {"modeling_phoenix.py"}
    configs = [json.loads((folder / "config.json").read_text()) for folder in (phoenix, llama)]
    assert [config["architectures"] for config in configs] == [["PhoenixForCausalLM"], ["LlamaForCausalLM"]]
    assert configs[0]["auto_map"]["AutoModelForCausalLM"] == "modeling_phoenix.PhoenixForCausalLM"
    assert "auto_map" not in configs[1]
    assert len(list(exports.iterdir())) == 2  # no temporary folder stays behind


@pytest.mark.slow
def test_a_fresh_process_writes_the_same_text_alone_and_in_a_padded_batch(exports, run, tmp_path):
    script = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
prompts = ["A man is", "Sarah was a much better surgeon than"]
found = []
for texts in ([prompts[0]], [prompts[1]], prompts):
    tokens = tokenizer(texts, return_tensors="pt", padding=len(texts) > 1)
    found += model.generate(**tokens, max_new_tokens=12, do_sample=False)[:, -12:].tolist()
print(json.dumps([type(model).__name__, model.dtype == torch.float32, found]))
"""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path)}
    command = [sys.executable, "-P", "-c", script, str(exports / "phoenix")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, fp32, (first, second, *batch) = json.loads(done.stdout.splitlines()[-1])
    assert (name, fp32) == ("PhoenixForCausalLM", True)
    assert batch == [first, second]
    phoenix, _ = from_checkpoint(run)
    tokenizer, _ = export_hf.read_tokenizer(run.parent / "tokenizer", {"model_config": {"vocab_size": 320}} | hashes(run))
    ids = tokenizer.encode("A man is").ids
    assert phoenix.generate(torch.tensor([ids]), 12, temperature=0)[0, -12:].tolist() == first


def hashes(run):
    return {"tokenizer_sha256": sha256(run.parent / "tokenizer" / "tokenizer.json")}


@pytest.mark.slow
def test_an_export_scores_what_its_checkpoint_scores(exports, run, tmp_path):
    shards = run.parents[1] / "data" / "shards"
    reports = []
    for i, model in enumerate((run, exports / "phoenix", exports / "llama")):
        out = tmp_path / f"{i}.json"
        assert evaluate.main([str(model), "--tasks=bits_per_byte", f"--shards={shards}", f"--json={out}"]) == 0
        reports.append(json.loads(out.read_text())["results"]["bits_per_byte"]["metrics"])
    assert reports[0] == reports[1] == reports[2]
    with pytest.raises(UserError, match="needs --shards"):
        evaluate.main([str(exports / "llama"), "--tasks=bits_per_byte"])


@pytest.mark.slow
def test_qk_norm_exports_as_its_own_class_and_a_changed_model_is_not_exported(tmp_path, monkeypatch, capsys):
    path, out = make_run(tmp_path, qk_norm=True), tmp_path / "hf"
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    assert json.loads((out / "config.json").read_text())["architectures"] == ["PhoenixQKNormForCausalLM"]
    before = sha256(out / "config.json")
    right = export_hf.hf_config

    def wrong(*args):
        config = right(*args)
        config.rms_norm_eps = 0.1
        return config

    monkeypatch.setattr(export_hf, "hf_config", wrong)
    assert export_hf.main([str(path), f"--out={out}"]) == 1
    assert "the logits differ by" in capsys.readouterr().err
    assert sha256(out / "config.json") == before  # the earlier export stays


def test_an_export_replaces_an_earlier_one_whole_and_nothing_else(run, tmp_path, not_reloaded):
    out = tmp_path / "deep" / "hf"
    assert export_hf.main([str(run), f"--out={out}"]) == 0
    first = {file.name: sha256(file) for file in out.iterdir()}
    (out / "stale.txt").write_text("of an earlier export")
    (out / "README.md").write_text("changed")
    assert export_hf.main([str(run), f"--out={out}"]) == 0
    assert {file.name: sha256(file) for file in out.iterdir()} == first
    assert list(out.parent.iterdir()) == [out]
    other_model = tmp_path / "other"
    other_model.mkdir()
    (other_model / "config.json").write_text('{"model_type": "gpt2"}')
    for other in (other_model, run.parent, run):  # another model, a folder of something else, a file
        with pytest.raises(UserError, match="exists and is not an earlier export"):
            export_hf.main([str(run), f"--out={other}"])
    assert run.is_file()


def test_weights_that_the_config_asks_for_and_the_file_lacks_are_not_drawn_at_random(run, tmp_path, not_reloaded):
    from safetensors.torch import load_file, save_file

    out = tmp_path / "hf"
    assert export_hf.main([str(run), f"--out={out}", "--format=llama"]) == 0
    weights = load_file(out / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "layers.1.mlp" not in name}, out / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights .*layers\.1\.mlp"):
        evaluate.main([str(out), "--tasks=wikitext", f"--data={tmp_path}"])


def test_the_card_says_the_numbers_of_the_files(run, tmp_path, not_reloaded):
    folder = tmp_path / "run"
    shutil.copytree(run.parents[1], folder)
    path, out, data = folder / "run" / "ckpt.pt", tmp_path / "hf", folder / "data"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["settings"]["data"] = str(data)
    torch.save(checkpoint, path)
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    card = (out / "README.md").read_text()
    parameters = sum(p.numel() for p in from_checkpoint(path)[0].parameters())
    assert f"{parameters / 1e6:.1f} M parameters, trained with Phoenix on 1,234 tokens in 7 steps" in card
    assert "Scores" not in card and "Training data" not in card

    python = {"name": "python", "documents": 7, "tokens": 123, "share": 0.7, "licences": {"MIT": 2, "PSF": 5}, "revision": None}
    (data / "shards" / "sources.json").write_text(json.dumps({"tokens": 123, "sources": [python]}))
    assert evaluate.main([str(path), "--tasks=bits_per_byte"]) == 0
    value = json.loads((path.parent / "eval.json").read_text())["results"]["bits_per_byte"]["metrics"]["bits_per_byte"][0]
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    card = (out / "README.md").read_text()
    assert "| python | 7 | 123 | 0.7 | PSF, MIT |" in card
    assert f"| bits_per_byte | bits_per_byte | {value:.4f} |" in card
    torch.save(checkpoint | {"step": 8}, path)  # trained on: the scores are another checkpoint's
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    assert "Scores" not in (out / "README.md").read_text()


def test_a_users_mistake_is_one_sentence(run, tmp_path):
    path = tmp_path / "run" / "ckpt.pt"
    out = tmp_path / "hf"
    for argv, sentence in (
        (["no/ckpt.pt", f"--out={out}"], "no/ckpt.pt does not exist"),
        ([str(run)], "out must be given"),
        ([str(run), f"--out={out}", "--format=gguf"], "unknown format 'gguf': there are phoenix and llama"),
        ([str(run), f"--out={run}/below/a/file"], "the export cannot be written to"),
    ):
        with pytest.raises(UserError, match=sentence):
            export_hf.main(argv)
    shutil.copytree(run.parent, path.parent)
    tokens = path.parent / "tokenizer" / "tokenizer.json"
    genuine = tokens.read_text()
    tokens.write_text(genuine + " ")
    with pytest.raises(UserError, match="is not the tokenizer that the checkpoint was trained with"):
        export_hf.main([str(path), f"--out={out}"])
    described = json.loads(genuine)
    described["added_tokens"].append(described["added_tokens"][0] | {"id": 320, "content": "<|one_more|>"})
    tokens.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"the checkpoint has a vocabulary of 320, the tokenizer .* of 321"):
        export_hf.main([str(path), f"--out={out}"])
    tokens.unlink()
    with pytest.raises(UserError, match="does not exist: the tokenizer is copied beside"):
        export_hf.main([str(path), f"--out={out}"])
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["evaluate.py", "export_hf.py"])
def test_a_missing_checkpoint_ends_the_script_with_code_2(script, tmp_path):
    command = [sys.executable, script, str(tmp_path / "no.pt"), f"--out={tmp_path / 'hf'}", "--tasks=bits_per_byte"]
    command.pop(3 if script == "evaluate.py" else 4)
    done = subprocess.run(command, cwd=export_hf.HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "no.pt does not exist" in done.stderr
