#!/bin/sh
# Checks what the system must have: Java 17+, a C++ compiler, cmake, make, Python headers, uv.
# What is missing is installed where that is possible without asking (root on Debian or Ubuntu), otherwise named.
set -eu
packages=""

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
major=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1 || true)
[ "${major:-0}" -ge 17 ] || packages="$packages openjdk-17-jre-headless"
command -v "${AKT_CXX:-g++}" >/dev/null || packages="$packages g++"
command -v cmake >/dev/null || packages="$packages cmake"
if ! command -v uv >/dev/null && [ ! -x .tools/bin/uv ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
fi
# Horovod is compiled against Python: an interpreter of the system needs its headers.
if command -v python3.11 >/dev/null; then
    header=$(python3.11 -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
    [ -f "$header" ] || packages="$packages python3.11-dev"
fi

if [ -n "$packages" ]; then
    install="apt-get update && apt-get install -y --no-install-recommends$packages"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing$packages"
        sh -c "$install" >/dev/null
    else
        echo "setup: missing$packages. On Debian or Ubuntu: sudo sh -c '$install'" >&2
        exit 1
    fi
fi

if ! command -v uv >/dev/null && [ ! -x .tools/bin/uv ]; then
    echo "setup: installing uv into .tools"
    python3 -m venv .tools
    .tools/bin/pip install --quiet "uv>=0.9"
fi
