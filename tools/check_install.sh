#!/usr/bin/env bash
# Install this checkout into environments of its own the way strangers do, with pip's build isolation, and check that
# - no other package is installed, removed or changed,
# - the C++ kernels are built from the installed torch, in a wheel and in an editable install,
# - a failing compiler costs the kernels, not the installation.
# Takes about two minutes and pip's downloads: bash tools/check_install.sh [python3.11]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

git clone --quiet "$root" source
"${1:-python3}" -m venv env
py=$work/env/bin/python
"$py" -m pip install --quiet -c source/constraints.txt torch numpy
"$py" -m pip freeze > before

others_unchanged() {
    "$py" -m pip freeze | grep -v mmvim | diff before - || { echo "FAILED: $1 changed other packages"; exit 1; }
}
report() { # what, whether kernels are expected
    others_unchanged "$1"
    # Not from the checkout: what is installed shall be imported.
    local kernels
    kernels=$("$py" -c 'from mmvim.ops.backends import has_kernels; print(has_kernels("cpu"))')
    [ "$kernels" = "$2" ] || { echo "FAILED: $1: kernels $kernels, expected $2"; exit 1; }
    echo "ok: $1 (kernels: $kernels)"
}

start=$SECONDS
"$py" -m pip install --quiet ./source
echo "pip install . took $((SECONDS - start)) s"
report 'pip install .' True
ls env/lib/python3*/site-packages/mmvim/.mim/configs > /dev/null
"$py" -m pip uninstall --quiet --yes mmvim

CXX=/bin/false "$py" -m pip install --quiet ./source
report 'CXX=/bin/false pip install .' False
"$py" -m pip uninstall --quiet --yes mmvim

if CXX=/bin/false MMVIM_BUILD=cpu "$py" -m pip install --quiet ./source > log 2>&1; then
    echo 'FAILED: MMVIM_BUILD=cpu did not fail with a failing compiler'; exit 1
fi
grep -q 'mmvim: /bin/false failed' log
echo 'ok: MMVIM_BUILD=cpu is an error where the compiler fails'

MMVIM_BUILD=none "$py" -m pip install --quiet ./source
report 'MMVIM_BUILD=none pip install .' False
"$py" -m pip uninstall --quiet --yes mmvim

"$py" -m pip install --quiet --editable ./source
report 'pip install -e .' True
[ source/mmvim/.mim/configs -ef source/configs ]
echo 'all checks passed'
