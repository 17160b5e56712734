"""
evaluate.py beside lm-evaluation-harness 0.4.13: the same model, items and device in one run; parity item by item, and speed.

    make parity                                                   all items of the six tasks, two models; hours on two cores
    python benchmarks/bench_eval.py --every=25 --rounds=5         a trial: one item of 25 of each task, so the same mix
    python benchmarks/bench_eval.py --device=cuda                 both on a GPU

The models differ in their tokenizer: an export of ours, and a GPT-2 of random weights with GPT-2's own tokenizer. The harness
runs in a venv of its own, made from peers_eval.txt, as its command line (`python -P -m lm_eval`) with its own task files;
only the data are local files. A stopwatch around its two methods that score requests, and around loglikelihood.answer, reads
the clock and the CPU time of the process: encoding and forward passes, no imports, loading or bootstrap. Both use the same
number of threads, all cores unless given, and take turns in going first.

Exit code 1 where a log-likelihood differs by more than 1e-4 nats and by more than 3 steps of float32, in which the harness
sums, or a metric or its standard error in the four decimals that the harness prints. Of a perplexity above 1,000, four
decimals are more than float32 gives: its logarithm may differ by one step.
"""

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TASKS = ("hellaswag", "winogrande", "arc_easy", "lambada_openai", "piqa", "wikitext")
YAML = {  # of lm_eval/tasks
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "piqa": "piqa/piqa.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
TOLERANCE, STEPS = 1e-4, 3  # nats, and steps of float32 at the sum: above 512 nats a step is 6e-5


# ---- what runs in a process of its own -------------------------------------------------------------------------------


def timed(secs, kind, function):
    """The function; its seconds are added to secs[kind], [by the clock, of CPU time]."""

    def run(*args, **kwargs):
        start = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        spent = time.perf_counter() - start[0], time.process_time() - start[1]
        secs[kind] = [before + more for before, more in zip(secs.get(kind, (0.0, 0.0)), spent, strict=True)]
        return result

    return run


def peer(out, arguments):
    """lm_eval's command line with a stopwatch around the methods that score; runs in the harness's venv."""
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.models.huggingface import HFLM

    secs = {}
    for name, kind in (("loglikelihood", "choices"), ("loglikelihood_rolling", "pages")):
        setattr(HFLM, name, timed(secs, kind, getattr(HFLM, name)))
    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()
    Path(out).write_text(json.dumps(secs), encoding="utf-8")


def ours(out, model, data, device, every, names):
    """evaluate.py's model and functions with a stopwatch around `answer`."""
    sys.path.insert(0, str(ROOT))
    import evaluate
    from phoenix.loglikelihood import answer
    from phoenix.results import metrics_of
    from phoenix.tasks import items_of

    lm, _ = evaluate.load_model(evaluate.Evaluate(model, device=device))
    found, secs = {}, {}
    for name in names:
        items = items_of(name, data)[0][::every]
        answers = timed(secs, "pages" if name == "wikitext" else "choices", answer)(lm, name, items)
        found[name] = {"metrics": metrics_of(name, items, answers), "lls": [[ll for ll, _ in a] for a in answers]}
    Path(out).write_text(json.dumps({"secs": secs, "tasks": found}), encoding="utf-8")


# ---- models, data, venv ----------------------------------------------------------------------------------------------


def python_of_peers(folder):
    """The Python of the harness's venv, which is made when its pins have changed."""
    pins, done = (HERE / "peers_eval.txt").read_bytes(), folder / "pins.txt"
    python = folder / "bin" / "python"
    if not done.is_file() or done.read_bytes() != pins:
        print(f"installing the harness into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", HERE / "peers_eval.txt"]
        subprocess.run([python, *install], check=True)
        done.write_bytes(pins)
    return python


def random_gpt2(folder, bpe):
    """A GPT-2 of random weights, small, with the tokenizer of `bpe` (encoder.json, vocab.bpe)."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    torch.manual_seed(0)
    sizes = {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 1024}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(folder)
    for name, copy in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        shutil.copyfile(bpe / name, folder / copy)
    GPT2Tokenizer.from_pretrained(folder).save_pretrained(folder)


def task_files(scratch, data, python, every):
    """The harness's own task files, loc_NAME, reading one item of `every` of the local data."""
    sys.path.insert(0, str(ROOT))
    from phoenix.tasks import TASKS as known
    from phoenix.tasks import local_rows

    where = "import lm_eval, pathlib; print(pathlib.Path(lm_eval.__file__).parent / 'tasks')"
    installed = Path(subprocess.run([python, "-P", "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    for name in TASKS:
        rows = local_rows(data / known[name].file)[::every]
        if name == "hellaswag":
            rows = [row | {"label": str(row["label"])} for row in rows]
        folder, file = scratch / name, scratch / name / "data.jsonl"
        shutil.copytree((installed / YAML[name]).parent, folder, ignore=shutil.ignore_patterns("*.yaml", "*.md"))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        split = "test" if "test_split: test" in (text := (installed / YAML[name]).read_text(encoding="utf-8")) else "validation"
        lines = [line for line in text.splitlines() if not line.startswith(("dataset_", "training_split", "task:"))]
        lines = [line for line in lines if not line.startswith("validation_split") or split == "validation"]
        lines += [f"task: loc_{name}", "dataset_path: json", f"dataset_kwargs: {{data_files: {{{split}: {file}}}}}"]
        (folder / f"loc_{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- the comparison --------------------------------------------------------------------------------------------------


def harness_results(folder, names):
    """({task: results}, {task: log-likelihoods of each item}) of what lm_eval wrote."""
    results = json.loads(next(folder.rglob("results_*.json")).read_text(encoding="utf-8"))["results"]
    lls = {}
    for name in names:
        rows = [json.loads(line) for line in next(folder.rglob(f"samples_loc_{name}_*.jsonl")).open(encoding="utf-8")]
        answers = [row["resps"] for row in sorted(rows, key=lambda row: row["doc_id"])]
        lls[name] = [[float(a[0] if name == "wikitext" else a[0][0]) for a in answer] for answer in answers]
    return {name: results[f"loc_{name}"] for name in names}, lls


def compare(mine, theirs, their_lls):
    """Rows of the table, and whether all is equal."""
    rows, equal = [], True
    for name in mine:
        pairs = [(a, b) for x, y in zip(mine[name]["lls"], their_lls[name], strict=True) for a, b in zip(x, y, strict=True)]
        worst = max(abs(a - b) for a, b in pairs)
        above = sum(abs(a - b) > max(TOLERANCE, STEPS * float(np.spacing(np.float32(abs(b))))) for a, b in pairs)
        unequal, same = [], True
        for metric, (value, stderr) in mine[name]["metrics"].items():
            printed = [(value, theirs[name][f"{metric},none"]), (stderr, theirs[name][f"{metric}_stderr,none"])]
            for a, b in printed:
                if a is not None and f"{a:.4f}" != f"{b:.4f}":
                    unequal.append(f"{metric} {a:.4f} for {b:.4f} ({abs(a / b - 1):.0e})")
                    same &= beyond_digits(a, b)
        items = f"{len(mine[name]['lls']):,}"
        rows.append((name, items, f"{len(pairs):,}", f"{worst:.1e}", f"{above:,}", ", ".join(unequal) or "equal"))
        equal &= not above and same
    return rows, equal


def beyond_digits(a, b):
    """
    Whether two perplexities are so large that four decimals are more than float32 gives, and equal as far as it goes: above 1,000,
    and their logarithms, which are what is summed, within one step of float32.
    """
    return min(a, b) > 1000 and abs(math.log(a / b)) <= math.log(b) * 2**-23


def run_both(model, scratch, python, args, ours_first):
    """One round: (seconds of the harness, seconds of ours, results of the harness, of ours)."""
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "GOMP_SPINCOUNT": "1000", "HF_DATASETS_OFFLINE": "1"}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(scratch / "cache")}
    out, stopwatch = scratch / "harness", scratch / "harness.json"
    shutil.rmtree(out, ignore_errors=True)
    command = ["run", "--model=hf", f"--model_args=pretrained={model},dtype=float32,trust_remote_code=True"]
    command += [f"--device={args.device}"]
    command += ["--tasks", *(f"loc_{name}" for name in args.tasks), f"--include_path={scratch / 'tasks'}"]
    command += [f"--batch_size={args.batch_size}", f"--output_path={out}", "--log_samples"]
    mine = scratch / "ours.json"
    theirs = [python, "-P", HERE / "bench_eval.py", "--peer", stopwatch, *command]
    call = [sys.executable, HERE / "bench_eval.py", "--ours", mine, model, args.data, args.device]
    call += [str(args.every), *args.tasks]
    with (scratch / "harness.log").open("w", encoding="utf-8") as log:
        for one in (call, theirs) if ours_first else (theirs, call):
            subprocess.run(one, cwd=scratch, env=env, stdout=log, stderr=log, check=True)
    found = json.loads(mine.read_text(encoding="utf-8"))
    return json.loads(stopwatch.read_text(encoding="utf-8")), found["secs"], harness_results(out, args.tasks), found["tasks"]


def device_name(device):
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()


def table(names, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in (names, ["---"] * len(names), *rows))


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--ours"]:
        out, model, data, device, every, *names = sys.argv[2:]
        return ours(out, model, data, device, int(every), names)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, default=ROOT / "out" / "parity_model" / "hf", help="an export of ours")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "eval", help="the tasks' files, and gpt2_bpe/")
    parser.add_argument("--models", default="ours,gpt2")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=TASKS)
    parser.add_argument("--device", default="cpu", help="of both: cpu or cuda")
    parser.add_argument("--every", type=int, default=1, help="one item of so many of each task; all unless given")
    parser.add_argument("--rounds", type=int, default=1, help="of which the median is taken")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both")
    parser.add_argument("--batch-size", default="1", help="the harness's, 1 as it comes")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-lm-eval", help="the harness's venv, made at need")
    parser.add_argument("--scratch", type=Path, default=ROOT / "out" / "parity", help="what both write")
    args = parser.parse_args()
    args.data, args.ours, scratch = args.data.resolve(), args.ours.resolve(), args.scratch.resolve()
    if not (args.data / "hellaswag").is_dir():
        sys.exit(f"error: {args.data} does not hold the tasks' files: give --data")
    python = python_of_peers(args.venv.absolute())
    shutil.rmtree(scratch, ignore_errors=True)
    task_files(scratch / "tasks", args.data, python, args.every)

    from phoenix.run_log import commit

    print(f"{date.today()}, commit {commit()}, {device_name(args.device)}, {args.threads} threads")
    all_equal = True
    for name in args.models.split(","):
        model = args.ours if name == "ours" else scratch / "gpt2"
        if name == "gpt2":
            random_gpt2(model, args.data / "gpt2_bpe")
        rounds = []
        for i in range(args.rounds):
            harness, mine, (theirs, their_lls), tasks = run_both(model, scratch, python, args, ours_first=i % 2 == 1)
            rounds.append((harness, mine))
        rows, equal = compare(tasks, theirs, their_lls)
        all_equal &= equal
        print(f"\n{name}: {'equal' if equal else 'NOT EQUAL'}")
        print(table(("task", "items", "requests", "largest difference", "above tolerance", "metrics as printed"), rows))
        speeds = []
        for what, kinds in (("five tasks", ["choices"]), ("wikitext", ["pages"]), ("together", ["choices", "pages"])):
            for clock, measure in enumerate(("wall", "CPU")):
                pairs = [tuple(sum(secs[kind][clock] for kind in kinds if kind in secs) for secs in both) for both in rounds]
                if not all(m for _, m in pairs):
                    continue
                ratios = [h / m for h, m in pairs]
                middle = [f"{statistics.median(column):,.1f}" for column in zip(*pairs, strict=True)]
                spread = f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"
                speeds.append((what, measure, *middle, spread))
        print(table(("", "", "harness, s", "ours, s", f"ours is, {len(rounds)} rounds"), speeds), flush=True)
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
