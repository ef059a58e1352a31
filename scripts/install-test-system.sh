#!/bin/sh
# Installs the Debian packages the tests need, if they are missing, and says which: Chromium, for the tests that open pages, and PostgreSQL, MariaDB
# and Redis, for the tests of what a team uses, Prometheus, which checks alert rules and reads metrics, and its Alertmanager, which gets alarms.
# Those start servers of their own, on free ports, with their data in temporary folders; the server that Debian may set up with the package is not
# touched. Azurite, an Azure Blob store written in JavaScript, goes into the virtual environment.
set -eu
WANTED=""
if ! command -v chromium >/dev/null 2>&1; then
    WANTED="$WANTED chromium fonts-dejavu-core"
fi
if ! command -v initdb >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    WANTED="$WANTED postgresql"
fi
if ! command -v mariadb-install-db >/dev/null 2>&1; then
    WANTED="$WANTED mariadb-server"
fi
if ! command -v redis-server >/dev/null 2>&1; then
    WANTED="$WANTED redis-server"
fi
if ! command -v promtool >/dev/null 2>&1; then
    WANTED="$WANTED prometheus"
fi
if ! command -v npm >/dev/null 2>&1; then
    WANTED="$WANTED nodejs npm"
fi
if ! command -v prometheus-alertmanager >/dev/null 2>&1; then
    WANTED="$WANTED prometheus-alertmanager"
fi
install_azurite() {
    if [ -d .venv ] && [ ! -d .venv/azurite/node_modules/azurite ]; then
        echo "The tests use an Azure Blob store: installing the npm package azurite into .venv/azurite."
        npm install --silent --no-fund --no-audit --prefix .venv/azurite azurite@3.37.0 >/dev/null
    fi
}
if [ -z "$WANTED" ]; then
    install_azurite
    exit 0
fi
echo "The tests use a real browser and real databases: installing the Debian packages$WANTED."
if [ "$(id -u)" -ne 0 ]; then
    SUDO=sudo
else
    SUDO=
fi
$SUDO apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends $WANTED >/dev/null
install_azurite
