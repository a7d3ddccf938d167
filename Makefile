# make demo    from nothing to a trained and evaluated Vim on miniature scenes, with pictures
# make demo-det  the same for Mask R-CNN on a small VMamba; compiles mmcv's ops first, once
# make demo-clip  images and captions: a small VMamba learns which caption belongs to a scene, and is asked
# make demo-pretrain  a small VMamba pretrained on 4,000 scenes without labels, and what that is worth with 100 labelled ones
# make web     a page on this machine that shows what models see; trains nothing, make demo does
# make test    every test, after setting up what they need
# make lint    ruff
# make ops     compile mmcv's ops, which Mask R-CNN needs
# make docs    docs/ as HTML, in docs/_build/html
# make clean   remove the environment and what was built; data, weights and work_dirs stay
#
# Each does its own set-up in .venv. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
RUN := .venv/bin/python
DEMO := configs/demo/upernet_vim_t_miniature.py
DEMO_DIR := work_dirs/upernet_vim_t_miniature
DEMO_DET := configs/demo/mask_rcnn_vmamba_miniature.py
DEMO_DET_DIR := work_dirs/mask_rcnn_vmamba_miniature
DEMO_CLIP := configs/demo/clip_vmamba_miniature.py
DEMO_CLIP_DIR := work_dirs/clip_vmamba_miniature
PRETRAIN := simmim_vmamba_miniature upernet_vmamba_miniature_simmim upernet_vmamba_miniature

# Waiting threads sleep. Spinning ones made training ten times slower where other programs used the same two cores.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo demo-det demo-clip demo-pretrain web test lint ops docs clean

demo:
	@$(PYTHON) tools/setup_env.py demo
	$(RUN) tools/make_miniature.py ade20k --out data/ade_miniature
	$(RUN) tools/train.py $(DEMO)
	$(RUN) tools/test.py $(DEMO) "$$(cat $(DEMO_DIR)/last_checkpoint)"
	$(RUN) tools/demo_report.py $(DEMO) "$$(cat $(DEMO_DIR)/last_checkpoint)"

demo-det:
	@$(PYTHON) tools/setup_env.py demo-det
	$(RUN) tools/make_miniature.py coco --out data/coco_miniature
	$(RUN) tools/train.py $(DEMO_DET)
	$(RUN) tools/test.py $(DEMO_DET) "$$(cat $(DEMO_DET_DIR)/last_checkpoint)"
	$(RUN) tools/demo_det_report.py $(DEMO_DET) "$$(cat $(DEMO_DET_DIR)/last_checkpoint)"

demo-clip:
	@$(PYTHON) tools/setup_env.py demo-clip
	$(RUN) tools/make_miniature.py captions --out data/captions_miniature --train 20000 --val 100 --size 64x64
	$(RUN) tools/train.py $(DEMO_CLIP)
	$(RUN) tools/test.py $(DEMO_CLIP) "$$(cat $(DEMO_CLIP_DIR)/last_checkpoint)"

demo-pretrain:
	@$(PYTHON) tools/setup_env.py demo
	$(RUN) tools/make_miniature.py unlabelled --out data/unlabelled_miniature --train 4000
	$(RUN) tools/make_miniature.py ade20k --out data/ade_miniature_100 --train 100 --val 200
	for config in $(PRETRAIN); do $(RUN) tools/train.py configs/demo/$$config.py || exit; done
	$(RUN) tools/demo_pretrain_report.py

# ARGS are those of the page: make web ARGS='--port 8000'.
web:
	@$(PYTHON) tools/setup_env.py web
	@$(RUN) tools/web.py $(ARGS)

# Two workers, a file of tests to one of them, for many files prepare what all their tests use. ARGS are pytest's:
# make test ARGS='tests/test_ops -x'; with -n 0 among them there are no workers.
test:
	@$(PYTHON) tools/setup_env.py test
	$(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

lint:
	@$(PYTHON) tools/setup_env.py lint
	.venv/bin/ruff check .

ops:
	@$(PYTHON) tools/setup_env.py ops

docs:
	@$(PYTHON) tools/setup_env.py docs
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv build docs/_build *.egg-info mmvim/.mim mmvim/_C*.so .pytest_cache .ruff_cache
