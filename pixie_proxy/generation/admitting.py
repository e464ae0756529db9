"""Join, admit, record: what becomes of a call, in one transaction that locks its user's account."""

from __future__ import annotations

from pixie_proxy.admission import gate
from pixie_proxy.admission.gate import Admitted
from pixie_proxy.errors import ProxyError
from pixie_proxy.index import Tx
from pixie_proxy.records import CallRecord, Limits
from pixie_proxy.relay import join
from pixie_proxy.relay.join import Attempt, Joined


def enter(
    tx: Tx, call: CallRecord, attempt: Attempt, limits: Limits, barred: ProxyError | None
) -> Admitted | tuple[Joined, Admitted] | ProxyError:
    """Find the call that this one repeats, or admit it as a new one; or give the refusal.

    `barred` is why new calls can't be taken now. A join takes nothing, so nothing stands in its way.
    """
    account = gate.open_account(tx, call.user_id, call.created_us)
    earlier = join.look(tx, call, attempt)
    if isinstance(earlier, ProxyError):
        return earlier
    if isinstance(earlier, Joined):
        return earlier, gate.standing(account, limits, call.created_us)
    admitted = barred or gate.admit(tx, account, call, limits, now_us=call.created_us)
    if isinstance(admitted, Admitted):
        join.attach(tx, call, attempt)
    elif is_refusal(admitted):
        join.remember_refusal(tx, call, attempt, earlier)
    return admitted


def is_refusal(error: ProxyError) -> bool:
    """Whether a client is to come back with the same call later."""
    return error.status in {429, 503} and error.headers.get("x-should-retry") != "false"
