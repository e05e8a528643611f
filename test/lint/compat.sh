#!/usr/bin/env bash
# The server's version is tested in src/core/compat.h and nowhere else.
set -euo pipefail
cd "$1"
! grep -rnE --include='*.[ch]' '\b(PG_VERSION_NUM|PG_MAJORVERSION(_NUM)?)\b' src | grep -v '^src/core/compat\.h:'
