#!/usr/bin/env bash
# functions.sql is re-runnable and documented; see sql.pl.
set -euo pipefail
cd "$1"
exec perl "$(dirname "$(readlink -f "$0")")/sql.pl" sql/*/*.sql
