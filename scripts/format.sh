#!/usr/bin/env bash
# make format: apply .clang-format to every C file.
. "$(dirname "$0")/lib.sh"
format=$(command -v clang-format-14 || command -v clang-format || die "clang-format is missing; run scripts/setup.sh lint")
find "$ROOT/src" "$ROOT/test" -path '*/fixtures' -prune -o -name '*.[ch]' -print0 | xargs -0 -r "$format" -i --style="file:$ROOT/.clang-format"
