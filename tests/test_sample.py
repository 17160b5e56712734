"""Texts of a tiny checkpoint, of its export and of a GPT-2: in the terminal, in a conversation, and for the page."""

import http.client
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import torch

import export_hf
import sample
from model import from_checkpoint
from phoenix import checkpoint
from phoenix.config import UserError
from phoenix.files import sha256_file
from tests.fixtures import ROOT
from tests.tiny_run import make_run
from tests.training import wait_until

torch.set_num_threads(1)  # as in test_model.py
PROMPT = "Sarah was a much better surgeon than"
FOREVER = ["--tokens=1000000", "--temperature=0"]  # this model's likeliest tokens end no text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def llama(run):
    phoenix, saved = from_checkpoint(run)
    _, eot = export_hf.read_tokenizer(run.parent / "tokenizer", saved)
    export_hf.write_export(run.parent / "llama", "llama", run, phoenix, saved, eot, "llama")
    return run.parent / "llama"


@pytest.fixture(scope="module")
def gpt2(run, llama):
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=48, vocab_size=320, initializer_range=0.3)
    folder = run.parent / "gpt2"
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    for file in llama.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def text_of(capsys, *arguments):
    """What `python sample.py ...` prints."""
    assert sample.main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


# ---- one text --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_and_its_llama_folder_write_the_same_text(run, llama, capsys):
    for settings in (["--temperature=0"], ["--seed=3", "--top_p=0.9"]):  # 200 tokens, where the context is 48
        texts = [text_of(capsys, model, PROMPT, "--dtype=float32", *settings) for model in (run, llama)]
        assert texts[0] == texts[1] and texts[0].startswith(PROMPT) and len(texts[0]) > 150


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_folders_text_is_the_one_that_transformers_generates(kind, capsys, request):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = request.getfixturevalue(kind)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = model.generate(**tokenizer(PROMPT, return_tensors="pt"), max_new_tokens=20, do_sample=False)[0]
    expected = tokenizer.decode(ids).translate(sample.CONTROLS)
    assert text_of(capsys, folder, PROMPT, "--temperature=0", "--tokens=20", "--dtype=float32") == expected + "\n"


def test_the_pieces_are_the_text_of_the_tokens(run, capsys):
    phoenix, saved = from_checkpoint(run)
    tokenizer, eot = export_hf.read_tokenizer(run.parent / "tokenizer", saved)
    start = torch.tensor([tokenizer.encode(PROMPT).ids])
    drawn = phoenix.generate(start, 100, temperature=0.8, top_k=50, generator=torch.Generator().manual_seed(2))[0].tolist()
    ids = drawn[: drawn.index(eot)] if eot in drawn else drawn
    found = text_of(capsys, run, PROMPT, "--tokens=100", "--seed=2", "--dtype=float32")
    assert found == tokenizer.decode(ids).translate(sample.CONTROLS) + "\n"


def test_a_seed_gives_a_text_and_each_of_several_has_its_own(run, capsys):
    one, same, two, other = (text_of(capsys, run, PROMPT, "--tokens=30", f"--seed={seed}") for seed in (7, 7, 8, 9))
    assert one == same and len({one, two, other}) == 3
    line = "-" * 20 + "\n"
    assert text_of(capsys, run, PROMPT, "--tokens=30", "--seed=7", "--num=3") == one + line + two + line + other
    assert text_of(capsys, run, PROMPT, "--tokens=30") != text_of(capsys, run, PROMPT, "--tokens=30")


def test_a_text_may_begin_with_nothing_or_be_longer_than_the_context(run, gpt2, capsys):
    for model in (run, gpt2):
        assert len(text_of(capsys, model, "", *FOREVER[1:], "--tokens=5")) > 2
        assert text_of(capsys, model, PROMPT * 20, *FOREVER[1:], "--tokens=100").startswith(PROMPT * 20)


def test_a_text_ends_where_the_model_ends_it(run, capsys, monkeypatch):
    monkeypatch.setattr("phoenix.sampling.draw", lambda logits_BV, **_: torch.zeros(1, 1, dtype=torch.int64))  # <|endoftext|>
    assert text_of(capsys, run, "A man") == "A man\n"


def test_control_characters_do_not_reach_the_terminal(capsys):
    sample.show("a\x1b[2J\x07\x9b\r\u202eb\tc\nü猫")
    assert capsys.readouterr().out == "a\ufffd[2J\ufffd\ufffd\ufffd\ufffdb\tc\nü猫"


def test_a_prompt_that_is_not_utf_8_is_read_all_the_same(run):
    lm = sample.load_model(sample.Sample(str(run)))
    assert lm.decode(sample.begin(lm, os.fsdecode(b"caf\xe9")).ids) == "caf?"


# ---- a conversation --------------------------------------------------------------------------------------------------


def conversation(capsys, monkeypatch, typed, *arguments):
    """What stands on the screen without what is typed."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8"))
    return text_of(capsys, *arguments, "--temperature=0", "--tokens=10")


def test_enter_goes_on_a_line_is_added_and_ctrl_d_ends(run, capsys, monkeypatch):
    long, more = (text_of(capsys, run, PROMPT, "--temperature=0", f"--tokens={n}")[len(PROMPT) : -1] for n in (20, 10))
    found = conversation(capsys, monkeypatch, f"{PROMPT}\n\n/new\n{PROMPT}\nand\n", run)
    first, second, third, fourth, *rest = found.removeprefix("> ").split("\n> ")
    assert first == more and first + second == long and third == "> " + more and rest == ["\n"]
    cfg = sample.Sample(str(run), temperature=0.0, tokens=10)
    lm = sample.load_model(cfg)
    text = sample.begin(lm, PROMPT)
    assert list(sample.write(lm, text, cfg, None))
    text.extend(lm.encode("\nand", False))
    assert "".join(piece for piece, _ in sample.write(lm, text, cfg, None)).translate(sample.CONTROLS) == fourth


def test_the_next_line_begins_another_text_where_the_model_has_ended_one(run, capsys, monkeypatch):
    monkeypatch.setattr("phoenix.sampling.draw", lambda logits_BV, **_: torch.zeros(1, 1, dtype=torch.int64))  # <|endoftext|>
    begun = []
    monkeypatch.setattr(sample, "begin", lambda lm, prompt, begin=sample.begin: begun.append(prompt) or begin(lm, prompt))
    assert conversation(capsys, monkeypatch, "A man\nSarah\n", run).count("the model ended the text") == 2
    assert begun == ["A man", "Sarah"]


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--temperature=-1"], "temperature=-1.0 must be at least 0"),
        (["--temperature=nan"], "temperature must be float"),
        (["--top_p=0"], "top_p=0.0 must be above 0 and at most 1"),
        (["--top_p=1.1"], "top_p=1.1 must be above 0 and at most 1"),
        (["--top_k=0"], "top_k=0 must be at least 1"),
        (["--tokens=0"], "tokens=0 must be at least 1"),
        (["--seed=-1"], "seed=-1 must be at least 0"),
        (["--dtype=int8"], "dtype must be None or bfloat16 or float32"),
        (["--num=2"], "num is for texts in the terminal with a prompt"),
        (["--device=tpu9"], "device=tpu9"),
        (["a", "b"], "at most 2 arguments"),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence(run, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        sample.main([str(run), *arguments])


def test_a_missing_or_wrong_file_is_one_sentence(run, tmp_path):
    def refused(path, sentence):
        with pytest.raises(UserError, match=sentence):
            sample.main([str(path), PROMPT])

    refused(tmp_path / "none.pt", "does not exist")
    refused(tmp_path, "without config.json")
    shutil.copytree(run.parent, tmp_path / "run", ignore=shutil.ignore_patterns("llama", "gpt2"))
    path = tmp_path / "run" / "ckpt.pt"
    row = {"file": "ckpt-00000007.pt", "step": 7, "tokens": 1234, "bytes": 1, "sha256": sha256_file(path), "saved_at": 0}
    path.rename(path.with_name(row["file"]))
    path.symlink_to(row["file"])
    checkpoint.write_manifest(path.parent, checkpoint.new_manifest("r") | {"checkpoints": [row]})
    assert sample.main([str(path), PROMPT, "--tokens=1"]) == 0
    checkpoint.write_manifest(path.parent, checkpoint.new_manifest("r") | {"checkpoints": [row | {"sha256": "0" * 64}]})
    refused(path, "damaged: its sha256 is not the one in manifest.json")
    (path.parent / "manifest.json").unlink()
    tokenizer = path.parent / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    refused(path, "is not the tokenizer that the checkpoint was trained with")


def test_a_model_that_predicts_no_numbers_is_refused(run, tmp_path):
    shutil.copytree(run.parent, tmp_path / "run", ignore=shutil.ignore_patterns("llama", "gpt2"))
    saved = torch.load(run, weights_only=True)
    saved["model"]["model.norm.weight"][0] = float("nan")
    torch.save(saved, tmp_path / "run" / "ckpt.pt")
    with pytest.raises(UserError, match="predicts no numbers"):
        sample.main([str(tmp_path / "run" / "ckpt.pt"), PROMPT])


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_gets_the_terminals_text(run, capsys):
    cfg = sample.Sample(str(run), web=True, dtype="float32")
    lm = sample.load_model(cfg)
    first, *pieces, last = sample.answer(lm, cfg, {"prompt": PROMPT, "tokens": 30, "seed": 5, "top_k": None})
    assert first == {"seed": 5} and last["end"]
    text = PROMPT + "".join(piece["text"] for piece in [*pieces, last])
    assert text.translate(sample.CONTROLS) + "\n" == text_of(capsys, run, PROMPT, "--tokens=30", "--seed=5", "--top_k=None")
    for asked, sentence in (({"top_p": 2}, "top_p"), ({"tokens": "many"}, "tokens must be int"), ({"device": "cpu"}, "no setting")):
        with pytest.raises(UserError, match=sentence):
            next(sample.answer(lm, cfg, asked))


def test_probabilities_are_the_models_before_the_settings_change_them(run):
    cfg = sample.Sample(str(run), tokens=15, temperature=0.1, top_k=3, dtype="float32")
    lm = sample.load_model(cfg)
    text = sample.begin(lm, PROMPT)
    first, found = len(text.ids), list(sample.write(lm, text, cfg, sample.generator_of(1)))
    ids = torch.tensor(text.ids[: text.shown])  # the last piece ends there
    with torch.no_grad():
        logp_NV = from_checkpoint(run)[0](ids[None])[0].log_softmax(-1)
    nats = -logp_NV[range(first - 1, len(ids) - 1), ids[first:]].sum().item()
    assert nats > 1 and -sum(math.log(probability) for _, probability in found) == pytest.approx(nats, rel=1e-4)


# ---- in processes of their own ---------------------------------------------------------------------------------------


class Program:
    """`python sample.py ...` on a terminal that knows ASCII alone, and what it has written so far."""

    def __init__(self, *arguments):
        # a shell may have started the tests in its background, where Ctrl-C is ignored
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:]"
        code += "\nimport runpy; runpy.run_path('sample.py', run_name='__main__')"
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        env = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, "sample.py", *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, **pipes)
        self.output = b""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while data := self.process.stdout.read1():
            self.output += data

    def type(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self):
        """-> (exit code, the output)"""
        code = self.process.wait(60)
        self.reader.join()
        return code, self.output.decode()


@pytest.fixture(scope="module")
def programs(run):
    """A conversation and a page, which start at the same time."""
    started = Program(run, *FOREVER), Program(run, "--web", "--port=0", *FOREVER)
    yield started
    for program in started:
        program.process.kill()
        program.end()


def test_ctrl_c_stops_the_text_and_then_the_conversation(programs):
    program, _ = programs
    wait_until(lambda: program.output.endswith(b"> "))
    for line in (b"Sarah was\n", b"\n", b"caf\xff\n", b"/new\nA man\n"):
        before = len(program.output)
        program.type(line)
        wait_until(lambda before=before: len(program.output) > before + 200)  # it streams: the text has no end
        program.interrupt()
        wait_until(lambda: program.output.endswith(b"\n> "))
    program.interrupt()
    code, output = program.end()
    assert code == 130 and output.endswith("stopped by Ctrl-C\n") and "Traceback" not in output


def test_ctrl_c_ends_the_page_while_it_writes(programs):
    _, program = programs
    wait_until(lambda: b"in a browser" in program.output)
    port = int(program.output.split(b"http://127.0.0.1:")[1].split()[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/text", json.dumps({"prompt": PROMPT}))
    response = connection.getresponse()
    assert "seed" in json.loads(response.readline()) and "text" in json.loads(response.readline())
    program.interrupt()
    code, output = program.end()
    assert code == 130 and output.endswith("stopped by Ctrl-C\n") and "Traceback" not in output
    connection.close()
