#!/usr/bin/env bash
# Many rounds of the tenants' isolation test: random arguments for every function
# of the catalog, another seed each time until FUZZ_SECONDS are over.

. "$(dirname "$0")/../../scripts/lib.sh"

end=$((SECONDS + ${FUZZ_SECONDS:-30}))
seed=${SEED:-1}
while :; do
	echo "privacy_isolation: seed $seed"
	EDUAI_SEED=$seed EDUAI_ISOLATION_ROUNDS=20 SUITES=tap TESTS=privacy_isolation "$ROOT/scripts/test.sh"
	seed=$((seed + 1))
	((SECONDS < end)) || break
done
