"""
The last lines of `make quickstart`: a summary of the four commands, read from their files.

    python dev/quickstart_summary.py [data folder] [out folder]
"""

import json
import sys
from pathlib import Path


def main(data="data/quickstart", out="out/quickstart"):
    data, out = Path(data), Path(out)
    report = json.loads((data / "report.json").read_text(encoding="utf-8"))
    scores = json.loads((out / "eval.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    val = [row for row in log if row.get("val_loss") is not None]

    dropped = {}
    for steps in report["sources"].values():
        for step in steps:
            for reason, n in step["dropped"].items():
                dropped[reason] = dropped.get(reason, 0) + n
    records = sum(steps[0]["in"] for steps in report["sources"].values())
    kept = sum(steps[-1]["out"] for steps in report["sources"].values())
    assert records == kept + sum(dropped.values()), f"{records} records, {kept} kept, dropped: {dropped}"
    tokens, shards = report["shards"]["tokens"], report["shards"]["shards"]
    secs = {name: stage["secs"] for name, stage in report["stages"].items()}
    trained = f"after {log[-1]['tokens'] / 1e6:.1f} M tokens"

    rows = [
        ("records in", f"{records:,}"),
        ("kept", f"{kept:,}"),
        *((f"dropped: {reason}", f"{n:,}") for reason, n in sorted(dropped.items())),
        ("tokens", f"{tokens['train']:,} train, {tokens['val']:,} validation"),
        ("shards", f"{len(shards['train'])} train, {len(shards['val'])} validation"),
        ("seconds a stage", "  ".join(f"{name} {s:.0f}" for name, s in secs.items() if s >= 0.5)),
        ("validation loss", f"{val[0]['val_loss']:.3f} before, {val[-1]['val_loss']:.3f} {trained}"),
    ]
    for name, result in scores["results"].items():
        rows += [(name, f"{metric} {value:.4f}") for metric, (value, _) in result["metrics"].items()]
    for name, reason in scores["missing"].items():
        rows.append((name, f"not scored: {reason}"))
    rows += [
        ("report", data / "report.html"),
        ("plot", out / "loss.png"),
        ("exported model", out / "hf"),
        ("generated text", out / "sample.txt"),
    ]
    print("\nquickstart")
    for name, value in rows:
        print(f"  {name:<24} {value}")
    print("\n" + (out / "sample.txt").read_text(encoding="utf-8").strip())


if __name__ == "__main__":
    main(*sys.argv[1:])
