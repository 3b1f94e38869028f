"""Where a request comes from, as far as that can be known.

What a client says of itself (X-Forwarded-For) is believed only where the peer is a proxy of ours, FLEET_TRUSTED_PROXIES, and
only what our proxies have added: it is read from the right, up to the first address that is no proxy of ours. uvicorn's own
reading of that header is off (fleet/services/process_table.py): it would believe whoever connects from this host.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NOWHERE = IPv4Address(0)  # the peer of a Unix socket, or none: no packet comes from there (RFC 6890)
UNIX = "unix"  # such peers, in the list of proxies
V6_BITS = 64  # of an IPv6 address tell one client from another; the rest it chooses itself (RFC 6177)


def client(request: HttpRequest) -> str:
    """The client's address, IPv4 or IPv6 in its shortest form; 0.0.0.0 where it cannot be known."""
    meta = request.META
    return resolve(peer=meta.get("REMOTE_ADDR") or "", forwarded=meta.get("HTTP_X_FORWARDED_FOR", ""))


def resolve(*, peer: str, forwarded: str) -> str:
    """The same from a peer's address and the X-Forwarded-For header, all its lines joined with commas."""
    found = read(peer) or NOWHERE
    for hop in reversed(forwarded.split(",")):
        if not _is_proxy(found) or (before := read(hop)) is None:
            break  # whoever added this, we do not know; or it is nonsense, and so is what stands before it
        found = before
    return str(found)


def is_proxy(peer: str) -> bool:
    """Whether this peer is a proxy of ours."""
    return _is_proxy(read(peer) or NOWHERE)


def bucket(address: str) -> str:
    """By what the requests from this address are counted together."""
    found = read(address) or NOWHERE
    return str(found if found.version == 4 else ip_network((found, V6_BITS), strict=False))


def read(text: str) -> Address | None:
    """An address as it stands in X-Forwarded-For: with a port perhaps, IPv6 then in brackets. None where it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found


def parse_networks(text: str) -> list[Network]:
    """`10.0.0.0/8, ::1, unix`. ValueError with a sentence where one is no network."""
    return [
        ip_network(NOWHERE) if word.lower() == UNIX else ip_network(word) for word in text.replace(",", " ").split()
    ]


def lockout_key(request: HttpRequest) -> str:
    """What failed sign-ins are counted by: an IPv4 address, or the first one of an IPv6 network, as a client can choose
    among all of these."""
    return bucket(client(request)).partition("/")[0]


def _is_proxy(address: Address) -> bool:
    return any(address in network for network in settings.FLEET_TRUSTED_PROXIES)
