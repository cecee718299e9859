#!/bin/sh
# lock.sh UV: rewrite the locks beside this file from pyproject.toml, for every Python from 3.11 on, on Linux, x86-64 and ARM.
# UV_ARGS: what uv is told beside, such as "--upgrade-package aiohttp"; "--upgrade" takes the newest of everything.
set -eu
cd "$(dirname "$0")/.."
compile() { # FILE SOURCE EXTRAS…
    file=requirements/$1 source=$2
    shift 2
    "$uv" pip compile "$source" --universal --python-version 3.11 --generate-hashes --quiet --no-config \
        --no-emit-index-url --custom-compile-command "make lock" --output-file "$file" "$@" ${UV_ARGS:-} >/dev/null
}
uv=$1
compile runtime.txt pyproject.toml --extra grpc
compile dev.txt pyproject.toml --all-extras
compile build.txt requirements/build.in
