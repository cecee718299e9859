#!/bin/sh
# Debian's package brings promtool; without the rights to install it the test that needs it is skipped outside CI.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "promtool is not installed and there is no apt-get: the page is not linted" >&2
    exit 0
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        echo "promtool is not installed (apt-get install prometheus): the page is not linted" >&2
        exit 0
    fi
fi
$sudo apt-get update -qq
# The package starts a Prometheus server where there is an init system; only its promtool is wanted.
echo "installing Debian's prometheus for promtool" >&2
$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus >/dev/null
