"""Laws of the export: the same logits and tokens in a fresh process, one weight file for both formats, whole or not at all."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys

import gguf
import httpx2
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import evaluate
import export_hf
from model import from_checkpoint
from phoenix import gguf_files, model_card
from phoenix.config import UserError
from phoenix.tasks import TASKS, config_and_split
from tests.fixtures import ROOT
from tests.servers import loopback_hub
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
    assert [config["rope_theta"] for config in configs] == [500.0, 500.0]  # where transformers before 5 looks for it
    assert len(list(exports.iterdir())) == 2  # no temporary folder stays behind


@pytest.mark.slow
@pytest.mark.parametrize("venv", [".venv", ".venv-lm-eval", ".venv-transformers-4"])
def test_an_export_does_in_a_fresh_process_what_people_do_with_models(exports, run, tmp_path, venv):
    found = behaviour(sys.executable if venv == ".venv" else peer(venv), exports / "phoenix", tmp_path)
    assert found["model"] == "PhoenixForCausalLM"
    assert found["trained"] or venv == ".venv"
    assert venv != ".venv-transformers-4" or found["transformers"].startswith("4.")
    check_behaviour(found, run)


def behaviour(python, folder, scratch):
    """What tests/hf_behaviour.py says of an export, whose parts assert for themselves."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(scratch / "modules"), "PYTHONPATH": ""}
    command = [python, "-P", str(ROOT / "tests" / "hf_behaviour.py"), str(folder), str(scratch)]
    done = subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_behaviour(found, path):
    """The text and the logits are those of the checkpoint at `path`."""
    phoenix, _ = from_checkpoint(path)
    ids = tokenizer_of(path).encode("A man is").ids
    assert phoenix.generate(torch.tensor([ids]), 12, temperature=0)[0, -12:].tolist() == found["text"]
    with torch.no_grad():
        logits = phoenix(torch.tensor([tokenizer_of(path).encode("Sarah was a much better surgeon than").ids]))[0, -1, :8]
    assert found["logits"] == pytest.approx(logits.tolist(), abs=1e-4)


def peer(venv):
    """The Python of a venv that `make peers` makes."""
    python = ROOT / venv / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs {venv}: run `make peers`")
    return str(python)


def tokenizer_of(run):
    return export_hf.read_tokenizer(run.parent / "tokenizer", {"model_config": {"vocab_size": 320}} | hashes(run))[0]


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
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = behaviour(sys.executable, out, scratch)
    assert found["model"] == "PhoenixQKNormForCausalLM"
    check_behaviour(found, path)
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
    assert {file.stat().st_mode & 0o777 for file in out.iterdir()} == {0o666 & ~umask()}  # a server of another user reads them
    (out / "eval.json").write_text("its scores")
    assert export_hf.main([str(run), f"--out={out}"]) == 0
    assert (out / "eval.json").read_text() == "its scores"
    (out / "eval.json").unlink()
    assert {file.name: sha256(file) for file in out.iterdir()} == first
    assert list(out.parent.iterdir()) == [out]
    noted, edited, tuned = (shutil.copytree(out, tmp_path / name) for name in ("noted", "edited", "tuned"))
    (noted / "notes.txt").write_text("mine")
    (edited / "README.md").write_text("my card")
    weights = load_file(tuned / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, tuned / "model.safetensors", {"format": "pt"})
    other_model = tmp_path / "other"
    other_model.mkdir()
    (other_model / "config.json").write_text('{"model_type": "gpt2"}')
    for other in (other_model, run.parent, run, noted, edited, tuned):  # another model, a folder of something else, a file, ...
        with pytest.raises(UserError, match="exists and is not an earlier export"):
            export_hf.main([str(run), f"--out={other}"])
    assert run.is_file()


def umask():
    os.umask(mask := os.umask(0))
    return mask


def test_an_export_that_was_stopped_between_its_renames_is_found_again(run, tmp_path, not_reloaded, monkeypatch):
    out, old = tmp_path / "hf", tmp_path / ".hf.old"
    assert export_hf.main([str(run), f"--out={out}"]) == 0
    (out / "eval.json").write_text("its scores")
    first = {file.name: sha256(file) for file in out.iterdir()}
    out.rename(old)  # as a kill leaves it
    right = export_hf.write_export

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_hf, "write_export", full)
    with pytest.raises(UserError, match="cannot be written"):
        export_hf.main([str(run), f"--out={out}"])
    assert {file.name: sha256(file) for file in out.iterdir()} == first
    monkeypatch.setattr(export_hf, "write_export", right)
    out.rename(old)
    assert export_hf.main([str(run), f"--out={out}"]) == 0
    assert {file.name: sha256(file) for file in out.iterdir()} == first and list(tmp_path.iterdir()) == [out]


def test_a_folder_that_cannot_be_replaced_is_one_sentence_and_the_export_stays_beside(run, tmp_path, not_reloaded, monkeypatch):
    out = tmp_path / "mount"
    out.mkdir()

    def busy(*_):
        raise OSError(16, "Device or resource busy")  # what the kernel says of a folder on which a disk is mounted

    monkeypatch.setattr(type(tmp_path), "rename", busy)
    with pytest.raises(UserError, match=rf"{out} cannot be replaced \(Device or resource busy\): the export is in .*partial"):
        export_hf.main([str(run), f"--out={out}"])
    assert (tmp_path / ".mount.partial" / "model.safetensors").is_file() and out.is_dir()


def test_weights_that_the_config_asks_for_and_the_file_lacks_are_not_drawn_at_random(run, tmp_path, not_reloaded):

    out = tmp_path / "hf"
    assert export_hf.main([str(run), f"--out={out}", "--format=llama"]) == 0
    weights = load_file(out / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "layers.1.mlp" not in name}, out / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights .*layers\.1\.mlp"):
        evaluate.main([str(out), "--tasks=bits_per_byte", f"--shards={run.parents[1] / 'data' / 'shards'}"])


def test_the_card_says_the_numbers_of_the_files(run, tmp_path, not_reloaded, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run.parents[1], folder)
    path, out, data = folder / "run" / "ckpt.pt", tmp_path / "hf", folder / "data"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["settings"] |= {"data": str(data), "out": "out/tiny"}
    torch.save(checkpoint, path)
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    mix = data / "shards" / "sources.json"
    assert f"README.md says nothing of the training data: {mix} is not here" in capsys.readouterr().err
    card = (out / "README.md").read_text()
    parameters = sum(p.numel() for p in from_checkpoint(path)[0].parameters())
    assert f"{parameters / 1e6:.1f} M parameters, trained from scratch with Phoenix on 1,234 tokens in 7 steps" in card
    assert "| energy | not measured |" in card
    for absent in ("## Scores", "## Training data", "loss.png", "model-index", "language:"):
        assert absent not in card

    python = {"name": "python", "documents": 1007, "tokens": 123, "share": 0.7, "target_share": 0.75, "epochs": 1.5}
    web = {"name": "web", "repo": "someone/web", "documents": 1, "tokens": 5, "share": 0.3, "licences": {"ODC": 1}}
    sources = [python | {"revision": "abc", "licences": {"MIT": 2, "PSF": 5}}, web]
    (data / "shards" / "sources.json").write_text(json.dumps({"tokens": 128, "sources": sources}))
    corpus = {"settings": {"language": {"keep": ["en"]}}, "arguments": "configs/mine.py --tokens=128"}
    (data / "report.json").write_text(json.dumps(corpus))
    (path.parent / "loss.png").write_bytes(b"a picture")
    about = {"device": "cuda (RTX 3080 Ti), bfloat16", "commit": "abc123", "arguments": "configs/tiny.py --lr=1e-3"}
    (path.parent / "log.jsonl").write_text(json.dumps({"step": 0, "about": about}) + "\n{")
    torch.save(checkpoint | {"secs": 5400.0, "kwh": 0.525, "val_loss": 3.25, "val_bpb": 1.1, "shards_sha256": "5" * 64}, path)
    assert evaluate.main([str(path), "--tasks=bits_per_byte"]) == 0
    report = json.loads((path.parent / "eval.json").read_text())
    value = report["results"]["bits_per_byte"]["metrics"]["bits_per_byte"][0]
    piqa = {"metrics": {"acc": [0.625, 0.0113]}, "items": 1838, "of": 1838}
    report["results"]["piqa"] = piqa
    (path.parent / "eval.json").write_text(json.dumps(report))
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    card = (out / "README.md").read_text()
    for row in (
        "| python | abc | 1,007 | 123 | 1.5 | 70.0% (asked 75.0%) | PSF (5), MIT (2) |",
        f"| bits_per_byte | bits_per_byte | {value:.4f} |",
        "| piqa | acc | 0.6250 ± 0.0113 | 1,838 of 1,838 |",
        "| hardware | cuda (RTX 3080 Ti), bfloat16 |",
        "| hours | 1.50 |",
        "| energy | 0.525 kWh |",
        "| validation loss | 3.2500 nats per token |",
        """```bash
python -m data_engine.run configs/mine.py --tokens=128
python train.py configs/tiny.py --lr=1e-3
python evaluate.py out/tiny/ckpt.pt --tasks=bits_per_byte --windows=None
python evaluate.py out/tiny/ckpt.pt --tasks=piqa
python export_hf.py out/tiny/ckpt.pt --out=out/tiny/hf --format=phoenix
```""",
        f"| shards.json | {'5' * 64} |",
        "![Loss over the tokens of the run](loss.png)",
    ):
        assert row in card
    assert str(tmp_path) not in card  # whose machine it was is nobody's business
    assert "says nothing" not in capsys.readouterr().err
    assert (out / "loss.png").read_bytes() == b"a picture"
    described = ModelCard(card).data
    assert (described.license, described.language, described.datasets) == ("apache-2.0", ["en"], ["someone/web"])
    scored = {result.dataset_name: result for result in described.eval_results if result.metric_type in ("acc", "bits_per_byte")}
    assert (scored["piqa"].dataset_type, scored["piqa"].metric_value) == ("baber/piqa", 0.625)
    assert scored["piqa"].dataset_revision == TASKS["piqa"].hub[1]
    assert scored["bits_per_byte"].metric_value == value
    torch.save(checkpoint | {"step": 8}, path)  # trained on: the scores are another checkpoint's
    assert export_hf.main([str(path), f"--out={out}"]) == 0
    assert "## Scores" not in (out / "README.md").read_text()


@pytest.mark.slow
def test_the_cards_own_examples_run(exports):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(exports.parent / "modules"), "PYTHONPATH": ""}
    assert run_examples(sys.executable, [exports / "phoenix", exports / "llama"], "max_new_tokens", env) == 4


@pytest.mark.slow
def test_the_examples_of_a_gguf_card_run(gguf_run):
    assert run_examples(peer(".venv-llama-cpp"), [gguf_run[1]], "max_tokens", os.environ) == 2


def run_examples(python, exports, length, env):
    """Runs the examples of the exports' cards, all in one process, where the exports lie -> how many there are."""
    cards = [(export / "README.md").read_text() for export in exports]
    examples = [block.split("```")[0] for card in cards for block in card.split("```python\n")[1:]]
    assert all(f"{length}=50" in example for example in examples)
    code = "\n".join(examples).replace(f"{length}=50", f"{length}=5")
    done = subprocess.run([python, "-P", "-c", code], cwd=exports[0].parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout  # of random weights perhaps no more than the ends of lines
    return len(examples)


def test_a_card_shows_no_part_of_a_benchmark_as_the_whole_and_bears_odd_files(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.parents[1], folder)
    path, data = folder / "run" / "ckpt.pt", folder / "data"
    phoenix, checkpoint = from_checkpoint(path)
    checkpoint["settings"]["data"] = str(data)

    def card(**more):
        return model_card.model_card("tiny", path, phoenix, checkpoint, more.pop("format", "phoenix"), **more)

    for odd in ("[]", "{", "null"):
        (path.parent / "eval.json").write_text(odd)
        (data / "shards" / "sources.json").write_text(odd)
        assert "## Scores" not in card()
    row = {"name": "web", "documents": 1, "tokens": 5, "share": 1.0}
    (data / "shards" / "sources.json").write_text(json.dumps({"sources": [row, row | {"name": "books", "licences": None}]}))
    about = json.dumps({"about": {"device": "cpu"}}).encode()
    (path.parent / "log.jsonl").write_bytes(b'{"about": "\xff"}\n3\n{"about": 3}\n' + about)
    versions = {"evaluate": 1, "commit": None}
    newer = versions | {"commit": "abcdef1"}
    results = {
        "piqa": {"metrics": {"acc": [0.5, 0.1]}, "items": 100, "of": 1838},
        "arc_easy:validation": {"metrics": {"acc": [0.25, 0.1]}, "items": 570, "of": 570, "versions": newer},
    }
    scored = {"weights_sha256": {path.name: sha256(path)}, "versions": versions, "results": results}
    (path.parent / "eval.json").write_text(json.dumps(scored))
    text = card()
    assert "| piqa | acc | 0.5000 ± 0.1000 | 100 of 1,838 |" in text
    assert "| web | – | 1 | 5 | 1 | 100.0% | not known |" in text and "| hardware | cpu |" in text
    (result,) = ModelCard(text).data.eval_results
    assert (result.dataset_name, result.dataset_config, result.dataset_split) == ("arc_easy:validation", "ARC-Easy", "validation")
    assert result.source_name == "Phoenix evaluate.py 1, commit abcdef1"
    assert {name: config_and_split(task.hub[2]) for name, task in TASKS.items()} == {
        "hellaswag": ("default", "validation"),
        "winogrande": ("winogrande_xl", "validation"),
        "arc_easy": ("ARC-Easy", "test"),
        "arc_easy:validation": ("ARC-Easy", "validation"),
        "lambada_openai": ("default", "test"),
        "piqa": ("default", "validation"),
        "wikitext": ("wikitext-2-raw-v1", "test"),
    }

    assert 'folder = "tiny"' in text and 'pipeline("text-generation", "tiny"' in text
    pushed = card(repo="someone/tiny-2")
    assert 'folder = "someone/tiny-2"' in pushed and 'pipeline("text-generation", "someone/tiny-2"' in pushed
    assert 'Llama("tiny/tiny-f16.gguf", verbose' in card(format="gguf", files=["tiny-f16.gguf"])
    pushed = card(format="gguf", files=["tiny-f16.gguf"], repo="someone/tiny-2")
    assert 'Llama.from_pretrained("someone/tiny-2", "tiny-f16.gguf", verbose=False)' in pushed


# ---- llama.cpp -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["llama", "qwen3"])
def gguf_run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    path = make_run(folder, qk_norm=request.param)
    assert export_hf.main([str(path), f"--out={folder / 'tiny'}", "--format=gguf"]) == 0
    return path, folder / "tiny"


def test_gguf_files_hold_the_model_and_its_tokenizer(gguf_run):
    path, out = gguf_run
    assert {file.name for file in out.iterdir()} == {"config.json", "README.md", "tiny-f16.gguf", "tiny-q8_0.gguf"}
    phoenix, _ = from_checkpoint(path)
    reader = gguf.GGUFReader(out / "tiny-q8_0.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert len(kinds) == len(phoenix.state_dict())
    assert (kinds["token_embd.weight"], kinds["output_norm.weight"]) == ("Q8_0", "F32")
    assert kinds["blk.1.ffn_down.weight"] == "F16"  # rows of 48: no multiple of 32
    field = {name: reader.fields[name].contents() for name in reader.fields}
    assert field["general.architecture"] == ("qwen3" if phoenix.cfg.qk_norm else "llama")
    assert field["tokenizer.ggml.pre"] == "gpt-2" and field["tokenizer.ggml.eos_token_id"] == 0
    assert field["tokenizer.ggml.tokens"] == [tokenizer_of(path).id_to_token(i) for i in range(320)]
    weight = phoenix.state_dict()["model.layers.0.self_attn.q_proj.weight"].half().float()
    read = gguf_files.read_gguf(out / "tiny-f16.gguf", phoenix)
    assert torch.equal(read.state_dict()["model.layers.0.self_attn.q_proj.weight"], weight)


@pytest.mark.parametrize("wrong", ["tokens", "token_type", "merges", "eos_token_id"])
def test_a_gguf_file_with_another_tokenizer_is_refused(run, tmp_path, monkeypatch, wrong):
    phoenix, _ = from_checkpoint(run)
    tokenizer, file, source = tokenizer_of(run), tmp_path / "a.gguf", run.parent / "tokenizer" / "tokenizer.json"
    gguf_files.write_gguf(file, phoenix, source, 0, "a", "f16")
    gguf_files.check_tokenizer(file, tokenizer, 0, export_hf.HARD_TEXTS)
    tokens, types, merges = gguf_files.vocabulary(source)
    changed = {"tokens": (tokens[:1] + tokens[:0:-1], types, merges), "token_type": (tokens, [1] * len(types), merges)}
    changed |= {"merges": (tokens, types, merges[::-1]), "eos_token_id": (tokens, types, merges)}
    monkeypatch.setattr(gguf_files, "vocabulary", lambda _: changed[wrong])
    gguf_files.write_gguf(file, phoenix, source, 5 if wrong == "eos_token_id" else 0, "a", "f16")
    with pytest.raises(RuntimeError, match=f"a.gguf is not the trained one: other .*{wrong}"):
        gguf_files.check_tokenizer(file, tokenizer, 0, export_hf.HARD_TEXTS)


def test_rotary_pairs_become_neighbours_and_come_back():
    weight = np.arange(8 * 3).reshape(8, 3)  # 2 heads of 4 rows: pairs (0, 2), (1, 3)
    assert gguf_files.interleaved(weight, 2)[:, 0].tolist() == [0, 6, 3, 9, 12, 18, 15, 21]
    assert (gguf_files.half_split(gguf_files.interleaved(weight, 2), 2) == weight).all()


def test_a_gguf_file_of_another_model_and_a_tokenizer_that_llama_cpp_does_not_know_are_refused(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "gguf"
    with monkeypatch.context() as patch:
        patch.setattr(gguf_files, "half_split", lambda weight, n_head: weight)
        assert export_hf.main([str(run), f"--out={out}", "--format=gguf"]) == 1
    assert "gives logits that differ by" in capsys.readouterr().err and not out.exists()
    described = json.loads((run.parent / "tokenizer" / "tokenizer.json").read_text())
    described["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"llama\.cpp knows byte-level BPE with GPT-2's pre-tokenizer"):
        gguf_files.vocabulary(tmp_path / "tokenizer.json")


@pytest.mark.slow
def test_llama_cpp_writes_the_same_greedy_text(gguf_run):
    path, out = gguf_run
    script = """
import json
import sys
from llama_cpp import Llama
llm = Llama(sys.argv[1], n_ctx=48, n_threads=1, verbose=False)
found = []
for text in json.loads(sys.argv[2]):
    ids = llm.tokenize(text.encode(), add_bos=False, special=False)
    llm.reset()
    llm.eval(ids)
    written = []
    for _ in range(12):
        written.append(llm.sample(temp=0.0, top_k=1, repeat_penalty=1.0))
        llm.eval(written[-1:])
    found.append([ids, written])
print(json.dumps(found))
"""
    texts = ["A man is", "naïve café, 東京, don't 12345.678", "def f(x):\n    return  x\n\n"]
    phoenix, _ = from_checkpoint(path)
    for kind in ("f16", "q8_0"):
        model = gguf_files.rounded(phoenix, kind)
        command = [peer(".venv-llama-cpp"), "-P", "-c", script, str(out / f"tiny-{kind}.gguf"), json.dumps(texts)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for text, (ids, written) in zip(texts, json.loads(done.stdout.splitlines()[-1]), strict=True):
            assert ids == tokenizer_of(path).encode(text).ids
            with torch.no_grad():
                logits = model(torch.tensor([ids + written[:-1]]))[0, len(ids) - 1 :]
            short = logits.amax(-1) - logits.gather(-1, torch.tensor(written)[:, None])[:, 0]
            # with q8_0 llama.cpp rounds the activations to 8 bits, too: a tie of these large random logits may fall the other way
            assert short.max() <= (0.0 if kind == "f16" else 0.5), (kind, short)


# ---- the Hub ---------------------------------------------------------------------------------------------------------


def test_an_export_is_uploaded_after_asking_and_only_then(run, tmp_path, not_reloaded, monkeypatch, capsys):
    argv = [str(run), f"--out={tmp_path / 'hf'}", "--push=someone/tiny"]
    with loopback_hub.running(monkeypatch, tmp_path / "cache") as hub:
        for answer in ("n\n", ""):
            monkeypatch.setattr("sys.stdin", io.StringIO(answer))
            assert export_hf.main(argv) == 1
            assert "not uploaded" in capsys.readouterr().out and not hub.requests
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        assert export_hf.main(argv) == 0
        assert {name: hashlib.sha256(data).hexdigest() for name, data in hub.uploaded.items()} == {
            file.name: sha256(file) for file in (tmp_path / "hf").iterdir()
        }
        assert 'folder = "someone/tiny"' in hub.uploaded["README.md"].decode()
        printed = capsys.readouterr()
        assert "uploaded: http://127.0.0.1" in printed.out and "hf_secret" not in printed.out + printed.err
        assert all(authorization == "Bearer hf_secret" for method, _, authorization in hub.requests if method == "POST")
        hub.refuses = True
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        with pytest.raises(UserError, match=r"could not be uploaded to someone/tiny: .*401") as refused:
            export_hf.main(argv)
        assert "hf_secret" not in str(refused.value)
    for error in (httpx2.ConnectError("connection refused"), httpx2.RemoteProtocolError("")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        with pytest.raises(UserError, match=r"could not be uploaded to someone/tiny: (connection refused|RemoteProtocolError)"):
            export_hf.push(tmp_path / "hf", "someone/tiny")
    assert (tmp_path / "hf" / "model.safetensors").is_file()
    with pytest.raises(UserError, match="is not of the form user/repo"):
        export_hf.main([str(run), f"--out={tmp_path / 'hf'}", "--push=tiny"])


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_a_users_mistake_is_one_sentence(run, tmp_path):
    path = tmp_path / "run" / "ckpt.pt"
    out = tmp_path / "hf"
    for argv, sentence in (
        (["no/ckpt.pt", f"--out={out}"], "no/ckpt.pt does not exist"),
        ([str(run)], "out must be given"),
        ([str(run), f"--out={out}", "--format=onnx"], "unknown format 'onnx': there are phoenix, llama and gguf"),
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
    saved = torch.load(path, weights_only=True)
    broken = {name: w for name, w in saved["model"].items() if "layers.1.mlp" not in name}
    for change, sentence in (
        ({"model": broken}, "does not hold a whole model: RuntimeError: .*layers.1.mlp"),
        ({"model_config": saved["model_config"] | {"wings": 2}}, "does not hold a whole model: TypeError: .*wings"),
        ({"settings": None}, "lacks settings"),
    ):
        torch.save({key: value for key, value in (saved | change).items() if value is not None}, path)
        with pytest.raises(UserError, match=sentence):
            export_hf.main([str(path), f"--out={out}"])
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["evaluate.py", "export_hf.py"])
def test_a_missing_checkpoint_ends_the_script_with_code_2(script, tmp_path):
    command = [sys.executable, script, str(tmp_path / "no.pt"), f"--out={tmp_path / 'hf'}", "--tasks=bits_per_byte"]
    command.pop(3 if script == "evaluate.py" else 4)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "no.pt does not exist" in done.stderr
