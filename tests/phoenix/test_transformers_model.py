"""Laws of loading a folder of transformers: no code of it runs, and what does not fit together is refused."""

import json
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from phoenix.config import UserError
from phoenix.transformers_model import context_of, load_folder
from tests.tiny_run import LLAMAS, make_run, random_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(make_run(tmp_path_factory.mktemp("run")).parent / "tokenizer")


@pytest.fixture
def folder(tokenizer, tmp_path):
    random_model("Qwen2", LLAMAS).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder):
    assert load_folder(folder)[2] == []
    random_model("Qwen2", LLAMAS | {"vocab_size": 319}).save_pretrained(folder)
    with pytest.raises(UserError, match="a token with the id 319, the model knows 319 tokens"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("cfg", "tokenizer", "length"),
    [
        ({"n_positions": 3, "max_position_embeddings": 4}, 5, 3),
        ({"max_position_embeddings": 4, "n_ctx": 6}, 5, 4),
        ({"n_ctx": 6}, 5, 6),
        ({"max_position_embeddings": None}, 5, 5),
        ({}, int(1e30), 2048),
    ],
)
def test_the_context_is_the_one_that_the_harness_takes(cfg, tokenizer, length):
    assert context_of(SimpleNamespace(**cfg), SimpleNamespace(model_max_length=tokenizer)) == length


def test_weights_that_the_config_has_no_place_for_are_named(folder, capsys):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"num_hidden_layers": 1, "layer_types": ["full_attention"]}), encoding="utf-8"
    )
    assert any("layers.1." in name for name in load_folder(folder)[2])
    assert "config.json has no place for" in capsys.readouterr().err


def test_a_folder_whose_tokenizer_knows_no_text_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()  # transformers makes an empty one then, and every page of WikiText has no tokens: a perplexity of 1
    with pytest.raises(UserError, match=r"knows no text: its files .* are missing or empty"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("file", "content"), [("tokenizer_config.json", "[1]"), ("config.json", '{"model_type": "qwen2", "hidden_size": "x"}')]
)
def test_a_folder_with_damaged_files_is_one_sentence(folder, file, content):
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"^{folder} cannot be loaded by transformers: [A-Z]\\w+: [^\n]+$"):
        load_folder(folder)


def test_code_in_a_folder_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "evil.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n", encoding="utf-8"
    )
    for model_type in ("qwen2", "evil"):  # one that transformers knows is loaded as it knows it
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto, "model_type": model_type}), encoding="utf-8")
        if model_type == "qwen2":
            assert type(load_folder(folder)[0]).__module__.startswith("transformers.")
        else:
            with pytest.raises(UserError, match="cannot be loaded by transformers"):
                load_folder(folder)
    assert not (folder / "ran").exists()
