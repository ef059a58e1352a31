#!/bin/sh
# Installs the Debian packages the tests need, if they are missing, and says which: Chromium, for the tests that open pages, and PostgreSQL, for
# the tests of the ledger for teams. Those start servers of their own, on free ports, with their data in temporary folders; the server that Debian
# may set up with the package is not touched.
set -eu
WANTED=""
if ! command -v chromium >/dev/null 2>&1; then
    WANTED="$WANTED chromium fonts-dejavu-core"
fi
if ! command -v initdb >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    WANTED="$WANTED postgresql"
fi
if [ -z "$WANTED" ]; then
    exit 0
fi
echo "The tests use a real browser and a real database: installing the Debian packages$WANTED."
if [ "$(id -u)" -ne 0 ]; then
    SUDO=sudo
else
    SUDO=
fi
$SUDO apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends $WANTED >/dev/null
