#!/bin/sh
# Installs the system packages the tests need, and says which: Chromium, for the tests that open pages.
set -eu
if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
echo "The tests open pages in a real browser: installing the Debian packages chromium and fonts-dejavu-core."
if [ "$(id -u)" -ne 0 ]; then
    SUDO=sudo
else
    SUDO=
fi
$SUDO apt-get update -qq
DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
