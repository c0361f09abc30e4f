#!/usr/bin/env bash
# Makes a fresh Debian 12+ or Ubuntu 22.04+ ready for `make demo` and `make test`: the locked Python packages in
# .venv, and what local servers need where neither RABBITMQ_URL and MONGODB_URL nor a Docker engine have them. Does
# nothing, quickly, when nothing is to be done. `bootstrap.sh tests` also sees to the mailbox server tests need.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly what=${1:-}
readonly venv=.venv
readonly stamp=$venv/.ready
readonly uv=$venv/uv/bin/uv # beside the packages, where its own sync does not remove it
readonly broker=/usr/lib/rabbitmq/bin/rabbitmq-server

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

may_install() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_install() { # what to say when it can't be done, packages...
    local otherwise=$1
    shift
    command -v apt-get >/dev/null || die "$otherwise"
    may_install || die "$otherwise"
    say "installing with apt: $*"
    local log
    log=$(mktemp)
    if ! { as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "$otherwise"
    fi
    rm -f "$log"
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or later is needed; install it (on Ubuntu 22.04: apt-get install python3.11 python3.11-venv) or say PYTHON=/path/to/it"
}

make_venv() {
    local python version
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "Python's venv module is missing: apt-get install python$version-venv" "python$version-venv"
    fi
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

wanted() { cat uv.lock deploy/uv-requirements.txt | sha256sum | cut -d' ' -f1; }

install_packages() {
    if [ "$what" != lock ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ] && [ -x "$venv/bin/python" ]; then
        return
    fi
    # A half-made one, or one whose Python was removed, is made anew.
    if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        make_venv
    fi
    if ! "$uv" --version 2>/dev/null | grep -q "^uv $(sed -n 's/^uv==\([0-9.]*\).*/\1/p' deploy/uv-requirements.txt)\b"; then
        "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
        say "installing uv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade \
            --only-binary=:all: --target "$venv/uv" -r deploy/uv-requirements.txt
    fi
    [ "$what" != lock ] || "$uv" lock --python "$venv/bin/python"
    say "installing the locked packages"
    UV_PROJECT_ENVIRONMENT=$venv "$uv" sync --locked --quiet --python "$venv/bin/python"
    wanted >"$stamp"
}

install_servers() { # packages that are wanted beside them...
    local packages=() mongod
    [ -n "${RABBITMQ_URL:-}" ] || [ -x "$broker" ] || packages+=(rabbitmq-server)
    for mongod in "$venv"/lib/python3*/site-packages/fiftyone/db/bin/mongod; do
        # The wheel's one library that a bare system lacks; python and apt bring the others.
        [ -n "${MONGODB_URL:-}" ] || [ ! -e "$mongod" ] || "$mongod" --version >/dev/null 2>&1 || packages+=(libcurl4)
    done
    # Both images, or neither way: a Docker engine that can't fetch images is of no use.
    if [ "${#packages[@]}" -gt 0 ] && "$venv/bin/python" -m deploy.local.docker >&2; then
        packages=()
    fi
    packages+=("$@")
    [ "${#packages[@]}" -gt 0 ] || return 0
    # The broker's package would start it on the standard ports, now and at every boot; we only want the programs and
    # run our own. Debian asks this file before a package starts a service.
    local guard=/usr/sbin/policy-rc.d
    if may_install && [ ! -e "$guard" ]; then
        # shellcheck disable=SC2064 # the name is known now, and gone when the trap runs
        trap "as_root rm -f $guard" EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$guard" >/dev/null
        as_root chmod 755 "$guard"
    fi
    apt_install "missing: apt-get install ${packages[*]} (or start Docker, or set RABBITMQ_URL and MONGODB_URL)" \
        "${packages[@]}"
    case " ${packages[*]} " in *" rabbitmq-server "*)
        ! command -v systemctl >/dev/null || as_root systemctl disable --quiet rabbitmq-server >/dev/null 2>&1 || true
        say "the packaged rabbitmq-server service is left stopped and off (systemctl enable --now rabbitmq-server)"
        ;;
    esac
    case " ${packages[*]} " in *" dovecot-imapd "*)
        ! command -v systemctl >/dev/null || as_root systemctl disable --quiet dovecot >/dev/null 2>&1 || true
        ;;
    esac
}

install_packages
if [ "$what" = tests ] && ! PATH=$PATH:/usr/sbin command -v dovecot >/dev/null; then
    install_servers dovecot-imapd
else
    install_servers
fi
