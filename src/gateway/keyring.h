/*
 * keyring.h: the newest key of each provider, as this process knows it.
 *
 * A provider's key changes while calls are on their way: add_provider() again,
 * a file with another content.  Calls keep the key they left with; new calls
 * take the fleet's; and a call that is refused because its key was withdrawn
 * meanwhile may be sent once more with the new one, instead of failing.
 *
 * Filled by each load of the fleet.  Nothing here needs a transaction.
 */
#ifndef EDUAI_GATEWAY_KEYRING_H
#define EDUAI_GATEWAY_KEYRING_H

#include "gateway/call.h"
#include "gateway/fleet.h"

/* Makes health() tell of keys that cannot be had. */
extern void eduai_gateway_keyring_init(void);

/* A fleet was loaded: its keys are the newest now.  Logs what could not be resolved. */
extern void eduai_gateway_keyring_note(const Fleet *fleet);

/*
 * Should the fleet be loaded again for its keys: a key file changed, or a key
 * could not be had?  Looks every five seconds.
 */
extern bool eduai_gateway_keyring_stale(void);

/*
 * The call was refused for its key.  Where its provider has another by now,
 * call->instance becomes a copy that has it, in the call's context, and true
 * is returned.  A file is read again for that, at most once a second for each
 * provider; a different key found there makes the fleet stale.  A provider
 * that now is of another kind or elsewhere has no key for this call.
 */
extern bool eduai_gateway_keyring_renew(GatewayCall *call);

#endif
