"""
README.md of an export. Every number in it comes from a file of the run: the checkpoint, log.jsonl, shards/sources.json, eval.json.

The card says nothing that no file says: without eval.json it has no scores, without a measurement no energy.
"""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from phoenix.files import sha256_file
from phoenix.results import results_path
from phoenix.tasks import TASKS, config_and_split

PYTHON = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{name}"
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
model = AutoModelForCausalLM.from_pretrained(folder{trust})
tokens = tokenizer("The history of", return_tensors="pt")
text = model.generate(**tokens, max_new_tokens=50, do_sample=True, temperature=0.8, top_k=50)
print(tokenizer.decode(text[0]))
```

```python
from transformers import pipeline

generate = pipeline("text-generation", "{name}"{trust})
print(generate("The history of", max_new_tokens=50, do_sample=False)[0]["generated_text"])
```
"""
LLAMA_CPP = """```python
from llama_cpp import Llama

model = {load}, verbose=False)
print(model("The history of", max_tokens=50, temperature=0.8, top_k=50)["choices"][0]["text"])
```
"""
LIMITS = """It continues text; it was not trained to follow instructions or to be safe, and nothing filters what it writes. It
states falsehoods as fluently as facts, and repeats the biases, and some of the sentences, of the texts that it was trained on. It
reads at most {context:,} tokens. Do not use it where somebody relies on what it says.
"""


def model_card(name, path, phoenix, checkpoint, format, files=(), repo=None):
    """
    The text of README.md for the export `name` of the checkpoint at `path`; `files` are the GGUF files beside it.

    The examples load `repo`, the repository on the Hub that the export goes to, else the folder `name`.
    """
    run, data = path.parent, Path(checkpoint["settings"]["data"])
    mix = read_json(data / "shards" / "sources.json").get("sources", [])
    report = read_json(results_path(path))
    if report.get("weights_sha256", {}).get(path.name) != sha256_file(path):
        report = {}  # the scores of another checkpoint
    about = started(run / "log.jsonl")
    trust = ", trust_remote_code=True" if format == "phoenix" else ""
    if files:
        load = f'Llama.from_pretrained("{repo}", "{{file}}"' if repo else f'Llama("{name}/{{file}}"'
        example = "\n".join(LLAMA_CPP.format(load=load.format(file=file)) for file in files)
    else:
        example = PYTHON.format(name=repo or name, trust=trust)
    parts = [
        f"---\n{metadata(name, data, mix, report, format).to_yaml()}\n---",
        f"# {name}\n\nA language model of {phoenix.parameter_count() / 1e6:.1f} M parameters, trained from scratch with Phoenix on "
        f"{checkpoint['tokens']:,} tokens in {checkpoint['step']:,} steps.",
        "## Use\n\n" + example,
        "## Architecture\n\n" + markdown_table(architecture(phoenix)),
        "## Training data\n\n" + markdown_table(sources(mix)) if mix else "",
        "## Training\n\n" + markdown_table(training(checkpoint, about)),
        "![Loss over the tokens of the run](loss.png)" if (run / "loss.png").is_file() else "",
        "## Scores\n\n" + scores(report) if report else "",
        "## Limits and biases\n\n" + LIMITS.format(context=phoenix.cfg.context),
        "## How to reproduce\n\n" + reproduce(checkpoint, about, path, data, report, name, format),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def read_json(path):
    """The object in a file; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def started(log):
    """The machine, versions and command of the run's first start, from log.jsonl; {} where there is none."""
    for line in log.read_bytes().splitlines() if log.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # cut, or no UTF-8
            continue
        if isinstance(row, dict) and isinstance(row.get("about"), dict):
            return row["about"]
    return {}


def metadata(name, data, mix, report, format):
    """
    The card's YAML: licence, language, tags, and the scores as the Hub's model-index.

    A score of some of a benchmark's items is left out, for the model-index cannot say so; the card's table shows it.
    """
    language = read_json(data / "report.json").get("settings", {}).get("language", {}).get("keep")
    datasets = [row["repo"] for row in mix if row.get("repo")]
    results = []
    for task, result in report.get("results", {}).items():
        if result["items"] < result["of"]:
            continue
        known = TASKS.get(task)
        repo, revision, wanted = known.hub if known else (None, None, None)
        config, split = config_and_split(wanted) if known else (None, "validation")
        for metric, (value, stderr) in result["metrics"].items():
            results.append(
                EvalResult(
                    task_type="text-generation",
                    dataset_type=repo or "validation",
                    dataset_name=task,
                    dataset_config=config,
                    dataset_split=split,
                    dataset_revision=revision,
                    metric_type=metric,
                    metric_value=value,
                    metric_name=metric if stderr is None else f"{metric} (stderr {stderr:.4f})",
                    source_name=evaluator(result.get("versions") or report["versions"]),
                    source_url="https://github.com/EleutherAI/lm-evaluation-harness",
                )
            )
    return ModelCardData(
        license="apache-2.0",
        language=list(language) if language else None,
        library_name="gguf" if format == "gguf" else "transformers",
        pipeline_tag="text-generation",
        tags=["phoenix", "llama-cpp"] if format == "gguf" else ["phoenix"],
        datasets=datasets or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def evaluator(made):
    """The evaluator's name, version and commit, from the versions in the JSON."""
    known = made["commit"] not in (None, "unknown")
    commit = f", commit {made['commit'][:7]}" if known else ""
    return f"Phoenix evaluate.py {made['evaluate']}{commit}"


def architecture(phoenix):
    cfg = phoenix.cfg
    return [
        {"": "layers, heads, width", "value": f"{cfg.n_layer}, {cfg.n_head}, {cfg.d_model}"},
        {"": "feed-forward", "value": f"SwiGLU of {cfg.d_ff:,}"},
        {"": "norm", "value": "RMSNorm before each part" + (", and of queries and keys" if cfg.qk_norm else "")},
        {"": "positions", "value": f"rotary, theta {cfg.rope_theta:g}, context {cfg.context:,}"},
        {"": "vocabulary", "value": f"{cfg.vocab_size:,} byte-level BPE tokens, embedding and head tied"},
        {"": "parameters", "value": f"{phoenix.parameter_count():,}"},
    ]


def sources(mix):
    """A row a source: its target share of the mix and the share it got, its licences with their numbers of documents."""
    rows = []
    for row in mix:
        licences = sorted((row.get("licences") or {}).items(), key=lambda item: -item[1])
        shown = ", ".join(f"{licence.replace('|', '/')} ({count:,})" for licence, count in licences)
        asked = f" (asked {row['target_share']:.1%})" if "target_share" in row else ""
        rows.append(
            {
                "source": row["name"],
                "revision": row.get("revision") or "–",
                "documents": f"{row['documents']:,}",
                "tokens": f"{row['tokens']:,}",
                "epochs": f"{row.get('epochs', 1):g}",
                "share": f"{row['share']:.1%}{asked}",
                "licences (documents)": shown or "not known",
            }
        )
    return rows


def training(checkpoint, about):
    """Rows of hardware, hours, energy, result and hyper-parameters."""
    settings = checkpoint["settings"]
    rows = [("hardware", about.get("device")), ("tokens", f"{checkpoint['tokens']:,}"), ("steps", f"{checkpoint['step']:,}")]
    if checkpoint.get("secs"):
        rows.append(("hours", f"{checkpoint['secs'] / 3600:.2f}"))
    rows.append(("energy", f"{checkpoint['kwh']:.3f} kWh" if checkpoint.get("kwh") else "not measured"))
    if checkpoint.get("val_loss"):
        rows.append(("validation loss", f"{checkpoint['val_loss']:.4f} nats per token"))
    if checkpoint.get("val_bpb"):
        rows.append(("validation bits per byte", f"{checkpoint['val_bpb']:.4f}"))
    not_shown = {"data", "out", "device", "steps", "nas", "verify", "sample_tokens", "plan"}
    rows += [(k, f"{v}") for k, v in settings.items() if k not in not_shown and not k.endswith("_every") and v is not None]
    return [{"": key, "value": value} for key, value in rows if value]


def scores(report):
    rows = [row for task, result in report["results"].items() for row in score_rows(task, result)]
    made = evaluator(report["versions"])
    own = "; bits_per_byte is of the run's own validation text" if "bits_per_byte" in report["results"] else ""
    return f"Zero-shot, fp32, by {made} with the tasks and rules of lm-evaluation-harness{own}.\n\n{markdown_table(rows)}"


def score_rows(task, result):
    """The table's rows of one task of eval.json."""
    items = f"{result['items']:,} of {result['of']:,}"
    for metric, (value, stderr) in result["metrics"].items():
        error = "" if stderr is None else f" ± {stderr:.4f}"
        yield {"task": task, "metric": metric, "value": f"{value:.4f}{error}", "items": items}


def reproduce(checkpoint, about, path, data, report, name, format):
    """
    The commands from the sources to this folder, and the hashes that show whether the same came out.

    Folders are named as the run was given them, not as they lie on the machine that exports.
    """
    run = Path(checkpoint["settings"].get("out") or "")
    commit = about.get("commit", "unknown")
    hashes = [("tokenizer.json", checkpoint.get("tokenizer_sha256")), ("shards.json", checkpoint.get("shards_sha256"))]
    hashes.append(("checkpoint", sha256_file(path)))
    corpus, scored = read_json(data / "report.json").get("arguments"), {}
    for task, result in report.get("results", {}).items():  # tasks may come from several runs with other options
        count, option = result["items"] if result["items"] < result["of"] else None, "limit"
        if task == "bits_per_byte":
            option = "windows"
        scored.setdefault(f" --{option}={count}" if count or option == "windows" else "", []).append(task)
    commands = [f"python -m data_engine.run {corpus}"] if corpus else []
    commands.append(f"python train.py {about.get('arguments', '')}".strip())
    commands += [f"python evaluate.py {run / path.name} --tasks={','.join(tasks)}{option}" for option, tasks in scored.items()]
    commands.append(f"python export_hf.py {run / path.name} --out={run / name} --format={format}")
    table = markdown_table([{"file": name, "sha256": value} for name, value in hashes if value])
    versions = f", {about['versions']}" if about.get("versions") else ""
    return f"Phoenix at commit {commit}{versions}:\n\n```bash\n{chr(10).join(commands)}\n```\n\n{table}"


def markdown_table(rows):
    """[{column: value}, ...] -> text."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
