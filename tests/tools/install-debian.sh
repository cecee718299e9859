#!/bin/sh
# install-debian.sh WHY PACKAGE...: installs Debian packages, or says what is missing where it may not.
# The test that needs a missing part is skipped at home and fails in CI.
set -eu
why=$1
shift
if ! command -v apt-get >/dev/null; then
    echo "missing: $* ($why); install them, there is no apt-get here" >&2
    exit 0
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        echo "missing: $why; run: apt-get install $*" >&2
        exit 0
    fi
fi
echo "installing $* ($why)" >&2
$sudo apt-get update -qq
# Debian's prometheus and nginx start a server where there is an init system; only the programs are wanted.
$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
