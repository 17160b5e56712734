# make             lint and the fast tests (under a minute once set up)
# make setup       .venv with the pinned requirements of a run and of the tests
# make quickstart  corpus, tiny model, scores and export from nothing; no network beyond pip
# make test        lint and the whole test suite; make test PYTEST_ARGS=--durations=10 adds options of pytest
# make parity      compares evaluate.py with lm-evaluation-harness on all items: under an hour on two cores
# make peers       installs the programs that some tests compare with, each in its own venv; the tests skip without them (15 min: llama.cpp is built)

PYTHON ?= python3
PY := .venv/bin/python

.PHONY: check setup quickstart test parity peers

check: .venv/ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest -m "not slow"

setup: .venv/ready

.venv/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 15), "Python 3.11 to 3.14 is needed, this is " + sys.version'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch .venv/ready

quickstart: .venv/ready
	$(PY) -m data_engine.run
	$(PY) train.py configs/quickstart.py
	$(MAKE) --no-print-directory out/quickstart/hf/config.json
	$(PY) dev/quickstart_summary.py

# The model is scored and exported again only when train.py has written another checkpoint.
out/quickstart/ckpt.pt:
	@test -f $@

out/quickstart/eval.json: out/quickstart/ckpt.pt
	$(PY) evaluate.py out/quickstart/ckpt.pt --tasks=bits_per_byte

out/quickstart/hf/config.json: out/quickstart/eval.json
	$(PY) export_hf.py out/quickstart/ckpt.pt --out=out/quickstart/hf

test: .venv/ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest $(PYTEST_ARGS)

parity: .venv/ready out/parity_model/hf/config.json
	$(PY) benchmarks/bench_eval.py

# The quickstart's model, with a context that holds the longest item.
out/parity_model/hf/config.json:
	$(PY) -m data_engine.run
	$(PY) train.py configs/quickstart.py --out=out/parity_model --seq_len=1024 --micro_batch=1 --steps=400 --warmup=40 --eval_every=400
	$(PY) export_hf.py out/parity_model/ckpt.pt --out=out/parity_model/hf

peers: .venv-lm-eval/pins.txt .venv-transformers-4/pins.txt .venv-llama-cpp/pins.txt

.venv-lm-eval/pins.txt: benchmarks/peers_eval.txt
.venv-transformers-4/pins.txt: benchmarks/peers_transformers4.txt
.venv-llama-cpp/pins.txt: benchmarks/peers_llama_cpp.txt
# llama.cpp 0.3.36 is built here, without this processor's own instructions: with AMX its q8_0 ends with an illegal instruction.
.venv-llama-cpp/pins.txt: export CMAKE_ARGS = -DGGML_NATIVE=OFF
.venv-llama-cpp/pins.txt: export PIP_NO_CACHE_DIR = 1

.venv-%/pins.txt:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q --disable-pip-version-check -r $<
	cp $< $@
