#!/usr/bin/env bash
# Set up PartGen: system libraries, a virtual environment, the locked packages.   setup.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || {
  echo "PartGen needs Python 3.11 (Blender's package has no wheels for others), and '$python' is not it: install python3.11, or name one with 'make setup PYTHON=/path/to/python3.11'." >&2
  exit 2
}

# library=Debian package: EGL for label maps, the rest for Blender
libraries="libEGL.so.1=libegl1 libGL.so.1=libgl1 libXi.so.6=libxi6 libxkbcommon.so.0=libxkbcommon0 libSM.so.6=libsm6
  libXxf86vm.so.1=libxxf86vm1 libXfixes.so.3=libxfixes3 libXrender.so.1=libxrender1 libgomp.so.1=libgomp1"
missing=""
known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
for entry in $libraries; do
  grep -q "${entry%=*}" <<<"$known" || missing+=" ${entry#*=}"
done
# A driver behind EGL: Mesa's software rasteriser, or a GPU vendor's.
compgen -G "/usr/share/glvnd/egl_vendor.d/*.json" >/dev/null || missing+=" libegl-mesa0 libgl1-mesa-dri"
command -v git >/dev/null || missing+=" git"
# One of the packages, meshoptimizer, has no wheels and is compiled.
command -v g++ >/dev/null || missing+=" g++"
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' \
  || missing+=" python3.11-dev"
"$python" -c 'import ensurepip' 2>/dev/null || missing+=" python3.11-venv"

if [ -n "$missing" ]; then
  echo "Missing system packages:$missing"
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  if command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing
  else
    echo "They cannot be installed from here; run: sudo apt-get install$missing" >&2
    exit 2
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

# The small LLaMA of the captions, once from its 4-bit file to what loads in a second.
"$venv/bin/python" -c 'from pipeline.captions.smollm2 import weights; from pipeline.shards.scratch import scratch; weights(scratch() / "models")'
