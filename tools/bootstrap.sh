#!/usr/bin/env bash
# Makes .venv and installs this project into it, editable.
#
#   tools/bootstrap.sh            the core
#   tools/bootstrap.sh test,dev   the core and these extras; with `test` JAX's CUDA plugin, too
#
# A stamp in .venv remembers each install that succeeded; while it holds, this returns at once.
set -euo pipefail
cd "$(dirname "$0")/.."

extras=${1:-}
stamps=.venv/.installed

say() { printf '%s\n' "$@" >&2; }

# Prints "3.12.1 ok", or the version and what is wrong with it. The candidate is run, not trusted
# by its name: pyenv has a shim even for a version that does not start in this directory.
probe() {
  "$1" - 2>/dev/null <<'PY'
import sys
verdict = "ok"
if sys.version_info < (3, 12):
    verdict = "is too old"
elif sys.version_info >= (3, 15):
    verdict = "is too new: not every dependency has a wheel for it"
else:
    try:
        import ensurepip, venv
    except ImportError:
        package = "python%d.%d-venv" % sys.version_info[:2]
        verdict = "lacks ensurepip (on Debian and Ubuntu: apt install %s)" % package
print("%d.%d.%d" % sys.version_info[:3], verdict)
PY
}

# Sets `python` to the first candidate that can make a virtual environment, or says where it looked.
find_python() {
  local candidates=(${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3 python)
  local looked=() managers=() candidate verdict
  shopt -s nullglob
  if command -v pyenv >/dev/null; then
    candidates+=("$(pyenv root)"/versions/3.1[2-4]*/bin/python)
    managers+=("pyenv: versions 3.12 to 3.14 in $(pyenv root)/versions")
  else
    managers+=("pyenv: not found")
  fi
  if command -v uv >/dev/null; then
    candidates+=("$(uv python dir)"/cpython-3.1[2-4]*/bin/python3)
    managers+=("uv: versions 3.12 to 3.14 in $(uv python dir)")
  else
    managers+=("uv: not found")
  fi

  for candidate in "${candidates[@]}"; do
    if ! command -v "$candidate" >/dev/null; then
      looked+=("$candidate: not found")
    elif ! verdict=$(probe "$candidate"); then
      looked+=("$candidate: $(command -v "$candidate") does not run")
    elif [[ $verdict != *" ok" ]]; then
      looked+=("$candidate: $verdict")
    else
      python=$candidate
      return
    fi
  done

  say "error: jpaged needs Python 3.12, 3.13 or 3.14, and none was found. Looked for:"
  say "${looked[@]/#/  }" "${managers[@]/#/  }"
  say "Any of these gets one; then run the same command again:" \
    "  apt install python3-venv      (Ubuntu 24.04, Debian 13, or newer)" \
    "  dnf install python3.12        brew install python@3.12" \
    "  uv python install 3.12        pyenv install 3.12" \
    "or name one that you have: PYTHON=/path/to/python3.12 make ..."
  exit 1
}

# The directory is part of the key: an editable install points at it, and does not survive a move.
key="$(cksum <pyproject.toml) $PWD"
stamp=$stamps/${extras:-core}
if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$key" ]]; then
  exit 0
fi

if ! [[ $(probe .venv/bin/python) == *" ok" ]] || ! .venv/bin/python -c "import pip" 2>/dev/null; then
  find_python
  say "== making .venv with $python ($("$python" --version))"
  "$python" -m venv --clear .venv
fi

say "== installing jpaged${extras:+[$extras]} into .venv (some minutes the first time)"
if ! .venv/bin/python -m pip install --disable-pip-version-check -e ".${extras:+[$extras]}"; then
  say "error: pip stopped, see above. What it has fetched is kept; run the same command to go on."
  exit 1
fi
# The tests compile kernels for GPUs that are not here, which takes JAX's CUDA plugin.  It has a
# folder of its own: where there is no GPU, every start of JAX would complain about it.
if [[ ,$extras, == *,test,* && $(uname -sm) == "Linux x86_64" ]]; then
  jax=$(.venv/bin/python -c "from importlib.metadata import version; print(version('jax'))")
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --upgrade \
    --target .venv/aot "jax-cuda13-plugin==$jax" "jax-cuda13-pjrt==$jax" ||
    say "no CUDA plugin for JAX $jax: tests that compile for GPUs will be skipped"
fi
mkdir -p "$stamps"
printf '%s' "$key" | tee "$stamps/core" >"$stamp"
say "== installed in $SECONDS s"
